//! Replacement of another program's file by a new version of its text, unless the file has changed
//! since it was read.
//!
//! ```text
//! read the old file ── another text ──► changed
//! temporary file beside it: mode, owner and label of the old one, text, flushed
//! read the old file again ── another inode or text ──► changed
//! rename over it, flush the folder
//! ```
//! At any moment that the process is killed, the file is the old one or the new one, and flushed in
//! either case.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt, fchown};
use std::path::Path;

use crate::hostfs::atomic::temporary::Temporary;

/// Replaces a file that still says `old`, keeping its owner, mode and extended attributes.
///
/// # Errors
/// The file has another text, is gone, or cannot be written; then the file is as it was.
pub(crate) fn replace(file: &Path, old: &str, new: &str) -> io::Result<()> {
    let folder = file.parent().ok_or(ErrorKind::InvalidInput)?;
    let before = look(file, old)?;
    let (temporary, to) = Temporary::file(folder)?;
    fill(to, &temporary, file, &before, new)?;
    // Writing and flushing take time; this second look comes right before the rename.
    let now = look(file, old)?;
    if (now.dev(), now.ino()) != (before.dev(), before.ino()) {
        return Err(changed());
    }
    temporary.replace(file)?;
    // libvirt flushes the folder too, so the new name is as durable as libvirt's own.
    File::open(folder)?.sync_all()
}

/// Checks that a file is a regular one and has a text, and returns its metadata; links are not
/// followed.
fn look(file: &Path, text: &str) -> io::Result<Metadata> {
    let mut options = OpenOptions::new();
    let flags = nix::fcntl::OFlag::O_NOFOLLOW | nix::fcntl::OFlag::O_NONBLOCK;
    let opened = options.read(true).custom_flags(flags.bits()).open(file)?;
    let metadata = opened.metadata()?;
    // One byte more than expected is enough to tell the texts apart.
    let most = (text.len() as u64).saturating_add(1);
    let mut found = Vec::new();
    opened.take(most).read_to_end(&mut found)?;
    match metadata.is_file() && found == text.as_bytes() {
        true => Ok(metadata),
        false => Err(changed()),
    }
}

fn changed() -> io::Error {
    io::Error::other("changed meanwhile; nothing was written")
}

fn fill(mut to: File, temporary: &Temporary, old: &Path, like: &Metadata, text: &str) -> io::Result<()> {
    // Owner, mode and label come before the text, which may contain passwords. The owner comes
    // first because changing it clears set-id bits.
    let now = to.metadata()?;
    if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
        fchown(&to, Some(like.uid()), Some(like.gid()))?;
    }
    to.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
    copy_label(old, temporary.path())?;
    to.write_all(text.as_bytes())?;
    to.sync_all()
}

/// Copies the extended attributes of one file (`security.selinux` among them) to another.
fn copy_label(from: &Path, to: &Path) -> io::Result<()> {
    let names = match xattr::list(from) {
        Ok(names) => names,
        Err(error) if error.kind() == ErrorKind::Unsupported => return Ok(()),
        Err(error) => return Err(error),
    };
    for name in names {
        let Some(value) = xattr::get(from, &name)? else {
            continue;
        };
        if xattr::get(to, &name)?.as_deref() != Some(&value) {
            xattr::set(to, &name, &value)?;
        }
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn names(folder: &Path) -> Vec<String> {
        let entries = fs::read_dir(folder).unwrap();
        entries
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect()
    }

    #[test]
    fn a_file_is_replaced_with_mode_and_label() {
        let dir = tempfile::tempdir().unwrap();
        // The longest name that a file can have.
        let file = dir.path().join(format!("{}.xml", "n".repeat(251)));
        fs::write(&file, "old").unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o640)).unwrap();
        // Some file systems take no extended attributes; then there is none before and none after.
        let _ = xattr::set(&file, "user.virtfit-test", b"label");
        let label = xattr::get(&file, "user.virtfit-test").unwrap_or_default();
        replace(&file, "old", "<new/>").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "<new/>");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o640);
        assert_eq!(xattr::get(&file, "user.virtfit-test").unwrap_or_default(), label);
        assert_eq!(names(dir.path()).len(), 1);
    }

    #[test]
    fn what_is_not_as_expected_stays() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a.xml");
        for there in ["other", "older", "ol", ""] {
            fs::write(&file, there).unwrap();
            let error = replace(&file, "old", "new").unwrap_err().to_string();
            assert!(error.contains("changed meanwhile"), "{error}");
            assert_eq!(fs::read_to_string(&file).unwrap(), there);
        }
        fs::remove_file(&file).unwrap();
        assert!(replace(&file, "old", "new").is_err());
        assert!(!file.exists(), "what is gone does not come back");
        std::os::unix::fs::symlink("b.xml", &file).unwrap();
        fs::write(dir.path().join("b.xml"), "old").unwrap();
        assert!(replace(&file, "old", "new").is_err());
        assert_eq!(names(dir.path()).len(), 2);
    }
}
