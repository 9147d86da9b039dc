//! The best guest cores of one node where each die, or socket, that the guest is shown has equally
//! many: choices of whole groups of cores.
//!
//! A group is a cache where the guest is shown caches, else a package. Each group offers its best
//! cores; of the groups the cheapest are taken, and where the node has several packages as many of
//! each package, so that sockets of equal size can show them.

use std::cell::OnceCell;

use crate::placement::caches::{Cache, Caches, Row, fill};
use crate::placement::cores::Site;
use crate::placement::mirror::Mirror;
use crate::placement::rank::Cost;
use crate::placement::spread::Window;
use crate::types::ids::HostCpu;

/// Choices of whole groups.
pub(crate) struct ExactTable {
    /// Units of each group.
    each: usize,
    /// Groups by package, cheapest first. The packages ascend by their smallest CPU.
    packages: Vec<Vec<Group>>,
    /// Cost of the cheapest groups of each package, by their number.
    sums: Vec<Vec<Cost>>,
    /// Best choice by number of groups; `None`: no such number can be shown.
    choices: Vec<Option<Choice>>,
}

/// Best units of one group.
struct Group {
    cost: Cost,
    cpus: Vec<HostCpu>,
}

/// Packages, and the number of groups taken of each.
struct Choice {
    cost: Cost,
    packages: Vec<usize>,
    groups: usize,
    cpus: OnceCell<Vec<HostCpu>>,
}

impl ExactTable {
    /// Builds the table; `window` limits the units on each cache of a group.
    pub(crate) fn new(site: &Site<'_>, all: &Caches, each: usize, window: Window) -> Self {
        let mut by_package: Vec<(u32, Vec<&Cache>)> = Vec::new();
        for cache in &all.caches {
            match by_package.iter_mut().find(|(known, _)| *known == cache.package) {
                Some((_, caches)) => caches.push(cache),
                None => by_package.push((cache.package, vec![cache])),
            }
        }
        let group = |caches: &[&Cache]| {
            let room: usize = caches.iter().map(|cache| cache.room()).sum();
            if room < each {
                return None;
            }
            let mut rows = [Row::new(each, all.units.len())];
            fill(&mut rows, caches.iter().copied(), window, each);
            let [row] = &rows;
            row.cost(each).map(|cost| Group {
                cost,
                cpus: all.units.list(row.set(each)),
            })
        };
        let mut packages: Vec<Vec<Group>> = by_package
            .iter()
            .map(|(_, caches)| match site.mirror() {
                Mirror::Caches => caches.chunks(1).filter_map(group).collect(),
                Mirror::Nodes => group(caches).into_iter().collect(),
            })
            .filter(|groups: &Vec<Group>| !groups.is_empty())
            .collect();
        for groups in &mut packages {
            groups.sort_by(|a, b| (a.cost, &a.cpus).cmp(&(b.cost, &b.cpus)));
        }
        packages.sort_by_key(|groups| groups.iter().map(|group| group.cpus[0]).min());
        let most: usize = packages.iter().map(Vec::len).sum();
        let add = |sum: &mut Cost, group: &Group| {
            *sum += group.cost;
            Some(*sum)
        };
        let mut table = Self {
            each,
            sums: packages
                .iter()
                .map(|groups| groups.iter().scan(Cost::default(), add).collect())
                .collect(),
            packages,
            choices: Vec::new(),
        };
        let limit = match site.mirror() {
            Mirror::Caches => site.most_packages(),
            Mirror::Nodes => usize::MAX,
        };
        table.choices = (0..=most).map(|groups| table.choose(groups, limit)).collect();
        table
    }

    /// Returns the best choice of so many groups, on no more than `limit` packages.
    fn choose(&self, groups: usize, limit: usize) -> Option<Choice> {
        if groups == 0 {
            return Some(Choice {
                cost: Cost::default(),
                packages: Vec::new(),
                groups: 0,
                cpus: OnceCell::new(),
            });
        }
        let over = |count: usize| {
            let each = groups / count;
            let mut packages: Vec<(Cost, usize)> = (0..self.packages.len())
                .filter_map(|package| Some((*self.sums[package].get(each - 1)?, package)))
                .collect();
            packages.sort_unstable();
            packages.truncate(count);
            (packages.len() == count).then(|| Choice {
                cost: packages
                    .iter()
                    .fold(Cost::default(), |sum, (cost, _)| sum + *cost),
                packages: packages.iter().map(|(_, package)| *package).collect(),
                groups: each,
                cpus: OnceCell::new(),
            })
        };
        let counts = 1..=self.packages.len().min(limit);
        let counts = counts.filter(|count| groups.is_multiple_of(*count));
        counts
            .filter_map(over)
            .min_by(|a, b| a.cost.cmp(&b.cost).then_with(|| self.list(a).cmp(self.list(b))))
    }

    /// Returns the CPUs of a choice: package by package, group by group, in ascending order of
    /// their first CPUs.
    fn list<'c>(&self, choice: &'c Choice) -> &'c [HostCpu] {
        choice.cpus.get_or_init(|| {
            let mut packages: Vec<Vec<&[HostCpu]>> = choice
                .packages
                .iter()
                .map(|package| {
                    let taken = self.packages[*package].iter().take(choice.groups);
                    let mut groups: Vec<&[HostCpu]> = taken.map(|group| &group.cpus[..]).collect();
                    groups.sort_unstable();
                    groups
                })
                .collect();
            packages.sort_unstable();
            packages.concat().concat()
        })
    }

    fn choice(&self, count: usize) -> Option<&Choice> {
        match count.is_multiple_of(self.each) {
            true => self.choices.get(count / self.each)?.as_ref(),
            false => None,
        }
    }

    /// Returns the smallest CPU of all groups.
    pub(crate) fn first(&self) -> Option<HostCpu> {
        let first = self.packages.first()?.iter().map(|group| group.cpus[0]);
        first.min()
    }

    /// Returns the cost of the best choice of `count` units; `None` where there is none.
    pub(crate) fn cost(&self, count: usize) -> Option<Cost> {
        Some(self.choice(count)?.cost)
    }

    /// Returns the CPUs of the best choice of `count` units in vCPU order; empty where there is
    /// none.
    pub(crate) fn cpus(&self, count: usize) -> &[HostCpu] {
        self.choice(count).map_or(&[], |choice| self.list(choice))
    }
}
