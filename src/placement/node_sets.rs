//! Sets of nodes for a guest without cells: every set of a given size, near nodes first, cut short
//! where a set cannot beat the best placement known.

use std::cell::OnceCell;

use crate::placement::Placed;
use crate::placement::cores::Site;
use crate::placement::division;
use crate::placement::division::{Candidate, Division};
use crate::placement::node_table::NodeTable;
use crate::placement::one_node::better;

/// Largest set for which all orders behind cell 0 are tried; larger sets are ordered by first CPU.
const MOST_ORDERED: usize = 4;

/// Search over the sets of nodes of one size.
pub(crate) struct Sets<'d, 's, 'a> {
    site: &'s Site<'a>,
    division: &'d Division<'s, 'a>,
    count: usize,
    candidates: Vec<Candidate<'s>>,
    tables: Vec<OnceCell<NodeTable>>,
    /// By candidate: another candidate that must be in a set if this one is.
    twins: Vec<Option<usize>>,
    best: Option<Placed>,
    /// Some orders were not tried.
    bounded: bool,
}

/// Set being put together.
#[derive(Default)]
struct Set {
    /// Positions in [`Sets::candidates`].
    chosen: Vec<usize>,
    distance: u64,
}

impl<'d, 's, 'a> Sets<'d, 's, 'a> {
    /// Prepares the search of sets of `count` nodes.
    pub(crate) fn new(division: &'d Division<'s, 'a>, count: usize) -> Self {
        let site = division.site;
        let candidates: Vec<Candidate<'s>> = (0..site.nodes.len())
            .map(|index| division.candidate(index))
            .filter(|candidate| candidate.most > 0)
            .filter(|candidate| candidate.units > 0 || !candidate.node.shared.is_empty())
            .collect();
        let position = |index: usize| candidates.iter().position(|candidate| candidate.index == index);
        let twins = candidates
            .iter()
            .map(|candidate| site.twins()[candidate.index].and_then(position))
            .collect();
        Self {
            tables: candidates.iter().map(|_| OnceCell::new()).collect(),
            site,
            division,
            count,
            candidates,
            twins,
            best: None,
            bounded: false,
        }
    }

    /// Returns whether, by numbers alone, a set could be as good as the best placement known.
    pub(crate) fn is_possible(&self, best: Option<&Placed>) -> bool {
        let all: Vec<usize> = (0..self.candidates.len()).collect();
        all.len() >= self.count && self.enough(&[], &all) && self.promising(&Set::default(), &all, best)
    }

    /// Returns the best of `best` and of all placements on such sets.
    pub(crate) fn search(mut self, best: Option<Placed>) -> Option<Placed> {
        if !self.is_possible(best.as_ref()) {
            return best;
        }
        self.best = best;
        self.run();
        let bounded = self.bounded;
        self.best.map(|placed| Placed {
            bounded: placed.bounded || bounded,
            ..placed
        })
    }

    fn run(&mut self) {
        let all: Vec<usize> = (0..self.candidates.len()).collect();
        for root in all.iter().copied() {
            if self.twins[root].is_some() {
                continue;
            }
            let mut order: Vec<usize> = all[root + 1..].to_vec();
            order.sort_by_key(|other| (self.between(root, *other), *other));
            let set = Set {
                chosen: vec![root],
                distance: 0,
            };
            self.visit(set, &order);
        }
    }

    fn between(&self, a: usize, b: usize) -> u64 {
        self.site
            .distances()
            .between(self.candidates[a].index, self.candidates[b].index)
    }

    /// Completes a set from the open candidates, each of which is taken or not.
    fn visit(&mut self, set: Set, open: &[usize]) {
        if set.chosen.len() == self.count {
            self.lay(set);
            return;
        }
        for (at, &next) in open.iter().enumerate() {
            let rest = &open[at..];
            let done = self.site.first && self.best.is_some();
            if done || !self.site.spend(4 + rest.len()) || !self.enough(&set.chosen, rest) {
                return;
            }
            if self.twins[next].is_some_and(|twin| !set.chosen.contains(&twin)) {
                continue;
            }
            let mut chosen = set.chosen.clone();
            chosen.push(next);
            let more: u64 = set.chosen.iter().map(|other| self.between(next, *other)).sum();
            let larger = Set {
                chosen,
                distance: set.distance + more,
            };
            if self.promising(&larger, &rest[1..], self.best.as_ref()) {
                self.visit(larger, &rest[1..]);
            }
        }
    }

    /// Returns whether the chosen candidates and the roomiest of the open ones have room for the
    /// guest.
    fn enough(&self, chosen: &[usize], open: &[usize]) -> bool {
        let more = self.count - chosen.len();
        let division = self.division;
        let most = |room: &dyn Fn(&Candidate<'s>) -> u64| -> u64 {
            let room = |at: &usize| room(&self.candidates[*at]);
            let mut rooms: Vec<u64> = open.iter().map(room).collect();
            if more > 0 && more < rooms.len() {
                rooms.select_nth_unstable_by(more - 1, |a, b| b.cmp(a));
            }
            let rooms = chosen.iter().map(room).chain(rooms.into_iter().take(more));
            rooms.fold(0, u64::saturating_add)
        };
        let both = || chosen.iter().chain(open);
        let leftover = both().map(|at| self.candidates[*at].leftover).max().unwrap_or(0);
        open.len() >= more
            && most(&|candidate| candidate.most as u64) >= division.last() as u64
            && most(&|candidate| candidate.units as u64) >= division.all_units() as u64
            && most(&|candidate| candidate.memory).saturating_add(leftover) >= division.memory()
    }

    /// Returns whether the chosen candidates, with more of the open ones, could beat the best
    /// known.
    fn promising(&self, set: &Set, open: &[usize], best: Option<&Placed>) -> bool {
        let more = self.count - set.chosen.len();
        let here: u32 = set
            .chosen
            .iter()
            .map(|at| self.candidates[*at].node.devices)
            .sum();
        let mut hoped: Vec<u32> = open.iter().map(|at| self.candidates[*at].node.devices).collect();
        hoped.sort_unstable_by(|a, b| b.cmp(a));
        let devices = self.site.demand.devices.len() as u32;
        let far = devices - here - hoped.iter().take(more).sum::<u32>();
        if far > 0 && self.site.demand.devices_required {
            return false;
        }
        let Some(best) = best else { return true };
        let clean = |at: &usize| self.candidates[*at].clean;
        let mut hoped: Vec<usize> = open.iter().map(clean).collect();
        hoped.sort_unstable_by(|a, b| b.cmp(a));
        let clean = set.chosen.iter().map(clean).chain(hoped.into_iter().take(more));
        let claimed = self.division.all_units().saturating_sub(clean.sum());
        let to_set = |at: &usize| {
            let sum = set.chosen.iter().map(|other| self.between(*at, *other)).sum();
            (self.candidates[*at].index, sum)
        };
        let distance = set.distance + self.site.distances().least_more(open.iter().map(to_set), more);
        division::bar(self.division, self.count, far, distance, claimed as u32) <= best.key.bar()
    }

    /// Lays the guest on a set in every order that can make a difference.
    fn lay(&mut self, mut set: Set) {
        let (site, division) = (self.site, self.division);
        let here: u32 = set
            .chosen
            .iter()
            .map(|at| self.candidates[*at].node.devices)
            .sum();
        let far = site.demand.devices.len() as u32 - here;
        let bar = division::bar(division, self.count, far, set.distance, 0);
        set.chosen.sort_by_key(|at| self.table(*at).first());
        let floats = !site.demand.floating().is_empty();
        for head in 0..set.chosen.len() {
            let mut order: Vec<usize> = (0..set.chosen.len()).collect();
            order[..=head].rotate_right(1);
            let mut more = true;
            while more {
                let node = |place: &usize| {
                    let at = set.chosen[*place];
                    (&self.candidates[at], self.table(at))
                };
                let nodes: Vec<_> = order.iter().map(node).collect();
                let found = division.lay(&nodes, bar, self.best.as_ref().map(|best| &best.key));
                // Behind cell 0 the order changes the cost only where vCPUs differ.
                more =
                    (found.is_some() || floats) && order.len() <= MOST_ORDERED && next_order(&mut order[1..]);
                self.best = better(self.best.take(), found);
            }
        }
        self.bounded |= floats && set.chosen.len() > MOST_ORDERED;
    }

    fn table(&self, at: usize) -> &NodeTable {
        self.tables[at].get_or_init(|| {
            let candidate = &self.candidates[at];
            let (kind, level) = (self.division.kind, self.division.level);
            NodeTable::new(self.site, candidate.node, kind, level, 0..=candidate.units)
        })
    }
}

/// Steps to the next order of some numbers, the first being the ascending one; false after the
/// last.
fn next_order(order: &mut [usize]) -> bool {
    let Some(at) = (1..order.len()).rev().find(|at| order[at - 1] < order[*at]) else {
        return false;
    };
    let larger = (at..order.len())
        .rev()
        .find(|other| order[*other] > order[at - 1]);
    order.swap(at - 1, larger.unwrap_or(at));
    order[at..].reverse();
    true
}
