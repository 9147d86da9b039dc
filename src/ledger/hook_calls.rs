//! Mark of the hook's last call: `/run/virtfit/hook.json` names the libvirt daemon that called it.
//!
//! The process that answers a hook (the daemon, or `virtfit hook` without one) writes the mark
//! after the answer, once for each libvirt daemon. `virtfit status` reads it to see that libvirt
//! has found the hook.

use std::io;

use serde::{Deserialize, Serialize};

use crate::host::libvirt_process;
use crate::host::libvirt_process::Parent;
use crate::hostfs::HostFs;
use crate::hostfs::atomic::AtomicDir;
use crate::ledger::reservation::Daemon;

/// Folder of the mark on the host.
pub(crate) const FOLDER: &str = "/run/virtfit";
/// File name of the mark.
const NAME: &str = "hook.json";

/// libvirt daemon that called the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Caller {
    /// Process id.
    pub pid: u32,
    /// Start time, in clock ticks since boot.
    pub start_time: u64,
}

/// Reads the mark; `None` if the hook was not called since boot, or the mark cannot be read.
pub(crate) fn last(root: &HostFs) -> Option<Caller> {
    let text = root.read(format!("{FOLDER}/{NAME}")).ok()?;
    serde_json::from_str(&text).ok()
}

/// Returns `true` if this libvirt daemon has called the hook.
pub(crate) fn was_called_by(root: &HostFs, pid: u32) -> bool {
    last(root).is_some_and(|caller| {
        caller.pid == pid && libvirt_process::daemon(root, pid) == Daemon::StartedAt(caller.start_time)
    })
}

/// Marks that the hook was called, if a libvirt daemon is among the hook's ancestors. `known` is
/// the caller of the last mark: for the same caller nothing is written while the mark is there.
///
/// # Errors
/// The operating system's error.
pub(crate) fn mark(root: &HostFs, parent: &Parent, known: Option<Caller>) -> io::Result<Option<Caller>> {
    let (pid, start_time) = parent.libvirt(root);
    let caller = Caller { pid, start_time };
    // A mark that was removed while its libvirt runs is made again.
    if known == Some(caller) && is_there(root) {
        return Ok(known);
    }
    // An administrator who runs the hook by hand is not libvirt.
    if !libvirt_process::is_libvirt(root, pid) {
        return Ok(known);
    }
    if last(root) != Some(caller) {
        write(root, caller)?;
    }
    Ok(Some(caller))
}

/// Returns whether there is a mark, readable or not.
pub(crate) fn is_there(root: &HostFs) -> bool {
    root.exists(format!("{FOLDER}/{NAME}"))
}

/// Writes the mark.
///
/// # Errors
/// The operating system's error.
pub(crate) fn write(root: &HostFs, caller: Caller) -> io::Result<()> {
    let text = serde_json::to_string(&caller).map_err(io::Error::other)? + "\n";
    AtomicDir::new(root.path(FOLDER), 0o755).write(NAME, &text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn stat(name: &str, parent: u32, start: u64) -> String {
        format!("9 ({name}) S {parent} 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0\n")
    }

    #[test]
    fn only_a_libvirt_daemon_leaves_a_mark() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, name, parent, start) in [(10, "libvirtd", 1, 100), (20, "bash", 1, 7), (21, "sh", 10, 9)] {
            let path = folder.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("stat"), stat(name, parent, start)).unwrap();
        }
        let root = HostFs::new(folder.path());
        assert_eq!(mark(&root, &Parent::new(20), None).unwrap(), None);
        assert_eq!(last(&root), None);
        // Called through a wrapper script.
        let caller = mark(&root, &Parent::new(21), None).unwrap().unwrap();
        assert_eq!((caller.pid, caller.start_time), (10, 100));
        assert!(was_called_by(&root, 10) && !was_called_by(&root, 20));
        // Another process has the number by now.
        std::fs::write(folder.path().join("proc/10/stat"), stat("libvirtd", 1, 500)).unwrap();
        assert!(!was_called_by(&root, 10));
        mark(&root, &Parent::new(10), Some(caller)).unwrap();
        assert!(was_called_by(&root, 10));
    }
}
