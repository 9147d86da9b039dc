//! Guests in flight: between `prepare` and the end of `started` or `release`, in `reconnect`, or
//! arriving by migration or restore. libvirt holds the guest's lock during that time; a call that
//! locks such a guest, or lists domains, would wait, and could freeze the whole driver
//! (`docs/design.md` section 5.3).
//!
//! Marks are kept in memory only. Those that a daemon before this one had made show in the ledger:
//! a guest that is starting has a reservation and no status file, or one that says so
//! (`definitions::is_busy`).

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::host::libvirt_process;
use crate::host::libvirt_process::Parent;
use crate::hostfs::HostFs;
use crate::ledger::reservation::{self, Daemon};

/// Age at which the mark of `migrate` or `restore` falls: without a `prepare` by then, the guest
/// does not come.
const INCOMING: Duration = Duration::from_secs(reservation::TENTATIVE_SECONDS);
/// Age at which other marks are doubted: the end may have been missed, because the hook found no
/// daemon or virtfit was disabled.
const UNSEEN: Duration = Duration::from_secs(600);

/// Work of libvirt on a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// `migrate` or `restore begin` was called.
    Incoming,
    /// `prepare begin` was called.
    Starting,
    /// A last hook of the work runs: `started`, `release` or `reconnect`.
    Ending,
}

/// Mark of one guest in flight.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Mark {
    /// Work that libvirt does.
    pub phase: Phase,
    /// Start of the work, or the last time a hook was seen to run for the guest.
    pub since: Instant,
    /// Process id of the libvirt daemon.
    pub daemon: u32,
    /// Start time of that process, in clock ticks since boot; `None`: there is no `/proc` to ask.
    pub daemon_start: Option<u64>,
}

/// Result of checking a mark.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    /// The mark stays as it is.
    Stays,
    /// A hook of libvirt's still runs for the guest: the mark's age counts from now on.
    Again(Mark),
    /// The work is over.
    Falls,
}

/// Guests in flight, by name: one guest has a name at a time. Shared by the threads that answer
/// hooks and the thread that calls libvirt; the lock is never held over I/O.
#[derive(Debug)]
pub struct Inflight {
    root: HostFs,
    unseen: Duration,
    marks: Mutex<BTreeMap<String, Mark>>,
}

impl Inflight {
    /// Creates an empty set of marks; `/proc` is read below `root`.
    pub fn new(root: HostFs) -> Self {
        Self::with_limit(root, UNSEEN)
    }

    /// Creates an empty set with another age at which the end of a start counts as missed.
    pub(crate) fn with_limit(root: HostFs, unseen: Duration) -> Self {
        Self {
            root,
            unseen,
            marks: Mutex::default(),
        }
    }

    /// Marks a guest: libvirt began work on it, or goes on with the next hook.
    pub(crate) fn begin(&self, name: &str, phase: Phase, parent: &Parent) {
        // A wrapper script between libvirt and the hook ends with the hook.
        let (daemon, start) = parent.libvirt(&self.root);
        let mark = Mark {
            phase,
            since: Instant::now(),
            daemon,
            daemon_start: Some(start).filter(|start| *start > 0),
        };
        self.marks().insert(name.to_string(), mark);
    }

    /// Removes a guest's mark: libvirt's next call for the guest does not wait for a hook.
    pub(crate) fn end(&self, name: &str) {
        self.marks().remove(name);
    }

    /// Returns whether libvirt must not be asked about this guest now. Marks whose libvirt daemon
    /// is gone, or that were never ended, fall.
    pub(crate) fn contains(&self, name: &str) -> bool {
        let Some(mark) = self.marks().get(name).cloned() else {
            return false;
        };
        let fate = self.fate(name, &mark, Instant::now());
        let mut marks = self.marks();
        // A mark that another thread changed in between is newer.
        if marks.get(name) == Some(&mark) {
            match &fate {
                Fate::Stays => {}
                Fate::Again(mark) => {
                    marks.insert(name.to_string(), mark.clone());
                }
                Fate::Falls => {
                    marks.remove(name);
                }
            }
        }
        !matches!(fate, Fate::Falls)
    }

    /// Returns all names in flight, sorted.
    pub(crate) fn names(&self) -> Vec<String> {
        let all: Vec<String> = self.marks().keys().cloned().collect();
        all.into_iter().filter(|name| self.contains(name)).collect()
    }

    /// Returns the time at which the next mark may fall by its age: no event reports that to the
    /// worker.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        let marks = self.marks();
        let ends = marks
            .values()
            .filter_map(|mark| mark.since.checked_add(self.limit(mark.phase)));
        ends.min()
    }

    fn limit(&self, phase: Phase) -> Duration {
        match phase {
            Phase::Incoming => INCOMING,
            Phase::Starting | Phase::Ending => self.unseen,
        }
    }

    fn fate(&self, name: &str, mark: &Mark, now: Instant) -> Fate {
        let gone = mark
            .daemon_start
            .is_some_and(|start| self.is_gone(mark.daemon, start));
        if gone {
            return Fate::Falls;
        }
        if now.saturating_duration_since(mark.since) < self.limit(mark.phase) {
            return Fate::Stays;
        }
        // Another program's hook may keep libvirt waiting for as long as it likes.
        match libvirt_process::hooked(&self.root, mark.daemon).contains(name) {
            true => Fate::Again(Mark {
                since: now,
                ..mark.clone()
            }),
            false => Fate::Falls,
        }
    }

    fn is_gone(&self, pid: u32, started: u64) -> bool {
        match libvirt_process::daemon(&self.root, pid) {
            Daemon::Unknown => false,
            Daemon::Gone => true,
            Daemon::StartedAt(start) => start != started,
        }
    }

    fn marks(&self) -> MutexGuard<'_, BTreeMap<String, Mark>> {
        self.marks.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    fn daemon(root: &std::path::Path, pid: u32, start: u64) {
        let text = format!("{pid} (libvirtd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0");
        fs::create_dir_all(root.join(format!("proc/{pid}"))).unwrap();
        fs::write(root.join(format!("proc/{pid}/stat")), text).unwrap();
    }

    #[test]
    fn a_mark_lives_from_prepare_to_the_end() {
        let dir = tempfile::tempdir().unwrap();
        daemon(dir.path(), 7, 100);
        let inflight = Inflight::new(HostFs::new(dir.path()));
        assert!(!inflight.contains("db"));
        inflight.begin("db", Phase::Starting, &Parent::new(7));
        inflight.begin("web", Phase::Incoming, &Parent::new(7));
        assert_eq!(inflight.names(), ["db", "web"]);
        inflight.begin("db", Phase::Ending, &Parent::new(7));
        inflight.end("db");
        inflight.end("db");
        assert!(!inflight.contains("db") && inflight.contains("web"));
    }

    #[test]
    fn a_mark_falls_with_its_libvirt_daemon() {
        for (what, change) in [("gone", None), ("another process", Some(101))] {
            let dir = tempfile::tempdir().unwrap();
            daemon(dir.path(), 7, 100);
            let inflight = Inflight::new(HostFs::new(dir.path()));
            inflight.begin("db", Phase::Starting, &Parent::new(7));
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
        let inflight = Inflight::new(HostFs::none());
        let now = Instant::now();
        for (phase, seconds, fate) in [
            (Phase::Incoming, 29, Fate::Stays),
            (Phase::Incoming, 30, Fate::Falls),
            (Phase::Starting, 599, Fate::Stays),
            (Phase::Starting, 600, Fate::Falls),
            (Phase::Ending, 599, Fate::Stays),
            (Phase::Ending, 600, Fate::Falls),
        ] {
            let mark = Mark {
                phase,
                since: now,
                daemon: 7,
                daemon_start: None,
            };
            let then = now + Duration::from_secs(seconds);
            assert_eq!(
                inflight.fate("db", &mark, then),
                fate,
                "{phase:?} after {seconds} s"
            );
        }
    }

    #[test]
    fn a_mark_stays_as_long_as_a_hook_runs_for_its_guest() {
        let dir = tempfile::tempdir().unwrap();
        daemon(dir.path(), 7, 100);
        let hook = dir.path().join("proc/20");
        fs::create_dir_all(&hook).unwrap();
        fs::write(hook.join("stat"), "20 (60-slow) S 7 2 3").unwrap();
        fs::write(
            hook.join("cmdline"),
            "/bin/sh\0/etc/hooks/60-slow\0db\0prepare\0begin\0-\0",
        )
        .unwrap();
        let limit = Duration::from_millis(30);
        let inflight = Inflight::with_limit(HostFs::new(dir.path()), limit);
        for name in ["db", "web"] {
            inflight.begin(name, Phase::Starting, &Parent::new(7));
        }
        let first = inflight.deadline().unwrap();
        std::thread::sleep(limit);
        assert_eq!(inflight.names(), ["db"]);
        assert!(inflight.deadline().unwrap() > first);
        fs::remove_dir_all(&hook).unwrap();
        std::thread::sleep(limit);
        assert!(!inflight.contains("db"));
        assert_eq!(inflight.deadline(), None);
    }
}
