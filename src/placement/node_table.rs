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

use crate::placement::caches::{Caches, Row, Units, fill};
use crate::placement::cores::{NodeView, Site};
use crate::placement::exact_table::ExactTable;
use crate::placement::rank::Cost;
use crate::placement::spread::{Round, Spread, Window};
use crate::types::ids::HostCpu;

/// Steps a table may take before caches are chosen by room alone. No known host comes near.
const MOST_STEPS: usize = 20_000_000;

/// Best choices on one node, for one kind of core, level and spread.
pub(crate) enum NodeTable {
    /// Caches with any number of units, or a number within a window.
    Free(FreeTable),
    /// Caches with one number of units each.
    Exact(ExactTable),
}

impl NodeTable {
    /// Builds the table for the numbers of units in `counts`.
    pub(crate) fn new(
        site: &Site<'_>,
        node: &NodeView,
        round: &Round,
        spread: &Spread,
        counts: RangeInclusive<usize>,
    ) -> Self {
        let caches = Caches::new(site, node, round);
        match spread.exact {
            Some(each) => Self::Exact(ExactTable::new(site, &caches, each, spread.caches)),
            None => Self::Free(FreeTable::new(site, caches, spread.caches, counts)),
        }
    }

    /// Returns whether a better choice than the table's may exist.
    pub(crate) fn is_bounded(&self) -> bool {
        match self {
            Self::Free(table) => table.bounded,
            Self::Exact(_) => false,
        }
    }

    /// Returns the smallest CPU of all units.
    pub(crate) fn first(&self) -> Option<HostCpu> {
        match self {
            Self::Free(table) => table.units.first(),
            Self::Exact(table) => table.first(),
        }
    }

    /// Returns the cost of the best `count` units; `None` where there are fewer units.
    pub(crate) fn cost(&self, count: usize) -> Option<Cost> {
        match self {
            Self::Free(table) => table.rows.last()?.cost(count),
            Self::Exact(table) => table.cost(count),
        }
    }

    /// Returns every useful cost of `count` units with its row: one without a limit of caches, with
    /// a limit also those of choices on fewer caches.
    pub(crate) fn choices(&self, count: usize) -> impl Iterator<Item = (usize, Cost)> + '_ {
        let rows = match self {
            Self::Free(table) => table.rows.len(),
            Self::Exact(_) => 1,
        };
        let cost = move |row: usize| match self {
            Self::Free(table) => table.rows[row].cost(count),
            Self::Exact(table) => table.cost(count),
        };
        (0..rows).filter_map(move |row| {
            let here = cost(row)?;
            let known = row > 0 && cost(row - 1) == Some(here);
            (!known).then_some((row, here))
        })
    }

    /// Returns the CPUs of the best `count` units in vCPU order; empty where there are fewer units.
    pub(crate) fn cpus(&self, count: usize) -> &[HostCpu] {
        let rows = match self {
            Self::Free(table) => table.rows.len(),
            Self::Exact(_) => 1,
        };
        self.cpus_of(rows - 1, count)
    }

    /// Returns the CPUs as [`Self::cpus`] does, for one of [`Self::choices`].
    pub(crate) fn cpus_of(&self, row: usize, count: usize) -> &[HostCpu] {
        match self {
            Self::Free(table) => table.cpus_of(row, count),
            Self::Exact(table) => table.cpus(count),
        }
    }
}

/// Table of choices with any number of units on a cache, or a number within a window.
pub(crate) struct FreeTable {
    units: Units,
    /// Best choices by number of caches allowed; a single row where there is no limit.
    rows: Vec<Row>,
    /// CPU lists by row and number of units, filled on demand.
    lists: Vec<Vec<OnceCell<Vec<HostCpu>>>>,
    /// Caches were chosen by room alone: a better choice may exist.
    bounded: bool,
}

impl FreeTable {
    fn new(site: &Site<'_>, all: Caches, window: Window, counts: RangeInclusive<usize>) -> Self {
        let Caches { units, mut caches } = all;
        // On a host of absurd size caches are chosen by room alone, and the result is marked as
        // bounded.
        let largest = units.len().min(*counts.end());
        let mut limit = site.max_llcs.min(caches.len()).min(largest);
        let bounded = limit > 0 && (limit + 1) * (largest + 1) * units.len() > MOST_STEPS;
        if bounded {
            caches.sort_by_key(|cache| std::cmp::Reverse(cache.room()));
            caches.truncate(limit);
            limit = 0;
        }
        let mut rows = vec![Row::new(largest, units.len()); limit + 1];
        fill(&mut rows, &caches, window, *counts.start());
        Self {
            lists: vec![vec![OnceCell::new(); largest + 1]; limit + 1],
            rows,
            units,
            bounded,
        }
    }

    fn cpus_of(&self, row: usize, count: usize) -> &[HostCpu] {
        let Some(list) = self.lists[row].get(count) else {
            return &[];
        };
        list.get_or_init(|| self.units.list(self.rows[row].set(count)))
    }
}
