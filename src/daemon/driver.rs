//! Whether libvirt's QEMU driver runs, without talking to it.
//!
//! The driver holds a write lock (`fcntl`) on its pid file as long as it lives (`virPidFileAcquirePath`): the lock tells, whatever
//! number stands in the file and in whichever PID namespace it was written.

use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::ledger::process;
use crate::root::Root;

/// A guest for which another program's hook runs is looked at again after this: nobody tells when that ends.
pub const HOOKED: Duration = Duration::from_secs(1);

/// The driver's pid file on the host.
pub const PID_FILE: &str = "/run/libvirt/qemu/driver.pid";

/// Whether a driver runs.
pub fn runs(root: &Root) -> bool {
    let Ok(file) = File::open(root.path(PID_FILE)) else {
        return false;
    };
    let mut lock = libc::flock {
        l_type: libc::F_WRLCK as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    };
    let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
    asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// The guests for which the driver runs a hook now, other programs' too. It holds their locks meanwhile: a call for one of them waits
/// until the hook ends, and all other clients with it.
pub fn hooked(root: &Root) -> BTreeSet<String> {
    let pid = root.read(PID_FILE).ok().and_then(|pid| pid.trim().parse().ok());
    pid.map_or_else(BTreeSet::new, |pid| process::hooked(root, pid))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_file_nobody_locks_is_left_over() {
        let dir = tempfile::tempdir().unwrap();
        let root = Root::new(dir.path());
        assert!(!runs(&root));
        std::fs::create_dir_all(dir.path().join("run/libvirt/qemu")).unwrap();
        std::fs::write(dir.path().join("run/libvirt/qemu/driver.pid"), "1\n").unwrap();
        assert!(!runs(&root));
    }
}
