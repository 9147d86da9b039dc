//! The daemon's warm [`Snapshot`]: policy, host and ledger as they are now, read again only where
//! something changed.
//!
//! - **Policy**: its files are looked at when something happened in their folders, and read again
//!   when any of them changed. One that does not parse is kept as an error for `status`; the last
//!   good one stays.
//! - **Host**: see [`crate::host::cached`].
//! - **Ledger**: see [`crate::ledger::reader::cache`].
//!
//! A view is a snapshot that nobody changes. The locks are held while local files are read, and
//! never while anything waits for libvirt.

use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::SystemTime;

use crate::host::cached::CachedHost;
use crate::host::{Host, HostError};
use crate::hostfs::changed_folders::Folders;
use crate::hostfs::{HostFs, Stamp};
use crate::ledger::reader::cache::{Cache, List, Listing};
use crate::ledger::reader::promises::{Promises, glance_with};
use crate::ledger::reader::{LedgerError, read_with};
use crate::policy::load::{DROP_IN_DIR, MAIN_DIR, MAIN_FILE, VENDOR_DIR};
use crate::policy::{Files, Policy, PolicyErrors, Sets, cpu_sets, last_good};
use crate::snapshot::{Snapshot, SnapshotError, Sources};

/// The folders of the policy's files.
const FOLDERS: [&str; 3] = [VENDOR_DIR, MAIN_DIR, DROP_IN_DIR];

/// How the host is looked at again.
type Refresh = fn(&mut CachedHost) -> Result<&Arc<Host>, HostError>;

/// Reads and remembers.
#[derive(Debug)]
pub struct SnapshotCache {
    place: Sources,
    /// The same host, read again and again.
    root: HostFs,
    state: Mutex<State>,
}

/// What is remembered.
#[derive(Debug, Default)]
struct State {
    policy: PolicyState,
    host: Option<CachedHost>,
    ledger: Cache,
    /// The sets, with the policy and the host they are of.
    sets: Option<(Arc<Policy>, Arc<Host>, Arc<Sets>)>,
    /// The last view: given again while nothing changed.
    last: Option<Arc<Snapshot>>,
}

/// The policy, and what it was read from.
#[derive(Debug, Default)]
struct PolicyState {
    /// `None`: it must be read.
    mark: Option<Vec<Seen>>,
    /// The folders its files are in.
    folders: [Listing; 3],
    /// [`Listing::times`] of when the mark was taken.
    times: Option<[u64; 3]>,
    good: Option<Arc<Policy>>,
    /// The files that [`PolicyState::good`] was read from, until they are kept for others
    /// ([`SnapshotCache::keep_policy`]).
    files: Option<Files>,
    problem: Option<PolicyErrors>,
}

/// A name in a policy folder: the entry itself and what it leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Seen {
    path: String,
    entry: Option<Stamp>,
    target: Option<Stamp>,
}

impl SnapshotCache {
    /// Nothing is read yet.
    pub fn new(place: Sources) -> Self {
        Self {
            root: place.root.clone().keeping_files_open(),
            place,
            state: Mutex::new(State::new()),
        }
    }

    /// Where it reads.
    pub fn place(&self) -> &Sources {
        &self.place
    }

    /// The host it reads, with the files that are read again and again kept open.
    pub fn root(&self) -> &HostFs {
        &self.root
    }

    /// Policy, host and ledger as they are now.
    ///
    /// # Errors
    /// There is no good policy yet, or host or ledger cannot be read.
    pub fn view(&self, now: SystemTime) -> Result<Arc<Snapshot>, SnapshotError> {
        self.view_of(now, CachedHost::refresh)
    }

    /// As [`SnapshotCache::view`], for a hook: somebody waits ([`CachedHost::refresh_quickly`]).
    ///
    /// # Errors
    /// As there.
    pub fn view_for_hook(&self, now: SystemTime) -> Result<Arc<Snapshot>, SnapshotError> {
        self.view_of(now, CachedHost::refresh_quickly)
    }

    fn view_of(&self, now: SystemTime, refresh: Refresh) -> Result<Arc<Snapshot>, SnapshotError> {
        if self.place.topology.is_some() || self.place.assume_empty {
            return Snapshot::read(&self.place, now).map(Arc::new);
        }
        let root = &self.root;
        let mut state = self.state();
        let State { policy, ledger, .. } = &mut *state;
        let policy = policy.refresh(&self.place, now, &mut ledger.folders)?;
        let host = match &mut state.host {
            Some(kept) => Arc::clone(refresh(kept)?),
            empty => Arc::clone(empty.insert(CachedHost::load(&self.place.root, root)?).host()),
        };
        let sets = state.sets(&policy, &host);
        let reading = read_with(root, now, &mut state.ledger)?;
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

    /// What can have changed within moments, as it is now.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn glance(&self, now: SystemTime) -> Result<Promises, LedgerError> {
        glance_with(&self.root, now, &mut self.state().ledger)
    }

    /// Whether nobody runs or was promised anything but those the view knows: nothing happened
    /// since it was read.
    pub fn is_as_it_was(&self, view: &Snapshot) -> bool {
        self.state().ledger.is_as_it_was(&self.root, &view.reading)
    }

    /// What is wrong with the policy's files now, while the last good policy is used; `None`:
    /// nothing. As of the last view.
    pub fn policy_problem(&self) -> Option<PolicyErrors> {
        self.state().policy.problem.clone()
    }

    /// Keeps the policy as it was read last, for whoever finds errors in its files later. Not for
    /// hooks: it writes a file.
    pub fn keep_policy(&self) {
        let files = self.state().policy.files.take();
        let Some(files) = files.filter(|_| self.place.policy.is_none()) else {
            return;
        };
        if let Err(error) = last_good::keep(&self.place.root, &files) {
            log::debug!("the policy is not kept: {error}");
        }
    }

    /// Forgets the policy and the host: both are read as a whole for the next view (`SIGHUP`).
    pub fn forget(&self) {
        let mut state = self.state();
        state.policy.mark = None;
        state.host = None;
    }

    /// A thread that panicked while it read may have left something half done: all of it is read
    /// again.
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
            ledger: Cache::watching(),
            ..Self::default()
        }
    }

    /// The policy's sets on the host. Page counts do not matter for them, so a host that differs
    /// only there keeps them.
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

impl PolicyState {
    /// The policy by its files as they are, or the last good one.
    fn refresh(
        &mut self,
        place: &Sources,
        now: SystemTime,
        folders: &mut Folders,
    ) -> Result<Arc<Policy>, PolicyErrors> {
        let times = self.listed(place, folders);
        if times.is_some() && self.times == times && self.mark.is_some() {
            return self.last();
        }
        self.times = times;
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
                    self.files = Some(files);
                    self.problem = None;
                }
                Err(problem) => {
                    self.problem = Some(problem);
                    // A daemon that was restarted goes on with what the one before it had.
                    if self.good.is_none() && place.policy.is_none() {
                        self.good = last_good::load(&place.root).map(Arc::new);
                    }
                }
            }
            // Files that are being written are looked at again.
            self.mark = mark.iter().all(|seen| seen.rested(now)).then_some(mark);
        }
        self.last()
    }

    /// What tells that something may have changed in the policy's folders; `None`: look at its
    /// files.
    fn listed(&mut self, place: &Sources, folders: &mut Folders) -> Option<[u64; 3]> {
        if place.policy.is_some() {
            return None;
        }
        folders.take_note();
        for (listing, folder) in self.folders.iter_mut().zip(FOLDERS) {
            listing
                .look(&place.root, folder, "toml", folders, List::Stamped)
                .ok()?;
        }
        Some(self.folders.each_ref().map(Listing::times))
    }

    /// As it was read last.
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

/// All files that the policy is made of.
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
