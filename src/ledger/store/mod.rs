//! The write side of `/run/virtfit`: reservations under one lock, and marks of undecided guests
//! without it.
//!
//! The protocol is in [`crate::ledger::reservation`]. Files appear whole, by rename; nothing is
//! synced to a disk, as `/run` is memory and what is in it means nothing after a boot. Nothing here
//! waits past its deadline, and nothing is written after it: whoever asked has given up by then,
//! and another process decides in its place.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Instant, SystemTime};

use nix::fcntl::Flock;

use crate::hostfs::HostFs;
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

/// The folder of everything that is written.
pub const FOLDER: &str = "/run/virtfit";
/// The lock's file. Only root may open it: whoever can open a file can lock it.
pub const LOCK: &str = "/run/virtfit/lock";
/// Why something was not written. Messages name the file.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// Somebody else held the lock all the time.
    #[error("{0}: the lock was not free in time")]
    Locked(PathBuf),
    /// The deadline passed before the file could be put in its place.
    #[error("{0}: too late to write it")]
    Late(PathBuf),
    /// No room, read-only, not allowed, no folder: what the kernel said.
    #[error("{}: {error}", path.display())]
    Io {
        /// What it said it about.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// A UUID becomes a file's name: it has to be one.
    #[error("'{0}' is no UUID, so nothing can be written down for this guest")]
    Uuid(String),
    /// It cannot be told what is taken.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// It cannot be put into words.
    #[error(transparent)]
    Reservation(#[from] ReservationError),
    /// Neither can a mark.
    #[error("cannot be written as JSON: {0}")]
    Json(#[from] serde_json::Error),
}

/// Where reservations and marks are written.
#[derive(Debug, Clone)]
pub struct Store {
    root: HostFs,
}

/// The lock, as long as this lives.
#[derive(Debug)]
pub struct Locked<'a> {
    store: &'a Store,
    deadline: Instant,
    // Dropped last; the kernel lets go of it with the file, also when the process dies.
    _lock: Flock<File>,
}

impl Store {
    /// The store of a host.
    pub fn new(root: &HostFs) -> Self {
        Self { root: root.clone() }
    }

    /// Waits for the lock in the order of arrival, no longer than until `deadline`.
    ///
    /// # Errors
    /// Somebody else has it, or its file cannot be made.
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
                // Whoever removed the folder meanwhile took the lock everybody else uses with it.
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

    /// Takes a guest's reservation back, without the lock: removing only frees. Whether there was
    /// one.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self, uuid: &str) -> Result<bool, StoreError> {
        self.unlink(reservation::FOLDER, uuid)
    }

    /// Takes the mark of an undecided guest away. Whether there was one.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn unmark(&self, uuid: &str) -> Result<bool, StoreError> {
        self.unlink(undecided::FOLDER, uuid)
    }

    /// Marks a guest as undecided. Needs no lock, and is never too late.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn mark(&self, mark: &Undecided) -> Result<(), StoreError> {
        self.put(undecided::FOLDER, &mark.uuid, &mark.to_json()?, None)
    }

    /// A guest's reservation, valid or not.
    ///
    /// # Errors
    /// It is there and cannot be read.
    pub fn reservation(&self, uuid: &str) -> Result<Option<Reservation>, StoreError> {
        let path = format!("{}/{}.json", reservation::FOLDER, file_stem(uuid)?);
        let text = self.root.read_opt(&path).map_err(|error| StoreError::Io {
            path: self.root.path(&path),
            error,
        })?;
        Ok(text.and_then(|text| Reservation::from_json(&text).ok()))
    }

    /// Where the host is.
    pub fn root(&self) -> &HostFs {
        &self.root
    }

    /// UUIDs of the reservations and marks of guests of this name, for where only the name is
    /// known.
    ///
    /// # Errors
    /// The folders cannot be read.
    pub fn uuids_of(&self, name: &str) -> Result<Vec<String>, StoreError> {
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

    /// Gives a reservation to the libvirt daemon that runs the guest now. The guest runs: nothing
    /// new is taken, so the lock is not needed.
    ///
    /// # Errors
    /// It cannot be written.
    pub fn adopt(&self, reservation: &Reservation, deadline: Instant) -> Result<(), StoreError> {
        self.put(
            reservation::FOLDER,
            &reservation.uuid,
            &reservation.to_json()?,
            Some(deadline),
        )
    }

    /// Puts `STEM.json` into a folder, whole or not at all.
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

    /// One that everybody may look into.
    fn folder(&self, folder: &str) -> AtomicDir {
        AtomicDir::new(self.root.path(folder), 0o755)
    }
}

impl Locked<'_> {
    /// What can have changed since the decision was made.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn glance(&self, now: SystemTime) -> Result<Promises, StoreError> {
        Ok(promises::glance(&self.store.root, now)?)
    }

    /// Writes a reservation; replaces the guest's own.
    ///
    /// # Errors
    /// It cannot be written, or not in time.
    pub fn write(&self, reservation: &Reservation) -> Result<(), StoreError> {
        self.store.put(
            reservation::FOLDER,
            &reservation.uuid,
            &reservation.to_json()?,
            Some(self.deadline),
        )
    }

    /// Takes a guest's reservation back. Whether there was one.
    ///
    /// # Errors
    /// It is there and cannot be removed.
    pub fn remove(&self, uuid: &str) -> Result<bool, StoreError> {
        self.store.remove(uuid)
    }

    /// Removes what means nothing any more: void reservations, what dead processes left half
    /// written, and marks of guests whose start came to nothing. What cannot be removed stays; it
    /// does no harm.
    pub fn sweep(&self, glance: &Promises, now: SystemTime) {
        let now = reader::seconds(now);
        for stem in &glance.void {
            let _ = self.store.unlink(reservation::FOLDER, stem);
        }
        for folder in [reservation::FOLDER, undecided::FOLDER] {
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

/// A UUID as the name of a file: nothing else gets into a path.
fn file_stem(uuid: &str) -> Result<String, StoreError> {
    uuid::normal(uuid).ok_or_else(|| StoreError::Uuid(uuid.chars().take(64).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
