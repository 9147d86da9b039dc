//! Writing of a reservation: under the lock, if the facts behind the decision still hold.
//!
//! If another guest was quicker, the lock is kept and the decision made again under it, when no
//! other guest can be quicker. So each guest is decided on at most twice, however many start at
//! once, and mostly nothing is computed under the lock. Where a hook without a daemon finds the
//! lock taken, other guests start at this moment and would be quicker: it waits for the lock first,
//! and decides once.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use crate::domain::Domain;
use crate::hook_events::{Call, Context};
use crate::host::{libvirt_process, priority};
use crate::hostfs::records::RecordError;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reader;
use crate::ledger::reader::promises::Promises;
use crate::ledger::reservation::{self, Reservation, ReservedMemory, ReservedPins};
use crate::ledger::store::{Locked, StoreError};
use crate::ledger::{Holder, taken};
use crate::snapshot::{Snapshot, SnapshotError};
use crate::types::idset::CpuSet;

/// Reason for which a decision is given up after other guests were quicker.
pub(crate) const OUTRUN: &str = "other guests took what it was to have until its time was over";

/// CPUs, memory and pins to reserve for a guest.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Want {
    /// CPUs for the guest alone.
    pub cpus: CpuSet,
    /// Siblings withheld from all other guests.
    pub withheld: CpuSet,
    /// Memory that its XML takes.
    pub memory: Vec<ReservedMemory>,
    /// Pins to set live, if its XML does not have them.
    pub pins: Option<ReservedPins>,
}

/// Result of [`reserve`].
#[derive(Debug)]
pub(crate) enum Reserved<'s> {
    /// The reservation is written.
    Done,
    /// Nothing is written: libvirt has the guest already, and is about to refuse the one that
    /// comes in.
    Left,
    /// Another guest was quicker: decide again, from a view that is read under this lock.
    Again(Locked<'s>),
}

impl Want {
    /// Returns `true` if the reservation takes CPUs or memory from other guests.
    pub(crate) fn holds(&self) -> bool {
        !self.cpus.is_empty() || !self.withheld.is_empty() || !self.memory.is_empty()
    }

    /// Returns `true` if there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        !self.holds() && self.pins.is_none()
    }
}

/// Reason for which a guest cannot be decided on under the lock.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAhead {
    /// Policy or host cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The lock was not free in time, or its file cannot be made.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Waits for the lock before the first decision, if there is no daemon and another process has the
/// lock now. `None`: the decision is made without the lock.
///
/// # Errors
/// The lock was not free in time, or policy or host cannot be read.
pub(crate) fn ahead<'s>(context: &Context<'s>) -> Result<Option<Locked<'s>>, NotAhead> {
    let store = context.store;
    if context.daemon || store.root().is_none() {
        return Ok(None);
    }
    context.source.get_ready()?;
    // This thread, and the one that waits for the lock, end with the hook.
    priority::go_first();
    if !store.is_locked() {
        return Ok(None);
    }
    Ok(Some(store.lock(context.deadline)?))
}

/// Writes the reservation decided from `view`, unless the facts behind it have changed; with
/// `held`, the view was read under that lock. A `tentative` reservation is void after
/// [`reservation::TENTATIVE_SECONDS`], and never takes the place of a firm one. An empty `want`
/// removes the guest's earlier reservation, unless it is `tentative`.
///
/// # Errors
/// The lock was not free before the deadline, or the file cannot be written.
pub(crate) fn reserve<'s>(
    call: &Call,
    context: &Context<'s>,
    view: &Snapshot,
    guest: &GuestXml,
    want: &Want,
    tentative: bool,
    held: Option<Locked<'s>>,
) -> Result<Reserved<'s>, StoreError> {
    let (store, root, domain) = (context.store, &view.root, &guest.domain);
    if root.is_none() {
        return Ok(Reserved::Done);
    }
    // libvirt calls the hook for a restore or a migration before it refuses a guest that it has
    // already, also under another name: what that guest holds stays as it is. A saved image is
    // announced by the name in it, whatever the XML says that is to take its place.
    let reading = &view.reading;
    let runs = |holder: &Arc<Holder>| !holder.reservation && holder.uuid.eq_ignore_ascii_case(&domain.uuid);
    let refused = call.guest != domain.name
        || has(&reading.running, &reading.reservations, domain)
        || reading.ledger.holders.iter().any(runs);
    if tentative && (refused || want.is_empty()) {
        return Ok(if refused { Reserved::Left } else { Reserved::Done });
    }
    // Removing an earlier reservation only frees, so it needs no lock.
    if want.is_empty() {
        if context.is_over() {
            return Err(RecordError::Late(root.path(reservation::FOLDER)).into());
        }
        store.remove(&domain.uuid)?;
        return Ok(Reserved::Done);
    }
    // The reservation names the daemon that runs the hook: it is void once that is gone.
    let (pid, start_time) = call.parent.libvirt(root);
    let now = reader::seconds(context.now);
    let reservation = Reservation {
        version: reservation::VERSION,
        uuid: domain.uuid.to_ascii_lowercase(),
        name: domain.name.clone(),
        cpus: want.cpus.clone(),
        withheld: want.withheld.clone(),
        memory: want.memory.clone(),
        boot_id: libvirt_process::boot_id(root).unwrap_or_default(),
        pid,
        start_time,
        tentative_until: tentative.then(|| now.saturating_add(reservation::TENTATIVE_SECONDS)),
        written_at: now,
        pins: want.pins.clone(),
    };
    // A decision made under the lock needs no second look: every process that reserves takes the
    // lock.
    let (locked, is_sure) = match held {
        Some(locked) => (locked, true),
        None => (store.lock(context.deadline)?, false),
    };
    if is_sure || context.source.unchanged(view) {
        locked.write(&reservation)?;
        return Ok(Reserved::Done);
    }
    // Only under the lock is it certain that no reservation comes between look and write.
    let glance = context.source.under_lock(root, context.now)?;
    if tentative && has(&glance.running, &glance.reservations, domain) {
        return Ok(Reserved::Left);
    }
    if somebody_was_quicker(view, &glance, &reservation) {
        return Ok(Reserved::Again(locked));
    }
    locked.write(&reservation)?;
    // With a daemon, the daemon sweeps after its answer, when no hook waits.
    if !context.daemon {
        locked.sweep(&glance, context.now);
    }
    Ok(Reserved::Done)
}

/// Returns whether libvirt has this guest already: it runs, or was firmly promised what it is to
/// have and starts.
fn has(running: &BTreeSet<String>, reservations: &[Reservation], domain: &Domain) -> bool {
    let starts = |other: &Reservation| {
        let is_same = other.name == domain.name || other.uuid.eq_ignore_ascii_case(&domain.uuid);
        is_same && other.tentative_until.is_none()
    };
    running.contains(&domain.name) || reservations.iter().any(starts)
}

/// Returns whether a guest or reservation that is new since the decision is in the way. Anything
/// freed since is not.
fn somebody_was_quicker(view: &Snapshot, glance: &Promises, ours: &Reservation) -> bool {
    let reading = &view.reading;
    let promised: BTreeSet<&str> = glance
        .reservations
        .iter()
        .map(|reservation| reservation.name.as_str())
        .collect();
    // A guest without a reservation: the CPUs it holds are in its XML, which has to be read.
    let unknown = |name: &&String| {
        !reading.running.contains(*name) && !promised.contains(name.as_str()) && **name != ours.name
    };
    if glance.running.iter().any(|name| unknown(&name)) {
        return true;
    }
    // A reservation that the decision already knew is no conflict.
    let by_uuid: HashMap<&str, &Reservation> = reading
        .reservations
        .iter()
        .map(|seen| (seen.uuid.as_str(), seen))
        .collect();
    let known = |other: &Reservation| {
        by_uuid.get(other.uuid.as_str()).is_some_and(|seen| {
            seen.cpus == other.cpus && seen.withheld == other.withheld && seen.memory == other.memory
        })
    };
    let held = |reservation: &Reservation| {
        let holder = reservation.holder();
        let share = view.policy.host.share_cores;
        taken::held(&holder, &view.host, &view.sets.dedicated, share)
    };
    // A new reservation is in the way only if it takes CPUs or a memory pool of ours.
    let wanted = held(ours);
    let in_the_way = |other: &Reservation| {
        !wanted.is_disjoint(&held(other))
            || other
                .memory
                .iter()
                .any(|a| ours.memory.iter().any(|b| same_place(a, b)))
    };
    glance
        .reservations
        .iter()
        .filter(|other| !taken::same_guest((&other.uuid, &other.name), (&ours.uuid, &ours.name)))
        .any(|other| !known(other) && in_the_way(other))
}

/// Returns whether two pieces of memory may come from one pool.
fn same_place(a: &ReservedMemory, b: &ReservedMemory) -> bool {
    a.page_kib == b.page_kib && (a.node.is_none() || b.node.is_none() || a.node == b.node)
}
