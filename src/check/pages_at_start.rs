//! Check of the huge pages that can still be made for a guest that starts.

use crate::check::facts::Facts;
use crate::check::finding::Finding;
use crate::check::kernel_memory::{MOST_WAITING, PRESSURE, waiting};
use crate::check::pages::{NODES, demand, usual_size};
use crate::host::page_room::PageRoom;
use crate::policy::Profile;
use crate::types::ids::KiB;

pub(super) fn at_start(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let (_, largest) = demand(facts, profile);
    if largest.0 == 0 {
        return Finding::unknown(facts.no_guest("no guest of this profile is defined"));
    }
    let pools = facts.view.host.nodes.iter().flat_map(|node| &node.pools);
    let free_pages = pools.fold(0u64, |sum, pool| {
        sum.saturating_add(pool.free.saturating_mul(pool.size.0))
    });
    let in_pools = KiB(free_pages).in_gib();
    if free_pages >= largest.0 {
        let read = format!("{in_pools} free in the pools, largest guest {largest}");
        return Finding::pass(read, "the largest guest finds its huge pages");
    }
    // First the memory that may be taken from the host at all, then whether it is in one piece.
    if let Some(room) = room(facts, profile).filter(|room| free_pages.saturating_add(room.0) < largest.0) {
        let read = format!(
            "{in_pools} free in the pools, {} of memory to make pages of, largest guest {largest}",
            room.in_gib()
        );
        let means = "the host needs the rest of its memory: pages for the largest guest cannot be made";
        return Finding::warn(read, means)
            .advise("make the pages at boot (page-pools), or give guests less memory");
    }
    let waits = facts.text(PRESSURE).and_then(|text| waiting(&text, "avg10="));
    if let Some(share) = waits.filter(|share| *share > MOST_WAITING) {
        let read = format!("{in_pools} free in the pools, {PRESSURE}: some avg10={share}");
        let means = "programs wait for memory now: pages that are made for a guest would make it worse";
        return Finding::warn(read, means)
            .advise("make the pages at boot (page-pools), when all memory is free");
    }
    let Some(info) = facts.text("/proc/buddyinfo") else {
        return Finding::unknown("/proc/buddyinfo is absent");
    };
    let whole = whole_blocks(&info);
    let read = format!(
        "{in_pools} free in the pools, {} of memory in whole blocks, largest guest {largest}",
        whole.in_gib()
    );
    match free_pages.saturating_add(whole.0) >= largest.0 {
        true => Finding::info(
            read,
            "pages for the largest guest can still be made, as memory is not in pieces yet",
        ),
        false => Finding::warn(
            read,
            "memory is in use or in pieces: pages for the largest guest can no longer be made for sure",
        )
        .advise("make the pages at boot (page-pools), when all memory is free"),
    }
}

/// Returns the memory of all nodes that can become huge pages while each node keeps what is
/// reserved; `None`: not known, or gigantic pages come from an area of their own.
fn room(facts: &Facts<'_>, profile: &Profile) -> Option<KiB> {
    let size = usual_size(facts, profile);
    if size >= KiB::GIB && facts.boot_option("hugetlb_cma").is_some() {
        return None;
    }
    let (host, policy) = (&facts.view.host, &facts.view.policy.host);
    let mut sum = 0u64;
    for node in host.nodes.iter().filter(|node| node.memory.0 > 0) {
        let text = facts.text(&format!("{NODES}/node{}/meminfo", node.id))?;
        let reserved = policy.reserved_memory.on_node(node.memory);
        sum = sum.saturating_add(PageRoom::parse(&text)?.for_pages(size, reserved).0);
    }
    Some(KiB(sum))
}

/// Sums the blocks of `/proc/buddyinfo` of 2 MiB and more (order 9 up, of pages of 4 KiB), which
/// can become huge pages at once.
fn whole_blocks(info: &str) -> KiB {
    let blocks = info.lines().map(|line| {
        let counts = line
            .split_whitespace()
            .skip(4)
            .map(|count| count.parse::<u64>().unwrap_or(0));
        counts.enumerate().skip(9).fold(0u64, |sum, (order, count)| {
            let size = 4u64.checked_shl(u32::try_from(order).unwrap_or(0)).unwrap_or(0);
            sum.saturating_add(count.saturating_mul(size))
        })
    });
    KiB(blocks.fold(0, u64::saturating_add))
}
