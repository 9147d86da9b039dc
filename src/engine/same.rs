//! Placements that mirror the topology a guest has: its shape is decided once, so every later
//! placement has to mirror it.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Topology;
use crate::engine::supply::Supplies;
use crate::engine::topology;
use crate::host::{Core, Host};
use crate::placement::{self, Demand, Placed, SmtRule};
use crate::types::ids::NodeId;
use crate::types::idset::{CpuSet, NodeSet};

/// Largest number of sets tried that have one node from each package.
const MOST_CHOICES: usize = 64;

/// Returns whether a placement mirrors the topology a guest was given. One die is also shown to a
/// guest whose caches cannot be shown.
pub(crate) fn mirrors(host: &Host, placed: &Placed, shown: Topology, x86: bool) -> bool {
    let fresh = topology::topology(host, placed, x86);
    fresh.sockets == shown.sockets && (shown.dies == 1 || fresh.dies == shown.dies)
}

/// Returns the best placement that mirrors the topology. The search is given, of each last-level
/// cache, as many cores as a die has, and the nodes of one package, or one node of each package.
pub(crate) fn place(
    host: &Host,
    demand: &Demand,
    supplies: &Supplies,
    shown: Topology,
    x86: bool,
) -> Option<Placed> {
    let within = match shown.dies {
        1 => demand.within.clone(),
        _ => Some(whole_dies(host, demand, supplies, shown)),
    };
    let tries = node_choices(host, demand, shown).into_iter().map(|nodes| Demand {
        within: within.clone(),
        nodes,
        ..demand.clone()
    });
    tries
        .filter_map(|demand| placement::place(host, &demand, &supplies.now, &supplies.empty).ok())
        .filter(|placed| mirrors(host, placed, shown, x86))
        .min_by(|a, b| a.key.cmp(&b.key))
}

/// Returns, of each cache that has enough of them, the free CPUs of as many cores as a die has: a
/// guest fills such caches completely.
fn whole_dies(host: &Host, demand: &Demand, supplies: &Supplies, shown: Topology) -> CpuSet {
    let supply = &supplies.now;
    let open = |core: &Core| -> Vec<_> {
        let inside = |cpu: &crate::types::ids::HostCpu| {
            supply.free.contains(*cpu) && demand.within.as_ref().is_none_or(|within| within.contains(*cpu))
        };
        core.cpus.iter().copied().filter(inside).collect()
    };
    let usable = |core: &Core| {
        let isolable = || core.cpus.iter().all(|cpu| supply.isolable.contains(*cpu));
        open(core).len() >= shown.threads.max(1) as usize && (demand.smt != SmtRule::Isolate || isolable())
    };
    let mut caches: BTreeMap<usize, Vec<&Core>> = BTreeMap::new();
    for core in host.cores.iter().filter(|core| usable(core)) {
        caches.entry(core.llc).or_default().push(core);
    }
    let claimed = |core: &Core| {
        let count = |set: &CpuSet| core.cpus.iter().filter(|cpu| set.contains(**cpu)).count();
        (
            count(&supply.claimed_autostart),
            count(&supply.claimed_other),
            core.cpus.first().copied(),
        )
    };
    let mut within = CpuSet::new();
    for cores in caches
        .values_mut()
        .filter(|cores| cores.len() >= shown.cores as usize)
    {
        cores.sort_by_key(|core| claimed(core));
        for core in cores.iter().take(shown.cores as usize) {
            within.extend(open(core));
        }
    }
    within
}

/// Returns the sets of nodes on which the guest would have that many sockets; `None`: any node.
fn node_choices(host: &Host, demand: &Demand, shown: Topology) -> Vec<Option<NodeSet>> {
    let allowed = |node: &NodeId| demand.nodes.as_ref().is_none_or(|nodes| nodes.contains(*node));
    let mut packages: BTreeMap<u32, BTreeSet<NodeId>> = BTreeMap::new();
    for core in host.cores.iter().filter(|core| allowed(&core.node)) {
        packages.entry(core.package).or_default().insert(core.node);
    }
    let mut choices = vec![demand.nodes.clone()];
    if shown.sockets == 1 {
        choices.extend(
            packages
                .values()
                .map(|nodes| Some(nodes.iter().copied().collect())),
        );
        return choices;
    }
    let mut some: Vec<NodeSet> = vec![NodeSet::new()];
    for nodes in packages.values() {
        let with = |set: &NodeSet, node: &NodeId| set.union(&NodeSet::one(*node));
        some = some
            .iter()
            .flat_map(|set| nodes.iter().map(move |node| with(set, node)))
            .take(MOST_CHOICES)
            .collect();
    }
    choices.extend(some.into_iter().map(Some));
    choices
}
