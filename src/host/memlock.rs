//! Limits on locked memory: libvirt lifts RLIMIT_MEMLOCK of the new QEMU (`virProcessSetMaxMemLock`
//! in util/virprocess.c). The kernel allows that up to the daemon's own hard limit, and beyond it
//! only with CAP_SYS_RESOURCE.

use crate::hostfs::HostFs;

use crate::host::libvirt_daemon::DRIVER_PID_FILE;
use crate::host::{kernel, libvirt_daemon};

/// Bit of CAP_SYS_RESOURCE in `include/uapi/linux/capability.h`.
const CAP_SYS_RESOURCE: u32 = 24;

/// Returns `true` if the running daemon may not lift the limit; `false` if no daemon runs, or it
/// cannot be read.
///
/// While the driver's pid file is unchanged, so are the daemon and its rights.
pub(super) fn limited(root: &HostFs) -> bool {
    match root.metadata(DRIVER_PID_FILE) {
        Ok(_) => looked_at(&root.unnoted()),
        Err(_) => looked_at(root),
    }
}

fn looked_at(root: &HostFs) -> bool {
    let text = |path: &str| kernel::text(root, path).ok().flatten().unwrap_or_default();
    libvirt_daemon::running(root).iter().any(|daemon| {
        let folder = format!("/proc/{}", daemon.pid);
        lacks_capability(&text(&format!("{folder}/status"))) && has_limit(&text(&format!("{folder}/limits")))
    })
}

fn lacks_capability(status: &str) -> bool {
    let effective = field(status, "CapEff").and_then(|text| u64::from_str_radix(text, 16).ok());
    effective.is_some_and(|capabilities| capabilities >> CAP_SYS_RESOURCE & 1 == 0)
}

/// Reads the hard limit in `Max locked memory  SOFT  HARD  bytes`; `true` unless it is unlimited.
fn has_limit(limits: &str) -> bool {
    let line = limits
        .lines()
        .find_map(|line| line.strip_prefix("Max locked memory"));
    let hard = line.and_then(|line| line.split_whitespace().nth(1));
    hard.is_some_and(|hard| hard != "unlimited")
}

fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    status.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        (key == name).then_some(value.trim())
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_daemon_needs_the_capability_or_no_limit() {
        let unlimited = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  65536  unlimited  bytes\n";
        let limit = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  65536  67108864  bytes\n";
        // pid file, its text, Name, CapEff, limits, limited
        let rows = [
            (
                "libvirtd.pid",
                "77\n",
                "libvirtd",
                "000001ffffffffff",
                limit,
                false,
            ),
            (
                "libvirtd.pid",
                "77\n",
                "libvirtd",
                "000001fffeffffff",
                limit,
                true,
            ),
            (
                "virtqemud.pid",
                "77",
                "virtqemud",
                "0000000000000000",
                limit,
                true,
            ),
            (
                "libvirt/libvirtd.pid",
                "77",
                "libvirtd",
                "0000000000000000",
                limit,
                true,
            ),
            (
                "libvirtd.pid",
                "77\n",
                "libvirtd",
                "000001fffeffffff",
                unlimited,
                false,
            ),
            ("libvirtd.pid", "77\n", "bash", "000001fffeffffff", limit, false),
            (
                "libvirtd.pid",
                "78\n",
                "libvirtd",
                "000001fffeffffff",
                limit,
                false,
            ),
            (
                "libvirtd.pid",
                "?\n",
                "libvirtd",
                "000001fffeffffff",
                limit,
                false,
            ),
            ("libvirtd.pid", "77\n", "libvirtd", "?", limit, false),
            ("libvirtd.pid", "77\n", "libvirtd", "000001fffeffffff", "", false),
            ("other.pid", "77\n", "libvirtd", "000001fffeffffff", limit, false),
        ];
        for row in rows {
            let (file, pid, name, capabilities, limits, want) = row;
            let dir = tempfile::tempdir().unwrap();
            let write = |path: String, text: String| {
                let path = dir.path().join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            write(format!("run/{file}"), pid.into());
            write(
                "proc/77/status".into(),
                format!("Name:\t{name}\nCapPrm:\t000001ffffffffff\nCapEff:\t{capabilities}\n"),
            );
            write("proc/77/limits".into(), limits.into());
            assert_eq!(limited(&HostFs::new(dir.path())), want, "{row:?}");
        }
        assert!(!limited(&HostFs::new(tempfile::tempdir().unwrap().path())));
    }
}
