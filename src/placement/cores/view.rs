//! Nodes and cores of the host as one demand sees them.

use crate::host::{Core, Host, Llc};
use crate::placement::mirror::{Mirror, Spot};
use crate::placement::rank::Cost;
use crate::placement::{Demand, Supply};
use crate::types::ids::{HostCpu, NodeId};
use crate::types::idset::CpuSet;

/// NUMA node as seen by one demand.
pub(crate) struct NodeView {
    /// Node number.
    pub id: NodeId,
    /// Cores, by first CPU.
    pub cores: Vec<CoreView>,
    /// CPUs of the node that floating vCPUs may use.
    pub shared: CpuSet,
    /// Number of the node's free dedicated CPUs.
    pub free: u32,
    /// Number of the guest's passed-through devices on the node.
    pub devices: u32,
    /// Package of all its cores; `None` where they are of several.
    pub package: Option<u32>,
    /// Nodes that hold the memory of its vCPUs, nearest first: itself, if it has memory.
    pub memory: Vec<NodeId>,
}

/// Core as seen by one demand.
pub(crate) struct CoreView {
    /// All online CPUs.
    pub all: Vec<HostCpu>,
    /// CPUs a dedicated vCPU may have, least claimed first, then ascending.
    pub free: Vec<HostCpu>,
    /// Free CPUs an isolated emulator thread or iothread may have, also outside a `vcpu@cpuset`.
    pub spare: Vec<HostCpu>,
    /// Number of its last-level cache.
    pub llc: usize,
    /// Size of that cache in KiB, divided by the cores of the host that share it.
    pub cache: i64,
    pub package: u32,
    /// Kind of core; 0 is the fastest.
    pub kind: u32,
    /// All CPUs of the core may be withheld from other guests.
    pub isolable: bool,
    /// Claimed CPUs of `all` with what taking each costs.
    pub(super) claimed: Vec<(HostCpu, Cost)>,
}

impl CoreView {
    /// Returns whether at least one CPU of the core is not free.
    pub(crate) fn is_broken(&self) -> bool {
        self.spare.len() < self.all.len()
    }

    /// Returns whether a definition claims a CPU of the core.
    pub(crate) fn is_claimed(&self) -> bool {
        !self.claimed.is_empty()
    }

    /// Returns the place of a guest core on this core.
    pub(crate) fn spot(&self, node: NodeId, mirror: Mirror) -> Spot {
        mirror.spot_at(self.package, node, self.llc)
    }

    /// Returns the cost of taking a claimed CPU.
    pub(crate) fn claim_cost(&self, cpu: HostCpu) -> Cost {
        self.claimed
            .iter()
            .find(|(claimed, _)| *claimed == cpu)
            .map_or(Cost::default(), |(_, cost)| *cost)
    }
}

/// Returns, for each last-level cache, its size in KiB divided by the cores that share it, and the
/// number of these.
pub(super) fn cache_shares(host: &Host) -> Vec<(i64, usize)> {
    let mut cores = vec![0; host.llcs.len()];
    for core in &host.cores {
        if let Some(count) = cores.get_mut(core.llc) {
            *count += 1;
        }
    }
    let share = |(llc, cores): (&Llc, usize)| {
        let share = llc.size.0 / u64::max(cores as u64, 1);
        (share as i64, cores)
    };
    host.llcs.iter().zip(cores).map(share).collect()
}

pub(super) fn view(core: &Core, demand: &Demand, supply: &Supply) -> CoreView {
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
        cache: 0,
        package: core.package,
        kind: demand.core_kind.seen(core.kind),
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
