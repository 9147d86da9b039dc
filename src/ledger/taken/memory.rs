//! Huge pages and other memory that may still be given out.
//!
//! Questions that `docs/design.md` leaves open are answered so that nothing is promised twice:
//! - **Huge pages on several possible nodes.** Pages of a running guest are in `nr − free` already,
//!   so only pages known to be on one node count as known there. A guest that has yet to take its
//!   pages counts in full on each possible node.
//! - **The guest's own pages** are credited back only as far as they must be on a node: all its
//!   pages less those that its other nodes could hold. With one possible node, all its pages are
//!   credited.
//! - **Small pages on several nodes** are split in proportion to the small-page memory of those
//!   nodes, because the kernel fills them evenly in the long run. A guest that is bound to no node
//!   counts on none.

use std::collections::BTreeMap;

use crate::host::{Host, Node, PagePool};
use crate::ledger::{Claim, ClaimedPages, Holder, MemoryUse, Taken};
use crate::policy::HostPolicy;
use crate::types::ids::{KiB, NodeId};

/// Returns the huge pages that may still be given out: min(nr − known there, free − yet to be taken
/// there + own) − reserved.
pub(super) fn pages_free(
    mine: &[&Holder],
    others: &[&Holder],
    host: &Host,
    host_policy: &HostPolicy,
) -> BTreeMap<(NodeId, KiB), u64> {
    let mut pages = BTreeMap::new();
    for node in &host.nodes {
        for pool in &node.pools {
            let known = pages_at(others, pool.size, |_, uses| only_on(host, uses, node.id));
            let coming = pages_at(others, pool.size, |holder, uses| {
                to_come(holder) && may_use(uses, node.id)
            });
            let own = own_pages(mine, others, host, node.id, pool);
            let by_size = pool.total.saturating_sub(known);
            let by_free = pool.free.saturating_add(own).saturating_sub(coming);
            let reserved = host_policy
                .reserved_hugepages
                .get(&pool.size)
                .copied()
                .unwrap_or(0);
            pages.insert(
                (node.id, pool.size),
                by_size.min(by_free).saturating_sub(reserved),
            );
        }
    }
    pages
}

/// Returns the huge pages that definitions claim, for each pool of which any claims some. Pages
/// that may come from several nodes count in full on each of them, like those of a guest that
/// starts. A definition that asks for more than the host has cannot start: it takes nothing from
/// others.
pub(super) fn pages_claimed<'c>(
    claims: impl Iterator<Item = &'c Claim>,
    mine: &[&Holder],
    others: &[&Holder],
    host: &Host,
) -> BTreeMap<(NodeId, KiB), ClaimedPages> {
    let mut claimed: BTreeMap<(NodeId, KiB), ClaimedPages> = BTreeMap::new();
    for claim in claims.filter(|claim| !claim.pages.is_empty() && host_has(host, &claim.pages)) {
        for uses in &claim.pages {
            let Some(size) = uses.page else { continue };
            let nodes = host.nodes.iter().filter(|node| may_use(uses, node.id));
            for node in nodes.filter(|node| node.pools.iter().any(|pool| pool.size == size)) {
                let slot = claimed.entry((node.id, size)).or_default();
                let part = match claim.gives_way() {
                    true => &mut slot.loose,
                    false => &mut slot.firm,
                };
                *part = part.saturating_add(pages_of(uses, size));
            }
        }
    }
    for node in &host.nodes {
        for pool in &node.pools {
            if let Some(slot) = claimed.get_mut(&(node.id, pool.size)) {
                slot.own = own_pages(mine, others, host, node.id, pool);
            }
        }
    }
    claimed
}

/// Returns whether more is claimed than is free of a pool that a definition may use; `all` is seen
/// from no guest.
pub(super) fn is_short(claim: &Claim, all: &Taken) -> bool {
    let over = |size: KiB, uses: &MemoryUse| {
        let pools = all.pages_claimed.iter();
        let mut pools = pools.filter(|((node, of), _)| *of == size && may_use(uses, *node));
        pools.any(|(key, claimed)| {
            let loose = if claim.gives_way() { claimed.loose } else { 0 };
            let free = all.pages_free.get(key).copied().unwrap_or(0);
            claimed.firm.saturating_add(loose) > free
        })
    };
    let mut pieces = claim.pages.iter();
    pieces.any(|uses| uses.page.is_some_and(|size| over(size, uses)))
}

/// Returns whether the pools of the host are large enough for each of these pieces.
fn host_has(host: &Host, pieces: &[MemoryUse]) -> bool {
    pieces.iter().all(|uses| {
        let nodes = host.nodes.iter().filter(|node| may_use(uses, node.id));
        let pools = nodes.flat_map(|node| &node.pools);
        let pools = pools.filter(|pool| Some(pool.size) == uses.page);
        let total = pools.fold(0u64, |sum, pool| sum.saturating_add(pool.total));
        uses.page.is_some_and(|size| pages_of(uses, size) <= total)
    })
}

/// Returns the pages of this pool that must be the guest's own: while it runs they are missing from
/// `free`, and they come back.
fn own_pages(mine: &[&Holder], others: &[&Holder], host: &Host, node: NodeId, pool: &PagePool) -> u64 {
    let in_use = |node: NodeId, pool: &PagePool| {
        let others = pages_at(others, pool.size, |holder, uses| {
            !to_come(holder) && only_on(host, uses, node)
        });
        pool.total.saturating_sub(pool.free).saturating_sub(others)
    };
    let mut own = 0u64;
    for holder in mine.iter().filter(|holder| !to_come(holder)) {
        for uses in holder.memory.iter().filter(|uses| uses.page == Some(pool.size)) {
            if !may_use(uses, node) {
                continue;
            }
            let elsewhere: u64 = host
                .nodes
                .iter()
                .filter(|other| other.id != node && may_use(uses, other.id))
                .flat_map(|other| other.pools.iter().map(move |pool| (other.id, pool)))
                .filter(|(_, other)| other.size == pool.size)
                .fold(0, |sum, (id, other)| sum.saturating_add(in_use(id, other)));
            own = own.saturating_add(pages_of(uses, pool.size).saturating_sub(elsewhere));
        }
    }
    if own == 0 { 0 } else { own.min(in_use(node, pool)) }
}

/// Returns the small-page memory that may still be given out: MemTotal − huge-page pools − guests
/// there − reserved.
pub(super) fn memory_free(
    others: &[&Holder],
    host: &Host,
    host_policy: &HostPolicy,
) -> BTreeMap<NodeId, KiB> {
    let room: BTreeMap<NodeId, u64> = host
        .nodes
        .iter()
        .map(|node| (node.id, node.small_memory().0))
        .collect();
    let mut used: BTreeMap<NodeId, u64> = BTreeMap::new();
    let small = others
        .iter()
        .flat_map(|holder| &holder.memory)
        .filter(|uses| uses.page.is_none() && !uses.nodes.is_empty());
    for uses in small {
        let possible: Vec<(NodeId, u64)> = room
            .iter()
            .map(|(id, room)| (*id, *room))
            .filter(|(id, _)| may_use(uses, *id))
            .collect();
        let whole: u128 = possible.iter().map(|(_, room)| u128::from(*room)).sum();
        for (node, room) in possible {
            let part = if whole == 0 {
                0
            } else {
                (u128::from(uses.amount.0) * u128::from(room)).div_ceil(whole)
            };
            let slot = used.entry(node).or_default();
            *slot = slot.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
        }
    }
    host.nodes
        .iter()
        .map(|node| {
            let reserved = host_policy.reserved_memory.on_node(node.memory).0;
            let used = used.get(&node.id).copied().unwrap_or(0);
            let free = node
                .small_memory()
                .0
                .saturating_sub(used)
                .saturating_sub(reserved);
            (node.id, KiB(free))
        })
        .collect()
}

/// Returns the memory that each of these guests has in huge pages or bound to nodes, the largest
/// first.
pub(super) fn memory_of(others: &[&Holder]) -> Vec<(String, KiB)> {
    let bound = |uses: &&MemoryUse| uses.page.is_some() || !uses.nodes.is_empty();
    let sum = |holder: &Holder| {
        let pieces = holder.memory.iter().filter(bound);
        pieces.fold(0u64, |sum, uses| sum.saturating_add(uses.amount.0))
    };
    let mut all: Vec<(String, KiB)> = others
        .iter()
        .map(|holder| (holder.name.clone(), KiB(sum(holder))))
        .filter(|(_, amount)| amount.0 > 0)
        .collect();
    all.sort_by(|(a, more), (b, less)| less.cmp(more).then_with(|| a.cmp(b)));
    all
}

/// Counts the pages of one size in the pieces of memory that `counts` picks.
fn pages_at(holders: &[&Holder], size: KiB, counts: impl Fn(&Holder, &MemoryUse) -> bool) -> u64 {
    let mut sum = 0u64;
    for holder in holders {
        for uses in holder.memory.iter().filter(|uses| uses.page == Some(size)) {
            if counts(holder, uses) {
                sum = sum.saturating_add(pages_of(uses, size));
            }
        }
    }
    sum
}

/// Returns the number of pages, rounded up as QEMU does.
fn pages_of(uses: &MemoryUse, size: KiB) -> u64 {
    if size.0 == 0 {
        0
    } else {
        uses.amount.0.div_ceil(size.0)
    }
}

/// Returns `true` if the guest's pages are not in `nr − free` yet.
fn to_come(holder: &Holder) -> bool {
    holder.starting || holder.reservation
}

/// Returns whether the memory may be on this node; with no node named, it may be on any.
fn may_use(uses: &MemoryUse, node: NodeId) -> bool {
    uses.nodes.is_empty() || uses.nodes.contains(node)
}

/// Returns whether the memory must be on this node, because no other is allowed.
fn only_on(host: &Host, uses: &MemoryUse, node: NodeId) -> bool {
    let other = |other: &Node| other.id != node && may_use(uses, other.id);
    may_use(uses, node) && !host.nodes.iter().any(other)
}
