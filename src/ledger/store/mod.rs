//! Writing to `/run/virtfit`: reservations under one lock, and marks of undecided guests without
//! it.
//!
//! The protocol is in [`crate::ledger::reservation`]. Files appear completely, by rename; nothing
//! is flushed to disk, as `/run` is memory and its content means nothing after a boot. No function
//! here waits past its deadline, and none writes a reservation after it: by then the caller has
//! given up, and another process decides in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use crate::hostfs::atomic::AtomicDir;
use crate::hostfs::records::{RecordError, RecordFolder};
use crate::ledger::lock;
use crate::ledger::reader;
use crate::ledger::reader::LedgerError;
use crate::ledger::reader::promises::Promises;
use crate::ledger::reservation::Reservation;
use crate::ledger::undecided::Undecided;

/// Folder of everything that is written.
pub(crate) const FOLDER: &str = "/run/virtfit";
/// File of the lock. Only root may open it: any process that can open a file can lock it.
const LOCK: &str = "/run/virtfit/lock";
/// Reason for which a file was not written. Messages name the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Another process held the lock until the deadline.
    #[error("{0}: the lock was not free in time")]
    Locked(PathBuf),
    /// The lock's file cannot be opened.
    #[error("{}: {}", path.display(), io_words(.error))]
    Lock {
        /// File or folder that the error is about.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// A reservation or mark cannot be written, read or removed.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Place of a host's reservations and marks.
#[derive(Debug, Clone)]
pub struct Store {
    root: HostFs,
}

/// Lock on the reservations, held until this value is dropped.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a Store,
    deadline: Instant,
    // Dropped last; the kernel releases the lock with the file, also when the process dies.
    _lock: Flock<File>,
}

impl Store {
    /// Opens the store of a host.
    pub fn new(root: &HostFs) -> Self {
        Self { root: root.clone() }
    }

    /// Waits for the lock in order of arrival, until `deadline` at most.
    ///
    /// # Errors
    /// Another process has the lock until the deadline, or the lock's file cannot be made.
    pub fn lock(&self, deadline: Instant) -> Result<Locked<'_>, StoreError> {
        let path = self.root.path(LOCK);
        let at = |error: io::Error| StoreError::Lock {
            path: path.clone(),
            error,
        };
        let open = || {
            let mut options = OpenOptions::new();
            options.read(true).write(true).create(true).mode(0o600);
            options.open(&path)
        };
        loop {
            let file = match open() {
                Err(error) if error.kind() == ErrorKind::NotFound => {
                    let folder = self.folder();
                    folder.make().map_err(|error| StoreError::Lock {
                        path: folder.path().to_path_buf(),
                        error,
                    })?;
                    open()
                }
                file => file,
            };
            let file = file.map_err(at)?;
            if let Some(lock) = lock::exclusive(file, deadline).map_err(at)? {
                // If the folder was removed since the file was opened, other processes lock another
                // file.
                if same_file(&lock, &path) {
                    return Ok(Locked {
                        store: self,
                        deadline,
                        _lock: lock,
                    });
                }
            }
            if Instant::now() >= deadline {
                return Err(StoreError::Locked(path));
            }
        }
    }

    /// Returns whether another process holds the lock at this moment.
    pub(crate) fn is_locked(&self) -> bool {
        let Ok(file) = File::open(self.root.path(LOCK)) else {
            return false;
        };
        let tried = Flock::lock(file, FlockArg::LockSharedNonblock);
        matches!(tried, Err((_, Errno::EWOULDBLOCK)))
    }

    /// Removes a guest's reservation, without the lock: removing only frees. `false` if there was
    /// none.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub(crate) fn remove(&self, uuid: &str) -> Result<bool, StoreError> {
        Ok(self.reservations().remove(uuid)?)
    }

    /// Removes the mark of an undecided guest; `false` if there was none.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub(crate) fn unmark(&self, uuid: &str) -> Result<bool, StoreError> {
        Ok(self.marks().remove(uuid)?)
    }

    /// Marks a guest as undecided. The mark needs no lock and has no deadline.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub(crate) fn mark(&self, mark: &Undecided) -> Result<(), StoreError> {
        Ok(self.marks().write(&mark.uuid, mark, None)?)
    }

    /// Reads a guest's reservation, void or not; `None` also if the file is malformed.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn reservation(&self, uuid: &str) -> Result<Option<Reservation>, StoreError> {
        match self.reservations().read(uuid) {
            Err(RecordError::Json { .. } | RecordError::Version { .. } | RecordError::Name(_)) => Ok(None),
            read => Ok(read?),
        }
    }

    /// Returns the host's root.
    pub(crate) fn root(&self) -> &HostFs {
        &self.root
    }

    /// Lists the UUIDs of the reservations and marks of guests of this name, for callers that know
    /// only the name.
    ///
    /// # Errors
    /// The folders cannot be read.
    pub(crate) fn uuids_of(&self, name: &str) -> Result<Vec<String>, StoreError> {
        let mut found = Vec::new();
        let reservations = self.reservations();
        for uuid in reservations.stems()? {
            let read = reservations.read(&uuid).ok().flatten();
            found.extend(read.filter(|found| found.name == name).map(|_| uuid));
        }
        let marks = self.marks();
        for uuid in marks.stems()? {
            let read = marks.read(&uuid).ok().flatten();
            found.extend(read.filter(|found| found.name == name).map(|_| uuid));
        }
        Ok(found)
    }

    /// Writes a reservation again, for the libvirt daemon that runs the guest now. The guest runs,
    /// so nothing new is taken and the lock is not needed.
    ///
    /// # Errors
    /// The reservation cannot be written.
    pub(crate) fn adopt(&self, reservation: &Reservation, deadline: Instant) -> Result<(), StoreError> {
        Ok(self
            .reservations()
            .write(&reservation.uuid, reservation, Some(deadline))?)
    }

    fn reservations(&self) -> RecordFolder<Reservation> {
        RecordFolder::new(&self.root)
    }

    fn marks(&self) -> RecordFolder<Undecided> {
        RecordFolder::new(&self.root)
    }

    /// Returns the folder of the lock.
    fn folder(&self) -> AtomicDir {
        AtomicDir::new(self.root.path(FOLDER), 0o755)
    }
}

impl Locked<'_> {
    /// Reads the files that can have changed since the decision was made.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn promises(&self, now: SystemTime) -> Result<Promises, StoreError> {
        Ok(reader::promises(&self.store.root, now)?)
    }

    /// Writes a reservation, in the place of the guest's earlier one.
    ///
    /// # Errors
    /// The reservation cannot be written, or not before the deadline.
    pub(crate) fn write(&self, reservation: &Reservation) -> Result<(), StoreError> {
        self.store.adopt(reservation, self.deadline)
    }

    /// Removes void reservations, temporary files of dead processes, and marks of guests whose
    /// start came to nothing. Files that cannot be removed stay and do no harm.
    pub(crate) fn sweep(&self, promises: &Promises, now: SystemTime) {
        let now = reader::seconds(now);
        let (reservations, marks) = (self.store.reservations(), self.store.marks());
        for stem in &promises.void {
            let _ = reservations.remove(stem);
        }
        self.store.folder().sweep();
        reservations.sweep();
        marks.sweep();
        for mark in marks.valid() {
            if mark.forgotten(now, promises.running.contains(&mark.name)) {
                let _ = marks.remove(&mark.uuid);
            }
        }
    }
}

fn same_file(file: &File, path: &Path) -> bool {
    let (Ok(held), Ok(found)) = (file.metadata(), fs::metadata(path)) else {
        return false;
    };
    (held.dev(), held.ino()) == (found.dev(), found.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
