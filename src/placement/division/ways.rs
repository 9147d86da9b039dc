//! Costs of all ways to lay a guest on nodes in a given order, from the last node to the first, and
//! the cheapest of them.

use std::collections::HashMap;
use std::rc::Rc;

use crate::placement::division::{Division, Limit, Order};
use crate::placement::memory;
use crate::placement::rank::Cost;
use crate::types::ids::{HostCpu, KiB};

/// Choice for one node: the cut its run ends at, a row of its table, and the cost.
#[derive(Clone, Copy)]
pub(super) struct Move {
    pub(super) to: usize,
    pub(super) row: usize,
    pub(super) cost: Cost,
}

/// CPUs in vCPU order.
type List = Rc<[HostCpu]>;

/// Costs of every way to lay the guest on nodes in a given order.
pub(super) struct Ways<'p, 's, 'a> {
    division: &'p Division<'s, 'a>,
    pub(super) order: &'p Order<'p, 's>,
    limits: &'p [Limit],
    /// Other cells take as much memory as they can, before all else, and cell 0's must fit exactly.
    careful: bool,
    /// Cheapest cost of the nodes from `at` on for the vCPUs from cut `from` on, with `left` caches
    /// left; see [`Ways::slot`].
    costs: Vec<Option<Cost>>,
}

impl<'p, 's, 'a> Ways<'p, 's, 'a> {
    /// Works out the costs, from the last node to the first; `None` if the search is cut short.
    pub(super) fn new(
        division: &'p Division<'s, 'a>,
        order: &'p Order<'p, 's>,
        limits: &'p [Limit],
        careful: bool,
    ) -> Option<Self> {
        let (count, last, most) = (order.len(), division.last(), division.site.max_llcs);
        let size = (count + 1) * (most + 1) * (last + 1);
        if !division.site.overspend(size / 8) {
            return None;
        }
        let mut ways = Self {
            division,
            order,
            limits,
            careful,
            costs: vec![None; size],
        };
        for left in 0..=most {
            let end = ways.slot(count, last, left);
            ways.costs[end] = Some(Cost::default());
        }
        for at in (0..count).rev() {
            // Each node gets at least one cut.
            let starts = if at == 0 {
                0..=0
            } else {
                at..=(last + at).saturating_sub(count)
            };
            for from in starts {
                let moves = ways.moves(at, from);
                if !division.site.overspend((moves.len() + 1) * (most + 1)) {
                    return None;
                }
                for left in if at == 0 { most..=most } else { 0..=most } {
                    let costs = moves.iter().filter_map(|step| ways.after(at, step, left));
                    let best = costs.min();
                    let slot = ways.slot(at, from, left);
                    ways.costs[slot] = best;
                }
            }
        }
        Some(ways)
    }

    fn slot(&self, at: usize, from: usize, left: usize) -> usize {
        let (last, most) = (self.division.last(), self.division.site.max_llcs);
        (at * (most + 1) + left) * (last + 1) + from
    }

    pub(super) fn cost(&self, at: usize, from: usize, left: usize) -> Option<Cost> {
        self.costs[self.slot(at, from, left)]
    }

    /// Returns the caches a move uses up of the limit; 0 where there is no limit.
    pub(super) fn caches(&self, cost: Cost) -> usize {
        match self.division.site.max_llcs {
            0 => 0,
            _ => cost.llcs as usize,
        }
    }

    /// Returns the cost of a move and of everything after it.
    fn after(&self, at: usize, step: &Move, left: usize) -> Option<Cost> {
        let left = left.checked_sub(self.caches(step.cost))?;
        let rest = self.cost(at + 1, step.to, left)?;
        if self.careful && at == 0 {
            let division = self.division;
            let others = rest
                .scarce
                .unsigned_abs()
                .saturating_mul(memory::cut(division.round.page).0);
            let memory = KiB(division.site.demand.memory.0.saturating_sub(others));
            if !division.memory_fits(self.order[0].0.node, memory) {
                return None;
            }
        }
        Some(step.cost + rest)
    }

    /// Lists the runs that node `at` can take from cut `from` on.
    fn moves(&self, at: usize, from: usize) -> Vec<Move> {
        let division = self.division;
        // The nodes after this one bound the run on both sides: each takes some, none beyond its
        // most.
        let (count, last) = (self.order.len(), division.last());
        let (candidate, table) = self.order[at];
        let Limit { window, ends } = self.limits[at];
        let rest: usize = self.order[at + 1..].iter().map(|(next, _)| next.most).sum();
        let least = (from + window.least).max(last.saturating_sub(rest)).max(ends.0);
        let most = (from + candidate.most.min(window.most)).min(ends.1);
        let mut moves = Vec::new();
        for to in least..=most {
            let floating = division.floating[to] - division.floating[from];
            let share = match at {
                0 => division.first_share(to, count).max(division.share(0, to)),
                _ => division.share(from, to),
            };
            let memory = !division.each_has_memory() || division.memory_fits(candidate.node, share);
            let pages = i64::try_from(share.0 / memory::cut(division.round.page).0).unwrap_or(i64::MAX);
            if floating > candidate.node.shared.len() || !memory {
                break; // a longer run needs only more
            }
            let units = division.units(from, to);
            if at == 0 && !division.leaves_extra(candidate.node, units) {
                break;
            }
            // A node's table may have several choices for one length: one for each number of
            // caches.
            let costs = table.choices(units);
            let room = |cost: &Cost| division.leaves_room(candidate.node, at == 0, floating, units, *cost);
            let weigh = |cost: Cost| match self.careful {
                true => Cost {
                    scarce: if at == 0 { 0 } else { -pages },
                    ..cost
                },
                false => cost,
            };
            let costs = costs.filter(|(_, cost)| room(cost));
            moves.extend(costs.map(|(row, cost)| Move {
                to,
                row,
                cost: weigh(cost),
            }));
        }
        moves
    }

    /// Returns the smallest CPU list of those that cost the least, with the move that begins it.
    pub(super) fn list(
        &self,
        at: usize,
        from: usize,
        left: usize,
        known: &mut HashMap<(usize, usize, usize), (Move, List)>,
    ) -> List {
        if let Some((_, list)) = known.get(&(at, from, left)) {
            return list.clone();
        }
        let cost = self.cost(at, from, left);
        if at == self.order.len() || cost.is_none() {
            return List::default();
        }
        let mut best: Option<(Move, List)> = None;
        for step in self.moves(at, from) {
            if self.after(at, &step, left) != cost {
                continue;
            }
            let rest = self.list(at + 1, step.to, left - self.caches(step.cost), known);
            let here = self.order[at]
                .1
                .cpus_of(step.row, self.division.units(from, step.to));
            let list = || here.iter().chain(rest.iter());
            if best.as_ref().is_none_or(|(_, best)| list().lt(best.iter())) {
                best = Some((step, list().copied().collect::<Vec<_>>().into()));
            }
        }
        let Some((step, list)) = best else {
            return List::default();
        };
        known.insert((at, from, left), (step, list.clone()));
        list
    }
}
