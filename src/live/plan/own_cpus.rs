//! CPUs of a running guest: those it holds, those of others that it is on, and those it is about to
//! get.

use crate::hook_events::leftover;
use crate::ledger::live_pins::Thread;
use crate::ledger::reservation::Reservation;
use crate::ledger::running::Running;
use crate::ledger::{Holder, guest_xml, taken};
use crate::live::plan::Live;
use crate::policy::select;
use crate::snapshot::Snapshot;
use crate::types::idset::CpuSet;
use crate::types::plan::Placement;

/// Returns whether another guest holds a CPU that virtfit's own pins put the guest on.
pub(super) fn collides(running: &Running, view: &Snapshot) -> bool {
    let others = view.taken(running.domain()).cpus;
    running.guest.wrote.iter().any(|cpu| others.contains_key(&cpu))
}

/// Returns whether threads without pins may run on CPUs that others hold, though `unmanaged =
/// "confine"` keeps them off.
pub(super) fn is_to_be_confined(running: &Running, view: &Snapshot) -> bool {
    let free = |thread: &Thread| leftover::is_free(running.domain(), *thread);
    view.policy.host.confine_unmanaged
        && running.threads().iter().any(free)
        && !view.taken(running.domain()).cpus.is_empty()
}

/// Finds the CPUs of the placement that neither the guest's XML nor its reservation makes its own
/// yet.
pub(super) fn own_cpus(
    live: &mut Live,
    running: &Running,
    placement: &Placement,
    promised: Option<&Reservation>,
    view: &Snapshot,
) {
    if live.changes.is_empty() || !placement.fits {
        return;
    }
    let mut known = held_by(running, view);
    if let Some(promised) = promised {
        known.extend_from(&promised.cpus);
        known.extend_from(&promised.withheld);
    }
    live.withheld = placement.withheld.difference(&known);
    let alone = placement.dedicated.intersection(&view.sets.dedicated);
    live.unreserved = alone.difference(&known).union(&live.withheld);
}

/// Returns the CPUs that a running guest holds by its live XML.
pub(crate) fn held_by(running: &Running, view: &Snapshot) -> CpuSet {
    let domain = running.domain();
    let autostart = view.reading.autostart.contains(&domain.name);
    let dedicates = select::dedicates(&view.policy, domain, autostart);
    let holder = Holder {
        pins: guest_xml::masks(&running.guest, running.numad.as_ref()).holding(dedicates),
        withheld: running.guest.withheld.clone(),
        ..Holder::default()
    };
    taken::held(
        &holder,
        &view.host,
        &view.sets.dedicated,
        view.policy.host.share_cores,
    )
}
