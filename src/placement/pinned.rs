//! The placement that given pins make: threads, cells, pages, and the CPUs of other threads.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use crate::host::{Core, Host};
use crate::placement::cores::{Effort, NodeView, Site};
use crate::placement::finish;
use crate::placement::rank::Key;
use crate::placement::threading::Level;
use crate::placement::{CellPlace, Demand, Placed, SmtRule, Supply};
use crate::types::ids::{CellId, HostCpu, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};

type Pins = BTreeMap<VcpuId, CpuSet>;

/// Works out the placement these pins make.
pub(super) fn evaluate(host: &Host, demand: &Demand, supply: &Supply, mut pins: Pins) -> Option<Placed> {
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
    let own = cells_on_nodes(host, demand, &pins);
    if let Some(own) = &own {
        nodes = own.iter().flatten().copied().collect();
    }
    // The largest page size of which every node has enough.
    let mut found = None;
    for page in &demand.pages {
        let fitting = match &own {
            Some(own) => cells(&site, own, *page),
            None => site.memory_fits_together(&nodes, *page).then(|| {
                let homes = site.homes_of_all(&nodes);
                let cell = nodes.first().map(|_| whole(demand, &nodes, &homes));
                (cell.into_iter().collect(), homes)
            }),
        };
        found = fitting.map(|(cells, homes)| (*page, cells, homes));
        if found.is_some() {
            break;
        }
    }
    let (page, cells, homes) = found?;
    // Extra CPUs go to the node of cell 0, and floating vCPUs get what is left.
    let used: CpuSet = pins
        .values()
        .filter(|pin| pin.len() == 1)
        .filter_map(CpuSet::first)
        .collect();
    let isolate = demand.smt == SmtRule::Isolate;
    let home = nodes.first().and_then(|node| site.node(*node));
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
        let cell: &CellPlace = cells.iter().find(|cell| cell.vcpus.contains(vcpu))?;
        let node = cell.node.or(nodes.first().copied())?;
        pins.insert(vcpu, site.node(node).map(shared).filter(|room| !room.is_empty())?);
    }
    let cpus: Vec<HostCpu> = pins
        .values()
        .filter(|pin| pin.len() == 1)
        .filter_map(CpuSet::first)
        .collect();
    let mut placed = Placed {
        vcpus: pins,
        cells,
        nodes,
        memory_nodes: homes,
        page,
        threads,
        own_cores,
        extra,
        withheld,
        bounded: false,
        key: Key::default(),
    };
    placed.key = key(&site, &placed, cpus);
    Some(placed)
}

/// Returns the level at which the vCPUs of a placement are laid on cores.
pub(super) fn level(placed: &Placed) -> Level {
    match placed.threads {
        threads if placed.own_cores => Level::Own(threads),
        1 => Level::Any,
        threads => Level::Shared(threads),
    }
}

/// Returns the one cell of a guest that is placed as one.
pub(super) fn whole(demand: &Demand, nodes: &[NodeId], homes: &[NodeId]) -> CellPlace {
    let only = |nodes: &[NodeId]| nodes.first().copied().filter(|_| nodes.len() == 1);
    CellPlace {
        id: CellId(0),
        vcpus: VcpuSet::first_n(demand.vcpus),
        memory: demand.memory,
        node: only(nodes),
        memory_node: only(homes),
    }
}

/// Works out the key. It has no claims and no remainder: pins that are given compare with no other
/// placement.
fn key(site: &Site<'_>, placed: &Placed, cpus: Vec<HostCpu>) -> Key {
    let demand = site.demand;
    let used = || cpus.iter().filter_map(|cpu| site.core_of(*cpu));
    let llcs: BTreeSet<usize> = used().map(|core| core.llc).collect();
    let near = |node: NodeId, cell: Option<CellId>| match cell.filter(|_| !demand.cells.is_empty()) {
        Some(cell) => placed
            .cells
            .iter()
            .any(|place| place.id == cell && place.node == Some(node)),
        None => placed.nodes.contains(&node),
    };
    let far = demand
        .devices
        .iter()
        .filter(|device| !near(device.node, device.cell));
    let level = level(placed);
    Key {
        nodes: placed.nodes.len() as u32,
        far_devices: far.count() as u32,
        kind: used().map(|core| core.kind).max().unwrap_or(0),
        untrue: site.shows
            && (level == Level::Any || !finish::is_exact(site, &cpus, placed.threads, placed.nodes.len())),
        threads: Reverse(level.rank()),
        page: Reverse(placed.page.map_or(0, |page| page.0)),
        distance: site.distance(&placed.nodes),
        llcs: llcs.len() as u32,
        llc_uneven: finish::uneven_over_caches(site, &cpus),
        cpus,
        ..Key::default()
    }
}

/// Returns the node of each cell, by position; `None` for a cell without vCPUs. `None` altogether
/// where a cell is on several nodes or two with vCPUs are on one.
fn cells_on_nodes(host: &Host, demand: &Demand, pins: &Pins) -> Option<Vec<Option<NodeId>>> {
    let mut seen = NodeSet::new();
    let node = |cell: &crate::placement::CellDemand| {
        if cell.vcpus.is_empty() {
            return Some(None);
        }
        let own = pins.iter().filter(|(vcpu, _)| cell.vcpus.contains(**vcpu));
        let mut here = nodes_of(host, own.map(|(_, pin)| pin));
        if here.is_empty() {
            // All vCPUs of the cell float: the cell is where the demand puts it.
            here.extend(cell.nodes.iter().flat_map(NodeSet::iter));
        }
        match here[..] {
            [node] if seen.insert(node) => Some(Some(node)),
            _ => None,
        }
    };
    let nodes: Option<Vec<Option<NodeId>>> = demand.cells.iter().map(node).collect();
    nodes.filter(|nodes| nodes.iter().any(Option::is_some))
}

/// Returns the cells on these nodes, those without vCPUs where their memory fits, and the nodes of
/// all memory. `None` where memory does not fit in such pages.
fn cells(
    site: &Site<'_>,
    nodes: &[Option<NodeId>],
    page: Option<KiB>,
) -> Option<(Vec<CellPlace>, Vec<NodeId>)> {
    let cells = &site.demand.cells;
    let with_vcpus: Vec<usize> = (0..cells.len()).filter(|cell| nodes[*cell].is_some()).collect();
    let mut amounts: Vec<(NodeId, KiB)> = Vec::new();
    for cell in &with_vcpus {
        amounts.push((nodes[*cell]?, cells[*cell].memory));
    }
    let fits = |amounts: &[(NodeId, KiB)]| {
        let each = amounts
            .iter()
            .all(|(node, memory)| site.memory_fits(*node, *memory, page));
        if each { site.settle(amounts, page) } else { None }
    };
    fits(&amounts)?;
    let mut bare: Vec<Option<NodeId>> = vec![None; cells.len()];
    for (index, cell) in cells.iter().enumerate() {
        if !cell.vcpus.is_empty() || cell.memory == KiB(0) {
            continue;
        }
        let here: Vec<NodeId> = amounts.iter().map(|(node, _)| *node).collect();
        let mut open: Vec<&NodeView> = site
            .nodes
            .iter()
            .filter(|node| cell.nodes.as_ref().is_none_or(|nodes| nodes.contains(node.id)))
            .filter(|node| node.memory.first() == Some(&node.id))
            .collect();
        open.sort_by_key(|node| {
            let far: u64 = here.iter().map(|other| site.between(*other, node.id)).sum();
            let far = if here.contains(&node.id) { 0 } else { far };
            (node.cores.is_empty() && cell.nodes.is_none(), far)
        });
        let chosen = open.into_iter().find(|node| {
            let more = (node.id, cell.memory);
            fits(&amounts.iter().copied().chain([more]).collect::<Vec<_>>()).is_some()
        })?;
        amounts.push((chosen.id, cell.memory));
        bare[index] = Some(chosen.id);
    }
    let homes = fits(&amounts)?;
    let home = |cell: usize| {
        let at = with_vcpus.iter().position(|other| *other == cell);
        at.map_or(bare[cell], |at| homes.get(at).copied())
    };
    let place = |(index, cell): (usize, &crate::placement::CellDemand)| CellPlace {
        id: cell.id,
        vcpus: cell.vcpus.clone(),
        memory: cell.memory,
        node: nodes[index].or(bare[index]),
        memory_node: home(index),
    };
    let places = cells.iter().enumerate().map(place).collect();
    Some((places, finish::distinct(homes)))
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
    let matches = |threads: u32, own: bool| {
        let mut seen = BTreeSet::new();
        demand.vcpus.is_multiple_of(threads)
            && (threads.is_power_of_two() || !demand.threads_by_two)
            && cores.chunks(threads as usize).zip(0u32..).all(|(block, number)| {
                let vcpus = number * threads..(number + 1) * threads;
                let first = block[0].map(|core| core.cpus[0]);
                let alike = block.iter().all(|core| core.map(|core| core.cpus[0]) == first);
                // A core of vCPUs that need no CPU is as good as any.
                let settled = || vcpus.clone().all(|vcpu| demand.settled.contains(VcpuId(vcpu)));
                let pinned = first.is_some() || threads == 1 || settled();
                alike && pinned && (!own || first.is_none_or(|first| seen.insert(first)))
            })
            && cells().all(|cell| {
                cell.iter().all(|v| {
                    let from = v.0 / threads * threads;
                    (from..from + threads).all(|sibling| cell.contains(VcpuId(sibling)))
                })
            })
    };
    let widest = host.cores.iter().map(|core| core.cpus.len() as u32).max();
    let several = || (2..=widest.unwrap_or(1)).rev();
    let own = several()
        .find(|threads| matches(*threads, true))
        .map(|threads| (threads, true));
    let shared = || {
        several()
            .find(|threads| matches(*threads, false))
            .map(|threads| (threads, false))
    };
    Some(own.or_else(shared).unwrap_or((1, matches(1, true))))
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
pub(super) fn nodes_of<'p>(host: &Host, pins: impl Iterator<Item = &'p CpuSet>) -> Vec<NodeId> {
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
