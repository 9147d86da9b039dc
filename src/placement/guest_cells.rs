//! Guest cells placed on host nodes, each on one of its own: a matching problem with an order of
//! preference.
//!
//! Augmenting paths decide exactly if a matching exists. The best one is found by branch and bound:
//! cells in order of their first vCPU, nodes in order of the CPUs they would give. A branch is cut
//! as soon as the best it could reach does not beat the best known, and of nodes that are twins
//! only the first is tried.

use std::cmp::Reverse;

use crate::placement::cores::{NodeView, Site};
use crate::placement::finish;
use crate::placement::finish::Piece;
use crate::placement::node_table::NodeTable;
use crate::placement::rank::{Bar, Cost};
use crate::placement::threading::Level;
use crate::placement::{CellDemand, Placed};
use crate::types::ids::{HostCpu, KiB};

/// Returns the best matching of the demand's cells and the host's nodes.
pub(crate) fn place(site: &Site<'_>) -> Option<Placed> {
    let mut best: Option<Placed> = None;
    let mut rounds = site.kinds.len() * site.levels.len() * site.demand.pages.len();
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
                site.ration(rounds);
                rounds = rounds.saturating_sub(1);
                let mut search = Search::new(site, &offers, level, page, best.take());
                if search.can_match(0) && search.promising(0) {
                    search.branch(0);
                }
                best = search.best;
                if site.first && best.is_some() {
                    return best;
                }
            }
        }
    }
    best.map(|placed| Placed {
        bounded: site.is_cut_short() || placed.bounded,
        ..placed
    })
}

/// Choices of CPUs that each node has for each cell, memory not counted. Equal cells have equal
/// ones.
struct Offers {
    /// By cell, by node: empty, or one for each number of caches that makes a difference.
    by_cell: Vec<Vec<Vec<Offer>>>,
    /// Better ones may exist.
    bounded: bool,
}

#[derive(Clone)]
struct Offer {
    cost: Cost,
    cpus: Vec<HostCpu>,
}

impl Offers {
    fn new(site: &Site<'_>, kind: u32, level: Level) -> Self {
        let threads = level.threads() as usize;
        // Cells that need as many units and floating vCPUs get equal offers.
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
        // The tables need only the numbers of units between the fewest and the most.
        let units = || needs.iter().map(|(units, _)| *units);
        let counts = units().min().unwrap_or(0)..=units().max().unwrap_or(0);
        let mut bounded = false;
        let mut by_cell = vec![Vec::with_capacity(site.nodes.len()); needs.len()];
        // One table a node serves all cells, so the tables are outside the loop over cells.
        for node in &site.nodes {
            let table = NodeTable::new(site, node, kind, level, counts.clone());
            bounded |= table.bounded;
            let mut known: Vec<((usize, usize), Vec<Offer>)> = Vec::new();
            for (cell, need) in needs.iter().enumerate() {
                let offer = match known.iter().find(|(other, _)| other == need) {
                    Some((_, offers)) => offers.clone(),
                    None => {
                        let (units, floating) = *need;
                        let room = floating <= node.shared.len();
                        let offer = |(row, cost)| Offer {
                            cost,
                            cpus: table.cpus_of(row, units).to_vec(),
                        };
                        let mut offers: Vec<Offer> =
                            table.choices(units).filter(|_| room).map(offer).collect();
                        offers.sort_by_key(|offer| offer.cost);
                        known.push((*need, offers.clone()));
                        offers
                    }
                };
                by_cell[cell].push(offer);
            }
        }
        Self { by_cell, bounded }
    }
}

struct Search<'s, 'a> {
    site: &'s Site<'a>,
    offers: &'s Offers,
    level: Level,
    page: Option<KiB>,
    /// Cells in order of their first dedicated vCPU.
    order: Vec<usize>,
    /// By position in `order`: an earlier position whose cell has equal needs.
    equals: Vec<Option<usize>>,
    /// By cell: nodes on which it fits, in order of the CPUs they give.
    fitting: Vec<Vec<usize>>,
    /// By position in `order`: lower bound of the cost of all cells from there on.
    least: Vec<Cost>,
    /// By cell: the node in this branch, and the number of its offer.
    chosen: Vec<Option<(usize, usize)>>,
    taken: Vec<bool>,
    /// By node: sum of its distances to all nodes that are taken.
    to_taken: Vec<u64>,
    cost: Cost,
    distance: u64,
    best: Option<Placed>,
    /// The best known comes from another search: the order of branches says nothing about its CPU
    /// list.
    inherited: bool,
}

impl<'s, 'a> Search<'s, 'a> {
    fn new(
        site: &'s Site<'a>,
        offers: &'s Offers,
        level: Level,
        page: Option<KiB>,
        best: Option<Placed>,
    ) -> Self {
        let cells = &site.demand.cells;
        // A cell fits a node if one of the node's offers leaves room for its other threads.
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
                finish::piece_fits(site, level, piece, cell == 0)
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
        // Cells in order of their vCPUs and nodes in order of their CPUs: branches then come in the
        // order of their CPU lists.
        let mut order: Vec<usize> = (0..cells.len()).collect();
        let first = |cell: &usize| cells[*cell].vcpus.intersection(&site.demand.dedicated).first();
        order.sort_by_key(|cell| (first(cell).is_none(), first(cell)));
        // The bound of a branch: the cheapest offer of each cell that is still to come.
        let mut least = vec![Cost::default(); cells.len() + 1];
        for (position, cell) in order.iter().enumerate().rev() {
            let costs = fitting[*cell]
                .iter()
                .flat_map(|node| &offers.by_cell[*cell][*node]);
            least[position] = costs.map(|offer| offer.cost).min().unwrap_or_default() + least[position + 1];
        }
        Self {
            site,
            offers,
            level,
            page,
            equals: equals(site, &order),
            order,
            fitting,
            least,
            chosen: vec![None; cells.len()],
            taken: vec![false; site.nodes.len()],
            to_taken: vec![0; site.nodes.len()],
            cost: Cost::default(),
            distance: 0,
            inherited: best.is_some(),
            best,
        }
    }

    fn branch(&mut self, position: usize) {
        if position == self.order.len() {
            self.finish();
            return;
        }
        let cell = self.order[position];
        for index in 0..self.fitting[cell].len() {
            let node = self.fitting[cell][index];
            let twin_is_open = self.site.twins()[node].is_some_and(|twin| !self.taken[twin]);
            if self.taken[node] || twin_is_open {
                continue;
            }
            for offer in 0..self.offers.by_cell[cell][node].len() {
                let done = self.site.first && self.best.is_some();
                if done || !self.site.spend(8 + self.taken.len()) {
                    return;
                }
                // Equal cells go to their nodes in the order of CPUs: any other way costs as much.
                let before = self.equals[position].and_then(|equal| self.chosen[self.order[equal]]);
                let first = |(node, offer): (usize, usize)| {
                    (self.offers.by_cell[cell][node][offer].cpus.first().copied(), node)
                };
                if before.is_some_and(|before| first(before) > first((node, offer))) {
                    continue;
                }
                let (cost, distance) = (self.cost, self.distance);
                self.cost += self.offers.by_cell[cell][node][offer].cost;
                self.distance += self.to_taken[node];
                self.chosen[cell] = Some((node, offer));
                self.take(node, true);
                if self.promising(position + 1) && self.can_match(position + 1) {
                    self.branch(position + 1);
                }
                self.take(node, false);
                self.chosen[cell] = None;
                (self.cost, self.distance) = (cost, distance);
            }
        }
    }

    fn take(&mut self, node: usize, taken: bool) {
        self.taken[node] = taken;
        for (other, sum) in self.to_taken.iter_mut().enumerate() {
            let between = self.site.distances().between(node, other);
            *sum = if taken { *sum + between } else { *sum - between };
        }
    }

    fn chosen_nodes(&self) -> impl Iterator<Item = &NodeView> + Clone {
        self.chosen
            .iter()
            .flatten()
            .map(|(node, _)| &self.site.nodes[*node])
    }

    /// Returns whether the best this branch could reach beats the best known. Branches come in
    /// order of their CPU lists, so a tie does not.
    fn promising(&self, position: usize) -> bool {
        let far = self.least_far(position);
        let rest = &self.order[position..];
        let dedicated = |cell: &&usize| {
            !self.site.demand.cells[**cell]
                .vcpus
                .is_disjoint(&self.site.demand.dedicated)
        };
        let more = rest.iter().filter(dedicated).count() as u32;
        let most = self.site.demand.max_llcs;
        if (far > 0 && self.site.demand.devices_required) || (most > 0 && self.cost.llcs + more > most) {
            return false;
        }
        let Some(best) = &self.best else { return true };
        let least = self.cost + self.least[position];
        let count = self.order.len() as u32;
        let mut mine: Bar = (
            least.autostart,
            count,
            far,
            Reverse(self.level.rank()),
            self.page_key(),
            0,
        );
        if mine > best.key.bar() {
            return false;
        }
        mine.5 = self.least_distance(position);
        let (mine, known) = ((mine, least.tail()), (best.key.bar(), best.key.tail()));
        if mine != known {
            return mine < known;
        }
        let (mine, known) = (self.least_left(position), best.key.left);
        mine < known || (self.inherited && mine == known)
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

    /// Returns the distances of the chosen nodes, with the least that the nodes to come can add.
    fn least_distance(&self, position: usize) -> u64 {
        let open = (0..self.taken.len()).filter(|node| !self.taken[*node]);
        let open = open.map(|node| (node, self.to_taken[node]));
        let more = self.order.len() - position;
        self.distance + self.site.distances().least_more(open, more)
    }

    /// Returns a lower bound of [`crate::placement::Key::left`] for this branch: the free CPUs left
    /// on the chosen nodes and on the best nodes to come.
    fn least_left(&self, position: usize) -> i64 {
        let rest = self.order.len() - position;
        let demand = self.site.demand;
        let sign = if demand.spread { -1 } else { 1 };
        let chosen = self.chosen_nodes().map(|node| i64::from(node.free));
        let mut open: Vec<i64> = self.untaken().map(|node| sign * i64::from(node.free)).collect();
        open.sort_unstable();
        let used = (demand.dedicated.len() + demand.extra_max as usize) as i64;
        // Withheld siblings are unknown here: counting all of them only loosens the bound.
        let withheld = match demand.withhold_siblings || self.level == Level::Isolate {
            true => chosen.clone().sum::<i64>() + open.iter().take(rest).map(|free| free.abs()).sum::<i64>(),
            false => 0,
        };
        let left = chosen.map(|free| sign * free).sum::<i64>() + open.iter().take(rest).sum::<i64>();
        match demand.spread {
            true => left + (demand.dedicated.len() + demand.extra_min as usize) as i64,
            false => left - used - withheld,
        }
    }

    /// Returns whether the cells from here on can still each have a node of their own (Kuhn's
    /// augmenting paths).
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
        let Some(placed) = finish::assemble(self.site, self.level, self.page, pieces, self.distance) else {
            return;
        };
        let far = placed.key.far_devices > 0 && self.site.demand.devices_required;
        if far {
            return;
        }
        if self.best.as_ref().is_none_or(|best| placed.key < best.key) {
            self.inherited = false;
            self.best = Some(Placed {
                bounded: self.offers.bounded,
                ..placed
            });
        }
    }
}

/// Returns, by position in `order`, the last earlier position whose cell has equal needs.
fn equals(site: &Site<'_>, order: &[usize]) -> Vec<Option<usize>> {
    let needs = |position: usize| {
        let cell = &site.demand.cells[order[position]];
        let dedicated = cell.vcpus.intersection(&site.demand.dedicated).len();
        let floating = cell.vcpus.intersection(&site.demand.floating()).len();
        let extra = order[position] == 0 && site.demand.extra_max > 0;
        (dedicated, floating, extra, cell.memory, &cell.nodes)
    };
    let before = |at: usize| (0..at).rev().find(|other| needs(*other) == needs(at));
    (0..order.len()).map(before).collect()
}
