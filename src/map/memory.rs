//! Memory of the map's nodes: pools by page size, each with the parts of guests.

use crate::host::{Host, Node};
use crate::ledger::Taken;
use crate::map::data::{Guest, Part, Pool};
use crate::types::ids::{KiB, NodeId};

/// Lists the memory of a node by page size: small pages, then the pools that have pages. `taken`:
/// all that may not be given out; `coming`: memory of a planned guest, which is not taken yet.
pub(super) fn pools(
    host: &Host,
    node: &Node,
    guests: &[Guest],
    taken: &Taken,
    coming: Option<usize>,
) -> Vec<Pool> {
    let mut out = Vec::new();
    let small = taken.memory_free.get(&node.id);
    if let Some(free) = small.filter(|_| host.memory_known && node.memory.0 > 0) {
        let total = node.small_memory().0;
        out.push(pool(None, total, free.0, node.id, guests, coming));
    }
    for it in node.pools.iter().filter(|pool| pool.total > 0) {
        let free = taken.pages_free.get(&(node.id, it.size)).copied();
        let free = free.unwrap_or(it.free).saturating_mul(it.size.0);
        let total = it.total.saturating_mul(it.size.0);
        out.push(pool(Some(it.size), total, free, node.id, guests, coming));
    }
    out
}

fn pool(
    page: Option<KiB>,
    total: u64,
    free: u64,
    node: NodeId,
    guests: &[Guest],
    coming: Option<usize>,
) -> Pool {
    let part = |(guest, it): (usize, &Guest)| {
        let kib = KiB(amount(it, page, node));
        (kib.0 > 0).then_some(Part { guest, kib })
    };
    let parts: Vec<Part> = guests.iter().enumerate().filter_map(part).collect();
    let planned = parts.iter().filter(|part| Some(part.guest) == coming);
    let planned = planned.fold(0u64, |sum, part| sum.saturating_add(part.kib.0));
    Pool {
        page_kib: page,
        total_kib: KiB(total),
        free_kib: KiB(free.saturating_sub(planned).min(total)),
        guests: parts,
    }
}

/// Returns the KiB a guest has on a node in pages of one size. Memory that is bound to several
/// nodes is taken as even over them; memory that is bound to none may be anywhere and counts
/// nowhere.
fn amount(guest: &Guest, page: Option<KiB>, node: NodeId) -> u64 {
    let here = guest
        .memory
        .iter()
        .filter(|uses| uses.page_kib == page && uses.nodes.contains(&node));
    here.fold(0u64, |sum, uses| {
        sum.saturating_add(uses.kib.0 / uses.nodes.len().max(1) as u64)
    })
}
