//! Comparison with what virtfit wrote at an earlier time: values changed by an administrator or by
//! libvirt since, and shapes of a guest that had another number of vCPUs.

use std::collections::BTreeSet;

use crate::domain::Domain;
use crate::rewrite::{Provenance, Reverted, Shape};
use crate::types::idset::VcpuSet;
use crate::types::plan::Scope;
use crate::types::setting::{Target, Value};

/// Returns the settings that were changed by hand since virtfit wrote them. A setting that was
/// taken out by hand is asked for again, except in scope `incoming`, where nothing that is in force
/// may change.
pub(crate) fn changed_by_hand(reverted: &Reverted, scope: Scope) -> BTreeSet<Target> {
    let there = |target: &&Target| scope == Scope::Incoming || !reverted.gone.contains(target);
    let targets = reverted.left.iter().map(|(target, _)| target);
    targets.filter(there).cloned().collect()
}

/// Returns whether the shape is one of a guest with this many vCPUs; libvirt accepts no topology
/// for another number.
pub(crate) fn is_for(shape: &Shape, domain: &Domain) -> bool {
    let shown = shape
        .topology
        .is_none_or(|shown| shown.vcpus() == Some(domain.vcpus));
    let mut vcpus = VcpuSet::new();
    shape
        .cells
        .iter()
        .for_each(|(listed, _)| vcpus.extend_from(listed));
    shown && (vcpus.is_empty() || vcpus == domain.all_vcpus())
}

/// Returns whether libvirt resolved a `host-model` that virtfit wrote.
///
/// At a start libvirt puts the model and features it found in place of `host-model` (virCPUUpdate
/// in cpu/cpu.c), and that CPU is then in the XML of a running guest and of one that comes in. It
/// is part of the guest's ABI, with the order of its features, and the `host-model` virtfit wrote
/// is gone.
pub(crate) fn has_resolved_cpu(provenance: Option<&Provenance>, current: &Domain, scope: Scope) -> bool {
    let wrote = provenance.is_some_and(|provenance| {
        provenance
            .owned
            .iter()
            .any(|owned| owned.target == Target::CpuMode && owned.wrote == Value::CpuMode("host-model"))
    });
    let custom = current.cpu.as_ref().is_some_and(|cpu| cpu.mode == "custom");
    wrote && custom && (current.running || scope == Scope::Incoming)
}
