//! Definitions written in their files, before libvirt loads them. Afterwards they are libvirt's alone.
//!
//! A file is replaced as libvirt itself does it: written whole beside the old one under a name libvirt does not load, flushed,
//! renamed. Owner, mode and security label are those of the old one; libvirt's comment at its head stays, as all that is not ours.

use std::fs::{self, File};
use std::io::{self, ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, PermissionsExt, fchown};
use std::path::{Path, PathBuf};

use crate::apply::definitions::Definition;
use crate::ledger::claims;
use crate::root::Root;

/// Replaces the file of a definition that has not changed since it was read.
///
/// # Errors
/// It changed or vanished meanwhile, or cannot be written; then it is as it was.
pub fn write(root: &Root, definition: &Definition, xml: &str) -> io::Result<()> {
    let file = root
        .resolve(claims::path(&definition.name))
        .map(|on_host| root.path(on_host))?;
    let named = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", file.display()));
    let old = fs::symlink_metadata(&file).map_err(named)?;
    if fs::read_to_string(&file).map_err(named)? != definition.text {
        return Err(named(io::Error::other("changed meanwhile; nothing was written")));
    }
    let unfinished = Unfinished::of(&file).map_err(named)?;
    unfinished.fill(&file, &old, xml).map_err(named)?;
    fs::rename(&unfinished.path, &file).map_err(named)?;
    std::mem::forget(unfinished);
    // The new name is as durable as libvirt makes its own.
    if let Some(folder) = file.parent() {
        File::open(folder)
            .and_then(|folder| folder.sync_all())
            .map_err(named)?;
    }
    Ok(())
}

/// A file being written; goes when it is dropped.
struct Unfinished {
    path: PathBuf,
}

impl Unfinished {
    /// Beside the file. Left behind only by a crash; a later run replaces it.
    fn of(file: &Path) -> io::Result<Self> {
        let name = file.file_name().ok_or(ErrorKind::InvalidInput)?;
        let path = file.with_file_name(format!(".{}.virtfit", name.to_string_lossy()));
        match fs::remove_file(&path) {
            Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
            _ => Ok(Self { path }),
        }
    }

    fn fill(&self, old: &Path, like: &fs::Metadata, text: &str) -> io::Result<()> {
        let mut file = File::options().write(true).create_new(true).open(&self.path)?;
        // Closed to others before there is anything in it: passwords may be.
        file.set_permissions(fs::Permissions::from_mode(like.mode() & 0o7777))?;
        let now = file.metadata()?;
        if (now.uid(), now.gid()) != (like.uid(), like.gid()) {
            fchown(&file, Some(like.uid()), Some(like.gid()))?;
        }
        copy_label(old, &self.path)?;
        file.write_all(text.as_bytes())?;
        file.sync_all()
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Gives a file the extended attributes of another (`security.selinux` among them) that the kernel lets us set.
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
    use crate::apply::definitions::read;
    use crate::ledger::read::Reading;

    const XML: &str =
        "<!-- kept -->\n<domain type='kvm'><name>a</name><memory>1</memory><vcpu>1</vcpu></domain>\n";

    fn host() -> (tempfile::TempDir, Root) {
        let folder = tempfile::tempdir().unwrap();
        let root = Root::new(folder.path());
        fs::create_dir_all(folder.path().join("etc/libvirt/qemu")).unwrap();
        let file = folder.path().join("etc/libvirt/qemu/a.xml");
        fs::write(&file, XML).unwrap();
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        (folder, root)
    }

    #[test]
    fn writes_whole_with_the_mode_of_the_old_one() {
        let (folder, root) = host();
        let file = folder.path().join("etc/libvirt/qemu/a.xml");
        // Not every filesystem takes one; then there is none before and none after.
        let _ = xattr::set(&file, "user.virtfit-test", b"label");
        let label = xattr::get(&file, "user.virtfit-test").unwrap_or_default();
        let definition = read(&root, "a", &Reading::default()).unwrap();
        write(&root, &definition, "<new/>").unwrap();
        assert_eq!(fs::read_to_string(&file).unwrap(), "<new/>");
        assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
        assert_eq!(xattr::get(&file, "user.virtfit-test").unwrap_or_default(), label);
        assert_eq!(root.list("/etc/libvirt/qemu").unwrap(), ["a.xml"]);
    }

    #[test]
    fn what_changed_meanwhile_stays() {
        let (folder, root) = host();
        let file = folder.path().join("etc/libvirt/qemu/a.xml");
        let definition = read(&root, "a", &Reading::default()).unwrap();
        fs::write(&file, "other").unwrap();
        let error = write(&root, &definition, "<new/>").unwrap_err().to_string();
        assert!(error.contains("a.xml: changed meanwhile"), "{error}");
        assert_eq!(fs::read_to_string(&file).unwrap(), "other");
        assert_eq!(root.list("/etc/libvirt/qemu").unwrap(), ["a.xml"]);
        fs::remove_file(&file).unwrap();
        assert!(write(&root, &definition, "<new/>").is_err());
        assert!(!file.exists(), "a definition that is gone does not come back");
    }
}
