//! Folders of small files, each of which is complete or absent.
//!
//! ```text
//! FOLDER/                made if it is missing, and so are the folders above it
//!   NAME                 0600; replaced by rename, so a reader that opens it reads one version to its end
//!   .virtfit.PID.N       being written by process PID; AtomicDir::sweep removes it once that process is gone
//! ```
//! Nothing is flushed to disk: after a crash of the host, the content of such files is either found
//! out again or has lost its meaning. Removing a file twice is no error. When two processes write
//! the same name at once, the last rename wins.
//!
//! Files of other programs, which must be durable and keep owner, mode and label, are replaced by
//! [`replace()`].

mod replace;
mod temporary;

use crate::hostfs::at_path::io_words;
use std::fs::{self, DirBuilder, File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) use replace::replace;
pub(crate) use temporary::{Lock, Temporary, Whose, lock, sweep};

/// Folder of files that are complete or absent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AtomicDir {
    path: PathBuf,
    mode: u32,
}

/// Reason for which a file was not written; the file is as it was, or absent.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WriteError {
    /// The deadline passed before the file was in its place.
    #[error("too late to write it")]
    Late,
    /// The kernel's error.
    #[error("{}", io_words(.0))]
    Io(#[from] io::Error),
}

impl AtomicDir {
    /// Names the folder at this path of this machine; `mode` is the mode it gets when virtfit makes
    /// it, e.g. 0o700.
    pub(crate) fn new(path: PathBuf, mode: u32) -> Self {
        Self { path, mode }
    }

    /// Returns the folder's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Makes the folder and the missing folders above it, with the folder's mode whatever the umask
    /// is.
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn make(&self) -> io::Result<()> {
        make(&self.path, self.mode)
    }

    /// Writes a file completely, or leaves it as it is.
    ///
    /// # Errors
    /// The name is not one for a file, or the kernel's error.
    pub(crate) fn write(&self, name: &str, text: &str) -> io::Result<()> {
        match self.put(name, text, None) {
            Err(WriteError::Io(error)) => Err(error),
            Err(WriteError::Late) => Err(ErrorKind::TimedOut.into()),
            Ok(()) => Ok(()),
        }
    }

    /// Writes a file as [`AtomicDir::write`] does, but never after the deadline: by then the caller
    /// has given up, and another process may have decided instead.
    ///
    /// # Errors
    /// The deadline passed, or the errors of [`AtomicDir::write`].
    pub(crate) fn write_before(&self, deadline: Instant, name: &str, text: &str) -> Result<(), WriteError> {
        self.put(name, text, Some(deadline))
    }

    fn put(&self, name: &str, text: &str, deadline: Option<Instant>) -> Result<(), WriteError> {
        let late = || deadline.is_some_and(|deadline| Instant::now() >= deadline);
        let target = self.file(name)?;
        let made = match Temporary::file(&self.path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                self.make()?;
                Temporary::file(&self.path)
            }
            made => made,
        };
        let (temporary, file) = made?;
        let written = fill(file, text)?;
        if late() {
            return Err(WriteError::Late);
        }
        temporary.replace(&target)?;
        // A process that was stopped just before the rename wrote for a caller that has given up.
        if late() {
            if fs::metadata(&target).is_ok_and(|found| found.ino() == written) {
                let _ = fs::remove_file(&target);
            }
            return Err(WriteError::Late);
        }
        Ok(())
    }

    /// Removes a file; `false` if there was none.
    ///
    /// # Errors
    /// The name is not one for a file, or the file is there and cannot be removed.
    pub(crate) fn remove(&self, name: &str) -> io::Result<bool> {
        match fs::remove_file(self.file(name)?) {
            Ok(()) => Ok(true),
            Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Removes the temporary files of dead processes. Files that cannot be removed stay and do no
    /// harm.
    pub(crate) fn sweep(&self) {
        sweep(&self.path, Whose::Dead);
    }

    /// Returns a file's path. A name is one component of a path, and none that looks like a
    /// temporary file.
    fn file(&self, name: &str) -> io::Result<PathBuf> {
        if name.is_empty() || name.starts_with('.') || name.contains('/') {
            let text = format!("'{name}' cannot be a file's name here");
            return Err(io::Error::new(ErrorKind::InvalidInput, text));
        }
        Ok(self.path.join(name))
    }
}

fn make(path: &Path, mode: u32) -> io::Result<()> {
    let create = || DirBuilder::new().mode(mode).create(path);
    let made = match (create(), path.parent()) {
        (Err(error), Some(above)) if error.kind() == ErrorKind::NotFound => {
            make(above, mode)?;
            create()
        }
        (made, _) => made,
    };
    match made {
        Ok(()) => fs::set_permissions(path, Permissions::from_mode(mode)),
        // A read-only file system reports its error even if the folder is there.
        Err(_) if fs::metadata(path).is_ok_and(|found| found.is_dir()) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Writes the whole text and returns the file's inode.
fn fill(mut file: File, text: &str) -> io::Result<u64> {
    file.write_all(text.as_bytes())?;
    Ok(file.metadata()?.ino())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::Duration;

    use super::*;

    fn names(folder: &AtomicDir) -> Vec<String> {
        let mut names: Vec<String> = fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().mode() & 0o7777
    }

    #[test]
    fn files_come_and_go_whole() {
        let dir = tempfile::tempdir().unwrap();
        let folder = AtomicDir::new(dir.path().join("a/b"), 0o711);
        assert!(!folder.remove("x.json").unwrap());
        folder.write("x.json", "1").unwrap();
        folder.write("x.json", "22").unwrap();
        folder
            .write_before(Instant::now() + Duration::from_secs(60), "y.json", "3")
            .unwrap();
        assert_eq!(names(&folder), ["x.json", "y.json"]);
        assert_eq!(fs::read_to_string(folder.path().join("x.json")).unwrap(), "22");
        assert_eq!(mode(&folder.path().join("x.json")), 0o600);
        assert_eq!((mode(&dir.path().join("a")), mode(folder.path())), (0o711, 0o711));
        assert!(folder.remove("x.json").unwrap());
        assert!(!folder.remove("x.json").unwrap());
        // A mode that an administrator gave the folder stays.
        fs::set_permissions(folder.path(), Permissions::from_mode(0o750)).unwrap();
        folder.make().unwrap();
        assert_eq!(mode(folder.path()), 0o750);
    }

    #[test]
    fn what_is_late_or_fails_leaves_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let folder = AtomicDir::new(dir.path().join("f"), 0o700);
        folder.write("x", "old").unwrap();
        let late = folder.write_before(Instant::now(), "x", "new");
        assert!(matches!(late, Err(WriteError::Late)), "{late:?}");
        assert_eq!(fs::read_to_string(folder.path().join("x")).unwrap(), "old");
        // A folder stands where the file should be.
        fs::create_dir(folder.path().join("y")).unwrap();
        assert!(folder.write("y", "text").is_err());
        assert_eq!(names(&folder), ["x", "y"]);
        // The longest name that a file can have.
        let longest = "n".repeat(255);
        folder.write(&longest, "text").unwrap();
        assert!(folder.remove(&longest).unwrap());
        for name in ["", ".", "..", "../x", "a/b", ".x"] {
            assert_eq!(
                folder.write(name, "text").unwrap_err().kind(),
                ErrorKind::InvalidInput,
                "{name}"
            );
            assert!(folder.remove(name).is_err(), "{name}");
        }
        assert_eq!(names(&folder), ["x", "y"]);
        fs::write(dir.path().join("file"), "").unwrap();
        let nowhere = AtomicDir::new(dir.path().join("file/f"), 0o700);
        assert!(nowhere.write("x", "text").is_err());
        assert!(!nowhere.remove("x").unwrap());
        nowhere.sweep();
    }
}
