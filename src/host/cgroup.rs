//! What libvirt and the cgroup it puts guests in allow: CPUs, memory nodes, real-time scheduling, locked memory.
//!
//! libvirt's default partition is `/machine` (`machine.slice` under systemd). Kernel:
//! `Documentation/admin-guide/cgroup-v2.rst`, `cgroup-v1/cpusets.rst`, `scheduler/sched-rt-group.rst`.

use crate::idset::{CpuSet, IdSet, NodeSet};
use crate::root::Root;
use crate::units::Id;

use super::error::HostError;
use super::{kernel, memlock};

const BASE: &str = "/sys/fs/cgroup";

/// What guests may use. `None`: no limit known.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct GuestLimits {
    pub cpus: Option<CpuSet>,
    pub nodes: Option<NodeSet>,
    pub rt_runtime_us: Option<i64>,
    pub rt_allowed: bool,
    pub memlock_limited: bool,
}

pub(super) fn read(root: &Root) -> Result<GuestLimits, HostError> {
    Ok(GuestLimits {
        cpus: cpuset(root, "cpus")?,
        nodes: cpuset(root, "mems")?,
        rt_runtime_us: kernel::number(root, "/proc/sys/kernel/sched_rt_runtime_us")?,
        rt_allowed: rt_allowed(root)?,
        memlock_limited: memlock::limited(root),
    })
}

/// The nearest cpuset that says something; an empty one inherits and says nothing.
fn cpuset<T: Id>(root: &Root, what: &str) -> Result<Option<IdSet<T>>, HostError> {
    let candidates = [
        format!("{BASE}/machine.slice/cpuset.{what}.effective"),
        format!("{BASE}/cpuset.{what}.effective"),
        format!("{BASE}/cpuset/machine.slice/cpuset.effective_{what}"),
        format!("{BASE}/cpuset/machine.slice/cpuset.{what}"),
        format!("{BASE}/cpuset/machine/cpuset.effective_{what}"),
        format!("{BASE}/cpuset/machine/cpuset.{what}"),
        format!("{BASE}/cpuset/cpuset.effective_{what}"),
        format!("{BASE}/cpuset/cpuset.{what}"),
    ];
    for path in candidates {
        if let Some(set) = kernel::list(root, &path)?.filter(|set| !set.is_empty()) {
            return Ok(Some(set));
        }
    }
    Ok(None)
}

/// With cgroup v1 and `CONFIG_RT_GROUP_SCHED` a group has real-time time only if it was given some; a new one (also
/// `machine.slice` before the first guest) has none.
fn rt_allowed(root: &Root) -> Result<bool, HostError> {
    for controller in ["cpu,cpuacct", "cpu"] {
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
            let limits = read(&Root::new(dir.path())).unwrap();
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
