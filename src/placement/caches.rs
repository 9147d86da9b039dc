//! Units of a node's cores, cache by cache, and the best choices among them.

use crate::placement::cores::{NodeView, Site};
use crate::placement::rank::Cost;
use crate::placement::spread::{Round, Window};
use crate::placement::threading::Level;
use crate::types::ids::HostCpu;

/// Unit on its core: its cost after the units before it, and its number.
type Item = (Cost, usize);

/// Units of a node's cores, by cache.
pub(crate) struct Caches {
    /// Units of all cores.
    pub units: Units,
    /// Caches with units on them.
    pub caches: Vec<Cache>,
}

/// Units of a node.
pub(crate) struct Units {
    /// CPUs of each unit, and its core; the units ascend by their first CPU. A bitmap of units then
    /// compares as a CPU list does.
    units: Vec<(Vec<HostCpu>, usize)>,
    /// Cores have several units of several CPUs.
    shared: bool,
}

impl Units {
    /// Returns the number of units.
    pub(crate) fn len(&self) -> usize {
        self.units.len()
    }

    /// Returns the smallest CPU of all units.
    pub(crate) fn first(&self) -> Option<HostCpu> {
        self.units.first().map(|(unit, _)| unit[0])
    }

    fn number(&self, cpu: HostCpu) -> usize {
        self.units.partition_point(|(unit, _)| unit[0] < cpu)
    }

    /// Lists the CPUs of the units in a bitmap, in ascending order of the units.
    pub(crate) fn list(&self, set: &[u64]) -> Vec<HostCpu> {
        let chosen = |number: &usize| set[number / 64] >> (number % 64) & 1 == 1;
        let chosen = (0..self.units.len()).filter(chosen);
        let units = chosen.map(|number| &self.units[number]);
        if !self.shared {
            return units.flat_map(|(unit, _)| unit.iter().copied()).collect();
        }
        // Units of one core may exchange their CPUs: the order in which they were to be taken is
        // not that of their numbers.
        let mut cores: Vec<(usize, usize, Vec<HostCpu>)> = Vec::new();
        for (unit, core) in units {
            match cores.iter_mut().find(|(known, ..)| known == core) {
                Some((.., cpus)) => cpus.extend(unit),
                None => cores.push((*core, unit.len(), unit.clone())),
            }
        }
        let mut units: Vec<Vec<HostCpu>> = Vec::new();
        for (_, threads, mut cpus) in cores {
            cpus.sort_unstable();
            units.extend(cpus.chunks(threads).map(<[HostCpu]>::to_vec));
        }
        units.sort_unstable();
        units.concat()
    }
}

/// Cores of one cache.
pub(crate) struct Cache {
    /// Package of the cores.
    pub package: u32,
    /// Number of the cache.
    llc: usize,
    /// Units of each core.
    cores: Vec<Vec<Item>>,
}

impl Cache {
    /// Returns the number of units.
    pub(crate) fn room(&self) -> usize {
        self.cores.iter().map(Vec::len).sum()
    }
}

impl Caches {
    /// Collects the units of one round.
    pub(crate) fn new(site: &Site<'_>, node: &NodeView, round: &Round) -> Self {
        let mut units = Vec::new();
        let mut cores = Vec::new();
        for (place, core) in node
            .cores
            .iter()
            .enumerate()
            .filter(|(_, core)| core.kind == round.kind)
        {
            let split = round.level.units(core, site);
            let items: Vec<_> = split.iter().map(|unit| (unit.cost, unit.cpus[0])).collect();
            cores.push((core.package, core.llc, items));
            units.extend(split.into_iter().map(|unit| (unit.cpus, place)));
        }
        units.sort_unstable();
        let units = Units {
            units,
            shared: matches!(round.level, Level::Shared(_)),
        };
        // A cache counts once however many of its cores are used, so cores are grouped by cache.
        let mut caches: Vec<Cache> = Vec::new();
        for (package, llc, items) in cores.into_iter().filter(|(.., items)| !items.is_empty()) {
            let items = items
                .into_iter()
                .map(|(cost, cpu)| (cost, units.number(cpu)))
                .collect();
            let known = |cache: &&mut Cache| (cache.package, cache.llc) == (package, llc);
            match caches.iter_mut().find(known) {
                Some(cache) => cache.cores.push(items),
                None => caches.push(Cache {
                    package,
                    llc,
                    cores: vec![items],
                }),
            }
        }
        Self { units, caches }
    }
}

/// Adds caches one by one to rows, of which each but a single one allows one cache more than the
/// row before. Choices of fewer than `least` units are not needed.
pub(crate) fn fill<'c>(
    rows: &mut [Row],
    caches: impl IntoIterator<Item = &'c Cache> + Clone,
    window: Window,
    least: usize,
) {
    let limited = rows.len() > 1;
    let all: usize = caches.clone().into_iter().map(Cache::room).sum();
    let mut rest = all;
    let mut scratch = rows[0].scratch();
    for cache in caches {
        let here = cache.room();
        // With fewer units of this cache, or of the caches added up to now, `least` is out of
        // reach.
        let inner = Row::of_cache(&cache.cores, &rows[0], least.saturating_sub(all - here));
        rest -= here;
        let low = least.saturating_sub(rest).max(1);
        for left in (usize::from(limited)..rows.len()).rev() {
            for count in (low..rows[0].costs.len()).rev() {
                for take in window.up_to(here.min(count)) {
                    let before = &rows[left - usize::from(limited)];
                    let (Some(cost), Some(more)) = (before.costs[count - take], inner.costs[take]) else {
                        continue;
                    };
                    let cost = cost + more;
                    if rows[left].costs[count].is_some_and(|known| cost > known) {
                        continue;
                    }
                    let sets = before.set(count - take).iter().zip(inner.set(take));
                    scratch
                        .iter_mut()
                        .zip(sets)
                        .for_each(|(word, (a, b))| *word = a | b);
                    rows[left].offer(count, cost, &scratch);
                }
            }
        }
    }
}

/// Best choice for each number of units: its cost, and its units as a bitmap.
#[derive(Clone)]
pub(crate) struct Row {
    costs: Vec<Option<Cost>>,
    /// Bitmaps of `width` words each.
    sets: Vec<u64>,
    width: usize,
}

impl Row {
    /// Makes the row of a table without units.
    pub(crate) fn new(largest: usize, units: usize) -> Self {
        let width = units.div_ceil(64).max(1);
        let mut costs = vec![None; largest + 1];
        costs[0] = Some(Cost::default());
        Self {
            costs,
            sets: vec![0; (largest + 1) * width],
            width,
        }
    }

    /// Returns the cost of the best choice of `count` units; `None` where there is none.
    pub(crate) fn cost(&self, count: usize) -> Option<Cost> {
        self.costs.get(count).copied().flatten()
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

    /// Returns the units of the best choice of `count` as a bitmap.
    pub(crate) fn set(&self, count: usize) -> &[u64] {
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
