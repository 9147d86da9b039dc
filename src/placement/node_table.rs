//! The best `x` guest cores of one node, for every `x`: exact, over cores and last-level caches.
//!
//! Costs add up, with two exceptions: each cache that is touched counts once, and a core's first
//! CPU can cost more or less than its second. Therefore cores are added one by one to the table of
//! their cache ("the best x units of the cores added up to now"), and caches one by one to the
//! table of the node. Of choices with equal cost the one with the smallest CPU list is kept: of two
//! sets of as many units, the one with the smallest unit that is not in both. That order does not
//! change when equal units are added to both sets, so the best of the parts make the best of the
//! whole.

use std::cell::OnceCell;
use std::ops::RangeInclusive;

use crate::placement::cores::{NodeView, Site};
use crate::placement::rank::Cost;
use crate::placement::threading::Level;
use crate::types::ids::HostCpu;

/// Steps a table may take before caches are chosen by room alone. No known host comes near.
const MOST_STEPS: usize = 20_000_000;

/// Best choices on one node, for one kind of core and one level.
pub(crate) struct NodeTable {
    /// CPUs of each unit; the units ascend by their first CPU.
    units: Vec<Vec<HostCpu>>,
    /// Best choices by number of caches allowed; a single row where there is no limit.
    rows: Vec<Row>,
    /// CPU lists by row and number of units, filled on demand.
    lists: Vec<Vec<OnceCell<Vec<HostCpu>>>>,
    /// Caches were chosen by room alone: a better choice may exist.
    pub bounded: bool,
}

/// Unit on its core: its cost after the units before it, and its number.
type Item = (Cost, usize);

impl NodeTable {
    /// Builds the table for the numbers of units in `counts`.
    pub(crate) fn new(
        site: &Site<'_>,
        node: &NodeView,
        kind: u32,
        level: Level,
        counts: RangeInclusive<usize>,
    ) -> Self {
        // Units are numbered by first CPU: a bitmap of units then compares as a CPU list does.
        let mut units = Vec::new();
        let mut cores: Vec<(usize, Vec<(Cost, HostCpu)>)> = Vec::new();
        for core in node.cores.iter().filter(|core| core.kind == kind) {
            let split = level.units(core, site);
            let items = split.iter().map(|unit| (unit.cost, unit.cpus[0])).collect();
            cores.push((core.llc, items));
            units.extend(split.into_iter().map(|unit| unit.cpus));
        }
        units.sort_unstable();
        let number = |cpu: HostCpu| units.partition_point(|unit: &Vec<HostCpu>| unit[0] < cpu);
        // A cache counts once however many of its cores are used, so cores are grouped by cache.
        let mut caches: Vec<(usize, Vec<Vec<Item>>)> = Vec::new();
        for (llc, items) in cores.into_iter().filter(|(_, items)| !items.is_empty()) {
            let items = items.into_iter().map(|(cost, cpu)| (cost, number(cpu))).collect();
            match caches.iter_mut().find(|(known, _)| *known == llc) {
                Some((_, cores)) => cores.push(items),
                None => caches.push((llc, vec![items])),
            }
        }
        let mut caches: Vec<Vec<Vec<Item>>> = caches.into_iter().map(|(_, cores)| cores).collect();
        // On a host of absurd size caches are chosen by room alone, and the result is marked as
        // bounded.
        let largest = units.len().min(*counts.end());
        let mut limit = site.max_llcs.min(caches.len()).min(largest);
        let bounded = limit > 0 && (limit + 1) * (largest + 1) * units.len() > MOST_STEPS;
        if bounded {
            let room = |cache: &Vec<Vec<Item>>| cache.iter().map(Vec::len).sum::<usize>();
            caches.sort_by_key(|cache| std::cmp::Reverse(room(cache)));
            caches.truncate(limit);
            limit = 0;
        }
        let mut table = Self {
            lists: vec![vec![OnceCell::new(); largest + 1]; limit + 1],
            rows: vec![Row::new(largest, units.len()); limit + 1],
            units,
            bounded,
        };
        table.fill(&caches, *counts.start());
        table
    }

    fn fill(&mut self, caches: &[Vec<Vec<Item>>], least: usize) {
        let limited = self.rows.len() > 1;
        let room = |cache: &Vec<Vec<Item>>| cache.iter().map(Vec::len).sum::<usize>();
        let all: usize = caches.iter().map(room).sum();
        let mut rest = all;
        let mut scratch = self.rows[0].scratch();
        for cache in caches {
            let here = room(cache);
            // With fewer units of this cache, or of the caches added up to now, `least` is out of
            // reach.
            let inner = Row::of_cache(cache, &self.rows[0], least.saturating_sub(all - here));
            rest -= here;
            let low = least.saturating_sub(rest).max(1);
            for left in (usize::from(limited)..self.rows.len()).rev() {
                for count in (low..self.rows[0].costs.len()).rev() {
                    for take in 1..=here.min(count) {
                        let before = &self.rows[left - usize::from(limited)];
                        let (Some(cost), Some(more)) = (before.costs[count - take], inner.costs[take]) else {
                            continue;
                        };
                        let cost = cost + more;
                        if self.rows[left].costs[count].is_some_and(|known| cost > known) {
                            continue;
                        }
                        let sets = before.set(count - take).iter().zip(inner.set(take));
                        scratch
                            .iter_mut()
                            .zip(sets)
                            .for_each(|(word, (a, b))| *word = a | b);
                        self.rows[left].offer(count, cost, &scratch);
                    }
                }
            }
        }
    }

    /// Returns the smallest CPU of all units.
    pub(crate) fn first(&self) -> Option<HostCpu> {
        self.units.first().map(|unit| unit[0])
    }

    /// Returns the cost of the best `count` units; `None` where there are fewer units.
    pub(crate) fn cost(&self, count: usize) -> Option<Cost> {
        self.rows.last()?.costs.get(count).copied().flatten()
    }

    /// Returns every useful cost of `count` units with its row: one without a limit of caches, with
    /// a limit also those of choices on fewer caches.
    pub(crate) fn choices(&self, count: usize) -> impl Iterator<Item = (usize, Cost)> + '_ {
        let cost = move |row: usize| self.rows[row].costs.get(count).copied().flatten();
        (0..self.rows.len()).filter_map(move |row| {
            let here = cost(row)?;
            let known = row > 0 && cost(row - 1) == Some(here);
            (!known).then_some((row, here))
        })
    }

    /// Returns the CPUs of the best `count` units in vCPU order; empty where there are fewer units.
    pub(crate) fn cpus(&self, count: usize) -> &[HostCpu] {
        self.cpus_of(self.rows.len() - 1, count)
    }

    /// Returns the CPUs as [`Self::cpus`] does, for one of [`Self::choices`].
    pub(crate) fn cpus_of(&self, row: usize, count: usize) -> &[HostCpu] {
        let Some(list) = self.lists[row].get(count) else {
            return &[];
        };
        list.get_or_init(|| {
            let set = self.rows[row].set(count);
            let chosen = |number: &usize| set[number / 64] >> (number % 64) & 1 == 1;
            let numbers = (0..self.units.len()).filter(chosen);
            numbers
                .flat_map(|number| self.units[number].iter().copied())
                .collect()
        })
    }
}

/// Best choice for each number of units: its cost, and its units as a bitmap.
#[derive(Clone)]
struct Row {
    costs: Vec<Option<Cost>>,
    /// Bitmaps of `width` words each.
    sets: Vec<u64>,
    width: usize,
}

impl Row {
    /// Makes the row of a table without units.
    fn new(largest: usize, units: usize) -> Self {
        let width = units.div_ceil(64).max(1);
        let mut costs = vec![None; largest + 1];
        costs[0] = Some(Cost::default());
        Self {
            costs,
            sets: vec![0; (largest + 1) * width],
            width,
        }
    }

    /// Works out the best choices among one cache's cores. `like` gives the size.
    fn of_cache(cores: &[Vec<Item>], like: &Self, least: usize) -> Self {
        let all: usize = cores.iter().map(Vec::len).sum();
        let mut row = Self::new(all.min(like.costs.len() - 1), like.width * 64);
        let mut scratch = row.scratch();
        let (mut seen, mut rest) = (0, all);
        for core in cores {
            seen = (seen + core.len()).min(row.costs.len() - 1);
            rest -= core.len();
            for count in (least.saturating_sub(rest).max(1)..=seen).rev() {
                let mut more = Cost::default();
                for (taken, (cost, _)) in core.iter().enumerate().take(count) {
                    more += *cost;
                    let Some(before) = row.costs[count - taken - 1] else {
                        continue;
                    };
                    let cost = before + more;
                    if row.costs[count].is_some_and(|known| cost > known) {
                        continue;
                    }
                    scratch.copy_from_slice(row.set(count - taken - 1));
                    for (_, number) in &core[..=taken] {
                        scratch[number / 64] |= 1 << (number % 64);
                    }
                    row.offer(count, cost, &scratch);
                }
            }
        }
        // The cache itself counts once.
        for cost in row.costs.iter_mut().skip(1).flatten() {
            cost.llcs += 1;
        }
        row
    }

    fn scratch(&self) -> Vec<u64> {
        vec![0; self.width]
    }

    fn set(&self, count: usize) -> &[u64] {
        &self.sets[count * self.width..(count + 1) * self.width]
    }

    /// Takes a choice of `count` units if it is better than the known one.
    fn offer(&mut self, count: usize, cost: Cost, set: &[u64]) {
        let better = match self.costs[count] {
            None => true,
            Some(known) => cost < known || (cost == known && comes_first(set, self.set(count))),
        };
        if better {
            self.costs[count] = Some(cost);
            self.sets[count * self.width..(count + 1) * self.width].copy_from_slice(set);
        }
    }
}

/// Returns whether the smallest unit that is in only one of two sets is in the first.
fn comes_first(a: &[u64], b: &[u64]) -> bool {
    let apart = a.iter().zip(b).find(|(a, b)| a != b);
    apart.is_some_and(|(a, b)| a >> (a ^ b).trailing_zeros() & 1 == 1)
}
