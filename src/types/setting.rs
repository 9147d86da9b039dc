//! Settings: the values that virtfit may write into a domain, one at a time. They are the boundary
//! between decision and rewriting.
//!
//! The engine decides a list of [`Setting`]s; `rewrite` puts each into the XML and records in the
//! provenance what was there before. Everything virtfit ever writes is one of [`Target`]'s
//! variants.

use crate::types::enlightenment::Enlightenment;
use crate::types::ids::{CellId, IothreadId, KiB, VcpuId};
use crate::types::idset::{CellSet, CpuSet, NodeSet, VcpuSet};
use crate::types::reason::Basis;
use crate::types::topology::Topology;

/// Place in the domain XML that holds one value.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Target {
    /// `/domain/vcpu/@cpuset`: only ever removed (under override), as pins take its place.
    VcpuCpuset,
    /// `/domain/vcpu/@placement`: only ever set to `static` (under override).
    VcpuPlacement,
    /// `/domain/iothreads`: the number of iothreads.
    Iothreads,
    /// `/domain/cputune/vcpupin[@vcpu=N]/@cpuset`.
    VcpuPin(VcpuId),
    /// `/domain/cputune/emulatorpin/@cpuset`.
    EmulatorPin,
    /// `/domain/cputune/iothreadpin[@iothread=N]/@cpuset`.
    IothreadPin(IothreadId),
    /// `/domain/cputune/vcpusched`: one element for the vCPUs in its value. Under override an
    /// administrator's elements are removed.
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
    /// `/domain/cpu/@mode` with the attributes and children that belong to the mode (`check`,
    /// `model`, …).
    CpuMode,
    /// `/domain/cpu/topology`.
    Topology,
    /// `/domain/cpu/numa`: guest cells that virtfit makes. Cells that are there already are never
    /// changed.
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
    /// `/domain/features/hyperv/NAME/@state`.
    Hyperv(Enlightenment),
    /// `/domain/clock/timer[@name='hypervclock']/@present`.
    HypervClock,
    /// `/domain/devices/memballoon/@model`: with `none` the element loses its children and other
    /// attributes.
    Memballoon,
    /// `/domain/devices/disk[target/@dev=X]/driver/@ATTRIBUTE`.
    Disk(String, DiskAttribute),
    /// `/domain/devices/disk[target/@dev=X]/driver/iothreads`.
    DiskIothreads(String),
    /// `/domain/devices/controller[@type='scsi'][@index=N]/driver/@iothread`.
    ScsiIothread(u32),
    /// `/domain/devices/controller[@type='pci'][@index=N]/target/node`: the guest cell of an
    /// expander bus.
    ExpanderNode(u32),
    /// `/domain/devices/interface[mac/@address=X]/driver/@queues`, the address in lower case.
    NetQueues(String),
}

/// Attribute of a disk's `<driver>`.
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
    /// All attributes that virtfit writes.
    pub const ALL: [Self; 5] = [Self::Cache, Self::Io, Self::Discard, Self::Queues, Self::Iothread];

    /// Returns the attribute's name in the XML.
    pub(crate) const fn as_str(self) -> &'static str {
        match self {
            Self::Cache => "cache",
            Self::Io => "io",
            Self::Discard => "discard",
            Self::Queues => "queues",
            Self::Iothread => "iothread",
        }
    }
}

/// Distances of guest cells, as libvirt has them: by cell, to each cell.
pub type Distances = Vec<Vec<u32>>;

/// Distance within a cell (`LOCAL_DISTANCE` in libvirt).
pub(crate) const LOCAL_DISTANCE: u32 = 10;
/// Distance between two cells where none is given (`REMOTE_DISTANCE` in libvirt).
pub(crate) const REMOTE_DISTANCE: u32 = 20;
/// Largest distance between two cells; the next number says that one cannot be reached.
pub(crate) const MAX_DISTANCE: u32 = 254;

/// Value for a target.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Value {
    /// Nothing: the element or attribute is removed.
    Absent,
    /// Element without a value: `<locked/>`.
    Present,
    /// Cpulist.
    Cpus(CpuSet),
    /// Number: iothread count, priority.
    Number(u32),
    /// Text of an attribute: `none`, `native`, `on`, `off`, `require`, `shared`, `static`. Found in
    /// a domain, also a value that has no form of its own here.
    Text(String),
    /// Iothreads of a disk, each for its part of the queues.
    Iothreads(Vec<IothreadId>),
    /// Memory binding of `<memory>` or `<memnode>`.
    Numa {
        /// `strict`, `preferred` or `restrictive`.
        mode: &'static str,
        /// Host nodes.
        nodes: NodeSet,
    },
    /// Page size for all memory of the guest: `<hugepages><page size= unit='KiB'/></hugepages>`.
    PageSize(KiB),
    /// Page sizes of single guest cells (`None`: of all others), as found in a domain; virtfit
    /// writes no such value.
    PageSizes(Vec<(KiB, Option<CellSet>)>),
    /// CPU mode: `host-passthrough` (written with `check='none'`) or `host-model`.
    CpuMode(&'static str),
    /// Guest topology (`<topology>`).
    Topology(Topology),
    /// Guest cells (`<numa>`) in the order of their ids: vCPUs and memory; and the distances from
    /// each to each, none where libvirt's (10 within a cell, 20 between two) are meant.
    Cells(Vec<(VcpuSet, KiB)>, Distances),
    /// Scheduling of vCPUs (`<vcpusched>`).
    Sched {
        /// vCPUs that are scheduled alike.
        vcpus: VcpuSet,
        /// `fifo` or `rr`.
        scheduler: &'static str,
        /// Priority, 1 to 99.
        priority: u32,
    },
    /// CPU caches that the guest sees (`<cache mode= level=>`).
    Cache {
        /// `passthrough`, `emulate` or `disable`.
        mode: &'static str,
        /// Cache level: 3 with `emulate`.
        level: Option<u32>,
    },
}

/// Decided value for one target, with its reason.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Setting {
    /// Place in the XML.
    pub target: Target,
    /// Value for that place.
    pub value: Value,
    /// Reason for the value.
    pub why: Basis,
}
