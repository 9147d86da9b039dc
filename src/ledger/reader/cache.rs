//! Parsed files of the ledger from the last reading: a daemon that decides beside hundreds of
//! guests reads only changed files again.
//!
//! A folder without events is not listed again ([`Folders`]). A file counts as unchanged while
//! inode, size, mtime and ctime are equal. For a file that was changed a moment before it was read
//! these prove nothing (the kernel's clock for them ticks every few milliseconds, and inodes are
//! used again): it is read again until it has rested.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::hostfs::changed_folders::{Folders, News};
use crate::hostfs::{Entry, HostFs, Stamp, stems};
use crate::ledger::claims::Written;
use crate::ledger::live_pins::Records;
use crate::ledger::reader::Reading;
use crate::ledger::reader::files::Unread;
use crate::ledger::reader::judged::Judged;
use crate::ledger::reservation::{self, Reservation};
use crate::ledger::status;
use crate::ledger::status::Status;
use crate::ledger::undecided::Undecided;
use crate::ledger::{Claim, Holder};
use crate::types::ids::KiB;

/// Files of one folder, as of the last change that was seen in it.
#[derive(Debug, Default)]
pub(crate) struct Listing {
    /// Files, sorted by name.
    files: Vec<Listed>,
    /// Names of the files, once they were asked for.
    names: Option<Arc<BTreeSet<String>>>,
    /// Number that grows with each change: a caller that remembers it sees whether files may have
    /// changed.
    times: u64,
    /// `true` if watching the folder shows every change of these files.
    whole: bool,
    /// `true` if the folder is watched.
    watched: bool,
    /// Files that changed since [`Folder::keep_listed`] took this.
    touched: Touched,
}

/// Files that changed.
#[derive(Debug)]
enum Touched {
    /// Files of these stems.
    Some(BTreeSet<String>),
    /// Possibly any file.
    Any,
}

impl Default for Touched {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

/// File of a listing.
#[derive(Debug, Clone)]
pub(crate) struct Listed {
    /// File's name without its extension: libvirt names files after guests.
    pub stem: String,
    /// Stamp; `None` if `stat` fails.
    pub stamp: Option<Stamp>,
}

/// Way in which the files of a folder are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum List {
    /// With stamps, as the files' text counts.
    Stamped,
    /// By name alone, as only the names count.
    Named,
}

impl List {
    /// Lists the files `*.EXTENSION` of a folder. The second value is `true` if watching the folder
    /// shows every change of these files.
    fn all(self, root: &HostFs, folder: &str, extension: &str) -> io::Result<(Vec<Listed>, bool)> {
        if self == Self::Named {
            let stems = stems::stems(root, folder, extension)?.into_iter();
            return Ok((stems.map(|stem| Listed { stem, stamp: None }).collect(), true));
        }
        let mut files = Vec::new();
        let mut whole = true;
        for entry in root.list_with_metadata(folder)? {
            let Some(stem) = stems::stem(&entry.name, extension) else {
                continue;
            };
            if let Some((file, seen)) = listed(stem, &entry) {
                whole &= seen;
                files.push(file);
            }
        }
        Ok((files, whole))
    }

    /// Lists one file as [`List::all`] lists all of them; `None` if there is none.
    fn one(self, root: &HostFs, folder: &str, name: &str, stem: &str) -> Option<(Listed, bool)> {
        let path = format!("{folder}/{name}");
        if self == Self::Named {
            let stem = stem.to_string();
            return root.exists(path).then_some((Listed { stem, stamp: None }, true));
        }
        listed(stem, &root.entry(&path)?)
    }
}

/// Returns the entry's file with its stamp; `None` for anything but a file. The second value is
/// `false` for links and for files with several names, whose changes may happen in other folders.
fn listed(stem: &str, entry: &Entry) -> Option<(Listed, bool)> {
    let stamp = match &entry.meta {
        Ok(meta) if !meta.is_file() => return None,
        Ok(meta) => Some(Stamp::of(meta)),
        Err(_) => None,
    };
    let seen = !entry.link && entry.meta.as_ref().is_ok_and(|meta| meta.nlink() == 1);
    let stem = stem.to_string();
    Some((Listed { stem, stamp }, seen))
}

impl Listing {
    /// Lists the files `*.EXTENSION` of a folder again, unless the folder was quiet. After any
    /// error the folder is listed again next time.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn look(
        &mut self,
        root: &HostFs,
        folder: &str,
        extension: &str,
        folders: &mut Folders,
        list: List,
    ) -> io::Result<()> {
        let news = folders.news(root, folder);
        self.watched = folders.watches(folder);
        match news {
            News::None if self.whole => return Ok(()),
            News::To(names) if self.whole => {
                self.look_at(root, folder, extension, &names, list);
                return Ok(());
            }
            _ => {}
        }
        self.whole = false;
        self.names = None;
        self.touched = Touched::Any;
        // A list that was empty and stays so (mostly because the folder is missing) is no change.
        let before = std::mem::take(&mut self.files);
        self.times += u64::from(!before.is_empty());
        if news == News::Absent {
            return Ok(());
        }
        (self.files, self.whole) = list.all(root, folder, extension)?;
        self.times += u64::from(!self.files.is_empty());
        Ok(())
    }

    /// Lists only the changed files again: mostly one of hundreds.
    fn look_at(
        &mut self,
        root: &HostFs,
        folder: &str,
        extension: &str,
        names: &BTreeSet<String>,
        list: List,
    ) {
        for name in names {
            // Files with other names are being written; they are renamed once complete.
            let Some(stem) = stems::stem(name, extension) else {
                continue;
            };
            self.times += 1;
            self.touched.add(stem);
            let at = self.files.binary_search_by(|file| file.stem.as_str().cmp(stem));
            match (list.one(root, folder, name, stem), at) {
                (Some((file, seen)), at) => {
                    self.whole &= seen;
                    match at {
                        Ok(at) => {
                            if let Some(old) = self.files.get_mut(at) {
                                *old = file;
                            }
                        }
                        Err(at) => {
                            self.files.insert(at, file);
                            self.names = None;
                        }
                    }
                }
                (None, Ok(at)) => {
                    self.files.remove(at);
                    self.names = None;
                }
                (None, Err(_)) => {}
            }
        }
    }

    /// Returns the files as they were last listed.
    pub(crate) fn files(&self) -> &[Listed] {
        &self.files
    }

    /// Returns the files' names.
    pub(crate) fn names(&mut self) -> Arc<BTreeSet<String>> {
        let named = || Arc::new(self.files.iter().map(|file| file.stem.clone()).collect());
        Arc::clone(self.names.get_or_insert_with(named))
    }

    /// Returns `true` if every change of these files is seen: a parsed file stays valid until
    /// [`Listing::look`] reports a change.
    pub(crate) fn is_watched(&self) -> bool {
        self.whole && self.watched
    }

    /// Returns a number that differs as soon as files may have changed.
    pub(crate) fn times(&self) -> u64 {
        self.times
    }
}

/// Parsed files of one folder, by stem.
#[derive(Debug)]
pub(crate) struct Folder<T> {
    /// List of the files.
    pub listing: Listing,
    /// Parsed files.
    pub known: Known<T>,
}

/// Parsed files, by stem.
#[derive(Debug)]
pub(crate) struct Known<T>(BTreeMap<String, Said<T>>);

/// Parsed file, or the error of parsing.
#[derive(Debug)]
struct Said<T> {
    stamp: Stamp,
    /// `true` if the stamp alone proves that the file is unchanged.
    rested: bool,
    said: Result<T, Unread>,
}

impl<T> Default for Known<T> {
    fn default() -> Self {
        Self(BTreeMap::new())
    }
}

impl<T> Default for Folder<T> {
    fn default() -> Self {
        Self {
            listing: Listing::default(),
            known: Known::default(),
        }
    }
}

impl<T> Known<T> {
    /// Returns a parsed file if its stamp is still this one.
    pub(crate) fn get(&self, stem: &str, stamp: Stamp) -> Option<&Result<T, Unread>> {
        let known = self.0.get(stem)?;
        (known.stamp == stamp).then_some(&known.said)
    }

    /// Returns whether a parsed file is remembered.
    pub(crate) fn has(&self, stem: &str) -> bool {
        self.0.contains_key(stem)
    }

    /// Remembers a parsed file. A file that had not rested is remembered only if every later change
    /// of it is seen.
    pub(crate) fn put(
        &mut self,
        stem: &str,
        stamp: Stamp,
        now: SystemTime,
        watched: bool,
        said: Result<T, Unread>,
    ) where
        T: Clone,
    {
        let rested = stamp.rested(now);
        if rested || watched {
            self.0.insert(stem.to_string(), Said { stamp, rested, said });
        } else {
            self.0.remove(stem);
        }
    }
}

impl Touched {
    /// Largest number of stems that are remembered; beyond it, any file may have changed.
    const MOST: usize = 1024;

    fn add(&mut self, stem: &str) {
        if let Self::Some(stems) = self {
            stems.insert(stem.to_string());
            if stems.len() > Self::MOST {
                *self = Self::Any;
            }
        }
    }
}

impl<T> Folder<T> {
    /// Forgets all parsed files, because they depend on more than their own text.
    pub(crate) fn forget(&mut self) {
        self.known.0.clear();
    }

    /// Forgets files that are gone, and files that may have changed without a change of their
    /// stamp.
    pub(crate) fn keep_listed(&mut self) {
        match std::mem::take(&mut self.listing.touched) {
            Touched::Any => self.known.0.retain(|_, known| known.rested),
            Touched::Some(stems) => {
                for stem in stems {
                    self.known.0.remove(&stem);
                }
            }
        }
        let files = &self.listing.files;
        if self.known.0.len() > files.len() {
            let stems: BTreeSet<&str> = files.iter().map(|file| file.stem.as_str()).collect();
            self.known.0.retain(|stem, _| stems.contains(stem.as_str()));
        }
    }
}

/// Parsed files of the whole ledger.
#[derive(Debug, Default)]
pub(crate) struct Cache {
    /// Events in the ledger's folders.
    pub folders: Folders,
    /// Status files, as parsed with `default_page` and `pinned`.
    pub status: Folder<Arc<Status>>,
    /// Holders that follow from these by the last policy.
    pub holders: Judged<Status, Arc<Holder>>,
    /// Reservations, void ones included.
    pub reservations: Folder<Reservation>,
    /// Marks of guests that started undecided.
    pub undecided: Folder<Undecided>,
    /// Pins that virtfit wrote into definitions.
    pub definitions: Folder<Arc<Written>>,
    /// Claims that follow from these by the last policy.
    pub claims: Judged<Written, Option<Claim>>,
    /// Links to the definitions that libvirt starts by itself.
    pub autostart: Listing,
    /// Files of live records.
    pub live: Listing,
    /// Huge page size of `<hugepages/>` without a size: a parameter of the kernel's start.
    pub default_page: Option<KiB>,
    /// Live records, as read from the files of `live`.
    pub pinned: Pinned,
    /// Last reading of the whole ledger.
    pub last: Option<Last>,
}

/// Live records as read.
#[derive(Debug, Default)]
pub(crate) struct Pinned {
    /// [`Listing::times`] at the reading.
    pub times: Option<u64>,
    /// Live records.
    pub records: Records,
    /// Warnings about malformed files.
    pub warnings: Vec<String>,
}

/// Last reading of the ledger.
#[derive(Debug)]
pub(crate) struct Last {
    /// [`Listing::times`] of all folders.
    pub times: [u64; 6],
    /// Void reservations, by stem. A reservation becomes void without a change of its file.
    pub void: Vec<String>,
    /// Digest of the policy that judged the claims.
    pub policy: String,
    /// Reading itself.
    pub reading: Arc<Reading>,
}

impl Cache {
    /// Lists the folders that each start changes: status files and reservations.
    ///
    /// # Errors
    /// A folder cannot be read.
    pub(crate) fn list_starts(&mut self, root: &HostFs) -> io::Result<()> {
        let folders = &mut self.folders;
        self.status
            .listing
            .look(root, status::FOLDER, "xml", folders, List::Stamped)?;
        self.reservations
            .listing
            .look(root, reservation::FOLDER, "json", folders, List::Stamped)?;
        Ok(())
    }

    /// Makes a cache that watches the folders, for callers that read them again and again.
    pub(crate) fn watching() -> Self {
        Self {
            folders: Folders::watching(),
            ..Self::default()
        }
    }

    /// Returns `true` if `reading` was the last one and no status file or reservation changed
    /// since.
    pub(crate) fn is_as_it_was(&mut self, root: &HostFs, reading: &Arc<Reading>) -> bool {
        let Some(last) = self
            .last
            .as_ref()
            .filter(|last| Arc::ptr_eq(&last.reading, reading))
        else {
            return false;
        };
        let times = last.times;
        self.folders.take_note();
        let folders = &mut self.folders;
        let looked = self
            .status
            .listing
            .look(root, status::FOLDER, "xml", folders, List::Stamped)
            .and_then(|()| {
                let listing = &mut self.reservations.listing;
                listing.look(root, reservation::FOLDER, "json", folders, List::Stamped)
            });
        looked.is_ok() && self.times() == times
    }

    /// Returns `true` if the last reading left no file to the next one.
    pub(crate) fn is_whole(&self) -> bool {
        self.last.is_some()
    }

    /// Returns [`Listing::times`] of all folders.
    pub(crate) fn times(&self) -> [u64; 6] {
        [
            self.status.listing.times(),
            self.reservations.listing.times(),
            self.undecided.listing.times(),
            self.definitions.listing.times(),
            self.autostart.times(),
            self.live.times(),
        ]
    }
}
