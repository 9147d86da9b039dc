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
//!
//! A guest named `driver` has the driver's pid file for its own: libvirt replaces the file with one
//! that the guest's QEMU locks, and removes that when the guest ends. A file that is another
//! program's, or none at all, therefore says nothing: a daemon that [`running`] finds by the other
//! files then counts as a driver that runs.

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

/// Returns `true` if a QEMU driver runs; `false` also if nothing may be read that tells.
pub(crate) fn driver_runs(root: &HostFs) -> bool {
    match lock_of_driver(root) {
        Lock::Held => true,
        Lock::Free => false,
        Lock::Unknown => !running(root).is_empty(),
    }
}

/// Lock on the driver's pid file.
enum Lock {
    /// The driver holds it.
    Held,
    /// The file is the driver's, and no process locks it.
    Free,
    /// The file is missing, may not be opened, or is that of a guest named `driver`.
    Unknown,
}

fn lock_of_driver(root: &HostFs) -> Lock {
    let Ok(file) = File::open(root.path(DRIVER_PID_FILE)) else {
        return Lock::Unknown;
    };
    let mut lock = lock(libc::F_WRLCK);
    let asked = fcntl(&file, FcntlArg::F_GETLK(&mut lock));
    if asked.is_err() || lock.l_type == libc::F_UNLCK as libc::c_short {
        return match is_of_driver(root) {
            true => Lock::Free,
            false => Lock::Unknown,
        };
    }
    // The kernel names no process of another PID namespace, and none for a lock of a description.
    match u32::try_from(lock.l_pid).is_ok_and(|pid| is_another(root, pid)) {
        true => Lock::Unknown,
        false => Lock::Held,
    }
}

/// Returns whether the driver's pid file is there and names no program but a daemon of libvirt's.
pub(crate) fn is_of_driver(root: &HostFs) -> bool {
    text_of_driver(root).is_some()
}

/// Returns the text of the driver's pid file as [`is_of_driver`] accepts it.
fn text_of_driver(root: &HostFs) -> Option<String> {
    let text = root.read(DRIVER_PID_FILE).ok()?;
    let text = text.trim();
    let another = text.parse().is_ok_and(|pid| is_another(root, pid));
    (!another).then(|| text.to_string())
}

/// Returns whether a process runs another program than a daemon of libvirt's.
fn is_another(root: &HostFs, pid: u32) -> bool {
    name_of(root, pid).is_some_and(|name| !is_daemon(&name))
}

/// Returns the text of the driver's pid file, whether the driver runs or not, or the process of a
/// daemon where the file is not the driver's; another driver has another text. Empty without
/// either.
pub(crate) fn driver_text(root: &HostFs) -> String {
    text_of_driver(root).unwrap_or_else(|| {
        let daemons = running(root);
        daemons
            .first()
            .map_or_else(String::new, |daemon| daemon.pid.to_string())
    })
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

    const DRIVER: &str = "run/libvirt/qemu/driver.pid";

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
    fn a_guest_named_driver_hides_no_driver() {
        let daemon: &[(&str, &str)] = &[("run/libvirtd.pid", "77\n"), ("proc/77/comm", "libvirtd\n")];
        let qemu: &[(&str, &str)] = &[(DRIVER, "88\n"), ("proc/88/comm", "qemu-system-x86\n")];
        // files, driver runs, text, is the file the driver's
        for (files, runs, text, own) in [
            (&[][..], false, "", false),
            (daemon, true, "77", false),
            (qemu, false, "", false),
            (&[daemon, qemu].concat(), true, "77", false),
            // The driver's own file, which no process locks: it is left over.
            (&[daemon, &[(DRIVER, "77\n")]].concat(), false, "77", true),
            (&[(DRIVER, "66\n")], false, "66", true),
        ] {
            let host = Host::new(files);
            let root = host.root();
            assert_eq!(driver_runs(&root), runs, "{files:?}");
            assert_eq!(driver_text(&root), text, "{files:?}");
            assert_eq!(is_of_driver(&root), own, "{files:?}");
        }
    }

    #[test]
    fn a_lock_of_a_guest_named_driver_is_not_the_drivers() {
        let host = Host::new(&[(DRIVER, "1\n")]);
        let path = host.root().path(DRIVER_PID_FILE);
        let script = "import fcntl,sys; f=open(sys.argv[1],'r+'); fcntl.lockf(f,fcntl.LOCK_EX); print(flush=True); sys.stdin.read()";
        let mut holder = std::process::Command::new("python3")
            .args(["-c", script])
            .arg(path)
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .unwrap();
        std::io::Read::read(holder.stdout.as_mut().unwrap(), &mut [0]).unwrap();
        let comm = format!("proc/{}/comm", holder.id());
        for (name, runs) in [("libvirtd\n", true), ("qemu-system-x86\n", false)] {
            host.put(&comm, name);
            assert_eq!(driver_runs(&host.root()), runs, "{name}");
        }
        host.put("run/libvirtd.pid", "77");
        host.put("proc/77/comm", "libvirtd\n");
        assert!(driver_runs(&host.root()), "the daemon beside it");
        drop(holder.stdin.take());
        holder.wait().unwrap();
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
