//! Record of what a computation read, to check its inputs without computing again: while all inputs
//! are equal, so is the result.

use std::ffi::OsString;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crate::hostfs::{HostFs, MAX_BYTES, Stamp, optional};

/// All reads of a computation, in order.
#[derive(Debug, Default)]
pub(crate) struct ReadSet(Vec<Step>);

/// Shared record that [`HostFs::note`] adds reads to.
pub(crate) type Notes = Arc<Mutex<Vec<Step>>>;

/// One read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// File with its text; `None`: it was absent.
    Text(PathBuf, Option<Vec<u8>>),
    /// File with its first line; `None`: it was absent.
    Line(PathBuf, Option<Vec<u8>>),
    /// Folder and the names in it in the folder's own order, each followed by a zero byte.
    Names(PathBuf, Vec<u8>),
    /// Path, and `true` if it existed, links not followed.
    There(PathBuf, bool),
    /// Path with the result of `stat`, links followed; `None`: it was absent.
    Stat(PathBuf, Option<Stamp>),
    /// Read that cannot be checked: the result has to be computed again.
    Unknown,
}

impl HostFs {
    /// Runs `work` with this host and records what it reads.
    pub(crate) fn trace<T>(&self, work: impl FnOnce(&Self) -> T) -> (T, ReadSet) {
        let notes = Notes::default();
        let traced = Self {
            notes: Some(Arc::clone(&notes)),
            ..self.clone()
        };
        let made = work(&traced);
        let steps = std::mem::take(&mut *notes.lock().unwrap_or_else(PoisonError::into_inner));
        (made, ReadSet(steps))
    }

    /// Reads the host without recording, for a file that changes only together with another file
    /// that is recorded.
    #[must_use]
    pub(crate) fn unnoted(&self) -> Self {
        Self {
            notes: None,
            ..self.clone()
        }
    }

    pub(crate) fn note(&self, step: impl FnOnce() -> Step) {
        if let Some(notes) = &self.notes {
            notes.lock().unwrap_or_else(PoisonError::into_inner).push(step());
        }
    }
}

impl ReadSet {
    /// Returns `true` if `work` would read equal inputs now.
    pub(crate) fn is_same(&self, root: &HostFs) -> bool {
        self.0.iter().all(|step| step.is_same(root))
    }
}

impl Step {
    fn is_same(&self, root: &HostFs) -> bool {
        match self {
            Self::Text(path, said) => reads(root, path, said.as_deref(), |text| text),
            Self::Line(path, said) => reads(root, path, said.as_deref(), first_line),
            Self::Names(path, names) => root.names(path).is_ok_and(|now| now == *names),
            Self::There(path, there) => root.exists(path) == *there,
            Self::Stat(path, stamp) => stamp_of(root, path).is_ok_and(|now| now == *stamp),
            Self::Unknown => false,
        }
    }
}

/// Returns the stamp of a file; `None` if it is absent.
fn stamp_of(root: &HostFs, path: &Path) -> io::Result<Option<Stamp>> {
    let meta = root.metadata_opt(path)?;
    Ok(meta.as_ref().map(Stamp::of))
}

/// Returns whether a part of a file's text is still `said`.
fn reads(root: &HostFs, path: &Path, said: Option<&[u8]>, part: fn(&[u8]) -> &[u8]) -> bool {
    let same = |text: &[u8]| said == Some(part(text));
    if let Some(same) = root
        .open
        .as_ref()
        .and_then(|open| open.with(path, MAX_BYTES, same))
    {
        return same;
    }
    match optional(root.read_bounded(path)) {
        Ok(Some(text)) => same(&text),
        Ok(None) => said.is_none(),
        Err(_) => false,
    }
}

/// Returns a text's first line, with its line end.
pub(crate) fn first_line(text: &[u8]) -> &[u8] {
    let end = text.iter().position(|byte| *byte == b'\n');
    end.and_then(|end| text.get(..=end)).unwrap_or(text)
}

/// Makes the step for a read of a file, from its result.
pub(crate) fn of_file(
    make: fn(PathBuf, Option<Vec<u8>>) -> Step,
    path: &Path,
    looked: Result<&[u8], &io::Error>,
) -> Step {
    match looked {
        Ok(bytes) => make(path.to_path_buf(), Some(bytes.to_vec())),
        Err(error) if is_absent(error) => make(path.to_path_buf(), None),
        Err(_) => Step::Unknown,
    }
}

/// Returns whether an error of the kernel means that the file is absent.
pub(crate) fn is_absent(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory)
}

/// Splits names that are each followed by a zero byte; names that are not UTF-8 are left out.
pub(crate) fn split(names: &[u8]) -> Vec<String> {
    names
        .split_inclusive(|byte| *byte == 0)
        .filter_map(|name| name.strip_suffix(&[0]))
        .filter_map(|name| std::str::from_utf8(name).ok().map(str::to_string))
        .collect()
}

/// Joins names, each followed by a zero byte: the reverse of [`split`].
pub(crate) fn join(names: Vec<OsString>) -> Vec<u8> {
    let mut joined = Vec::new();
    for name in names {
        joined.extend_from_slice(name.as_encoded_bytes());
        joined.push(0);
    }
    joined
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    #[test]
    fn a_trail_is_the_same_until_something_on_it_changes() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        let write = |path: &str, text: &str| {
            let path = base.join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        write("sys/a", "1\n");
        write("sys/meminfo", "total 7\nfree 1\n");
        write("etc/image", "x");
        symlink("image", base.join("etc/link")).unwrap();
        let look = |root: &HostFs| {
            let _ = root.read_opt("/sys/a");
            let _ = root.read_opt("/sys/none");
            let _ = root.first_line("/sys/meminfo");
            let _ = root.list("/sys");
            let _ = root.list("/sys/nowhere");
            let _ = root.metadata("/etc/link");
            root.exists("/etc/link");
            root.exists("/etc/autostart");
            root.unnoted().read_opt("/sys/unnoted")
        };
        // change, and whether it is on the trail
        let steps: [(&str, &dyn Fn(), bool); 13] = [
            ("nothing", &|| {}, false),
            ("beside it", &|| write("etc/other", ""), false),
            ("a text", &|| write("sys/a", "2\n"), true),
            (
                "below the first line",
                &|| write("sys/meminfo", "total 7\nfree 2\n"),
                false,
            ),
            (
                "the first line",
                &|| write("sys/meminfo", "total 8\nfree 2\n"),
                true,
            ),
            ("a name more", &|| write("sys/unnoted", ""), true),
            ("what was not noted", &|| write("sys/unnoted", "7"), false),
            ("what was absent", &|| write("sys/none", ""), true),
            ("a folder that was absent", &|| write("sys/nowhere/x", ""), true),
            ("what a link leads to", &|| write("etc/image", "xy"), true),
            (
                "where it leads to",
                &|| {
                    fs::remove_file(base.join("etc/link")).unwrap();
                    symlink("other", base.join("etc/link")).unwrap();
                },
                true,
            ),
            (
                "the link gone",
                &|| fs::remove_file(base.join("etc/link")).unwrap(),
                true,
            ),
            (
                "a link to nowhere",
                &|| {
                    symlink("gone", base.join("etc/autostart")).unwrap();
                },
                true,
            ),
        ];
        for root in [HostFs::new(base), HostFs::new(base).keeping_files_open()] {
            let (_, trail) = root.trace(|_| ());
            assert!(trail.is_same(&root), "nothing was looked at");
        }
        let (fresh, kept) = (HostFs::new(base), HostFs::new(base).keeping_files_open());
        for (what, step, changes) in steps {
            let (_, by_fresh) = fresh.trace(look);
            let (_, by_kept) = kept.trace(look);
            assert!(
                by_fresh.is_same(&fresh) && by_kept.is_same(&kept),
                "{what}: before"
            );
            step();
            assert_eq!(by_fresh.is_same(&fresh), !changes, "{what}");
            assert_eq!(by_kept.is_same(&kept), !changes, "{what}: kept open");
        }
        assert!(
            fresh.trace(look).1.is_same(&kept),
            "the order of names is the folder's own"
        );
    }

    #[test]
    fn what_cannot_be_looked_at_again_is_not_the_same() {
        let dir = tempfile::tempdir().unwrap();
        fs::create_dir(dir.path().join("folder")).unwrap();
        fs::write(dir.path().join("file"), "").unwrap();
        let root = HostFs::new(dir.path());
        let looks: [&dyn Fn(&HostFs); 4] = [
            &|root| drop(root.read("/folder")),
            &|root| drop(root.list("/file")),
            &|root| drop(root.list_with_metadata("/folder")),
            &|root| drop(root.read_link("/file")),
        ];
        for (at, look) in looks.iter().enumerate() {
            let (_, trail) = root.trace(look);
            assert!(!trail.is_same(&root), "{at}");
        }
    }
}
