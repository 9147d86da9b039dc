//! Rounds of a search, and how a round spreads the guest over caches and nodes.
//!
//! The order of preference has criteria in its middle that do not add up over cores: the truth of
//! the shape, and evenness over nodes and over caches. A search therefore runs in rounds, each with
//! one value of the criteria that a round has in common; and what has to be even is limited to a
//! window, the narrowest first in which the best cost of the criteria before it is reached.

use std::ops::RangeInclusive;

use crate::placement::cores::Site;
use crate::placement::mirror::Mirror;
use crate::placement::rank::Rank;
use crate::placement::threading::{self, Level};
use crate::types::ids::KiB;

/// Choices that come between the devices and the evenness in the order of preference.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Round {
    /// Kind of cores that are used.
    pub kind: u32,
    /// Only placements that can be shown exactly.
    pub exact: bool,
    /// Threads of a guest core.
    pub level: Level,
    /// Huge page size; `None`: small pages.
    pub page: Option<KiB>,
}

/// Rule for the numbers of units on caches.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spread {
    /// Units on each die or socket that is shown.
    pub exact: Option<usize>,
    /// Units on each cache that is used.
    pub caches: Window,
}

/// Smallest and largest number, of units on a cache or of cuts on a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    /// Smallest number.
    pub least: usize,
    /// Largest number.
    pub most: usize,
}

impl Window {
    /// Any number.
    pub(crate) const ANY: Self = Self {
        least: 1,
        most: usize::MAX,
    };

    /// Returns the numbers in the window up to a limit.
    pub(crate) fn up_to(self, most: usize) -> RangeInclusive<usize> {
        self.least..=self.most.min(most)
    }

    /// Lists the windows of a width in which `parts` numbers can add up to `whole`.
    pub(crate) fn of_width(width: usize, whole: usize, parts: usize) -> impl Iterator<Item = Self> {
        let lowest = whole.div_ceil(parts.max(1)).saturating_sub(width).max(1);
        let highest = whole / parts.max(1);
        (lowest..=highest).map(move |least| Self {
            least,
            most: least + width,
        })
    }
}

impl Spread {
    /// Any numbers.
    pub(crate) const ANY: Self = Self {
        exact: None,
        caches: Window::ANY,
    };

    /// Returns the same rule with other limits for caches.
    pub(crate) fn within(self, caches: Window) -> Self {
        Self { caches, ..self }
    }
}

impl Round {
    /// Returns the fields of a key that the round decides.
    pub(crate) fn rank(&self, site: &Site<'_>) -> Rank {
        Rank {
            kind: self.kind,
            untrue: site.shows && !self.exact,
            threads: std::cmp::Reverse(self.level.rank()),
            page: std::cmp::Reverse(self.page.map_or(0, |page| page.0)),
        }
    }

    /// Returns the number of units of the whole guest.
    pub(crate) fn units(&self, site: &Site<'_>) -> usize {
        site.demand.dedicated.len() / self.level.threads() as usize
    }

    /// Lists the spreads to try where the guest is on `parts` nodes, few caches first.
    pub(crate) fn spreads(&self, site: &Site<'_>, parts: usize) -> Vec<Spread> {
        if !self.exact {
            return vec![Spread::ANY];
        }
        let units = self.units(site);
        let most = units.min(site.most_dies(parts));
        let dies = (parts..=most).filter(|dies| units.is_multiple_of(*dies));
        let limit = match site.mirror() {
            Mirror::Caches => Some(site.max_llcs).filter(|most| *most > 0),
            Mirror::Nodes => site.demand.max_sockets.map(|most| most as usize),
        };
        let given = site
            .demand
            .shape
            .map(|shape| shape.sockets.saturating_mul(shape.dies) as usize);
        dies.filter(|dies| limit.is_none_or(|most| *dies <= most))
            .filter(|dies| given.is_none_or(|given| *dies == given))
            .filter(|dies| {
                let die = units / dies * self.level.threads() as usize;
                threading::divides(&site.demand.shown_cells, die as u32)
            })
            .map(|dies| Spread {
                exact: Some(units / dies),
                caches: Window::ANY,
            })
            .collect()
    }
}

impl Site<'_> {
    /// Lists the rounds of a search, best first.
    pub(crate) fn rounds(&self) -> Vec<Round> {
        let mut rounds = Vec::new();
        for &kind in &self.kinds {
            for exact in [true, false] {
                // The first placement found need not be shown exactly, but for a given shape.
                let needed = match self.demand.shape.filter(|_| self.shows) {
                    Some(_) => exact,
                    None => !exact || (self.shows && !self.first),
                };
                if !needed {
                    continue;
                }
                for &level in &self.levels {
                    if exact && level == Level::Any {
                        continue;
                    }
                    rounds.extend(self.demand.pages.iter().map(|page| Round {
                        kind,
                        exact,
                        level,
                        page: *page,
                    }));
                }
            }
        }
        rounds
    }
}
