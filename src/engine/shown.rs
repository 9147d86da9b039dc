//! Placements as plans and reservations show them.

use crate::domain::Domain;
use crate::engine::demand::Demanded;
use crate::engine::support;
use crate::placement::Placed;
use crate::types::ids::{CellId, VcpuId};
use crate::types::idset::CpuSet;
use crate::types::plan::{PlacedCell, Placement};

/// Converts a placement into the form plans show.
pub(super) fn show(
    placed: &Placed,
    support: &support::Support,
    topology: Option<crate::domain::Topology>,
    fits: bool,
    domain: &Domain,
) -> Placement {
    let mut cells: Vec<PlacedCell> = placed
        .cells
        .iter()
        .map(|cell| PlacedCell {
            id: cell.id,
            vcpus: cell.vcpus.clone(),
            memory_kib: cell.memory,
            node: cell.node,
        })
        .collect();
    if cells.is_empty() {
        cells.push(PlacedCell {
            id: CellId(0),
            vcpus: domain.all_vcpus(),
            memory_kib: domain.memory,
            node: None,
        });
    }
    Placement {
        vcpus: placed.vcpus.clone(),
        emulator: support.emulator.clone().unwrap_or_default(),
        iothreads: support.iothreads.clone(),
        nodes: placed.nodes.clone(),
        cells,
        page_kib: placed.page.filter(|_| fits),
        topology,
        withheld: placed.withheld.clone(),
        dedicated: CpuSet::new(),
        fits,
    }
}

/// Returns the CPUs a placement takes for the guest alone: none where the guest floats, except
/// those of pins an administrator wrote.
pub(super) fn dedicated(placed: &Placed, demanded: &Demanded, fits: bool) -> CpuSet {
    let kept = |vcpu: &VcpuId| demanded.kept_pins.contains_key(vcpu);
    let own = |vcpu: &VcpuId| fits && demanded.demand.dedicated.contains(*vcpu);
    let mut cpus = CpuSet::new();
    for (_, pin) in placed.vcpus.iter().filter(|(vcpu, _)| own(vcpu) || kept(vcpu)) {
        cpus.extend_from(pin);
    }
    if fits {
        cpus.extend_from(&placed.extra.iter().copied().collect());
    }
    cpus
}
