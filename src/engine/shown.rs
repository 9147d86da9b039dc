//! Placements as plans and reservations show them.

use std::collections::BTreeSet;

use crate::domain::Topology;
use crate::engine::fit::Fit;
use crate::engine::support::Support;
use crate::ledger::guest_xml::masks_of;
use crate::ledger::{Holder, taken};
use crate::types::ids::{CellId, VcpuId};
use crate::types::idset::CpuSet;
use crate::types::plan::{PlacedCell, Placement};
use crate::types::setting::Target;

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
        // Housekeeping is for all, also beside a CPU that a guest is pinned to by hand.
        withheld: placed.withheld.difference(&case.sets.housekeeping),
        dedicated: dedicated(fit),
        fits,
    }
}

/// Returns the CPUs a placement takes for the guest alone. Where the guest floats, these are only
/// those of pins an administrator wrote: of one CPU, and of several as far as the ledger counts
/// them while the guest runs.
fn dedicated(fit: &Fit<'_>) -> CpuSet {
    let Fit {
        case,
        placed,
        demanded,
        fits,
        ..
    } = *fit;
    // An empty slot holds nothing for a guest without CPUs of its own.
    let dedicates = case.wishes.profile.dedicates();
    let is_held = |vcpu: &VcpuId| dedicates || !case.domain.empty_slots.contains(*vcpu);
    let kept = &demanded.kept_pins;
    let by_hand = kept.iter().filter(|(vcpu, _)| is_held(vcpu));
    let by_hand = by_hand.map(|(vcpu, pin)| (Target::VcpuPin(*vcpu), pin));
    let by_hand = Holder {
        pins: masks_of(by_hand, &BTreeSet::new()).holding(dedicates),
        ..Holder::default()
    };
    let mut cpus = taken::pinned(&by_hand, &case.sets.dedicated);
    let own = |vcpu: &VcpuId| fits && demanded.demand.dedicated.contains(*vcpu);
    for (vcpu, pin) in &placed.vcpus {
        let alone = match kept.contains_key(vcpu) {
            true => pin.len() == 1 && is_held(vcpu),
            false => own(vcpu),
        };
        if alone {
            cpus.extend_from(pin);
        }
    }
    if fits {
        cpus.extend_from(&placed.extra.iter().copied().collect());
    }
    cpus
}
