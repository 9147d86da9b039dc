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
use crate::hostfs::atomic::{AtomicDir, WriteError};
use crate::ledger::lock;
use crate::ledger::reader;
use crate::ledger::reader::LedgerError;
use crate::ledger::reader::files;
use crate::ledger::reader::promises;
use crate::ledger::reader::promises::Promises;
use crate::ledger::reservation::{self, Reservation, ReservationError};
use crate::ledger::undecided::{self, Undecided};
use crate::types::uuid;

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
    /// The deadline passed before the file was in its place.
    #[error("{0}: too late to write it")]
    Late(PathBuf),
    /// The kernel's error: no room, read-only, not allowed, no folder.
    #[error("{}: {}", path.display(), io_words(.error))]
    Io {
        /// File or folder that the error is about.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// Malformed UUID: a file cannot be named after it.
    #[error("'{0}' is no UUID, so nothing can be written down for this guest")]
    Uuid(String),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The reservation cannot be serialised.
    #[error(transparent)]
    Reservation(#[from] ReservationError),
    /// The mark cannot be serialised.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
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
        let at = |error: io::Error| StoreError::Io {
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
                    let folder = self.folder(FOLDER);
                    folder.make().map_err(|error| StoreError::Io {
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
        self.unlink(reservation::FOLDER, uuid)
    }

    /// Removes the mark of an undecided guest; `false` if there was none.
    ///
    /// # Errors
    /// The file is there and cannot be removed.
    pub(crate) fn unmark(&self, uuid: &str) -> Result<bool, StoreError> {
        self.unlink(undecided::FOLDER, uuid)
    }

    /// Marks a guest as undecided. The mark needs no lock and has no deadline.
    ///
    /// # Errors
    /// The mark cannot be written.
    pub(crate) fn mark(&self, mark: &Undecided) -> Result<(), StoreError> {
        self.put(undecided::FOLDER, &mark.uuid, &mark.to_json()?, None)
    }

    /// Reads a guest's reservation, void or not; `None` also if the file is malformed.
    ///
    /// # Errors
    /// The file is there and cannot be read.
    pub fn reservation(&self, uuid: &str) -> Result<Option<Reservation>, StoreError> {
        let path = format!("{}/{}.json", reservation::FOLDER, file_stem(uuid)?);
        let text = self.root.read_opt(&path).map_err(|error| StoreError::Io {
            path: self.root.path(&path),
            error,
        })?;
        Ok(text.and_then(|text| Reservation::from_json(&text).ok()))
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
        let stems = |folder: &str| {
            files::stems(&self.root, folder, "json").map_err(|error| StoreError::Io {
                path: self.root.path(folder),
                error,
            })
        };
        for uuid in stems(reservation::FOLDER)? {
            if self
                .reservation(&uuid)
                .ok()
                .flatten()
                .is_some_and(|found| found.name == name)
            {
                found.push(uuid);
            }
        }
        for uuid in stems(undecided::FOLDER)? {
            let text = self.root.read(format!("{}/{uuid}.json", undecided::FOLDER));
            let mark = text.ok().and_then(|text| Undecided::from_json(&text).ok());
            if mark.is_some_and(|mark| mark.name == name) {
                found.push(uuid);
            }
        }
        Ok(found)
    }

    /// Writes a reservation again, for the libvirt daemon that runs the guest now. The guest runs,
    /// so nothing new is taken and the lock is not needed.
    ///
    /// # Errors
    /// The reservation cannot be written.
    pub(crate) fn adopt(&self, reservation: &Reservation, deadline: Instant) -> Result<(), StoreError> {
        self.put(
            reservation::FOLDER,
            &reservation.uuid,
            &reservation.to_json()?,
            Some(deadline),
        )
    }

    /// Writes `UUID.json` in a folder, completely or not at all.
    fn put(&self, folder: &str, uuid: &str, text: &str, deadline: Option<Instant>) -> Result<(), StoreError> {
        let (name, folder) = (format!("{}.json", file_stem(uuid)?), self.folder(folder));
        let written = match deadline {
            Some(deadline) => folder.write_before(deadline, &name, text),
            None => folder.write(&name, text).map_err(WriteError::from),
        };
        let path = || folder.path().join(&name);
        written.map_err(|error| match error {
            WriteError::Late => StoreError::Late(path()),
            WriteError::Io(error) => StoreError::Io { path: path(), error },
        })
    }

    fn unlink(&self, folder: &str, uuid: &str) -> Result<bool, StoreError> {
        let (name, folder) = (format!("{}.json", file_stem(uuid)?), self.folder(folder));
        folder.remove(&name).map_err(|error| StoreError::Io {
            path: folder.path().join(name),
            error,
        })
    }

    /// Returns a folder with mode 0755.
    fn folder(&self, folder: &str) -> AtomicDir {
        AtomicDir::new(self.root.path(folder), 0o755)
    }
}

impl Locked<'_> {
    /// Reads the files that can have changed since the decision was made.
    ///
    /// # Errors
    /// They cannot be read.
    pub(crate) fn glance(&self, now: SystemTime) -> Result<Promises, StoreError> {
        Ok(promises::glance(&self.store.root, now)?)
    }

    /// Writes a reservation, in the place of the guest's earlier one.
    ///
    /// # Errors
    /// The reservation cannot be written, or not before the deadline.
    pub(crate) fn write(&self, reservation: &Reservation) -> Result<(), StoreError> {
        self.store.put(
            reservation::FOLDER,
            &reservation.uuid,
            &reservation.to_json()?,
            Some(self.deadline),
        )
    }

    /// Removes void reservations, temporary files of dead processes, and marks of guests whose
    /// start came to nothing. Files that cannot be removed stay and do no harm.
    pub(crate) fn sweep(&self, glance: &Promises, now: SystemTime) {
        let now = reader::seconds(now);
        for stem in &glance.void {
            let _ = self.store.unlink(reservation::FOLDER, stem);
        }
        for folder in [FOLDER, reservation::FOLDER, undecided::FOLDER] {
            self.store.folder(folder).sweep();
        }
        for stem in files::stems(&self.store.root, undecided::FOLDER, "json").unwrap_or_default() {
            let text = self.store.root.read(format!("{}/{stem}.json", undecided::FOLDER));
            let mark = text.ok().and_then(|text| Undecided::from_json(&text).ok());
            if mark.is_some_and(|mark| mark.forgotten(now, glance.running.contains(&mark.name))) {
                let _ = self.store.unlink(undecided::FOLDER, &stem);
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

/// Turns a UUID into a file name; no other text gets into a path.
fn file_stem(uuid: &str) -> Result<String, StoreError> {
    uuid::normal(uuid).ok_or_else(|| StoreError::Uuid(uuid.chars().take(64).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
