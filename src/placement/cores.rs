//! What the host has left, node by node and core by core, for one demand.

use std::cell::{Cell, OnceCell};

use crate::host::Host;
use crate::placement::distance::Distances;
use crate::placement::rank::Cost;
use crate::placement::threading;
use crate::placement::threading::Level;
use crate::placement::twins;
use crate::placement::{Demand, Supply};
use crate::types::ids::{HostCpu, NodeId};
use crate::types::idset::CpuSet;

/// A host as one demand sees it.
pub struct Site<'a> {
    /// The host.
    pub host: &'a Host,
    /// What is wanted.
    pub demand: &'a Demand,
    /// What there is.
    pub supply: &'a Supply,
    /// Nodes the guest may use, by id, those without CPUs included.
    pub nodes: Vec<NodeView>,
    /// Ways to lay vCPUs on cores, best first.
    pub levels: Vec<Level>,
    /// Kinds of cores there are, fastest first: one guest uses one kind.
    pub kinds: Vec<u32>,
    /// Most last-level caches; 0 where the demand cannot use more anyway.
    pub max_llcs: usize,
    /// Before all else, leave what floating vCPUs and extra CPUs need.
    pub thrifty: bool,
    /// Any place will do.
    pub first: bool,
    /// Steps the search may still take.
    steps: Cell<usize>,
    /// How many of them are for later.
    reserve: Cell<usize>,
    cut_short: Cell<bool>,
    distances: OnceCell<Distances>,
    twins: OnceCell<Vec<Option<usize>>>,
}

/// How hard a search tries.
#[derive(Debug, Clone, Copy)]
pub struct Effort {
    /// See [`Site::first`].
    pub first: bool,
    /// Steps (some tens of nanoseconds each) before it says it was cut short.
    pub steps: usize,
}

impl Effort {
    /// For the best place.
    pub const BEST: Self = Self {
        first: false,
        steps: 1_200_000,
    };
    /// To know whether there is a place at all.
    pub const ANY: Self = Self {
        first: true,
        steps: 300_000,
    };
}

/// One node.
pub struct NodeView {
    /// Its number.
    pub id: NodeId,
    /// Its cores, by first CPU.
    pub cores: Vec<CoreView>,
    /// CPUs floating vCPUs may use here.
    pub shared: CpuSet,
    /// Free dedicated CPUs here.
    pub free: u32,
    /// Passed-through devices here.
    pub devices: u32,
}

/// One core.
pub struct CoreView {
    /// All its online CPUs.
    pub all: Vec<HostCpu>,
    /// Those a dedicated vCPU may have, least claimed first, then ascending.
    pub free: Vec<HostCpu>,
    /// Free CPUs an isolated emulator or iothread may have: also outside a `vcpu@cpuset`.
    pub spare: Vec<HostCpu>,
    /// Its last-level cache.
    pub llc: usize,
    /// Its kind.
    pub kind: u32,
    /// All its CPUs may be withheld from others.
    pub isolable: bool,
    /// Which of `all` are claimed: autostart, others.
    claimed: Vec<(HostCpu, Cost)>,
}

impl CoreView {
    /// Some of its CPUs are not free.
    pub fn is_broken(&self) -> bool {
        self.spare.len() < self.all.len()
    }

    /// What taking this CPU costs in claims.
    pub fn claim_cost(&self, cpu: HostCpu) -> Cost {
        self.claimed
            .iter()
            .find(|(claimed, _)| *claimed == cpu)
            .map_or(Cost::default(), |(_, cost)| *cost)
    }
}

impl<'a> Site<'a> {
    /// Looks at every core once.
    pub fn new(host: &'a Host, demand: &'a Demand, supply: &'a Supply, effort: Effort) -> Self {
        let allowed = |id: NodeId| demand.nodes.as_ref().is_none_or(|nodes| nodes.contains(id));
        let mut nodes: Vec<NodeView> = host
            .nodes
            .iter()
            .filter(|node| allowed(node.id))
            .map(|node| NodeView {
                id: node.id,
                cores: Vec::new(),
                shared: CpuSet::new(),
                free: 0,
                devices: demand.devices.iter().filter(|on| **on == node.id).count() as u32,
            })
            .collect();
        let mut kinds: Vec<u32> = Vec::new();
        let mut widest = 1;
        for core in &host.cores {
            let Ok(index) = nodes.binary_search_by_key(&core.node, |node| node.id) else {
                continue;
            };
            let node = &mut nodes[index];
            node.shared.extend(
                core.cpus
                    .iter()
                    .copied()
                    .filter(|cpu| supply.shared.contains(*cpu)),
            );
            let view = view(core, demand, supply);
            node.free += view.spare.len() as u32;
            widest = widest.max(view.free.len() as u32);
            if !view.free.is_empty() && !kinds.contains(&view.kind) {
                kinds.push(view.kind);
            }
            node.cores.push(view);
        }
        kinds.sort_unstable();
        if kinds.is_empty() {
            kinds.push(0);
        }
        let levels = threading::allowed(demand, widest);
        let max_llcs = demand.max_llcs as usize;
        Self {
            host,
            demand,
            supply,
            nodes,
            levels,
            kinds,
            max_llcs: if max_llcs < demand.dedicated.len() {
                max_llcs
            } else {
                0
            },
            thrifty: false,
            first: effort.first,
            steps: Cell::new(effort.steps),
            reserve: Cell::new(0),
            cut_short: Cell::new(false),
            distances: OnceCell::new(),
            twins: OnceCell::new(),
        }
    }

    /// Leaves what floating vCPUs and extra CPUs need before all else.
    pub fn thrifty(mut self) -> Self {
        self.thrifty = true;
        if !self.demand.floating().is_empty() {
            let shared = &self.supply.shared;
            for core in self.nodes.iter_mut().flat_map(|node| &mut node.cores) {
                let mut free = std::mem::take(&mut core.free);
                free.sort_by_key(|cpu| (shared.contains(*cpu), core.claim_cost(*cpu), *cpu));
                core.free = free;
            }
        }
        self
    }

    /// Takes steps from what is left of this ration; false when it is used up.
    pub fn spend(&self, steps: usize) -> bool {
        let left = self.steps.get().saturating_sub(steps).max(self.reserve.get());
        self.steps.set(left);
        let enough = left > self.reserve.get();
        if !enough {
            self.cut_short.set(true);
        }
        enough
    }

    /// As [`Self::spend`] for what is to be finished once begun; false when there is nothing left
    /// at all.
    pub fn overspend(&self, steps: usize) -> bool {
        let left = self.steps.get().saturating_sub(steps);
        self.steps.set(left);
        self.reserve.set(self.reserve.get().min(left));
        if left == 0 {
            self.cut_short.set(true);
        }
        left > 0
    }

    /// Gives out the steps left in so many equal rations: from here on, the first of them.
    pub fn ration(&self, rations: usize) {
        let left = self.steps.get();
        self.reserve.set(left - left / rations.max(1));
    }

    /// A place is given up for what its CPUs leave; with others it might have been possible.
    pub fn give_up(&self) {
        if self.can_be_thrifty() {
            self.cut_short.set(true);
        }
    }

    /// Not everything was tried.
    pub fn is_cut_short(&self) -> bool {
        self.cut_short.get()
    }

    /// Whether a choice of CPUs can leave too few for floating vCPUs or extra CPUs where another
    /// would not.
    pub fn can_be_thrifty(&self) -> bool {
        let isolates = self.levels.contains(&Level::Isolate);
        let withholds = isolates || self.demand.withhold_siblings;
        let overlap = withholds || !self.supply.shared.is_disjoint(&self.supply.free);
        (isolates && self.demand.extra_min > 0) || (overlap && !self.demand.floating().is_empty())
    }

    /// Distances by position in [`Site::nodes`].
    pub fn distances(&self) -> &Distances {
        self.distances.get_or_init(|| {
            let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
            Distances::new(self.host, &ids)
        })
    }

    /// By position in [`Site::nodes`]: a node before it that is the same in every way.
    pub fn twins(&self) -> &[Option<usize>] {
        self.twins.get_or_init(|| twins::find(self))
    }

    /// Distances between each two of these nodes, summed.
    pub fn distance(&self, nodes: &[NodeId]) -> u64 {
        let between = |a: NodeId, b: NodeId| u64::from(self.host.distance(a, b) + self.host.distance(b, a));
        let pairs = nodes
            .iter()
            .enumerate()
            .flat_map(|(i, a)| nodes[i + 1..].iter().map(move |b| (*a, *b)));
        pairs.map(|(a, b)| between(a, b)).sum()
    }

    /// The kept or made node with this number.
    pub fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes
            .binary_search_by_key(&id, |node| node.id)
            .ok()
            .map(|index| &self.nodes[index])
    }
}

fn view(core: &crate::host::Core, demand: &Demand, supply: &Supply) -> CoreView {
    let mut claimed = Vec::new();
    let mut spare = Vec::new();
    for &cpu in &core.cpus {
        let cost = Cost {
            autostart: u32::from(supply.claimed_autostart.contains(cpu)),
            other: u32::from(supply.claimed_other.contains(cpu)),
            ..Cost::default()
        };
        if cost != Cost::default() {
            claimed.push((cpu, cost));
        }
        if supply.free.contains(cpu) {
            spare.push(cpu);
        }
    }
    let mut view = CoreView {
        all: core.cpus.clone(),
        free: Vec::new(),
        spare,
        llc: core.llc,
        kind: core.kind,
        isolable: core.cpus.iter().all(|cpu| supply.isolable.contains(*cpu)),
        claimed,
    };
    let inside = |cpu: &HostCpu| demand.within.as_ref().is_none_or(|within| within.contains(*cpu));
    view.free = view.spare.iter().copied().filter(inside).collect();
    if !view.claimed.is_empty() {
        let mut free = std::mem::take(&mut view.free);
        free.sort_by_key(|cpu| (view.claim_cost(*cpu), *cpu));
        view.free = free;
    }
    view
}
