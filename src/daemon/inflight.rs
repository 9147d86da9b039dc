//! Guests that libvirt is starting or taking over now: between `prepare` and the end of `started` or `release`, in `reconnect`,
//! arriving by migration or restore. libvirt holds their lock meanwhile; a call that locks such a guest, or lists domains, would
//! wait, and could freeze the whole driver (`design.md` section 1).
//!
//! Marks are kept in memory only. A daemon that was restarted knows them again from the files: see [`in_ledger`].

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::ledger::reservation::{self, Daemon};
use crate::ledger::{Ledger, process};
use crate::root::Root;

/// A guest whose `migrate` or `restore` is followed by no `prepare` in this time does not come.
const INCOMING: Duration = Duration::from_secs(reservation::TENTATIVE_SECONDS);
/// No start takes longer before its status file is there; longer means that the end of it was missed.
const UNSEEN: Duration = Duration::from_secs(600);

/// What libvirt does with a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Phase {
    /// `migrate` or `restore begin` was called.
    Incoming,
    /// `prepare begin` was called.
    Starting,
    /// A hook that ends it runs: `started`, `release`, `reconnect`.
    Ending,
}

/// One mark.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Mark {
    /// What libvirt does.
    pub phase: Phase,
    /// Since when.
    pub since: Instant,
    /// The libvirt daemon.
    pub daemon: u32,
    /// When that process started, in clock ticks since boot; `None`: there is no `/proc` to ask.
    pub daemon_start: Option<u64>,
}

/// The guests in flight, by name: a name is one guest's at a time. Shared by the threads that answer hooks and the one that calls
/// libvirt; the lock is never held over I/O.
#[derive(Debug, Default)]
pub struct Inflight {
    root: Root,
    marks: Mutex<BTreeMap<String, Mark>>,
}

impl Inflight {
    /// Nobody yet; `/proc` is read below `root`.
    pub fn new(root: Root) -> Self {
        Self {
            root,
            marks: Mutex::default(),
        }
    }

    /// libvirt began something, or goes on with it.
    pub fn begin(&self, name: &str, phase: Phase, parent: u32) {
        // A wrapper script between libvirt and the hook ends with the hook.
        let (daemon, start) = process::libvirt_of(&self.root, parent);
        let mark = Mark {
            phase,
            since: Instant::now(),
            daemon,
            daemon_start: Some(start).filter(|start| *start > 0),
        };
        self.marks().insert(name.to_string(), mark);
    }

    /// It is over: libvirt's next call for this guest does not wait for a hook.
    pub fn end(&self, name: &str) {
        self.marks().remove(name);
    }

    /// Whether libvirt must not be asked about this guest now. Marks whose libvirt daemon is gone, or that were never ended, fall.
    pub fn contains(&self, name: &str) -> bool {
        let Some(mark) = self.marks().get(name).cloned() else {
            return false;
        };
        let over = self.is_over(&mark, Instant::now());
        if over {
            let mut marks = self.marks();
            if marks.get(name) == Some(&mark) {
                marks.remove(name);
            }
        }
        !over
    }

    /// All names in flight, sorted.
    pub fn names(&self) -> Vec<String> {
        let all: Vec<String> = self.marks().keys().cloned().collect();
        all.into_iter().filter(|name| self.contains(name)).collect()
    }

    fn is_over(&self, mark: &Mark, now: Instant) -> bool {
        let age = now.saturating_duration_since(mark.since);
        let too_old = match mark.phase {
            Phase::Incoming => age >= INCOMING,
            Phase::Starting | Phase::Ending => age >= UNSEEN,
        };
        too_old
            || mark
                .daemon_start
                .is_some_and(|start| self.is_gone(mark.daemon, start))
    }

    fn is_gone(&self, pid: u32, started: u64) -> bool {
        match process::daemon(&self.root, pid) {
            Daemon::Unknown => false,
            Daemon::Gone => true,
            Daemon::StartedAt(start) => start != started,
        }
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<String, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the files say: the guest has a reservation and no status file yet, or a status file that says that it is starting. That is
/// how a daemon that was not there at `prepare` knows. `name` as libvirt has it.
pub fn in_ledger(ledger: &Ledger, name: &str) -> bool {
    ledger
        .holders
        .iter()
        .any(|holder| holder.name == name && holder.starting)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::ledger::Holder;

    fn daemon(root: &std::path::Path, pid: u32, start: u64) {
        let text = format!("{pid} (libvirtd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0");
        fs::create_dir_all(root.join(format!("proc/{pid}"))).unwrap();
        fs::write(root.join(format!("proc/{pid}/stat")), text).unwrap();
    }

    #[test]
    fn a_mark_lives_from_prepare_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        daemon(dir.path(), 7, 100);
        let inflight = Inflight::new(Root::new(dir.path()));
        assert!(!inflight.contains("db"));
        inflight.begin("db", Phase::Starting, 7);
        inflight.begin("web", Phase::Incoming, 7);
        assert_eq!(inflight.names(), ["db", "web"]);
        inflight.begin("db", Phase::Ending, 7);
        inflight.end("db");
        inflight.end("db");
        assert!(!inflight.contains("db") && inflight.contains("web"));
    }

    #[test]
    fn a_mark_falls_with_its_libvirt_daemon() {
        for (what, change) in [("gone", None), ("another process", Some(101))] {
            let dir = tempfile::tempdir().unwrap();
            daemon(dir.path(), 7, 100);
            let inflight = Inflight::new(Root::new(dir.path()));
            inflight.begin("db", Phase::Starting, 7);
            assert!(inflight.contains("db"), "{what}");
            fs::remove_dir_all(dir.path().join("proc/7")).unwrap();
            if let Some(start) = change {
                daemon(dir.path(), 7, start);
            }
            assert!(!inflight.contains("db"), "{what}");
            assert!(inflight.marks().is_empty(), "{what}");
        }
    }

    #[test]
    fn a_mark_does_not_live_for_ever() {
        let inflight = Inflight::new(Root::none());
        let now = Instant::now();
        for (phase, seconds, over) in [
            (Phase::Incoming, 29, false),
            (Phase::Incoming, 30, true),
            (Phase::Starting, 599, false),
            (Phase::Starting, 600, true),
            (Phase::Ending, 599, false),
            (Phase::Ending, 600, true),
        ] {
            let mark = Mark {
                phase,
                since: now,
                daemon: 7,
                daemon_start: None,
            };
            let then = now + Duration::from_secs(seconds);
            assert_eq!(inflight.is_over(&mark, then), over, "{phase:?} after {seconds} s");
        }
    }

    #[test]
    fn the_files_tell_too() {
        let holder = |name: &str, starting| Holder {
            name: name.into(),
            starting,
            ..Holder::default()
        };
        let ledger = Ledger {
            holders: vec![holder("new", true), holder("db", false)],
            claims: Vec::new(),
        };
        for (name, expected) in [("new", true), ("db", false), ("gone", false)] {
            assert_eq!(in_ledger(&ledger, name), expected, "{name}");
        }
    }
}
