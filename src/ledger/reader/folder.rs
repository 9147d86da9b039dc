//! Parsed files of one of the ledger's folders: a daemon that decides beside hundreds of guests
//! reads only changed files again.
//!
//! A file counts as unchanged while inode, size, mtime and ctime are equal. For a file that was
//! changed a moment before it was read these prove nothing (the kernel's clock for them ticks every
//! few milliseconds, and inodes are used again): it is read again until it has rested.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::SystemTime;

use crate::hostfs::changed_folders::Folders;
use crate::hostfs::{HostFs, Stamp};
use crate::ledger::reader::at_once::{AtOnce, Spent};
use crate::ledger::reader::listing::{List, Listed, Listing, Touched};
use crate::ledger::reader::unread::{MAX_BYTES, Unread};
use crate::panics::guarded;

/// Parsed files of one folder, by stem.
#[derive(Debug)]
pub(crate) struct Folder<T> {
    listing: Listing,
    known: Known<T>,
}

/// Parsed files, by stem.
#[derive(Debug)]
struct Known<T>(BTreeMap<String, Said<T>>);

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

impl<T> Known<T> {
    /// Returns a parsed file if its stamp is still this one.
    fn get(&self, stem: &str, stamp: Stamp) -> Option<&Result<T, Unread>> {
        let known = self.0.get(stem)?;
        (known.stamp == stamp).then_some(&known.said)
    }

    /// Remembers a parsed file. A file that had not rested is remembered only if every later change
    /// of it is seen.
    fn put(&mut self, stem: &str, stamp: Stamp, now: SystemTime, watched: bool, said: Result<T, Unread>)
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

/// Parsed file of a folder.
pub(crate) struct Found<'l, T> {
    /// Folder on the host, and extension.
    kind: (&'static str, &'static str),
    /// File's name without its extension: libvirt names files after guests.
    pub stem: &'l str,
    /// Parsed file, or the reason why it counts as unreadable.
    pub said: Result<T, Unread>,
}

impl<T> Found<'_, T> {
    /// Returns `true` if the file is left to the next reading, as this one has read enough.
    pub(crate) fn is_left_over(&self) -> bool {
        matches!(self.said, Err(Unread::LeftOver(_)))
    }

    /// Returns the file's path, for messages.
    pub(crate) fn path(&self, root: &HostFs) -> String {
        let (folder, extension) = self.kind;
        let path = root.path(folder).join(format!("{}.{extension}", self.stem));
        path.display().to_string()
    }
}

impl<T> Folder<T> {
    /// Makes the folder of the files `*.EXTENSION`, none of them read.
    pub(crate) fn new(folder: &'static str, extension: &'static str) -> Self {
        Self {
            listing: Listing::new(folder, extension, List::Stamped),
            known: Known::default(),
        }
    }

    /// Lists the files again, unless the folder was quiet.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn look(&mut self, root: &HostFs, folders: &mut Folders) -> io::Result<()> {
        self.listing.look(root, folders)
    }

    /// Returns [`Listing::times`] of the files.
    pub(crate) fn times(&self) -> u64 {
        self.listing.times()
    }

    /// Returns the files' names without their extension.
    pub(crate) fn names(&mut self) -> Arc<BTreeSet<String>> {
        self.listing.names()
    }

    /// Returns whether a parsed file is remembered.
    pub(crate) fn has(&self, stem: &str) -> bool {
        self.known.0.contains_key(stem)
    }

    /// Forgets parsed files that depend on more than their own text, as far as that changed.
    pub(crate) fn forget(&mut self, changed: impl Fn(&T) -> bool) {
        let stays = |said: &Said<T>| !said.said.as_ref().is_ok_and(&changed);
        self.known.0.retain(|_, said| stays(said));
    }

    /// Forgets files that are gone, and files that may have changed without a change of their
    /// stamp.
    fn keep_listed(&mut self) {
        match self.listing.take_touched() {
            Touched::Any => self.known.0.retain(|_, known| known.rested),
            Touched::Some(stems) => {
                for stem in stems {
                    self.known.0.remove(&stem);
                }
            }
        }
        let files = self.listing.files();
        if self.known.0.len() > files.len() {
            let stems: BTreeSet<&str> = files.iter().map(|file| file.stem.as_str()).collect();
            self.known.0.retain(|stem, _| stems.contains(stem.as_str()));
        }
    }

    /// Reads all listed files, by name; of those that are not known yet, the smallest ones, within
    /// the bound `at_once`. `parse` gets stem and text. Files that have vanished since are skipped,
    /// and so are folders.
    ///
    /// # Errors
    /// Access to a file is denied.
    pub(crate) fn read(
        &mut self,
        root: &HostFs,
        now: SystemTime,
        at_once: AtOnce,
        parse: impl Fn(&str, &str) -> Result<T, Unread>,
    ) -> io::Result<Vec<Found<'_, T>>>
    where
        T: Clone,
    {
        // Files that may have changed are forgotten first, so that every remembered file may be
        // used below.
        self.keep_listed();
        let watched = self.listing.is_watched();
        let kind @ (folder, extension) = self.listing.kind();
        let Folder { listing, known } = self;
        // Known files cost nothing; of the others the smallest are the most likely to be real
        // guests.
        let mut order: Vec<(u64, usize)> = Vec::with_capacity(listing.files().len());
        for (at, Listed { stem, stamp }) in listing.files().iter().enumerate() {
            let unknown = stamp.filter(|stamp| known.get(stem, *stamp).is_none());
            order.push((unknown.map_or(0, |stamp| stamp.size()), at));
        }
        order.sort_unstable();
        let mut found = Vec::with_capacity(order.len());
        let mut spent = Spent::none(at_once);
        let mut opened = None;
        for (_, at) in order {
            let Some(Listed { stem, stamp }) = listing.files().get(at) else {
                continue;
            };
            // The stamp was taken before the file is read: a file written in between has another
            // stamp, and is read next time.
            let before = stamp.and_then(|stamp| known.get(stem, stamp));
            let said = match (before, *stamp) {
                (Some(said), _) => said.clone(),
                // Files that are too large, or too many to read at once, must not delay other
                // guests.
                (None, Some(stamp)) if stamp.size() > MAX_BYTES => Err(Unread::TooLarge(stamp.size())),
                (None, Some(stamp)) if !spent.allows(stamp.size()) => Err(Unread::LeftOver(stamp.size())),
                (None, stamp) => match opened
                    .get_or_insert_with(|| root.files_of(folder))
                    .read(&format!("{stem}.{extension}"))
                {
                    Ok(text) => {
                        // A file on which a bug in virtfit shows counts as unreadable; the others
                        // are read.
                        let said = guarded(|| parse(stem, &text)).unwrap_or_else(|bug| Err(bug.into()));
                        if let Some(stamp) = stamp {
                            known.put(stem, stamp, now, watched, said.clone());
                        }
                        said
                    }
                    Err(error) => match error.kind() {
                        // A file that vanished is no error; denied access holds for the folder.
                        ErrorKind::NotFound | ErrorKind::InvalidInput => continue,
                        ErrorKind::PermissionDenied => return Err(error),
                        _ => Err(error.into()),
                    },
                },
            };
            found.push((at, Found { kind, stem, said }));
        }
        found.sort_unstable_by_key(|(at, _)| *at);
        Ok(found.into_iter().map(|(_, found)| found).collect())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use std::time::Duration;

    use nix::time::{ClockId, clock_gettime};

    #[test]
    fn large_files_are_left_to_the_next_readings() {
        let dir = tempfile::tempdir().unwrap();
        let mib = 1 << 20;
        // 13.5 MiB to read; one of the files is above the limit and never read.
        for (name, size) in [("far", 3 * mib), ("small", 1), ("half", mib / 2)] {
            std::fs::write(dir.path().join(format!("{name}.xml")), vec![b' '; size]).unwrap();
        }
        for number in 0..13 {
            std::fs::write(dir.path().join(format!("{number}.xml")), vec![b' '; mib]).unwrap();
        }
        let root = HostFs::new(dir.path());
        let mut folder: Folder<usize> = Folder::new("/", "xml");
        let later = SystemTime::now() + std::time::Duration::from_secs(9);
        let mut left = Vec::new();
        for _ in 0..3 {
            folder.look(&root, &mut Folders::default()).unwrap();
            let found = folder
                .read(&root, later, AtOnce::HOLDERS, |_, text| Ok(text.len()))
                .unwrap();
            assert!(
                found
                    .iter()
                    .any(|file| file.stem == "small" && matches!(file.said, Ok(1)))
            );
            let far = found.iter().find(|file| file.stem == "far").unwrap();
            assert!(matches!(far.said, Err(Unread::TooLarge(_))));
            left.push(found.iter().filter(|file| file.is_left_over()).count());
        }
        assert_eq!(left, [2, 0, 0]);
    }

    #[test]
    fn files_that_take_long_are_left_to_the_next_readings() {
        let dir = tempfile::tempdir().unwrap();
        for number in 0..6 {
            std::fs::write(dir.path().join(format!("{number}.xml")), vec![b' '; 9 - number]).unwrap();
        }
        let root = HostFs::new(dir.path());
        let mut folder: Folder<usize> = Folder::new("/", "xml");
        let later = SystemTime::now() + Duration::from_secs(9);
        let at_once = AtOnce {
            bytes: u64::MAX,
            time: Some(Duration::from_millis(30)),
        };
        let thread_time = || Duration::from(clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).unwrap());
        let slow = |_: &str, text: &str| {
            let since = thread_time();
            while thread_time() - since < Duration::from_millis(20) {}
            Ok(text.len())
        };
        let mut read = Vec::new();
        for _ in 0..3 {
            folder.look(&root, &mut Folders::default()).unwrap();
            let found = folder.read(&root, later, at_once, slow).unwrap();
            let stems: Vec<&str> = found.iter().map(|file| file.stem).collect();
            assert_eq!(stems, ["0", "1", "2", "3", "4", "5"]);
            let sizes = found.iter().filter_map(|file| file.said.as_ref().ok().copied());
            read.push(sizes.collect::<Vec<_>>());
        }
        // Two at a time, the smallest first.
        assert_eq!(read, [vec![5, 4], vec![7, 6, 5, 4], vec![9, 8, 7, 6, 5, 4]]);
    }
}
