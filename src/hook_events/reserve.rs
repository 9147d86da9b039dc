//! Writes a decision down: under the lock, if what it was made from is still so.
//!
//! Where another guest was quicker, the lock is kept and the decision made again under it: nobody
//! can be quicker then. So each guest is decided on twice at most, however many start at once, and
//! mostly nothing is computed under the lock.

use std::collections::{BTreeSet, HashMap};

use crate::hook_events::{Call, Context};
use crate::host::libvirt_process;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reader;
use crate::ledger::reader::promises::Promises;
use crate::ledger::reservation::{self, Reservation, ReservedMemory, ReservedPins};
use crate::ledger::store::{Locked, StoreError};
use crate::ledger::taken;
use crate::snapshot::Snapshot;
use crate::types::idset::CpuSet;

/// Why a decision is given up that others were quicker than.
pub const OUTRUN: &str = "other guests took what it was to have until its time was over";

/// What a guest is to be promised.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Want {
    /// CPUs for it alone.
    pub cpus: CpuSet,
    /// Siblings nobody else gets.
    pub withheld: CpuSet,
    /// What memory its XML takes.
    pub memory: Vec<ReservedMemory>,
    /// Where its threads go, where its XML does not say so.
    pub pins: Option<ReservedPins>,
}

/// What came of it.
#[derive(Debug)]
pub enum Reserved<'s> {
    /// It is written.
    Done,
    /// Another guest was quicker: decide again, from a view that is read under this lock.
    Again(Locked<'s>),
}

impl Want {
    /// Somebody else does without something for it.
    pub fn holds(&self) -> bool {
        !self.cpus.is_empty() || !self.withheld.is_empty() || !self.memory.is_empty()
    }

    /// There is nothing to write down.
    pub fn is_empty(&self) -> bool {
        !self.holds() && self.pins.is_none()
    }
}

/// Writes what was decided from `view`, unless what it was decided from is no longer so; with
/// `held`, the view was read under that lock. For `tentative` it is void after
/// [`reservation::TENTATIVE_SECONDS`]. Nothing wanted: what the guest had is taken back.
///
/// # Errors
/// The lock was not to be had in time, or the file cannot be written.
pub fn reserve<'s>(
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
    if want.is_empty() {
        if context.is_over() {
            return Err(StoreError::Late(root.path(reservation::FOLDER)));
        }
        store.remove(&domain.uuid)?;
        return Ok(Reserved::Done);
    }
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
    // What was decided under the lock needs no second look: whoever reserves something needs the
    // lock.
    let (locked, is_sure) = match held {
        Some(locked) => (locked, true),
        None => (store.lock(context.deadline)?, false),
    };
    if is_sure || context.source.is_as_it_was(view) {
        locked.write(&reservation)?;
        return Ok(Reserved::Done);
    }
    let glance = context.source.glance(root, context.now)?;
    if somebody_was_quicker(view, &glance, &reservation) {
        return Ok(Reserved::Again(locked));
    }
    locked.write(&reservation)?;
    // The daemon does it when nobody waits.
    if !context.daemon {
        locked.sweep(&glance, context.now);
    }
    Ok(Reserved::Done)
}

/// Whether something that was not there when it was decided is in the way now. What went meanwhile
/// is not.
fn somebody_was_quicker(view: &Snapshot, glance: &Promises, ours: &Reservation) -> bool {
    let reading = &view.reading;
    let promised: BTreeSet<&str> = glance
        .reservations
        .iter()
        .map(|reservation| reservation.name.as_str())
        .collect();
    // A guest nobody wrote a reservation for: what it holds is in its XML, which has to be read.
    let unknown = |name: &&String| {
        !reading.running.contains(*name) && !promised.contains(name.as_str()) && **name != ours.name
    };
    if glance.running.iter().any(|name| unknown(&name)) {
        return true;
    }
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

/// Whether two pieces of memory may come from the same pool.
fn same_place(a: &ReservedMemory, b: &ReservedMemory) -> bool {
    a.page_kib == b.page_kib && (a.node.is_none() || b.node.is_none() || a.node == b.node)
}
