//! Structure of a host as plain data, as hwloc reports it, before the kernel's state is added.

use std::collections::BTreeMap;

use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;

use crate::host::PagePool;
use crate::host::core_kinds::Group;

/// Distances by the node they are from and the node they are to.
pub(crate) type Distances = BTreeMap<NodeId, BTreeMap<NodeId, u32>>;

/// Hardware threads and memory nodes of a topology.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Structure {
    /// Hardware threads, by CPU number. Never empty.
    pub threads: Vec<Thread>,
    /// Memory nodes, by number.
    pub nodes: Vec<MemoryNode>,
    /// Distances on the scale of the SLIT, 10 to itself; empty if there are none.
    pub distances: Distances,
    /// Machine type as `uname -m` prints it; empty: unknown.
    pub arch: String,
    /// CPU vendor; empty: unknown.
    pub cpu_vendor: String,
    /// CPUs that are known but not among `threads`.
    pub offline: CpuSet,
    /// Groups of cores with equal facts on a processor that may be hybrid, fastest first.
    pub kinds: Vec<Group>,
    /// PCI devices near exactly one node, by address.
    pub pci_nodes: BTreeMap<String, NodeId>,
}

/// Hardware thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Thread {
    /// CPU number.
    pub cpu: HostCpu,
    /// Number of the core: threads of one core have equal numbers.
    pub core: usize,
    /// Package number, unique on the host.
    pub package: u32,
    /// Number of the die; `None`: the package is one die.
    pub die: Option<usize>,
    /// Data and unified caches of the thread, last level first.
    pub caches: Vec<Cache>,
    /// Node that the thread's memory comes from by default; `None`: no node covers the thread.
    pub node: Option<NodeId>,
}

/// Cache of a thread.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Cache {
    /// Number of the cache: threads that share a cache have equal numbers.
    pub id: u64,
    pub level: u32,
    /// Size of the cache; 0: unknown.
    pub size: KiB,
}

/// Memory node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MemoryNode {
    /// Node's number.
    pub id: NodeId,
    /// Size of the node's memory, huge pages included; 0: none or unknown.
    pub memory: KiB,
    /// Pools of huge pages; all pages count as free.
    pub pools: Vec<PagePool>,
}
