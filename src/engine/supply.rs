//! CPUs and memory a host has to give: now, and with no guest on it.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::ledger::taken::same_guest;
use crate::ledger::{Claim, Ledger, MemoryUse, Taken, taken};
use crate::placement::Supply;
use crate::policy::HostPolicy;
use crate::policy::cpu_sets::Sets;
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::CpuSet;

/// Both supplies of one host under one policy.
#[derive(Clone)]
pub struct Supplies {
    /// Supply less what other guests hold.
    pub now: Supply,
    /// Supply of the host without guests.
    pub empty: Supply,
}

impl Supplies {
    /// Works out both supplies.
    pub fn new(host: &Host, sets: &Sets, taken: &Taken, policy: &HostPolicy) -> Self {
        let held = taken.cpus.keys().copied().collect();
        let dedicated = sets.dedicated.intersection(&host.online);
        let allowed = host.online.difference(&sets.housekeeping);
        let usable = |node: NodeId| host.guest_nodes.as_ref().is_none_or(|nodes| nodes.contains(node));
        // Memory guests may not use (`machine.slice`'s nodes) and reserved pages are no supply.
        let mut pages = BTreeMap::new();
        for node in host.nodes.iter().filter(|node| usable(node.id)) {
            for pool in node
                .pools
                .iter()
                .filter(|pool| host.hugetlbfs.contains(&pool.size))
            {
                let reserved = policy.reserved_hugepages.get(&pool.size).copied().unwrap_or(0);
                pages.insert((node.id, pool.size), pool.total.saturating_sub(reserved));
            }
        }
        // Small pages come from the ledger's sums without any guest.
        let nobody = taken::taken(&Ledger::default(), "", "", host, &sets.dedicated, policy);
        let memory = nobody
            .memory_free
            .into_iter()
            .map(|(node, free)| (node, if usable(node) { free } else { KiB(0) }))
            .collect();
        let empty = Supply {
            dedicated: dedicated.clone(),
            free: dedicated.clone(),
            shared: sets.shared_now(host, &Default::default()),
            isolable: allowed.clone(),
            pages,
            memory,
            ..Supply::default()
        };
        // What other guests hold comes off the supply of the empty host, never below zero.
        let mut now = Supply {
            free: dedicated.difference(&held),
            shared: sets.shared_now(host, &held),
            isolable: allowed.difference(&held),
            occupied: taken.occupied.clone(),
            held: taken.cpus.clone(),
            memory_held: taken.memory_of.clone(),
            claimed_autostart: taken.claimed_autostart.clone(),
            claimed_other: taken.claimed_other.difference(&taken.claimed_autostart),
            ..empty.clone()
        };
        for (key, pages) in &mut now.pages {
            *pages = taken.pages_free.get(key).copied().unwrap_or(0).min(*pages);
        }
        for (node, free) in &mut now.memory {
            if let Some(left) = taken.memory_free.get(node) {
                *free = (*left).min(*free);
            }
        }
        Self { now, empty }
    }

    /// Returns the supplies without the huge pages that definitions of other guests claim; `None`:
    /// they claim none. `guest` is UUID and name of the guest that is planned.
    pub(crate) fn beside_claims(
        &self,
        taken: &Taken,
        ledger: &Ledger,
        guest: (&str, &str),
        autostart: bool,
    ) -> Option<Self> {
        let unclaimed = taken.pages_unclaimed(autostart);
        let left = |key: &(NodeId, KiB)| self.now.pages.get(key).copied().unwrap_or(0);
        let pages: BTreeMap<(NodeId, KiB), u64> = unclaimed
            .into_iter()
            .map(|(key, pages)| (key, pages.min(left(&key))))
            .filter(|(key, pages)| *pages < left(key))
            .collect();
        if pages.is_empty() {
            return None;
        }
        let mut beside = self.clone();
        for key in pages.keys() {
            let asking = asking(ledger, guest, *key, autostart);
            beside.now.pages_left.insert(*key, asking);
        }
        beside.now.pages.extend(pages);
        Some(beside)
    }

    /// Limits floating vCPUs to a `vcpu@cpuset` that is kept. A cpuset in which no vCPU can float
    /// is no limit.
    pub(crate) fn floating_within(mut self, cpuset: Option<&CpuSet>) -> Self {
        let Some(cpuset) = cpuset else { return self };
        for supply in [&mut self.now, &mut self.empty] {
            let inside = supply.shared.intersection(cpuset);
            if !inside.is_empty() {
                supply.shared = inside;
            }
        }
        self
    }
}

/// Lists the other guests whose definitions claim huge pages of a pool, with the amount.
fn asking(
    ledger: &Ledger,
    guest: (&str, &str),
    (node, size): (NodeId, KiB),
    autostart: bool,
) -> Vec<(String, KiB)> {
    let is_own = |claim: &Claim| same_guest(guest, (&claim.uuid, &claim.name));
    let gives_way = |claim: &Claim| autostart && claim.gives_way();
    let is_there = |piece: &&MemoryUse| {
        piece.page == Some(size) && (piece.nodes.is_empty() || piece.nodes.contains(node))
    };
    let amount = |claim: &Claim| {
        let pieces = claim.pages.iter().filter(is_there);
        KiB(pieces.fold(0, |sum, piece| sum.saturating_add(piece.amount.0)))
    };
    let claims = ledger.claims.iter();
    let claims = claims.filter(|claim| !is_own(claim) && !gives_way(claim));
    claims
        .map(|claim| (claim.name.clone(), amount(claim)))
        .filter(|(_, amount)| amount.0 > 0)
        .collect()
}
