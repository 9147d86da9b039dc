//! What virtfit may write into a domain, one value at a time: the seam between deciding and
//! rewriting.
//!
//! The engine decides a list of [`Setting`]s; `rewrite` puts each into the XML and records in the
//! provenance what was there. Everything virtfit ever writes is one of [`Target`]'s variants.

use crate::types::ids::{CellId, IothreadId, KiB, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::topology::Topology;

/// A place in the domain XML that holds one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `/domain/vcpu/@cpuset`: only ever removed (under override), as pins take its place.
    VcpuCpuset,
    /// `/domain/vcpu/@placement`: only ever set to static (under override).
    VcpuPlacement,
    /// `/domain/iothreads`: the count.
    Iothreads,
    /// `/domain/cputune/vcpupin[@vcpu=N]/@cpuset`.
    VcpuPin(VcpuId),
    /// `/domain/cputune/emulatorpin/@cpuset`.
    EmulatorPin,
    /// `/domain/cputune/iothreadpin[@iothread=N]/@cpuset`.
    IothreadPin(IothreadId),
    /// `/domain/cputune/vcpusched`: one element for the vCPUs in its value. Under override
    /// hand-written ones go.
    VcpuSched,
    /// `/domain/numatune/memory`.
    NumaMemory,
    /// `/domain/numatune/memnode[@cellid=N]`.
    MemNode(CellId),
    /// `/domain/memoryBacking/hugepages`.
    Hugepages,
    /// `/domain/memoryBacking/locked`.
    Locked,
    /// `/domain/memoryBacking/nosharepages`.
    NoSharePages,
    /// `/domain/memoryBacking/access/@mode`.
    MemoryAccess,
    /// `/domain/cpu`: mode and what belongs to it (`check`, `model`, … go or come with it).
    CpuMode,
    /// `/domain/cpu/topology`.
    Topology,
    /// `/domain/cpu/numa`: guest cells virtfit makes (never changes cells that are there).
    Cells,
    /// `/domain/cpu/feature[@name=X]/@policy`.
    CpuFeature(String),
    /// `/domain/cpu/cache`.
    CpuCache,
    /// `/domain/features/pmu/@state`.
    Pmu,
    /// `/domain/features/kvm/hint-dedicated/@state`.
    HintDedicated,
    /// `/domain/features/kvm/poll-control/@state`.
    PollControl,
    /// `/domain/devices/memballoon/@model`: `none` takes the whole element's children and
    /// attributes with it.
    Memballoon,
    /// `/domain/devices/disk[target/@dev=X]/driver/@ATTRIBUTE`.
    Disk(String, DiskAttribute),
    /// `/domain/devices/controller[@type='scsi'][@index=N]/driver/@iothread`.
    ScsiIothread(u32),
}

/// An attribute of a disk's `<driver>`.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum DiskAttribute {
    /// `cache`.
    Cache,
    /// `io`.
    Io,
    /// `discard`.
    Discard,
    /// `queues`.
    Queues,
    /// `iothread`.
    Iothread,
}

impl DiskAttribute {
    /// Its name in the XML.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Io => "io",
            Self::Discard => "discard",
            Self::Queues => "queues",
            Self::Iothread => "iothread",
        }
    }
}

/// What a target shall hold.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the element or attribute goes.
    Absent,
    /// Present without a value: `<locked/>`.
    Present,
    /// A cpulist.
    Cpus(CpuSet),
    /// A number: iothread count, priority.
    Number(u32),
    /// An attribute's text: `none`, `native`, `on`, `off`, `require`, `shared`, `static`.
    Text(String),
    /// `<memory>` / `<memnode>`.
    Numa {
        /// strict, preferred, restrictive.
        mode: &'static str,
        /// Host nodes.
        nodes: NodeSet,
    },
    /// `<hugepages><page size= unit='KiB'/></hugepages>`, for all of the guest.
    PageSize(KiB),
    /// `<cpu mode=>`: `host-passthrough` (written with `check='none'`) or `host-model`.
    CpuMode(&'static str),
    /// `<topology>`.
    Topology(Topology),
    /// `<numa>`: cells in order of id.
    Cells(Vec<(VcpuSet, KiB)>),
    /// `<vcpusched>`.
    Sched {
        /// The vCPUs.
        vcpus: VcpuSet,
        /// fifo or rr.
        scheduler: &'static str,
        /// 1 to 99.
        priority: u32,
    },
    /// `<cache mode= level=>`.
    Cache {
        /// passthrough, emulate, disable.
        mode: &'static str,
        /// 3 for emulate.
        level: Option<u32>,
    },
}

/// One decided value, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Where.
    pub target: Target,
    /// What.
    pub value: Value,
    /// Why, for people: a short clause without a full stop.
    pub why: String,
    /// Whether the guest can see it (topology, CPU mode, cells, features, devices, queues).
    pub guest_visible: bool,
}
