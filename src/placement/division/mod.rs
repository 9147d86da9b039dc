//! Guest without cells laid over given nodes: the vCPUs in order, each node getting a run of them.

mod ways;

use std::collections::HashMap;

use crate::placement::cores::{CoreView, NodeView, Site};
use crate::placement::finish;
use crate::placement::finish::{Beside, Piece};
use crate::placement::mirror::Spot;
use crate::placement::node_table::NodeTable;
use crate::placement::rank::{Bar, Cost, Key};
use crate::placement::spread::{Round, Spread, Window};
use crate::placement::threading::Level;
use crate::placement::{Mirror, Placed, memory};
use crate::types::ids::{KiB, NodeId, VcpuId};

use ways::Ways;

/// Way to lay the guest on several nodes.
pub(crate) struct Division<'s, 'a> {
    /// Host as seen by the demand.
    pub site: &'s Site<'a>,
    /// Kind of cores, threads of a guest core, and page size.
    pub round: Round,
    /// Numbers of units on caches.
    pub spread: Spread,
    /// vCPU numbers at which a new run may begin, from 0 to the number of vCPUs.
    cuts: Vec<u32>,
    /// Number of dedicated vCPUs before each cut.
    dedicated: Vec<usize>,
    /// Number of floating vCPUs before each cut.
    floating: Vec<usize>,
}

/// Node that may get a run of the guest's vCPUs.
pub(crate) struct Candidate<'s> {
    /// Node as seen by the demand.
    pub node: &'s NodeView,
    /// Position in [`Site::nodes`].
    pub index: usize,
    /// Number of units for which the node has room.
    pub units: usize,
    /// Number of units that no autostart definition claims.
    pub clean: usize,
    /// Upper bound of the cuts the node can take, memory counted.
    pub most: usize,
    /// Memory of `most` cuts, in KiB; 0 where memory is not counted node by node.
    pub memory: u64,
    /// Memory the node has beyond that, in KiB, for what rounding leaves to cell 0.
    pub leftover: u64,
}

/// Cuts at which the run of a node may end, and its length.
#[derive(Clone, Copy)]
struct Limit {
    window: Window,
    /// First and last cut.
    ends: (usize, usize),
}

/// Nodes in cell order.
type Order<'n, 's> = [(&'n Candidate<'s>, &'n NodeTable)];

impl<'s, 'a> Division<'s, 'a> {
    /// Prepares the division for one round and spread.
    pub(crate) fn new(site: &'s Site<'a>, round: Round, spread: Spread) -> Self {
        let all = site.demand.vcpus;
        let floats = site.demand.floating();
        // Runs begin and end with whole guest cores; a guest with floating vCPUs has none. Where
        // the guest is shown equal dies or sockets, they are whole, too.
        let step = match floats.is_empty() {
            true => round.level.threads() * spread.exact.unwrap_or(1) as u32,
            false => 1,
        };
        let cuts: Vec<u32> = (0..=all / step).map(|index| index * step).collect();
        let before = |set: &crate::types::idset::VcpuSet| -> Vec<usize> {
            let mut ids = set.iter().peekable();
            let mut seen = 0;
            let counts = cuts.iter().map(|cut| {
                while ids.next_if(|vcpu| vcpu.0 < *cut).is_some() {
                    seen += 1;
                }
                seen
            });
            counts.collect()
        };
        Self {
            dedicated: before(&site.demand.dedicated),
            floating: before(&floats),
            site,
            round,
            spread,
            cuts,
        }
    }

    /// Returns the first fields of the keys of all placements on so many nodes, with the best
    /// values that a choice of CPUs could give.
    pub(crate) fn bar(&self, count: usize, far: u32, distance: u64, autostart: u32) -> Bar {
        Bar {
            autostart,
            nodes: count as u32,
            far_devices: far,
            round: self.round.rank(self.site),
            bare_nodes: 0,
            uneven: match self.last().is_multiple_of(count) {
                true => 0,
                false => self.step() as u32,
            },
            distance,
        }
    }

    /// Returns the number of units of the whole guest.
    pub(crate) fn all_units(&self) -> usize {
        self.units(0, self.last())
    }

    /// Returns the memory that must fit node by node, in KiB; 0 where it is counted together.
    pub(crate) fn memory(&self) -> u64 {
        if self.each_has_memory() {
            self.site.demand.memory.0
        } else {
            0
        }
    }

    /// Returns the number of the last cut, which is the largest number of runs.
    pub(crate) fn last(&self) -> usize {
        self.cuts.len() - 1
    }

    /// Works out how much of the guest a node can take.
    pub(crate) fn candidate(&self, index: usize) -> Candidate<'s> {
        let site = self.site;
        let node = &site.nodes[index];
        // By CPUs: units for dedicated vCPUs, shared CPUs for floating ones. Units that no
        // autostart definition claims bound the best key of a set of nodes.
        let (room, clean) = self.room(node);
        let units = room.min(self.all_units());
        let threads = self.round.level.threads() as usize;
        let floating = if self.floating[self.last()] > 0 {
            node.shared.len()
        } else {
            0
        };
        let most = match site.demand.settled.is_empty() {
            true => (units * threads + floating) / self.step(),
            false => self.last(), // settled vCPUs need no CPU
        };
        // By memory: the share grows with the cut, so the largest that fits is found by bisection.
        let fits = |cut: &usize| self.memory_fits(node, self.share(0, *cut));
        let by_memory = match self.each_has_memory() {
            true => (0..=self.last())
                .collect::<Vec<_>>()
                .partition_point(fits)
                .saturating_sub(1),
            false => self.last(),
        };
        let most = most.min(by_memory).min(self.last());
        let memory = self.share(0, most).0;
        let free = site
            .most_available(node.id, self.round.page)
            .filter(|_| site.demand.bind);
        Candidate {
            node,
            index,
            units,
            clean,
            most,
            memory: if self.each_has_memory() { memory } else { 0 },
            leftover: free.unwrap_or(u64::MAX / 2).saturating_sub(memory),
        }
    }

    /// Returns the number of units of a node, and how many of them no autostart definition claims.
    fn room(&self, node: &NodeView) -> (usize, usize) {
        let level = self.round.level;
        let cores = node.cores.iter().filter(|core| core.kind == self.round.kind);
        let count = |core: &CoreView| {
            let units = level.units_of(core) as usize;
            let clean = match core.is_claimed() {
                true => level
                    .units(core, self.site)
                    .iter()
                    .filter(|unit| unit.cost.autostart == 0)
                    .count(),
                false => units,
            };
            (units, clean)
        };
        let Some(each) = self.spread.exact else {
            return cores
                .map(count)
                .fold((0, 0), |sum, more| (sum.0 + more.0, sum.1 + more.1));
        };
        // Only whole groups count.
        let mut groups: Vec<(Spot, usize, usize)> = Vec::new();
        for core in cores {
            let (units, clean) = count(core);
            let spot = core.spot(node.id, self.site.mirror());
            match groups.iter_mut().find(|(known, ..)| *known == spot) {
                Some(group) => (group.1, group.2) = (group.1 + units, group.2 + clean),
                None => groups.push((spot, units, clean)),
            }
        }
        let whole = groups.iter().filter(|(_, units, _)| *units >= each);
        whole.fold((0, 0), |sum, (_, _, clean)| {
            (sum.0 + each, sum.1 + each.min(*clean))
        })
    }

    /// Returns the number of vCPUs between two cuts.
    pub(crate) fn step(&self) -> usize {
        self.cuts.get(1).map_or(1, |cut| *cut as usize).max(1)
    }

    /// Lays the vCPUs on these nodes in this order, each node getting a number of cuts within the
    /// window. `None` where that is impossible or cannot beat `best`.
    pub(crate) fn lay(
        &self,
        order: &Order<'_, 's>,
        window: Window,
        bar: Bar,
        best: Option<&Key>,
    ) -> Option<Placed> {
        let ids: Vec<NodeId> = order.iter().map(|(at, _)| at.node.id).collect();
        if !self.each_has_memory() && !self.site.memory_fits_together(&ids, self.round.page) {
            return None;
        }
        let limits = self.limits(order, window)?;
        // Cell 0 gets the memory that rounding leaves over. With three nodes and more that is known
        // only afterwards: where it is too much, divide once more, leaving as little over as
        // possible.
        let pieces = self.pieces(&Ways::new(self, order, &limits, false)?, bar, best)?;
        let (pieces, careful) = match pieces.iter().all(|piece| self.piece_fits(piece)) {
            true => (pieces, false),
            false if order.len() < 3 => return None,
            false => (
                self.pieces(&Ways::new(self, order, &limits, true)?, bar, best)?,
                true,
            ),
        };
        if !pieces.iter().all(|piece| self.piece_fits(piece)) {
            return None;
        }
        let bounded = careful || order.iter().any(|(_, table)| table.is_bounded());
        let beside = Beside {
            distance: bar.distance,
            ..Beside::default()
        };
        let placed = finish::assemble(self.site, &self.round, pieces, &beside)?;
        (!self.round.exact || !placed.key.untrue).then(|| Placed {
            bounded: placed.bounded || bounded,
            ..placed
        })
    }

    /// Returns, for each node, the cuts at which its run may end, and the window of its length. A
    /// package that is shown as a socket gets as many vCPUs as each other, and all of its nodes in
    /// a row; `None` if that is impossible.
    fn limits(&self, order: &Order<'_, 's>, window: Window) -> Option<Vec<Limit>> {
        let whole = |at: usize| Limit {
            window,
            ends: (at + 1, (self.last() + at + 1).saturating_sub(order.len())),
        };
        let packages: Option<Vec<u32>> = order.iter().map(|(at, _)| at.node.package).collect();
        let packages = match (self.round.exact, self.site.mirror(), packages) {
            (true, Mirror::Caches, Some(packages)) => packages,
            _ => return Some((0..order.len()).map(whole).collect()),
        };
        let runs: Vec<&[u32]> = packages.chunk_by(|a, b| a == b).collect();
        let first = |package: &u32| packages.iter().position(|other| other == package);
        let together = packages
            .iter()
            .enumerate()
            .all(|(at, package)| at == 0 || packages[at - 1] == *package || first(package) == Some(at));
        if !together || runs.len() > self.site.most_packages() || !self.last().is_multiple_of(runs.len()) {
            return None;
        }
        let each = self.last() / runs.len();
        let mut limits = Vec::with_capacity(order.len());
        for (number, run) in runs.iter().enumerate() {
            let (from, to) = (number * each, (number + 1) * each);
            for at in 0..run.len() {
                let rest = run.len() - at - 1;
                limits.push(Limit {
                    window,
                    ends: match rest {
                        0 => (to, to),
                        _ => (from + at + 1, to.checked_sub(rest)?),
                    },
                });
            }
        }
        Some(limits)
    }

    fn piece_fits(&self, piece: &Piece<'_>) -> bool {
        !self.each_has_memory()
            || self
                .site
                .memory_fits(piece.node.id, piece.memory, self.round.page)
    }

    /// Returns the pieces of the cheapest way, `None` where that cannot beat `best`.
    fn pieces(&self, ways: &Ways<'_, 's, 'a>, bar: Bar, best: Option<&Key>) -> Option<Vec<Piece<'s>>> {
        let least = ways.cost(0, 0, self.site.max_llcs)?;
        let bar = Bar {
            autostart: bar.autostart.max(least.autostart),
            ..bar
        };
        if best.is_some_and(|best| (bar, least.tail()) > (best.bar(), best.tail())) {
            return None;
        }
        let mut pieces = Vec::new();
        let (mut from, mut left) = (0, self.site.max_llcs);
        let mut lists = HashMap::new();
        ways.list(0, 0, left, &mut lists);
        for (at, (candidate, table)) in ways.order.iter().enumerate() {
            let (step, _) = lists.get(&(at, from, left))?;
            pieces.push(Piece {
                cell: None,
                vcpus: (self.cuts[from]..self.cuts[step.to]).map(VcpuId).collect(),
                memory: self.share(from, step.to),
                node: candidate.node,
                cpus: table.cpus_of(step.row, self.units(from, step.to)).to_vec(),
                cost: step.cost,
            });
            (from, left) = (step.to, left - ways.caches(step.cost));
        }
        let shares = pieces.iter().map(|piece| piece.memory.0);
        let rest = shares.fold(0, u64::saturating_add);
        let left = self.site.demand.memory.0.saturating_sub(rest);
        pieces[0].memory.0 = pieces[0].memory.0.saturating_add(left);
        Some(pieces)
    }

    fn units(&self, from: usize, to: usize) -> usize {
        (self.dedicated[to] - self.dedicated[from]) / self.round.level.threads() as usize
    }

    fn share(&self, from: usize, to: usize) -> KiB {
        let vcpus = self.cuts[to] - self.cuts[from];
        memory::share(
            self.site.demand.memory,
            vcpus,
            self.site.demand.vcpus,
            self.round.page,
        )
    }

    /// Returns whether each node's memory is for its own vCPUs, so that it counts node by node.
    fn each_has_memory(&self) -> bool {
        self.site.demand.make_cells
    }

    fn memory_fits(&self, node: &NodeView, memory: KiB) -> bool {
        // The real share is rounded to whole pages only when all cells are known.
        let page = self.round.page.map_or(1, |page| page.0.max(1));
        !self.site.demand.bind
            || self
                .site
                .memory_fits(node.id, KiB(memory.0 - memory.0 % page), self.round.page)
    }

    /// Returns whether a node with so many units has enough CPUs left for the extra ones, by
    /// numbers alone.
    fn leaves_extra(&self, node: &NodeView, units: usize) -> bool {
        let used = units * self.round.level.threads() as usize;
        used + self.site.demand.extra_min as usize <= node.free as usize
    }

    /// Returns whether units of this cost leave a node enough CPUs for floating vCPUs and, on the
    /// node of cell 0, for extra CPUs. Only a thrifty search knows: any other gets true.
    fn leaves_room(&self, node: &NodeView, first: bool, floating: usize, units: usize, cost: Cost) -> bool {
        let demand = self.site.demand;
        if !self.site.thrifty {
            return true;
        }
        let scarce = cost.scarce.unsigned_abs() as usize;
        let extra = if first { demand.extra_min as usize } else { 0 };
        if self.round.level == Level::Isolate && demand.extra_min > 0 {
            return extra == 0 || extra + scarce <= node.free as usize;
        }
        let spare = node.cores.iter().flat_map(|core| &core.spare);
        let unshared = spare.filter(|cpu| !node.shared.contains(**cpu)).count();
        // Extra CPUs are first taken from those that floating vCPUs cannot use.
        let left = (unshared + scarce).saturating_sub(units * self.round.level.threads() as usize);
        floating == 0 || floating + scarce + extra.saturating_sub(left) <= node.shared.len()
    }

    /// Returns the memory of cell 0, which is what the other cells leave: exact for two cells, a
    /// lower bound for more.
    fn first_share(&self, to: usize, count: usize) -> KiB {
        match count {
            2 => {
                let second = self.share(to, self.last());
                KiB(self.site.demand.memory.0.saturating_sub(second.0))
            }
            _ => self.share(0, to),
        }
    }
}
