//! List of a folder's files, as of the last change that was seen in it.
//!
//! A folder without events is not listed again ([`Folders`]).

use std::collections::BTreeSet;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::sync::Arc;

use crate::hostfs::changed_folders::{Folders, News};
use crate::hostfs::{Entry, HostFs, Stamp, stems};

/// Files of one folder, as of the last change that was seen in it.
#[derive(Debug)]
pub(crate) struct Listing {
    /// Folder on the host.
    folder: &'static str,
    /// Extension of the files that count, without the dot.
    extension: &'static str,
    list: List,
    /// Files, sorted by stem.
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
    /// Files that changed since [`Listing::take_touched`].
    touched: Touched,
}

/// Files that changed.
#[derive(Debug)]
pub(crate) enum Touched {
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
        // The folder is sorted by whole names: `web-1.xml` comes before `web.xml`.
        files.sort_unstable_by(|one: &Listed, other| one.stem.cmp(&other.stem));
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
    /// Makes the list of the files `*.EXTENSION` of a folder, before the first look at it.
    pub(crate) fn new(folder: &'static str, extension: &'static str, list: List) -> Self {
        Self {
            folder,
            extension,
            list,
            files: Vec::new(),
            names: None,
            times: 0,
            whole: false,
            watched: false,
            touched: Touched::default(),
        }
    }

    /// Lists the files again, unless the folder was quiet. After any error the folder is listed
    /// again next time.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn look(&mut self, root: &HostFs, folders: &mut Folders) -> io::Result<()> {
        let news = folders.news(root, self.folder);
        self.watched = folders.watches(self.folder);
        match news {
            News::None if self.whole => return Ok(()),
            News::To(names) if self.whole => {
                self.look_at(root, &names);
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
        (self.files, self.whole) = self.list.all(root, self.folder, self.extension)?;
        self.times += u64::from(!self.files.is_empty());
        Ok(())
    }

    /// Lists only the changed files again: mostly one of hundreds.
    fn look_at(&mut self, root: &HostFs, names: &BTreeSet<String>) {
        for name in names {
            // Files with other names are being written; they are renamed once complete.
            let Some(stem) = stems::stem(name, self.extension) else {
                continue;
            };
            self.times += 1;
            self.touched.add(stem);
            let at = self.files.binary_search_by(|file| file.stem.as_str().cmp(stem));
            match (self.list.one(root, self.folder, name, stem), at) {
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

    /// Returns the folder's path on the host, and the files' extension.
    pub(crate) fn kind(&self) -> (&'static str, &'static str) {
        (self.folder, self.extension)
    }

    /// Takes the files that changed since the last call.
    pub(crate) fn take_touched(&mut self) -> Touched {
        std::mem::take(&mut self.touched)
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
