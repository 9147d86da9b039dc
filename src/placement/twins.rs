//! Nodes that are equal in every way: a search needs to try only the first of them.
//!
//! If two nodes look alike, are equally far from all others, and each CPU of the first comes before
//! its counterpart on the second, then a placement that uses the second node without the first is
//! beaten by the one with the two exchanged.

use crate::placement::cores::{NodeView, Site};
use crate::placement::rank::Cost;
use crate::types::ids::{CellId, HostCpu};

/// Returns, by position in [`Site::nodes`], the last earlier node that is a twin.
pub(crate) fn find(site: &Site<'_>) -> Vec<Option<usize>> {
    let faces: Vec<Face> = site.nodes.iter().map(|node| Face::new(site, node)).collect();
    let count = faces.len();
    (0..count)
        .map(|b| {
            (0..b).rev().find(|a| {
                let others = || (0..count).filter(|other| other != a && *other != b);
                faces[*a].is_before(&faces[b])
                    && same_packages(site, *a, b)
                    && same_memory(site, *a, b)
                    && same_cells(site, *a, b)
                    && others().all(|other| {
                        site.distances().between(*a, other) == site.distances().between(b, other)
                    })
            })
        })
        .collect()
}

/// Everything about a node's CPUs that placement depends on.
struct Face {
    /// CPUs, ascending.
    cpus: Vec<HostCpu>,
    /// For each CPU: its core, its uses (free, spare, shared, isolable), and its cost.
    looks: Vec<(usize, [bool; 4], Cost)>,
    /// For each core: its kind, its cache (counted in the node) and its share of it, and whether it
    /// may be isolated.
    cores: Vec<(u32, usize, i64, bool)>,
    devices: Vec<(Option<CellId>, u32)>,
}

impl Face {
    fn new(site: &Site<'_>, node: &NodeView) -> Self {
        let mut all = Vec::new();
        let mut cores = Vec::new();
        let mut caches = Vec::new();
        for (number, core) in node.cores.iter().enumerate() {
            let cache = caches.iter().position(|llc| *llc == core.llc).unwrap_or_else(|| {
                caches.push(core.llc);
                caches.len() - 1
            });
            cores.push((core.kind, cache, core.cache, core.isolable));
            for cpu in &core.all {
                let uses = [
                    core.free.contains(cpu),
                    core.spare.contains(cpu),
                    node.shared.contains(*cpu),
                    site.supply.isolable.contains(*cpu),
                ];
                all.push((*cpu, (number, uses, core.claim_cost(*cpu))));
            }
        }
        all.sort_unstable_by_key(|(cpu, _)| *cpu);
        let (cpus, looks) = all.into_iter().unzip();
        Self {
            cpus,
            looks,
            cores,
            devices: std::iter::once((None, node.devices))
                .chain(site.demand.cells.iter().map(|cell| {
                    let own = site.devices_of(cell.id, node.id);
                    (Some(cell.id), own)
                }))
                .collect(),
        }
    }

    fn is_before(&self, other: &Self) -> bool {
        self.devices == other.devices
            && self.cores == other.cores
            && self.looks == other.looks
            && self.cpus.iter().zip(&other.cpus).all(|(a, b)| a < b)
    }
}

/// Returns whether exchanging two nodes changes no package: each has a package of its own, or both
/// are of one.
fn same_packages(site: &Site<'_>, a: usize, b: usize) -> bool {
    let package = |node: usize| site.nodes[node].package;
    let alone = |node: usize| {
        let others = (0..site.nodes.len()).filter(|other| *other != node);
        package(node).is_some() && others.into_iter().all(|other| package(other) != package(node))
    };
    (package(a).is_some() && package(a) == package(b)) || (alone(a) && alone(b))
}

fn same_memory(site: &Site<'_>, a: usize, b: usize) -> bool {
    let own = |node: usize| site.nodes[node].memory == [site.nodes[node].id];
    if !own(a) || !own(b) {
        return site.nodes[a].memory == site.nodes[b].memory;
    }
    let (a, b) = (site.nodes[a].id, site.nodes[b].id);
    site.demand
        .pages
        .iter()
        .all(|page| site.available(a, *page) == site.available(b, *page))
}

fn same_cells(site: &Site<'_>, a: usize, b: usize) -> bool {
    let (a, b) = (site.nodes[a].id, site.nodes[b].id);
    let limits = site.demand.cells.iter().filter_map(|cell| cell.nodes.as_ref());
    limits
        .into_iter()
        .all(|nodes| nodes.contains(a) == nodes.contains(b))
}
