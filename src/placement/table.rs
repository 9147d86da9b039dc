//! The best `x` guest cores of one node, for every `x`: exact, over last-level caches.
//!
//! Costs of cores add up, except that each cache touched counts once. So caches are taken one after the other: from
//! each the cheapest units first, and a small table over "units still needed" finds the best division between them.
//! Among equal divisions the one that takes most from the earliest cache wins: it gives the smallest CPU list, unless
//! the caches' CPU numbers are interleaved.

use super::cores::NodeView;
use super::key::Cost;
use super::level::{Level, Unit};
use crate::units::HostCpu;

/// Best choices on one node, for one kind of core and one level.
pub struct NodeTable {
    /// By cache, in order of the smallest CPU there; units cheapest first.
    caches: Vec<Vec<Unit>>,
    /// `suffix[c]`: what units from caches `c..` cost at best, by `limit` (caches still allowed) and number.
    suffix: Vec<Vec<Vec<Option<Cost>>>>,
    /// Most caches; 0: any number.
    limit: usize,
    largest: usize,
    /// The caches' CPU numbers overlap.
    interleaved: bool,
}

impl NodeTable {
    /// Builds the table for up to `largest` units over at most `max_llcs` caches (0: any number).
    pub fn new(
        node: &NodeView,
        kind: u32,
        level: Level,
        spread: bool,
        largest: usize,
        max_llcs: u32,
    ) -> Self {
        let mut caches: Vec<(usize, Vec<Unit>)> = Vec::new();
        for core in node
            .cores
            .iter()
            .filter(|core| core.kind == kind && !core.free.is_empty())
        {
            let units = level.split(core, spread);
            match caches.iter_mut().find(|(llc, _)| *llc == core.llc) {
                Some((_, all)) => all.extend(units),
                None => caches.push((core.llc, units)),
            }
        }
        let mut caches: Vec<Vec<Unit>> = caches.into_iter().map(|(_, units)| units).collect();
        caches.retain(|units| !units.is_empty());
        for units in &mut caches {
            units.sort_by(|a, b| (a.cost, &a.cpus).cmp(&(b.cost, &b.cpus)));
        }
        caches.sort_by_key(|units| units.iter().map(|unit| unit.cpus[0]).min());
        let limit = (max_llcs as usize).min(caches.len());
        let largest = largest.min(caches.iter().map(Vec::len).sum());
        let first = |unit: &Unit| unit.cpus[0];
        let interleaved = caches
            .windows(2)
            .any(|pair| pair[0].iter().map(first).max() > pair[1].iter().map(first).min());
        let mut table = Self {
            caches,
            suffix: Vec::new(),
            limit,
            largest,
            interleaved,
        };
        table.fill();
        table
    }

    fn fill(&mut self) {
        let limits = self.limit;
        let mut nothing = vec![None; self.largest + 1];
        nothing[0] = Some(Cost::default());
        let mut suffix = vec![vec![nothing; limits + 1]];
        for units in self.caches.iter().rev() {
            let after = suffix.last().cloned().unwrap_or_default();
            let prefix = prefix_costs(units);
            let best = |left: usize, need: usize| {
                choices(limits, left, units.len().min(need))
                    .filter_map(|take| {
                        let rest = after[left - usize::from(limits > 0 && take > 0)][need - take]?;
                        Some(prefix[take] + rest)
                    })
                    .min()
            };
            let rows = (0..=limits)
                .map(|left| (0..=self.largest).map(|need| best(left, need)).collect())
                .collect();
            suffix.push(rows);
        }
        suffix.reverse();
        self.suffix = suffix;
    }

    /// What the best `count` units cost; `None` where there are not so many.
    pub fn cost(&self, count: usize) -> Option<Cost> {
        self.cost_within(count, self.limit)
    }

    /// As [`Self::cost`] over at most so many caches (no more than the table's own limit; without one it is unused).
    pub fn cost_within(&self, count: usize, limit: usize) -> Option<Cost> {
        self.suffix[0][limit.min(self.limit)]
            .get(count)
            .copied()
            .flatten()
    }

    /// How many units each cache gives to the best `count`.
    fn division(&self, count: usize, limit: usize) -> Option<Vec<usize>> {
        let (mut left, mut need) = (limit.min(self.limit), count);
        let mut division = Vec::new();
        for (index, units) in self.caches.iter().enumerate() {
            let best = self.suffix[index][left].get(need).copied().flatten()?;
            let prefix = prefix_costs(units);
            let rest = |take: usize| left - usize::from(self.limit > 0 && take > 0);
            let take = choices(self.limit, left, units.len().min(need))
                .rev()
                .find(|take| {
                    let after = self.suffix[index + 1][rest(*take)][need - take];
                    after.is_some_and(|after| prefix[*take] + after == best)
                })?;
            left = rest(take);
            need -= take;
            division.push(take);
        }
        Some(division)
    }

    /// As [`Self::division`] where the caches' CPU numbers are interleaved, so that taking most from the first is not
    /// always the smallest list: each unit in ascending order is taken if the best cost can still be had with it.
    fn interleaved_division(&self, count: usize, limit: usize) -> Option<Vec<usize>> {
        let best = self.cost_within(count, limit)?;
        let mut least = vec![0; self.caches.len()];
        let mut most: Vec<usize> = self.caches.iter().map(Vec::len).collect();
        let mut order: Vec<(usize, usize)> = self
            .caches
            .iter()
            .enumerate()
            .flat_map(|(c, units)| (0..units.len()).map(move |u| (c, u)))
            .collect();
        order.sort_by_key(|(cache, unit)| &self.caches[*cache][*unit].cpus);
        for (cache, unit) in order {
            if unit < least[cache] || unit >= most[cache] {
                continue;
            }
            let before = std::mem::replace(&mut least[cache], unit + 1);
            if self.best_between(&least, &most, count, limit.min(self.limit)) != Some(best) {
                least[cache] = before;
                most[cache] = unit;
            }
        }
        Some(least)
    }

    /// The best cost of `count` units when each cache gives at least and at most so many.
    fn best_between(&self, least: &[usize], most: &[usize], count: usize, limit: usize) -> Option<Cost> {
        let mut known = vec![vec![None; count + 1]; limit + 1];
        known[limit][0] = Some(Cost::default());
        for (index, units) in self.caches.iter().enumerate() {
            let prefix = prefix_costs(units);
            let mut next = vec![vec![None; count + 1]; limit + 1];
            for (left, row) in known.iter().enumerate() {
                for (have, cost) in row.iter().enumerate() {
                    let Some(cost) = *cost else { continue };
                    for take in least[index]..=most[index].min(count - have) {
                        let uses = usize::from(self.limit > 0 && take > 0);
                        if uses > left {
                            break;
                        }
                        let slot: &mut Option<Cost> = &mut next[left - uses][have + take];
                        let sum: Cost = cost + prefix[take];
                        if slot.is_none_or(|known| sum < known) {
                            *slot = Some(sum);
                        }
                    }
                }
            }
            known = next;
        }
        known.iter().filter_map(|row| row[count]).min()
    }

    /// The best `count` units, ascending. Empty where there are not so many.
    fn pick(&self, count: usize, limit: usize) -> Vec<&Unit> {
        let division = match self.interleaved {
            true => self.interleaved_division(count, limit),
            false => self.division(count, limit),
        };
        let taken = self.caches.iter().zip(division.unwrap_or_default());
        let mut units: Vec<&Unit> = taken.flat_map(|(units, take)| &units[..take]).collect();
        units.sort_by(|a, b| a.cpus.cmp(&b.cpus));
        units
    }

    /// The CPUs of the best `count` units in vCPU order.
    pub fn cpus(&self, count: usize) -> Vec<HostCpu> {
        self.cpus_within(count, self.limit)
    }

    /// As [`Self::cpus`] over at most so many caches.
    pub fn cpus_within(&self, count: usize, limit: usize) -> Vec<HostCpu> {
        self.pick(count, limit)
            .iter()
            .flat_map(|unit| unit.cpus.iter().copied())
            .collect()
    }
}

/// How many units a cache may give: none, or up to `most` while another cache is allowed.
fn choices(limits: usize, left: usize, most: usize) -> std::ops::RangeInclusive<usize> {
    if limits > 0 && left == 0 { 0..=0 } else { 0..=most }
}

/// What the first `n` units of a cache cost, the cache itself counted once.
fn prefix_costs(units: &[Unit]) -> Vec<Cost> {
    let mut costs = vec![Cost::default()];
    let mut sum = Cost {
        llcs: 1,
        ..Cost::default()
    };
    for unit in units {
        sum += unit.cost;
        costs.push(sum);
    }
    costs
}
