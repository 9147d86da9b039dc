//! Completion of a placement whose cores are chosen: extra CPUs, floating vCPUs, withheld siblings,
//! and the key.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::placement::cores::{CoreView, NodeView, Site};
use crate::placement::mirror::Spot;
use crate::placement::rank::{Cost, Key};
use crate::placement::spread::Round;
use crate::placement::threading::Level;
use crate::placement::{CellPlace, Placed};
use crate::types::ids::{CellId, HostCpu, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, VcpuSet};

/// Part of the guest on one node: a cell, or a run of vCPUs.
pub(crate) struct Piece<'s> {
    /// Position of the cell in [`crate::placement::Demand::cells`], where the guest has cells.
    pub cell: Option<usize>,
    /// vCPUs of the part.
    pub vcpus: VcpuSet,
    /// Memory of the part.
    pub memory: KiB,
    /// Node of the part.
    pub node: &'s NodeView,
    /// CPUs of the part's dedicated vCPUs, one each, in vCPU order.
    pub cpus: Vec<HostCpu>,
    /// Cost of those CPUs.
    pub cost: Cost,
}

/// Part of the guest beside its vCPUs, and the distance of it all.
#[derive(Debug, Clone, Default)]
pub(crate) struct Beside {
    /// Cells without vCPUs: position in [`crate::placement::Demand::cells`], and node.
    pub cells: Vec<(usize, NodeId)>,
    /// See [`Key::bare_nodes`].
    pub bare_nodes: u32,
    /// See [`Key::distance`].
    pub distance: u64,
}

/// Completes a placement whose dedicated CPUs are chosen. The first piece is cell 0. `None` where
/// extra CPUs or floating vCPUs do not fit.
pub(crate) fn assemble(
    site: &Site<'_>,
    round: &Round,
    pieces: Vec<Piece<'_>>,
    beside: &Beside,
) -> Option<Placed> {
    let demand = site.demand;
    let (level, page) = (round.level, round.page);
    // A guest placed as one is one cell; any other has a cell for each piece.
    let as_one = demand.cells.is_empty() && !demand.make_cells;
    let nodes: Vec<NodeId> = pieces.iter().map(|piece| piece.node.id).collect();
    let homes = match as_one {
        true => site.homes_of_all(&nodes),
        false => {
            let memory = |(cell, node): &(usize, NodeId)| (*node, demand.cells[*cell].memory);
            let amounts = pieces.iter().map(|piece| (piece.node.id, piece.memory));
            let amounts = amounts.chain(beside.cells.iter().map(memory));
            site.settle(&amounts.collect::<Vec<_>>(), page)?
        }
    };
    // Extra CPUs and withheld siblings come first: floating vCPUs may use neither.
    let cores: usize = pieces.iter().map(|piece| piece.node.cores.len()).sum();
    site.spend(2 * (demand.vcpus as usize + cores));
    let used: CpuSet = pieces
        .iter()
        .flat_map(|piece| piece.cpus.iter().copied())
        .collect();
    let isolate = level == Level::Isolate;
    let Some((extra, extra_cost)) = extra_cpus(pieces.first()?.node, &used, isolate, site) else {
        site.give_up();
        return None;
    };
    let own: CpuSet = extra.iter().copied().chain(used.iter()).collect();
    let withheld = withheld(&pieces, &own, &used, isolate, demand.withhold_siblings);

    let mut vcpus: BTreeMap<VcpuId, CpuSet> = BTreeMap::new();
    let mut cost = extra_cost;
    let mut left = 0;
    for piece in &pieces {
        let dedicated = piece.vcpus.intersection(&demand.dedicated);
        vcpus.extend(
            dedicated
                .iter()
                .zip(&piece.cpus)
                .map(|(vcpu, cpu)| (vcpu, CpuSet::one(*cpu))),
        );
        let floating = piece.vcpus.difference(&dedicated).difference(&demand.settled);
        if !floating.is_empty() {
            let room = piece.node.shared.difference(&own).difference(&withheld);
            let Some(room) = site.to_float(room, floating.len()) else {
                site.give_up();
                return None;
            };
            vcpus.extend(floating.iter().map(|vcpu| (vcpu, room.clone())));
        }
        cost += piece.cost;
        let gone = |cpu: &&HostCpu| own.contains(**cpu) || withheld.contains(**cpu);
        let spare = piece.node.cores.iter().flat_map(|core| &core.spare);
        left += i64::from(piece.node.free) - spare.filter(gone).count() as i64;
    }
    if demand.max_llcs > 0 && cost.llcs > demand.max_llcs {
        return None;
    }
    // All parts of the key are known now.
    let local = |piece: &Piece<'_>| {
        let cell = piece.cell.map(|cell| demand.cells[cell].id);
        piece.node.devices + cell.map_or(0, |cell| site.devices_of(cell, piece.node.id))
    };
    let local: u32 = pieces.iter().map(local).sum();
    let cpus: Vec<HostCpu> = demand
        .dedicated
        .iter()
        .filter_map(|vcpu| vcpus.get(&vcpu)?.first())
        .collect();
    let sizes = || pieces.iter().map(|piece| piece.vcpus.len() as u32);
    let key = Key {
        autostart: cost.autostart,
        nodes: pieces.len() as u32,
        far_devices: demand.devices.len() as u32 - local,
        kind: round.kind,
        untrue: site.shows && (level == Level::Any || !is_exact(site, &cpus, level.threads(), pieces.len())),
        threads: Reverse(level.rank()),
        page: Reverse(page.map_or(0, |page| page.0)),
        bare_nodes: beside.bare_nodes,
        uneven: match demand.cells.is_empty() {
            true => sizes().max().unwrap_or(0) - sizes().min().unwrap_or(0),
            false => 0,
        },
        distance: beside.distance,
        llcs: cost.llcs,
        llc_uneven: uneven_over_caches(site, &cpus),
        cache: cost.cache,
        other: cost.other,
        siblings: cost.siblings,
        left: if demand.spread { -left } else { left },
        cpus,
    };
    let cells = match as_one {
        true => vec![CellPlace {
            id: CellId(0),
            vcpus: VcpuSet::first_n(demand.vcpus),
            memory: demand.memory,
            node: Some(nodes[0]).filter(|_| nodes.len() == 1),
            memory_node: homes.first().copied().filter(|_| homes.len() == 1),
        }],
        false => {
            let of = |(index, piece): (usize, Piece<'_>)| CellPlace {
                id: piece
                    .cell
                    .map_or(CellId(index as u32), |cell| demand.cells[cell].id),
                vcpus: piece.vcpus,
                memory: piece.memory,
                node: Some(piece.node.id),
                memory_node: homes.get(index).copied(),
            };
            let mut cells: Vec<CellPlace> = pieces.into_iter().enumerate().map(of).collect();
            for (index, cell) in demand
                .cells
                .iter()
                .enumerate()
                .filter(|(_, cell)| cell.vcpus.is_empty())
            {
                let node = beside
                    .cells
                    .iter()
                    .find(|(at, _)| *at == index)
                    .map(|(_, node)| *node);
                let place = CellPlace {
                    id: cell.id,
                    vcpus: VcpuSet::new(),
                    memory: cell.memory,
                    node,
                    memory_node: node,
                };
                cells.insert(index.min(cells.len()), place);
            }
            cells
        }
    };
    Some(Placed {
        vcpus,
        cells,
        nodes,
        memory_nodes: distinct(homes),
        page,
        threads: level.threads(),
        own_cores: !level.shares() || on_cores_of_their_own(site, &key.cpus, level.threads()),
        extra,
        withheld,
        bounded: false,
        key,
    })
}

/// Lets all vCPUs float on the whole shared set, with memory bound to no node.
pub(crate) fn floating_anywhere(site: &Site<'_>) -> Option<Placed> {
    let demand = site.demand;
    let page = *demand
        .pages
        .iter()
        .find(|page| site.memory_fits_together(&[], **page))?;
    let none = CpuSet::new();
    let (extra, cost) = site
        .nodes
        .iter()
        .find_map(|node| extra_cpus(node, &none, false, site))?;
    let own: CpuSet = extra.iter().copied().collect();
    let room = site.to_float(site.supply.shared.difference(&own), 1)?;
    let vcpus = (0..demand.vcpus)
        .map(|vcpu| (VcpuId(vcpu), room.clone()))
        .collect();
    let key = Key {
        autostart: cost.autostart,
        other: cost.other,
        ..Key::default()
    };
    Some(Placed {
        vcpus,
        cells: Vec::new(),
        nodes: Vec::new(),
        memory_nodes: Vec::new(),
        page,
        threads: 1,
        own_cores: true,
        extra,
        withheld: CpuSet::new(),
        bounded: false,
        key,
    })
}

/// Returns whether one piece, taken alone, leaves room for its floating vCPUs and, if it is cell 0,
/// for the extra CPUs.
pub(crate) fn piece_fits(site: &Site<'_>, level: Level, piece: Piece<'_>, first: bool) -> bool {
    let isolate = level == Level::Isolate;
    let used: CpuSet = piece.cpus.iter().copied().collect();
    let mut own = used.clone();
    if first {
        match extra_cpus(piece.node, &used, isolate, site) {
            Some((extra, _)) => own.extend(extra),
            None => {
                site.give_up();
                return false;
            }
        }
    }
    let floating = piece.vcpus.intersection(&site.demand.floating());
    if floating.is_empty() {
        return true;
    }
    let room = piece.node.shared.difference(&own);
    let withheld = withheld(&[piece], &own, &used, isolate, site.demand.withhold_siblings);
    let fits = floating.len() <= room.difference(&withheld).len();
    if !fits {
        site.give_up();
    }
    fits
}

/// Returns nodes in order, each once.
pub(crate) fn distinct(nodes: impl IntoIterator<Item = NodeId>) -> Vec<NodeId> {
    let mut known = Vec::new();
    for node in nodes {
        if !known.contains(&node) {
            known.push(node);
        }
    }
    known
}

/// Returns the difference between the most and the fewest of these CPUs on one cache.
pub(crate) fn uneven_over_caches(site: &Site<'_>, cpus: &[HostCpu]) -> u32 {
    let mut counts: BTreeMap<(NodeId, usize), u32> = BTreeMap::new();
    for core in cpus.iter().filter_map(|cpu| site.core_of(*cpu)) {
        *counts.entry((core.node, core.llc)).or_default() += 1;
    }
    let fewest = counts.values().min();
    counts.values().max().unwrap_or(&0) - fewest.unwrap_or(&0)
}

/// Returns whether a topology can show guest cores of so many threads on these CPUs of `parts`
/// nodes, given in vCPU order, as they are.
pub(crate) fn is_exact(site: &Site<'_>, cpus: &[HostCpu], threads: u32, parts: usize) -> bool {
    let threads = threads.max(1);
    let first = (0..).zip(cpus).step_by(threads as usize);
    let spots: Option<Vec<Spot>> = first
        .map(|(vcpu, cpu)| {
            let spot = site.mirror().spot(site.core_of(*cpu)?);
            Some(spot.in_cell_of(VcpuId(vcpu), &site.demand.shown_cells))
        })
        .collect();
    let exact = spots.and_then(|spots| site.mirror().exact(&spots, site.demand.max_sockets));
    exact.is_some_and(|exact| {
        let dies = exact.sockets.saturating_mul(exact.dies) as usize;
        dies <= site.most_dies(parts) && site.demand.shape.is_none_or(|shape| shape == exact)
    })
}

/// Returns whether no host core has two guest cores of so many threads.
fn on_cores_of_their_own(site: &Site<'_>, cpus: &[HostCpu], threads: u32) -> bool {
    let first = cpus.iter().step_by(threads.max(1) as usize);
    let mut cores: Vec<Option<HostCpu>> = first
        .map(|cpu| Some(*site.core_of(*cpu)?.cpus.first()?))
        .collect();
    let all = cores.len();
    cores.sort_unstable();
    cores.dedup();
    cores.len() == all
}

/// Chooses extra dedicated CPUs on a node: those that autostart definitions do not claim first,
/// then broken cores before whole ones, then CPUs that other definitions do not claim, then the
/// smallest. With `smt = "isolate"` none is on the guest's own cores. A thrifty search takes only
/// `extra_min` of them, first those that leave most to floating vCPUs. `None` where there are fewer
/// than `extra_min`.
pub(crate) fn extra_cpus(
    node: &NodeView,
    used: &CpuSet,
    isolate: bool,
    site: &Site<'_>,
) -> Option<(Vec<HostCpu>, Cost)> {
    let mut taken = used.clone();
    let mut extra = Vec::new();
    let mut sum = Cost::default();
    // A thrifty search for a guest with floating vCPUs takes no more than it must.
    let sparing = site.thrifty && !site.demand.floating().is_empty();
    let count = if sparing {
        site.demand.extra_min
    } else {
        site.demand.extra_max
    };
    // One CPU a turn: each one that is taken can break a core and so change the rank of the others.
    while extra.len() < count as usize {
        let rank = |core: &CoreView, cpu: HostCpu| {
            let claim = core.claim_cost(cpu);
            let whole = !core.is_broken() && !core.all.iter().any(|cpu| taken.contains(*cpu));
            let gone = match site.demand.withhold_siblings {
                true if core.all.iter().any(|cpu| taken.contains(*cpu)) => &[],
                true => &core.all[..],
                false => std::slice::from_ref(&cpu),
            };
            let shared = gone.iter().filter(|cpu| node.shared.contains(**cpu)).count();
            (
                if sparing { shared } else { 0 },
                claim.autostart,
                whole,
                claim.other,
                cpu,
            )
        };
        // A core with a vCPU of an isolated guest takes no other thread of it.
        let open = |core: &&CoreView| !(isolate && core.all.iter().any(|cpu| used.contains(*cpu)));
        let best = node
            .cores
            .iter()
            .filter(open)
            .flat_map(|core| core.spare.iter().map(move |cpu| (core, *cpu)))
            .filter(|(_, cpu)| !taken.contains(*cpu))
            .min_by_key(|(core, cpu)| rank(core, *cpu));
        let Some((core, cpu)) = best else { break };
        sum += core.claim_cost(cpu);
        taken.insert(cpu);
        extra.push(cpu);
    }
    (extra.len() >= site.demand.extra_min as usize).then_some((extra, sum))
}

fn withheld(
    pieces: &[Piece<'_>],
    own: &CpuSet,
    used: &CpuSet,
    isolate: bool,
    withhold_siblings: bool,
) -> CpuSet {
    let kept_from_others = match (withhold_siblings, isolate) {
        (true, _) => own,
        (false, true) => used,
        (false, false) => return CpuSet::new(),
    };
    let mut all = CpuSet::new();
    for core in pieces.iter().flat_map(|piece| &piece.node.cores) {
        if core.all.iter().any(|cpu| kept_from_others.contains(*cpu)) {
            all.extend(core.all.iter().copied().filter(|cpu| !own.contains(*cpu)));
        }
    }
    all
}
