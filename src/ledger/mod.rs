//! Who holds what: running guests, reservations, and what definitions claim. `docs/design.md`
//! section 3 has the rules.

pub mod claims;
pub mod guest_xml;
pub mod hook_calls;
pub mod live_pins;
pub mod lock;
pub mod reader;
pub mod reservation;
pub mod running;
pub mod status;
pub mod store;
pub mod taken;
pub mod undecided;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use taken::taken;

use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::plural;

/// Everything that is taken or spoken for on a host, as read; the guest being planned is still in
/// it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Running guests and reservations: one entry a guest.
    pub holders: Vec<Arc<Holder>>,
    /// What definitions of guests claim.
    pub claims: Vec<Claim>,
}

/// A guest that runs or is about to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Its UUID, lower case.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// The CPUs of each thread that has a pin: vCPUs (their own pin, else `vcpu@cpuset`), emulator,
    /// iothreads.
    pub pins: Vec<CpuSet>,
    /// Siblings that are to be nobody's. A guest's XML may say anything here: [`taken::held`]
    /// believes no more of it than its pins confirm. A reservation is believed.
    pub withheld: CpuSet,
    /// Siblings its reservation withholds, while it runs.
    #[serde(default)]
    pub promised: CpuSet,
    /// What memory it uses and where.
    pub memory: Vec<MemoryUse>,
    /// Its pages are not all taken yet: it is still starting.
    pub starting: bool,
    /// A reservation of ours rather than a running guest.
    pub reservation: bool,
    /// virtfit set its threads' masks live: what it holds is known from its record rather than from
    /// its XML.
    #[serde(default)]
    pub set_live: bool,
}

/// One piece of a guest's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// How much.
    pub amount: KiB,
    /// Huge page size; `None`: small pages.
    pub page: Option<KiB>,
    /// Host nodes it is bound to; empty: anywhere.
    pub nodes: NodeSet,
}

/// What an inactive definition would take.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// UUID of the guest.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Started at host boot: its claims come before all others.
    pub autostart: bool,
    /// The CPUs virtfit wrote into it.
    pub cpus: CpuSet,
    /// Siblings it says are withheld: counted as far as they are siblings of `cpus`.
    #[serde(default)]
    pub withheld: CpuSet,
}

/// What of the host is taken, by whom: the ledger without the guest being planned, under a policy's
/// sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Held CPUs and withheld siblings, with the guest that holds them.
    pub cpus: BTreeMap<HostCpu, String>,
    /// CPUs that autostart definitions claim.
    pub claimed_autostart: CpuSet,
    /// CPUs that other definitions claim.
    pub claimed_other: CpuSet,
    /// Huge pages that may still be given out, by node and page size.
    pub pages_free: BTreeMap<(NodeId, KiB), u64>,
    /// Small-page memory that may still be given out, by node. Absent: not known, not checked.
    pub memory_free: BTreeMap<NodeId, KiB>,
}

impl Taken {
    /// Says who holds these CPUs: `CPUs 3-4 are held by db and web`.
    pub fn holders_of(&self, cpus: &CpuSet) -> String {
        let names: BTreeSet<&str> = cpus
            .iter()
            .filter_map(|cpu| self.cpus.get(&cpu).map(String::as_str))
            .collect();
        let names: Vec<String> = names.into_iter().map(str::to_string).collect();
        let are = plural::is_or_are(cpus.len());
        format!("{} {are} held by {}", plural::cpus(cpus), plural::list(&names))
    }
}
