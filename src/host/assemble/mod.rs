//! Assembly of one host from two sources: hwloc's structure and the kernel's account of state.
//! Pure.
//!
//! hwloc decides what is a core, package, die and cache: it knows the quirks of dozens of machines
//! (AMD modules whose "siblings" are cores, POWER, s390). The kernel decides state and accounting:
//! the online CPUs, the node that a CPU is counted to, sizes, pools. Where both report these, the
//! kernel's values are taken.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;

use crate::host::cgroup::GuestLimits;
use crate::host::core_kinds;
use crate::host::cpus::CpuState;
use crate::host::emulators::Emulator;
use crate::host::failed_starts::FailedStarts;
use crate::host::identity;
use crate::host::identity::Identity;
use crate::host::memory::NodeState;
use crate::host::structure::{Structure, Thread};
use crate::host::{Core, Host, Llc, Node};

/// Facts of a root besides structure.
#[derive(Debug, Default)]
pub(super) struct Told {
    pub cpus: CpuState,
    pub nodes: BTreeMap<NodeId, NodeState>,
    /// Huge page sizes with a mount; `None`: there is no mount table.
    pub hugetlbfs: Option<Vec<KiB>>,
    pub limits: GuestLimits,
    pub rt_runtime_us: Option<i64>,
    pub identity: Identity,
    pub pci_nodes: BTreeMap<String, NodeId>,
    pub emulators: Vec<Emulator>,
    pub failed: FailedStarts,
}

/// Source of the host's CPUs and nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Frame {
    /// The root: both sources describe one machine.
    SameMachine,
    /// The topology (`--topology`); the root adds its facts about these CPUs and nodes.
    Overlay,
}

pub(super) fn assemble(structure: Structure, told: Told, frame: Frame) -> Host {
    let Structure {
        mut threads,
        nodes,
        distances,
        arch,
        cpu_vendor,
        offline,
        kinds,
        pci_nodes,
    } = structure;
    let offline = keep_online(&mut threads, &offline, &told.cpus, frame);
    let mut known: BTreeSet<NodeId> = nodes.iter().map(|node| node.id).collect();
    if frame == Frame::SameMachine {
        settle_nodes(&mut threads, &mut known, &told.nodes);
    }
    let fallback = known.first().copied().unwrap_or(NodeId(0));
    known.insert(fallback);
    // Capacities are the kernel's word, and hwloc does not know which cores are of one design.
    // hwloc may report no kinds at all, or clocks alone; then the kernel's are taken.
    let kinds = match told.cpus.kinds_by_capacity {
        Some(by_capacity) if frame == Frame::SameMachine => by_capacity,
        _ => {
            let ranks = core_kinds::ranks(&kinds);
            let by_design = kinds.iter().any(|group| !group.design.is_empty());
            match ranks.is_empty() && !by_design {
                true => told.cpus.kinds,
                false => ranks,
            }
        }
    };
    let (cores, llcs) = cores(&threads, &kinds, fallback);
    let online: CpuSet = threads.iter().map(|thread| thread.cpu).collect();

    // The kernel's memory and pools are newer; distances in an overlay are those of the topology.
    let mut host_nodes: Vec<Node> = Vec::new();
    for id in &known {
        let hwloc = nodes.iter().find(|node| node.id == *id);
        let kernel = told.nodes.get(id);
        let memory = kernel
            .and_then(|node| node.memory)
            .or(hwloc.map(|node| node.memory));
        let pools = kernel.and_then(|node| node.pools.clone());
        let slit = kernel
            .map(|node| node.distances.clone())
            .filter(|row| !row.is_empty());
        let found = distances.get(id).cloned();
        let mut row = match frame {
            Frame::SameMachine => slit.or(found),
            Frame::Overlay => found.or(slit),
        }
        .unwrap_or_default();
        row.retain(|to, _| known.contains(to));
        host_nodes.push(Node {
            id: *id,
            memory: memory.unwrap_or_default(),
            pools: pools.or(hwloc.map(|node| node.pools.clone())).unwrap_or_default(),
            distances: row,
        });
    }
    let memory_known = host_nodes.iter().any(|node| node.memory > KiB(0));
    // Without a mount table, every size that has a pool counts as mounted.
    let hugetlbfs = told.hugetlbfs.unwrap_or_else(|| {
        let sizes = host_nodes
            .iter()
            .flat_map(|node| node.pools.iter().map(|pool| pool.size));
        sizes.collect::<BTreeSet<_>>().into_iter().collect()
    });
    let here = online.union(&offline);
    // The machine that the CPUs come from names architecture and vendor first.
    let first_told = |words: [String; 2]| words.into_iter().find(|word| !word.is_empty());
    let (archs, vendors) = match frame {
        Frame::SameMachine => ([told.identity.arch, arch], [told.identity.vendor, cpu_vendor]),
        Frame::Overlay => ([arch, told.identity.arch], [cpu_vendor, told.identity.vendor]),
    };
    let mut pci = pci_nodes;
    pci.extend(told.pci_nodes);
    pci.retain(|_, node| known.contains(node));
    Host {
        arch: first_told(archs).unwrap_or_else(|| identity::own_arch().to_string()),
        cpu_vendor: first_told(vendors).unwrap_or_default(),
        cores,
        nodes: host_nodes,
        llcs,
        isolated: told.cpus.isolated.intersection(&here),
        nohz_full: told.cpus.nohz_full.intersection(&here),
        online,
        offline,
        guest_cpus: told.limits.cpus,
        guest_nodes: told.limits.nodes,
        hugetlbfs,
        memory_known,
        pci_nodes: pci,
        rt_runtime_us: told.rt_runtime_us,
        rt_allowed: told.limits.rt_allowed,
        memlock_limited: told.limits.memlock_limited,
        cache_ids: BTreeMap::new(),
        emulators: told.emulators,
        failed: told.failed,
    }
}

/// Leaves online threads only; returns the CPUs that are present but offline.
///
/// An overlay loses the CPUs that the root reports as offline, but not those that the root does not
/// have at all.
fn keep_online(threads: &mut Vec<Thread>, unseen: &CpuSet, cpus: &CpuState, frame: Frame) -> CpuSet {
    let all: CpuSet = threads.iter().map(|thread| thread.cpu).collect();
    let told_offline = cpus.present_offline();
    let online = match (frame, &cpus.online, &told_offline) {
        (Frame::SameMachine, Some(online), _) => all.intersection(online),
        (Frame::Overlay, _, Some(offline)) => all.difference(offline),
        _ => all.clone(),
    };
    // A root that contradicts itself: hwloc's CPUs are better than none.
    let online = if online.is_empty() { all.clone() } else { online };
    threads.retain(|thread| online.contains(thread.cpu));
    let offline = match (frame, told_offline) {
        (Frame::SameMachine, Some(offline)) => offline,
        (Frame::SameMachine, None) => unseen.union(&all),
        (Frame::Overlay, _) => unseen.union(&all),
    };
    offline.difference(&online)
}

/// Gives each thread the node that the kernel counts its CPU to.
fn settle_nodes(threads: &mut [Thread], known: &mut BTreeSet<NodeId>, nodes: &BTreeMap<NodeId, NodeState>) {
    let mut of: BTreeMap<HostCpu, NodeId> = BTreeMap::new();
    for (id, node) in nodes {
        for cpu in node.cpus.iter().flat_map(CpuSet::iter) {
            of.entry(cpu).or_insert(*id);
        }
    }
    for thread in threads {
        if let Some(node) = of.get(&thread.cpu) {
            thread.node = Some(*node);
            known.insert(*node);
        }
    }
}

/// Groups threads into cores, and cores into last-level caches. All numbers follow the lowest CPU.
fn cores(threads: &[Thread], kinds: &BTreeMap<HostCpu, u32>, fallback: NodeId) -> (Vec<Core>, Vec<Llc>) {
    // A core over two nodes (fake NUMA, broken firmware) becomes two, because a core has one node.
    let mut groups: BTreeMap<(usize, NodeId), Vec<&Thread>> = BTreeMap::new();
    for thread in threads {
        let node = thread.node.unwrap_or(fallback);
        groups.entry((thread.core, node)).or_default().push(thread);
    }
    let mut groups: Vec<(NodeId, Vec<&Thread>)> = groups
        .into_iter()
        .map(|((_, node), group)| (node, group))
        .collect();
    for (_, group) in &mut groups {
        group.sort_by_key(|thread| thread.cpu);
    }
    groups.sort_by_key(|(_, group)| group.first().map(|thread| thread.cpu));

    // Below level 3 a cache counts only if cores share it, so its users are counted first.
    let mut users: BTreeMap<u64, BTreeSet<usize>> = BTreeMap::new();
    for thread in threads {
        for cache in &thread.caches {
            users.entry(cache.id).or_default().insert(thread.core);
        }
    }
    let shared = |id: u64| users.get(&id).is_some_and(|cores| cores.len() > 1);

    // Numbers are given in the order of the cores' first CPUs.
    let mut llcs = Vec::new();
    let mut llc_index: BTreeMap<LlcKey, usize> = BTreeMap::new();
    let mut dies: BTreeMap<(u32, Option<usize>), u32> = BTreeMap::new();
    let mut cores = Vec::new();
    for (node, group) in groups {
        let Some(first) = group.first() else { continue };
        let last = first
            .caches
            .first()
            .filter(|cache| cache.level >= 3 || shared(cache.id));
        let key = match last {
            Some(cache) => LlcKey::Cache(cache.id),
            None => LlcKey::Pseudo(node, first.package),
        };
        let llc = *llc_index.entry(key).or_insert_with(|| {
            llcs.push(Llc {
                level: last.map_or(0, |cache| cache.level),
                size: last.map_or(KiB(0), |cache| cache.size),
            });
            llcs.len() - 1
        });
        let next_die = dies.len() as u32;
        cores.push(Core {
            cpus: group.iter().map(|thread| thread.cpu).collect(),
            node,
            llc,
            package: first.package,
            die: *dies.entry((first.package, first.die)).or_insert(next_die),
            kind: group
                .iter()
                .filter_map(|thread| kinds.get(&thread.cpu))
                .min()
                .copied()
                .unwrap_or(0),
        });
    }
    (cores, llcs)
}

/// Identity of a last-level cache.
///
/// The highest data or unified cache of a core counts if it is of level 3 or shared by cores. A
/// private L2 as the highest cache (virtual machines, arm64 servers whose system cache the kernel
/// does not know) does not show which cores are near each other; such cores share a pseudo cache of
/// their node and package.
#[derive(PartialEq, Eq, PartialOrd, Ord)]
enum LlcKey {
    Cache(u64),
    Pseudo(NodeId, u32),
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
