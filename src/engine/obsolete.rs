//! An administrator's values that stay though this host cannot honour them: libvirt finds that out
//! only when the guest starts, and refuses.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::{Domain, Topology};
use crate::engine::{cache_tunes, effective};
use crate::host::Host;
use crate::types::ids::{CellId, IothreadId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::reason::{Given, GivenValue};
use crate::types::setting::{Setting, Target, Value};

/// Returns a reason for each pin and binding that names CPUs or nodes guests cannot have here and
/// that no setting replaces.
pub(crate) fn reasons(domain: &Domain, host: &Host, settings: &[Setting]) -> Vec<Given> {
    let written: BTreeSet<&Target> = settings.iter().map(|setting| &setting.target).collect();
    let stays = |target: &Target| !written.contains(target);
    // All pins are listed first; those that a setting replaces are dropped below.
    let mut pins: Vec<(Target, GivenValue, &CpuSet)> = Vec::new();
    for (vcpu, cpus) in &domain.vcpupins {
        pins.push((Target::VcpuPin(*vcpu), GivenValue::VcpuPin(*vcpu), cpus));
    }
    if let Some(cpus) = domain
        .vcpu_cpuset
        .as_ref()
        .filter(|_| uses_cpuset(domain, settings))
    {
        pins.push((Target::VcpuCpuset, GivenValue::VcpuCpuset, cpus));
    }
    if let Some(cpus) = &domain.emulatorpin {
        pins.push((Target::EmulatorPin, GivenValue::EmulatorPin, cpus));
    }
    for (id, cpus) in &domain.iothreadpins {
        pins.push((Target::IothreadPin(*id), GivenValue::IothreadPin(*id), cpus));
    }
    // An offline CPU fails the start; so does a mask that guests' cpuset excludes as a whole.
    let pins = pins.iter().filter(|(target, ..)| stays(target));
    let mut reasons: Vec<Given> = pins
        .filter_map(|(_, value, cpus)| {
            let value = *value;
            let offline = cpus.difference(&host.online);
            // Of a mask that is partly outside, the kernel uses the rest.
            let allowed = host.guest_cpus.as_ref();
            let outside = match allowed.filter(|allowed| cpus.is_disjoint(allowed)) {
                Some(_) => (*cpus).clone(),
                None => CpuSet::new(),
            };
            match (offline.is_empty(), outside.is_empty()) {
                (false, _) => Some(Given::CpusOffline { value, cpus: offline }),
                (true, false) => Some(Given::CpusNotAllowed { value, cpus: outside }),
                (true, true) => None,
            }
        })
        .collect();
    // A binding to a node that is not there fails the start too.
    let mut bindings = Vec::new();
    if let Some(memory) = &domain.numatune {
        bindings.push((Target::NumaMemory, GivenValue::Numatune, memory));
    }
    for (cell, memory) in &domain.memnodes {
        bindings.push((Target::MemNode(*cell), GivenValue::MemNode(*cell), memory));
    }
    let known: NodeSet = host.nodes.iter().map(|node| node.id).collect();
    for (_, value, memory) in bindings.iter().filter(|(target, ..)| stays(target)) {
        let named = memory.nodeset.clone().unwrap_or_default();
        let missing = named.difference(&known);
        if !missing.is_empty() {
            reasons.push(Given::NodesMissing {
                value: *value,
                nodes: missing,
            });
        }
    }
    if !domain.resource_ids.is_empty() && settings.iter().any(is_vcpu_pin) {
        match cache_tunes::elsewhere(domain, host, &later_pins(domain, settings)) {
            Some(elsewhere) => reasons.extend(elsewhere),
            None => reasons.push(Given::ResourceIds {
                ids: domain.resource_ids.clone(),
            }),
        }
    }
    let x86 = effective::is_x86(domain, host);
    let given = settings.iter().find(|setting| setting.target == Target::Topology);
    reasons.extend(match given.map(|setting| &setting.value) {
        None => topology(domain, x86),
        Some(Value::Topology(shown)) => cache_over_cells(domain, *shown, x86),
        Some(_) => None,
    });
    reasons
}

fn is_vcpu_pin(setting: &Setting) -> bool {
    matches!(setting.target, Target::VcpuPin(_))
}

/// Returns the pins that vCPUs then have.
fn later_pins(domain: &Domain, settings: &[Setting]) -> BTreeMap<VcpuId, CpuSet> {
    let mut pins = domain.vcpupins.clone();
    for setting in settings {
        if let (Target::VcpuPin(vcpu), Value::Cpus(cpus)) = (&setting.target, &setting.value) {
            pins.insert(*vcpu, cpus.clone());
        }
    }
    pins
}

/// Returns what is wrong with a topology that stays: libvirt and QEMU take none for another number
/// of vCPUs, and a guest sees no sockets that are in several of its cells, nor a cache: an x86 one
/// sees one a die.
fn topology(domain: &Domain, x86: bool) -> Option<Given> {
    let shown = domain.shown_topology()?;
    if shown.vcpus() != Some(domain.vcpus) {
        return Some(Given::TopologyNotVcpus {
            shown,
            vcpus: domain.vcpus,
            smp: domain.qemu.topology.is_some(),
        });
    }
    let socket = domain.vcpus / shown.sockets.max(1);
    if shown.sockets > 1 && reaches_over_cells(domain, socket) {
        return Some(Given::SocketsOverCells { shown });
    }
    cache_over_cells(domain, shown, x86)
}

/// Returns what is wrong with a topology whose dies, each of which is a cache to an x86 guest, are
/// in several cells.
fn cache_over_cells(domain: &Domain, shown: Topology, x86: bool) -> Option<Given> {
    let dies = shown.sockets.saturating_mul(shown.dies).max(1);
    let reaches = x86 && reaches_over_cells(domain, domain.vcpus / dies);
    reaches.then_some(Given::CacheOverCells { shown })
}

/// Returns whether one of the runs of so many vCPUs is in several cells.
fn reaches_over_cells(domain: &Domain, run: u32) -> bool {
    let mut of_cell = vec![None; domain.vcpus as usize];
    for cell in &domain.cells {
        for vcpu in cell.vcpus.iter() {
            if let Some(slot) = of_cell.get_mut(vcpu.0 as usize) {
                *slot = Some(cell.id);
            }
        }
    }
    let apart = |vcpus: &[Option<CellId>]| vcpus.iter().any(|cell| *cell != vcpus[0]);
    of_cell.chunks(run.max(1) as usize).any(apart)
}

/// Returns whether a thread has no pin of its own: only such threads run in the `cpuset=` of
/// `<vcpu>`.
fn uses_cpuset(domain: &Domain, settings: &[Setting]) -> bool {
    let written: BTreeMap<&Target, bool> = settings
        .iter()
        .map(|setting| (&setting.target, setting.value != Value::Absent))
        .collect();
    let pinned = |target: Target, before: bool| written.get(&target).copied().unwrap_or(before);
    let count = settings
        .iter()
        .find_map(|setting| match (&setting.target, &setting.value) {
            (Target::Iothreads, Value::Number(count)) => Some(*count as usize),
            _ => None,
        });
    let vcpus = domain
        .all_vcpus()
        .iter()
        .all(|vcpu| pinned(Target::VcpuPin(vcpu), domain.vcpupins.contains_key(&vcpu)));
    let iothreads: BTreeSet<IothreadId> = settings
        .iter()
        .filter(|setting| setting.value != Value::Absent)
        .filter_map(|setting| match setting.target {
            Target::IothreadPin(id) => Some(id),
            _ => None,
        })
        .chain(domain.iothreadpins.keys().copied())
        .collect();
    let iothreads = iothreads.len() >= count.unwrap_or(domain.iothread_ids.len());
    !(vcpus && iothreads && pinned(Target::EmulatorPin, domain.emulatorpin.is_some()))
}
