//! Shape that is asked for: kinds of core, sockets at most, threads of a guest core.

use std::collections::BTreeMap;

use crate::domain::qemu::Ruled;
use crate::domain::{Domain, Topology};
use crate::engine::case::Case;
use crate::host::Host;
use crate::placement::CoreKind;
use crate::policy::profile::{self, MaxSockets, TopologyRule};
use crate::rewrite::Shape;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;

/// Returns the kinds of core that are asked for. Where all are of one kind there is no choice.
pub(super) fn core_kind(case: &Case<'_>) -> CoreKind {
    let mut cores = case.host.cores.iter();
    if cores.all(|core| core.kind == 0) {
        return CoreKind::Auto;
    }
    match case.wishes.profile.core_kind {
        profile::CoreKind::Auto => CoreKind::Auto,
        profile::CoreKind::Fast => CoreKind::Fast,
        profile::CoreKind::Slow => CoreKind::Slow,
        profile::CoreKind::Any => CoreKind::Any,
    }
}

/// Largest number of sockets that a Windows client uses.
pub(crate) const WINDOWS_CLIENT_SOCKETS: u32 = 2;

/// Returns the most sockets the guest is shown; `None`: no limit. Editions of Windows use as many
/// sockets as they are licensed for, clients 2 and servers 64, and leave the cores of others idle.
pub(super) fn max_sockets(case: &Case<'_>) -> Option<u32> {
    if let MaxSockets::At(most) = case.wishes.profile.max_sockets {
        return Some(most);
    }
    // libosinfo names servers by year: win/2k8, win/2k22; win/2k is Windows 2000.
    let windows = case.domain.windows()?;
    let year = windows.strip_prefix("2k").unwrap_or_default();
    Some(if year.is_empty() {
        WINDOWS_CLIENT_SOCKETS
    } else {
        64
    })
}

/// Returns the threads a guest core must have, where that is decided by the recorded shape or by a
/// topology that stays.
pub(super) fn threads(case: &Case<'_>, kept_pins: &BTreeMap<VcpuId, CpuSet>) -> Option<u32> {
    let Case {
        wishes,
        domain,
        shape,
        ..
    } = *case;
    if wishes.dedicated.is_empty() {
        return None;
    }
    // QEMU gives s390x guests cores of one thread only.
    if case.host.arch.starts_with("s390") {
        return Some(1);
    }
    // A guest that is shown all its vCPUs as cores keeps its shape whatever its pins share.
    let mirrors = |shape: &&Shape| shape.topology.is_some_and(|shown| shown.threads == shape.threads);
    if let Some(shape) = shape.filter(|shape| shape.threads > 0 && shape.topology.is_some()) {
        let bound = wishes.profile.topology != TopologyRule::Cores;
        return Some(shape)
            .filter(mirrors)
            .filter(|_| bound)
            .map(|shape| shape.threads);
    }
    // An option of QEMU rules; one that cannot be read says nothing.
    let ruled = domain.qemu.rules(&Ruled::Topology).is_some();
    if ruled && domain.qemu.topology.is_none() {
        return None;
    }
    let stays = |shown: &Topology| ruled || !wishes.visible || (wishes.keep && is_wish(domain, *shown));
    let kept = domain.shown_topology().filter(stays);
    let fills = |topology: &Topology| domain.vcpus.is_multiple_of(topology.threads);
    // A topology that is only compared with the others binds no more than its threads.
    if !wishes.mirrors {
        let several = kept.filter(|topology| topology.threads > 1);
        return several.filter(fills).map(|topology| topology.threads);
    }
    // Without a topology, and where none can be written, each vCPU is shown as a core.
    let shown = match (kept, wishes.visible) {
        (Some(kept), _) => Some(kept).filter(fills)?.threads,
        (None, false) => 1,
        (None, true) => return None,
    };
    (shown > 1 || !share_cores(case.host, kept_pins)).then_some(shown)
}

/// Returns whether empty vCPU slots leave parts of guest cores: two vCPUs that are not siblings in
/// the guest would share a core.
pub(super) fn splits_cores(case: &Case<'_>) -> bool {
    let most = case
        .host
        .cores
        .iter()
        .map(|core| core.cpus.len())
        .max()
        .unwrap_or(1);
    let slots = &case.wishes.floating_slots;
    let all: Vec<VcpuId> = case.domain.all_vcpus().iter().collect();
    let splits = |core: &[VcpuId]| {
        let empty = core.iter().filter(|vcpu| slots.contains(**vcpu)).count();
        (1..core.len()).contains(&empty)
    };
    !slots.is_empty() && all.chunks(most).any(splits)
}

/// Returns whether a topology written by hand is a wish. What libvirt shows without one is none:
/// management programs write that into every guest.
pub(crate) fn is_wish(domain: &Domain, topology: Topology) -> bool {
    topology.sockets != domain.vcpus || topology.vcpus() != Some(domain.vcpus)
}

/// Returns whether two given pins are on one core.
fn share_cores(host: &Host, pins: &BTreeMap<VcpuId, CpuSet>) -> bool {
    let single = pins.values().filter(|pin| pin.len() == 1);
    let cores = single.filter_map(|pin| Some(host.core_of(pin.first()?)?.cpus.first().copied()));
    let mut seen = CpuSet::new();
    cores.flatten().any(|core| !seen.insert(core))
}
