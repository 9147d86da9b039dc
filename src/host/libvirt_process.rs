//! Process of libvirt's daemon that ran a hook, and whether it still runs.

use std::collections::BTreeSet;
use std::io::ErrorKind;
use std::sync::OnceLock;

use crate::host::libvirt_daemon;
use crate::host::threads;
use crate::hostfs::HostFs;
use virtfit_hook::operation::OPERATIONS;

/// Largest number of shells and wrappers between libvirt and the hook.
const GENERATIONS: u32 = 8;

/// Reads `/proc/sys/kernel/random/boot_id`; `None` if the root has none.
pub(crate) fn boot_id(root: &HostFs) -> Option<String> {
    let text = root.read("/proc/sys/kernel/random/boot_id").ok()?;
    Some(text.trim().to_string())
}

/// State of the process that ran the hook.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Daemon {
    /// Not known, as there is no `/proc`: the process counts as alive.
    Unknown,
    /// There is no such process.
    Gone,
    /// A process with this pid runs, started then (clock ticks since boot).
    StartedAt(u64),
}

/// Returns field 22 of `/proc/PID/stat` (`proc(5)`): the start of the process, in clock ticks since
/// boot. The command name in field 2 may contain spaces and parentheses, so fields are counted from
/// its last `)`.
pub fn start_time(stat: &str) -> Option<u64> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

/// Reads the state of the process that ran the hook; unknown on a host without `/proc`.
pub(crate) fn daemon(root: &HostFs, pid: u32) -> Daemon {
    match root.read(format!("/proc/{pid}/stat")) {
        Ok(stat) => start_time(&stat).map_or(Daemon::Unknown, Daemon::StartedAt),
        Err(error) if error.kind() == ErrorKind::NotFound && root.exists("/proc") => Daemon::Gone,
        Err(_) => Daemon::Unknown,
    }
}

/// Process that ran a hook: libvirt's daemon, or a script between the two.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parent {
    pid: u32,
    libvirt: OnceLock<(u32, u64)>,
}

impl Parent {
    /// Names the process by its id.
    pub fn new(pid: u32) -> Self {
        Self {
            pid,
            libvirt: OnceLock::new(),
        }
    }

    /// Returns the process id.
    #[cfg(test)]
    pub(crate) fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns libvirt's daemon, as [`libvirt_of`] finds it. The first answer is kept, because the
    /// hook still ran then.
    pub(crate) fn libvirt(&self, root: &HostFs) -> (u32, u64) {
        *self.libvirt.get_or_init(|| libvirt_of(root, self.pid))
    }
}

/// Finds the libvirt daemon among a hook's ancestors, with its start time in clock ticks since boot
/// (0: not known). A wrapper script ends with the hook, so it must not be taken for the daemon; but
/// if no daemon is found, the parent is returned.
pub(crate) fn libvirt_of(root: &HostFs, parent: u32) -> (u32, u64) {
    let mut pid = parent;
    let mut first = None;
    for _ in 0..GENERATIONS {
        let Ok(stat) = root.read(format!("/proc/{pid}/stat")) else {
            break;
        };
        let start = start_time(&stat).unwrap_or(0);
        if first.is_none() {
            first = Some((pid, start));
        }
        if name(&stat).is_some_and(libvirt_daemon::is_daemon) {
            // This file is read at each hook.
            root.keep_open(format!("/proc/{pid}/stat"));
            return (pid, start);
        }
        match parent_of(&stat) {
            Some(next) if next > 0 => pid = next,
            _ => break,
        }
    }
    first.unwrap_or((parent, 0))
}

/// Returns whether a process is one of libvirt's daemons that run QEMU guests.
pub(crate) fn is_libvirt(root: &HostFs, pid: u32) -> bool {
    let stat = root.read(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| name(&stat).is_some_and(libvirt_daemon::is_daemon))
}

/// Lists the guests for which the daemon runs a hook now, any program's: children with the
/// arguments name, operation and suboperation, after a program, or after an interpreter and its
/// script.
pub(crate) fn hooked(root: &HostFs, daemon: u32) -> BTreeSet<String> {
    let guest = |pid: u32| {
        let line = root.read(format!("/proc/{pid}/cmdline")).ok()?;
        let words: Vec<&str> = line.split('\0').collect();
        let mut calls = words.windows(3).skip(1);
        calls.find_map(|words| match words {
            [name, operation, "begin" | "end"] if is_operation(operation) => Some((*name).to_string()),
            _ => None,
        })
    };
    children(root, daemon).into_iter().filter_map(guest).collect()
}

fn is_operation(word: &str) -> bool {
    OPERATIONS.iter().any(|row| row.operation == word)
}

/// Lists the children of a process.
fn children(root: &HostFs, parent: u32) -> Vec<u32> {
    let threads = root.list(format!("/proc/{parent}/task")).unwrap_or_default();
    let by_thread = |thread: &String| root.read(format!("/proc/{parent}/task/{thread}/children")).ok();
    let told: Vec<String> = threads.iter().filter_map(by_thread).collect();
    if !told.is_empty() {
        let all = told.iter().flat_map(|text| text.split_ascii_whitespace());
        return all.filter_map(|pid| pid.parse().ok()).collect();
    }
    // A kernel without CONFIG_PROC_CHILDREN.
    let is_child = |pid: &u32| {
        let stat = root.read(format!("/proc/{pid}/stat"));
        stat.is_ok_and(|stat| parent_of(&stat) == Some(parent))
    };
    threads::ids(root, "/proc").into_iter().filter(is_child).collect()
}

/// Returns field 2 of `/proc/PID/stat` (`proc(5)`), without its parentheses.
fn name(stat: &str) -> Option<&str> {
    let (before, _) = stat.rsplit_once(')')?;
    before.split_once('(').map(|(_, name)| name)
}

/// Returns field 4 of `/proc/PID/stat`, the parent.
fn parent_of(stat: &str) -> Option<u32> {
    let (_, rest) = stat.rsplit_once(')')?;
    rest.split_ascii_whitespace().nth(1)?.parse().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn stat(pid: u32, name: &str, parent: u32, start: u64) -> String {
        format!("{pid} ({name}) S {parent} 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0\n")
    }

    #[test]
    fn wrappers_are_looked_through() {
        let folder = tempfile::tempdir().unwrap();
        for (pid, name, parent, start) in [
            (1, "systemd", 0, 1),
            (10, "libvirtd", 1, 100),
            (11, "virtqemud", 1, 110),
            (20, "bash", 10, 200),
            (21, "a (sh) x", 20, 210),
            (22, "sh", 10, 220),
            (30, "cargo", 1, 300),
            (31, "rpc-libvirtd", 30, 310),
        ] {
            let path = folder.path().join(format!("proc/{pid}"));
            std::fs::create_dir_all(&path).unwrap();
            std::fs::write(path.join("stat"), stat(pid, name, parent, start)).unwrap();
        }
        let root = HostFs::new(folder.path());
        for (parent, expected) in [
            (10, (10, 100)),
            (11, (11, 110)),
            (20, (10, 100)),
            (21, (10, 100)),
            (30, (30, 300)),
            (31, (31, 310)),
            (99, (99, 0)),
        ] {
            assert_eq!(libvirt_of(&root, parent), expected, "{parent}");
        }
        for (pid, line) in [
            (20, "/etc/libvirt/hooks/qemu\0db\0prepare\0begin\0-\0"),
            (22, "/bin/sh\0hook\0shut\0down\0begin\0-\0"),
            (21, "/bin/sh\0hook\0other\0prepare\0begin\0-\0"),
            (30, "db\0db\0x\0"),
        ] {
            std::fs::write(folder.path().join(format!("proc/{pid}/cmdline")), line).unwrap();
        }
        for (daemon, guest, expected) in [
            (10, "db", true),
            (10, "d", false),
            (10, "prepare", false),
            (10, "shut", false),
            // A child of the wrapper, not of the daemon.
            (10, "other", false),
            (1, "db", false),
            (11, "db", false),
        ] {
            assert_eq!(
                hooked(&root, daemon).contains(guest),
                expected,
                "{daemon} {guest}"
            );
        }
        // If the kernel lists children, no other process is looked at.
        let task = folder.path().join("proc/11/task/11");
        std::fs::create_dir_all(&task).unwrap();
        std::fs::write(task.join("children"), "20 31 ").unwrap();
        assert_eq!(hooked(&root, 11).into_iter().collect::<Vec<_>>(), ["db"]);
        assert_eq!(daemon(&root, 10), Daemon::StartedAt(100));
        assert_eq!(daemon(&root, 99), Daemon::Gone);
        assert_eq!(daemon(&HostFs::new("/nonexistent-root"), 10), Daemon::Unknown);
    }
}
