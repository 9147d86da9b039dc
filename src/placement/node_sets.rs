//! Sets of nodes for a guest without cells: every set of a given size, near nodes first, cut short
//! where a set cannot beat the best placement known.

use std::cell::OnceCell;

use crate::placement::cores::Site;
use crate::placement::division::{Candidate, Division};
use crate::placement::node_table::NodeTable;
use crate::placement::rank::Bar;
use crate::placement::spread::Window;
use crate::placement::{Mirror, Placed};

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
    /// Cuts on each node.
    window: Window,
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
            window: Window::ANY,
            best: None,
            bounded: false,
        }
    }

    /// Returns the way the guest is laid on each set.
    pub(crate) fn division(&self) -> &'d Division<'s, 'a> {
        self.division
    }

    /// Returns the size of the sets.
    pub(crate) fn count(&self) -> usize {
        self.count
    }

    /// Returns whether, by numbers alone, a set could be as good as the best placement known.
    pub(crate) fn is_possible(&self, best: Option<&Placed>) -> bool {
        let all = self.open();
        self.enough(&[], &all) && self.promising(&Set::default(), &all, best)
    }

    /// Returns the first fields of the key of a placement that nothing on such sets can beat, the
    /// distance left out.
    pub(crate) fn ideal(&self) -> Bar {
        let bar = self.least_bar(&Set::default(), &self.open());
        Bar { distance: 0, ..bar }
    }

    /// Returns the best of `best` and of all placements on such sets with so many cuts a node.
    pub(crate) fn search(&mut self, window: Window, best: Option<Placed>) -> Option<Placed> {
        self.window = window;
        if !self.is_possible(best.as_ref()) {
            return best;
        }
        self.best = best;
        self.bounded = false;
        self.run();
        let bounded = self.bounded;
        self.best.take().map(|placed| Placed {
            bounded: placed.bounded || bounded,
            ..placed
        })
    }

    /// Lists the candidates that can take as many cuts as a node must.
    fn open(&self) -> Vec<usize> {
        let all = 0..self.candidates.len();
        all.filter(|at| self.candidates[*at].most >= self.window.least)
            .collect()
    }

    fn run(&mut self) {
        let all = self.open();
        for (place, root) in all.iter().copied().enumerate() {
            if self.twins[root].is_some() {
                continue;
            }
            let mut order: Vec<usize> = all[place + 1..].to_vec();
            order.sort_by_key(|other| (self.between(root, *other), *other));
            let set = Set {
                chosen: vec![root],
                distance: self.to_memory(root),
            };
            self.visit(set, &order);
        }
    }

    fn between(&self, a: usize, b: usize) -> u64 {
        self.site
            .distances()
            .between(self.candidates[a].index, self.candidates[b].index)
    }

    fn to_memory(&self, at: usize) -> u64 {
        self.site.distances().to_memory(self.candidates[at].index)
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
            let more = more + self.to_memory(next);
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
        let cuts = |candidate: &Candidate<'s>| candidate.most.min(self.window.most) as u64;
        open.len() >= more
            && self.window.least * self.count <= division.last()
            && most(&cuts) >= division.last() as u64
            && most(&|candidate| candidate.units as u64) >= division.all_units() as u64
            && most(&|candidate| candidate.memory).saturating_add(leftover) >= division.memory()
    }

    /// Returns whether the chosen candidates, with more of the open ones, could beat the best
    /// known.
    fn promising(&self, set: &Set, open: &[usize], best: Option<&Placed>) -> bool {
        let far = self.least_far(set, open);
        if far > 0 && self.site.demand.devices_required {
            return false;
        }
        best.is_none_or(|best| self.least_bar(set, open) <= best.key.bar())
    }

    /// Returns the least number of devices off the nodes of a set that is completed.
    fn least_far(&self, set: &Set, open: &[usize]) -> u32 {
        let devices = |at: &usize| self.candidates[*at].node.devices;
        let here: u32 = set.chosen.iter().map(devices).sum();
        let mut hoped: Vec<u32> = open.iter().map(devices).collect();
        hoped.sort_unstable_by(|a, b| b.cmp(a));
        let hoped: u32 = hoped.iter().take(self.count - set.chosen.len()).sum();
        self.site.demand.devices.len() as u32 - here - hoped
    }

    /// Returns a lower bound of the first fields of the keys of a set that is completed.
    fn least_bar(&self, set: &Set, open: &[usize]) -> Bar {
        let more = self.count - set.chosen.len();
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
        let far = self.least_far(set, open);
        self.division.bar(self.count, far, distance, claimed as u32)
    }

    /// Lays the guest on a set in every order that can make a difference.
    fn lay(&mut self, mut set: Set) {
        let (site, division) = (self.site, self.division);
        let far = self.least_far(&set, &[]);
        let bar = division.bar(self.count, far, set.distance, 0);
        set.chosen.sort_by_key(|at| self.table(*at).first());
        // Where packages are shown as sockets, nodes of one package follow each other.
        let package = |place: &usize| self.candidates[set.chosen[*place]].node.package;
        let grouped = division.round.exact && site.mirror() == Mirror::Caches;
        let places: Vec<usize> = (0..set.chosen.len()).collect();
        let first_of = |place: &usize| places.iter().position(|other| package(other) == package(place));
        let floats = !site.demand.floating().is_empty();
        for head in places.iter().copied() {
            let mut order = places.clone();
            if grouped {
                order.sort_by_key(|place| (first_of(place), *place));
                order.sort_by_key(|place| (*place != head, package(place) != package(&head)));
            } else {
                order[..=head].rotate_right(1);
            }
            let together = |order: &[usize]| {
                let new = |at: usize| {
                    !order[..at]
                        .iter()
                        .any(|place| package(place) == package(&order[at]))
                };
                (1..order.len()).all(|at| package(&order[at - 1]) == package(&order[at]) || new(at))
            };
            let mut more = true;
            while more {
                let mut found = None;
                let skipped = grouped && !together(&order);
                if !skipped {
                    let node = |place: &usize| {
                        let at = set.chosen[*place];
                        (&self.candidates[at], self.table(at))
                    };
                    let nodes: Vec<_> = order.iter().map(node).collect();
                    let best = self.best.as_ref().map(|best| &best.key);
                    found = division.lay(&nodes, self.window, bar, best);
                }
                // Behind cell 0 the order changes the cost only where vCPUs differ.
                let again = found.is_some() || floats || skipped;
                more = again && order.len() <= MOST_ORDERED && next_order(&mut order[1..]);
                self.best = better(self.best.take(), found);
            }
        }
        self.bounded |= floats && set.chosen.len() > MOST_ORDERED;
    }

    fn table(&self, at: usize) -> &NodeTable {
        self.tables[at].get_or_init(|| {
            let candidate = &self.candidates[at];
            let Division { round, spread, .. } = self.division;
            NodeTable::new(self.site, candidate.node, round, spread, 0..=candidate.units)
        })
    }
}

/// Returns the better of two placements.
pub(crate) fn better(a: Option<Placed>, b: Option<Placed>) -> Option<Placed> {
    match (a, b) {
        (Some(a), Some(b)) => Some(if b.key < a.key { b } else { a }),
        (a, b) => a.or(b),
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
