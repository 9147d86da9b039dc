//! Placements as plans and reservations show them.

use crate::domain::Topology;
use crate::engine::demand::Demanded;
use crate::engine::fit::Fit;
use crate::engine::support::Support;
use crate::placement::Placed;
use crate::types::ids::{CellId, VcpuId};
use crate::types::idset::CpuSet;
use crate::types::plan::{PlacedCell, Placement};

/// Converts a placement into the form plans show.
pub(super) fn placement(fit: &Fit<'_>, support: &Support, topology: Option<Topology>) -> Placement {
    let Fit {
        case,
        placed,
        demanded,
        fits,
        ..
    } = *fit;
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
            vcpus: case.domain.all_vcpus(),
            memory_kib: case.domain.memory,
            node: None,
        });
    }
    demanded.kept_memory.show(&mut cells);
    Placement {
        vcpus: placed.vcpus.clone(),
        emulator: support.emulator.clone().unwrap_or_default(),
        iothreads: support.iothreads.clone(),
        nodes: placed.nodes.clone(),
        cells,
        page_kib: placed.page.filter(|_| fits),
        topology,
        withheld: placed.withheld.clone(),
        dedicated: dedicated(placed, demanded, fits),
        fits,
    }
}

/// Returns the CPUs a placement takes for the guest alone: none where the guest floats, except
/// those of pins an administrator wrote.
fn dedicated(placed: &Placed, demanded: &Demanded, fits: bool) -> CpuSet {
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
