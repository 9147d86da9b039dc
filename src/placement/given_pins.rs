//! Placement of vCPUs whose pins are given: by an administrator, or by virtfit at an earlier time.
//!
//! Given pins are constraints: the other vCPUs are placed around them, and if one of them collides
//! with another guest, nothing fits.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::placement::cores::{Effort, Site};
use crate::placement::pinned::{self, nodes_of};
use crate::placement::rank::Key;
use crate::placement::threading;
use crate::placement::threading::Level;
use crate::placement::{CoreKind, Demand, Placed, SmtRule, Supply};
use crate::policy::cpu_sets::floats;
use crate::types::ids::{HostCpu, NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::reason::NoPlace;

type Pins = BTreeMap<VcpuId, CpuSet>;

/// Places a guest some or all of whose pins are given.
pub(crate) fn place(host: &Host, demand: &Demand, supply: &Supply, effort: Effort) -> Option<Placed> {
    if !collisions(&demand.kept, supply).is_empty() || !valid(host, supply, &demand.kept) {
        return None;
    }
    let kept: VcpuSet = demand.kept.keys().copied().collect();
    if demand.dedicated.is_subset(&kept) {
        return pinned::evaluate(host, demand, supply, demand.kept.clone());
    }
    let widest = host
        .cores
        .iter()
        .map(|core| core.cpus.len() as u32)
        .max()
        .unwrap_or(1);
    threading::allowed(demand, widest)
        .into_iter()
        .find_map(|level| fill(host, demand, supply, level, effort))
}

/// Returns the placement these pins make, if all of them still satisfy the demand.
pub(crate) fn still_good(host: &Host, demand: &Demand, supply: &Supply, pins: &Pins) -> Option<Placed> {
    let given = Demand {
        kept: pins.clone(),
        ..demand.clone()
    };
    let placed = place(host, &given, supply, Effort::BEST)?;
    // The search checks what is given only against the host and other guests; the demand's own
    // limits are checked here.
    let cpus: CpuSet = placed.key.cpus.iter().copied().collect();
    let one_each = demand
        .dedicated
        .iter()
        .all(|vcpu| pins.get(&vcpu).is_some_and(|pin| pin.len() == 1));
    let allowed = demand
        .within
        .as_ref()
        .map_or(supply.free.clone(), |w| supply.free.intersection(w));
    let site = Site::new(host, demand, supply, Effort::BEST);
    let kinds: Vec<u32> = placed
        .key
        .cpus
        .iter()
        .filter_map(|cpu| Some(host.core_of(*cpu)?.kind))
        .collect();
    let level = match demand.smt {
        SmtRule::Isolate => Level::Isolate,
        _ => pinned::level(&placed),
    };
    // Nodes, cells, caches and devices have limits of their own.
    let in_nodes = placed
        .nodes
        .iter()
        .all(|node| demand.nodes.as_ref().is_none_or(|n| n.contains(*node)));
    let most = demand.max_nodes.map_or(usize::MAX, |most| most as usize);
    let in_cells = demand.cells.iter().zip(&placed.cells).all(|(cell, place)| {
        let allowed = |node| cell.nodes.as_ref().is_none_or(|nodes| nodes.contains(node));
        place.node.is_none_or(allowed)
    });
    (one_each
        && cpus.is_subset(&allowed)
        && site.levels.contains(&level)
        && kinds.iter().all(|kind| demand.core_kind.takes(*kind))
        && (demand.core_kind == CoreKind::Any || kinds.windows(2).all(|pair| pair[0] == pair[1]))
        && in_nodes
        && in_cells
        && placed.cells.len() >= demand.cells.len()
        && (!demand.cells.is_empty() || placed.nodes.len() <= most)
        && (demand.max_llcs == 0 || placed.key.llcs <= demand.max_llcs)
        && !(demand.devices_required && placed.key.far_devices > 0))
        .then_some(placed)
}

/// Places the memory of vCPUs whose pins must not change: on the nodes of these pins, or unbound
/// where some vCPU has no pin.
///
/// # Errors
/// The memory does not fit there in the pages asked for.
pub(crate) fn as_they_are(
    host: &Host,
    demand: &Demand,
    supply: &Supply,
    pins: &Pins,
) -> Result<Placed, Vec<NoPlace>> {
    // Pins that reach every one of several nodes bind the memory to none.
    let all_pinned = pins.len() as u32 == demand.vcpus;
    let nodes = if all_pinned {
        nodes_of(host, pins.values())
    } else {
        Vec::new()
    };
    let nodes = if nodes.len() < host.nodes.len() || nodes.len() == 1 {
        nodes
    } else {
        Vec::new()
    };
    // Cells play no part here: the memory of the whole guest is bound, or none.
    let demand = Demand {
        bind: demand.bind && !nodes.is_empty(),
        cells: Vec::new(),
        ..demand.clone()
    };
    let site = Site::new(host, &demand, supply, Effort::ANY);
    let page = demand
        .pages
        .iter()
        .find(|page| site.memory_fits_together(&nodes, **page));
    let Some(page) = page else {
        return Err(vec![crate::placement::explain::memory_reason(
            host, &demand, supply,
        )]);
    };
    let homes = site.homes_of_all(&nodes);
    let cell = |_: &NodeId| pinned::whole(&demand, &nodes, &homes);
    Ok(Placed {
        vcpus: pins.clone(),
        cells: nodes.first().map(cell).into_iter().collect(),
        memory_nodes: homes,
        nodes,
        page: *page,
        threads: 0,
        own_cores: true,
        extra: Vec::new(),
        withheld: CpuSet::new(),
        bounded: false,
        key: Key::default(),
    })
}

/// Lists the CPUs of given pins that another guest holds, or another vCPU of the guest. A mask that
/// covers all dedicated CPUs floats, so it holds nothing.
pub(crate) fn collisions(pins: &Pins, supply: &Supply) -> Vec<(VcpuId, HostCpu)> {
    let held = |pin: &CpuSet| pin.iter().find(|cpu| supply.held.contains_key(cpu));
    let mut found: Vec<(VcpuId, HostCpu)> = pins
        .iter()
        .filter(|(_, pin)| !floats(pin, &supply.dedicated))
        .filter_map(|(vcpu, pin)| Some((*vcpu, held(pin)?)))
        .collect();
    let mut seen = CpuSet::new();
    for (vcpu, pin) in pins.iter().filter(|(_, pin)| pin.len() == 1) {
        if let Some(cpu) = pin.first().filter(|cpu| !seen.insert(*cpu)) {
            found.push((*vcpu, cpu));
        }
    }
    found
}

/// Returns whether every CPU of every pin is online and in the cpuset of guests; a mask that floats
/// need only have some CPUs in the cpuset.
fn valid(host: &Host, supply: &Supply, pins: &Pins) -> bool {
    pins.values().all(|pin| {
        !pin.is_empty()
            && pin.is_subset(&host.online)
            && (allowed(host, pin) || floats(pin, &supply.dedicated))
    })
}

/// Returns whether `machine.slice`'s cpuset has every CPU of a pin; otherwise setting the pin would
/// fail.
pub(crate) fn allowed(host: &Host, pin: &CpuSet) -> bool {
    host.guest_cpus.as_ref().is_none_or(|cpus| pin.is_subset(cpus))
}

/// Gives CPUs at this level to the dedicated vCPUs without a pin, guest core by guest core around
/// the given pins.
fn fill(host: &Host, demand: &Demand, supply: &Supply, level: Level, effort: Effort) -> Option<Placed> {
    // CPUs of given pins are not free for others.
    let threads = level.threads();
    let mut pins = demand.kept.clone();
    let mut free = supply.free.clone();
    for cpu in pins
        .values()
        .filter(|pin| !floats(pin, &supply.dedicated))
        .flat_map(CpuSet::iter)
    {
        free.remove(cpu);
    }
    // A guest core with a given pin is bound to the core of that pin: its other vCPUs go there.
    let blocks: Vec<VcpuSet> = (0..demand.vcpus.div_ceil(threads))
        .map(|block| {
            (block * threads..(block + 1) * threads)
                .map(VcpuId)
                .collect::<VcpuSet>()
        })
        .map(|block| block.intersection(&demand.dedicated))
        .collect();
    let given = |block: &&VcpuSet| block.iter().any(|vcpu| demand.kept.contains_key(&vcpu));
    for block in blocks.iter().filter(given) {
        let single = block
            .iter()
            .filter_map(|vcpu| demand.kept.get(&vcpu).filter(|pin| pin.len() == 1)?.first());
        let Some(core) = single.into_iter().next().and_then(|cpu| host.core_of(cpu)) else {
            if threads == 1 {
                continue; // the pin is a mask of several CPUs: it needs no core
            }
            return None;
        };
        for vcpu in block.iter().filter(|vcpu| !demand.kept.contains_key(vcpu)) {
            let cpu = core.cpus.iter().copied().find(|cpu| free.contains(*cpu))?;
            free.remove(cpu);
            pins.insert(vcpu, CpuSet::one(cpu));
        }
        if !level.shares() {
            core.cpus.iter().for_each(|cpu| {
                free.remove(*cpu);
            });
        }
    }
    // All other guest cores are placed by the search, on the nodes the pins are on already.
    let settled: VcpuSet = pins.keys().copied().collect();
    let nodes = nodes_of(host, pins.values());
    let single = nodes.len() <= 1;
    let rest = Demand {
        dedicated: demand.dedicated.difference(&settled),
        settled,
        kept: Pins::new(),
        threads: Some(threads),
        make_cells: demand.make_cells && single,
        max_nodes: Some((nodes.len() as u32).max(1)),
        nodes: demand
            .cells
            .is_empty()
            .then(|| nodes.iter().copied().collect::<NodeSet>()),
        cells: demand
            .cells
            .iter()
            .map(|cell| {
                let here = nodes_of(
                    host,
                    pins.iter()
                        .filter(|(v, _)| cell.vcpus.contains(**v))
                        .map(|(_, p)| p),
                );
                let forced = (!here.is_empty()).then(|| here.into_iter().collect());
                crate::placement::CellDemand {
                    nodes: forced.or(cell.nodes.clone()),
                    ..cell.clone()
                }
            })
            .collect(),
        ..demand.clone()
    };
    // Sharing cores is the last resort of the search, as it is for a guest without pins.
    if !rest.dedicated.is_empty() {
        let supply = Supply {
            free: free.clone(),
            ..supply.clone()
        };
        let mut placed = crate::placement::search(host, &rest, &supply, &supply, effort);
        if level == Level::Any {
            placed = placed.or_else(|| {
                crate::placement::search(
                    host,
                    &Demand {
                        threads: None,
                        ..rest.clone()
                    },
                    &supply,
                    &supply,
                    effort,
                )
            });
        }
        pins.extend(
            placed?
                .vcpus
                .into_iter()
                .filter(|(vcpu, _)| rest.dedicated.contains(*vcpu)),
        );
    }
    let placed = pinned::evaluate(host, demand, supply, pins)?;
    (placed.threads == threads).then_some(placed)
}
