//! Settings of virtfit's in guests that no rule matches: renamed or cloned guests, guests whose
//! rule was narrowed, snapshots, and guests from a host with other rules.
//!
//! ```text
//! definition          left as it is; plan, status and log name the guest until it is reverted
//! start               virtfit's pins hold nothing: the threads float on shared CPUs that nobody holds
//! migration, restore  as a start; pins, scheduling and memory binding go before it where this host lacks their CPUs or nodes
//! running             a CPU that virtfit's pins hold stays held until the guest ends, or another guest holds it too
//! ```

use crate::ledger::Taken;
use crate::ledger::guest_xml;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::live_pins::Thread;
use crate::ledger::reservation::ReservedPins;
use crate::policy::cpu_sets;
use crate::snapshot::Snapshot;
use crate::types::ids::KiB;
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::setting::Target;

/// Returns where the threads go that virtfit pinned once: vCPUs, and what shares dedicated CPUs
/// with them, to shared CPUs that nobody holds. Pins that somebody else wrote stay.
pub fn pins(view: &Snapshot, guest: &GuestXml, taken: &Taken) -> ReservedPins {
    let mut pins = ReservedPins::default();
    let open = open(view, guest, taken);
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

/// Shared CPUs that nobody holds, near the guest's memory where there are some; else housekeeping.
fn open(view: &Snapshot, guest: &GuestXml, taken: &Taken) -> CpuSet {
    let held: CpuSet = taken.cpus.keys().copied().collect();
    let shared = view.sets.shared_now(&view.host, &held);
    let usable = cpu_sets::usable(&view.host).difference(&view.host.isolated);
    let near: CpuSet = nodes(guest)
        .iter()
        .flat_map(|node| view.host.cpus_of(node).iter().collect::<Vec<_>>())
        .collect();
    let tries = [
        shared.intersection(&near),
        shared,
        usable.difference(&held),
        view.sets.housekeeping.clone(),
    ];
    let mut tries = tries.into_iter().filter(|cpus| !cpus.is_empty());
    tries.next().unwrap_or_default()
}

/// Nodes that a guest's memory is bound to; empty: any.
pub fn nodes(guest: &GuestXml) -> NodeSet {
    // The page size plays no part.
    let memory = guest_xml::memory(&guest.domain, None, || KiB(0));
    memory
        .iter()
        .fold(NodeSet::new(), |all, uses| all.union(&uses.nodes))
}

/// Returns the guest as if virtfit's pins floated: what an administrator pinned holds, the rest
/// does not.
pub fn without_ours(guest: &GuestXml) -> GuestXml {
    let mut guest = guest.clone();
    guest.floating.extend(guest.ours.iter().cloned());
    guest.withheld = CpuSet::new();
    guest
}
