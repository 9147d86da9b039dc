//! Small files of the ledger's folders, by name.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::SystemTime;

use crate::hostfs::records::RecordError;
use crate::hostfs::{HostFs, at_path};
use crate::ledger::reader::LedgerError;
use crate::ledger::reader::cache::{Folder, Known, Listed};
use crate::panics::{Bug, guarded};
use crate::xml::XmlError;

/// Largest size in bytes of a file that is read for other guests' sake. A guest of 4,096 vCPUs,
/// each pinned and recorded, has about 1 MiB; a guest with a larger file would make others wait.
pub const MAX_BYTES: u64 = 2 * 1024 * 1024;
/// Largest number of bytes of a folder's files that one reading parses, the smallest files first.
/// The files left over are parsed by the next readings with the same cache.
pub(crate) const MAX_BYTES_AT_ONCE: u64 = 12 * 1024 * 1024;
/// The same for definitions: what they claim is only a preference, and any user's definitions are
/// read in another guest's hook. Hundreds of guests have less.
pub(crate) const MAX_DEFINITIONS_AT_ONCE: u64 = 4 * 1024 * 1024;

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
/// smallest ones up to `at_once` bytes. `parse` gets stem and text. Files that have vanished since
/// are skipped, and so are folders.
pub(crate) fn files<'l, T: Clone>(
    root: &HostFs,
    folder: &str,
    extension: &str,
    now: SystemTime,
    known: &'l mut Folder<T>,
    at_once: u64,
    parse: impl Fn(&str, &str) -> Result<T, Unread>,
) -> Result<Vec<Found<'l, T>>, LedgerError> {
    // Files that may have changed are forgotten first, so that every remembered file may be used
    // below.
    known.keep_listed();
    let watched = known.listing.is_watched();
    let Folder { listing, known } = known;
    let mut found = Vec::with_capacity(listing.files().len());
    let left = left_over(listing.files(), known, at_once);
    let mut opened = None;
    for Listed { stem, stamp } in listing.files() {
        // The stamp was taken before the file is read: a file written in between has another stamp,
        // and is read next time.
        let before = stamp.and_then(|stamp| known.get(stem, stamp));
        let said = match before {
            Some(said) => said.clone(),
            // Files that are too large, or too many to read at once, must not delay other guests.
            None if stamp.is_some_and(|stamp| stamp.size() > MAX_BYTES) || left.contains(stem) => {
                let size = stamp.map_or(0, |stamp| stamp.size());
                let left_over = left.contains(stem);
                let why = match left_over {
                    true => Unread::LeftOver(size),
                    false => Unread::TooLarge(size),
                };
                found.push(Found {
                    stem,
                    said: Err(why),
                    left_over,
                });
                continue;
            }
            None => match opened
                .get_or_insert_with(|| root.files_of(folder))
                .read(&format!("{stem}.{extension}"))
            {
                Ok(text) => {
                    // A file on which a bug in virtfit shows counts as unreadable; the other files
                    // are read.
                    let said = guarded(|| parse(stem, &text)).unwrap_or_else(|bug| Err(bug.into()));
                    if let Some(stamp) = stamp {
                        known.put(stem, *stamp, now, watched, said.clone());
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
        found.push(Found {
            stem,
            said,
            left_over: false,
        });
    }
    Ok(found)
}

/// Returns the stems of the files to leave to the next reading: the largest ones, if all unknown
/// files together exceed `at_once` bytes.
fn left_over<T>(files: &[Listed], known: &Known<T>, at_once: u64) -> BTreeSet<String> {
    let unknown = files.iter().filter_map(|Listed { stem, stamp }| {
        let stamp = (*stamp)?;
        let counts = stamp.size() <= MAX_BYTES && known.get(stem, stamp).is_none();
        counts.then(|| (stamp.size(), stem.as_str()))
    });
    let mut unknown: Vec<(u64, &str)> = unknown.collect();
    let all = unknown
        .iter()
        .fold(0u64, |sum, (size, _)| sum.saturating_add(*size));
    if all <= at_once {
        return BTreeSet::new();
    }
    unknown.sort_unstable();
    let mut sum = 0u64;
    let beyond = unknown.iter().filter(|(size, _)| {
        sum = sum.saturating_add(*size);
        sum > at_once
    });
    beyond.map(|(_, stem)| (*stem).to_string()).collect()
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
                MAX_BYTES_AT_ONCE,
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
}
