//! Files and folders that stay open between two reads, for callers that read the same files of
//! `/sys` and `/proc` again and again: finding a file costs more than reading it.
//!
//! The kernel makes the text of these files again at each read from their beginning. A file whose
//! object (a CPU, a cgroup) is gone shows that: reading it fails, or no name leads to it. It is
//! then looked up again. The mount table is long, but `poll(2)` reports whether it changed
//! (`proc_pid_mounts(5)`), so it is read only after a change.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

/// Folders whose files may be kept open. Elsewhere a file can be replaced by a rename of a folder
/// above it, which the open file does not show.
const FOLDERS: [&str; 2] = ["/sys", "/proc"];
/// Largest number of files, and of folders, that are kept open: about as many as are read on a host
/// with 64 nodes.
const MOST: usize = 512;
/// Size in bytes that most files of these folders do not exceed: a page.
const USUAL: usize = 4096;

/// Open files and folders, by the host's own paths.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    files: HashMap<OsString, OpenFile>,
    folders: HashMap<OsString, Dir>,
    /// Text of the last read; the buffer only ever grows.
    buffer: Vec<u8>,
}

/// Open file.
#[derive(Debug)]
struct OpenFile {
    file: File,
    kind: Kind,
}

/// Way in which an open file is read again.
#[derive(Debug)]
enum Kind {
    /// File of the kernel, which cannot be read once its object is gone. With `attribute`, texts
    /// shorter than a page come from one read: attributes of sysfs, numbers of `/proc/sys`, lists
    /// of a cgroup and the state of a process.
    Kernel { attribute: bool },
    /// Mount table, with its text at the last read.
    Mounts(Vec<u8>),
    /// Any other file; fixtures consist of these.
    Plain { attribute: bool },
}

impl OpenFiles {
    /// Reads a file that is kept open; `None` if the file is not kept, or can no longer be read.
    pub(crate) fn read(&self, path: &Path, most: u64) -> Option<Vec<u8>> {
        self.open().look(path, most).map(<[u8]>::to_vec)
    }

    /// Passes the text of a file that is kept open to `make`; `None` as for [`OpenFiles::read`].
    pub(crate) fn with<T>(&self, path: &Path, most: u64, make: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.open().look(path, most).map(make)
    }

    /// Keeps a file open that was just read; `said` is its text.
    pub(crate) fn keep(&self, path: &Path, file: File, said: &[u8]) {
        let mut open = self.open();
        if open.files.len() < MOST && may_be_kept(path) {
            let kind = Kind::of(&file, path, said);
            open.files.insert(path.into(), OpenFile { file, kind });
        }
    }

    /// Keeps a file of a process open.
    pub(crate) fn keep_of_process(&self, path: &Path, file: File) {
        let mut open = self.open();
        if open.files.len() < MOST && !open.files.contains_key(path.as_os_str()) {
            let kind = Kind::of(&file, path, &[]);
            open.files.insert(path.into(), OpenFile { file, kind });
        }
    }

    /// Lists the names in a folder in the folder's own order, each followed by a zero byte; `found`
    /// is the folder's path on this machine. `None` if the folder is not in [`FOLDERS`].
    pub(crate) fn names(&self, path: &Path, found: &Path) -> Option<io::Result<Vec<u8>>> {
        if !may_be_kept(path) {
            return None;
        }
        let folders = &mut self.open().folders;
        if let Some(folder) = folders.get_mut(path.as_os_str()) {
            // An open folder that was removed lists as empty.
            match list(folder) {
                Ok(names) if !names.is_empty() => return Some(Ok(names)),
                _ => {}
            }
            folders.remove(path.as_os_str());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let listed = Dir::open(found, flags, Mode::empty()).and_then(|mut folder| {
            let names = list(&mut folder)?;
            if folders.len() < MOST {
                folders.insert(path.into(), folder);
            }
            Ok(names)
        });
        Some(listed.map_err(io::Error::from))
    }

    #[cfg(test)]
    fn kept(&self) -> Vec<String> {
        let open = self.open();
        let all = open.files.keys().chain(open.folders.keys());
        let mut all: Vec<String> = all.map(|path| path.to_string_lossy().into_owned()).collect();
        all.sort();
        all
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn look(&mut self, path: &Path, most: u64) -> Option<&[u8]> {
        let file = self.files.get_mut(path.as_os_str())?;
        match again(file, &mut self.buffer, most) {
            Ok(length) => match &self.files.get(path.as_os_str())?.kind {
                Kind::Mounts(said) => Some(said),
                _ => self.buffer.get(..length),
            },
            Err(_) => {
                self.files.remove(path.as_os_str());
                None
            }
        }
    }
}

impl Kind {
    fn of(file: &File, path: &Path, said: &[u8]) -> Self {
        let attribute = path.starts_with("/sys/devices");
        match fstatfs(file).map(|about| about.filesystem_type()) {
            Ok(SYSFS_MAGIC) => Self::Kernel { attribute: true },
            Ok(CGROUP2_SUPER_MAGIC | CGROUP_SUPER_MAGIC) => Self::Kernel { attribute: true },
            Ok(PROC_SUPER_MAGIC) if path.ends_with("mounts") => Self::Mounts(said.to_vec()),
            Ok(PROC_SUPER_MAGIC) if path.starts_with("/proc/sys") || path.ends_with("stat") => {
                Self::Kernel { attribute: true }
            }
            _ => Self::Plain { attribute },
        }
    }
}

/// Returns whether a path is in one of [`FOLDERS`] and about the host: processes come and go.
fn may_be_kept(path: &Path) -> bool {
    let of_a_process = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.first().is_some_and(u8::is_ascii_digit) || name.ends_with(b"self")
    };
    let inside = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder).ok());
    let first = inside.and_then(|inside| inside.iter().next());
    first.is_some_and(|first| !of_a_process(first))
}

/// Reads a file from its beginning into `buffer` and returns the length. A mount table goes into
/// its own buffer instead.
fn again(open: &mut OpenFile, buffer: &mut Vec<u8>, most: u64) -> io::Result<usize> {
    let OpenFile { file, kind } = open;
    match kind {
        Kind::Kernel { attribute } => fill(file, buffer, *attribute, most),
        Kind::Mounts(said) => {
            // `poll` comes before the read: a change between the two is reported the next time.
            if has_changed(file)? {
                let length = fill(file, buffer, false, most)?;
                said.clear();
                said.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            Ok(said.len())
        }
        Kind::Plain { attribute } => {
            if file.metadata()?.nlink() == 0 {
                return Err(io::ErrorKind::NotFound.into());
            }
            fill(file, buffer, *attribute, most)
        }
    }
}

/// Returns `true` if a mount table has changed since the last call, or since it was opened.
fn has_changed(file: &File) -> io::Result<bool> {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(told) => Ok(told > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn fill(file: &File, buffer: &mut Vec<u8>, attribute: bool, most: u64) -> io::Result<usize> {
    if buffer.len() < USUAL {
        buffer.resize(USUAL, 0);
    }
    let mut have = 0;
    loop {
        let got = file.read_at(buffer.get_mut(have..).unwrap_or_default(), have as u64)?;
        have += got;
        if got == 0 || (attribute && have < USUAL) {
            return Ok(have);
        }
        if have as u64 > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if have == buffer.len() {
            buffer.resize(2 * have, 0);
        }
    }
}

/// Lists the names in a folder from its beginning.
fn list(folder: &mut Dir) -> nix::Result<Vec<u8>> {
    let mut names = Vec::new();
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes_with_nul();
        if !matches!(name, b".\0" | b"..\0") {
            names.extend_from_slice(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
