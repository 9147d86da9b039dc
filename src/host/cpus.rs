//! State of the CPUs from `/sys/devices`: online, present, isolated, tickless, and their kind.
//!
//! Kernel: `Documentation/ABI/testing/sysfs-devices-system-cpu`,
//! `Documentation/admin-guide/cputopology.rst`.

use std::collections::BTreeMap;

use crate::hostfs::HostFs;
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;

use crate::host::core_kinds::{self, Group};
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
    /// Rank of each CPU's kind by x86's perf devices, 0 the fastest; empty if all are alike.
    pub kinds: BTreeMap<HostCpu, u32>,
    /// The same by capacity, where the kernel reports one.
    pub kinds_by_capacity: Option<BTreeMap<HostCpu, u32>>,
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
        kinds_by_capacity: kinds_by_capacity(root)?,
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

/// Reads the base frequency of each group of which hwloc reports the maximum alone. Of some
/// processors only ACPI has it; one CPU speaks for its group, as the kernel may ask that very CPU.
pub(super) fn add_base_frequencies(root: &HostFs, groups: &mut [Group]) -> Result<(), HostError> {
    if groups.len() < 2 {
        return Ok(());
    }
    for group in groups.iter_mut().filter(|group| group.base.is_none()) {
        if let Some(cpu) = group.cpus.first() {
            group.base = kernel::number(root, &format!("{DIR}/cpu{cpu}/acpi_cppc/nominal_freq"))?;
        }
    }
    Ok(())
}

/// Reads the kinds that x86's perf devices name; `cpu_core` is the fast one.
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
    if rank < 2 {
        kinds.clear();
    }
    Ok(kinds)
}

/// Reads the kinds by the capacity that arm64 gives each CPU. CPUs with one MIDR are of one kind
/// whatever their capacity: cores of one design with another clock.
fn kinds_by_capacity(root: &HostFs) -> Result<Option<BTreeMap<HostCpu, u32>>, HostError> {
    let mut by_capacity: BTreeMap<u64, Vec<HostCpu>> = BTreeMap::new();
    for name in root.list(DIR)? {
        let Some(cpu) = kernel::suffix(&name, "cpu") else {
            continue;
        };
        match kernel::number::<u64>(root, &format!("{DIR}/{name}/cpu_capacity"))? {
            Some(capacity) => by_capacity.entry(capacity).or_default().push(HostCpu(cpu)),
            None => continue,
        }
    }
    if by_capacity.is_empty() {
        return Ok(None);
    }
    let fastest_first = by_capacity.into_iter().rev();
    let groups: Vec<Group> = fastest_first
        .map(|(capacity, cpus)| Group {
            cores: cpus.len(),
            cpus,
            capacity: Some(capacity),
            ..Group::default()
        })
        .collect();
    let mut kinds = core_kinds::ranks(&groups);
    let mut of_design: BTreeMap<String, Vec<HostCpu>> = BTreeMap::new();
    for cpu in kinds.keys() {
        let path = format!("{DIR}/cpu{cpu}/regs/identification/midr_el1");
        if let Some(midr) = kernel::text(root, &path)? {
            of_design.entry(midr.trim().into()).or_default().push(*cpu);
        }
    }
    for cpus in of_design.values() {
        let fastest = cpus.iter().filter_map(|cpu| kinds.get(cpu)).min().copied();
        kinds.extend(cpus.iter().filter_map(|cpu| Some((*cpu, fastest?))));
    }
    let mut left: Vec<u32> = kinds.values().copied().collect();
    left.sort_unstable();
    left.dedup();
    if left.len() < 2 {
        kinds.clear();
    }
    for rank in kinds.values_mut() {
        *rank = left.partition_point(|other| other < rank) as u32;
    }
    Ok(Some(kinds))
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
        let capacity = |cpu: u32| format!("sys/devices/system/cpu/cpu{cpu}/cpu_capacity");
        let midr = |cpu: u32| format!("sys/devices/system/cpu/cpu{cpu}/regs/identification/midr_el1");
        let ranks = |root: &HostFs| -> Vec<u32> {
            let kinds = kinds_by_capacity(root).unwrap().unwrap();
            kinds.into_values().collect()
        };
        let files = [446, 1024, 871].map(|capacity| format!("{capacity}\n"));
        let paths = [0, 1, 2].map(capacity);
        let each: Vec<(&str, &str)> = paths.iter().zip(&files).map(|(p, f)| (&p[..], &f[..])).collect();
        let (_dir, arm) = root(&each);
        assert_eq!(ranks(&arm), [2, 0, 1]);
        // The two larger cores are of one design.
        let midrs = [midr(0), midr(1), midr(2)];
        let names = ["0x410fd050\n", "0x410fd0c0\n", "0x410fd0c0\n"];
        let designs = midrs.iter().zip(names).map(|(p, f)| (&p[..], f));
        let (_dir, arm) = root(&each.iter().copied().chain(designs).collect::<Vec<_>>());
        assert_eq!(ranks(&arm), [1, 0, 0]);
        let (_dir, alike) = root(&[("sys/devices/system/cpu/cpu0/cpu_capacity", "1024\n")]);
        assert!(kinds(&alike).unwrap().is_empty());
        assert_eq!(kinds_by_capacity(&alike).unwrap(), Some(BTreeMap::new()));
        assert_eq!(kinds_by_capacity(&x86).unwrap(), None);
        assert!(any(&alike).unwrap() && !any(&x86).unwrap());
    }
}
