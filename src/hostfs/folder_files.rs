//! Files of one folder that is opened once: hundreds of small files are read with half the calls to
//! the kernel.

use std::fs::File;
use std::io::{self, Read as _};
use std::os::fd::OwnedFd;

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, openat};
use nix::sys::stat::Mode;

use crate::hostfs::{HostFs, MAX_BYTES};

/// Folder whose files are read.
#[derive(Debug)]
pub(crate) struct FolderFiles<'r> {
    root: &'r HostFs,
    folder: &'r str,
    /// The open folder; `None`: each file is read by its path.
    open: Option<OwnedFd>,
}

impl HostFs {
    /// Opens a folder, given as a path of the host, to read files of it.
    pub(crate) fn files_of<'r>(&'r self, folder: &'r str) -> FolderFiles<'r> {
        let flags = OFlag::O_PATH | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let open = || {
            let found = self.locate(folder.as_ref(), true).ok()?;
            openat(AT_FDCWD, &found, flags, Mode::empty()).ok()
        };
        FolderFiles {
            root: self,
            folder,
            // Reads that are recorded go by their path, as the record has it.
            open: if self.notes.is_none() { open() } else { None },
        }
    }
}

impl FolderFiles<'_> {
    /// Reads the text of a file as [`HostFs::read`] does.
    ///
    /// # Errors
    /// The errors of [`HostFs::read`].
    pub(crate) fn read(&self, name: &str) -> io::Result<String> {
        match self.open.as_ref().map(|folder| read(folder, name)) {
            Some(Ok(Some(text))) => Ok(text),
            // Links and everything unusual are left to the reader that knows about them.
            _ => self.root.read(format!("{}/{name}", self.folder)),
        }
    }
}

/// Reads a file that is a regular one, of no unusual size, and no link; `None` otherwise.
fn read(folder: &OwnedFd, name: &str) -> Result<Option<String>, Errno> {
    if name.contains('/') {
        return Ok(None);
    }
    let flags = OFlag::O_RDONLY | OFlag::O_NOFOLLOW | OFlag::O_NONBLOCK | OFlag::O_CLOEXEC;
    let mut file = File::from(openat(folder, name, flags, Mode::empty())?);
    let Ok(meta) = file.metadata() else {
        return Ok(None);
    };
    if !meta.is_file() || meta.len() == 0 || meta.len() > MAX_BYTES {
        return Ok(None);
    }
    // One byte of room more than the file has shows whether it has grown.
    let size = usize::try_from(meta.len()).unwrap_or_default();
    let mut bytes = vec![0; size + 1];
    match file.read(&mut bytes) {
        Ok(read) if read == size => bytes.truncate(size),
        _ => return Ok(None),
    }
    Ok(String::from_utf8(bytes).ok())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn files_read_as_by_their_path() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let folder = dir.path().join("f");
        fs::create_dir(&folder).unwrap();
        fs::write(folder.join("a"), "text").unwrap();
        fs::write(folder.join("empty"), "").unwrap();
        fs::write(folder.join("latin"), b"\xff").unwrap();
        fs::create_dir(folder.join("folder")).unwrap();
        std::os::unix::fs::symlink("a", folder.join("link")).unwrap();
        std::os::unix::fs::symlink("/f/a", folder.join("absolute")).unwrap();
        nix::unistd::mkfifo(&folder.join("fifo"), Mode::from_bits_truncate(0o600)).unwrap();
        let files = root.files_of("/f");
        for name in [
            "a", "empty", "latin", "folder", "link", "absolute", "fifo", "none", "../f/a",
        ] {
            let text = |read: io::Result<String>| read.map_err(|error| error.to_string());
            let by_path = text(root.read(format!("/f/{name}")));
            assert_eq!(text(files.read(name)), by_path, "{name}");
        }
        assert_eq!(files.read("a").unwrap(), "text");
        assert!(root.files_of("/none").read("a").is_err());
        assert!(HostFs::none().files_of("/f").read("a").is_err());
    }
}
