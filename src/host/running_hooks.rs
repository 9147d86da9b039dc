//! Guests for which libvirt's driver runs a hook now, any program's. libvirt holds a guest's lock
//! while the hook runs: a call for that guest waits until the hook ends, and all other clients wait
//! with it.

use std::collections::BTreeSet;
use std::time::Duration;

use crate::host::libvirt_daemon;
use crate::host::libvirt_process;
use crate::hostfs::HostFs;

/// Time after which such a guest is tried again: no event reports the end of its hook.
pub(crate) const AGAIN: Duration = Duration::from_secs(1);

/// Returns the names of these guests.
pub(crate) fn guests(root: &HostFs) -> BTreeSet<String> {
    let driver = libvirt_daemon::driver_text(root).trim().parse().ok();
    driver.map_or_else(BTreeSet::new, |pid| libvirt_process::hooked(root, pid))
}
