//! Demand of a guest for placement, made from its profile and its domain.

mod pages;
mod shape;

use std::collections::BTreeMap;

use crate::domain::qemu::Ruled;
use crate::domain::{Cell, Domain, NumaMemory};
use crate::engine::case::Case;
use crate::engine::effective::EffectiveProfile;
use crate::engine::kept_memory::{self, KeptMemory, near_cpus};
use crate::engine::supply::Supplies;
use crate::engine::{cache_tunes, iothreads};
use crate::host::Host;
use crate::placement::{self, CellDemand, Demand, Device, Mirror, Placed};
use crate::policy::profile::{
    Cpus, Emulator, IothreadCount, IothreadCpus, MaxNodes, MemoryMode, Numa, PciNuma,
};
use crate::types::ids::{CellId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::plan::Scope;
use crate::types::reason::{Excludes, Reason};

pub(crate) use shape::{WINDOWS_CLIENT_SOCKETS, is_wish};

use pages::{excluded, page_size_changes, pages};
use shape::{core_kind, max_sockets, splits_cores, threads};

/// Demand, with the parts of the domain it is based on.
pub(crate) struct Demanded {
    /// Input of the placement search.
    pub demand: Demand,
    /// vCPU pins an administrator wrote that stay.
    pub kept_pins: BTreeMap<VcpuId, CpuSet>,
    /// Memory is bound by an administrator's `<numatune>`, which stays.
    pub numatune_kept: bool,
    /// Pieces of that memory; none where the `<numatune>` does not stay.
    pub kept_memory: KeptMemory,
    /// Huge pages are as an administrator wrote them, and stay.
    pub hugepages_kept: bool,
    /// Part of the XML that rules huge pages out.
    pub excluded: Option<Excludes>,
    /// Reasons why no placement can satisfy the demand.
    pub broken: Vec<Reason>,
}

/// Works out the demand. Kept values are checked against the CPUs and memory in `supplies`.
pub(crate) fn demand(case: &Case<'_>, supplies: &Supplies) -> Demanded {
    let Case {
        wishes,
        domain,
        policy,
        shape,
        ..
    } = *case;
    let profile = &wishes.profile;
    let kept_pins = kept_pins(case, supplies);
    let mut broken = Vec::new();

    // What an administrator wrote and keeps limits the search: numatune, page size, pins.
    let numatune_kept = wishes.keep && (domain.numatune.is_some() || !domain.memnodes.is_empty());
    let hugepages_kept = match case.scope {
        Scope::Boot => wishes.keep && domain.hugepages.is_some(),
        Scope::Incoming => !page_size_changes(case),
    };
    let excluded = excluded(domain);
    let mut pages = pages(case, hugepages_kept, excluded, &mut broken);
    let kept_memory = match numatune_kept {
        true => KeptMemory::of(domain),
        false => KeptMemory::default(),
    };
    let misfit = kept_memory::fitting(&kept_memory, supplies, &mut pages);
    broken.extend(misfit.map(Reason::from));

    // A guest without cells of its own may have cells virtfit made before: they are part of its
    // shape.
    let made = shape.map(|shape| shape.cells.clone()).unwrap_or_default();
    let matched = profile.numa == Numa::Match && profile.cpus != Cpus::Shared && profile.cpus != Cpus::Keep;
    let cells = match matched {
        true if domain.has_cells() => own_cells(case, numatune_kept),
        true => made
            .iter()
            .enumerate()
            .map(|(id, (vcpus, memory))| CellDemand {
                id: CellId(id as u32),
                vcpus: vcpus.clone(),
                memory: *memory,
                nodes: None,
            })
            .collect(),
        false => Vec::new(),
    };
    // A kept binding of the whole guest is a limit of nodes; `own_cells` reads those of cells.
    let kept_nodes = domain
        .numatune
        .as_ref()
        .filter(|_| numatune_kept && cells.is_empty());
    let nodes = kept_nodes.and_then(|numatune| numatune.nodeset.as_ref());
    let nodes = nodes.map(|nodes| near_cpus(case.host, nodes));
    let auto = domain.numatune.as_ref().is_some_and(|numatune| numatune.auto);
    let bind = profile.numa != Numa::Off
        && profile.memory_mode != MemoryMode::Off
        && !(numatune_kept && (auto || kept_memory.is_bound()))
        && !(profile.cpus == Cpus::Shared && profile.max_nodes == MaxNodes::Auto);
    let (extra_min, extra_max) = extra(wishes, domain, case.host);
    let devices = match profile.pci_numa {
        PciNuma::Off => Vec::new(),
        _ => devices(case, &cells),
    };
    let mut demand = Demand {
        vcpus: domain.vcpus,
        dedicated: wishes.dedicated.clone(),
        smt: profile.smt.into(),
        core_kind: core_kind(case),
        mirror: match wishes.x86 {
            true => Mirror::Caches,
            false => Mirror::Nodes,
        },
        max_sockets: max_sockets(case),
        shape: None,
        threads_by_two: case.host.arch.starts_with("ppc"),
        shown_cells: match cells.is_empty() {
            true if domain.has_cells() => domain.cells.iter().map(|cell| cell.vcpus.clone()).collect(),
            true => domain.qemu.cells.clone(),
            false => Vec::new(),
        },
        cells,
        memory: domain.all_memory(),
        make_cells: wishes.makes_cells()
            && !domain.has_cells()
            && domain.qemu.rules(&Ruled::Cells).is_none()
            && made.is_empty()
            && shape.is_none()
            && wishes.floating_slots.is_empty()
            && !numatune_kept,
        bind,
        max_nodes: match profile.max_nodes {
            MaxNodes::Auto => None,
            MaxNodes::At(most) => Some(most.max(1)),
        },
        max_llcs: profile.max_llcs,
        pages,
        nodes,
        within: within(case),
        kept: kept_pins
            .iter()
            .filter(|(v, _)| wishes.dedicated.contains(**v))
            .map(|(v, p)| (*v, p.clone()))
            .collect(),
        settled: kept_pins
            .keys()
            .copied()
            .filter(|vcpu| !wishes.dedicated.contains(*vcpu))
            .chain(wishes.floating_slots.iter())
            .collect(),
        threads: match splits_cores(case) {
            true => Some(1),
            false => threads(case, &kept_pins),
        },
        extra_min,
        extra_max,
        devices,
        devices_required: profile.pci_numa == PciNuma::Require,
        withhold_siblings: !policy.share_cores,
        spread: false,
    };
    demand.set_strategy(policy.strategy);
    if case.bound {
        stay_with_memory(&mut demand, case.current, case.host);
    }
    Demanded {
        demand,
        kept_pins,
        numatune_kept,
        kept_memory,
        hugepages_kept,
        excluded,
        broken,
    }
}

impl Demanded {
    /// Places the guest on the shared set, as `run-shared` does.
    pub(crate) fn floating(&self, host: &Host, supplies: &Supplies) -> Option<Placed> {
        let demand = Demand {
            vcpus: self.demand.vcpus,
            memory: self.demand.memory,
            pages: vec![None],
            ..Demand::default()
        };
        placement::place(host, &demand, &supplies.now, &supplies.empty).ok()
    }
}

/// Lists the passed-through devices that are on a node, each with the cell that the guest sees it
/// in, where that cell is placed by itself.
fn devices(case: &Case<'_>, cells: &[CellDemand]) -> Vec<Device> {
    let placed = |id: &CellId| cells.iter().any(|cell| cell.id == *id && !cell.vcpus.is_empty());
    let devices = case.facts.devices.iter().enumerate();
    let on_node = devices.filter_map(|(position, (_, node))| {
        let cell = case.facts.device_cells.get(&position).copied();
        Some(Device {
            node: (*node)?,
            cell: cell.filter(placed),
        })
    });
    on_node.collect()
}

/// Returns the CPUs to which the XML limits the guest: a `vcpu@cpuset` that is kept, and caches
/// that are reserved for it.
fn within(case: &Case<'_>) -> Option<CpuSet> {
    let cpuset = case.domain.vcpu_cpuset.clone().filter(|_| case.wishes.keep);
    let caches = cache_tunes::within(case);
    match (cpuset, caches) {
        (Some(cpuset), Some(caches)) if !cpuset.is_disjoint(&caches) => Some(cpuset.intersection(&caches)),
        (cpuset, caches) => cpuset.or(caches),
    }
}

/// Limits each cell to the nodes of its strict memory, which cannot move once the guest starts.
fn stay_with_memory(demand: &mut Demand, current: &Domain, host: &Host) {
    let strict = |memory: &NumaMemory| match memory.mode.as_str() {
        "strict" => memory.nodeset.as_ref().map(|nodes| near_cpus(host, nodes)),
        _ => None,
    };
    let overall = current.numatune.as_ref().and_then(strict);
    let within = |nodes: &mut Option<NodeSet>, bound: Option<NodeSet>| {
        if let Some(bound) = bound {
            *nodes = Some(
                nodes
                    .as_ref()
                    .map_or(bound.clone(), |nodes| nodes.intersection(&bound)),
            );
        }
    };
    if demand.cells.is_empty() {
        let of_cells = current.memnodes.values().filter_map(strict);
        let all = of_cells.chain(overall).reduce(|all, nodes| all.union(&nodes));
        within(&mut demand.nodes, all);
        return;
    }
    for cell in &mut demand.cells {
        // As in libvirt, a cell without a memnode of its own follows the memory of the whole guest.
        let bound = match current.memnodes.get(&cell.id) {
            Some(memory) => strict(memory),
            None => overall.clone(),
        };
        within(&mut cell.nodes, bound);
    }
}

/// Returns the pins an administrator wrote. On the way in they count only if none of them collides
/// with another guest.
fn kept_pins(case: &Case<'_>, supplies: &Supplies) -> BTreeMap<VcpuId, CpuSet> {
    let Case {
        wishes,
        domain,
        scope,
        ..
    } = *case;
    if !wishes.keep || wishes.profile.cpus == Cpus::Keep {
        return BTreeMap::new();
    }
    let pins = domain.vcpupins.clone();
    let collide = || !placement::given_pins::collisions(&pins, &supplies.now).is_empty();
    match scope {
        Scope::Incoming if collide() => BTreeMap::new(),
        _ => pins,
    }
}

fn own_cells(case: &Case<'_>, numatune_kept: bool) -> Vec<CellDemand> {
    let Case { domain, host, .. } = *case;
    let nodes = |cell: &Cell| {
        let memory = domain.memnodes.get(&cell.id).or(domain.numatune.as_ref());
        let nodes = memory.filter(|_| numatune_kept)?.nodeset.as_ref()?;
        Some(match cell.vcpus.is_empty() {
            true => nodes.clone(),
            false => near_cpus(host, nodes),
        })
    };
    domain
        .cells
        .iter()
        .map(|cell| CellDemand {
            id: cell.id,
            vcpus: cell.vcpus.clone(),
            memory: domain.memory_of(cell),
            nodes: nodes(cell),
        })
        .collect()
}

/// Returns the number of extra dedicated CPUs: the fewest that are needed, and those that are
/// wanted.
fn extra(wishes: &EffectiveProfile, domain: &Domain, host: &Host) -> (u32, u32) {
    let profile = &wishes.profile;
    let emulator_stays = wishes.keep && domain.emulatorpin.is_some();
    let emulator = u32::from(profile.emulator == Emulator::Isolate && !emulator_stays);
    if profile.iothread_cpus != IothreadCpus::Isolate {
        return (emulator, emulator);
    }
    let pinned = domain.iothreadpins.len() as u32;
    let stays = |count: u32| {
        if wishes.keep {
            count.saturating_sub(pinned)
        } else {
            count
        }
    };
    let (devices, _) = iothreads::PerDisk::new(profile, domain, host).devices(domain);
    let bound = iothreads::least_iothreads(domain);
    let (least, most) = match (profile.iothread_count, domain.iothreads) {
        (IothreadCount::Keep, count) => (count.unwrap_or(0), count.unwrap_or(0)),
        (_, Some(count)) if wishes.keep => (count, count),
        (IothreadCount::At(count), _) => (count.max(bound), count.max(bound)),
        (IothreadCount::Auto, _) => (devices.min(1).max(bound), devices.max(bound)),
    };
    (emulator + stays(least), emulator + stays(most))
}
