//! Definitions written in their files, before libvirt loads them. Afterwards the files are
//! libvirt's alone.
//!
//! A file is replaced as libvirt itself does it: the new one is written beside the old under a name
//! libvirt does not load, flushed, and renamed ([`atomic::replace()`]). Owner, mode and security
//! label are the old one's; libvirt's comment at its head stays, like everything that is not
//! virtfit's. The folder is locked for the whole run, from before the first definition is read: of
//! two runs at once, the second sees what the first wrote.

use std::io::{self, ErrorKind};
use std::time::{Duration, Instant};

use crate::hostfs::HostFs;
use crate::hostfs::at_path::{at_path, io_words};
use crate::hostfs::atomic;
use crate::hostfs::atomic::{Lock, Whose};
use crate::ledger::claims;
use crate::libvirt::definitions::Definition;

/// Time to wait for another run, where an administrator waits.
pub(crate) const PATIENCE: Duration = Duration::from_secs(20);

/// Time that an unattended run waits for another one. With [`TIME`] it leaves room in the 30
/// seconds that systemd gives the unit.
pub(crate) const UNATTENDED_PATIENCE: Duration = Duration::from_secs(10);

/// Time from the moment at which an unattended run has the lock, after which nothing more is
/// decided: what was decided is written well within the 30 seconds systemd gives the unit.
pub(crate) const TIME: Duration = Duration::from_secs(15);

/// Keeps other offline runs out, and removes files that killed runs left. `None`: there are no
/// definitions, or their file system has no locks; each file is then still replaced only if it is
/// as it was read.
///
/// # Errors
/// Another run holds the lock all the time, or the folder may not be read.
pub(crate) fn lock(root: &HostFs, patience: Duration) -> io::Result<Option<Lock>> {
    let folder = root.resolve(claims::FOLDER).map(|on_host| root.path(on_host))?;
    let named = |error: io::Error| at_path(folder.display(), error);
    let lock = match atomic::lock(&folder, Instant::now() + patience) {
        Ok(Some(lock)) => lock,
        Ok(None) => {
            let text = "another virtfit apply --offline is at work: try again when it has ended";
            return Err(named(io::Error::new(ErrorKind::TimedOut, text)));
        }
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(named(error)),
        Err(error) => {
            log::warn!("{}: cannot be locked: {}", folder.display(), io_words(&error));
            return Ok(None);
        }
    };
    atomic::sweep(&folder, Whose::Others);
    Ok(Some(lock))
}

/// Replaces the file of a definition that has not changed since it was read.
///
/// # Errors
/// The file was changed or removed in between, or cannot be written; it is then as it was.
pub(crate) fn write(root: &HostFs, definition: &Definition, xml: &str) -> io::Result<()> {
    let file = root
        .resolve(claims::path(&definition.file.name))
        .map(|on_host| root.path(on_host))?;
    atomic::replace(&file, &definition.file.text, xml).map_err(|error| at_path(file.display(), error))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    use super::*;
    use crate::ledger::reader::Reading;
    use crate::libvirt::definitions::read;

    const XML: &str =
        "<!-- kept -->\n<domain type='kvm'><name>a</name><memory>1</memory><vcpu>1</vcpu></domain>\n";

    fn host() -> (tempfile::TempDir, HostFs) {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
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
        // A file system without labels has none before and none after.
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

    #[test]
    fn what_killed_runs_left_is_swept_and_a_second_run_waits() {
        let (folder, root) = host();
        let definitions = folder.path().join("etc/libvirt/qemu");
        fs::write(definitions.join(".virtfit.1.0"), "half").unwrap();
        let lock = lock(&root, PATIENCE).unwrap();
        assert!(lock.is_some());
        assert_eq!(root.list("/etc/libvirt/qemu").unwrap(), ["a.xml"]);
        let soon = Instant::now() + Duration::from_millis(20);
        assert!(atomic::lock(&definitions, soon).unwrap().is_none());
        assert!(
            super::lock(&HostFs::new(folder.path().join("none")), PATIENCE)
                .unwrap()
                .is_none()
        );
    }
}
