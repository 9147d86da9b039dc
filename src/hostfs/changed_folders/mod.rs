//! News of the ledger's folders since they were last listed, from one inotify on which no thread
//! waits: reading it once replaces a look at each file of each guest.
//!
//! inotify reports changes made on this machine to a folder's entries, by their names in it, in the
//! order in which they happened, and before the process that made them goes on (`inotify(7)`).
//! Changes it cannot report (to a file through a link from elsewhere, or by another folder in the
//! place of this one) are looked for each time.
//!
//! `daemon::watch` has an inotify of its own over some of these folders, on purpose: one queue
//! cannot serve both. The worker sleeps on its queue and drains it when it wakes; a hook drains
//! this one while it decides, and must not take an event away for which the worker would wake.

use std::collections::{BTreeMap, BTreeSet};
use std::io::ErrorKind;
use std::os::unix::fs::MetadataExt;

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use crate::hostfs::HostFs;

/// Size of the buffer for events, in bytes.
const BUFFER: usize = 4 << 10;

/// Watched folders. Without inotify, or by default, a folder never counts as quiet.
#[derive(Debug, Default)]
pub(crate) struct Folders {
    inotify: Option<Inotify>,
    watched: BTreeMap<String, Watched>,
}

/// Watched folder.
#[derive(Debug)]
struct Watched {
    descriptor: WatchDescriptor,
    /// Device and inode of the folder.
    folder: (u64, u64),
    /// Changes since the last [`Folders::news`] of the folder.
    happened: Happened,
}

/// Changes in a folder.
#[derive(Debug, Default)]
enum Happened {
    /// No change.
    #[default]
    Nothing,
    /// Changes to entries of these names.
    To(BTreeSet<String>),
    /// A change that has no name, or one to a name that is not UTF-8.
    Anything,
}

impl Happened {
    fn add(&mut self, name: Option<&str>) {
        match (&mut *self, name) {
            (Self::Anything, _) => {}
            (_, None) => *self = Self::Anything,
            (Self::Nothing, Some(name)) => *self = Self::To(BTreeSet::from([name.to_string()])),
            (Self::To(names), Some(name)) => {
                if !names.contains(name) {
                    names.insert(name.to_string());
                }
            }
        }
    }
}

impl Folders {
    /// Starts an inotify for the folders that [`Folders::news`] will be asked about.
    pub(crate) fn watching() -> Self {
        let inotify = Inotify::init();
        if let Err(error) = &inotify {
            log::debug!("inotify: {error}: the ledger's folders are listed for each decision");
        }
        Self {
            inotify: inotify.ok(),
            watched: BTreeMap::new(),
        }
    }

    /// Reads all events that have happened until now.
    pub(crate) fn take_note(&mut self) {
        let Some(inotify) = &mut self.inotify else {
            return;
        };
        let mut buffer = [0; BUFFER];
        loop {
            match inotify.read_events(&mut buffer) {
                Ok(events) => {
                    for event in events {
                        let lost = event.mask.contains(EventMask::Q_OVERFLOW);
                        for watched in self.watched.values_mut() {
                            if lost {
                                watched.happened = Happened::Anything;
                            } else if watched.descriptor == event.wd {
                                watched.happened.add(event.name.and_then(|name| name.to_str()));
                            }
                        }
                        if event.mask.contains(EventMask::IGNORED) {
                            self.watched.retain(|_, watched| watched.descriptor != event.wd);
                        }
                    }
                }
                Err(error) if error.kind() == ErrorKind::WouldBlock => return,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => {
                    log::debug!("inotify: {error}: the ledger's folders are listed for each decision");
                    *self = Self::default();
                    return;
                }
            }
        }
    }

    /// Returns `true` if all changes to a folder's entries are seen from the last [`Folders::news`]
    /// on.
    pub(crate) fn watches(&self, folder: &str) -> bool {
        self.watched.contains_key(folder)
    }

    /// Returns the changes in a folder up to the last [`Folders::take_note`], since the last call
    /// for this folder.
    pub(crate) fn news(&mut self, root: &HostFs, folder: &str) -> News {
        let Some(inotify) = &mut self.inotify else {
            return News::Some;
        };
        let meta = match root.metadata_opt(folder) {
            Ok(Some(meta)) => meta,
            other => {
                // The next folder of this name will be another one.
                if let Some(gone) = self.watched.remove(folder) {
                    let _ = inotify.watches().remove(gone.descriptor);
                }
                return match other {
                    Ok(_) => News::Absent,
                    Err(_) => News::Some,
                };
            }
        };
        let now = (meta.dev(), meta.ino());
        if let Some(watched) = self.watched.get_mut(folder) {
            if watched.folder == now {
                return match std::mem::take(&mut watched.happened) {
                    Happened::Nothing => News::None,
                    Happened::To(names) => News::To(names),
                    Happened::Anything => News::Some,
                };
            }
            let _ = inotify.watches().remove(watched.descriptor.clone());
            self.watched.remove(folder);
        }
        let path = root.path(folder);
        let mask = WatchMask::CREATE
            | WatchMask::DELETE
            | WatchMask::MOVE
            | WatchMask::MODIFY
            | WatchMask::CLOSE_WRITE
            | WatchMask::ATTRIB
            | WatchMask::DELETE_SELF
            | WatchMask::MOVE_SELF
            | WatchMask::ONLYDIR;
        if let Ok(descriptor) = inotify.watches().add(&path, mask)
            && std::fs::metadata(&path).is_ok_and(|meta| (meta.dev(), meta.ino()) == now)
        {
            let watched = Watched {
                descriptor,
                folder: now,
                happened: Happened::Nothing,
            };
            self.watched.insert(folder.to_string(), watched);
        }
        News::Some
    }
}

/// News of a folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum News {
    /// Nothing changed.
    None,
    /// Entries of these names changed, and no others.
    To(BTreeSet<String>),
    /// Something may have changed: the folder must be listed after this answer.
    Some,
    /// The folder is not there.
    Absent,
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
