//! Reasons about values written by hand that this host cannot honour.

use std::collections::BTreeSet;
use std::fmt;

use crate::types::ids::{CellId, IothreadId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::plural;
use crate::types::topology::Topology;

/// Number of ids that a message names.
const MOST_IDS: usize = 8;

reasons! {
    /// Value written by hand that stays, and that this host cannot honour.
    Given {
        /// Names CPUs that are offline or absent.
        CpusOffline { value: GivenValue, cpus: CpuSet } = "given-cpus-offline",
        /// Names only CPUs outside the cpuset of guests.
        CpusNotAllowed { value: GivenValue, cpus: CpuSet } = "given-cpus-not-allowed",
        /// Names nodes that the host does not have.
        NodesMissing { value: GivenValue, nodes: NodeSet } = "given-nodes-missing",
        /// Topology whose sockets, cores and threads are not as many as the vCPUs.
        TopologyNotVcpus { shown: Topology, vcpus: u32, smp: bool } = "topology-not-vcpus",
        /// Topology whose sockets reach over guest cells.
        SocketsOverCells { shown: Topology } = "sockets-over-cells",
        /// Topology whose last-level caches reach over guest cells.
        CacheOverCells { shown: Topology } = "cache-over-cells",
        /// Parts of caches or of memory bandwidth that the XML reserves by these ids.
        ResourceIds { ids: BTreeSet<u32> } = "resource-ids",
        /// vCPUs that run on other caches than a reservation in the XML is of.
        ResourceElsewhere { vcpus: VcpuSet, ids: BTreeSet<u32> } = "resource-elsewhere",
        /// vCPUs that run on other nodes than their memory is bound to.
        MemoryApart { vcpus: VcpuSet, cpus: NodeSet, memory: NodeSet } = "memory-apart",
        /// vCPUs that have no CPU of their own, because of their pins.
        PinnedAway { vcpus: VcpuSet, cpus: CpuSet } = "pinned-away",
    }
}

/// Value in a guest's XML that names CPUs or nodes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GivenValue {
    /// `<vcpupin>` of this vCPU.
    VcpuPin(VcpuId),
    /// `cpuset=` of `<vcpu>`.
    VcpuCpuset,
    /// `<emulatorpin>`.
    EmulatorPin,
    /// `<iothreadpin>` of this iothread.
    IothreadPin(IothreadId),
    /// `<memory>` of `<numatune>`.
    Numatune,
    /// `<memnode>` of this guest cell.
    MemNode(CellId),
}

impl Given {
    /// Returns whether the value is a `<vcpupin>`.
    pub(crate) fn is_of_vcpu_pin(&self) -> bool {
        match self {
            Self::CpusOffline { value, .. }
            | Self::CpusNotAllowed { value, .. }
            | Self::NodesMissing { value, .. } => matches!(value, GivenValue::VcpuPin(_)),
            _ => false,
        }
    }
}

impl fmt::Display for GivenValue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::VcpuPin(vcpu) => write!(f, "the vcpupin of vCPU {vcpu}"),
            Self::VcpuCpuset => f.write_str("cpuset= of <vcpu>"),
            Self::EmulatorPin => f.write_str("its emulatorpin"),
            Self::IothreadPin(id) => write!(f, "the iothreadpin of iothread {id}"),
            Self::Numatune => f.write_str("its numatune"),
            Self::MemNode(cell) => write!(f, "the memnode of cell {cell}"),
        }
    }
}

impl fmt::Display for Given {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const FAILS: &str = "libvirt will not start the guest";
        match self {
            Self::CpusOffline { value, cpus } => write!(
                f,
                "{value} names {}, which {} not online on this host: {FAILS}",
                plural::cpus(cpus),
                plural::is_or_are(cpus.len())
            ),
            Self::CpusNotAllowed { value, cpus } => write!(
                f,
                "{value} names {}, which machine.slice's cpuset does not allow to guests: {FAILS}",
                plural::cpus(cpus)
            ),
            Self::NodesMissing { value, nodes } => write!(
                f,
                "{value} names node{} {nodes}, which this host does not have: {FAILS}",
                if nodes.len() == 1 { "" } else { "s" }
            ),
            Self::TopologyNotVcpus { shown, vcpus, smp } => {
                let Topology {
                    sockets,
                    dies,
                    clusters,
                    cores,
                    threads,
                } = shown;
                let (what, who) = match smp {
                    true => ("-smp and topology of your XML", "QEMU"),
                    false => ("your topology", "libvirt"),
                };
                write!(
                    f,
                    "{what} ({sockets} x {} x {cores} x {threads}) is not {vcpus} vCPUs: {who} will not take it",
                    dies.saturating_mul(*clusters)
                )
            }
            Self::SocketsOverCells { shown } => write!(
                f,
                "the topology that stays ({} sockets of {} cores) reaches over guest cells: the guest sees sockets \
                 that are on several",
                shown.sockets, shown.cores
            ),
            Self::CacheOverCells { shown } => write!(
                f,
                "the topology ({} a cache) reaches over guest cells: the guest sees one last-level cache that is \
                 in several",
                plural::counted(shown.cores as usize, "core")
            ),
            Self::ResourceElsewhere { vcpus, ids } => write!(
                f,
                "your cachetune or memorytune of vCPU{} {vcpus} (id {}) does not hold where {} run{}",
                if vcpus.len() == 1 { "" } else { "s" },
                plural::list(&ids.iter().take(MOST_IDS).map(u32::to_string).collect::<Vec<_>>()),
                if vcpus.len() == 1 { "it" } else { "they" },
                if vcpus.len() == 1 { "s" } else { "" },
            ),
            Self::ResourceIds { ids } => write!(
                f,
                "your cachetune or memorytune (id {}) holds only for vCPUs that run on that cache or node: \
                 virtfit does not place by it",
                plural::list(&ids.iter().take(MOST_IDS).map(u32::to_string).collect::<Vec<_>>())
            ),
            Self::MemoryApart { vcpus, cpus, memory } => {
                let (noun, run) = match vcpus.len() {
                    1 => ("vCPU", "runs"),
                    _ => ("vCPUs", "run"),
                };
                let node = |nodes: &NodeSet| if nodes.len() == 1 { "node" } else { "nodes" };
                write!(
                    f,
                    "{noun} {vcpus} {run} on {} {cpus}, and your numatune binds the memory to {} {memory}",
                    node(cpus),
                    node(memory)
                )
            }
            Self::PinnedAway { vcpus, cpus } => {
                let (noun, has, own, pin) = match vcpus.len() {
                    1 => ("vCPU", "has", "no CPU of its own", "your pin keeps it on"),
                    _ => ("vCPUs", "have", "no CPUs of their own", "your pins keep them on"),
                };
                let cpus = plural::cpus(cpus);
                write!(
                    f,
                    "{noun} {vcpus} {has} {own}: {pin} {cpus}, not within the dedicated CPUs"
                )
            }
        }
    }
}
