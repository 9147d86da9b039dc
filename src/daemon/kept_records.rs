//! Records of running guests in `/run/virtfit`, as the worker last saw them: if their files are
//! removed while the guests run (by systemd-tmpfiles, by an administrator), they are written again.
//!
//! Only records of guests that have a status file come back. Until libvirt has removed that file,
//! no program of virtfit removes a guest's reservation, live record or mark.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use crate::hostfs::HostFs;
use crate::hostfs::records::RecordFolder;
use crate::ledger::hook_calls::{self, Caller};
use crate::ledger::live_pins::{self, Pinned, Records};
use crate::ledger::reader::Reading;
use crate::ledger::reservation::Reservation;
use crate::ledger::status;
use crate::ledger::store::{Store, StoreError};
use crate::ledger::undecided::Undecided;
use crate::types::plural::{counted, list};

/// Longest wait for the ledger's lock.
const LOCK: Duration = Duration::from_millis(500);

/// Records in memory, by UUID.
#[derive(Debug, Default)]
pub(crate) struct KeptRecords {
    reservations: BTreeMap<String, Reservation>,
    undecided: BTreeMap<String, Undecided>,
    live: BTreeMap<String, Pinned>,
    /// Mark that libvirt calls the hook.
    caller: Option<Caller>,
    /// Last reading that was noted.
    last: Option<Arc<Reading>>,
    /// The live records were read since one was last written.
    live_known: bool,
}

/// Records that were written again.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct WrittenAgain {
    reservations: usize,
    undecided: usize,
    live: usize,
    hook: bool,
}

impl KeptRecords {
    /// Notes the records of a reading. Those that are missing in it stay while their guest has a
    /// status file.
    pub(crate) fn note(&mut self, root: &HostFs, reading: &Arc<Reading>) {
        if !self.live_known {
            self.live_known = true;
            let records = Records::read(root, &mut Vec::new());
            let live = records.iter().map(|record| (record.uuid.clone(), record.clone()));
            self.live.extend(live);
        }
        // The hook's mark comes after the answer, and changes no reading.
        self.caller = hook_calls::last(root).or(self.caller);
        if self.last.as_ref().is_some_and(|last| Arc::ptr_eq(last, reading)) {
            return;
        }
        self.last = Some(Arc::clone(reading));
        // A start that came to nothing leaves nothing for the guest's next one.
        let runs = |name: &String| reading.running.contains(name);
        self.reservations.retain(|_, record| runs(&record.name));
        self.undecided.retain(|_, record| runs(&record.name));
        self.live.retain(|_, record| runs(&record.name));
        let firm = reading.reservations.iter();
        let firm = firm.filter(|reservation| reservation.tentative_until.is_none());
        self.reservations
            .extend(firm.map(|reservation| (reservation.uuid.clone(), reservation.clone())));
        let marks = reading.undecided.iter();
        self.undecided
            .extend(marks.map(|mark| (mark.uuid.clone(), mark.clone())));
    }

    /// Notes that a live record was written: the next [`KeptRecords::note`] reads it.
    pub(crate) fn live_changed(&mut self) {
        self.live_known = false;
    }

    /// Forgets the records of a guest that ended. Those of its next start are in the next reading.
    pub(crate) fn forget(&mut self, name: &str) {
        self.last = None;
        self.live_known = false;
        self.reservations.retain(|_, record| record.name != name);
        self.undecided.retain(|_, record| record.name != name);
        self.live.retain(|_, record| record.name != name);
    }

    /// Writes the records of running guests again whose files are gone.
    pub(crate) fn write_again(&mut self, root: &HostFs) -> WrittenAgain {
        let runs = |name: &str| root.exists(status::path(name));
        let (live, promised, marks) = (
            live_pins::folder(root),
            RecordFolder::<Reservation>::new(root),
            RecordFolder::<Undecided>::new(root),
        );
        let mut again = WrittenAgain::default();
        // Live records come first: without its record, a floating mask looks like an
        // administrator's pin, which holds CPUs.
        for (uuid, record) in &self.live {
            if !live.is_there(uuid) && runs(&record.name) {
                note(&mut again.live, live_pins::write(root, record));
            }
        }
        let store = Store::new(root);
        let gone: Vec<&Reservation> = self
            .reservations
            .iter()
            .filter(|(uuid, record)| !promised.is_there(uuid) && runs(&record.name))
            .map(|(_, record)| record)
            .collect();
        if !gone.is_empty() {
            note_all(&mut again.reservations, reserve(&store, &gone));
        }
        for (uuid, mark) in &self.undecided {
            if !marks.is_there(uuid) && runs(&mark.name) {
                note(&mut again.undecided, store.mark(mark));
            }
        }
        if let Some(caller) = self.caller.filter(|_| !hook_calls::is_there(root)) {
            again.hook = hook_calls::write(root, caller).is_ok();
        }
        again
    }
}

/// Writes reservations again under the lock, but for CPUs that another guest was promised since.
fn reserve(store: &Store, gone: &[&Reservation]) -> Result<usize, StoreError> {
    let locked = store.lock(Instant::now() + LOCK)?;
    let promised = locked.promises(SystemTime::now())?.reservations;
    let mut written = 0;
    for record in gone {
        let cpus = record.cpus.union(&record.withheld);
        let mut others = promised.iter().filter(|other| other.uuid != record.uuid);
        if others.any(|other| !other.cpus.union(&other.withheld).is_disjoint(&cpus)) {
            log::warn!(
                "{}: its reservation was removed, and another guest has some of its CPUs since",
                record.name
            );
            continue;
        }
        locked.write(record)?;
        written += 1;
    }
    Ok(written)
}

fn note<E: std::fmt::Display>(count: &mut usize, written: Result<(), E>) {
    note_all(count, written.map(|()| 1));
}

fn note_all<E: std::fmt::Display>(count: &mut usize, written: Result<usize, E>) {
    match written {
        Ok(written) => *count += written,
        Err(error) => log::warn!("a record that was removed cannot be written again: {error}"),
    }
}

impl WrittenAgain {
    /// Lists what was written; `None`: nothing.
    pub(crate) fn what(&self) -> Option<String> {
        let all = [
            (self.reservations, "reservation"),
            (self.live, "live record"),
            (self.undecided, "undecided mark"),
            (usize::from(self.hook), "hook mark"),
        ];
        let some = all.into_iter().filter(|(count, _)| *count > 0);
        let some: Vec<String> = some.map(|(count, noun)| counted(count, noun)).collect();
        (!some.is_empty()).then(|| list(&some))
    }
}
