//! CPUs the host has left for one demand, node by node and core by core.

mod budget;
mod view;

use std::cell::{Cell, OnceCell};

use crate::host::{Core, Host};
use crate::placement::distance::{self, Distances};
use crate::placement::mirror::Mirror;
use crate::placement::threading;
use crate::placement::threading::Level;
use crate::placement::twins;
use crate::placement::{Demand, Device, Supply};
use crate::types::ids::{CellId, HostCpu, NodeId};
use crate::types::idset::CpuSet;

pub(crate) use budget::Effort;
pub(crate) use view::{CoreView, NodeView};
use view::{cache_shares, view};

/// Host as seen by one demand.
pub(crate) struct Site<'a> {
    /// Host that is searched.
    pub host: &'a Host,
    /// Needs of the guest.
    pub demand: &'a Demand,
    /// CPUs and memory that can be given.
    pub supply: &'a Supply,
    /// Nodes the guest may use, by id, those without CPUs included.
    pub nodes: Vec<NodeView>,
    /// Ways to lay vCPUs on cores, best first.
    pub levels: Vec<Level>,
    /// Kinds of cores, fastest first; a guest uses one kind only.
    pub kinds: Vec<u32>,
    /// The guest's topology shows where its cores are, which counts in the order of preference.
    pub shows: bool,
    /// Largest number of last-level caches; 0 where there is no limit or the demand cannot reach
    /// it.
    pub max_llcs: usize,
    /// Fewest last-level caches that could hold the guest's cores.
    least_llcs: usize,
    /// The search prefers, before all else, CPUs that floating vCPUs and extra CPUs do not need.
    pub thrifty: bool,
    /// The search ends at the first placement found.
    pub first: bool,
    /// Steps left to the search.
    steps: Cell<usize>,
    /// Steps of those that the present ration may not use.
    reserve: Cell<usize>,
    cut_short: Cell<bool>,
    cores: OnceCell<Vec<u32>>,
    distances: OnceCell<Distances>,
    twins: OnceCell<Vec<Option<usize>>>,
}

impl<'a> Site<'a> {
    /// Collects the nodes and cores the demand may use.
    pub(crate) fn new(host: &'a Host, demand: &'a Demand, supply: &'a Supply, effort: Effort) -> Self {
        let allowed = |id: NodeId| demand.nodes.as_ref().is_none_or(|nodes| nodes.contains(id));
        // Cores refer to nodes by number, so the nodes the demand allows come first.
        let mut nodes: Vec<NodeView> = host
            .nodes
            .iter()
            .filter(|node| allowed(node.id))
            .map(|node| NodeView {
                id: node.id,
                cores: Vec::new(),
                shared: CpuSet::new(),
                free: 0,
                devices: demand.devices_on(node.id),
                package: None,
                memory: distance::homes(host, node),
            })
            .collect();
        // CPUs outside a `vcpu@cpuset` count too: isolated threads may use them.
        let mut kinds: Vec<u32> = Vec::new();
        let mut widest = 1;
        let shares = cache_shares(host);
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
            let view = CoreView {
                cache: shares.get(core.llc).map_or(0, |(share, _)| *share),
                ..view(core, demand, supply)
            };
            node.package = match node.cores.is_empty() {
                true => Some(core.package),
                false => node.package.filter(|package| *package == core.package),
            };
            node.free += view.spare.len() as u32;
            widest = widest.max(view.free.len() as u32);
            if !view.free.is_empty() && demand.core_kind.takes(view.kind) && !kinds.contains(&view.kind) {
                kinds.push(view.kind);
            }
            node.cores.push(view);
        }
        // A guest whose vCPUs all float uses no kind; one keeps the loops over kinds alive.
        kinds.sort_unstable();
        if demand.dedicated.is_empty() {
            kinds = vec![0];
        }
        // A limit of caches that the guest cannot exceed would only make the search slower.
        let levels = threading::allowed(demand, widest);
        let max_llcs = demand.max_llcs as usize;
        let fewest_cores =
            demand.dedicated.len() / levels.first().map_or(1, |level| level.threads() as usize);
        let largest = shares.iter().map(|(_, cores)| *cores).max().unwrap_or(1);
        Self {
            least_llcs: fewest_cores.div_ceil(largest.max(1)),
            host,
            demand,
            supply,
            nodes,
            levels,
            kinds,
            shows: !demand.dedicated.is_empty() && demand.dedicated.len() == demand.vcpus as usize,
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
            cores: OnceCell::new(),
            distances: OnceCell::new(),
            twins: OnceCell::new(),
        }
    }

    /// Returns the CPUs of `room` on which this many vCPUs float: those that no other guest's
    /// threads are pinned to, if there are enough of them; `None`: there are too few CPUs.
    pub(crate) fn to_float(&self, room: CpuSet, vcpus: usize) -> Option<CpuSet> {
        let apart = room.difference(&self.supply.occupied);
        let mut rooms = [apart, room].into_iter();
        rooms.find(|room| room.len() >= vcpus)
    }

    /// Makes the search prefer CPUs that floating vCPUs and extra CPUs do not need.
    pub(crate) fn thrifty(mut self) -> Self {
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

    /// Returns whether one choice of CPUs can leave too few for floating vCPUs or extra CPUs where
    /// another would not.
    pub(crate) fn can_be_thrifty(&self) -> bool {
        let isolates = self.levels.contains(&Level::Isolate);
        let withholds = isolates || self.demand.withhold_siblings;
        let overlap = withholds || !self.supply.shared.is_disjoint(&self.supply.free);
        (isolates && self.demand.extra_min > 0) || (overlap && !self.demand.floating().is_empty())
    }

    /// Returns the number of passed-through devices of one cell that are on a node.
    pub(crate) fn devices_of(&self, cell: CellId, node: NodeId) -> u32 {
        let wanted = Device {
            node,
            cell: Some(cell),
        };
        self.demand
            .devices
            .iter()
            .filter(|device| **device == wanted)
            .count() as u32
    }

    /// Returns the levels of the guest's topology that show where its cores are.
    pub(crate) fn mirror(&self) -> Mirror {
        self.demand.mirror
    }

    /// Returns the largest number of dies, or sockets, that count as showing a guest on `parts`
    /// nodes as it is. More than twice the caches that it needs would scatter it for the sake of a
    /// mirror.
    pub(crate) fn most_dies(&self, parts: usize) -> usize {
        match self.demand.mirror {
            Mirror::Caches if self.demand.shape.is_none() => 2 * self.least_llcs.max(parts),
            _ => usize::MAX,
        }
    }

    /// Returns the largest number of packages that sockets can show.
    pub(crate) fn most_packages(&self) -> usize {
        let limits = [
            self.demand.max_sockets,
            self.demand.shape.map(|shape| shape.sockets),
        ];
        limits
            .into_iter()
            .flatten()
            .min()
            .map_or(usize::MAX, |most| most as usize)
    }

    /// Returns the core of an online CPU.
    pub(crate) fn core_of(&self, cpu: HostCpu) -> Option<&'a Core> {
        let cores = self.cores.get_or_init(|| {
            let last = self.host.online.last().map_or(0, |cpu| cpu.0 as usize);
            let mut cores = vec![u32::MAX; last + 1];
            for (number, core) in (0..).zip(&self.host.cores) {
                for cpu in &core.cpus {
                    if let Some(slot) = cores.get_mut(cpu.0 as usize) {
                        *slot = number;
                    }
                }
            }
            cores
        });
        self.host.cores.get(*cores.get(cpu.0 as usize)? as usize)
    }

    /// Returns the distances by position in [`Site::nodes`].
    pub(crate) fn distances(&self) -> &Distances {
        self.distances.get_or_init(|| {
            let ids: Vec<NodeId> = self.nodes.iter().map(|node| node.id).collect();
            let home = |node: &NodeView| node.memory.first().copied().unwrap_or(node.id);
            let homes: Vec<NodeId> = self.nodes.iter().map(home).collect();
            Distances::new(self.host, &ids, &homes)
        })
    }

    /// Returns, by position in [`Site::nodes`], an earlier node that is equal in every way.
    pub(crate) fn twins(&self) -> &[Option<usize>] {
        self.twins.get_or_init(|| twins::find(self))
    }

    /// Returns the distance between two nodes, both directions added.
    pub(crate) fn between(&self, a: NodeId, b: NodeId) -> u64 {
        u64::from(self.host.distance(a, b)) + u64::from(self.host.distance(b, a))
    }

    /// Returns the sum of the distances between each two of these nodes, and from each of them to
    /// the nearest memory.
    pub(crate) fn distance(&self, nodes: &[NodeId]) -> u64 {
        let pairs = nodes
            .iter()
            .enumerate()
            .flat_map(|(i, a)| nodes[i + 1..].iter().map(move |b| (*a, *b)));
        let between: u64 = pairs.map(|(a, b)| self.between(a, b)).sum();
        let position = |id: &NodeId| self.nodes.binary_search_by_key(id, |node| node.id).ok();
        let to_memory = nodes.iter().filter_map(position);
        between + to_memory.map(|at| self.distances().to_memory(at)).sum::<u64>()
    }

    /// Returns the node with this number, `None` where the demand may not use it.
    pub(crate) fn node(&self, id: NodeId) -> Option<&NodeView> {
        self.nodes
            .binary_search_by_key(&id, |node| node.id)
            .ok()
            .map(|index| &self.nodes[index])
    }
}
