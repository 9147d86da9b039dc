//! State of the CPUs from `/sys/devices`: online, present, isolated, tickless, and their kind.
//!
//! Kernel: `Documentation/ABI/testing/sysfs-devices-system-cpu`,
//! `Documentation/admin-guide/cputopology.rst`.

use std::collections::{BTreeMap, BTreeSet};

use crate::hostfs::HostFs;
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;

use crate::host::error::HostError;
use crate::host::kernel;

const DIR: &str = "/sys/devices/system/cpu";

/// State of the CPUs as the kernel reports it. `None`: not reported.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct CpuState {
    pub online: Option<CpuSet>,
    pub present: Option<CpuSet>,
    /// Offline CPUs, present or not: a kernel lists here also CPUs that could be plugged in.
    pub offline: Option<CpuSet>,
    pub isolated: CpuSet,
    pub nohz_full: CpuSet,
    /// Rank of each CPU's kind, 0 the fastest; empty if all are alike.
    pub kinds: BTreeMap<HostCpu, u32>,
}

pub(super) fn read(root: &HostFs) -> Result<CpuState, HostError> {
    let list = |name: &str| kernel::list(root, &format!("{DIR}/{name}"));
    let mut isolated: CpuSet = list("isolated")?.unwrap_or_default();
    // Isolated cpuset partitions; the file is in the root group only, since 6.7 (cgroup-v2.rst).
    if let Some(partitions) = kernel::list(root, "/sys/fs/cgroup/cpuset.cpus.isolated")? {
        isolated.extend_from(&partitions);
    }
    Ok(CpuState {
        online: list("online")?.filter(|set| !set.is_empty()),
        present: list("present")?.filter(|set| !set.is_empty()),
        offline: list("offline")?,
        isolated,
        nohz_full: list("nohz_full")?.unwrap_or_default(),
        kinds: kinds(root)?,
    })
}

impl CpuState {
    /// Returns the CPUs that are present but offline.
    pub(super) fn present_offline(&self) -> Option<CpuSet> {
        match (&self.present, &self.online, &self.offline) {
            (Some(present), Some(online), _) => Some(present.difference(online)),
            (Some(present), None, Some(offline)) => Some(present.intersection(offline)),
            (None, _, offline) => offline.clone(),
            (Some(_), None, None) => None,
        }
    }
}

/// Returns `true` if the root has any CPU; without one hwloc would invent one.
pub(super) fn any(root: &HostFs) -> Result<bool, HostError> {
    let numbered = root
        .list(DIR)?
        .iter()
        .any(|name| kernel::suffix(name, "cpu").is_some());
    if numbered {
        return Ok(true);
    }
    let cpuinfo = kernel::text(root, "/proc/cpuinfo")?;
    Ok(cpuinfo.is_some_and(|text| text.lines().any(|line| line.starts_with("processor"))))
}

/// Reads the kinds of a hybrid processor: x86's perf devices name them (`cpu_core` is the fast
/// one), arm64 gives each CPU a capacity.
fn kinds(root: &HostFs) -> Result<BTreeMap<HostCpu, u32>, HostError> {
    let mut kinds = BTreeMap::new();
    let mut rank = 0;
    for device in ["cpu_core", "cpu_atom", "cpu_lowpower"] {
        let cpus: Option<CpuSet> = kernel::list(root, &format!("/sys/devices/{device}/cpus"))?;
        if let Some(cpus) = cpus.filter(|cpus| !cpus.is_empty()) {
            kinds.extend(cpus.iter().map(|cpu| (cpu, rank)));
            rank += 1;
        }
    }
    if rank == 0 {
        let mut capacities = BTreeMap::new();
        for name in root.list(DIR)? {
            let Some(cpu) = kernel::suffix(&name, "cpu") else {
                continue;
            };
            match kernel::number::<u64>(root, &format!("{DIR}/{name}/cpu_capacity"))? {
                Some(capacity) => capacities.insert(HostCpu(cpu), capacity),
                None => continue,
            };
        }
        let distinct: BTreeSet<u64> = capacities.values().copied().collect();
        rank = distinct.len() as u32;
        for (cpu, capacity) in capacities {
            let faster = distinct.range(capacity + 1..).count();
            kinds.insert(cpu, faster as u32);
        }
    }
    if rank < 2 {
        kinds.clear();
    }
    Ok(kinds)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn root(files: &[(&str, &str)]) -> (tempfile::TempDir, HostFs) {
        let dir = tempfile::tempdir().unwrap();
        for (path, text) in files {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let root = HostFs::new(dir.path());
        (dir, root)
    }

    #[test]
    fn offline_is_what_is_present_and_not_online() {
        let set = |text: &str| Some(crate::types::cpulist::parse(text).unwrap());
        let table = [
            // present, online, offline, want
            (Some("0-3"), Some("0-2"), Some("3-127"), Some("3")),
            (Some("0-3"), None, Some("3-127"), Some("3")),
            (None, Some("0-2"), Some("3"), Some("3")),
            (None, Some("0-2"), None, None),
            (Some("0-3"), None, None, None),
        ];
        for row in table {
            let state = CpuState {
                present: row.0.and_then(set),
                online: row.1.and_then(set),
                offline: row.2.and_then(set),
                ..CpuState::default()
            };
            assert_eq!(
                state.present_offline().map(|set| set.to_string()).as_deref(),
                row.3,
                "{row:?}"
            );
        }
    }

    #[test]
    fn isolated_partitions_count() {
        let (_dir, root) = root(&[
            ("sys/devices/system/cpu/isolated", "2-3\n"),
            ("sys/devices/system/cpu/nohz_full", "  (null)\n"),
            ("sys/fs/cgroup/cpuset.cpus.isolated", "6\n"),
        ]);
        let state = read(&root).unwrap();
        assert_eq!(state.isolated.to_string(), "2-3,6");
        assert!(state.nohz_full.is_empty());
    }

    #[test]
    fn kinds_by_perf_device_or_capacity() {
        let (_dir, x86) = root(&[
            ("sys/devices/cpu_core/cpus", "0-1\n"),
            ("sys/devices/cpu_atom/cpus", "2-3\n"),
        ]);
        let ranks: Vec<u32> = kinds(&x86).unwrap().into_values().collect();
        assert_eq!(ranks, [0, 0, 1, 1]);
        let (_dir, arm) = root(&[
            ("sys/devices/system/cpu/cpu0/cpu_capacity", "446\n"),
            ("sys/devices/system/cpu/cpu1/cpu_capacity", "1024\n"),
            ("sys/devices/system/cpu/cpu2/cpu_capacity", "871\n"),
        ]);
        let ranks: Vec<u32> = kinds(&arm).unwrap().into_values().collect();
        assert_eq!(ranks, [2, 0, 1]);
        let (_dir, alike) = root(&[("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n")]);
        assert!(kinds(&alike).unwrap().is_empty());
        assert!(any(&alike).unwrap() && !any(&x86).unwrap());
    }
}
