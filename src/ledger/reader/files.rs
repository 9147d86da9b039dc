//! Small files of the ledger's folders, by name.

use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use nix::time::{ClockId, clock_gettime};

use crate::hostfs::records::RecordError;
use crate::hostfs::{HostFs, at_path};
use crate::ledger::reader::LedgerError;
use crate::ledger::reader::cache::{Folder, Listed};
use crate::panics::{Bug, guarded};
use crate::xml::XmlError;

/// Largest size in bytes of a file that is read for other guests' sake. A guest of 4,096 vCPUs,
/// each pinned and recorded, has about 1 MiB; a guest with a larger file would make others wait.
pub const MAX_BYTES: u64 = 2 * 1024 * 1024;

/// Most that one reading parses of a folder's files, the smallest files first. The files left over
/// are parsed by the next readings with the same cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtOnce {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Time of the thread after which no further file is parsed; `None`: no bound.
    pub time: Option<Duration>,
}

impl AtOnce {
    /// Bound for files of guests that run or start: what these hold must be known, so there is no
    /// bound of time.
    pub(crate) const HOLDERS: Self = Self {
        bytes: 12 * 1024 * 1024,
        time: None,
    };
    /// Bound for definitions, while a guest's start or the daemon waits: what definitions claim is
    /// only a preference, and any user's are read in another guest's hook. Hundreds of guests take
    /// less. A build without optimisation is many times slower.
    pub(crate) const CLAIMS: Self = Self {
        bytes: 4 * 1024 * 1024,
        time: Some(Duration::from_millis(if cfg!(debug_assertions) {
            500
        } else {
            50
        })),
    };
    /// Bound that lets no unknown file be parsed.
    pub(crate) const NONE: Self = Self { bytes: 0, time: None };
    /// Bound for definitions in a command, for which only its user waits.
    pub(crate) const CLAIMS_OF_ALL: Self = Self {
        bytes: 16 * 1024 * 1024,
        time: None,
    };
}

/// Reason why a file of the ledger does not count. The file is named beside it.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Unread {
    /// Size in bytes of a file that is left to the next reading.
    #[error("not read yet: {0} bytes, beside smaller files of many guests")]
    LeftOver(u64),
    /// Size in bytes of a file that is larger than [`MAX_BYTES`].
    #[error("not read: {0} bytes, more than any guest needs ({MAX_BYTES})")]
    TooLarge(u64),
    /// The file cannot be read; the words of the error, without the path.
    #[error("{0}")]
    File(Arc<str>),
    /// Parsing failed by a bug.
    #[error("failed: {0}")]
    Bug(#[from] Bug),
    /// The file is no XML of its kind.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The file is no record of its kind.
    #[error(transparent)]
    Record(Arc<RecordError>),
}

impl From<io::Error> for Unread {
    fn from(error: io::Error) -> Self {
        Self::File(at_path::io_words_alone(&error).into())
    }
}

impl From<RecordError> for Unread {
    fn from(error: RecordError) -> Self {
        Self::Record(Arc::new(error))
    }
}

/// Parsed file of a folder.
pub(crate) struct Found<'l, T> {
    /// File's name without `.xml` or `.json`: libvirt names files after guests.
    pub stem: &'l str,
    /// Parsed file, or the reason why it counts as unreadable.
    pub said: Result<T, Unread>,
    /// `true` if the file is left to the next reading, as this one has read enough bytes.
    pub left_over: bool,
}

/// Returns the path of a file, for messages.
pub(crate) fn shown(root: &HostFs, folder: &str, stem: &str, extension: &str) -> String {
    let path = root.path(folder).join(format!("{stem}.{extension}"));
    path.display().to_string()
}

/// Reads all files `*.EXTENSION` of a listed folder, by name; of those that are not known yet, the
/// smallest ones, within the bound `at_once`. `parse` gets stem and text. Files that have vanished
/// since are skipped, and so are folders.
pub(crate) fn files<'l, T: Clone>(
    root: &HostFs,
    folder: &str,
    extension: &str,
    now: SystemTime,
    known: &'l mut Folder<T>,
    at_once: AtOnce,
    parse: impl Fn(&str, &str) -> Result<T, Unread>,
) -> Result<Vec<Found<'l, T>>, LedgerError> {
    // Files that may have changed are forgotten first, so that every remembered file may be used
    // below.
    known.keep_listed();
    let watched = known.listing.is_watched();
    let Folder { listing, known } = known;
    // Known files cost nothing; of the others the smallest are the most likely to be real guests.
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
        // The stamp was taken before the file is read: a file written in between has another stamp,
        // and is read next time.
        let before = stamp.and_then(|stamp| known.get(stem, stamp));
        let said = match (before, *stamp) {
            (Some(said), _) => said.clone(),
            // Files that are too large, or too many to read at once, must not delay other guests.
            (None, Some(stamp)) if stamp.size() > MAX_BYTES => Err(Unread::TooLarge(stamp.size())),
            (None, Some(stamp)) if !spent.allows(stamp.size()) => Err(Unread::LeftOver(stamp.size())),
            (None, stamp) => match opened
                .get_or_insert_with(|| root.files_of(folder))
                .read(&format!("{stem}.{extension}"))
            {
                Ok(text) => {
                    // A file on which a bug in virtfit shows counts as unreadable; the other files
                    // are read.
                    let said = guarded(|| parse(stem, &text)).unwrap_or_else(|bug| Err(bug.into()));
                    if let Some(stamp) = stamp {
                        known.put(stem, stamp, now, watched, said.clone());
                    }
                    said
                }
                Err(error) => match error.kind() {
                    // A file that vanished is no error; denied access holds for the whole folder.
                    ErrorKind::NotFound | ErrorKind::InvalidInput => continue,
                    ErrorKind::PermissionDenied => return Err(error.into()),
                    _ => Err(error.into()),
                },
            },
        };
        let left_over = matches!(said, Err(Unread::LeftOver(_)));
        found.push((
            at,
            Found {
                stem,
                said,
                left_over,
            },
        ));
    }
    found.sort_unstable_by_key(|(at, _)| *at);
    Ok(found.into_iter().map(|(_, found)| found).collect())
}

/// Part of a bound that a reading has used.
struct Spent {
    at_once: AtOnce,
    bytes: u64,
    /// Time of the thread when the first file was allowed.
    since: Option<Duration>,
}

impl Spent {
    fn none(at_once: AtOnce) -> Self {
        Self {
            at_once,
            bytes: 0,
            since: None,
        }
    }

    /// Returns `true` if a file of this size in bytes may be parsed, and counts it. Later files of
    /// the same size or larger ones are not allowed either, once one was not.
    fn allows(&mut self, size: u64) -> bool {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.at_once.bytes {
            return false;
        }
        let Some(most) = self.at_once.time else {
            return true;
        };
        // The thread's own time: on a busy machine as much is read as on a quiet one.
        let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        now.saturating_sub(*self.since.get_or_insert(now)) < most
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::hostfs::changed_folders::Folders;
    use crate::ledger::reader::cache::List;

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
        let mut folder: Folder<usize> = Folder::default();
        let later = SystemTime::now() + std::time::Duration::from_secs(9);
        let mut left = Vec::new();
        for _ in 0..3 {
            let mut folders = Folders::default();
            folder
                .listing
                .look(&root, "/", "xml", &mut folders, List::Stamped)
                .unwrap();
            let found = files(
                &root,
                "/",
                "xml",
                later,
                &mut folder,
                AtOnce::HOLDERS,
                |_, text| Ok(text.len()),
            )
            .unwrap();
            assert!(
                found
                    .iter()
                    .any(|file| file.stem == "small" && matches!(file.said, Ok(1)))
            );
            let far = found.iter().find(|file| file.stem == "far").unwrap();
            assert!(matches!(far.said, Err(Unread::TooLarge(_))));
            left.push(found.iter().filter(|file| file.left_over).count());
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
        let mut folder: Folder<usize> = Folder::default();
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
            let mut folders = Folders::default();
            folder
                .listing
                .look(&root, "/", "xml", &mut folders, List::Stamped)
                .unwrap();
            let found = files(&root, "/", "xml", later, &mut folder, at_once, slow).unwrap();
            let stems: Vec<&str> = found.iter().map(|file| file.stem).collect();
            assert_eq!(stems, ["0", "1", "2", "3", "4", "5"]);
            let sizes = found.iter().filter_map(|file| file.said.as_ref().ok().copied());
            read.push(sizes.collect::<Vec<_>>());
        }
        // Two at a time, the smallest first.
        assert_eq!(read, [vec![5, 4], vec![7, 6, 5, 4], vec![9, 8, 7, 6, 5, 4]]);
    }
}
