//! Limits that libvirt's default cgroup sets for guests: CPUs, memory nodes, real-time scheduling,
//! locked memory.
//!
//! libvirt's default partition is `/machine` (`machine.slice` under systemd). Kernel:
//! `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/cpusets.rst`,
//! `scheduler/sched-rt-group.rst`.

use crate::hostfs::HostFs;
use crate::types::ids::Id;
use crate::types::idset::{CpuSet, IdSet, NodeSet};

use crate::host::error::HostError;
use crate::host::{kernel, memlock};

const BASE: &str = "/sys/fs/cgroup";

/// CPUs, nodes and scheduling that guests may use. `None`: no limit known.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct GuestLimits {
    pub cpus: Option<CpuSet>,
    pub nodes: Option<NodeSet>,
    pub rt_allowed: bool,
    pub memlock_limited: bool,
}

pub(super) fn read(root: &HostFs) -> Result<GuestLimits, HostError> {
    let groups = groups(root);
    Ok(GuestLimits {
        cpus: cpuset(root, &groups, "cpus")?,
        nodes: cpuset(root, &groups, "mems")?,
        rt_allowed: rt_allowed(root)?,
        memlock_limited: memlock::limited(root),
    })
}

/// Reads the time that real-time tasks may run, in µs. It must not be read often: on a recent
/// kernel (seen on 6.18, `kernel/sched/rt.c`, `sched_rt_handler`) a mere read makes the kernel
/// rebuild all scheduling domains.
pub(super) fn rt_runtime_us(root: &HostFs) -> Result<Option<i64>, HostError> {
    kernel::number(root, "/proc/sys/kernel/sched_rt_runtime_us")
}

/// Lists the groups that may limit guests, the nearest first, with the parts of their files' names
/// before and after `cpus` or `mems`.
fn groups(root: &HostFs) -> Vec<(String, &'static [(&'static str, &'static str)])> {
    let unified: &[_] = &[("cpuset.", ".effective")];
    let old: &[_] = &[("cpuset.effective_", ""), ("cpuset.", "")];
    let controller = format!("{BASE}/cpuset");
    let has_old = is_mounted(root, &controller);
    let mut groups = Vec::new();
    if !has_old || is_mounted(root, &format!("{BASE}/cgroup.controllers")) {
        groups.push((format!("{BASE}/machine.slice"), unified));
        groups.push((BASE.to_string(), unified));
    }
    if has_old {
        groups.extend(["/machine.slice", "/machine", ""].map(|group| (format!("{controller}{group}"), old)));
    }
    // A missing group costs one look instead of one for each file.
    groups.retain(|(group, _)| root.exists(group));
    groups
}

/// Returns whether a hierarchy is there. Hierarchies come with mounts, and callers that keep what
/// was read watch the mounts.
fn is_mounted(root: &HostFs, path: &str) -> bool {
    root.unnoted().exists(path)
}

/// Returns the set of the nearest cpuset that is not empty; an empty one inherits.
fn cpuset<T: Id>(
    root: &HostFs,
    groups: &[(String, &[(&str, &str)])],
    what: &str,
) -> Result<Option<IdSet<T>>, HostError> {
    for (group, names) in groups {
        for (before, after) in *names {
            let path = format!("{group}/{before}{what}{after}");
            if let Some(set) = kernel::list(root, &path)?.filter(|set| !set.is_empty()) {
                return Ok(Some(set));
            }
        }
    }
    Ok(None)
}

/// Returns `false` if guests have no real-time time. With cgroup v1 and `CONFIG_RT_GROUP_SCHED` a
/// group has such time only if it was given some; a new one (also `machine.slice` before the first
/// guest) has none.
fn rt_allowed(root: &HostFs) -> Result<bool, HostError> {
    for controller in ["cpu,cpuacct", "cpu"] {
        if !is_mounted(root, &format!("{BASE}/{controller}")) {
            continue;
        }
        for group in ["machine.slice", "machine"] {
            let path = format!("{BASE}/{controller}/{group}/cpu.rt_runtime_us");
            if let Some(runtime) = kernel::number::<i64>(root, &path)? {
                return Ok(runtime != 0);
            }
        }
        if root.exists(format!("{BASE}/{controller}/cpu.rt_runtime_us")) {
            return Ok(false);
        }
    }
    Ok(true)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nearest_group_that_says_something() {
        type Row<'a> = (&'a [(&'a str, &'a str)], Option<&'a str>, bool);
        let table: [Row<'_>; 9] = [
            (&[], None, true),
            (&[("cpuset.cpus.effective", "0-7")], Some("0-7"), true),
            (
                &[
                    ("machine.slice/cpuset.cpus.effective", "2-7"),
                    ("cpuset.cpus.effective", "0-7"),
                ],
                Some("2-7"),
                true,
            ),
            (
                &[
                    ("machine.slice/cpuset.cpus.effective", "\n"),
                    ("cpuset.cpus.effective", "0-7"),
                ],
                Some("0-7"),
                true,
            ),
            (&[("cpuset/machine.slice/cpuset.cpus", "")], None, true),
            (&[("cpuset/machine/cpuset.effective_cpus", "1")], Some("1"), true),
            (
                &[("cpu,cpuacct/machine.slice/cpu.rt_runtime_us", "0")],
                None,
                false,
            ),
            (&[("cpu/machine.slice/cpu.rt_runtime_us", "950000")], None, true),
            (&[("cpu,cpuacct/cpu.rt_runtime_us", "950000")], None, false),
        ];
        for row in table {
            let dir = tempfile::tempdir().unwrap();
            for (path, text) in row.0 {
                let path = dir.path().join("sys/fs/cgroup").join(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            }
            let limits = read(&HostFs::new(dir.path())).unwrap();
            assert_eq!(
                limits.cpus.map(|set| set.to_string()).as_deref(),
                row.1,
                "{row:?}"
            );
            assert_eq!(limits.rt_allowed, row.2, "{row:?}");
            assert_eq!(limits.nodes, None, "{row:?}");
        }
    }
}
