//! Memory nodes: size, huge-page pools, distances, CPUs. From `/sys/devices/system/node`; if the
//! kernel has no NUMA, from `/proc/meminfo` and `/sys/kernel/mm/hugepages` as node 0.
//!
//! Kernel: `Documentation/ABI/stable/sysfs-devices-node`,
//! `Documentation/admin-guide/mm/hugetlbpage.rst`.

use std::collections::BTreeMap;

use crate::hostfs::{HostFs, optional};
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::CpuSet;

use crate::host::error::HostError;
use crate::host::{MOST_DISTANCE, PagePool, kernel, memory_within};

const DIR: &str = "/sys/devices/system/node";
/// Huge page size of `<hugepages/>` if `/proc/meminfo` does not have it: that of x86 and most arm64
/// hosts.
const USUAL_PAGE: KiB = KiB(2048);

/// State of one node as the kernel reports it. `None`: not reported.
#[derive(Debug, Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(super) struct NodeState {
    pub cpus: Option<CpuSet>,
    pub memory: Option<KiB>,
    pub pools: Option<Vec<PagePool>>,
    pub distances: BTreeMap<NodeId, u32>,
}

/// Reads the huge page size of `<hugepages/>` and of hugetlbfs mounts that name none: a parameter
/// of the kernel's start. `None` if the kernel does not say one.
pub(super) fn stated_huge_page(root: &HostFs) -> Result<Option<KiB>, HostError> {
    let text = kernel::text(root, "/proc/meminfo")?;
    Ok(text.and_then(|text| kernel::meminfo(&text, "Hugepagesize")))
}

/// Returns the huge page size of `<hugepages/>` without a size; the usual one where the kernel does
/// not say it.
pub(crate) fn default_huge_page(root: &HostFs) -> KiB {
    let stated = stated_huge_page(root).ok().flatten();
    stated.filter(|size| size.0 > 0).unwrap_or(USUAL_PAGE)
}

pub(super) fn read(root: &HostFs) -> Result<BTreeMap<NodeId, NodeState>, HostError> {
    let fixed = &fixed(root)?;
    let ids: Vec<NodeId> = {
        let mut ids: Vec<u32> = fixed
            .list(DIR)?
            .iter()
            .filter_map(|name| kernel::suffix(name, "node"))
            .collect();
        ids.sort_unstable();
        ids.dedup();
        ids.into_iter().map(NodeId).collect()
    };
    let mut nodes = BTreeMap::new();
    for id in &ids {
        let dir = format!("{DIR}/node{id}");
        let state = NodeState {
            cpus: node_cpus(fixed, &dir)?,
            memory: memory(root, &format!("{dir}/meminfo"))?,
            pools: pools(root, fixed, &format!("{dir}/hugepages"))?,
            distances: distances(fixed, &dir, &ids)?,
        };
        nodes.insert(*id, state);
    }
    if nodes.is_empty() {
        let state = NodeState {
            memory: memory(root, "/proc/meminfo")?,
            pools: pools(root, fixed, "/sys/kernel/mm/hugepages")?,
            ..NodeState::default()
        };
        if state != NodeState::default() {
            nodes.insert(NodeId(0), state);
        }
    }
    Ok(nodes)
}

/// Returns the root for facts that change only with the list of nodes that are online or have
/// memory. Only that list is recorded here: distances are the firmware's, page sizes the kernel's,
/// and the online CPUs of a node follow from the list of all online CPUs. If the kernel has no such
/// lists, everything is recorded.
fn fixed(root: &HostFs) -> Result<HostFs, HostError> {
    let tells = |name: &str| kernel::text(root, &format!("{DIR}/{name}"));
    let told = tells("online")?.is_some() && tells("has_memory")?.is_some();
    Ok(if told { root.unnoted() } else { root.clone() })
}

/// Reads all of a node's memory. The kernel prints it in the first line (`fs/proc/meminfo.c`,
/// `drivers/base/node.c`); free memory, further below, changes all the time.
fn memory(root: &HostFs, path: &str) -> Result<Option<KiB>, HostError> {
    let total = |text: &str| kernel::meminfo(text, "MemTotal").map(memory_within);
    let line = optional(root.first_line(path))?;
    match line.and_then(|line| total(&String::from_utf8_lossy(&line))) {
        None => Ok(kernel::text(root, path)?.and_then(|text| total(&text))),
        memory => Ok(memory),
    }
}

/// Reads `cpulist`, or the mask of kernels without a cpulist (before 2.6.27).
fn node_cpus(root: &HostFs, dir: &str) -> Result<Option<CpuSet>, HostError> {
    if let Some(cpus) = kernel::list(root, &format!("{dir}/cpulist"))? {
        return Ok(Some(cpus));
    }
    Ok(kernel::text(root, &format!("{dir}/cpumap"))?.and_then(|mask| kernel::cpumask(&mask)))
}

/// Reads the pools of a folder with one `hugepages-<size>kB` for each size; `None` if there is no
/// such folder.
fn pools(root: &HostFs, fixed: &HostFs, dir: &str) -> Result<Option<Vec<PagePool>>, HostError> {
    let mut pools = Vec::new();
    for name in fixed.list(dir)? {
        let size = name
            .strip_prefix("hugepages-")
            .and_then(|rest| rest.strip_suffix("kB"));
        let Some(size) = size
            .and_then(|digits| digits.parse().ok())
            .filter(|size| *size > 0)
        else {
            continue;
        };
        let total = kernel::number(root, &format!("{dir}/{name}/nr_hugepages"))?.unwrap_or(0);
        let free: Option<u64> = kernel::number(root, &format!("{dir}/{name}/free_hugepages"))?;
        // Without this file the tree counts as a host without guests.
        pools.push(PagePool::new(KiB(size), total, free.unwrap_or(total)));
    }
    merge_pools(&mut pools);
    Ok((!pools.is_empty()).then_some(pools))
}

/// Sorts pools by size and merges those of equal size.
pub(crate) fn merge_pools(pools: &mut Vec<PagePool>) {
    pools.sort_by_key(|pool| pool.size);
    pools.dedup_by(|next, kept| {
        let same = next.size == kept.size;
        if same {
            let sum = |a: u64, b: u64| a.saturating_add(b);
            *kept = PagePool::new(kept.size, sum(kept.total, next.total), sum(kept.free, next.free));
        }
        same
    });
}

/// Reads one row of the SLIT: a number for each online node, ascending. A row of another length is
/// ignored.
fn distances(root: &HostFs, dir: &str, ids: &[NodeId]) -> Result<BTreeMap<NodeId, u32>, HostError> {
    let Some(text) = kernel::text(root, &format!("{dir}/distance"))? else {
        return Ok(BTreeMap::new());
    };
    let distance = |word: &str| Some(word.parse::<u32>().ok()?.min(MOST_DISTANCE));
    let row: Option<Vec<u32>> = text.split_whitespace().map(distance).collect();
    Ok(match row {
        Some(row) if row.len() == ids.len() => ids.iter().copied().zip(row).collect(),
        _ => {
            log::debug!("{dir}/distance: '{text}' is no row of {} distances", ids.len());
            BTreeMap::new()
        }
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn holes_absent_files_and_no_numa() {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let root = HostFs::new(dir.path());
        assert!(read(&root).unwrap().is_empty());
        write("proc/meminfo", "MemTotal: 1024 kB\n");
        write("sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages", "7\n");
        let flat = read(&root).unwrap();
        assert_eq!(flat[&NodeId(0)].memory, Some(KiB(1024)));
        let pool = PagePool {
            size: KiB(2048),
            total: 7,
            free: 7,
        };
        assert_eq!(flat[&NodeId(0)].pools, Some(vec![pool]));

        write("sys/devices/system/node/node1/cpulist", "0-1\n");
        write("sys/devices/system/node/node1/distance", "10 21\n");
        write(
            "sys/devices/system/node/node8/meminfo",
            "Node 8 MemTotal:  64 kB\n",
        );
        write("sys/devices/system/node/node8/distance", "10\n");
        write("sys/devices/system/node/has_cpu", "1\n");
        let nodes = read(&root).unwrap();
        assert_eq!(nodes.keys().copied().collect::<Vec<_>>(), [NodeId(1), NodeId(8)]);
        assert_eq!(nodes[&NodeId(1)].distances[&NodeId(8)], 21);
        assert_eq!(nodes[&NodeId(1)].memory, None);
        assert_eq!(nodes[&NodeId(8)].memory, Some(KiB(64)));
        assert!(nodes[&NodeId(8)].distances.is_empty(), "a row too short");
    }

    #[test]
    fn a_pool_that_is_no_number_is_an_error() {
        let dir = tempfile::tempdir().unwrap();
        let pool = dir
            .path()
            .join("sys/devices/system/node/node0/hugepages/hugepages-2048kB");
        std::fs::create_dir_all(&pool).unwrap();
        std::fs::write(pool.join("nr_hugepages"), "many\n").unwrap();
        let error = read(&HostFs::new(dir.path())).unwrap_err().to_string();
        assert!(
            error.ends_with("hugepages-2048kB/nr_hugepages: 'many' is not a number"),
            "{error}"
        );
    }
}
