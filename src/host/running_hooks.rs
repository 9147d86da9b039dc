//! The guests for which libvirt's driver runs a hook now, other programs' too. It holds their locks
//! meanwhile: a call for one of them waits until the hook ends, and all other clients with it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::host::libvirt_daemon;
use crate::host::libvirt_process;
use crate::hostfs::HostFs;

/// Such a guest is looked at again after this: nobody tells when its hook ends.
pub const AGAIN: Duration = Duration::from_secs(1);

/// Their names.
pub fn guests(root: &HostFs) -> BTreeSet<String> {
    let driver = libvirt_daemon::driver_text(root).trim().parse().ok();
    driver.map_or_else(BTreeSet::new, |pid| libvirt_process::hooked(root, pid))
}
