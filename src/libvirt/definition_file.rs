//! Definition as its file has it at one moment.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::{Duration, SystemTime};

use crate::hostfs;
use crate::hostfs::at_path::at_path;
use crate::hostfs::{HostFs, MAX_BYTES};
use crate::ledger::claims;
use crate::types::digest;

/// Longest time that libvirt takes to write a file; a temporary file that is older was left behind.
const REWRITE: Duration = Duration::from_secs(5);

/// File of a definition, read at one moment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct DefinitionFile {
    /// Guest's name, from the file's name.
    pub name: String,
    /// Whole text, passwords included: it is never logged.
    pub text: String,
    /// Digest of the text.
    pub digest: String,
    /// Inode of the file: libvirt writes a new file each time.
    inode: u64,
    /// Time of the last write; `None`: it cannot be read.
    pub modified: Option<SystemTime>,
}

impl DefinitionFile {
    /// Reads a guest's definition; `None`: there is none.
    ///
    /// # Errors
    /// The file cannot be read, is larger than [`MAX_BYTES`], or is not UTF-8.
    pub fn read(root: &HostFs, name: &str) -> io::Result<Option<Self>> {
        // A name must be one component of a path.
        if name.is_empty() || name.contains('/') {
            return Ok(None);
        }
        let read = hostfs::optional(Self::read_file(root, name));
        read.map_err(|error| at_path(root.path(claims::path(name)).display(), error))
    }

    /// Takes a text that another program read.
    pub(crate) fn of_text(name: &str, text: String) -> Self {
        Self {
            name: name.into(),
            digest: digest::of(&text),
            text,
            inode: 0,
            modified: None,
        }
    }

    fn read_file(root: &HostFs, name: &str) -> io::Result<Self> {
        // Both inode and text come from the one open file, even if another is renamed over it.
        let path = root.locate(Path::new(&claims::path(name)), true)?;
        // The kind is checked before the file is opened: opening a FIFO waits for a writer.
        if !fs::metadata(&path)?.is_file() {
            return Err(io::ErrorKind::NotFound.into());
        }
        let mut file = File::open(path)?;
        let metadata = file.metadata()?;
        let mut bytes = Vec::new();
        file.by_ref().take(MAX_BYTES + 1).read_to_end(&mut bytes)?;
        if bytes.len() as u64 > MAX_BYTES {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        let text = String::from_utf8(bytes)
            .map_err(|_| io::Error::new(io::ErrorKind::InvalidData, "it is not UTF-8"))?;
        Ok(Self {
            name: name.into(),
            digest: digest::of(&text),
            text,
            inode: metadata.ino(),
            modified: metadata.modified().ok(),
        })
    }

    /// Returns whether libvirt is writing another version: libvirt has that version in memory by
    /// then, while the file is still the old one. To be checked before
    /// [`DefinitionFile::is_current`].
    pub fn is_being_written(root: &HostFs, name: &str) -> bool {
        let written = |path: String| root.metadata(path).ok()?.modified().ok();
        // Temporary file of `virFileRewrite`; one that a killed libvirt left behind is older.
        let age = written(claims::path(name) + ".new").map(|time| time.elapsed().unwrap_or_default());
        age.is_some_and(|age| age < REWRITE)
    }

    /// Returns whether the file is still this one, to the byte.
    pub(crate) fn is_current(&self, root: &HostFs) -> bool {
        let now = Self::read(root, &self.name);
        matches!(now, Ok(Some(now)) if now.inode == self.inode && now.text == self.text)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn another_file_with_the_same_text_is_another() {
        let dir = tempfile::tempdir().unwrap();
        let folder = dir.path().join("etc/libvirt/qemu");
        fs::create_dir_all(&folder).unwrap();
        let root = HostFs::new(dir.path());
        assert_eq!(DefinitionFile::read(&root, "a").unwrap(), None);
        assert_eq!(DefinitionFile::read(&root, "../qemu/a").unwrap(), None);
        fs::write(folder.join("a.xml"), "<domain/>").unwrap();
        let read = DefinitionFile::read(&root, "a").unwrap().unwrap();
        assert!(read.is_current(&root));
        fs::write(folder.join("a.xml.new"), "<domain/>").unwrap();
        fs::rename(folder.join("a.xml.new"), folder.join("a.xml")).unwrap();
        assert!(!read.is_current(&root));
        assert!(!DefinitionFile::is_being_written(&root, "a"));
        let new = fs::File::create(folder.join("a.xml.new")).unwrap();
        assert!(DefinitionFile::is_being_written(&root, "a"));
        new.set_modified(SystemTime::now() - 2 * REWRITE).unwrap();
        assert!(!DefinitionFile::is_being_written(&root, "a"));
        fs::remove_file(folder.join("a.xml")).unwrap();
        assert!(!read.is_current(&root));
    }
}
