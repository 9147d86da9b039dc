//! What hwloc tells of a host, as plain data, before the kernel's own word is added.

use std::collections::BTreeMap;

use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;

use crate::host::PagePool;

/// From node, to node, distance.
pub type Distances = BTreeMap<NodeId, BTreeMap<NodeId, u32>>;

/// A topology: its hardware threads and its memory nodes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Structure {
    /// Hardware threads, by CPU number. Never empty.
    pub threads: Vec<Thread>,
    /// Memory nodes, by number.
    pub nodes: Vec<MemoryNode>,
    /// SLIT-like distances, itself 10; empty where there are none.
    pub distances: Distances,
    /// `uname -m`; empty: unknown.
    pub arch: String,
    /// CPU vendor; empty: unknown.
    pub cpu_vendor: String,
    /// CPUs that are known of but not among `threads`.
    pub offline: CpuSet,
    /// PCI devices near exactly one node, by address.
    pub pci_nodes: BTreeMap<String, NodeId>,
}

/// A hardware thread.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Thread {
    /// Its CPU number.
    pub cpu: HostCpu,
    /// Which core: equal numbers, same core.
    pub core: usize,
    /// Package number, unique on the host.
    pub package: u32,
    /// Which die; `None`: its package is one die.
    pub die: Option<usize>,
    /// Data and unified caches it uses, last level first.
    pub caches: Vec<Cache>,
    /// Rank of its core's kind, 0 the fastest; `None`: not told.
    pub kind: Option<u32>,
    /// The node its memory comes from by default; `None`: none covers it.
    pub node: Option<NodeId>,
}

/// A cache as one thread sees it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Cache {
    /// Which cache: equal numbers, same cache.
    pub id: u64,
    /// Its level.
    pub level: u32,
    /// Its size; 0: unknown.
    pub size: KiB,
}

/// A memory node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MemoryNode {
    /// Its number.
    pub id: NodeId,
    /// Its size, huge pages included; 0: none or unknown.
    pub memory: KiB,
    /// Huge pages; free = total.
    pub pools: Vec<PagePool>,
}
