//! Host as plain data: all facts that placement needs, so that it reads no file.

mod assemble;
mod cache_ids;
pub(crate) mod cached;
mod cgroup;
mod core_kinds;
mod cpus;
pub(crate) mod devices;
mod emulators;
mod error;
pub mod failed_starts;
pub(crate) mod gather;
pub(crate) mod hwloc;
mod identity;
pub(crate) mod images;
pub(crate) mod kept_file;
pub(crate) mod kernel;
pub(crate) mod libvirt_daemon;
pub mod libvirt_process;
pub mod load;
mod memlock;
pub(crate) mod memory;
pub(crate) mod mounts;
pub(crate) mod numa_maps;
pub(crate) mod page_room;
mod pci;
pub(crate) mod priority;
pub(crate) mod running_hooks;
pub(crate) mod structure;
mod synthetic;
pub(crate) mod thread_counts;
pub(crate) mod thread_names;
pub(crate) mod threads;

pub use emulators::Emulator;
pub use error::HostError;
pub(crate) use failed_starts::FailedStarts;
pub(crate) use gather::gather;
pub use load::load;

use std::collections::BTreeMap;

use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::{CpuSet, NodeSet};

/// Cores and nodes of a host, with the kernel's limits on them. CPU and node numbers may have
/// holes.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
pub struct Host {
    /// Machine type as `uname -m` and libvirt's `<type arch=…>` name it (`x86_64`, `aarch64`, …).
    pub arch: String,
    /// CPU vendor as the kernel names it (`GenuineIntel`, `AuthenticAMD`, `HygonGenuine`); empty:
    /// unknown.
    pub cpu_vendor: String,
    /// Cores that have an online CPU, ordered by their first CPU.
    pub cores: Vec<Core>,
    /// NUMA nodes, by id, also those without CPUs or without memory. Never empty.
    pub nodes: Vec<Node>,
    /// Last-level caches; [`Core::llc`] indexes this. Cores without a shared or level 3 cache share
    /// one of level 0 for each node and package.
    pub llcs: Vec<Llc>,
    /// CPUs of each level 3 cache, by the kernel's id for it; empty: no ids are known.
    pub cache_ids: BTreeMap<u32, CpuSet>,
    /// CPUs that are online.
    pub online: CpuSet,
    /// CPUs that are present but offline.
    pub offline: CpuSet,
    /// CPUs the scheduler does not balance over (`isolcpus=`, isolated cpuset partitions).
    pub isolated: CpuSet,
    /// CPUs without the timer tick (`nohz_full=`).
    pub nohz_full: CpuSet,
    /// CPUs that `machine.slice`'s cpuset allows; `None`: no limit known.
    pub guest_cpus: Option<CpuSet>,
    /// Memory nodes that `machine.slice`'s cpuset allows; `None`: no limit known.
    pub guest_nodes: Option<NodeSet>,
    /// Huge page sizes with a hugetlbfs mount.
    pub hugetlbfs: Vec<KiB>,
    /// `true` if the nodes' memory sizes are known. They are not for a synthetic topology that
    /// names none; memory is then not checked.
    pub memory_known: bool,
    /// Nodes of PCI devices, by address `0000:3b:00.0`. Devices on no node (−1) are not listed.
    pub pci_nodes: BTreeMap<String, NodeId>,
    /// Value of `kernel.sched_rt_runtime_us`; −1: no throttling. `None`: not known.
    pub rt_runtime_us: Option<i64>,
    /// `false` if a cgroup v1 `cpu.rt_runtime_us` of 0 forbids FIFO in `machine`.
    pub rt_allowed: bool,
    /// `true` if libvirt's daemon may not lift the limit on locked memory: guests with `<locked/>`
    /// do not start.
    pub memlock_limited: bool,
    /// Programs of QEMU that libvirt knows.
    pub emulators: Vec<Emulator>,
    /// Starts that failed right after virtfit changed a guest.
    pub failed: FailedStarts,
}

/// Physical core.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Core {
    /// Online CPUs of the core (SMT siblings), ascending. Never empty.
    pub cpus: Vec<HostCpu>,
    /// Node of the core.
    pub node: NodeId,
    /// Index into [`Host::llcs`].
    pub llc: usize,
    /// Physical package (socket) number.
    pub package: u32,
    /// Die, unique over the host (not only in its package).
    pub die: u32,
    /// Kind of a hybrid CPU's core: 0 is the fastest; all 0 if the cores are alike.
    pub kind: u32,
}

/// Last-level cache.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Llc {
    /// Cache level: 3 mostly; 0 if the host has no cache that cores could share.
    pub level: u32,
    /// Size of the cache; 0 if unknown.
    pub size: KiB,
}

/// NUMA node.
#[derive(Debug, Clone, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Node {
    /// Node's number.
    pub id: NodeId,
    /// MemTotal of the node, huge-page pools included.
    pub memory: KiB,
    /// Huge-page pools, by size ascending.
    pub pools: Vec<PagePool>,
    /// SLIT distance to each node of the host, by node id; 10 to itself. May lack nodes; see
    /// [`Host::distance`].
    pub distances: BTreeMap<NodeId, u32>,
}

/// Huge pages of one size on one node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct PagePool {
    /// Page size.
    pub size: KiB,
    /// Value of `nr_hugepages`.
    pub total: u64,
    /// Value of `free_hugepages`.
    pub free: u64,
}

/// Largest amount of memory that is believed of one node or pool, in KiB: 256 PiB, 64 times what a
/// processor can address today. Amounts come from files and topologies of any origin; with this
/// limit no sum over nodes leaves 64 bits.
const MOST_MEMORY: u64 = 1 << 48;
/// Largest distance that is believed; the kernel knows none above 255.
const MOST_DISTANCE: u32 = 1 << 20;

/// Returns an amount of memory within what is believed.
fn memory_within(amount: KiB) -> KiB {
    KiB(amount.0.min(MOST_MEMORY))
}

impl Node {
    /// Returns the memory outside the huge-page pools.
    pub(crate) fn small_memory(&self) -> KiB {
        let pools = self.pools.iter().fold(0u64, |sum, pool| {
            sum.saturating_add(pool.total.saturating_mul(pool.size.0))
        });
        KiB(self.memory.0.saturating_sub(pools))
    }
}

impl PagePool {
    /// Makes a pool of no more memory than is believed.
    pub fn new(size: KiB, total: u64, free: u64) -> Self {
        let most = MOST_MEMORY / size.0.max(1);
        Self {
            size,
            total: total.min(most),
            free: free.min(most),
        }
    }
}

impl Host {
    /// Returns the node with this number.
    pub fn node(&self, id: NodeId) -> Option<&Node> {
        self.nodes.iter().find(|node| node.id == id)
    }

    /// Returns the core of a CPU; `None` for an offline or unknown CPU.
    pub fn core_of(&self, cpu: HostCpu) -> Option<&Core> {
        self.cores.iter().find(|core| core.cpus.contains(&cpu))
    }

    /// Returns the program of QEMU that runs a guest; `None`: libvirt has not told of it. Without a
    /// path it is the one of the architecture, the host's where that is empty.
    pub(crate) fn emulator(&self, path: &str, arch: &str) -> Option<&Emulator> {
        let arch = if arch.is_empty() { &self.arch } else { arch };
        let usual = format!("/usr/bin/qemu-system-{arch}");
        let path = if path.is_empty() { &usual } else { path };
        self.emulators.iter().find(|emulator| emulator.path == path)
    }

    /// Returns a mask without the isolated CPUs, over which the kernel does not balance: threads
    /// would stay on the CPU they are on. A mask of one CPU stays as it is; of a mask of isolated
    /// CPUs nothing is left.
    pub(crate) fn balanced(&self, mask: &CpuSet) -> CpuSet {
        match mask.len() {
            0 | 1 => mask.clone(),
            _ => mask.difference(&self.isolated),
        }
    }

    /// Returns all online CPUs of a node.
    pub fn cpus_of(&self, node: NodeId) -> CpuSet {
        self.cores
            .iter()
            .filter(|core| core.node == node)
            .flat_map(|core| core.cpus.iter().copied())
            .collect()
    }

    /// Returns the SLIT distance; 10 to itself, 20 if it is not known (the kernel's own default).
    pub fn distance(&self, from: NodeId, to: NodeId) -> u32 {
        let told = self.node(from).and_then(|node| node.distances.get(&to)).copied();
        told.unwrap_or(if from == to { 10 } else { 20 })
    }
}
