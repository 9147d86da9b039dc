//! Data of a measurement, in the form of its JSON (`docs/measure.md`).

use serde::{Deserialize, Serialize};

use crate::status::text;
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::CpuSet;

/// Figures of guests over one interval.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Measurement {
    /// Version of the format, 1.
    pub version: u32,
    /// Time at which the interval began, in seconds since 1970.
    pub began: u64,
    /// Length of the interval.
    pub seconds: f64,
    /// Number of times at which threads were looked at.
    pub samples: usize,
    /// Guests that ran, by name.
    pub guests: Vec<Guest>,
}

/// Guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Guest {
    /// Guest's name.
    pub name: String,
    /// Guest's UUID.
    pub uuid: String,
    /// Profile by rule or request; null: none.
    pub profile: Option<String>,
    /// Figures of all its vCPUs together, those that matter most first.
    pub figures: Vec<Figure>,
    /// Threads, vhost kernel threads included.
    pub threads: Vec<Thread>,
    /// Memory of QEMU by node and page size; null: not known.
    pub memory: Option<Vec<Pages>>,
    /// Others that ran on the CPUs of its vCPUs, the greatest first.
    pub others: Vec<Other>,
    /// Times the guest was left by KVM; null: not known.
    pub kvm_exits: Option<u64>,
}

/// Figure of a guest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Figure {
    /// Kind of the figure.
    pub figure: Kind,
    /// Value over the interval, in the kind's unit; null: not known.
    pub value: Option<f64>,
    /// Standard deviation of the values of tenths of the interval; null: not known.
    pub spread: Option<f64>,
}

/// Kind of a figure, those that matter most first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Kind {
    /// CPUs that the vCPUs wanted: they ran, or waited for one.
    Load,
    /// Share of the time in which vCPUs wanted a CPU that they waited for one.
    Waited,
    /// Share of the time vCPUs ran that they ran on nodes that are not theirs.
    OffNode,
    /// Share of the memory on nodes where no vCPU ran.
    Remote,
    /// Share of the time vCPUs ran that they ran on CPUs that are not theirs.
    OffCpu,
    /// Moves of vCPUs to another CPU, a second.
    Migrations,
    /// Times a vCPU had to leave its CPU to another thread, a second.
    Preempted,
}

impl Kind {
    /// All kinds, in their order.
    pub(crate) const ALL: [Self; 7] = [
        Self::Load,
        Self::Waited,
        Self::OffNode,
        Self::Remote,
        Self::OffCpu,
        Self::Migrations,
        Self::Preempted,
    ];

    /// Returns whether less of it is better. The load is the guest's own affair.
    pub(crate) fn is_judged(self) -> bool {
        self != Self::Load
    }

    /// Returns the smallest difference that counts, in the kind's unit, however steady the values
    /// are.
    pub(crate) fn least(self) -> f64 {
        match self {
            Self::Load => 0.1,
            Self::Waited | Self::OffNode | Self::Remote | Self::OffCpu => 1.0,
            Self::Migrations => 1.0,
            Self::Preempted => 10.0,
        }
    }
}

/// Thread of a guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Thread {
    /// Role of the thread: `vcpu 0`, `emulator`, `iothread 1`, `vhost`, `kvm`.
    pub role: String,
    /// Thread id.
    pub tid: u32,
    /// CPUs that are its place, as a cpulist; empty: any.
    #[serde(with = "text")]
    pub planned: CpuSet,
    /// CPUs it was seen on.
    #[serde(with = "text")]
    pub cpus: CpuSet,
    /// Nanoseconds it ran.
    pub run_ns: u64,
    /// Nanoseconds it waited for a CPU.
    pub wait_ns: u64,
    /// Nanoseconds it ran outside of its place.
    pub off_cpu_ns: u64,
    /// Nanoseconds it ran on nodes where its place is not.
    pub off_node_ns: u64,
    /// Moves to another CPU; null: the kernel does not count them.
    pub migrations: Option<u64>,
    /// Times it had to leave its CPU to another thread; null: not known.
    pub preempted: Option<u64>,
    /// Moves that were seen between two looks.
    pub moves: Moves,
}

/// Moves of a thread, by how far they went; a thread that moved and came back between two looks is
/// not seen.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Moves {
    /// To a CPU of the same core.
    pub core: u64,
    /// To another core of the same last-level cache.
    pub cache: u64,
    /// To another cache of the same node.
    pub node: u64,
    /// To another node.
    pub nodes: u64,
}

/// Memory on a node in pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Pages {
    /// Node number.
    pub node: NodeId,
    /// Page size in KiB.
    pub page_kib: KiB,
    /// Amount in KiB.
    pub kib: KiB,
}

/// Other guest or process that ran on a guest's CPUs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Other {
    /// Name of the guest, or of the process.
    pub name: String,
    /// True: a guest.
    pub guest: bool,
    /// Nanoseconds it ran there.
    pub run_ns: u64,
}
