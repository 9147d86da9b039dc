//! Guest without cells of its own: on one node, or over several with the vCPUs in order.

use std::cmp::Reverse;

use crate::placement::Placed;
use crate::placement::cores::{NodeView, Site};
use crate::placement::division::Division;
use crate::placement::finish;
use crate::placement::finish::Piece;
use crate::placement::node_sets::Sets;
use crate::placement::node_table::NodeTable;
use crate::placement::threading::Level;
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::VcpuSet;

/// Returns the best placement on as few nodes as the demand allows; `fewest` returns the number of
/// nodes needed on an empty host.
pub(crate) fn place(site: &Site<'_>, fewest: impl FnOnce() -> Option<usize>) -> Option<Placed> {
    if site.demand.dedicated.is_empty() && site.demand.max_nodes.is_none() {
        return finish::floating_anywhere(site);
    }
    let mut best = on_one_node(site);
    let most = match site.demand.max_nodes {
        Some(most) => most as usize,
        // What fits one node now fits one node of an empty host too.
        None if best.is_some() => 1,
        None => fewest()?,
    };
    let most = most.min(site.nodes.len());
    for count in 2..=most {
        let enough = |placed: &Placed| site.first || placed.key.autostart == 0;
        if best.as_ref().is_some_and(enough) {
            break;
        }
        // The last number of nodes gets all remaining steps, every other number half of them: more
        // nodes have more room.
        best = on_nodes(site, count, if count == most { 1 } else { 2 }, best);
    }
    best.map(|mut placed| {
        placed.bounded |= site.is_cut_short();
        placed
    })
}

/// Returns the smallest number of nodes this guest needs; `None` where it never fits.
pub(crate) fn fewest_nodes(site: &Site<'_>) -> Option<usize> {
    if on_one_node(site).is_some() {
        return Some(1);
    }
    let most = site.nodes.len();
    let rations = |count: usize| if count == most { 1 } else { 2 };
    (2..=most).find(|count| on_nodes(site, *count, rations(*count), None).is_some())
}

/// Returns the better of two placements.
pub(crate) fn better(a: Option<Placed>, b: Option<Placed>) -> Option<Placed> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.key < a.key { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn on_one_node(site: &Site<'_>) -> Option<Placed> {
    let mut best: Option<Placed> = None;
    for &kind in &site.kinds {
        for node in &site.nodes {
            let far = site.demand.devices.len() as u32 - node.devices;
            if far > 0 && site.demand.devices_required {
                continue;
            }
            let fits = |page: &&Option<KiB>| site.memory_fits(node.id, site.demand.memory, **page);
            let Some(&page) = site.demand.pages.iter().find(fits) else {
                continue;
            };
            for &level in &site.levels {
                let placed = on_node(site, node, kind, level, page, far, best.as_ref());
                let clean = placed.as_ref().is_some_and(|placed| placed.key.autostart == 0);
                best = better(best, placed);
                if site.first && best.is_some() {
                    return best;
                }
                if clean {
                    break; // fewer threads can only be worse here
                }
            }
        }
    }
    best
}

fn on_node(
    site: &Site<'_>,
    node: &NodeView,
    kind: u32,
    level: Level,
    page: Option<KiB>,
    far: u32,
    best: Option<&Placed>,
) -> Option<Placed> {
    let units = site.demand.dedicated.len() / level.threads() as usize;
    let page_key = Reverse(page.map_or(0, |page| page.0));
    let hopeless = |autostart: u32| {
        let bar = (autostart, 1, far, Reverse(level.rank()), page_key, 0);
        best.is_some_and(|placed| bar > placed.key.bar())
    };
    if room(node, kind, level) < units || hopeless(0) {
        return None;
    }
    let table = NodeTable::new(site, node, kind, level, units..=units);
    let cost = table.cost(units)?;
    if hopeless(cost.autostart) {
        return None;
    }
    let piece = Piece {
        vcpus: VcpuSet::first_n(site.demand.vcpus),
        memory: site.demand.memory,
        node,
        cpus: table.cpus(units).to_vec(),
        cost,
    };
    let placed = finish::assemble(site, level, page, vec![piece], 0)?;
    Some(Placed {
        bounded: table.bounded,
        ..placed
    })
}

/// Returns the number of units a node has, caches not counted.
fn room(node: &NodeView, kind: u32, level: Level) -> usize {
    let cores = node.cores.iter().filter(|core| core.kind == kind);
    cores.map(|core| level.units_of(core) as usize).sum()
}

/// Places the guest on `count` nodes, with one of `rations` rations of the remaining steps.
fn on_nodes(site: &Site<'_>, count: usize, rations: usize, mut best: Option<Placed>) -> Option<Placed> {
    let mut divisions = Vec::new();
    for &kind in &site.kinds {
        for &level in &site.levels {
            let pages = site.demand.pages.iter();
            divisions.extend(pages.map(|page| Division::new(site, kind, level, *page)));
        }
    }
    let sets = divisions.iter().map(|division| Sets::new(division, count));
    let sets: Vec<Sets<'_, '_, '_>> = sets.filter(|sets| sets.is_possible(best.as_ref())).collect();
    let rounds = sets.len();
    for (done, sets) in sets.into_iter().enumerate() {
        site.ration(rations * (rounds - done));
        best = sets.search(best);
        if site.first && best.is_some() {
            return best;
        }
    }
    best
}

/// Returns the room of each node at one level, for messages.
pub(crate) fn roomiest(site: &Site<'_>, level: Level) -> Vec<(NodeId, usize)> {
    site.nodes
        .iter()
        .map(|node| {
            (
                node.id,
                site.kinds
                    .iter()
                    .map(|kind| room(node, *kind, level))
                    .max()
                    .unwrap_or(0),
            )
        })
        .collect()
}
