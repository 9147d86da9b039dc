//! What the files of the ledger said when they were last read: a daemon that decides beside
//! hundreds of guests reads again only what changed.
//!
//! A folder in which nothing happened is not listed again ([`Folders`]). A file is taken to be
//! unchanged while inode, size, mtime and ctime are. Those of a file that was changed a moment
//! before it was read prove nothing (the kernel's clock for them ticks every few milliseconds, and
//! inodes are used again): it is read again until it has rested.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;
use std::time::SystemTime;

use crate::hostfs::changed_folders::{Folders, News};
use crate::hostfs::{Entry, HostFs, Stamp};
use crate::ledger::live_pins::Records;
use crate::ledger::reader::Reading;
use crate::ledger::reader::files;
use crate::ledger::reservation::{self, Reservation};
use crate::ledger::status;
use crate::ledger::undecided::Undecided;
use crate::ledger::{Claim, Holder};
use crate::types::ids::KiB;

/// The files of one folder, as they were when something was last seen to happen in it.
#[derive(Debug, Default)]
pub struct Listing {
    /// By name.
    files: Vec<Listed>,
    /// Their names, once somebody asked.
    names: Option<Arc<BTreeSet<String>>>,
    /// How often it was listed: who remembers this number knows whether anything may have changed.
    times: u64,
    /// All that can happen to these files is seen by watching the folder.
    whole: bool,
    /// The folder is watched, too.
    watched: bool,
    /// Files that something happened to since this was asked for.
    touched: Touched,
}

/// Files that something happened to.
#[derive(Debug)]
enum Touched {
    /// Those of these stems.
    Some(BTreeSet<String>),
    /// Any of them.
    Any,
}

impl Default for Touched {
    fn default() -> Self {
        Self::Some(BTreeSet::new())
    }
}

/// One file.
#[derive(Debug, Clone)]
pub struct Listed {
    /// Its name without its extension: libvirt names files after guests.
    pub stem: String,
    /// `None`: it cannot be looked at.
    pub stamp: Option<Stamp>,
}

/// How the files of a folder are listed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum List {
    /// Their text counts.
    Stamped,
    /// Only their names count.
    Named,
}

impl List {
    /// Lists the files `*.EXTENSION` of a folder; and whether all that can happen to them is seen
    /// by watching it.
    fn all(self, root: &HostFs, folder: &str, extension: &str) -> io::Result<(Vec<Listed>, bool)> {
        if self == Self::Named {
            let stems = files::stems(root, folder, extension)?.into_iter();
            return Ok((stems.map(|stem| Listed { stem, stamp: None }).collect(), true));
        }
        let mut files = Vec::new();
        let mut whole = true;
        for entry in root.list_with_metadata(folder)? {
            let Some(stem) = files::stem(&entry.name, extension) else {
                continue;
            };
            if let Some((file, seen)) = listed(stem, &entry) {
                whole &= seen;
                files.push(file);
            }
        }
        Ok((files, whole))
    }

    /// Looks at one file, as [`List::all`] does at all of them; `None`: there is none.
    fn one(self, root: &HostFs, folder: &str, name: &str, stem: &str) -> Option<(Listed, bool)> {
        let path = format!("{folder}/{name}");
        if self == Self::Named {
            let stem = stem.to_string();
            return root.exists(path).then_some((Listed { stem, stamp: None }, true));
        }
        listed(stem, &root.entry(&path)?)
    }
}

/// What is listed of an entry; nothing of a folder.
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
    /// Lists the files `*.EXTENSION` of a folder again, unless it was quiet. Whatever goes wrong,
    /// it is listed again next time.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn look(
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
        // None, as before (mostly as there is no such folder), is no change.
        let before = std::mem::take(&mut self.files);
        self.times += u64::from(!before.is_empty());
        if news == News::Absent {
            return Ok(());
        }
        (self.files, self.whole) = list.all(root, folder, extension)?;
        self.times += u64::from(!self.files.is_empty());
        Ok(())
    }

    /// Looks again at the files that something happened to: of hundreds mostly one.
    fn look_at(
        &mut self,
        root: &HostFs,
        folder: &str,
        extension: &str,
        names: &BTreeSet<String>,
        list: List,
    ) {
        for name in names {
            // Other names are files in work, which are renamed when they are whole.
            let Some(stem) = files::stem(name, extension) else {
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

    /// The files as they were last listed.
    pub fn files(&self) -> &[Listed] {
        &self.files
    }

    /// The files' names.
    pub fn names(&mut self) -> Arc<BTreeSet<String>> {
        let named = || Arc::new(self.files.iter().map(|file| file.stem.clone()).collect());
        Arc::clone(self.names.get_or_insert_with(named))
    }

    /// `true` if all that happens to these files is seen: what was read of them stays true until
    /// [`Listing::look`] tells of it.
    pub fn is_watched(&self) -> bool {
        self.whole && self.watched
    }

    /// A number that is another one as soon as something may have changed.
    pub fn times(&self) -> u64 {
        self.times
    }
}

/// What one folder's files said, by stem.
#[derive(Debug)]
pub struct Folder<T> {
    /// Its files.
    pub listing: Listing,
    /// What they said.
    pub known: Known<T>,
}

/// What files said, by stem.
#[derive(Debug)]
pub struct Known<T>(BTreeMap<String, Said<T>>);

/// What one file said.
#[derive(Debug)]
struct Said<T> {
    stamp: Stamp,
    /// The stamp alone proves that the file is the same.
    rested: bool,
    said: Result<T, String>,
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
    /// What a file said, while it has this stamp.
    pub fn get(&self, stem: &str, stamp: Stamp) -> Option<&Result<T, String>> {
        let known = self.0.get(stem)?;
        (known.stamp == stamp).then_some(&known.said)
    }

    /// Remembers what a file said; not when it had not rested, unless whatever happens to it from
    /// now on is seen.
    pub fn put(&mut self, stem: &str, stamp: Stamp, now: SystemTime, watched: bool, said: Result<T, String>)
    where
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
    /// More than this many are any.
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
    /// Forgets what the files said, as it was not said of themselves alone.
    pub fn forget(&mut self) {
        self.known.0.clear();
    }

    /// Forgets the files that are not there any more, and what may have changed though its stamp is
    /// the same.
    pub fn keep_listed(&mut self) {
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

/// All of the ledger.
#[derive(Debug, Default)]
pub struct Cache {
    /// What happens in its folders.
    pub folders: Folders,
    /// Status files, as they read with `default_page` and `pinned`.
    pub status: Folder<Arc<Holder>>,
    /// Reservations, whether they are void or not.
    pub reservations: Folder<Reservation>,
    /// Marks of guests that started undecided.
    pub undecided: Folder<Undecided>,
    /// Definitions; none of them counted as autostarted.
    pub definitions: Folder<Arc<Claim>>,
    /// Links to the definitions that are started by libvirt.
    pub autostart: Listing,
    /// The masks virtfit set on running guests.
    pub live: Listing,
    /// What `<hugepages/>` without a size means: a parameter of the kernel's start.
    pub default_page: Option<KiB>,
    /// What the files of `live` say.
    pub pinned: Pinned,
    /// All of it together.
    pub last: Option<Last>,
}

/// What the files of live masks say.
#[derive(Debug, Default)]
pub struct Pinned {
    /// [`Listing::times`] of when they were read.
    pub times: Option<u64>,
    /// The masks.
    pub records: Records,
    /// What makes no sense.
    pub warnings: Vec<String>,
}

/// The ledger as it was last put together.
#[derive(Debug)]
pub struct Last {
    /// [`Listing::times`] of all folders.
    pub times: [u64; 6],
    /// The reservations that did not count, by stem. This changes without a file that changes.
    pub void: Vec<String>,
    /// What it is.
    pub reading: Arc<Reading>,
}

impl Cache {
    /// One that watches the folders, for whoever reads them again and again.
    pub fn watching() -> Self {
        Self {
            folders: Folders::watching(),
            ..Self::default()
        }
    }

    /// Whether nothing happened to status files and reservations since this was read, and it was
    /// the last that was.
    pub fn is_as_it_was(&mut self, root: &HostFs, reading: &Arc<Reading>) -> bool {
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

    /// Of when all folders were last listed.
    pub fn times(&self) -> [u64; 6] {
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
