//! The worker's part for running guests: pins what a guest lacks after its start, and narrows or
//! widens floating threads.

pub mod carry_out;
pub(crate) mod failed_guests;
pub mod floating;
pub mod plan;
mod restored;
pub(crate) mod scheduling;

use std::cell::Cell;
use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::time::{Duration, Instant, SystemTime};

use crate::engine::EngineError;
use crate::host::libvirt_daemon;
use crate::host::libvirt_process;
use crate::host::running_hooks;
use crate::hostfs::HostFs;
use crate::hostfs::stems::stems;
use crate::ledger::live_pins;
use crate::ledger::live_pins::Records;
use crate::ledger::reader;
use crate::ledger::reservation::{self, Reservation};
use crate::ledger::status;
use crate::ledger::store::{Store, StoreError};
use crate::libvirt::Hypervisor;
use crate::live::failed_guests::Bugs;
use crate::live::plan as door;
use crate::snapshot::Snapshot;

/// Longest wait for the ledger's lock.
const LOCK: Duration = Duration::from_millis(500);

/// Result of one round over the running guests.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Round {
    /// All that can be done now is done.
    Done,
    /// The ledger changed while the round was planned: the next round needs a new snapshot.
    Again,
    /// libvirt did not answer.
    Gone,
}

/// Reason for visiting a running guest, the weaker one first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Came {
    /// The guest was found running; its start was not seen.
    Found,
    /// The guest's start ended just now.
    Started,
}

/// Running guests to visit.
#[derive(Debug, Default)]
pub struct Running {
    /// Names of guests that may lack something, and the reason for each visit.
    guests: BTreeMap<String, Came>,
    /// Last log line about each guest, so that a line is not repeated.
    said: BTreeMap<String, String>,
    /// The ledger changed: the floating threads of all guests are planned again.
    floats: bool,
    /// Something happened since the last round. Guests that were busy then are visited when their
    /// hook ends, which sets this.
    fresh: bool,
    /// Time of the next attempt, after libvirt did not answer.
    retry: Option<Instant>,
    /// Time of the next round, as other programs' hooks run for some guests.
    hooked: Option<Instant>,
    /// Guests that virtfit itself failed on.
    bugs: Bugs,
}

impl Running {
    /// Adds a guest that started just now.
    pub fn add(&mut self, name: &str) {
        self.put(name, Came::Started);
    }

    /// Adds a guest that was found running: after another libvirt daemon took it over, or when all
    /// guests are visited.
    pub(crate) fn add_found(&mut self, name: &str) {
        self.put(name, Came::Found);
    }

    fn put(&mut self, name: &str, came: Came) {
        let known = self.guests.entry(name.into()).or_insert(came);
        *known = came.max(*known);
        self.ledger_changed();
    }

    /// Plans the floating threads of all guests again, as the ledger changed.
    pub fn ledger_changed(&mut self) {
        self.floats = true;
        self.fresh = true;
    }

    /// Adds all guests that run.
    pub(crate) fn add_all(&mut self, root: &HostFs) {
        for name in stems(root, status::FOLDER, "xml").unwrap_or_default() {
            self.add_found(&name);
        }
    }

    /// Forgets a guest that ended.
    pub(crate) fn remove(&mut self, name: &str) {
        self.guests.remove(name);
        self.said.remove(name);
        self.bugs.forget(name);
        self.said.remove(&floating(name));
        self.ledger_changed();
    }

    /// Ends the wait for libvirt, which is up again.
    pub(crate) fn libvirt_is_up(&mut self) {
        self.fresh |= self.retry.take().is_some();
    }

    /// Puts the next round off: the ledger changed during each of the last rounds, or libvirt did
    /// not answer.
    pub(crate) fn later(&mut self) {
        self.retry = Instant::now().checked_add(crate::libvirt::RETRY);
    }

    /// Returns whether a round has something to do.
    pub(crate) fn is_ready(&self, now: Instant) -> bool {
        let waits = self.retry.is_some_and(|time| time > now);
        let hooked = self.hooked.is_some_and(|time| time <= now);
        !waits && (self.fresh || hooked || self.retry.is_some())
    }

    /// Returns the time at which a round that was put off has something to do.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.retry.into_iter().chain(self.hooked).min()
    }

    /// Visits the guests that were added, then plans the floating threads. Guests that are `busy`
    /// (by name) keep their place and are visited when their hook has ended.
    pub fn round(
        &mut self,
        view: &Snapshot,
        hypervisor: &mut dyn Hypervisor,
        busy: &dyn Fn(&str) -> bool,
    ) -> Round {
        let root = &view.root;
        self.fresh = false;
        self.retry = None;
        self.hooked = None;
        if !libvirt_daemon::driver_runs(root) {
            // No call can be made; when libvirt is back, it reports all guests that run.
            self.guests.clear();
            self.floats = false;
            return Round::Done;
        }
        // A guest is busy for virtfit's own marks and for hooks of other programs. The latter send
        // no event when they end, so their guests are tried again after a while.
        let pinned = Records::read(root, &mut Vec::new());
        let hooked = running_hooks::guests(root);
        let put_off = Cell::new(false);
        let busy = |name: &str| {
            if busy(name) {
                return true;
            }
            let by_others = hooked.contains(name);
            put_off.set(put_off.get() || by_others);
            by_others
        };
        // Guests that lack something come first; after the first one that needs a new snapshot, or
        // on which libvirt does not answer, the rest waits for the next round.
        let all = std::mem::take(&mut self.guests);
        let mut left = BTreeMap::new();
        let mut round = Round::Done;
        for (name, came) in all {
            if busy(&name) || round != Round::Done {
                left.insert(name, came);
                continue;
            }
            round = self.start_up(&name, came, view, &pinned, hypervisor);
            if round != Round::Done {
                left.insert(name, came);
            }
        }
        self.guests = left;
        // Floating threads then make room for the pins that were just set.
        if round == Round::Done && std::mem::take(&mut self.floats) {
            round = float(view, hypervisor, &busy, &mut self.bugs, &mut self.said);
            self.floats = round != Round::Done;
        }
        // A round that was cut short sets the time of the next.
        if put_off.get() {
            self.floats = true;
            self.hooked = Instant::now().checked_add(running_hooks::AGAIN);
        }
        self.fresh |= round == Round::Again;
        if round == Round::Gone {
            self.later();
        }
        round
    }

    /// Brings one guest in line with its plan, after its start or when it was found running.
    fn start_up(
        &mut self,
        name: &str,
        came: Came,
        view: &Snapshot,
        pinned: &Records,
        hypervisor: &mut dyn Hypervisor,
    ) -> Round {
        let Ok(text) = view.root.read(status::path(name)) else {
            return Round::Done;
        };
        let mut bugs = std::mem::take(&mut self.bugs);
        let round = bugs.without(name, &text, || {
            self.bring_up(name, &text, came, view, pinned, hypervisor)
        });
        self.bugs = bugs;
        round.unwrap_or(Round::Done)
    }

    /// Brings one guest in line, given the text of its status file.
    ///
    /// # Errors
    /// virtfit itself fails on the guest ([`EngineError::is_bug`]).
    fn bring_up(
        &mut self,
        name: &str,
        text: &str,
        came: Came,
        view: &Snapshot,
        pinned: &Records,
        hypervisor: &mut dyn Hypervisor,
    ) -> Result<Round, EngineError> {
        let root = &view.root;
        restored::take_over(root, name, text, pinned);
        // The plan is made from the status file, the guest's reservation and the live records.
        let case = door::Case {
            status: text,
            reservations: &view.reading.reservations,
            pinned,
            follows: came == Came::Started || follows(name, view),
        };
        let live = match door::plan(case, view) {
            Ok(live) => live,
            Err(bug) if bug.is_bug() => return Err(bug),
            Err(error) => {
                warn_once(&mut self.said, name, &format!("{name}: its status: {error}"));
                return Ok(Round::Done);
            }
        };
        if live.is_done() {
            // A record without threads says that nothing was left to be moved.
            let record = live.record.as_ref().filter(|_| live.changes_something());
            if let Some(Err(error)) = record.map(|record| live_pins::write(root, record)) {
                warn_once(&mut self.said, name, &format!("{name}: {error}"));
            }
            return Ok(Round::Done);
        }
        // CPUs that become the guest's own are reserved first, so that no start takes them before
        // they are pinned.
        if live.changes_something() && !live.unreserved.is_empty() {
            match reserve(&live, view) {
                Ok(true) => {}
                Ok(false) => return Ok(Round::Again),
                Err(error) => {
                    warn_once(&mut self.said, name, &format!("{name}: not pinned: {error}"));
                    return Ok(Round::Done);
                }
            }
        }
        // Calls are made, and a line is logged unless it repeats the last one about the guest.
        let applied = carry_out::apply(root, hypervisor, &live);
        if let Some(line) = carry_out::line(&live, &applied) {
            // A change that waits for an administrator, or cannot be made, is found again at each
            // visit.
            let known = self.said.get(name) == Some(&line);
            let did = !applied.done.is_empty() || !applied.classes.is_empty();
            if did || !known {
                log::info!("{line}");
                self.said.insert(name.into(), line);
            }
        }
        // CPUs that the guest left are free for the guests after it only in a new snapshot.
        Ok(match applied.gone {
            true => Round::Gone,
            false if live.frees && !applied.done.is_empty() => Round::Again,
            false => Round::Done,
        })
    }
}

/// Returns whether a running guest follows the present policy: it started after the policy's last
/// change, or `on_policy_change = "apply"`.
pub(crate) fn follows(name: &str, view: &Snapshot) -> bool {
    let policy = &view.policy;
    policy.host.apply_policy_change || policy.is_older_than(status::started_at(&view.root, name))
}

/// Reserves the CPUs that a running guest is about to get; false: another guest reserved some of
/// them first, or another set of guests runs now.
fn reserve(live: &door::Live, view: &Snapshot) -> Result<bool, StoreError> {
    let root = &view.root;
    let before = Reservation::of(&view.reading.reservations, &live.uuid);
    let now = SystemTime::now();
    let store = Store::new(root);
    let driver = libvirt_daemon::driver_text(root);
    let (pid, start_time) = libvirt_process::libvirt_of(root, driver.trim().parse().unwrap_or(0));
    let mut cpus = live.unreserved.clone();
    for cpu in live.withheld.iter() {
        cpus.remove(cpu);
    }
    let mut reservation = before.cloned().unwrap_or_else(|| Reservation {
        version: reservation::VERSION,
        uuid: live.uuid.clone(),
        name: live.name.clone(),
        cpus: Default::default(),
        withheld: Default::default(),
        memory: Vec::new(),
        boot_id: libvirt_process::boot_id(root).unwrap_or_default(),
        pid,
        start_time,
        tentative_until: None,
        written_at: reader::seconds(now),
        pins: None,
    });
    reservation.cpus.extend_from(&cpus);
    reservation.withheld.extend_from(&live.withheld);
    reservation.tentative_until = None;
    let locked = store.lock(Instant::now() + LOCK)?;
    let glance = locked.promises(now)?;
    let taken = glance
        .reservations
        .iter()
        .filter(|other| other.uuid != live.uuid)
        .any(|other| !other.cpus.union(&other.withheld).is_disjoint(&live.unreserved));
    if taken || *glance.running != view.reading.running {
        return Ok(false);
    }
    locked.write(&reservation)?;
    Ok(true)
}

/// Brings the floating threads of all guests in line.
fn float(
    view: &Snapshot,
    hypervisor: &mut dyn Hypervisor,
    busy: &dyn Fn(&str) -> bool,
    bugs: &mut Bugs,
    said: &mut BTreeMap<String, String>,
) -> Round {
    let root = &view.root;
    // Records are read again, as they have changed with the pins set just now.
    let pinned = Records::read(root, &mut Vec::new());
    let statuses: Vec<(String, String)> = stems(root, status::FOLDER, "xml")
        .unwrap_or_default()
        .into_iter()
        .filter(|name| !busy(name))
        .filter_map(|name| root.read(status::path(&name)).ok().map(|text| (name, text)))
        .collect();
    // Each guest is planned under its own guard: a bug met with one does not stop the others.
    let plan = |(name, text): (String, String)| {
        let planned = bugs.without(&name, &text, || {
            Ok(floating::plan(view, std::slice::from_ref(&text), &pinned, |_| {
                false
            }))
        });
        planned.unwrap_or_default()
    };
    // The calls of one guest after the other; a libvirt that went away ends the round.
    for float in statuses.into_iter().flat_map(plan) {
        let applied = floating::apply(root, view, hypervisor, &float);
        let done: Vec<String> = applied.done.iter().map(carry_out::show).collect();
        if !done.is_empty() {
            said.remove(&floating(&float.name));
            log::info!("{}: floats: {}", float.name, done.join(", "));
        }
        for stuck in &float.stuck {
            log::debug!("{}: {stuck}", float.name);
        }
        if !applied.failed.is_empty() {
            let line = format!("{}: {}", float.name, applied.failed.join(", "));
            warn_once(said, &floating(&float.name), &line);
        }
        if applied.gone {
            return Round::Gone;
        }
    }
    Round::Done
}

/// Logs a warning, unless it is the last line on this `subject`: a guest, or its floating threads.
fn warn_once(said: &mut BTreeMap<String, String>, subject: &str, line: &str) {
    if said.get(subject).is_none_or(|last| last != line) {
        log::warn!("{line}");
        said.insert(subject.into(), line.into());
    }
}

/// Returns the log's subject for a guest's floating threads. No guest's name has a slash, so it is
/// no other guest's.
fn floating(name: &str) -> String {
    format!("{name}/floats")
}

/// Forgets the live records of guests that do not run any more.
pub fn forget_ended(root: &HostFs) -> io::Result<()> {
    let running: BTreeSet<String> = stems(root, status::FOLDER, "xml")?.into_iter().collect();
    let folder = live_pins::folder(root);
    for uuid in folder.stems().map_err(io::Error::other)? {
        let counts = match folder.read(&uuid) {
            Ok(Some(record)) if running.contains(&record.name) => true,
            Ok(record) => {
                record.iter().for_each(|record| restored::keep(root, record));
                false
            }
            // A file that cannot be read may be a running guest's.
            Err(error) if error.is_io() => return Err(io::Error::other(error)),
            Err(_) => false,
        };
        if !counts {
            folder.remove(&uuid).map_err(io::Error::other)?;
        }
    }
    folder.sweep();
    restored::sweep(root);
    Ok(())
}
