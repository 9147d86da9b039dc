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
    /// Guest cores of so many threads, several of which may share a host core.
    Shared(u32),
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
            Self::Own(threads) | Self::Shared(threads) => threads,
            Self::Isolate | Self::Any => 1,
        }
    }

    /// Returns the rank for [`crate::placement::Key::threads`]: the larger is better. Host cores of
    /// their own come before shared ones, and shared ones before one thread a core.
    pub(crate) fn rank(self) -> u32 {
        match self {
            Self::Own(threads) if threads > 1 => MOST_THREADS + threads,
            Self::Shared(threads) => threads + 1,
            Self::Own(_) | Self::Isolate => 2,
            Self::Any => 1,
        }
    }

    /// Returns whether guest cores may share a host core.
    pub(crate) fn shares(self) -> bool {
        matches!(self, Self::Shared(_) | Self::Any)
    }

    /// Returns the number of units a core gives.
    pub(crate) fn units_of(self, core: &CoreView) -> u32 {
        match self {
            Self::Own(threads) => u32::from(core.free.len() >= threads as usize),
            Self::Isolate => u32::from(core.isolable && !core.free.is_empty()),
            Self::Shared(threads) => core.free.len() as u32 / threads,
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
        cost.cache = -core.cache;
        let threads = self.threads() as i32;
        cost.siblings = match demand.spread {
            _ if self == Self::Isolate => 0,
            _ if threads > 1 && first => core.free.len() as i32 - threads,
            _ if threads > 1 => -threads,
            false => i32::from(!(first && core.is_broken())),
            true => i32::from(first && core.is_broken()),
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

/// Largest number of threads of any host core.
const MOST_THREADS: u32 = 1 << 10;

/// Returns the levels a demand allows, best first. `widest` is the largest number of threads of any
/// core of the host.
pub(crate) fn allowed(demand: &Demand, widest: u32) -> Vec<Level> {
    if demand.dedicated.is_empty() {
        return vec![Level::Own(1)];
    }
    let mixed = !demand.floating().is_empty();
    let most = if mixed { 1 } else { widest.min(MOST_THREADS) };
    let fits = |threads: u32| demand.threads.is_none_or(|given| given == threads);
    if demand.smt == SmtRule::Isolate {
        return vec![Level::Isolate].into_iter().filter(|_| fits(1)).collect();
    }
    let whole = |threads: &u32| fits(*threads) && fills(demand, *threads);
    let several: Vec<u32> = (2..=most).rev().filter(whole).collect();
    let own = several.iter().map(|threads| Level::Own(*threads));
    if demand.smt == SmtRule::Require {
        return own.collect();
    }
    let shared = several.iter().filter(|threads| **threads * 2 <= most);
    let one = [Level::Own(1), Level::Any].into_iter().filter(|_| fits(1));
    own.chain(shared.map(|threads| Level::Shared(*threads)))
        .chain(one)
        .collect()
}

/// Returns whether guest cores of so many threads fill every cell.
fn fills(demand: &Demand, threads: u32) -> bool {
    if demand.threads_by_two && !threads.is_power_of_two() {
        return false;
    }
    let whole = VcpuSet::first_n(demand.vcpus);
    match demand.cells.is_empty() {
        true => divides(&demand.shown_cells, threads) && divides([&whole], threads),
        false => divides(demand.cells.iter().map(|cell| &cell.vcpus), threads),
    }
}

/// Returns whether runs of so many vCPUs (`kr … kr+r-1`, as QEMU numbers cores and dies) fill every
/// cell.
pub(crate) fn divides<'c>(cells: impl IntoIterator<Item = &'c VcpuSet>, run: u32) -> bool {
    let aligned = |cell: &VcpuSet| {
        cell.iter().all(|vcpu| {
            let first = vcpu.0 / run * run;
            (first..first + run).all(|other| cell.contains(VcpuId(other)))
        })
    };
    let mut cells = cells.into_iter();
    cells.all(|cell| (cell.len() as u32).is_multiple_of(run) && aligned(cell))
}
