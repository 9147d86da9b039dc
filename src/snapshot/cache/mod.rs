//! The daemon's cached [`Snapshot`]: policy, host and ledger as they are now, read again only where
//! something changed.
//!
//! - **Policy**: its files are checked when something happened in their folders, and read again
//!   when one of them changed. The errors of a policy that cannot be parsed are kept for `status`;
//!   the last good one stays in force.
//! - **Host**: see [`crate::host::cached`].
//! - **Ledger**: see [`crate::ledger::reader`].
//!
//! A snapshot never changes. The locks are held while local files are read, and never while a
//! thread waits for libvirt.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, SystemTime};

use crate::host::cached::CachedHost;
use crate::host::{Host, HostError};
use crate::hostfs::changed_folders::Folders;
use crate::hostfs::{HostFs, Stamp};
use crate::ledger::reader::at_once::AtOnce;
use crate::ledger::reader::listing::{List, Listing};
use crate::ledger::reader::promises::Promises;
use crate::ledger::reader::{LedgerError, Reader};
use crate::policy::load::{DROP_IN_DIR, MAIN_DIR, MAIN_FILE, VENDOR_DIR};
use crate::policy::{Files, Policy, PolicyErrors, Sets, cpu_sets, last_good};
use crate::snapshot::{Snapshot, SnapshotError, Sources};

/// Folders of the policy's files.
const FOLDERS: [&str; 3] = [VENDOR_DIR, MAIN_DIR, DROP_IN_DIR];

/// Most pieces in which definitions are read for one snapshot, and the pause between two of them.
const MOST_PIECES: u32 = 64;
const BETWEEN_PIECES: Duration = Duration::from_millis(1);

/// Function that brings the cached host up to date.
type Refresh = fn(&mut CachedHost) -> Result<&Arc<Host>, HostError>;

/// Cache for snapshots of one host.
#[derive(Debug)]
pub struct SnapshotCache {
    place: Sources,
    /// Root below which the host is read, with files that are read often kept open.
    root: HostFs,
    state: Mutex<State>,
}

/// Cached inputs of a snapshot.
#[derive(Debug, Default)]
struct State {
    policy: PolicyState,
    host: Option<CachedHost>,
    /// Events in the folders of the policy and of the ledger.
    folders: Folders,
    ledger: Reader,
    /// CPU sets, with the policy and the host they belong to.
    sets: Option<(Arc<Policy>, Arc<Host>, Arc<Sets>)>,
    /// Last snapshot: returned again while nothing changed.
    last: Option<Arc<Snapshot>>,
}

/// Policy, with the state of its files when it was read.
#[derive(Debug)]
struct PolicyState {
    /// State of the files; `None`: they must be read.
    mark: Option<Vec<Seen>>,
    /// Folders of the files.
    listings: [Listing; 3],
    /// [`Listing::times`] when the mark was taken.
    times: Option<[u64; 3]>,
    good: Option<Arc<Policy>>,
    /// Files that [`PolicyState::good`] was read from, and whether they were kept for other
    /// processes ([`SnapshotCache::keep_policy`]).
    files: Option<(Files, Kept)>,
    problem: Option<PolicyErrors>,
}

/// State of a policy's files: kept for other processes since they were read, or not yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kept {
    No,
    Yes,
}

/// State of a name in a policy folder: of the entry itself and of the file it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: String,
    entry: Option<Stamp>,
    target: Option<Stamp>,
}

impl SnapshotCache {
    /// Creates an empty cache.
    pub fn new(place: Sources) -> Self {
        Self {
            root: place.root.clone().keeping_files_open(),
            place,
            state: Mutex::new(State::new()),
        }
    }

    /// Returns the sources of the snapshots.
    pub(crate) fn place(&self) -> &Sources {
        &self.place
    }

    /// Returns the root below which the host is read, with files that are read often kept open.
    pub(crate) fn root(&self) -> &HostFs {
        &self.root
    }

    /// Returns policy, host and ledger as they are now.
    ///
    /// # Errors
    /// There is no good policy yet, or host or ledger cannot be read.
    pub fn current(&self, now: SystemTime) -> Result<Arc<Snapshot>, SnapshotError> {
        let mut view = self.refreshed(now, CachedHost::refresh)?;
        // Large definitions are read in pieces here, so that no hook has to read them; between two
        // pieces a hook gets its turn.
        for _ in 0..MOST_PIECES {
            if self.state().ledger.is_whole() {
                break;
            }
            thread::sleep(BETWEEN_PIECES);
            view = self.refreshed(now, CachedHost::refresh)?;
        }
        Ok(view)
    }

    /// Returns the snapshot for a hook that waits: definitions that take long are left out, and the
    /// host is not read again for what decides little ([`CachedHost::refresh_quickly`]).
    ///
    /// # Errors
    /// There is no good policy yet, or host or ledger cannot be read.
    pub(crate) fn current_for_hook(&self, now: SystemTime) -> Result<Arc<Snapshot>, SnapshotError> {
        self.refreshed(now, CachedHost::refresh_quickly)
    }

    fn refreshed(&self, now: SystemTime, refresh: Refresh) -> Result<Arc<Snapshot>, SnapshotError> {
        if self.place.topology.is_some() || self.place.assume_empty {
            return Snapshot::read(&self.place, now).map(Arc::new);
        }
        let root = &self.root;
        let mut state = self.state();
        let State { policy, folders, .. } = &mut *state;
        let policy = policy.refresh(&self.place, now, folders)?;
        let host = match &mut state.host {
            Some(kept) => Arc::clone(refresh(kept)?),
            empty => Arc::clone(empty.insert(CachedHost::load(&self.place.root, root)?).host()),
        };
        let sets = state.sets(&policy, &host);
        let State { ledger, folders, .. } = &mut *state;
        let reading = ledger.current(root, now, &policy, AtOnce::CLAIMS, folders)?;
        if let Some(last) = &state.last
            && Arc::ptr_eq(&last.sets, &sets)
            && Arc::ptr_eq(&last.host, &host)
            && Arc::ptr_eq(&last.reading, &reading)
        {
            return Ok(Arc::clone(last));
        }
        let view = Arc::new(Snapshot {
            root: root.clone(),
            policy,
            host,
            sets,
            reading,
        });
        state.last = Some(Arc::clone(&view));
        Ok(view)
    }

    /// Returns the part of the ledger that can change within moments, as it is now.
    ///
    /// # Errors
    /// The ledger cannot be read.
    pub(crate) fn under_lock(&self, now: SystemTime) -> Result<Promises, LedgerError> {
        let State { ledger, folders, .. } = &mut *self.state();
        ledger.under_lock(&self.root, now, folders)
    }

    /// Returns whether no guest runs and no reservation exists but those that the snapshot has:
    /// nothing happened since it was read.
    pub(crate) fn unchanged(&self, view: &Snapshot) -> bool {
        let State { ledger, folders, .. } = &mut *self.state();
        ledger.unchanged(&self.root, folders, &view.reading)
    }

    /// Returns the errors in the policy's files while the last good policy is used; `None`: there
    /// are none. As of the last snapshot.
    pub(crate) fn policy_problem(&self) -> Option<PolicyErrors> {
        self.state().policy.problem.clone()
    }

    /// Keeps the last good policy on disk, for processes that later find errors in the policy's
    /// files. Not for hooks: it writes a file.
    pub(crate) fn keep_policy(&self) {
        let mut state = self.state();
        let Some((files, kept)) = &mut state.policy.files else {
            return;
        };
        if self.place.policy.is_some() || std::mem::replace(kept, Kept::Yes) == Kept::Yes {
            return;
        }
        let files = files.clone();
        drop(state);
        if let Err(error) = last_good::keep(&self.place.root, &files) {
            log::debug!("the policy is not kept: {error}");
        }
    }

    /// Writes the kept policy and the kept host again where others removed their files.
    pub(crate) fn keep_again(&self) {
        let mut state = self.state();
        if let Some((_, kept)) = &mut state.policy.files
            && !last_good::is_kept(&self.place.root)
        {
            *kept = Kept::No;
        }
        if let Some(host) = &state.host {
            host.keep_again();
        }
        drop(state);
        self.keep_policy();
    }

    /// Forgets the policy and the host: both are read completely for the next snapshot (`SIGHUP`).
    pub(crate) fn forget(&self) {
        let mut state = self.state();
        state.policy.mark = None;
        state.host = None;
    }

    /// Locks the cache. A thread that panicked while it read may have left a part half done:
    /// everything is read again then, and only the last good policy is kept.
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|poisoned: PoisonError<_>| {
            self.state.clear_poison();
            let mut state = poisoned.into_inner();
            let good = state.policy.good.take();
            *state = State::new();
            state.policy.good = good;
            state
        })
    }
}

impl State {
    fn new() -> Self {
        Self {
            folders: Folders::watching(),
            ..Self::default()
        }
    }

    /// Returns the policy's CPU sets on the host, computed again whenever policy or host was read
    /// again.
    fn sets(&mut self, policy: &Arc<Policy>, host: &Arc<Host>) -> Arc<Sets> {
        if let Some((of_policy, of_host, sets)) = &self.sets
            && Arc::ptr_eq(of_policy, policy)
            && Arc::ptr_eq(of_host, host)
        {
            return Arc::clone(sets);
        }
        let sets = Arc::new(cpu_sets::resolve(&policy.host, host));
        self.sets = Some((Arc::clone(policy), Arc::clone(host), Arc::clone(&sets)));
        sets
    }
}

impl Default for PolicyState {
    fn default() -> Self {
        Self {
            mark: None,
            listings: FOLDERS.map(|folder| Listing::new(folder, "toml", List::Stamped)),
            times: None,
            good: None,
            files: None,
            problem: None,
        }
    }
}

impl PolicyState {
    /// Returns the policy by its files as they are now, or the last good one.
    fn refresh(
        &mut self,
        place: &Sources,
        now: SystemTime,
        folders: &mut Folders,
    ) -> Result<Arc<Policy>, PolicyErrors> {
        // While nothing happened in the folders, their files are as before.
        let times = self.listed(place, folders);
        if times.is_some() && self.times == times && self.mark.is_some() {
            return self.last();
        }
        self.times = times;
        // Files whose inode, size and times are as before are not read again.
        let mark = mark(place);
        if self.mark.as_ref() != Some(&mark) {
            let files = place.policy_files();
            match files.policy() {
                Ok(policy) => {
                    let known = self
                        .good
                        .as_ref()
                        .map(|good| good.warnings.as_slice())
                        .unwrap_or_default();
                    for warning in policy.warnings.iter().filter(|warning| !known.contains(warning)) {
                        log::warn!("{warning}");
                    }
                    self.good = Some(Arc::new(policy));
                    self.files = Some((files, Kept::No));
                    self.problem = None;
                }
                Err(problem) => {
                    self.problem = Some(problem);
                    // A restarted daemon goes on with the policy of the one before it.
                    if self.good.is_none() && place.policy.is_none() {
                        let (files, policy) = last_good::load(&place.root).unzip();
                        self.files = files.map(|files| (files, Kept::Yes));
                        self.good = policy.map(Arc::new);
                    }
                }
            }
            // Files that are being written are checked again the next time.
            self.mark = mark.iter().all(|seen| seen.rested(now)).then_some(mark);
        }
        self.last()
    }

    /// Returns a mark that changes whenever something may have changed in the policy's folders;
    /// `None`: the files have to be checked.
    fn listed(&mut self, place: &Sources, folders: &mut Folders) -> Option<[u64; 3]> {
        if place.policy.is_some() {
            return None;
        }
        folders.take_note();
        for listing in &mut self.listings {
            listing.look(&place.root, folders).ok()?;
        }
        Some(self.listings.each_ref().map(Listing::times))
    }

    /// Returns the last good policy, else the errors of the last reading.
    fn last(&self) -> Result<Arc<Policy>, PolicyErrors> {
        match (&self.good, &self.problem) {
            (Some(good), _) => Ok(Arc::clone(good)),
            (None, Some(problem)) => Err(problem.clone()),
            (None, None) => Err(PolicyErrors(Vec::new())),
        }
    }
}

impl Seen {
    fn at(root: &HostFs, path: String) -> Self {
        let entry = std::fs::symlink_metadata(root.path(&path)).ok();
        Self {
            entry: entry.as_ref().map(Stamp::of),
            target: root.metadata(&path).ok().as_ref().map(Stamp::of),
            path,
        }
    }

    fn rested(&self, now: SystemTime) -> bool {
        let stamps = [self.entry, self.target];
        stamps.iter().flatten().all(|stamp| stamp.rested(now))
    }
}

/// Returns the state of all files of the policy.
fn mark(place: &Sources) -> Vec<Seen> {
    if let Some(file) = &place.policy {
        return vec![Seen::at(&HostFs::default(), absolute(file))];
    }
    let root = &place.root;
    let mut all = vec![Seen::at(root, MAIN_FILE.into())];
    for folder in [VENDOR_DIR, DROP_IN_DIR] {
        all.push(Seen::at(root, folder.into()));
        for name in root.list(folder).unwrap_or_default() {
            if name.ends_with(".toml") {
                all.push(Seen::at(root, format!("{folder}/{name}")));
            }
        }
    }
    all
}

fn absolute(file: &Path) -> String {
    let file = std::path::absolute(file).unwrap_or_else(|_| file.to_path_buf());
    file.display().to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
