//! Guest topology that mirrors the chosen CPUs: the guest sees what it runs on, or less.

use crate::domain::Topology;
use crate::host::Host;
use crate::placement::mirror::{Exact, Spot, equal_runs};
use crate::placement::{Mirror, Placed};
use crate::types::ids::VcpuId;
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::reason::Unmirrored;

/// Limits of a guest's topology, and the levels that show where its cores are.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Limits<'a> {
    /// Levels that mirror the host.
    pub mirror: Mirror,
    /// Guest cells that have nothing to do with nodes; no die reaches over two.
    pub cells: &'a [VcpuSet],
    /// Largest number of sockets the guest can use; `None`: no limit.
    pub max_sockets: Option<u32>,
    /// Largest APIC id; `None`: no limit.
    pub max_apic_id: Option<u32>,
}

/// Topology, and the reason where it does not mirror the chosen CPUs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Derived {
    /// Topology to be shown.
    pub topology: Topology,
    /// Reason why it is no mirror; `None`: it is one.
    pub unmirrored: Option<Unmirrored>,
}

/// Works out the topology for a placement.
///
/// Sockets mirror packages and dies mirror last-level caches (that is how QEMU shows an L3, x86
/// only), each with equally many cores. Where the place has no such mirror nothing false is shown:
/// each cache is a socket, or each core. Only where the guest cannot have as many sockets it has
/// one, with what is not real in it.
pub(crate) fn derive(host: &Host, placed: &Placed, limits: &Limits<'_>) -> Derived {
    let threads = placed.threads.max(1);
    let all = (placed.vcpus.len() as u32 / threads).max(1);
    let shape = |exact: Exact| Topology {
        sockets: exact.sockets,
        dies: exact.dies,
        clusters: 1,
        cores: exact.cores,
        threads,
    };
    let spots = spots(host, placed, limits);
    let exact = spots
        .as_deref()
        .and_then(|spots| limits.mirror.exact(spots, None));
    let runs = spots.as_deref().and_then(equal_runs);
    // Ways to show the place, best first, each with the reason why not the one before.
    let mut ways: Vec<(Topology, Option<Unmirrored>)> = Vec::new();
    let flat = |sockets: u32| Exact {
        sockets,
        dies: 1,
        cores: all / sockets,
    };
    ways.extend(exact.map(|exact| (shape(exact), None)));
    let mut why = match (&spots, runs) {
        (None, _) => Unmirrored::Floating,
        (_, Some(_)) => Unmirrored::Packages,
        (Some(spots), None) if are_real_without_cells(spots) => Unmirrored::Cells,
        (_, None) => Unmirrored::Caches,
    };
    let fits = |topology: &Topology| {
        let ids = |most: u32| apic_ids(*topology) <= most.saturating_add(1);
        (
            limits.max_sockets.is_none_or(|most| topology.sockets <= most),
            limits.max_apic_id.is_none_or(ids),
        )
    };
    if let Some((exact, _)) = ways.first() {
        why = match fits(exact) {
            (true, true) => {
                return Derived {
                    topology: *exact,
                    unmirrored: None,
                };
            }
            (false, _) => Unmirrored::Sockets,
            (true, false) => Unmirrored::ApicIds,
        };
    }
    ways.extend(runs.map(|runs| (shape(flat(runs)), Some(why))));
    ways.push((shape(flat(all)), Some(why)));
    let good = ways.iter().find(|(topology, _)| fits(topology) == (true, true));
    if let Some((topology, unmirrored)) = good {
        return Derived {
            topology: *topology,
            unmirrored: *unmirrored,
        };
    }
    // Without sockets enough: equal caches are real as dies of one socket, other ones are not.
    let dies = runs.filter(|_| limits.mirror == Mirror::Caches).unwrap_or(1);
    let one = Exact {
        sockets: 1,
        dies,
        cores: all / dies,
    };
    let one = match fits(&shape(one)) {
        (_, true) => one,
        (_, false) => flat(1),
    };
    Derived {
        topology: shape(one),
        unmirrored: Some(why),
    }
}

/// Returns the place of each guest core; `None` where a vCPU may run in several.
fn spots(host: &Host, placed: &Placed, limits: &Limits<'_>) -> Option<Vec<Spot>> {
    let first = placed.vcpus.iter().step_by(placed.threads.max(1) as usize);
    let one = |(vcpu, pin): (&VcpuId, &CpuSet)| {
        let mut spots = pin.iter().map(|cpu| Some(limits.mirror.spot(host.core_of(cpu)?)));
        let first = spots.next()??;
        let alone = spots.all(|spot| spot == Some(first));
        alone.then(|| first.in_cell_of(*vcpu, limits.cells))
    };
    first.map(one).collect()
}

/// Returns whether caches have equally many guest cores, in a row, if guest cells do not count.
fn are_real_without_cells(spots: &[Spot]) -> bool {
    let without: Vec<Spot> = spots.iter().map(|spot| Spot { cell: 0, ..*spot }).collect();
    equal_runs(&without).is_some()
}

/// Returns the number of APIC ids a topology takes up: each level has its own bits.
fn apic_ids(topology: Topology) -> u32 {
    let bits = |count: u32| u32::BITS - count.saturating_sub(1).leading_zeros();
    let threads = bits(topology.threads);
    let cores = threads + bits(topology.cores_of_die());
    let dies = cores + bits(topology.dies);
    let last = |count: u32, bits: u32| count.saturating_sub(1).checked_shl(bits).unwrap_or(u32::MAX);
    last(topology.sockets, dies)
        .saturating_add(last(topology.dies, cores))
        .saturating_add(last(topology.cores_of_die(), threads))
        .saturating_add(topology.threads)
}

/// Returns all vCPUs as cores of one socket.
pub(crate) fn flat(vcpus: u32) -> Topology {
    Topology {
        sockets: 1,
        dies: 1,
        clusters: 1,
        cores: vcpus,
        threads: 1,
    }
}
