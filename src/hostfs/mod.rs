//! The only access to the host's files: those of `/`, of a folder that stands for a host (a
//! fixture), or of no host at all.
//!
//! Paths are always the host's own (`/sys/…`, `/etc/…`). In a folder that stands for a host they
//! behave as after a `chroot`: `..` stops at the folder, and an absolute symbolic link starts from
//! it again, so that no path leads out of a fixture.

pub(crate) mod at_path;
pub(crate) mod atomic;
pub(crate) mod changed_folders;
mod folder_files;
mod open_files;
mod read_set;
pub(crate) mod records;
mod resolve;
mod stamp;
pub(crate) mod stems;

use std::fs::{self, Metadata};
use std::io::{self, ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use open_files::OpenFiles;
use read_set::{Notes, Step};
use resolve::lexical;

pub(crate) use read_set::ReadSet;
pub(crate) use stamp::Stamp;

/// Size of the largest file that is read, in bytes. `/proc/cpuinfo` of 1,024 CPUs is about 2 MiB.
pub(crate) const MAX_BYTES: u64 = 16 * 1024 * 1024;

/// Size in bytes that most files do not exceed.
const USUAL_BYTES: u64 = 4095;

/// Access to the files of one host. All errors carry the path.
#[derive(Debug, Clone)]
pub struct HostFs {
    /// Folder that stands for the host's `/`; `None`: no host at all, every file is absent.
    base: Option<PathBuf>,
    /// Files that stay open between reads; `None`: none do.
    open: Option<Arc<OpenFiles>>,
    /// Record of what is read, for [`HostFs::trace`]; `None`: reads are not recorded.
    notes: Option<Notes>,
}

/// Entry of a folder.
#[derive(Debug)]
pub(crate) struct Entry {
    pub name: String,
    /// Result of `stat`, links followed.
    pub meta: io::Result<Metadata>,
    /// `true` for a symbolic link.
    pub link: bool,
}

/// Two are equal if they read the same host, with or without files kept open or a record of reads.
impl PartialEq for HostFs {
    fn eq(&self, other: &Self) -> bool {
        self.base == other.base
    }
}

impl Eq for HostFs {}

impl Default for HostFs {
    /// The machine that virtfit runs on.
    fn default() -> Self {
        Self::new("/")
    }
}

impl HostFs {
    /// Reads the host below `base`. A relative `base` counts from the working folder.
    pub fn new(base: impl Into<PathBuf>) -> Self {
        let base = base.into();
        // Different names of one folder (`/.`, `//`) must compare as equal. A missing folder is
        // reported by the first read.
        let base = fs::canonicalize(&base).unwrap_or(base);
        Self {
            base: Some(base),
            open: None,
            notes: None,
        }
    }

    /// Reads no host: no file exists. A plan with `--topology` alone is made against this.
    pub fn none() -> Self {
        Self {
            base: None,
            open: None,
            notes: None,
        }
    }

    /// Keeps files of `/sys` and `/proc` open between reads, for callers that read the same files
    /// again and again: reading an open file costs less.
    #[must_use]
    pub(crate) fn keeping_files_open(mut self) -> Self {
        self.open = Some(Arc::default());
        self
    }

    /// Keeps a file of a long-lived process open too, if this host keeps files open. When another
    /// process gets the number, the open file still belongs to the old process and never reports on
    /// the new one.
    pub(crate) fn keep_open(&self, path: impl AsRef<Path>) {
        let path = path.as_ref();
        if let Some(open) = &self.open
            && let Ok(file) = self.locate(path, true).and_then(fs::File::open)
        {
            open.keep_of_process(path, file);
        }
    }

    /// Returns `true` for the machine that virtfit runs on (`/`).
    pub fn is_real(&self) -> bool {
        self.base.as_deref() == Some(Path::new("/"))
    }

    /// Returns `true` if there is no host at all.
    pub(crate) fn is_none(&self) -> bool {
        self.base.is_none()
    }

    /// Returns the folder that stands for the host's `/`; `None` for [`HostFs::none`].
    pub(crate) fn base(&self) -> Option<&Path> {
        self.base.as_deref()
    }

    /// Returns the path on this machine of one of the host's absolute paths; if the last component
    /// is a link, the path is the link's own. For [`HostFs::none`] the path does not exist.
    pub fn path(&self, path: impl AsRef<Path>) -> PathBuf {
        let path = path.as_ref();
        self.locate(path, false).unwrap_or_else(|_| match &self.base {
            Some(base) => lexical(base, path),
            None => PathBuf::from("/nonexistent").join(path.strip_prefix("/").unwrap_or(path)),
        })
    }

    /// Returns the host's own name for a path, all links followed, e.g.
    /// `/var/lib/libvirt/images/a.raw`. Components that do not exist are kept as they are.
    ///
    /// # Errors
    /// Too many links, or a component that cannot be looked at.
    pub(crate) fn resolve(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        // While the path leads to the same file, everything made from its name stays the same.
        if self.notes.is_some() {
            let _ = self.metadata(path);
        }
        let found = self.locate(path, true).map_err(|error| self.fail(path, error))?;
        if self.is_real() {
            // A link that leads to nothing is followed to the name that is missing.
            let mut found = found;
            loop {
                match fs::canonicalize(&found) {
                    Err(error) if error.kind() == ErrorKind::NotFound => {}
                    found => return found.map_err(|error| self.fail(path, error)),
                }
                let Ok(target) = fs::read_link(&found) else {
                    return Ok(found);
                };
                found = found.parent().unwrap_or(Path::new("/")).join(target);
            }
        }
        let base = self.base.as_deref().unwrap_or(Path::new("/"));
        Ok(Path::new("/").join(found.strip_prefix(base).unwrap_or(&found)))
    }

    /// Reads the text of a file of at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// The file is absent, not a regular one, too large, not UTF-8, or cannot be read.
    pub(crate) fn read(&self, path: impl AsRef<Path>) -> io::Result<String> {
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

    /// Reads a file as [`HostFs::read`] does; `None` if it is absent.
    ///
    /// # Errors
    /// The errors of [`HostFs::read`] but absence.
    pub(crate) fn read_opt(&self, path: impl AsRef<Path>) -> io::Result<Option<String>> {
        optional(self.read(path))
    }

    /// Reads the bytes of a file of at most [`MAX_BYTES`].
    ///
    /// # Errors
    /// The file is absent, not a regular one, too large, or cannot be read.
    pub(crate) fn read_bytes(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
        let path = path.as_ref();
        let read = self.read_bounded(path);
        self.note(|| read_set::of_file(Step::Text, path, read.as_deref()));
        read.map_err(|error| self.fail(path, error))
    }

    /// Reads the first line of a file, with its line end, for callers to which the rest does not
    /// matter.
    ///
    /// # Errors
    /// The errors of [`HostFs::read_bytes`].
    pub(crate) fn first_line(&self, path: impl AsRef<Path>) -> io::Result<Vec<u8>> {
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
        // This comes before opening, as opening a FIFO waits for its other end.
        let meta = fs::metadata(&found)?;
        if !meta.is_file() {
            return Err(io::Error::new(ErrorKind::InvalidInput, "is not a regular file"));
        }
        // Files of the kernel report no length; one byte more than the length shows where the text
        // ends.
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

    /// Lists the names in a folder, sorted; none if the folder is absent. Names that are not UTF-8
    /// are left out: virtfit looks for none of them.
    ///
    /// # Errors
    /// The path is not a folder, or the folder cannot be read.
    pub(crate) fn list(&self, dir: impl AsRef<Path>) -> io::Result<Vec<String>> {
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

    /// Lists the names in a folder in the folder's own order, each followed by a zero byte.
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

    /// Lists the names in a folder with the result of `stat` for each, links followed, sorted by
    /// name. In contrast to [`HostFs::list`], entries that vanish before their `stat` are left out.
    /// Much cheaper than one [`HostFs::metadata`] for each name.
    ///
    /// # Errors
    /// The path is not a folder, or the folder cannot be read.
    pub(crate) fn list_with_metadata(&self, dir: impl AsRef<Path>) -> io::Result<Vec<Entry>> {
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

    /// Reads one entry of a folder as [`HostFs::list_with_metadata`] does; `None` if it is absent.
    pub(crate) fn entry(&self, path: impl AsRef<Path>) -> Option<Entry> {
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

    /// Returns the target of a symbolic link, unchanged.
    ///
    /// # Errors
    /// The path is absent or not a symbolic link.
    pub(crate) fn read_link(&self, path: impl AsRef<Path>) -> io::Result<PathBuf> {
        let path = path.as_ref();
        self.note(|| Step::Unknown);
        self.locate(path, false)
            .and_then(fs::read_link)
            .map_err(|error| self.fail(path, error))
    }

    /// Returns the result of `stat`, links followed.
    ///
    /// # Errors
    /// The file is absent, or access to it is denied.
    pub(crate) fn metadata(&self, path: impl AsRef<Path>) -> io::Result<Metadata> {
        let path = path.as_ref();
        self.stat(path).map_err(|error| self.fail(path, error))
    }

    /// Returns the result of `stat`, links followed; `None` if the file is absent.
    ///
    /// # Errors
    /// The errors of [`HostFs::metadata`] but absence.
    pub(crate) fn metadata_opt(&self, path: impl AsRef<Path>) -> io::Result<Option<Metadata>> {
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

    /// Returns `true` if the path exists; a link counts even if its target is gone.
    pub(crate) fn exists(&self, path: impl AsRef<Path>) -> bool {
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
        at_path::at_path(shown.display(), error)
    }
}

/// Turns the error of an absent file into `None`.
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
