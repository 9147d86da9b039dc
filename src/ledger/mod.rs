//! Ledger: CPUs and memory of running guests, reservations, and claims of definitions.
//! `docs/design.md` section 3 has the rules.

pub mod claims;
pub(crate) mod guest_xml;
pub(crate) mod hook_calls;
pub mod live_pins;
pub(crate) mod lock;
pub mod reader;
pub mod reservation;
pub mod running;
pub mod status;
pub mod store;
pub mod taken;
pub(crate) mod undecided;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use serde::{Deserialize, Serialize};

pub use taken::taken;

use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::reason::Start;

/// Everything that is held, reserved or claimed on a host, as read; the guest being planned is
/// still in it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ledger {
    /// Running guests and reservations: one entry for each guest.
    pub holders: Vec<Arc<Holder>>,
    /// Claims of definitions.
    pub claims: Vec<Claim>,
}

/// Guest that runs or is about to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Holder {
    /// Guest's UUID, lower case.
    pub uuid: String,
    /// Guest's name.
    pub name: String,
    /// CPUs of each pinned thread: vCPUs (their own pin, else `vcpu@cpuset`), emulator, iothreads.
    pub pins: Vec<CpuSet>,
    /// Masks of more CPUs than there are threads behind them, and of empty vCPU slots, of a guest
    /// to which no profile gives CPUs of its own: they hold nothing.
    #[serde(default)]
    pub wide: Vec<CpuSet>,
    /// CPUs to which threads are pinned one by one. Those outside the dedicated set are
    /// [`Taken::occupied`] for other guests.
    #[serde(default)]
    pub occupies: CpuSet,
    /// Withheld siblings. A guest's XML may name any CPUs here: [`taken::held`] accepts only those
    /// that its pins confirm, but all those of a reservation.
    pub withheld: CpuSet,
    /// Siblings that the guest's reservation withholds while it runs.
    #[serde(default)]
    pub promised: CpuSet,
    /// Memory of the guest, by page size and nodes.
    pub memory: Vec<MemoryUse>,
    /// `true` while the guest is starting: its pages are not all taken yet.
    pub starting: bool,
    /// `true` for a reservation without a running guest.
    pub reservation: bool,
    /// `true` if virtfit set the masks of the guest's threads live: the CPUs it holds follow from
    /// its live record rather than from its XML.
    #[serde(default)]
    pub set_live: bool,
}

/// Piece of a guest's memory.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MemoryUse {
    /// Size of the piece.
    pub amount: KiB,
    /// Huge page size; `None`: small pages.
    pub page: Option<KiB>,
    /// Host nodes that the piece is bound to; empty: not bound.
    pub nodes: NodeSet,
}

/// Claim of a definition whose guest does not run.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claim {
    /// Guest's UUID.
    pub uuid: String,
    /// Guest's name.
    pub name: String,
    /// `true` if libvirt starts the guest at host boot: its claims come before all others.
    pub autostart: bool,
    /// CPUs virtfit wrote into the definition.
    pub cpus: CpuSet,
    /// Siblings that the provenance records as withheld; they count as far as they are siblings of
    /// `cpus`.
    #[serde(default)]
    pub withheld: CpuSet,
    /// Memory in huge pages, written by virtfit or not, that the guest does not have yet: QEMU
    /// does not start without it.
    #[serde(default)]
    pub pages: Vec<MemoryUse>,
    /// `true` if virtfit wrote the huge pages: it can take them out again.
    #[serde(default)]
    pub own_pages: bool,
}

impl Claim {
    /// Returns whether the definition gives way to one on autostart that needs its huge pages.
    pub(crate) fn gives_way(&self) -> bool {
        self.own_pages && !self.autostart
    }
}

/// CPUs and memory of the host that other guests have: the ledger without the guest being planned,
/// under a policy's sets.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Taken {
    /// Held CPUs and withheld siblings, with the guest that holds them.
    pub cpus: BTreeMap<HostCpu, String>,
    /// CPUs outside the dedicated set to which other guests' threads are pinned one by one: threads
    /// that float, emulators and iothreads keep off them while there are other CPUs.
    pub occupied: CpuSet,
    /// CPUs that definitions with autostart claim.
    pub claimed_autostart: CpuSet,
    /// CPUs that other definitions claim.
    pub claimed_other: CpuSet,
    /// Huge pages that may still be given out, by node and page size.
    pub pages_free: BTreeMap<(NodeId, KiB), u64>,
    /// Huge pages that definitions claim.
    pub pages_claimed: BTreeMap<(NodeId, KiB), ClaimedPages>,
    /// Small-page memory that may still be given out, by node. Absent nodes are unknown and not
    /// checked.
    pub memory_free: BTreeMap<NodeId, KiB>,
    /// Memory other guests have in huge pages or bound to nodes, the largest first.
    pub memory_of: Vec<(String, KiB)>,
}

/// Huge pages of one pool that definitions of other guests claim.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct ClaimedPages {
    /// Pages that are left to these definitions by all others.
    pub firm: u64,
    /// Pages of definitions that give way to one on autostart.
    pub loose: u64,
    /// Pages among those that may be given out that the guest itself has while it runs: no claim
    /// takes these away.
    pub own: u64,
}

impl Taken {
    /// Returns the huge pages that a definition may be given: those that may be given out, less
    /// those that other definitions claim.
    pub fn pages_unclaimed(&self, autostart: bool) -> BTreeMap<(NodeId, KiB), u64> {
        let mut pages = self.pages_free.clone();
        for (key, claimed) in &self.pages_claimed {
            let loose = if autostart { 0 } else { claimed.loose };
            if let Some(free) = pages.get_mut(key) {
                let left = free.saturating_sub(claimed.firm).saturating_sub(loose);
                *free = left.max(claimed.own.min(*free));
            }
        }
        pages
    }

    /// Returns the names of the guests that hold these CPUs, each once.
    pub(crate) fn names_of(&self, cpus: &CpuSet) -> Vec<String> {
        let names: BTreeSet<&String> = cpus.iter().filter_map(|cpu| self.cpus.get(&cpu)).collect();
        names.into_iter().cloned().collect()
    }

    /// Returns the reason that names the guests that hold these CPUs.
    pub(crate) fn holders_of(&self, cpus: &CpuSet) -> Start {
        Start::CpusHeld {
            cpus: cpus.clone(),
            by: self.names_of(cpus),
        }
    }
}
