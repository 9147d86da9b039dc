//! Data of a map, in the form of its JSON (`docs/map.md`).

use serde::{Serialize, Serializer};

use crate::status::{Device, text};
use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;
use crate::types::plan::Verdict;

/// Host with everything that sits on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Map {
    /// Version of the format, 1.
    pub version: u32,
    /// Host as it is.
    #[serde(flatten)]
    pub now: Picture,
    /// CPUs that are offline: the kernel names neither node nor core of them.
    #[serde(with = "text")]
    pub offline: CpuSet,
    /// Host with one guest as it is planned; null where no guest is named.
    pub after: Option<After>,
}

/// Nodes and guests at one moment, or of one plan.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Picture {
    /// Nodes, by number.
    pub nodes: Vec<Node>,
    /// Guests, by name; all others name them by their position in this list.
    pub guests: Vec<Guest>,
}

/// Map with one guest as it is planned.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct After {
    /// Position of the guest.
    pub guest: usize,
    /// Profile of the plan; null: none.
    pub profile: Option<String>,
    /// Verdict of the plan.
    pub verdict: Verdict,
    /// Reasons of the plan, in words.
    pub reasons: Vec<String>,
    /// Host with the guest in its planned place; where there is none, as it is.
    #[serde(flatten)]
    pub then: Picture,
}

/// NUMA node.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Node {
    /// Node number.
    pub id: NodeId,
    /// Last-level caches, each with its cores; cores of different kinds are apart.
    pub caches: Vec<Cache>,
    /// Memory by page size, small pages first.
    pub memory: Vec<Pool>,
    /// Passed-through devices at the node.
    pub devices: Vec<Seated>,
}

/// Last-level cache, with those of its cores that are in one node and of one kind.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cache {
    /// Number of the cache on this host: one that is in several nodes has the same number there.
    pub id: usize,
    /// Cache level; 0: cores share no cache.
    pub level: u32,
    /// Size in KiB; 0: not known.
    pub size_kib: KiB,
    /// Kind of the cores: 0 is the fastest.
    pub kind: u32,
    /// Cores, each with its CPUs.
    pub cores: Vec<Vec<Cpu>>,
}

/// CPU, with all that sits on it.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Cpu {
    /// CPU number.
    pub id: HostCpu,
    /// Role of the CPU.
    pub role: Role,
    /// Guests that hold the CPU, or for which it is withheld.
    pub guests: Vec<usize>,
    /// Guests whose vCPUs float here.
    pub floating: Vec<usize>,
    /// Guests that do not run and whose definitions claim the CPU.
    pub claimed_by: Vec<usize>,
    /// Threads whose place this is; not those that float over other CPUs.
    pub threads: Vec<Placed>,
    /// Guests of which a thread ran here last though it should not.
    pub astray: Vec<usize>,
    /// The kernel does not balance over the CPU (`isolcpus=`).
    pub isolated: bool,
}

/// Role of a CPU; the first one that applies, in this order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Role {
    /// A guest holds it.
    Held,
    /// No guest gets it on account of one that holds its sibling.
    Withheld,
    /// `machine.slice` does not let guests use it.
    NotForGuests,
    /// For the host, emulator threads and iothreads.
    Housekeeping,
    /// Dedicated, and no guest holds it.
    Free,
    /// Isolated by the kernel, and in no set of the policy.
    Isolated,
    /// For floating threads.
    Shared,
    /// In no set of the policy.
    InNoSet,
}

impl Role {
    /// All roles, in their order.
    pub(crate) const ALL: [Self; 8] = [
        Self::Held,
        Self::Withheld,
        Self::NotForGuests,
        Self::Housekeeping,
        Self::Free,
        Self::Isolated,
        Self::Shared,
        Self::InNoSet,
    ];

    /// Returns the word for programs: in the JSON of a map, and in labels of metrics.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Withheld => "withheld",
            Self::NotForGuests => "not-for-guests",
            Self::Housekeeping => "housekeeping",
            Self::Free => "free",
            Self::Isolated => "isolated",
            Self::Shared => "shared",
            Self::InNoSet => "in-no-set",
        }
    }
}

impl Serialize for Role {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(self.word())
    }
}

/// Thread on a CPU.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Placed {
    /// Position of its guest.
    pub guest: usize,
    /// Role of the thread: `vcpu 0`, `emulator`, `iothread 1`.
    pub role: String,
}

/// Memory of a node in pages of one size.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub(crate) struct Pool {
    /// Page size in KiB; null: small pages.
    pub page_kib: Option<KiB>,
    /// All there is.
    pub total_kib: KiB,
    /// Part that may still be given out.
    pub free_kib: KiB,
    /// Parts of guests.
    pub guests: Vec<Part>,
}

/// Part of a pool that a guest has.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Part {
    /// Position of the guest.
    pub guest: usize,
    /// Amount in KiB.
    pub kib: KiB,
}

/// Passed-through device at a node.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Seated {
    /// Position of the guest that has it.
    pub guest: usize,
    /// Device, named for people.
    pub name: String,
    /// True if the guest sits on other nodes alone.
    pub elsewhere: bool,
}

/// Guest with everything of it that has a place.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Guest {
    /// Guest's name.
    pub name: String,
    /// Guest's UUID.
    pub uuid: String,
    /// Letter of the guest; `*`: there are more guests than letters.
    pub letter: String,
    /// Colour of the guest, 0 to 6.
    pub color: usize,
    /// State, as in `virtfit status`.
    pub state: String,
    /// Profile by rule or request; null: none.
    pub profile: Option<String>,
    /// CPUs the guest holds, as a cpulist, without those withheld.
    #[serde(with = "text")]
    pub held: CpuSet,
    /// CPUs withheld from others on its account.
    #[serde(with = "text")]
    pub withheld: CpuSet,
    /// CPUs on which its vCPUs float.
    #[serde(with = "text")]
    pub floating: CpuSet,
    /// CPUs its definition claims while it does not run.
    #[serde(with = "text")]
    pub claims: CpuSet,
    /// Threads, each with the CPUs that are its place.
    pub threads: Vec<Thread>,
    /// Nodes it sits on.
    pub nodes: Vec<NodeId>,
    /// Memory by page size and nodes.
    pub memory: Vec<Uses>,
    /// Passed-through devices, each with its node; null: on no node, or not known.
    pub devices: Vec<Device>,
    /// Share of time its vCPU threads waited for a CPU, in per cent; null: not known.
    pub wait_percent: Option<f64>,
}

/// Thread of a guest.
#[derive(Debug, Clone, Default, PartialEq, Serialize)]
pub(crate) struct Thread {
    /// Role of the thread: `vcpu 0`, `emulator`, `iothread 1`, `vhost`, `kvm`.
    pub role: String,
    /// CPUs that are its place, as a cpulist; empty: any.
    #[serde(with = "text")]
    pub cpus: CpuSet,
    /// CPU it ran on last; null: not known.
    pub cpu: Option<HostCpu>,
    /// Text on where it is though it should not be; null: it is where it should be.
    pub wrong: Option<String>,
}

/// Piece of a guest's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Uses {
    /// Amount in KiB.
    pub kib: KiB,
    /// Huge page size in KiB; null: small pages.
    pub page_kib: Option<KiB>,
    /// Nodes it is bound to; empty: none.
    pub nodes: Vec<NodeId>,
}

impl Guest {
    /// Returns whether the guest has a place on the host, or is promised one.
    pub(crate) fn is_seated(&self) -> bool {
        self.state != "shut off"
    }
}
