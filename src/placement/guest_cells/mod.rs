//! Guest cells placed on host nodes, each cell with vCPUs on one of its own: a matching problem
//! with an order of preference.
//!
//! Augmenting paths decide exactly if a matching exists. The best one is found by branch and bound:
//! cells in order of their first vCPU, nodes in order of the CPUs they would give. A branch is cut
//! as soon as the best it could reach does not beat the best known, and of nodes that are twins
//! only the first is tried. Cells without vCPUs come last: they need no node of their own.

mod bounds;

use crate::placement::cores::{NodeView, Site};
use crate::placement::even;
use crate::placement::finish;
use crate::placement::finish::{Beside, Piece};
use crate::placement::offers::{Offer, Offers};
use crate::placement::rank::{Bar, Cost};
use crate::placement::spread::{Round, Spread};
use crate::placement::{CellDemand, Mirror, Placed};
use crate::types::ids::KiB;

/// Returns the best matching of the demand's cells and the host's nodes.
pub(crate) fn place(site: &Site<'_>) -> Option<Placed> {
    let parts = site
        .demand
        .cells
        .iter()
        .filter(|cell| !cell.vcpus.is_empty())
        .count();
    let spreads = |round: Round| {
        let spreads = round.spreads(site, parts).into_iter();
        let fits = move |spread: &Spread| divides(site, &round, spread);
        spreads.filter(fits).map(move |spread| (round, spread))
    };
    let searches: Vec<(Round, Spread)> = site.rounds().into_iter().flat_map(spreads).collect();
    let all = searches.len();
    let mut best: Option<Placed> = None;
    // The choices of CPUs are those of all page sizes.
    let mut known: Option<(Round, Spread, Offers)> = None;
    for (done, (round, spread)) in searches.into_iter().enumerate() {
        site.ration(all - done);
        if !could_beat(site, &round, best.as_ref()) {
            continue;
        }
        let plain = Round { page: None, ..round };
        let offers = match known.take() {
            Some(known) if (known.0, known.1) == (plain, spread) => known.2,
            _ => Offers::new(site, &round, &spread),
        };
        best = search(site, &offers, &round, best);
        known = Some((plain, spread, offers));
        if site.first && best.is_some() {
            return best;
        }
        if spread.exact.is_none() || site.mirror() == Mirror::Nodes {
            best = even::over_caches(site, &round, spread, best, |spread, best| {
                search(site, &Offers::new(site, &round, &spread), &round, best)
            });
        }
    }
    best.map(|placed| Placed {
        bounded: site.is_cut_short() || placed.bounded,
        ..placed
    })
}

/// Returns the better of `best` and of the best matching with these offers.
fn search(site: &Site<'_>, offers: &Offers, round: &Round, best: Option<Placed>) -> Option<Placed> {
    let mut search = Search::new(site, offers, round, best);
    if search.can_match(0) && search.promising(0) {
        search.branch(0);
    }
    search.best
}

/// Returns whether units and whole dies, or sockets, divide the dedicated vCPUs of every cell, and
/// none reaches over two.
fn divides(site: &Site<'_>, round: &Round, spread: &Spread) -> bool {
    let size = round.level.threads() as usize * spread.exact.unwrap_or(1);
    let fits = |cell: &CellDemand| {
        let vcpus = cell.vcpus.intersection(&site.demand.dedicated);
        let runs = || {
            vcpus
                .iter()
                .step_by(size)
                .zip(vcpus.iter().skip(size - 1).step_by(size))
        };
        vcpus.len().is_multiple_of(size)
            && (spread.exact.is_none() || runs().all(|(first, last)| (last.0 - first.0) as usize == size - 1))
            && (spread.exact.is_none() || runs().all(|(first, _)| (first.0 as usize).is_multiple_of(size)))
    };
    site.demand.cells.iter().all(fits)
}

/// Returns whether a round could give a better placement than the best known.
fn could_beat(site: &Site<'_>, round: &Round, best: Option<&Placed>) -> bool {
    let bar = Bar {
        round: round.rank(site),
        nodes: best.map_or(0, |best| best.key.nodes),
        ..Bar::default()
    };
    best.is_none_or(|best| bar <= best.key.bar())
}

struct Search<'s, 'a> {
    site: &'s Site<'a>,
    offers: &'s Offers,
    round: Round,
    /// Cells with vCPUs, in order of their first dedicated vCPU.
    order: Vec<usize>,
    /// Cells without vCPUs that have memory.
    bare: Vec<usize>,
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
    fn new(site: &'s Site<'a>, offers: &'s Offers, round: &Round, best: Option<Placed>) -> Self {
        let cells = &site.demand.cells;
        let first_with_vcpus = cells.iter().position(|cell| !cell.vcpus.is_empty());
        // A cell fits a node if one of the node's offers leaves room for its other threads.
        let fits = |cell: usize, node: usize| {
            let id = site.nodes[node].id;
            let demand = &cells[cell];
            let fits = |offer: &Offer| {
                let piece = Piece {
                    cell: Some(cell),
                    vcpus: demand.vcpus.clone(),
                    memory: demand.memory,
                    node: &site.nodes[node],
                    cpus: offer.cpus.clone(),
                    cost: offer.cost,
                };
                finish::piece_fits(site, round.level, piece, Some(cell) == first_with_vcpus)
            };
            offers.by_cell[cell][node].iter().any(fits)
                && demand.nodes.as_ref().is_none_or(|nodes| nodes.contains(id))
                && site.memory_fits(id, demand.memory, round.page)
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
        let (mut order, bare): (Vec<usize>, Vec<usize>) =
            (0..cells.len()).partition(|cell| !cells[*cell].vcpus.is_empty());
        let first = |cell: &usize| cells[*cell].vcpus.intersection(&site.demand.dedicated).first();
        order.sort_by_key(|cell| (first(cell).is_none(), first(cell)));
        // The bound of a branch: the cheapest offer of each cell that is still to come.
        let mut least = vec![Cost::default(); order.len() + 1];
        for (position, cell) in order.iter().enumerate().rev() {
            let costs = fitting[*cell]
                .iter()
                .flat_map(|node| &offers.by_cell[*cell][*node]);
            least[position] = costs.map(|offer| offer.cost).min().unwrap_or_default() + least[position + 1];
        }
        Self {
            site,
            offers,
            round: *round,
            equals: equals(site, &order),
            order,
            bare: bare
                .into_iter()
                .filter(|cell| cells[*cell].memory > KiB(0))
                .collect(),
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
            let beside = Beside {
                distance: self.distance,
                ..Beside::default()
            };
            self.branch_bare(0, beside);
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
                self.distance += self.to_taken[node] + self.site.distances().to_memory(node);
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

    /// Places the cells without vCPUs from a position on: nodes with CPUs or that the XML names
    /// first, then the nearest.
    fn branch_bare(&mut self, position: usize, beside: Beside) {
        let Some(cell) = self.bare.get(position).copied() else {
            self.finish(&beside);
            return;
        };
        let site = self.site;
        let demand = &site.demand.cells[cell];
        let fits = |node: &&NodeView| {
            demand.nodes.as_ref().is_none_or(|nodes| nodes.contains(node.id))
                && node.memory.first() == Some(&node.id)
                && site.memory_fits(node.id, demand.memory, self.round.page)
        };
        let here: Vec<usize> = self.chosen.iter().flatten().map(|(node, _)| *node).collect();
        let with = |node: &NodeView| {
            let mut next = beside.clone();
            next.cells.push((cell, node.id));
            next.bare_nodes += u32::from(node.cores.is_empty() && demand.nodes.is_none());
            let known = here.iter().any(|other| site.nodes[*other].id == node.id)
                || beside.cells.iter().any(|(_, other)| *other == node.id);
            if !known {
                let chosen = here.iter().map(|other| site.nodes[*other].id);
                let others = chosen.chain(beside.cells.iter().map(|(_, other)| *other));
                let others = finish::distinct(others);
                next.distance += others
                    .iter()
                    .map(|other| site.between(*other, node.id))
                    .sum::<u64>();
            }
            next
        };
        let mut ways: Vec<Beside> = site.nodes.iter().filter(fits).map(with).collect();
        ways.sort_by_key(|way| (way.bare_nodes, way.distance));
        for way in ways {
            if !site.spend(8 + self.taken.len()) {
                return;
            }
            let worse = self.best.as_ref().is_some_and(|best| {
                let bar = best.key.bar();
                let mine = Bar {
                    bare_nodes: way.bare_nodes,
                    distance: way.distance,
                    autostart: self.cost.autostart,
                    nodes: self.order.len() as u32,
                    far_devices: self.least_far(self.order.len()),
                    round: self.round.rank(site),
                    uneven: bar.uneven,
                };
                mine > bar
            });
            if !worse {
                self.branch_bare(position + 1, way);
            }
            if site.first && self.best.is_some() {
                return;
            }
        }
    }

    fn finish(&mut self, beside: &Beside) {
        let cells = &self.site.demand.cells;
        let mut pieces = Vec::with_capacity(self.order.len());
        for (index, cell) in cells
            .iter()
            .enumerate()
            .filter(|(_, cell)| !cell.vcpus.is_empty())
        {
            let Some((node, offer)) = self.chosen[index] else {
                return;
            };
            let offer = &self.offers.by_cell[index][node][offer];
            let node = &self.site.nodes[node];
            pieces.push(Piece {
                cell: Some(index),
                vcpus: cell.vcpus.clone(),
                memory: cell.memory,
                node,
                cpus: offer.cpus.clone(),
                cost: offer.cost,
            });
        }
        let Some(placed) = finish::assemble(self.site, &self.round, pieces, beside) else {
            return;
        };
        let far = placed.key.far_devices > 0 && self.site.demand.devices_required;
        if far || (self.round.exact && placed.key.untrue) {
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
    let first = order.iter().copied().min();
    let needs = |position: usize| {
        let cell = &site.demand.cells[order[position]];
        let dedicated = cell.vcpus.intersection(&site.demand.dedicated).len();
        let floating = cell.vcpus.intersection(&site.demand.floating()).len();
        let extra = Some(order[position]) == first && site.demand.extra_max > 0;
        let devices = site
            .demand
            .devices
            .iter()
            .any(|device| device.cell == Some(cell.id));
        let alone = (extra || devices).then_some(position);
        (dedicated, floating, alone, cell.memory, &cell.nodes)
    };
    let before = |at: usize| (0..at).rev().find(|other| needs(*other) == needs(at));
    (0..order.len()).map(before).collect()
}
