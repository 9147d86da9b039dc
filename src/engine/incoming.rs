//! Pins of another host in a guest that comes in by migration or restore. Those that are not valid
//! here would make the start fail, so they do not count as an administrator's.

use std::collections::BTreeSet;

use crate::domain::{Domain, NumaMemory};
use crate::host::Host;
use crate::policy::cpu_sets;
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::reason::Basis;
use crate::types::setting::{Setting, Target, Value};

/// Returns the domain without pins and bindings that this host cannot honour.
pub(crate) fn without_foreign(mut domain: Domain, host: &Host) -> Domain {
    let usable = cpu_sets::usable(host);
    let here = |cpus: &CpuSet| cpus.is_subset(&usable);
    if !domain.vcpupins.values().all(here) {
        domain.vcpupins.clear();
    }
    domain.vcpu_cpuset = domain.vcpu_cpuset.filter(here);
    domain.emulatorpin = domain.emulatorpin.filter(here);
    domain.iothreadpins.retain(|_, cpus| here(cpus));
    let mut known: NodeSet = host.nodes.iter().map(|node| node.id).collect();
    if let Some(allowed) = &host.guest_nodes {
        known = known.intersection(allowed);
    }
    let there = |memory: &NumaMemory| {
        memory
            .nodeset
            .as_ref()
            .is_none_or(|nodes| nodes.is_subset(&known))
    };
    if !domain.numatune.iter().chain(domain.memnodes.values()).all(there) {
        domain.numatune = None;
        domain.memnodes.clear();
    }
    domain
}

/// Returns a removal for each value of `came` that is not in `valid` and that no setting replaces.
pub(crate) fn removals(came: &Domain, valid: &Domain, settings: &[Setting]) -> Vec<Setting> {
    let mut gone: Vec<Target> = Vec::new();
    gone.extend(
        came.vcpupins
            .keys()
            .filter(|v| !valid.vcpupins.contains_key(v))
            .map(|v| Target::VcpuPin(*v)),
    );
    if came.vcpu_cpuset != valid.vcpu_cpuset {
        gone.push(Target::VcpuCpuset);
    }
    if came.emulatorpin != valid.emulatorpin {
        gone.push(Target::EmulatorPin);
    }
    let iothreads = came
        .iothreadpins
        .keys()
        .filter(|id| !valid.iothreadpins.contains_key(id));
    gone.extend(iothreads.map(|id| Target::IothreadPin(*id)));
    if came.numatune != valid.numatune {
        gone.push(Target::NumaMemory);
    }
    gone.extend(
        came.memnodes
            .keys()
            .filter(|id| !valid.memnodes.contains_key(id))
            .map(|id| Target::MemNode(*id)),
    );
    let written: BTreeSet<&Target> = settings.iter().map(|setting| &setting.target).collect();
    gone.retain(|target| !written.contains(target));
    gone.into_iter()
        .map(|target| Setting {
            target,
            value: Value::Absent,
            why: Basis::OfAnotherHost,
        })
        .collect()
}
