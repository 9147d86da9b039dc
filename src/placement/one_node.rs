//! Guest without cells of its own: on one node, or over several with the vCPUs in order.

use crate::placement::cores::{NodeView, Site};
use crate::placement::even;
use crate::placement::finish;
use crate::placement::finish::{Beside, Piece};
use crate::placement::node_sets::better;
use crate::placement::node_table::NodeTable;
use crate::placement::rank::{Bar, Cost, Tail};
use crate::placement::spread::{Round, Spread, Window};
use crate::placement::threading::Level;
use crate::placement::{Mirror, Placed};
use crate::types::ids::{HostCpu, NodeId};
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

fn on_one_node(site: &Site<'_>) -> Option<Placed> {
    let pages = &site.demand.pages;
    let fits = |node: &NodeView, page| site.memory_fits(node.id, site.demand.memory, page);
    // Of the pages that fit a node only the largest can be best there.
    let page_of = |node: &NodeView| pages.iter().find(|page| fits(node, **page)).copied();
    let mut nodes: Vec<(&NodeView, _)> = Vec::new();
    for node in &site.nodes {
        let far = site.demand.devices.len() as u32 - node.devices;
        if far == 0 || !site.demand.devices_required {
            nodes.extend(page_of(node).map(|page| (node, page)));
        }
    }
    let mut best: Option<Placed> = None;
    for round in site.rounds() {
        for (node, page) in &nodes {
            if *page == round.page {
                let found = on_node(site, node, &round, best.as_ref());
                best = better(best, found);
            }
            if site.first && best.is_some() {
                return best;
            }
        }
    }
    best
}

/// Places the guest on one node; `None` where that is impossible or cannot beat `best`.
fn on_node(site: &Site<'_>, node: &NodeView, round: &Round, best: Option<&Placed>) -> Option<Placed> {
    let units = round.units(site);
    let distance = site.distance(&[node.id]);
    let bar = |autostart: u32| Bar {
        autostart,
        nodes: 1,
        far_devices: site.demand.devices.len() as u32 - node.devices,
        round: round.rank(site),
        distance,
        ..Bar::default()
    };
    let hopeless =
        |bar: Bar, tail: Tail| best.is_some_and(|best| (bar, tail) > (best.key.bar(), best.key.tail()));
    if best.is_some_and(|best| bar(0) > best.key.bar()) || room(node, round.kind, round.level) < units {
        return None;
    }
    let mut found: Option<Choice> = None;
    for spread in round.spreads(site, 1) {
        // Fewer caches come before everything else but claims.
        let clean = |found: &Choice| (found.cost.scarce, found.cost.autostart) == (0, 0);
        if site.mirror() == Mirror::Caches && found.as_ref().is_some_and(clean) {
            break;
        }
        let choice = choose(site, node, round, spread, units);
        found = found
            .into_iter()
            .chain(choice)
            .min_by(|a, b| a.rank().cmp(&b.rank()));
    }
    let Choice {
        cost,
        uneven,
        cpus,
        bounded,
    } = found?;
    let mut tail = cost.tail();
    tail.1 = uneven as u32 * round.level.threads();
    if hopeless(bar(cost.autostart), tail) {
        return None;
    }
    let beside = Beside {
        distance,
        ..Beside::default()
    };
    let piece = Piece {
        cell: None,
        vcpus: VcpuSet::first_n(site.demand.vcpus),
        memory: site.demand.memory,
        node,
        cpus,
        cost,
    };
    let placed = finish::assemble(site, round, vec![piece], &beside)?;
    Some(Placed { bounded, ..placed })
}

/// Units of one node.
struct Choice {
    cost: Cost,
    /// Difference between the most and the fewest on a cache.
    uneven: usize,
    cpus: Vec<HostCpu>,
    bounded: bool,
}

impl Choice {
    /// Returns the fields in the order of preference.
    fn rank(&self) -> (i64, u32, u32, usize, Cost, &[HostCpu]) {
        let Cost {
            scarce,
            autostart,
            llcs,
            ..
        } = self.cost;
        (scarce, autostart, llcs, self.uneven, self.cost, &self.cpus)
    }
}

/// Returns the best units of a node: the cheapest, and of those the most even over caches.
fn choose(site: &Site<'_>, node: &NodeView, round: &Round, spread: Spread, units: usize) -> Option<Choice> {
    let choice = |spread: Spread| {
        let table = NodeTable::new(site, node, round, &spread, units..=units);
        let cost = table.cost(units)?;
        let cpus = table.cpus(units).to_vec();
        Some(Choice {
            cost,
            uneven: finish::uneven_over_caches(site, &cpus) as usize / round.level.threads() as usize,
            cpus,
            bounded: table.is_bounded(),
        })
    };
    let found = choice(spread)?;
    if site.first {
        return Some(found);
    }
    let before = |cost: &Cost| (cost.scarce, cost.autostart, cost.llcs);
    for width in 0..found.uneven {
        let windows = Window::of_width(width, units, found.cost.llcs as usize);
        let even = windows.filter_map(|window| choice(spread.within(window)));
        let even = even.filter(|even| before(&even.cost) == before(&found.cost));
        if let Some(even) = even.min_by(|a, b| a.rank().cmp(&b.rank())) {
            return Some(even);
        }
    }
    Some(found)
}

/// Returns the number of units a node has, caches not counted.
fn room(node: &NodeView, kind: u32, level: Level) -> usize {
    let cores = node.cores.iter().filter(|core| core.kind == kind);
    cores.map(|core| level.units_of(core) as usize).sum()
}

/// Places the guest on `count` nodes, with one of `rations` rations of the remaining steps.
fn on_nodes(site: &Site<'_>, count: usize, rations: usize, mut best: Option<Placed>) -> Option<Placed> {
    let spreads = |round: Round| {
        let spreads = round.spreads(site, count).into_iter();
        spreads.map(move |spread| (round, spread))
    };
    let searches: Vec<(Round, Spread)> = site.rounds().into_iter().flat_map(spreads).collect();
    let all = searches.len();
    for (done, (round, spread)) in searches.into_iter().enumerate() {
        site.ration(rations * (all - done));
        best = even::search(site, round, spread, count, best);
        if site.first && best.is_some() {
            return best;
        }
        if spread.exact.is_none() || site.mirror() == Mirror::Nodes {
            best = even::over_caches(site, &round, spread, best, |spread, best| {
                even::search(site, round, spread, count, best)
            });
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
