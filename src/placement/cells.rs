//! Guest cells onto host nodes, each on one of its own: a matching problem with an order of merit.
//!
//! Whether a matching exists is decided exactly (augmenting paths). The best one is found by branch and bound: cells
//! in order of their first vCPU, nodes in order of the CPUs they would give, a branch cut as soon as the best it could
//! become is no better than what is known.

use std::cmp::Reverse;

use super::cores::{NodeView, Site};
use super::key::{Cost, Key};
use super::level::Level;
use super::shape::{self, Piece};
use super::table::NodeTable;
use super::{CellDemand, Placed};
use crate::units::{HostCpu, KiB};

/// How many branches are followed before the search says it was cut short.
const MOST_BRANCHES: usize = 30_000;
/// How many more while none is found at all: a matching that memory and CPUs allow is found at once, so only a demand
/// for local devices or few caches gets here.
const MOST_WITHOUT: usize = 70_000;

/// The best matching of the demand's cells and the host's nodes.
pub fn place(site: &Site<'_>) -> Option<Placed> {
    let mut best: Option<Placed> = None;
    let mut branches = MOST_BRANCHES + MOST_WITHOUT;
    for &kind in &site.kinds {
        for &level in &site.levels {
            let divides = |cell: &CellDemand| {
                cell.vcpus
                    .intersection(&site.demand.dedicated)
                    .len()
                    .is_multiple_of(level.threads() as usize)
            };
            if !site.demand.cells.iter().all(divides) {
                continue;
            }
            let offers = Offers::new(site, kind, level);
            for &page in &site.demand.pages {
                let mut search = Search::new(site, &offers, level, page, best.take(), &mut branches);
                if search.can_match(0) {
                    search.branch(0);
                }
                best = search.best;
            }
        }
    }
    best.map(|placed| Placed {
        bounded: branches <= MOST_WITHOUT,
        ..placed
    })
}

/// What each node would give each cell, memory not counted. Equal cells share one.
struct Offers {
    /// By cell, by node: none, or one for each number of caches that makes a difference.
    by_cell: Vec<Vec<Vec<Offer>>>,
}

#[derive(Clone)]
struct Offer {
    cost: Cost,
    cpus: Vec<HostCpu>,
}

impl Offers {
    fn new(site: &Site<'_>, kind: u32, level: Level) -> Self {
        let threads = level.threads() as usize;
        let needs: Vec<(usize, usize)> = site
            .demand
            .cells
            .iter()
            .map(|cell| {
                let dedicated = cell.vcpus.intersection(&site.demand.dedicated).len();
                (
                    dedicated / threads,
                    cell.vcpus.intersection(&site.demand.floating()).len(),
                )
            })
            .collect();
        let largest = needs.iter().map(|(units, _)| *units).max().unwrap_or(0);
        let limit = site.demand.max_llcs;
        let mut by_cell = vec![Vec::with_capacity(site.nodes.len()); needs.len()];
        for node in &site.nodes {
            let table = NodeTable::new(node, kind, level, site.demand.spread, largest, limit);
            let mut known: Vec<((usize, usize), Vec<Offer>)> = Vec::new();
            for (cell, need) in needs.iter().enumerate() {
                let offer = match known.iter().find(|(other, _)| other == need) {
                    Some((_, offers)) => offers.clone(),
                    None => {
                        let (units, floating) = *need;
                        let room = floating <= node.shared.len();
                        let mut offers: Vec<Offer> = Vec::new();
                        for caches in usize::from(limit > 0)..=limit as usize {
                            let Some(cost) = table.cost_within(units, caches).filter(|_| room) else {
                                continue;
                            };
                            if offers.last().is_none_or(|before| before.cost != cost) {
                                offers.push(Offer {
                                    cost,
                                    cpus: table.cpus_within(units, caches),
                                });
                            }
                        }
                        offers.sort_by_key(|offer| offer.cost);
                        known.push((*need, offers.clone()));
                        offers
                    }
                };
                by_cell[cell].push(offer);
            }
        }
        Self { by_cell }
    }
}

struct Search<'s, 'a> {
    site: &'s Site<'a>,
    offers: &'s Offers,
    level: Level,
    page: Option<KiB>,
    /// Cells in order of their first vCPU.
    order: Vec<usize>,
    /// By cell: nodes that fit it, in order of the CPUs they give.
    fitting: Vec<Vec<usize>>,
    /// By position in `order`: the least all cells from there on can cost.
    least: Vec<Cost>,
    /// The smallest distance between any two nodes.
    nearest: u64,
    /// By cell: the node it is on in this branch, and which of its offers.
    chosen: Vec<Option<(usize, usize)>>,
    taken: Vec<bool>,
    cost: Cost,
    distance: u64,
    best: Option<Placed>,
    branches: &'s mut usize,
}

impl<'s, 'a> Search<'s, 'a> {
    fn new(
        site: &'s Site<'a>,
        offers: &'s Offers,
        level: Level,
        page: Option<KiB>,
        best: Option<Placed>,
        branches: &'s mut usize,
    ) -> Self {
        let cells = &site.demand.cells;
        let fits = |cell: usize, node: usize| {
            let id = site.nodes[node].id;
            let demand = &cells[cell];
            let fits = |offer: &Offer| {
                let piece = Piece {
                    vcpus: demand.vcpus.clone(),
                    memory: demand.memory,
                    node: &site.nodes[node],
                    cpus: offer.cpus.clone(),
                    cost: offer.cost,
                };
                shape::piece_fits(site, level, piece, cell == 0)
            };
            offers.by_cell[cell][node].iter().any(fits)
                && demand.nodes.as_ref().is_none_or(|nodes| nodes.contains(id))
                && site.memory_fits(id, demand.memory, page)
        };
        let fitting: Vec<Vec<usize>> = (0..cells.len())
            .map(|cell| {
                let mut nodes: Vec<usize> = (0..site.nodes.len()).filter(|node| fits(cell, *node)).collect();
                nodes.sort_by_key(|node| {
                    offers.by_cell[cell][*node]
                        .first()
                        .and_then(|offer| offer.cpus.first().copied())
                });
                nodes
            })
            .collect();
        let mut order: Vec<usize> = (0..cells.len()).collect();
        order.sort_by_key(|cell| (cells[*cell].vcpus.first().is_none(), cells[*cell].vcpus.first()));
        let mut least = vec![Cost::default(); cells.len() + 1];
        for (position, cell) in order.iter().enumerate().rev() {
            let costs = fitting[*cell]
                .iter()
                .flat_map(|node| &offers.by_cell[*cell][*node]);
            least[position] = costs.map(|offer| offer.cost).min().unwrap_or_default() + least[position + 1];
        }
        let ids: Vec<_> = site.nodes.iter().map(|node| node.id).collect();
        let pairs = ids
            .iter()
            .enumerate()
            .flat_map(|(i, a)| ids[i + 1..].iter().map(move |b| (*a, *b)));
        let nearest = pairs
            .map(|(a, b)| u64::from(site.between(a, b)))
            .min()
            .unwrap_or(0);
        Self {
            site,
            offers,
            level,
            page,
            order,
            fitting,
            least,
            nearest,
            chosen: vec![None; cells.len()],
            taken: vec![false; site.nodes.len()],
            cost: Cost::default(),
            distance: 0,
            best,
            branches,
        }
    }

    fn branch(&mut self, position: usize) {
        let reserve = if self.best.is_some() { MOST_WITHOUT } else { 0 };
        if *self.branches <= reserve {
            return;
        }
        *self.branches -= 1;
        if position == self.order.len() {
            self.finish();
            return;
        }
        let cell = self.order[position];
        for index in 0..self.fitting[cell].len() {
            let node = self.fitting[cell][index];
            if self.taken[node] {
                continue;
            }
            for offer in 0..self.offers.by_cell[cell][node].len() {
                let (cost, distance) = (self.cost, self.distance);
                self.cost += self.offers.by_cell[cell][node][offer].cost;
                self.distance += self.distance_to_chosen(node);
                self.chosen[cell] = Some((node, offer));
                self.taken[node] = true;
                if self.promising(position + 1) && self.can_match(position + 1) {
                    self.branch(position + 1);
                }
                self.taken[node] = false;
                self.chosen[cell] = None;
                (self.cost, self.distance) = (cost, distance);
            }
        }
    }

    fn chosen_nodes(&self) -> impl Iterator<Item = &NodeView> + Clone {
        self.chosen
            .iter()
            .flatten()
            .map(|(node, _)| &self.site.nodes[*node])
    }

    fn distance_to_chosen(&self, node: usize) -> u64 {
        let to = self.site.nodes[node].id;
        self.chosen_nodes()
            .map(|other| u64::from(self.site.between(other.id, to)))
            .sum()
    }

    /// Whether the best this branch could become beats the best known. Branches come in order of their CPU lists, so
    /// a tie does not.
    fn promising(&self, position: usize) -> bool {
        let far = self.least_far(position);
        let rest = &self.order[position..];
        let more = rest
            .iter()
            .filter(|cell| !self.site.demand.cells[**cell].vcpus.is_empty())
            .count() as u32;
        let most = self.site.demand.max_llcs;
        if (far > 0 && self.site.demand.devices_required) || (most > 0 && self.cost.llcs + more > most) {
            return false;
        }
        let Some(best) = &self.best else { return true };
        let least = self.cost + self.least[position];
        let count = self.order.len() as u32;
        let Key {
            autostart,
            nodes,
            far_devices,
            threads,
            page,
            distance,
            llcs,
            other,
            siblings,
            ..
        } = best.key;
        let mine = (
            least.autostart,
            count,
            far,
            Reverse(self.level.rank()),
            self.page_key(),
        );
        let known = (autostart, nodes, far_devices, threads, page);
        if mine != known {
            return mine < known;
        }
        let mine = (
            self.least_distance(position),
            least.llcs,
            least.other,
            least.siblings,
        );
        let known = (distance, llcs, other, siblings);
        if mine != known {
            return mine < known;
        }
        self.least_left(position) < best.key.left
    }

    fn page_key(&self) -> Reverse<u64> {
        Reverse(self.page.map_or(0, |page| page.0))
    }

    fn least_far(&self, position: usize) -> u32 {
        let chosen: u32 = self.chosen_nodes().map(|node| node.devices).sum();
        let rest = self.order.len() - position;
        let mut open: Vec<u32> = self.untaken().map(|node| node.devices).collect();
        open.sort_unstable_by_key(|devices| Reverse(*devices));
        let hoped: u32 = open.iter().take(rest).sum();
        (self.site.demand.devices.len() as u32).saturating_sub(chosen + hoped)
    }

    fn untaken(&self) -> impl Iterator<Item = &NodeView> {
        let open = |(_, taken): &(&NodeView, &bool)| !**taken;
        self.site
            .nodes
            .iter()
            .zip(&self.taken)
            .filter(open)
            .map(|(node, _)| node)
    }

    /// Chosen nodes' distances, and for those to come the nearest they could be.
    fn least_distance(&self, position: usize) -> u64 {
        let rest = self.order.len() - position;
        if rest == 0 {
            return self.distance;
        }
        let chosen: Vec<_> = self.chosen_nodes().map(|node| node.id).collect();
        let to_chosen = |node: &NodeView| -> u64 {
            chosen
                .iter()
                .map(|other| u64::from(self.site.between(node.id, *other)))
                .sum()
        };
        let mut sums: Vec<u64> = self.untaken().map(to_chosen).collect();
        sums.sort_unstable();
        let pairs = (rest * (rest - 1) / 2) as u64;
        self.distance + sums.iter().take(rest).sum::<u64>() + pairs * self.nearest
    }

    /// Free CPUs left on the chosen nodes, and on those to come the least (or under spread the most) there may be.
    fn least_left(&self, position: usize) -> i64 {
        let rest = self.order.len() - position;
        let demand = self.site.demand;
        let sign = if demand.spread { -1 } else { 1 };
        let chosen = self.chosen_nodes().map(|node| i64::from(node.free));
        let mut open: Vec<i64> = self.untaken().map(|node| sign * i64::from(node.free)).collect();
        open.sort_unstable();
        let used = (demand.dedicated.len() + demand.extra_max as usize) as i64;
        // Withheld siblings are not known here: with them the bound is only looser.
        let withheld = match demand.withhold_siblings || self.level == Level::Isolate {
            true => chosen.clone().sum::<i64>() + open.iter().take(rest).map(|free| free.abs()).sum::<i64>(),
            false => 0,
        };
        let left = chosen.map(|free| sign * free).sum::<i64>() + open.iter().take(rest).sum::<i64>();
        match demand.spread {
            true => left,
            false => left - used - withheld,
        }
    }

    /// Whether the cells from here on can still each have a node of their own (Kuhn's augmenting paths).
    fn can_match(&self, position: usize) -> bool {
        let mut owner: Vec<Option<usize>> = vec![None; self.taken.len()];
        (position..self.order.len()).all(|position| {
            let mut seen = self.taken.clone();
            self.augment(self.order[position], &mut owner, &mut seen)
        })
    }

    fn augment(&self, cell: usize, owner: &mut [Option<usize>], seen: &mut [bool]) -> bool {
        for &node in &self.fitting[cell] {
            if seen[node] {
                continue;
            }
            seen[node] = true;
            let free = match owner[node] {
                None => true,
                Some(other) => self.augment(other, owner, seen),
            };
            if free {
                owner[node] = Some(cell);
                return true;
            }
        }
        false
    }

    fn finish(&mut self) {
        let cells = &self.site.demand.cells;
        let mut pieces = Vec::with_capacity(cells.len());
        for (index, cell) in cells.iter().enumerate() {
            let Some((node, offer)) = self.chosen[index] else {
                return;
            };
            let offer = &self.offers.by_cell[index][node][offer];
            let node = &self.site.nodes[node];
            pieces.push(Piece {
                vcpus: cell.vcpus.clone(),
                memory: cell.memory,
                node,
                cpus: offer.cpus.clone(),
                cost: offer.cost,
            });
        }
        let Some(placed) = shape::assemble(self.site, self.level, self.page, pieces, self.distance) else {
            return;
        };
        let far = placed.key.far_devices > 0 && self.site.demand.devices_required;
        if far {
            return;
        }
        if self.best.as_ref().is_none_or(|best| placed.key < best.key) {
            self.best = Some(placed);
        }
    }
}
