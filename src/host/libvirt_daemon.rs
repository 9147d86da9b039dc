//! Daemon of libvirt, seen from outside: whether it runs, and in which process. No function here
//! talks to it.
//!
//! ```text
//! /run/libvirt/qemu/driver.pid                       the QEMU driver's own; written before it loads any definition
//! /run/virtqemud.pid, /run/libvirtd.pid              the daemon's, written when it starts
//! /run/libvirt/virtqemud.pid, …/libvirtd.pid         the daemon's, if it is started with -p
//! ```
//! Two questions, two answers:
//! - **Does the driver run?** The driver holds a write lock (`fcntl`) on its pid file as long as it
//!   lives (`virPidFileAcquirePath`). The lock decides, whatever number is in the file and in
//!   whichever PID namespace it was written: [`driver_runs`].
//! - **Which process is it?** The numbers in the pid files decide. A file may be left over, and its
//!   number another program's by now, so it counts only if the process has a daemon's name:
//!   [`running`].

use std::fs::File;

use nix::fcntl::{FcntlArg, fcntl};
use nix::libc;

use crate::hostfs::HostFs;

/// Path of the QEMU driver's pid file on the host.
pub(crate) const DRIVER_PID_FILE: &str = "/run/libvirt/qemu/driver.pid";

/// Files in which the daemons note their process.
const PID_FILES: [&str; 5] = [
    DRIVER_PID_FILE,
    "/run/virtqemud.pid",
    "/run/libvirtd.pid",
    "/run/libvirt/virtqemud.pid",
    "/run/libvirt/libvirtd.pid",
];

/// Names of the daemons that run QEMU guests: the modular one, and the old one for all drivers.
const NAMES: [&str; 2] = ["virtqemud", "libvirtd"];

/// Sockets of these daemons, in their folders. A user's own daemon has them in another one.
const SOCKETS: [&str; 2] = ["virtqemud-sock", "libvirt-sock"];
const SOCKET_FOLDERS: [&str; 2] = ["/run/libvirt/", "/var/run/libvirt/"];
/// Flag of a socket that accepts connections in `/proc/net/unix` (`__SO_ACCEPTCON`).
const ACCEPTS: u32 = 1 << 16;

/// Folders of systemd's units that packages install.
const UNITS: [&str; 2] = ["/usr/lib/systemd/system", "/lib/systemd/system"];
/// Link by which systemd listens for the daemon for QEMU alone.
const ENABLED: &str = "/etc/systemd/system/sockets.target.wants/virtqemud.socket";

/// Running daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Process {
    /// `virtqemud` or `libvirtd`.
    pub name: String,
    /// Process id.
    pub pid: u32,
}

/// Returns whether a process of this name (`comm`) is a daemon that runs QEMU guests.
pub(crate) fn is_daemon(name: &str) -> bool {
    NAMES.contains(&name)
}

/// Lists the running daemons by their pid files, each once. Processes that cannot be read are left
/// out.
pub(crate) fn running(root: &HostFs) -> Vec<Process> {
    let mut found: Vec<Process> = Vec::new();
    for file in PID_FILES {
        let number = root.read(file).ok().and_then(|text| text.trim().parse().ok());
        let Some(pid) = number.filter(|pid| found.iter().all(|known| known.pid != *pid)) else {
            continue;
        };
        if let Some(name) = name_of(root, pid).filter(|name| is_daemon(name)) {
            found.push(Process { name, pid });
        }
    }
    found
}

/// Returns whether a program listens on a socket of libvirt: a daemon, or systemd for a daemon that
/// ended because it had nothing to do. `None`: the kernel does not tell.
pub(crate) fn listens(root: &HostFs) -> Option<bool> {
    let sockets = root.read("/proc/net/unix").ok()?;
    let is_listening = |line: &str| {
        let mut fields = line.split_ascii_whitespace().skip(3);
        let flags = fields
            .next()
            .and_then(|flags| u32::from_str_radix(flags, 16).ok());
        let path = fields.nth(3).unwrap_or_default();
        let name = SOCKET_FOLDERS.iter().find_map(|folder| path.strip_prefix(folder));
        name.is_some_and(|name| SOCKETS.contains(&name)) && flags.is_some_and(|flags| flags & ACCEPTS != 0)
    };
    Some(sockets.lines().any(is_listening))
}

/// Returns the command that starts libvirt: the daemon for QEMU alone where its socket is enabled
/// or the old daemon is not installed.
pub(crate) fn to_start(root: &HostFs) -> &'static str {
    let installed = |unit: &str| UNITS.iter().any(|folder| root.exists(format!("{folder}/{unit}")));
    match root.exists(ENABLED) || (installed("virtqemud.socket") && !installed("libvirtd.service")) {
        true => "systemctl start virtqemud.socket",
        false => "systemctl start libvirtd",
    }
}

/// Returns a process's name. The kernel has it in both files, but the copy of a host may have only
/// one of them.
fn name_of(root: &HostFs, pid: u32) -> Option<String> {
    if let Ok(comm) = root.read(format!("/proc/{pid}/comm")) {
        return Some(comm.trim().to_string());
    }
    let status = root.read(format!("/proc/{pid}/status")).ok()?;
    let name = status.lines().find_map(|line| line.strip_prefix("Name:"))?;
    Some(name.trim().to_string())
}

/// Returns `true` if a QEMU driver runs; `false` also if its pid file may not be opened.
pub(crate) fn driver_runs(root: &HostFs) -> bool {
    let Ok(file) = File::open(root.path(DRIVER_PID_FILE)) else {
        return false;
    };
    let mut lock = lock(libc::F_WRLCK);
    let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
    asked.is_ok() && lock.l_type != libc::F_UNLCK as libc::c_short
}

/// Returns the text of the driver's pid file, whether the driver runs or not; another driver has
/// another text. Empty without a file.
pub(crate) fn driver_text(root: &HostFs) -> String {
    root.read(DRIVER_PID_FILE).unwrap_or_default()
}

/// Makes a lock of this type on a whole file.
fn lock(kind: libc::c_int) -> libc::flock {
    libc::flock {
        l_type: kind as libc::c_short,
        l_whence: libc::SEEK_SET as libc::c_short,
        l_start: 0,
        l_len: 0,
        l_pid: 0,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    struct Host(tempfile::TempDir);

    impl Host {
        fn new(files: &[(&str, &str)]) -> Self {
            let host = Self(tempfile::tempdir().unwrap());
            files.iter().for_each(|(path, text)| host.put(path, text));
            host
        }

        fn put(&self, path: &str, text: &str) {
            let path = self.0.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }

        fn root(&self) -> HostFs {
            HostFs::new(self.0.path())
        }
    }

    /// Name and process of each daemon.
    type Found = &'static [(&'static str, u32)];

    #[test]
    fn a_daemon_is_told_from_what_is_left_over() {
        // files, name and pid of each
        let rows: &[(&[(&str, &str)], Found)] = &[
            (&[], &[]),
            (&[("run/libvirt/qemu/driver.pid", "77\n")], &[]),
            (&[("run/libvirtd.pid", "77"), ("proc/77/comm", "bash\n")], &[]),
            (&[("run/other.pid", "77"), ("proc/77/comm", "libvirtd\n")], &[]),
            (&[("run/libvirtd.pid", "?"), ("proc/77/comm", "libvirtd\n")], &[]),
            (
                &[("run/libvirtd.pid", "77\n"), ("proc/77/comm", "libvirtd\n")],
                &[("libvirtd", 77)],
            ),
            (
                &[("run/libvirt/libvirtd.pid", "77"), ("proc/77/comm", "libvirtd\n")],
                &[("libvirtd", 77)],
            ),
            (
                &[
                    ("run/libvirt/virtqemud.pid", "77"),
                    ("proc/77/comm", "virtqemud\n"),
                ],
                &[("virtqemud", 77)],
            ),
            (
                &[
                    ("run/libvirtd.pid", "77"),
                    ("proc/77/status", "Name:\tlibvirtd\n"),
                ],
                &[("libvirtd", 77)],
            ),
            // Named twice, and one that is gone.
            (
                &[
                    ("run/libvirt/qemu/driver.pid", "77\n"),
                    ("run/virtqemud.pid", "77\n"),
                    ("run/libvirtd.pid", "78\n"),
                    ("proc/77/comm", "virtqemud\n"),
                ],
                &[("virtqemud", 77)],
            ),
        ];
        for (files, expected) in rows {
            let found = running(&Host::new(files).root());
            let found: Vec<(&str, u32)> = found.iter().map(|it| (it.name.as_str(), it.pid)).collect();
            assert_eq!(found, *expected, "{files:?}");
        }
        assert_eq!(running(&HostFs::none()), []);
    }

    #[test]
    fn a_listener_is_told_from_a_connection() {
        let head = "Num       RefCount Protocol Flags    Type St Inode Path\n";
        let line = |flags: &str, path: &str| {
            format!("00000000f658fffc: 00000002 00000000 {flags} 0001 01 2452975 {path}\n")
        };
        // lines, answer
        for (lines, expected) in [
            (String::new(), false),
            (line("00010000", "/run/libvirt/libvirt-sock"), true),
            (line("00010000", "/var/run/libvirt/virtqemud-sock"), true),
            // A connection of a client, another socket, and one without a name.
            (line("00000000", "/run/libvirt/libvirt-sock"), false),
            (line("00010000", "/run/libvirt/libvirt-sock-ro"), false),
            (line("00010000", "/run/user/1000/libvirt/libvirt-sock"), false),
            (line("00010000", ""), false),
        ] {
            let text = format!("{head}{lines}");
            let host = Host::new(&[("proc/net/unix", &text)]);
            assert_eq!(listens(&host.root()), Some(expected), "{lines}");
        }
        assert_eq!(listens(&Host::new(&[]).root()), None);
    }

    #[test]
    fn the_lock_tells_not_the_file() {
        let host = Host::new(&[]);
        assert!(!driver_runs(&host.root()), "no file");
        host.put("run/libvirt/qemu/driver.pid", "1\n");
        assert!(!driver_runs(&host.root()), "left over");
        let mut lock = lock(libc::F_WRLCK);
        let file = File::options()
            .write(true)
            .open(host.root().path(DRIVER_PID_FILE))
            .unwrap();
        // A lock of the open file description: it shows in the process that holds it, too.
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert!(driver_runs(&host.root()));
        lock.l_type = libc::F_UNLCK as libc::c_short;
        fcntl(&file, FcntlArg::F_OFD_SETLK(&lock)).unwrap();
        assert!(!driver_runs(&host.root()));
    }
}
