//! Leftover settings of virtfit's, in guests that no rule matches: renamed or cloned guests, guests
//! whose rule was narrowed, snapshots, and guests from a host with other rules. virtfit's pins in a
//! guest that has no place and is to run untuned are moved in the same way ([`untuned`]).
//!
//! ```text
//! definition          left as it is; plan, status and log name the guest until it is reverted
//! start               virtfit's pins hold nothing: the threads float on shared CPUs that are not held
//! migration, restore  as a start; before it, pins, scheduling and memory binding are removed if this host lacks their CPUs or nodes
//! running             a CPU that virtfit's pins hold stays held until the guest ends, or another guest holds it too
//! ```

use crate::domain::Domain;
use crate::engine;
use crate::ledger::Taken;
use crate::ledger::claims;
use crate::ledger::guest_xml;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::live_pins::Thread;
use crate::ledger::reservation::ReservedPins;
use crate::policy::cpu_sets;
use crate::snapshot::Snapshot;
use crate::types::ids::KiB;
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::reason::Choice;
use crate::types::setting::Target;

/// Returns the reason that names the leftover, and the command for a guest of this host.
pub(crate) fn reason(view: &Snapshot, domain: &Domain) -> Choice {
    let (name, uuid) = (&domain.name, &domain.uuid);
    match view.root.exists(claims::path(name)) {
        true => engine::leftover::reason(name, uuid),
        false => Choice::Leftover {
            revert: engine::leftover::revert_transient(name, uuid),
        },
    }
}

/// Returns new pins for the threads that virtfit pinned: vCPUs, and threads that share dedicated
/// CPUs with them, go to shared CPUs that are not held. Pins of an administrator's stay.
pub(crate) fn pins(view: &Snapshot, guest: &GuestXml, taken: &Taken) -> ReservedPins {
    let open = open(view, guest, taken);
    let mut pins = on(&open, view, guest, taken);
    if view.policy.host.confine_unmanaged && !open.is_empty() {
        confine(&mut pins, &guest.domain, &open);
    }
    pins
}

/// Returns new pins for the threads of a guest with a profile that virtfit pinned to one CPU each
/// and that have no place now: without them the guest runs as it did before virtfit. `None`: none
/// of them is to be moved.
pub(crate) fn untuned(view: &Snapshot, guest: &GuestXml, taken: &Taken) -> Option<ReservedPins> {
    if guest.wrote.is_empty() {
        return None;
    }
    let pins = on(&open(view, guest, taken), view, guest, taken);
    (pins != ReservedPins::default()).then_some(pins)
}

/// Puts the threads that virtfit pinned on these CPUs.
fn on(open: &CpuSet, view: &Snapshot, guest: &GuestXml, taken: &Taken) -> ReservedPins {
    let mut pins = ReservedPins::default();
    if open.is_empty() {
        return pins;
    }
    let stays = |thread: Thread| {
        let held = |cpu| taken.cpus.contains_key(&cpu);
        thread
            .pin(&guest.domain)
            .is_some_and(|pin| pin.is_disjoint(&view.sets.dedicated) && !pin.iter().any(held))
    };
    for target in &guest.ours {
        match *target {
            Target::VcpuPin(id) => {
                pins.vcpus.insert(id, open.clone());
            }
            Target::EmulatorPin if !stays(Thread::Emulator) => pins.emulator = open.clone(),
            Target::IothreadPin(id) if !stays(Thread::Iothread(id)) => {
                pins.iothreads.insert(id, open.clone());
            }
            _ => {}
        }
    }
    pins
}

/// Puts the threads without pins on these CPUs too: the pins of the other threads are no reason to
/// leave them where they are.
fn confine(pins: &mut ReservedPins, domain: &Domain, open: &CpuSet) {
    for vcpu in domain.all_vcpus().iter() {
        if is_free(domain, Thread::Vcpu(vcpu)) {
            pins.vcpus.insert(vcpu, open.clone());
        }
    }
    if is_free(domain, Thread::Emulator) {
        pins.emulator = open.clone();
    }
    for id in &domain.iothread_ids {
        if is_free(domain, Thread::Iothread(*id)) {
            pins.iothreads.insert(*id, open.clone());
        }
    }
}

/// Returns whether the XML lets a thread run on any CPU.
pub(crate) fn is_free(domain: &Domain, thread: Thread) -> bool {
    let everywhere = domain.vcpu_cpuset.is_none() && !domain.vcpu_placement_auto;
    everywhere && thread.pin(domain).is_none()
}

/// Returns the shared CPUs that are not held, near the guest's memory if there are such; else
/// housekeeping CPUs. CPUs to which other guests' threads are pinned come last.
fn open(view: &Snapshot, guest: &GuestXml, taken: &Taken) -> CpuSet {
    let held: CpuSet = taken.cpus.keys().copied().collect();
    let shared = view.sets.shared_now(&view.host, &held);
    let usable = cpu_sets::usable(&view.host).difference(&view.host.isolated);
    let near: CpuSet = nodes(guest)
        .iter()
        .flat_map(|node| view.host.cpus_of(node).iter().collect::<Vec<_>>())
        .collect();
    let apart = shared.difference(&taken.occupied);
    let tries = [
        apart.intersection(&near),
        apart,
        shared.intersection(&near),
        shared,
        usable.difference(&held),
        view.sets.housekeeping.clone(),
    ];
    let mut tries = tries.into_iter().filter(|cpus| !cpus.is_empty());
    tries.next().unwrap_or_default()
}

/// Returns the nodes that a guest's memory is bound to; empty: not bound.
pub(crate) fn nodes(guest: &GuestXml) -> NodeSet {
    // The page size does not matter here.
    let memory = guest_xml::memory(&guest.domain, None, || KiB(0));
    memory
        .iter()
        .fold(NodeSet::new(), |all, uses| all.union(&uses.nodes))
}

/// Returns the guest as if virtfit's pins floated: only an administrator's pins hold CPUs.
pub(crate) fn without_ours(guest: &GuestXml) -> GuestXml {
    let mut guest = guest.clone();
    guest.floating.extend(guest.ours.iter().cloned());
    guest.withheld = CpuSet::new();
    guest
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::host::Host;
    use crate::hostfs::HostFs;
    use crate::ledger::reader::Reading;
    use crate::policy::Policy;

    #[test]
    fn a_guest_without_definition_is_reverted_in_its_xml() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
        std::fs::create_dir_all(root.path(claims::FOLDER)).unwrap();
        std::fs::write(root.path(claims::path("web")), "").unwrap();
        let view = Snapshot::new(root, Policy::builtin(), Host::default(), Reading::default());
        for (name, command) in [
            ("web", "virtfit revert web"),
            ("app", "virsh dumpxml --inactive app | virtfit revert -"),
        ] {
            let domain = Domain {
                name: name.into(),
                ..Domain::default()
            };
            let said = reason(&view, &domain).to_string();
            assert!(said.ends_with(&format!(": {command}")), "{said}");
        }
    }
}
