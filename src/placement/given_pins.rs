//! Placement of vCPUs whose pins are given: by an administrator, or by virtfit at an earlier time.
//!
//! Given pins are constraints: the other vCPUs are placed around them, and if one of them collides
//! with another guest, nothing fits.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::host::{Core, Host};
use crate::placement::cores::{Effort, NodeView, Site};
use crate::placement::finish;
use crate::placement::rank::Key;
use crate::placement::threading;
use crate::placement::threading::Level;
use crate::placement::{CellPlace, Demand, Placed, SmtRule, Supply};
use crate::policy::cpu_sets::floats;
use crate::types::ids::{CellId, HostCpu, NodeId, VcpuId};
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
        return evaluate(host, demand, supply, demand.kept.clone());
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
        _ if placed.own_cores => Level::Own(placed.threads),
        _ => Level::Any,
    };
    // Nodes, cells, caches and devices have limits of their own.
    let in_nodes = placed
        .nodes
        .iter()
        .all(|node| demand.nodes.as_ref().is_none_or(|n| n.contains(*node)));
    let most = demand.max_nodes.map_or(usize::MAX, |most| most as usize);
    let in_cells = demand
        .cells
        .iter()
        .zip(&placed.cells)
        .all(|(cell, place)| cell.nodes.as_ref().is_none_or(|nodes| nodes.contains(place.node)));
    (one_each
        && cpus.is_subset(&allowed)
        && site.levels.contains(&level)
        && kinds.windows(2).all(|pair| pair[0] == pair[1])
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
    let cell = |node: &NodeId| CellPlace {
        id: CellId(0),
        vcpus: VcpuSet::first_n(demand.vcpus),
        memory: demand.memory,
        node: *node,
    };
    Ok(Placed {
        vcpus: pins.clone(),
        cells: nodes.first().map(cell).into_iter().collect(),
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
        if level != Level::Any {
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
    let placed = evaluate(host, demand, supply, pins)?;
    (placed.threads == threads).then_some(placed)
}

/// Works out the placement these pins make.
fn evaluate(host: &Host, demand: &Demand, supply: &Supply, mut pins: Pins) -> Option<Placed> {
    let site = Site::new(host, demand, supply, Effort::BEST);
    // Pins decide the shape; a shape that the demand excludes is no placement.
    let (threads, own_cores) = threads(host, demand, &pins)?;
    if demand.smt == SmtRule::Require && threads < 2 {
        return None;
    }
    if demand.threads.is_some_and(|given| given != threads) {
        return None;
    }
    // Cells count only if each is on one node and no two share one; otherwise the guest is placed
    // as one.
    let mut nodes = nodes_of(host, pins.values());
    let mut cells = Vec::new();
    for cell in &demand.cells {
        let own = pins
            .iter()
            .filter(|(vcpu, _)| cell.vcpus.contains(**vcpu))
            .map(|(_, pin)| pin);
        let mut here = nodes_of(host, own);
        if here.is_empty() {
            // All vCPUs of the cell float: the cell is where the demand puts it.
            here.extend(cell.nodes.iter().flat_map(NodeSet::iter));
        }
        if let [node] = here[..] {
            cells.push(CellPlace {
                id: cell.id,
                vcpus: cell.vcpus.clone(),
                memory: cell.memory,
                node,
            });
        }
    }
    let distinct: NodeSet = cells.iter().map(|cell| cell.node).collect();
    let celled = !cells.is_empty() && cells.len() == demand.cells.len() && distinct.len() == cells.len();
    if celled {
        nodes = cells.iter().map(|cell| cell.node).collect();
    } else {
        cells = nodes
            .first()
            .map(|node| CellPlace {
                id: CellId(0),
                vcpus: VcpuSet::first_n(demand.vcpus),
                memory: demand.memory,
                node: *node,
            })
            .into_iter()
            .collect();
    }
    // The largest page size of which every node has enough.
    let fits = |page: &&Option<crate::types::ids::KiB>| match celled {
        true => cells
            .iter()
            .all(|cell| site.memory_fits(cell.node, cell.memory, **page)),
        false => site.memory_fits_together(&nodes, **page),
    };
    let page = *demand.pages.iter().find(fits)?;
    // Extra CPUs go to the node of cell 0, and floating vCPUs get what is left.
    let used: CpuSet = pins
        .values()
        .filter(|pin| pin.len() == 1)
        .filter_map(CpuSet::first)
        .collect();
    let isolate = demand.smt == SmtRule::Isolate;
    let home = cells.first().and_then(|cell| site.node(cell.node));
    let (extra, _) = match home {
        Some(node) => finish::extra_cpus(node, &used, isolate, &site)?,
        None if demand.extra_min > 0 => return None,
        None => (Vec::new(), Default::default()),
    };
    let own: CpuSet = used.iter().chain(extra.iter().copied()).collect();
    let withheld = withheld(host, demand, supply, &own, &used)?;
    let shared = |node: &NodeView| node.shared.difference(&own).difference(&withheld);
    for vcpu in demand
        .floating()
        .iter()
        .filter(|vcpu| !demand.kept.contains_key(vcpu))
    {
        let cell = cells.iter().find(|cell| cell.vcpus.contains(vcpu))?;
        let room = site.node(cell.node).map(shared)?;
        pins.insert(vcpu, site.to_float(room, 1)?);
    }
    // The key has no claims and no remainder: pins that are given compare with no other placement.
    let llcs: std::collections::BTreeSet<usize> = used
        .iter()
        .filter_map(|cpu| Some(host.core_of(cpu)?.llc))
        .collect();
    let local = demand.devices.iter().filter(|node| nodes.contains(node)).count();
    let key = Key {
        nodes: nodes.len() as u32,
        far_devices: (demand.devices.len() - local) as u32,
        threads: Reverse(if own_cores { threads * 2 } else { 1 }),
        page: Reverse(page.map_or(0, |page| page.0)),
        distance: site.distance(&nodes),
        llcs: llcs.len() as u32,
        cpus: pins
            .values()
            .filter(|pin| pin.len() == 1)
            .filter_map(CpuSet::first)
            .collect(),
        ..Key::default()
    };
    Some(Placed {
        vcpus: pins,
        cells,
        nodes,
        page,
        threads,
        own_cores,
        extra,
        withheld,
        bounded: false,
        key,
    })
}

/// Returns the largest thread count these pins carry, guest core by guest core, and whether each
/// guest core has a host core of its own.
fn threads(host: &Host, demand: &Demand, pins: &Pins) -> Option<(u32, bool)> {
    let single = |vcpu: u32| {
        pins.get(&VcpuId(vcpu))
            .filter(|pin| pin.len() == 1)
            .and_then(CpuSet::first)
    };
    let cores: Vec<Option<&Core>> = (0..demand.vcpus)
        .map(|vcpu| single(vcpu).and_then(|cpu| host.core_of(cpu)))
        .collect();
    let cells = || {
        let placed = demand.cells.iter().map(|cell| &cell.vcpus);
        placed.chain(&demand.shown_cells)
    };
    let matches = |threads: u32| {
        let mut seen = std::collections::BTreeSet::new();
        demand.vcpus.is_multiple_of(threads)
            && cores.chunks(threads as usize).all(|block| {
                let first = block[0].map(|core| core.cpus[0]);
                let alike = block.iter().all(|core| core.map(|core| core.cpus[0]) == first);
                let pinned = first.is_some() || threads == 1;
                alike && pinned && first.is_none_or(|first| seen.insert(first))
            })
            && cells().all(|cell| {
                cell.iter().all(|v| {
                    let from = v.0 / threads * threads;
                    (from..from + threads).all(|sibling| cell.contains(VcpuId(sibling)))
                })
            })
    };
    let most = std::iter::successors(Some(64u32), |t| (*t > 1).then_some(t / 2));
    Some(
        most.into_iter()
            .find(|threads| matches(*threads))
            .map_or((1, false), |threads| (threads, true)),
    )
}

fn withheld(host: &Host, demand: &Demand, supply: &Supply, own: &CpuSet, used: &CpuSet) -> Option<CpuSet> {
    let isolate = demand.smt == SmtRule::Isolate;
    let mut all = CpuSet::new();
    for core in &host.cores {
        let mine = core.cpus.iter().filter(|cpu| used.contains(**cpu)).count();
        let any = core.cpus.iter().any(|cpu| own.contains(*cpu));
        if isolate && mine > 0 {
            let others = || core.cpus.iter().filter(|cpu| !used.contains(**cpu));
            if mine > 1 || !others().all(|cpu| supply.isolable.contains(*cpu)) {
                return None;
            }
            all.extend(others().copied());
        } else if demand.withhold_siblings && any {
            all.extend(core.cpus.iter().copied().filter(|cpu| !own.contains(*cpu)));
        }
    }
    Some(all)
}

/// Lists the nodes of all CPUs of these pins, in order of first use.
fn nodes_of<'p>(host: &Host, pins: impl Iterator<Item = &'p CpuSet>) -> Vec<NodeId> {
    let mut nodes = Vec::new();
    for node in pins
        .flat_map(CpuSet::iter)
        .filter_map(|cpu| Some(host.core_of(cpu)?.node))
    {
        if !nodes.contains(&node) {
            nodes.push(node);
        }
    }
    nodes
}
