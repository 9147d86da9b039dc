//! Settings the guest can see: cells, topology, CPU, features, balloon. They are decided once, at
//! the first tuning.

use crate::domain::qemu::Ruled;
use crate::domain::{Cpu, Domain, Topology};
use crate::engine::case::Case;
use crate::engine::demand;
use crate::engine::fit::Fit;
use crate::engine::settings::{List, hyperv};
use crate::engine::topology::{self, Derived};
use std::collections::{BTreeMap, BTreeSet};

use crate::placement::CellPlace;
use crate::policy::profile::{CacheRule, CpuMode, Cpus, FeaturePolicy, Switch, TopologyRule};
use crate::types::ids::{Id, NodeId};
use crate::types::idset::CpuSet;
use crate::types::plan::Scope;
use crate::types::reason::{Basis, LeftOut};
use crate::types::setting::{Distances, LOCAL_DISTANCE, MAX_DISTANCE, REMOTE_DISTANCE, Target, Value};
use crate::types::subject::Subject;
use crate::types::target::Family;

/// Largest APIC id without extended interrupt mode; 255 stands for all.
const MAX_XAPIC_ID: u32 = 254;

/// Decides the shape and the other visible settings afresh.
pub(crate) fn shape(fit: &Fit<'_>, list: &mut List) {
    let Case { wishes, domain, .. } = *fit.case;
    let fits = fit.fits;
    list.shown = shown(domain, fit);
    if !wishes.visible || !fits {
        return;
    }
    cells(fit, list);
    topology(fit, list);
    expanders(fit, list);
    cpu_mode(fit, list);
    if !(wishes.tcg) {
        features(fit, list);
    }
    if wishes.profile.no_memballoon && domain.memballoon.as_deref() != Some("none") {
        list.set(Target::Memballoon, Value::Text("none".into()), Basis::ByProfile);
    }
}

/// Returns the topology that a guest sees by its XML; `None`: it cannot be known, or all its vCPUs
/// float.
fn shown(domain: &Domain, fit: &Fit<'_>) -> Option<Topology> {
    match domain.qemu.rules(&Ruled::Topology) {
        Some(_) => domain.shown_topology(),
        None => domain.shown_topology().or(default_topology(fit)),
    }
}

/// Returns the topology libvirt shows without a `<topology>`: each vCPU a socket.
fn default_topology(fit: &Fit<'_>) -> Option<Topology> {
    let floating = fit.case.wishes.dedicated.is_empty() || !fit.fits;
    (!floating).then(|| Topology::of_sockets(fit.case.domain.vcpus))
}

/// Leaves visible settings as virtfit wrote them before. In scope `incoming` that includes memory
/// backing: only what migration allows may change.
pub(crate) fn as_before(fit: &Fit<'_>, list: &mut List) {
    list.shown = shown(fit.case.current, fit);
    let Some(provenance) = fit.case.provenance else {
        return;
    };
    list.shape = provenance.head.shape.clone();
    // Settings decided above come before those of the record.
    let decided: BTreeSet<Target> = list
        .settings
        .iter()
        .map(|setting| setting.target.clone())
        .collect();
    let domain = fit.case.domain;
    let disks: BTreeSet<&str> = domain.disks.iter().map(|disk| disk.target.as_str()).collect();
    let interfaces = domain.interfaces.iter();
    let interfaces: BTreeSet<&str> = interfaces.filter_map(|one| one.mac.as_deref()).collect();
    let expanders: BTreeSet<u32> = domain.expanders.iter().map(|bus| bus.index).collect();
    for owned in &provenance.owned {
        let row = owned.target.row();
        let backing = row.family == Family::MemoryBacking;
        let stale_hint = owned.target == Target::HintDedicated && !fit.fits && fit.case.scope == Scope::Boot;
        // A setting changed by hand is the administrator's, except where the profile decides or
        // overrides.
        let theirs = fit.case.changed.contains(&owned.target);
        let ruled = owned.target == Target::CpuMode && fit.case.wishes.profile.cpu_mode != CpuMode::Keep;
        if theirs && (fit.case.scope == Scope::Incoming || (fit.case.wishes.keep && !ruled)) {
            if row.is_of_shape && fit.case.scope == Scope::Boot {
                list.keep(Subject::Value(owned.target.clone()));
            }
            continue;
        }
        if fit.case.wishes.cpu_fails && row.family.is_cpu() {
            continue;
        }
        // A device that was taken out by hand took its settings along.
        let there = match &owned.target {
            Target::Disk(disk, _) => disks.contains(disk.as_str()),
            Target::NetQueues(mac) => interfaces.contains(mac.as_str()),
            Target::ExpanderNode(index) => expanders.contains(index),
            _ => true,
        };
        if !there {
            continue;
        }
        let stays = (row.is_of_shape && !stale_hint) || (backing && fit.case.scope == Scope::Incoming);
        if stays && !decided.contains(&owned.target) {
            list.settings.push(crate::types::setting::Setting {
                target: owned.target.clone(),
                value: owned.wrote.clone(),
                why: Basis::ItsShape,
            });
        }
    }
}

/// Returns the distances of the cells that virtfit makes: the host's, from the node of the vCPUs to
/// the node of the memory. Cells that are as far from each other as libvirt has them need none.
fn distances(fit: &Fit<'_>) -> Distances {
    let host = fit.case.host;
    let placed = fit.placed;
    let between = |from: &CellPlace, to: &CellPlace| match (from.id == to.id, from.node, to.memory_node) {
        (true, ..) => LOCAL_DISTANCE,
        (false, Some(node), Some(memory)) => host
            .distance(node, memory)
            .clamp(LOCAL_DISTANCE + 1, MAX_DISTANCE),
        (false, ..) => REMOTE_DISTANCE,
    };
    let cells = &placed.cells;
    let of = |from| cells.iter().map(|to| between(from, to)).collect();
    let distances: Distances = cells.iter().map(of).collect();
    let told = distances.iter().flatten();
    match told
        .into_iter()
        .all(|far| matches!(*far, LOCAL_DISTANCE | REMOTE_DISTANCE))
    {
        true => Distances::new(),
        false => distances,
    }
}

fn cells(fit: &Fit<'_>, list: &mut List) {
    let domain = fit.case.domain;
    let Fit { placed, demanded, .. } = *fit;
    if demanded.demand.make_cells && placed.cells.len() > 1 && !domain.has_cells() {
        let cells: Vec<_> = placed
            .cells
            .iter()
            .map(|cell| (cell.vcpus.clone(), cell.memory))
            .collect();
        list.shape.cells = cells.clone();
        let nodes = placed.nodes.clone();
        list.set(
            Target::Cells,
            Value::Cells(cells, distances(fit)),
            Basis::CellANode { nodes },
        );
    }
}

fn topology(fit: &Fit<'_>, list: &mut List) {
    let Case {
        wishes, domain, host, ..
    } = *fit.case;
    let Fit { placed, demanded, .. } = *fit;
    let written = domain.cpu.as_ref().and_then(|cpu| cpu.topology);
    // Only a placement with CPUs of vCPUs' own has something to mirror, and an administrator's
    // topology stays.
    let rule = wishes.profile.topology;
    let one_each = !wishes.dedicated.is_empty() && placed.vcpus.values().any(|pin| pin.len() == 1);
    if rule == TopologyRule::Keep || !one_each || wishes.profile.cpus == Cpus::Keep {
        return;
    }
    if wishes.keep && written.is_some_and(|written| demand::is_wish(domain, written)) {
        return list.keep(Subject::Value(Target::Topology));
    }
    if !placed.own_cores && !demanded.kept_pins.is_empty() {
        return list.not_done(Subject::Value(Target::Topology), LeftOut::PinsSplitCores);
    }
    let (topology, why) = match rule {
        TopologyRule::Cores => (topology::flat(domain.vcpus), Basis::ByProfile),
        _ => {
            let limits = topology::Limits {
                mirror: demanded.demand.mirror,
                cells: &demanded.demand.shown_cells,
                max_sockets: demanded.demand.max_sockets,
                max_apic_id: (wishes.x86 && !domain.eim).then_some(MAX_XAPIC_ID),
            };
            let derived = topology::derive(host, placed, &limits);
            (derived.topology, shown_as(fit, derived))
        }
    };
    list.shown = Some(topology);
    list.shape.topology = Some(topology);
    // A guest of one vCPU has this topology without a `<topology>` too; what virtfit wrote before
    // stays.
    let unchanged =
        written.is_none() && topology.sockets == domain.vcpus && (topology.cores, topology.threads) == (1, 1);
    let ours = fit.case.provenance.is_some_and(|provenance| {
        let mut owned = provenance.owned.iter();
        owned.any(|owned| owned.target == Target::Topology)
    });
    if written.map(plain) != Some(topology) && (ours || !unchanged) {
        list.set(Target::Topology, Value::Topology(topology), why);
    }
    // QEMU shows threads to an AMD guest only with the feature topoext.
    let amd = matches!(host.cpu_vendor.as_str(), "AuthenticAMD" | "HygonGenuine");
    let feature = domain
        .cpu
        .as_ref()
        .is_some_and(|cpu| cpu.features.contains_key("topoext"));
    if amd && wishes.x86 && !wishes.tcg && topology.threads > 1 && !feature && has_cpu_mode(fit) {
        list.set(
            Target::CpuFeature("topoext".into()),
            Value::Text("require".into()),
            Basis::AmdThreads,
        );
    }
}

/// Shows each expander bus in the cell that is on the node of the devices below it, where it is in
/// none yet and all of them are on one node.
fn expanders(fit: &Fit<'_>, list: &mut List) {
    let Case { domain, facts, .. } = *fit.case;
    let (cells, devices) = (&fit.placed.cells, &facts.devices);
    // Devices are counted as in the XML only where each has its node.
    if cells.len() < 2 || devices.len() != domain.passthrough.len() {
        return;
    }
    for expander in domain.expanders.iter().filter(|expander| expander.cell.is_none()) {
        let node = |position: &usize| devices.get(*position).and_then(|(_, node)| *node);
        let nodes: BTreeSet<Option<NodeId>> = expander.devices.iter().map(node).collect();
        let (Some(Some(node)), 1) = (nodes.first().copied(), nodes.len()) else {
            continue;
        };
        let here = |cell: &&CellPlace| cell.node == Some(node) && !cell.vcpus.is_empty();
        if let (Some(cell), 1) = (cells.iter().find(here), cells.iter().filter(here).count()) {
            let target = Target::ExpanderNode(expander.index);
            list.set(target, Value::Number(cell.id.get()), Basis::DevicesNode { node });
        }
    }
}

/// Returns a topology with one cluster: `clusters` is not written, so another number is no
/// difference.
fn plain(topology: Topology) -> Topology {
    Topology {
        clusters: 1,
        ..topology
    }
}

/// Returns the reason for a topology.
fn shown_as(fit: &Fit<'_>, derived: Derived) -> Basis {
    let Topology {
        sockets,
        cores,
        threads,
        ..
    } = derived.topology;
    let floats = || fit.placed.vcpus.values().any(|pin| pin.len() > 1);
    match derived.unmirrored {
        None if threads == 1 && floats() => Basis::NoSiblings,
        None => mirrors(fit),
        Some(why) if sockets == 1 => Basis::OneSocket { why },
        Some(why) if cores == 1 => Basis::CoreASocket { why },
        Some(why) => Basis::CacheASocket { why },
    }
}

fn mirrors(fit: &Fit<'_>) -> Basis {
    let host = fit.case.host;
    let placed = fit.placed;
    if !placed.own_cores {
        return Basis::ShownAsCores;
    }
    // Cores are numbered as in the picture: from 0 on each node.
    let mut by_node: BTreeMap<NodeId, Vec<u32>> = BTreeMap::new();
    let own = placed.vcpus.values().filter(|pin| pin.len() == 1);
    for cpu in own.filter_map(|pin| pin.first()) {
        if let Some(core) = host.core_of(cpu) {
            let on_node = host.cores.iter().filter(|other| other.node == core.node);
            let index = on_node.take_while(|other| other.cpus != core.cpus).count();
            by_node.entry(core.node).or_default().push(index as u32);
        }
    }
    Basis::Mirrors {
        on_nodes: host.nodes.len() > 1 && by_node.len() > 1,
        cores: by_node.into_iter().collect(),
    }
}

/// Returns whether the guest will have a CPU mode that features can be added to.
fn has_cpu_mode(fit: &Fit<'_>) -> bool {
    let cpu = fit.case.domain.cpu.as_ref();
    fit.case.wishes.profile.cpu_mode != CpuMode::Keep
        || cpu.is_some_and(|cpu| cpu.model.is_some() || !matches!(cpu.mode.as_str(), "" | "custom"))
}

fn cpu_mode(fit: &Fit<'_>, list: &mut List) {
    let Case { wishes, domain, .. } = *fit.case;
    let fits = fit.fits;
    let mode = match wishes.profile.cpu_mode {
        _ if wishes.tcg || !fits => return,
        CpuMode::Keep => return,
        CpuMode::HostPassthrough => "host-passthrough",
        CpuMode::HostModel => "host-model",
    };
    let cpu = domain.cpu.as_ref();
    if cpu.is_some_and(|cpu| cpu.mode == mode) {
        return;
    }
    if cpu.is_some_and(needs_whole) && mode != "host-passthrough" {
        return list.not_done(Subject::CpuMode(mode), LeftOut::CacheWantsHostCpu);
    }
    list.set(Target::CpuMode, Value::CpuMode(mode), Basis::ByProfile);
}

/// Returns whether the cache mode is one that libvirt takes only with the host's whole CPU
/// (`virCPUDefParseXML`).
fn needs_whole(cpu: &Cpu) -> bool {
    cpu.cache.as_ref().is_some_and(|(mode, _)| mode == "passthrough")
}

fn features(fit: &Fit<'_>, list: &mut List) {
    let Case {
        wishes, domain, host, ..
    } = *fit.case;
    let Fit { placed, fits, .. } = *fit;
    let profile = &wishes.profile;
    // A pin written by hand may be a mask, or a CPU outside the dedicated set.
    let own = |pin: &CpuSet| pin.len() == 1 && pin.is_subset(&fit.case.sets.dedicated);
    let all_dedicated =
        fits && wishes.dedicated.len() == domain.vcpus as usize && placed.vcpus.values().all(own);
    let isolated = placed
        .vcpus
        .values()
        .all(|pin| pin.len() == 1 && pin.is_subset(&host.isolated));
    // Hints, polling, tsc-deadline and caches exist for x86 guests only.
    let on_off = |on: bool| Value::Text(if on { "on" } else { "off" }.into());
    if wishes.x86 {
        let hint = match profile.hint_dedicated {
            // Windows does not read KVM's hints.
            Switch::Auto => (all_dedicated && isolated && !domain.is_windows()).then_some(true),
            Switch::On if !all_dedicated => {
                list.not_done(Subject::Value(Target::HintDedicated), LeftOut::NotAllDedicated);
                None
            }
            Switch::On => Some(true),
            Switch::Off => Some(false),
            Switch::Keep => None,
        };
        if let Some(on) = hint.filter(|on| domain.hint_dedicated != Some(*on)) {
            let why = if isolated {
                Basis::IsolatedCpus
            } else {
                Basis::ByProfile
            };
            list.set(Target::HintDedicated, on_off(on), why);
        }
        if let Some(on) = switch(profile.poll_control).filter(|on| domain.poll_control != Some(*on)) {
            list.set(Target::PollControl, on_off(on), Basis::ByProfile);
        }
        hyperv::enlightenments(fit, list);
        deadline(fit, list);
        cache(fit, list);
    }
    // A pmu exists for guests of other architectures too.
    if let Some(on) = switch(profile.pmu).filter(|on| domain.pmu != Some(*on)) {
        list.set(Target::Pmu, on_off(on), Basis::ByProfile);
    }
}

fn switch(rule: Switch) -> Option<bool> {
    match rule {
        Switch::On => Some(true),
        Switch::Off => Some(false),
        Switch::Auto | Switch::Keep => None,
    }
}

fn deadline(fit: &Fit<'_>, list: &mut List) {
    let policy = match fit.case.wishes.profile.tsc_deadline {
        FeaturePolicy::Keep => return,
        FeaturePolicy::Require => "require",
        FeaturePolicy::Disable => "disable",
    };
    let now = fit
        .case
        .domain
        .cpu
        .as_ref()
        .and_then(|cpu| cpu.features.get("tsc-deadline"));
    if now.is_some_and(|now| now == policy) {
        return;
    }
    if !has_cpu_mode(fit) {
        return list.not_done(Subject::TscDeadline, LeftOut::NoCpuForFeature);
    }
    list.set(
        Target::CpuFeature("tsc-deadline".into()),
        Value::Text(policy.into()),
        Basis::ByProfile,
    );
}

fn cache(fit: &Fit<'_>, list: &mut List) {
    let (mode, level) = match fit.case.wishes.profile.cache {
        CacheRule::Keep => return,
        CacheRule::Passthrough => ("passthrough", None),
        CacheRule::Emulate => ("emulate", Some(3)),
        CacheRule::Disable => ("disable", None),
    };
    let cpu = fit.case.domain.cpu.as_ref();
    let now = cpu.and_then(|cpu| cpu.cache.as_ref());
    if now.is_some_and(|(now, at)| now == mode && *at == level) {
        return;
    }
    let is_whole = || cpu.is_some_and(|cpu| matches!(cpu.mode.as_str(), "host-passthrough" | "maximum"));
    let whole = match fit.case.wishes.profile.cpu_mode {
        CpuMode::HostPassthrough => true,
        CpuMode::HostModel => false,
        CpuMode::Keep => is_whole(),
    };
    if mode == "passthrough" && !whole {
        return list.not_done(Subject::CachePassthrough, LeftOut::WantsPassthrough);
    }
    if !has_cpu_mode(fit) {
        return list.not_done(Subject::Value(Target::CpuCache), LeftOut::NoCpuModel);
    }
    list.set(Target::CpuCache, Value::Cache { mode, level }, Basis::ByProfile);
}
