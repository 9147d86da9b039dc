//! Threads of a guest core: the ways to lay vCPUs on cores, best first, and the cost of each core
//! under each of them.

use crate::placement::cores::{CoreView, Site};
use crate::placement::rank::Cost;
use crate::placement::{Demand, SmtRule};
use crate::types::ids::{HostCpu, VcpuId};
use crate::types::idset::VcpuSet;

/// Way to lay vCPUs on cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Level {
    /// Guest cores of so many threads, each on a host core of its own.
    Own(u32),
    /// One vCPU per core, all siblings withheld.
    Isolate,
    /// Any free CPUs: guest cores of one thread that may share a host core.
    Any,
}

/// CPUs of one host core that one guest core may use, with their cost.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Unit {
    /// Cost when the earlier units of the core are taken already. `llcs` is always 0 here.
    pub cost: Cost,
    /// CPUs, ascending.
    pub cpus: Vec<HostCpu>,
}

impl Level {
    /// Returns the number of vCPUs in a unit.
    pub(crate) fn threads(self) -> u32 {
        match self {
            Self::Own(threads) => threads,
            Self::Isolate | Self::Any => 1,
        }
    }

    /// Returns the rank for [`crate::placement::Key::threads`]: the larger is better.
    pub(crate) fn rank(self) -> u32 {
        match self {
            Self::Own(threads) => threads * 2,
            Self::Isolate => 2,
            Self::Any => 1,
        }
    }

    /// Returns the number of units a core gives.
    pub(crate) fn units_of(self, core: &CoreView) -> u32 {
        match self {
            Self::Own(threads) => u32::from(core.free.len() >= threads as usize),
            Self::Isolate => u32::from(core.isolable && !core.free.is_empty()),
            Self::Any => core.free.len() as u32,
        }
    }

    /// Returns the units of a core in the order in which they are taken: the first `n` of them are
    /// the best `n`.
    pub(crate) fn units(self, core: &CoreView, site: &Site<'_>) -> Vec<Unit> {
        let count = self.units_of(core) as usize;
        let threads = self.threads() as usize;
        (0..count)
            .map(|index| {
                let mut cpus = match self {
                    Self::Isolate => core.free.iter().min().copied().into_iter().collect(),
                    _ => core.free[index * threads..(index + 1) * threads].to_vec(),
                };
                cpus.sort_unstable();
                Unit {
                    cost: self.cost(core, index, &cpus, site),
                    cpus,
                }
            })
            .collect()
    }

    fn cost(self, core: &CoreView, index: usize, cpus: &[HostCpu], site: &Site<'_>) -> Cost {
        let demand = site.demand;
        let first = index == 0;
        let isolate = self == Self::Isolate;
        let withholds = isolate || demand.withhold_siblings;
        let claimed = if isolate { &core.all[..] } else { cpus };
        let mut cost = claimed
            .iter()
            .map(|cpu| core.claim_cost(*cpu))
            .fold(Cost::default(), |sum, cost| sum + cost);
        cost.siblings = match (self, demand.spread) {
            (Self::Isolate, _) => 0,
            (Self::Own(threads), _) if threads > 1 => core.free.len() as u32 - threads,
            (_, false) => u32::from(!(first && core.is_broken())),
            (_, true) => u32::from(first && core.is_broken()),
        };
        if withholds && first {
            let gone = core.spare.len() as i32;
            cost.left = if demand.spread { gone } else { -gone };
        }
        if site.thrifty {
            let gone = match (withholds, first) {
                (true, true) => &core.all[..],
                (true, false) => &[],
                (false, _) => cpus,
            };
            let shared = gone.iter().filter(|cpu| site.supply.shared.contains(**cpu));
            cost.scarce = match isolate && demand.extra_min > 0 {
                true => core.spare.len() as i64, // the siblings are lost to extra CPUs
                false => shared.count() as i64,
            };
        }
        cost
    }
}

/// Returns the levels a demand allows, best first. `widest` is the largest number of threads of any
/// core of the host.
pub(crate) fn allowed(demand: &Demand, widest: u32) -> Vec<Level> {
    if demand.dedicated.is_empty() {
        return vec![Level::Own(1)];
    }
    let mixed = !demand.floating().is_empty();
    let largest = if mixed { 1 } else { largest_threads(demand, widest) };
    let fits = |threads: u32| demand.threads.is_none_or(|given| given == threads);
    let mut levels: Vec<Level> = std::iter::successors(Some(largest), |t| (*t > 1).then_some(t / 2))
        .filter(|threads| fits(*threads))
        .map(Level::Own)
        .collect();
    match demand.smt {
        SmtRule::Isolate => vec![Level::Isolate].into_iter().filter(|_| fits(1)).collect(),
        SmtRule::Require => {
            levels.retain(|level| level.threads() >= 2);
            levels
        }
        SmtRule::Prefer => {
            if fits(1) {
                levels.push(Level::Any);
            }
            levels
        }
    }
}

/// Returns the largest power of two up to `widest` that divides every cell's dedicated vCPUs and
/// keeps each guest core (vCPUs `kt … kt+t-1`, as QEMU numbers them) inside one cell.
fn largest_threads(demand: &Demand, widest: u32) -> u32 {
    let whole = VcpuSet::first_n(demand.vcpus);
    let cells: Vec<&VcpuSet> = match (demand.cells.is_empty(), demand.shown_cells.is_empty()) {
        (true, true) => vec![&whole],
        (true, false) => demand.shown_cells.iter().chain([&whole]).collect(),
        (false, _) => demand.cells.iter().map(|cell| &cell.vcpus).collect(),
    };
    let aligned = |cell: &VcpuSet, threads: u32| {
        cell.iter().all(|vcpu| {
            let first = vcpu.0 / threads * threads;
            (first..first + threads).all(|sibling| cell.contains(VcpuId(sibling)))
        })
    };
    let works = |threads: &u32| {
        *threads <= widest
            && cells
                .iter()
                .all(|cell| (cell.len() as u32).is_multiple_of(*threads) && aligned(cell, *threads))
    };
    std::iter::successors(Some(1u32), |t| t.checked_mul(2))
        .take_while(works)
        .last()
        .unwrap_or(1)
}
