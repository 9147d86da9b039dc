//! The one door to the host's files: `/`, a folder that stands for a host (a fixture), or nothing
//! at all.
//!
//! Paths are always those the host itself would use (`/sys/…`, `/etc/…`). Below a folder they
//! behave as after a `chroot`: `..` stops at the folder, and an absolute symbolic link starts again
//! from it, so that a fixture can never be left.

pub mod atomic;
pub mod changed_folders;
mod open_files;
mod read_set;
mod resolve;
mod stamp;

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use open_files::OpenFiles;
use read_set::{Notes, Step};
use resolve::lexical;

pub use read_set::ReadSet;
pub use stamp::Stamp;

/// The largest file that is read, in bytes. `/proc/cpuinfo` of 1,024 CPUs is about 2 MiB.
pub const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// What most files fit into, in bytes.
const USUAL_BYTES: u64 = 4095;

/// Where the host's files are. All errors carry the path.
#[derive(Debug, Clone)]
pub struct HostFs {
    /// `None`: no host at all; every file is absent.
    base: Option<PathBuf>,
    /// Files that stay open; `None`: none do.
    open: Option<Arc<OpenFiles>>,
    /// Where looks are noted; `None`: they are not.
    notes: Option<Notes>,
}

/// A name in a folder.
#[derive(Debug)]
pub struct Entry {
    /// The name.
    pub name: String,
    /// What `stat` says, links followed.
    pub meta: io::Result<Metadata>,
    /// It is a symbolic link.
    pub link: bool,
}

/// The same host, however it is read.
impl PartialEq for HostFs {
    fn eq(&self, other: &Self) -> bool {
        self.base == other.base
    }
}

impl Eq for HostFs {}

impl Default for HostFs {
    /// The machine we run on.
    fn default() -> Self {
        Self::new("/")
    }
}

impl HostFs {
    /// The host below `base`. A relative one counts from the working folder.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = base.into();
        // Names of the same folder (`/.`, `//`) are one; a folder that is missing is told of by the
        // first reader.
        let base = fs::canonicalize(&base).unwrap_or(base);
        Self {
            base: Some(base),
            open: None,
            notes: None,
        }
    }

    /// No host: nothing exists. What `--topology` alone is planned against.
    pub fn none() -> Self {
        Self {
            base: None,
            open: None,
            notes: None,
        }
    }

    /// The same host for somebody who reads the same files of `/sys` and `/proc` again and again:
    /// they stay open, and cost less.
    #[must_use]
    pub fn keeping_files_open(mut self) -> Self {
        self.open = Some(Arc::default());
        self
    }

    /// Keeps a file of a process open too, for a host that keeps files open: one that lives for
    /// long. While it is open its number may become another process's, but it tells of none but its
    /// own.
    pub fn keep_open(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        if let Some(open) = &self.open
            && let Ok(file) = self.locate(path, true).and_then(fs::File::open)
        {
            open.keep_of_process(path, file);
        }
    }

    /// Whether this is the machine we run on (`/`).
    pub fn is_real(&self) -> bool {
        self.base.as_deref() == Some(Path::new("/"))
    }

    /// Whether there is no host at all.
    pub fn is_none(&self) -> bool {
        self.base.is_none()
    }

    /// The folder itself; `None` for [`HostFs::none`].
    pub fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// Where one of the host's absolute paths is on the machine we run on; the last component's own
    /// link is not followed. For [`HostFs::none`] it is a path that does not exist.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.locate(path, false).unwrap_or_else(|_| match &self.base {
            Some(base) => lexical(base, path),
            None => PathBuf::from("/nonexistent").join(path.strip_prefix("/").unwrap_or(path)),
        })
    }

    /// The host's own name for a path once all links are followed, e.g.
    /// `/var/lib/libvirt/images/a.raw`. Components that do not exist are kept as they are.
    ///
    /// # Errors
    /// Too many links, or a component that cannot be looked at.
    pub fn resolve(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        // While it leads to the same file, whatever is made from its name is the same.
        if self.notes.is_some() {
            let _ = self.metadata(path);
        }
        let found = self.locate(path, true).map_err(|error| self.fail(path, error))?;
        if self.is_real() {
            return match fs::canonicalize(&found) {
                Err(error) if error.kind() == ErrorKind::NotFound => Ok(found),
                found => found.map_err(|error| self.fail(path, error)),
            };
        }
        let base = self.base.as_deref().unwrap_or(Path::new("/"));
        Ok(Path::new("/").join(found.strip_prefix(base).unwrap_or(&found)))
    }

    /// The text of a file of at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// It is absent, no regular file, too large, not UTF-8, or cannot be read.
    pub fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
        let path = path.as_ref();
        let bytes = self.read_bytes(path)?;
        String::from_utf8(bytes).map_err(|error| {
            let at = error.utf8_error().valid_up_to();
            self.fail(
                path,
                io::Error::new(ErrorKind::InvalidData, format!("byte {at} is not UTF-8")),
            )
        })
    }

    /// As [`HostFs::read`]; `None` where there is no such file.
    ///
    /// # Errors
    /// As [`HostFs::read`], absence aside.
    pub fn read_opt(&self, path: impl AsRef<Path>) -> io::Result<Option<String>> {
        optional(self.read(path))
    }

    /// The bytes of a file of at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// It is absent, no regular file, too large, or cannot be read.
    pub fn read_bytes(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let read = self.read_bounded(path);
        self.note(|| read_set::of_file(Step::Text, path, read.as_deref()));
        read.map_err(|error| self.fail(path, error))
    }

    /// The first line of such a file, with its end: where what follows it does not matter.
    ///
    /// # Errors
    /// As [`HostFs::read_bytes`].
    pub fn first_line(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let read = self.read_bounded(path);
        let line = read.map(|bytes| read_set::first_line(&bytes).to_vec());
        self.note(|| read_set::of_file(Step::Line, path, line.as_deref()));
        line.map_err(|error| self.fail(path, error))
    }

    fn read_bounded(&self, path: &Path) -> io::Result<Vec<u8>> {
        if let Some(bytes) = self.open.as_ref().and_then(|open| open.read(path, MAX_BYTES)) {
            return Ok(bytes);
        }
        let found = self.locate(path, true)?;
        // Before opening: opening a FIFO waits for its other end.
        let meta = fs::metadata(&found)?;
        if !meta.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "is not a regular file"));
        }
        // Files of the kernel do not tell their length; and one byte more shows that there is none.
        let room = meta.len().clamp(USUAL_BYTES, MAX_BYTES) + 1;
        let mut bytes = Vec::with_capacity(usize::try_from(room).unwrap_or_default());
        let file = fs::File::open(&found)?;
        (&file).take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::Error::new(
                ErrorKind::FileTooLarge,
                format!("is larger than {} MiB", MAX_BYTES >> 20),
            ));
        }
        if let Some(open) = &self.open {
            open.keep(path, file, &bytes);
        }
        Ok(bytes)
    }

    /// The names in a folder, sorted; none where there is no such folder. Names that are not UTF-8
    /// are left out: nothing virtfit looks for has one.
    ///
    /// # Errors
    /// It is no folder or cannot be read.
    pub fn list(&self, dir: impl AsRef<Path>) -> io::Result<Vec<String>> {
        let dir = dir.as_ref();
        let names = self.names(dir);
        self.note(|| match &names {
            Ok(names) => Step::Names(dir.to_path_buf(), names.clone()),
            Err(_) => Step::Unknown,
        });
        let mut names = read_set::split(&names.map_err(|error| self.fail(dir, error))?);
        names.sort();
        Ok(names)
    }

    /// The names in a folder in its own order, each with a zero byte behind it.
    fn names(&self, dir: &Path) -> io::Result<Vec<u8>> {
        let listed = self.locate(dir, true).and_then(|found| {
            if let Some(names) = self.open.as_ref().and_then(|open| open.names(dir, &found)) {
                return names;
            }
            let entries = fs::read_dir(found)?.map(|entry| entry.map(|entry| entry.file_name()));
            Ok(read_set::join(entries.collect::<io::Result<Vec<_>>>()?))
        });
        match listed {
            Err(error) if error.kind() == ErrorKind::NotFound => Ok(Vec::new()),
            listed => listed,
        }
    }

    /// The names in a folder and what `stat` says of each, links followed, sorted by name; as
    /// [`HostFs::list`], but without those that are gone before they are looked at. Much cheaper
    /// than one [`HostFs::metadata`] a name.
    ///
    /// # Errors
    /// It is no folder or cannot be read.
    pub fn list_with_metadata(&self, dir: impl AsRef<Path>) -> io::Result<Vec<Entry>> {
        let dir = dir.as_ref();
        self.note(|| Step::Unknown);
        let entries = match self.locate(dir, true).and_then(fs::read_dir) {
            Ok(entries) => entries,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
            Err(error) => return Err(self.fail(dir, error)),
        };
        let mut found = Vec::new();
        for entry in entries {
            let entry = entry.map_err(|error| self.fail(dir, error))?;
            let Ok(name) = entry.file_name().into_string() else {
                continue;
            };
            let (meta, link) = match entry.metadata() {
                Ok(meta) if meta.is_symlink() => (self.metadata(dir.join(&name)), true),
                meta => (meta, false),
            };
            if !matches!(&meta, Err(error) if error.kind() == ErrorKind::NotFound) {
                found.push(Entry { name, meta, link });
            }
        }
        found.sort_by(|one, other| one.name.cmp(&other.name));
        Ok(found)
    }

    /// One entry of a folder, as [`HostFs::list_with_metadata`] has it; `None`: it is absent.
    pub fn entry(&self, path: impl AsRef<Path>) -> Option<Entry> {
        let path = path.as_ref();
        self.note(|| Step::Unknown);
        let name = path.file_name()?.to_str()?.to_string();
        let (meta, link) = match self.locate(path, false).and_then(fs::symlink_metadata) {
            Ok(meta) if meta.is_symlink() => (self.metadata(path), true),
            meta => (meta, false),
        };
        let absent = matches!(&meta, Err(error) if error.kind() == ErrorKind::NotFound);
        (!absent).then_some(Entry { name, meta, link })
    }

    /// What a symbolic link says, unchanged.
    ///
    /// # Errors
    /// It is absent or no symbolic link.
    pub fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        self.note(|| Step::Unknown);
        self.locate(path, false)
            .and_then(fs::read_link)
            .map_err(|error| self.fail(path, error))
    }

    /// What `stat` says, links followed.
    ///
    /// # Errors
    /// It is absent or may not be looked at.
    pub fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        self.stat(path).map_err(|error| self.fail(path, error))
    }

    /// As [`HostFs::metadata`]; `None` where nothing is.
    ///
    /// # Errors
    /// As [`HostFs::metadata`], absence aside.
    pub fn metadata_opt(&self, path: impl AsRef<Path>) -> io::Result<Option<Metadata>> {
        let path = path.as_ref();
        optional(self.stat(path)).map_err(|error| self.fail(path, error))
    }

    fn stat(&self, path: &Path) -> io::Result<Metadata> {
        let found = self.locate(path, true).and_then(fs::metadata);
        self.note(|| match &found {
            Ok(meta) => Step::Stat(path.to_path_buf(), Some(Stamp::of(meta))),
            Err(error) if read_set::is_absent(error) => Step::Stat(path.to_path_buf(), None),
            Err(_) => Step::Unknown,
        });
        found
    }

    /// Whether something is there; a link counts even if what it names is gone.
    pub fn exists(&self, path: impl AsRef<Path>) -> bool {
        let path = path.as_ref();
        let there = self
            .locate(path, false)
            .is_ok_and(|found| fs::symlink_metadata(found).is_ok());
        self.note(|| Step::There(path.to_path_buf(), there));
        there
    }

    fn fail(&self, path: &Path, error: io::Error) -> io::Error {
        let shown = match &self.base {
            Some(base) if !self.is_real() => lexical(base, path),
            _ => path.to_path_buf(),
        };
        io::Error::new(error.kind(), format!("{}: {error}", shown.display()))
    }
}

/// `None` for what is absent.
pub(crate) fn optional<T>(result: io::Result<T>) -> io::Result<Option<T>> {
    match result {
        Ok(value) => Ok(Some(value)),
        Err(error) if read_set::is_absent(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
