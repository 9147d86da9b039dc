//! A guest without cells of its own: on one node, or over several with the vCPUs in order.

use std::cmp::Reverse;

use super::cores::{NodeView, Site};
use super::key::Cost;
use super::level::Level;
use super::shape::{self, Piece};
use super::table::NodeTable;
use super::{Placed, memory};
use crate::idset::VcpuSet;
use crate::units::{KiB, NodeId, VcpuId};

/// How many divisions between nodes are worked out before the search says it was cut short.
const MOST_DIVISIONS: usize = 4_000;
/// How many sets of nodes are listed.
const MOST_SETS: usize = 60_000;

/// The best place on as few nodes as the demand allows.
pub fn place<'a>(site: &Site<'a>, empty: impl FnOnce() -> Site<'a>) -> Option<Placed> {
    if site.demand.dedicated.is_empty() && site.demand.max_nodes.is_none() {
        return shape::floating_anywhere(site);
    }
    let mut best = on_one_node(site);
    let most = match site.demand.max_nodes {
        Some(most) => most as usize,
        // It fits a node as things are, so it fits an empty one.
        None if best.is_some() => 1,
        None => fewest_nodes(&empty())?,
    };
    let mut work = MOST_DIVISIONS;
    for count in 2..=most.min(site.nodes.len()) {
        if best.as_ref().is_some_and(|placed| placed.key.autostart == 0) {
            break;
        }
        let found = on_nodes(site, count, &mut work);
        best = better(best, found);
    }
    best.map(|mut placed| {
        placed.bounded |= work == 0;
        placed
    })
}

/// The fewest nodes an empty host needs for this guest; `None` where it never fits.
fn fewest_nodes(site: &Site<'_>) -> Option<usize> {
    if on_one_node(site).is_some() {
        return Some(1);
    }
    (2..=site.nodes.len()).find(|count| on_nodes(site, *count, &mut 64).is_some())
}

fn better(a: Option<Placed>, b: Option<Placed>) -> Option<Placed> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.key < a.key { b } else { a }),
        (a, b) => a.or(b),
    }
}

fn on_one_node(site: &Site<'_>) -> Option<Placed> {
    let all = VcpuSet::first_n(site.demand.vcpus);
    let mut best: Option<Placed> = None;
    for &kind in &site.kinds {
        for node in &site.nodes {
            let far = site.demand.devices.len() as u32 - node.devices;
            if far > 0 && site.demand.devices_required {
                continue;
            }
            let page = site
                .demand
                .pages
                .iter()
                .find(|page| site.memory_fits(node.id, site.demand.memory, **page));
            let Some(&page) = page else { continue };
            for &level in &site.levels {
                let units = site.demand.dedicated.len() / level.threads() as usize;
                if room(node, kind, level) < units {
                    continue;
                }
                let table =
                    NodeTable::new(node, kind, level, site.demand.spread, units, site.demand.max_llcs);
                let Some(cost) = table.cost(units) else { continue };
                let bar = (
                    cost.autostart,
                    1,
                    far,
                    Reverse(level.rank()),
                    Reverse(page.map_or(0, |p| p.0)),
                );
                if best.as_ref().is_some_and(|placed| {
                    let k = &placed.key;
                    bar > (k.autostart, k.nodes, k.far_devices, k.threads, k.page)
                }) {
                    continue;
                }
                let piece = Piece {
                    vcpus: all.clone(),
                    memory: site.demand.memory,
                    node,
                    cpus: table.cpus(units),
                    cost,
                };
                let placed = shape::assemble(site, level, page, vec![piece], 0);
                let clean = placed.as_ref().is_some_and(|placed| placed.key.autostart == 0);
                best = better(best, placed);
                if clean {
                    break; // fewer threads can only be worse here
                }
            }
        }
    }
    best
}

/// How many units a node has, caches not counted.
fn room(node: &NodeView, kind: u32, level: Level) -> usize {
    let cores = node.cores.iter().filter(|core| core.kind == kind);
    cores.map(|core| level.units_of(core) as usize).sum()
}

/// A way to lay the guest on several nodes.
struct Division<'s, 'a> {
    site: &'s Site<'a>,
    kind: u32,
    level: Level,
    page: Option<KiB>,
    /// Where a new cell may begin: vCPU numbers, from 0 to all of them.
    cuts: Vec<u32>,
    /// Dedicated vCPUs before each cut.
    dedicated: Vec<usize>,
    floating: VcpuSet,
}

fn on_nodes(site: &Site<'_>, count: usize, work: &mut usize) -> Option<Placed> {
    let mut best: Option<Placed> = None;
    for &kind in &site.kinds {
        for &level in &site.levels {
            for &page in &site.demand.pages {
                let division = Division::new(site, kind, level, page);
                best = division.search(count, best, work);
            }
        }
    }
    best
}

impl<'s, 'a> Division<'s, 'a> {
    fn new(site: &'s Site<'a>, kind: u32, level: Level, page: Option<KiB>) -> Self {
        let all = site.demand.vcpus;
        // Only whole guest cores move; with floating vCPUs there are none.
        let step = if site.demand.floating().is_empty() {
            level.threads()
        } else {
            1
        };
        let cuts: Vec<u32> = (0..=all / step).map(|index| index * step).collect();
        let before = |cut: &u32| {
            site.demand
                .dedicated
                .iter()
                .take_while(|vcpu| vcpu.0 < *cut)
                .count()
        };
        let dedicated = cuts.iter().map(before).collect();
        Self {
            site,
            kind,
            level,
            page,
            cuts,
            dedicated,
            floating: site.demand.floating(),
        }
    }

    fn search(&self, count: usize, mut best: Option<Placed>, work: &mut usize) -> Option<Placed> {
        let site = self.site;
        let units = site.demand.dedicated.len() / self.level.threads() as usize;
        let rooms: Vec<(&NodeView, usize)> = site
            .nodes
            .iter()
            .map(|node| (node, room(node, self.kind, self.level).min(units)))
            .filter(|(node, room)| *room > 0 || !node.shared.is_empty())
            .collect();
        if rooms.len() < count {
            return best;
        }
        let mut tables: Vec<Option<NodeTable>> = rooms.iter().map(|_| None).collect();
        for (distance, set) in sets(site, &rooms, count) {
            let space: usize = set.iter().map(|index| rooms[*index].1).sum();
            let here: u32 = set.iter().map(|index| rooms[*index].0.devices).sum();
            let far = site.demand.devices.len() as u32 - here;
            if space < units || (far > 0 && site.demand.devices_required) {
                continue;
            }
            let page = Reverse(self.page.map_or(0, |page| page.0));
            let bar = (0, count as u32, far, Reverse(self.level.rank()), page, distance);
            let hopeless = best.as_ref().is_some_and(|placed| {
                let k = &placed.key;
                bar > (k.autostart, k.nodes, k.far_devices, k.threads, k.page, k.distance)
            });
            if hopeless {
                continue;
            }
            if *work == 0 {
                return best;
            }
            *work -= 1;
            for index in &set {
                tables[*index].get_or_insert_with(|| {
                    let spread = site.demand.spread;
                    NodeTable::new(
                        rooms[*index].0,
                        self.kind,
                        self.level,
                        spread,
                        units,
                        site.demand.max_llcs,
                    )
                });
            }
            for head in 0..set.len() {
                let mut order = set.clone();
                order[..=head].rotate_right(1);
                let nodes: Vec<(&NodeView, &NodeTable)> = order
                    .iter()
                    .filter_map(|index| Some((rooms[*index].0, tables[*index].as_ref()?)))
                    .collect();
                best = better(best, self.divide(&nodes, distance));
            }
        }
        best
    }

    /// Lays the vCPUs on these nodes in this order, each getting some.
    fn divide(&self, nodes: &[(&NodeView, &NodeTable)], distance: u64) -> Option<Placed> {
        let last = self.cuts.len() - 1;
        let most = self.site.demand.max_llcs as usize;
        // plan[i][l][c]: the best for nodes i.. with l caches left (0 stands for any number where there is no limit) when
        // the vCPUs before cut c are placed.
        let done = |cut: usize| {
            (cut == last).then(|| Step {
                next: last,
                ..Step::default()
            })
        };
        let mut plan: Vec<Vec<Vec<Option<Step>>>> = vec![vec![(0..=last).map(done).collect(); most + 1]];
        for index in (0..nodes.len()).rev() {
            let starts = if index == 0 { 1 } else { last };
            let row = |left: usize| -> Vec<Option<Step>> {
                (0..=last)
                    .map(|from| {
                        (from < starts)
                            .then(|| self.step(nodes, index, from, left, plan.last()?))
                            .flatten()
                    })
                    .collect()
            };
            let rows = (0..=most).map(row).collect();
            plan.push(rows);
        }
        plan.reverse();
        let mut pieces = Vec::new();
        let (mut from, mut left) = (0, most);
        for (index, (node, table)) in nodes.iter().enumerate() {
            let step = plan[index][left][from].as_ref()?;
            let units = self.units(from, step.next);
            pieces.push(Piece {
                vcpus: (self.cuts[from]..self.cuts[step.next]).map(VcpuId).collect(),
                memory: self.share(from, step.next),
                node,
                cpus: table.cpus_within(units, step.caches),
                cost: table.cost_within(units, step.caches)?,
            });
            (from, left) = (step.next, left - step.caches);
        }
        let rest: u64 = pieces.iter().map(|piece| piece.memory.0).sum();
        pieces[0].memory.0 += self.site.demand.memory.0 - rest;
        let ids: Vec<NodeId> = nodes.iter().map(|(node, _)| node.id).collect();
        let fits = match self.site.demand.make_cells {
            true => pieces
                .iter()
                .all(|piece| self.site.memory_fits(piece.node.id, piece.memory, self.page)),
            false => self.site.memory_fits_together(&ids, self.page),
        };
        if !fits {
            return None;
        }
        shape::assemble(self.site, self.level, self.page, pieces, distance)
    }

    /// The best way to fill node `index` from cut `from`, what comes after it known.
    fn step(
        &self,
        nodes: &[(&NodeView, &NodeTable)],
        index: usize,
        from: usize,
        left: usize,
        after: &[Vec<Option<Step>>],
    ) -> Option<Step> {
        let (node, table) = nodes[index];
        let mut best: Option<Step> = None;
        for (to, _) in self.cuts.iter().enumerate().skip(from + 1) {
            if !self.fits(node, from, to, index == 0, nodes.len()) {
                continue;
            }
            let units = self.units(from, to);
            for caches in usize::from(left > 0 && units > 0)..=left {
                let Some(rest) = &after[left - caches][to] else {
                    continue;
                };
                let Some(cost) = table.cost_within(units, caches) else {
                    continue;
                };
                let cost = cost + rest.cost;
                if best.as_ref().is_some_and(|best| cost > best.cost) {
                    continue;
                }
                let mut cpus = table.cpus_within(units, caches);
                cpus.extend(&rest.cpus);
                if best
                    .as_ref()
                    .is_none_or(|best| (cost, &cpus) < (best.cost, &best.cpus))
                {
                    best = Some(Step {
                        cost,
                        cpus,
                        next: to,
                        caches,
                    });
                }
            }
        }
        best
    }

    fn units(&self, from: usize, to: usize) -> usize {
        (self.dedicated[to] - self.dedicated[from]) / self.level.threads() as usize
    }

    fn share(&self, from: usize, to: usize) -> KiB {
        let vcpus = self.cuts[to] - self.cuts[from];
        memory::share(self.site.demand.memory, vcpus, self.site.demand.vcpus, self.page)
    }

    /// Whether the vCPUs between two cuts find shared CPUs and memory on a node.
    fn fits(&self, node: &NodeView, from: usize, to: usize, first: bool, count: usize) -> bool {
        let vcpus = self.cuts[from]..self.cuts[to];
        let floating = vcpus.filter(|vcpu| self.floating.contains(VcpuId(*vcpu))).count();
        if floating > node.shared.len() {
            return false;
        }
        let demand = self.site.demand;
        if !(demand.make_cells && demand.bind) {
            return true;
        }
        let mut memory = self.share(from, to).0;
        if first {
            memory = memory.max(self.first_share(to, count).0);
        }
        // Whether it is whole pages shows when all cells are known.
        self.site
            .memory_fits(node.id, KiB(memory - memory % page_size(self.page)), self.page)
    }

    /// Cell 0's memory: what the others leave. Exact for two cells; for more the least it can be.
    fn first_share(&self, to: usize, count: usize) -> KiB {
        let all = self.cuts.len() - 1;
        match count {
            2 => KiB(self.site.demand.memory.0 - self.share(to, all).0),
            _ => self.share(0, to),
        }
    }
}

fn page_size(page: Option<KiB>) -> u64 {
    page.map_or(1, |page| page.0.max(1))
}

#[derive(Clone, Default)]
struct Step {
    cost: Cost,
    cpus: Vec<crate::units::HostCpu>,
    next: usize,
    /// Caches allowed to this node; 0 where there is no limit.
    caches: usize,
}

/// Sets of so many nodes (indexes into `rooms`), nearest first.
fn sets(site: &Site<'_>, rooms: &[(&NodeView, usize)], count: usize) -> Vec<(u64, Vec<usize>)> {
    let mut all = Vec::new();
    let mut current: Vec<usize> = (0..count).collect();
    loop {
        let ids: Vec<NodeId> = current.iter().map(|index| rooms[*index].0.id).collect();
        all.push((site.distance(&ids), current.clone()));
        let Some(at) = (0..count)
            .rev()
            .find(|at| current[*at] < rooms.len() - count + at)
        else {
            break;
        };
        if all.len() >= MOST_SETS {
            break;
        }
        current[at] += 1;
        for next in at + 1..count {
            current[next] = current[next - 1] + 1;
        }
    }
    all.sort();
    all
}

/// For messages: whether such a level has room on some one node.
pub fn roomiest(site: &Site<'_>, level: Level) -> Vec<(NodeId, usize)> {
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
