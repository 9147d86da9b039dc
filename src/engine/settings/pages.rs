//! Reasons for a page size: why the guest has no larger one.

use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::policy::profile::Hugepages;
use crate::types::ids::{KiB, NodeId};
use crate::types::reason::{Basis, LeftOut};

/// Returns the reason for the page size a guest gets.
pub(crate) fn chosen(fit: &Fit<'_>, page: KiB) -> Basis {
    if let Hugepages::Size(_) = fit.case.wishes.profile.hugepages {
        return Basis::ByProfile;
    }
    let larger = fit.case.host.hugetlbfs.iter().filter(|size| **size > page).min();
    match larger {
        None => Basis::LargestPage,
        Some(larger) => Basis::LargestPageThatFits {
            larger: Box::new(missing(fit, *larger)),
        },
    }
}

/// Returns the first cause against pages of this size, with its numbers.
pub(crate) fn missing(fit: &Fit<'_>, page: KiB) -> LeftOut {
    let domain = fit.case.domain;
    let divides = |amount: KiB| amount.0.is_multiple_of(page.0.max(1));
    // Devices in smaller units rule the size out, whatever is free.
    let mut devices = domain.memory_devices.iter();
    if let Some(device) = devices.find(|device| !divides(device.unit)) {
        let unit = device.unit;
        return LeftOut::BlockDividesNot { unit, page };
    }
    let pieces = pieces(fit);
    if let Some((memory, _)) = pieces.iter().find(|(memory, _)| !divides(*memory)) {
        return LeftOut::PageDividesNot {
            memory: *memory,
            page,
        };
    }
    // Then the first piece whose nodes have too few.
    let few = pieces.iter().find_map(|(memory, nodes)| {
        let need = memory.0 / page.0.max(1);
        let free = free(fit, nodes, page);
        let sum = free
            .iter()
            .fold(0u64, |sum, (_, pages)| sum.saturating_add(*pages));
        let asking = fit.supply.asking(&[Some(page)], |node| nodes.contains(&node));
        (sum < need).then_some(match asking.is_empty() {
            true => LeftOut::FewPages { need, page, free },
            false => LeftOut::PagesLeft {
                need,
                page,
                free,
                asking,
            },
        })
    });
    few.unwrap_or_else(|| match fit.case.current.running || fit.case.facts.running {
        true => LeftOut::RunsWithItsPages,
        false => LeftOut::FewPages {
            need: domain.all_memory().0 / page.0.max(1),
            page,
            free: free(fit, &fit.placed.memory_nodes, page),
        },
    })
}

/// Returns the pieces of the guest's memory, each with the nodes it comes from.
fn pieces(fit: &Fit<'_>) -> Vec<(KiB, Vec<NodeId>)> {
    let Case { domain, host, .. } = *fit.case;
    let Fit { placed, demanded, .. } = *fit;
    if demanded.kept_memory.is_bound() {
        let pieces = demanded.kept_memory.pieces.iter();
        return pieces
            .map(|piece| (piece.amount, piece.nodes.iter().collect()))
            .collect();
    }
    let whole = domain.all_memory();
    match (demanded.demand.bind, demanded.demand.cells.is_empty()) {
        (false, _) => vec![(whole, host.nodes.iter().map(|node| node.id).collect())],
        (true, true) => vec![(whole, placed.memory_nodes.clone())],
        (true, false) => placed
            .cells
            .iter()
            .map(|cell| (cell.memory, cell.memory_node.into_iter().collect()))
            .collect(),
    }
}

fn free(fit: &Fit<'_>, nodes: &[NodeId], page: KiB) -> Vec<(NodeId, u64)> {
    let pages = &fit.supply.pages;
    let of = |node: &NodeId| (*node, pages.get(&(*node, page)).copied().unwrap_or(0));
    nodes.iter().map(of).collect()
}
