//! Completion of a placement whose cores are chosen: extra CPUs, floating vCPUs, withheld siblings,
//! and the key.

use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::placement::cores::{CoreView, NodeView, Site};
use crate::placement::rank::{Cost, Key};
use crate::placement::threading::Level;
use crate::placement::{CellPlace, Placed};
use crate::types::ids::{CellId, HostCpu, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, VcpuSet};

/// Part of the guest on one node: a cell, or a run of vCPUs.
pub(crate) struct Piece<'s> {
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

/// Completes a placement whose dedicated CPUs are chosen. The first piece is cell 0. `None` where
/// extra CPUs or floating vCPUs do not fit.
pub(crate) fn assemble(
    site: &Site<'_>,
    level: Level,
    page: Option<KiB>,
    pieces: Vec<Piece<'_>>,
    distance: u64,
) -> Option<Placed> {
    let demand = site.demand;
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
    let local: u32 = pieces.iter().map(|piece| piece.node.devices).sum();
    let key = Key {
        autostart: cost.autostart,
        nodes: pieces.len() as u32,
        far_devices: demand.devices.len() as u32 - local,
        threads: Reverse(level.rank()),
        page: Reverse(page.map_or(0, |page| page.0)),
        distance,
        llcs: cost.llcs,
        other: cost.other,
        siblings: cost.siblings,
        left: if demand.spread { -left } else { left },
        cpus: demand
            .dedicated
            .iter()
            .filter_map(|vcpu| vcpus.get(&vcpu)?.first())
            .collect(),
    };
    // A guest placed as one is one cell; any other has a cell for each piece.
    let nodes: Vec<NodeId> = pieces.iter().map(|piece| piece.node.id).collect();
    let as_one = demand.cells.is_empty() && !demand.make_cells;
    let cells = match as_one {
        true => vec![CellPlace {
            id: CellId(0),
            vcpus: VcpuSet::first_n(demand.vcpus),
            memory: demand.memory,
            node: nodes[0],
        }],
        false => {
            let id = |index: usize| {
                demand
                    .cells
                    .get(index)
                    .map_or(CellId(index as u32), |cell| cell.id)
            };
            let place = |(index, piece): (usize, Piece<'_>)| CellPlace {
                id: id(index),
                vcpus: piece.vcpus,
                memory: piece.memory,
                node: piece.node.id,
            };
            pieces.into_iter().enumerate().map(place).collect()
        }
    };
    Some(Placed {
        vcpus,
        cells,
        nodes,
        page,
        threads: level.threads(),
        own_cores: level != Level::Any || on_cores_of_their_own(site, &key.cpus),
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

fn on_cores_of_their_own(site: &Site<'_>, cpus: &[HostCpu]) -> bool {
    let chosen: CpuSet = cpus.iter().copied().collect();
    let shares = |core: &crate::host::Core| core.cpus.iter().filter(|cpu| chosen.contains(**cpu)).count() > 1;
    !site.host.cores.iter().any(shares)
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
