//! Reasons why nothing fits.

use std::fmt;

use crate::types::ids::{HostCpu, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::plural::{counted, cpus, list};
use crate::types::reason::amounts::{
    Holders, MemoryHolders, Rooms, beside, having, held, memory, printable, rooms,
};

reasons! {
    /// Wish that no CPU or memory of the host can meet.
    NoPlace {
        /// A given pin is on a CPU that is held; `None`: by another vCPU of the guest.
        PinHeld { vcpu: VcpuId, cpu: HostCpu, holder: Option<String> } = "pin-held",
        /// A given pin names CPUs that are not online.
        PinOffline { vcpu: VcpuId, pin: CpuSet } = "pin-offline",
        /// A given pin names CPUs outside the cpuset of guests.
        PinNotAllowed { vcpu: VcpuId, pin: CpuSet } = "pin-not-allowed",
        /// The vCPUs without a pin find no place around those with one.
        AroundPins { pinned: VcpuSet, smt: Option<WholeCores> } = "no-place-around-pins",
        /// The host has no CPUs for guests that float.
        NoSharedCpus = "no-shared-cpus",
        /// The host has no CPUs to hand out exclusively.
        NoDedicatedCpus = "no-dedicated-cpus",
        /// The host has fewer dedicated CPUs than the guest needs, other guests or not.
        HostTooSmall { need: usize, has: usize } = "host-too-small",
        /// Too few CPUs are free on so many nodes.
        FewCpus { need: usize, nodes: u32, free: Rooms, holders: Holders } = "few-cpus",
        /// Too few shared CPUs for a guest that floats.
        FewSharedCpus { need: u32 } = "few-shared-cpus",
        /// More nodes than the profile allows would do.
        FitsOverMoreNodes = "fits-over-more-nodes",
        /// More guest cells than nodes to put them on.
        MoreCellsThanNodes { cells: usize, nodes: usize } = "more-cells-than-nodes",
        /// Too few CPUs are free for guest cells of `vcpus` vCPUs, a node each.
        FewCpusForCells { vcpus: Vec<usize>, free: Rooms, holders: Holders } = "few-cpus-for-cells",
        /// Too few cores that no other guest uses.
        FewLoneCores { need: usize, free: Rooms, holders: Holders } = "few-lone-cores",
        /// Too few cores have `threads` free CPUs.
        FewCores { need: usize, threads: u32, free: Rooms, holders: Holders } = "few-cores",
        /// The topology that stays has threads, and `smt = "isolate"` gives each vCPU a core.
        ThreadsAgainstIsolate { threads: u32 } = "threads-against-isolate",
        /// The topology that stays has one thread a core, and `smt = "require"` needs more.
        ThreadsAgainstRequire = "threads-against-require",
        /// The vCPUs do not fill whole cores; `None`: those of the guest's cells do not.
        CoresNotWhole { vcpus: Option<usize>, threads: u32 } = "cores-not-whole",
        /// The guest does not fit so many last-level caches.
        FewCaches { most: u32 } = "few-caches",
        /// Too few cores of the kind that the profile asks for are free.
        FewOfKind { slow: bool } = "few-of-kind",
        /// Only fast and slow cores together would do.
        KindsTogether = "kinds-together",
        /// The nodes or CPUs that the XML names have no room.
        NamedNodesFull = "named-nodes-full",
        /// The nodes of the passed-through devices have no room.
        DeviceNodesFull = "device-nodes-full",
        /// Too few dedicated CPUs are left for isolated emulator threads and iothreads.
        FewExtraCpus { need: u32, holders: Holders } = "few-cpus-for-threads",
        /// Too little memory is free; by page size (`None`: small pages) and node.
        LittleMemory { need: Vec<KiB>, celled: bool, free: Vec<(Option<KiB>, Vec<(NodeId, KiB)>)>, asking: MemoryHolders, holders: MemoryHolders } = "little-memory",
        /// Too little memory is free on the nodes an administrator bound it to.
        LittleMemoryThere { need: KiB, nodes: NodeSet, free: Vec<(Option<KiB>, Vec<(NodeId, KiB)>)>, asking: MemoryHolders, holders: MemoryHolders } = "little-memory-there",
        /// No page size that the profile asks for is mounted.
        NoPageSize = "no-page-size",
    }
}

/// Wish for whole cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum WholeCores {
    /// `smt = "require"`.
    Require,
    /// `smt = "isolate"`.
    Isolate,
}

impl NoPlace {
    /// Returns whether the host itself is the reason, with or without other guests: later would be
    /// no better than now.
    pub(crate) fn is_lasting(&self) -> bool {
        match self {
            Self::PinOffline { .. }
            | Self::PinNotAllowed { .. }
            | Self::NoDedicatedCpus
            | Self::HostTooSmall { .. }
            | Self::MoreCellsThanNodes { .. }
            | Self::ThreadsAgainstIsolate { .. }
            | Self::ThreadsAgainstRequire
            | Self::CoresNotWhole { .. }
            | Self::NoPageSize => true,
            Self::FewCpus { holders, .. }
            | Self::FewCpusForCells { holders, .. }
            | Self::FewLoneCores { holders, .. }
            | Self::FewCores { holders, .. } => holders.is_empty(),
            _ => false,
        }
    }

    /// Returns whether the words are a predicate that wants the guest as its subject: `needs …`.
    pub(crate) fn is_need(&self) -> bool {
        matches!(
            self,
            Self::HostTooSmall { .. }
                | Self::FewCpus { .. }
                | Self::FewSharedCpus { .. }
                | Self::FewCpusForCells { .. }
                | Self::FewLoneCores { .. }
                | Self::FewCores { .. }
                | Self::LittleMemory { .. }
                | Self::LittleMemoryThere { .. }
        )
    }
}

impl fmt::Display for NoPlace {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::PinHeld { vcpu, cpu, holder } => {
                let holder = holder
                    .as_deref()
                    .map_or("another of its vCPUs".to_string(), printable);
                write!(f, "vCPU {vcpu} is pinned to CPU {cpu}, which {holder} holds")
            }
            Self::PinOffline { vcpu, pin } => {
                let are = match pin.len() {
                    1 => "which is",
                    _ => "some of which are",
                };
                let pin = cpus(pin);
                write!(f, "vCPU {vcpu} is pinned to {pin}, {are} not online on this host")
            }
            Self::PinNotAllowed { vcpu, pin } => {
                let them = if pin.len() == 1 { "it" } else { "all of them" };
                let pin = cpus(pin);
                write!(
                    f,
                    "vCPU {vcpu} is pinned to {pin}; machine.slice's cpuset does not allow {them} to guests"
                )
            }
            Self::AroundPins { pinned, smt } => write!(
                f,
                "no place around the pins written by hand (vCPU{} {pinned}){}",
                if pinned.len() == 1 { "" } else { "s" },
                match smt {
                    Some(WholeCores::Require) => ": smt = require needs whole cores",
                    Some(WholeCores::Isolate) => ": smt = isolate needs a core for each vCPU",
                    None => "",
                }
            ),
            Self::NoSharedCpus => f.write_str("no CPU is left for guests that float (host.shared)"),
            Self::NoDedicatedCpus => f.write_str("this host has no dedicated CPUs (host.dedicated)"),
            Self::HostTooSmall { need, has } => write!(
                f,
                "needs {}, but this host has only {}",
                counted(*need, "CPU"),
                counted(*has, "dedicated CPU")
            ),
            Self::FewCpus {
                need,
                nodes,
                free,
                holders,
            } => {
                let nodes = match nodes {
                    1 => "one node".to_string(),
                    more => format!("{more} nodes"),
                };
                let need = counted(*need, "free CPU");
                write!(f, "needs {need} on {nodes}; {}{}", rooms(free), held(holders))
            }
            Self::FewSharedCpus { need } => {
                write!(f, "needs {} on one node", counted(*need as usize, "shared CPU"))
            }
            Self::FitsOverMoreNodes => f.write_str("it would fit over more nodes (max_nodes)"),
            Self::MoreCellsThanNodes { cells, nodes } => write!(
                f,
                "has {}, but the host has only {} to put them on",
                counted(*cells, "guest cell"),
                counted(*nodes, "node")
            ),
            Self::FewCpusForCells { vcpus, free, holders } => {
                let vcpus: Vec<String> = vcpus.iter().map(usize::to_string).collect();
                let (vcpus, free) = (list(&vcpus), rooms(free));
                write!(
                    f,
                    "needs a node each for guest cells of {vcpus} vCPUs; {free}{}",
                    held(holders)
                )
            }
            Self::FewLoneCores { need, free, holders } => write!(
                f,
                "needs {} that nobody else uses on one node; {}{}",
                counted(*need, "core"),
                rooms(free),
                held(holders)
            ),
            Self::FewCores {
                need,
                threads,
                free,
                holders,
            } => write!(
                f,
                "needs {} with {} each; {}{}",
                counted(*need, "core"),
                counted(*threads as usize, "free CPU"),
                rooms(free),
                held(holders)
            ),
            Self::ThreadsAgainstIsolate { threads } => write!(
                f,
                "its topology has {threads} threads a core, but smt = isolate gives each vCPU a core"
            ),
            Self::ThreadsAgainstRequire => {
                f.write_str("its topology has 1 thread a core, but smt = require needs 2 or more")
            }
            Self::CoresNotWhole { vcpus, threads } => {
                let what = match vcpus {
                    None => "the vCPUs of its guest cells do".to_string(),
                    Some(1) => "1 vCPU does".to_string(),
                    Some(vcpus) => format!("{vcpus} vCPUs do"),
                };
                write!(
                    f,
                    "{what} not fill whole cores of {threads} threads (smt = require)"
                )
            }
            Self::FewOfKind { slow } => {
                let kind = if *slow { "slow" } else { "fast" };
                write!(f, "too few {kind} cores are free for it (core_kind = {kind})")
            }
            Self::KindsTogether => f.write_str("it would fit fast and slow cores together (core_kind = any)"),
            Self::FewCaches { most: 1 } => f.write_str("does not fit one last-level cache (max_llcs)"),
            Self::FewCaches { most } => write!(f, "does not fit {most} last-level caches (max_llcs)"),
            Self::NamedNodesFull => {
                f.write_str("no room on the nodes or CPUs its XML names (on_existing = keep)")
            }
            Self::DeviceNodesFull => {
                f.write_str("no room on the nodes of its passed-through devices (pci_numa = require)")
            }
            Self::FewExtraCpus { need, holders } => {
                let missing = match need {
                    1 => "no dedicated CPU is left for its isolated threads".to_string(),
                    need => format!("fewer than {need} dedicated CPUs are left for its isolated threads"),
                };
                write!(f, "{missing} on its node{}", held(holders))
            }
            Self::LittleMemory {
                need,
                celled,
                free,
                asking,
                holders,
            } => {
                let need: Vec<String> = need.iter().map(KiB::to_string).collect();
                let own = if *celled { " on nodes of their own" } else { "" };
                let free: Vec<String> = free.iter().map(|(page, free)| memory(*page, free)).collect();
                let (need, free) = (list(&need), free.join("; "));
                write!(
                    f,
                    "needs {need}{own} of memory where its CPUs are; {free}{}{}",
                    beside(asking),
                    having(holders)
                )
            }
            Self::LittleMemoryThere {
                need,
                nodes,
                free,
                asking,
                holders,
            } => {
                let free: Vec<String> = free.iter().map(|(page, free)| memory(*page, free)).collect();
                let noun = if nodes.len() == 1 { "node" } else { "nodes" };
                let free = free.join("; ");
                write!(
                    f,
                    "needs {need} of memory on {noun} {nodes}, as its XML binds it; {free}{}{}",
                    beside(asking),
                    having(holders)
                )
            }
            Self::NoPageSize => {
                f.write_str("no huge page size the profile asks for is mounted on this host (hugetlbfs)")
            }
        }
    }
}
