//! What the XML a guest starts with pins and takes by itself, and whether it can have that.

use std::collections::{BTreeMap, BTreeSet};

use crate::ledger::guest_xml;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reservation::ReservedMemory;
use crate::ledger::{Holder, MemoryUse, Taken, reader, taken};
use crate::policy::cpu_sets;
use crate::snapshot::Snapshot;
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::setting::Target;

/// What libvirt's status file will say it holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct OwnClaims {
    /// CPUs of its pins, as the ledger counts them.
    pub cpus: CpuSet,
    /// Of those the ones of pins of its threads, without `vcpu@cpuset`, and what is withheld for
    /// it.
    pub pinned: CpuSet,
    /// Siblings its provenance withholds, as far as its pins confirm that.
    pub withheld: CpuSet,
    /// Its memory.
    pub memory: Vec<MemoryUse>,
    /// The nodes of the host.
    pub nodes: NodeSet,
}

/// Whether a guest can have the pins its XML brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum PinState {
    /// All are there, valid and free; also where it needs none.
    Free,
    /// Some are held by others.
    Taken(CpuSet),
    /// Some cannot be used on this host, or two vCPUs have the same.
    Invalid(CpuSet),
    /// Some vCPUs that are to have a CPU of their own have none.
    Absent,
}

impl OwnClaims {
    /// Of a guest's XML.
    pub fn of(view: &Snapshot, guest: &GuestXml) -> Self {
        let holds = |guest: &GuestXml| {
            let holder = Holder {
                pins: guest_xml::pins(guest, None),
                ..Holder::default()
            };
            taken::held(&holder, &view.host, &view.sets.dedicated, true)
        };
        let mut without = guest.clone();
        without.domain.vcpu_cpuset = None;
        let pinned = holds(&without);
        let withheld = taken::confirmed(&guest.withheld, &pinned, &view.host, &view.sets.dedicated);
        Self {
            cpus: holds(guest),
            pinned: pinned.union(&withheld),
            withheld,
            nodes: view.host.nodes.iter().map(|node| node.id).collect(),
            memory: guest_xml::memory(&guest.domain, None, || reader::default_huge_page(&view.root)),
        }
    }

    /// What nobody else has of it.
    pub fn free(&self, taken: &Taken) -> CpuSet {
        let held = taken.cpus.keys().copied().collect();
        self.cpus.difference(&held)
    }

    /// How its pins stand, if `dedicated` are the vCPUs that are to have a CPU of their own.
    pub fn standing(
        &self,
        view: &Snapshot,
        guest: &GuestXml,
        dedicated: &VcpuSet,
        taken: &Taken,
    ) -> PinState {
        let held: CpuSet = taken.cpus.keys().copied().collect();
        let collide = self.pinned.intersection(&held);
        if !collide.is_empty() {
            return PinState::Taken(collide);
        }
        let usable = cpu_sets::usable(&view.host);
        let mut invalid = CpuSet::new();
        let mut seen = CpuSet::new();
        let mut absent = false;
        for vcpu in dedicated.iter() {
            let pin = guest.domain.vcpupins.get(&vcpu);
            let Some(pin) = pin.filter(|_| !guest.floating.contains(&Target::VcpuPin(vcpu))) else {
                absent = true;
                continue;
            };
            invalid.extend_from(&pin.difference(&usable));
            if pin.len() != 1 {
                continue;
            }
            for cpu in pin.iter() {
                let ours = guest.wrote.contains(cpu);
                if !seen.insert(cpu) || (ours && !view.sets.dedicated.contains(cpu)) {
                    invalid.insert(cpu);
                }
            }
        }
        match (invalid.is_empty(), absent) {
            (false, _) => PinState::Invalid(invalid),
            (true, true) => PinState::Absent,
            (true, false) => PinState::Free,
        }
    }

    /// Returns the memory as a reservation has it: huge pages, and small pages that are bound to
    /// nodes, one piece for each node and page size. Where memory may come from several nodes, huge
    /// pages count on each of them, as those of a starting guest do; small ones are spread alike.
    /// Nodes this host has not are left out: an XML of some bytes may name thousands.
    pub fn reserved_memory(&self) -> Vec<ReservedMemory> {
        let mut reserved: BTreeMap<(Option<NodeId>, Option<KiB>), u64> = BTreeMap::new();
        let mut add = |node: Option<NodeId>, page: Option<KiB>, kib: u64| {
            let sum = reserved.entry((node, page)).or_default();
            *sum = sum.saturating_add(kib);
        };
        for uses in &self.memory {
            let nodes = uses.nodes.intersection(&self.nodes);
            match uses.page {
                Some(page) if uses.nodes.is_empty() => add(None, Some(page), uses.amount.0),
                Some(page) => nodes
                    .iter()
                    .for_each(|node| add(Some(node), Some(page), uses.amount.0)),
                None => {
                    let part = uses.amount.0.div_ceil((nodes.len() as u64).max(1));
                    nodes.iter().for_each(|node| add(Some(node), None, part));
                }
            }
        }
        let pieces = reserved.into_iter();
        pieces
            .map(|((node, page_kib), kib)| ReservedMemory {
                node,
                page_kib,
                kib: KiB(kib),
            })
            .collect()
    }
}

/// Whether the huge pages and strictly bound memory that an XML asks for are there. They are taken
/// as it says, whatever the policy would rather have, so QEMU would fail. For any nodes that pieces
/// share, what fits on them together.
pub fn memory_is_there(guest: &GuestXml, own: &OwnClaims, taken: &Taken) -> bool {
    let domain = &guest.domain;
    let strict = |mode: &str| matches!(mode, "strict" | "restrictive");
    let overall = domain
        .numatune
        .as_ref()
        .is_some_and(|memory| strict(&memory.mode));
    let hard: Vec<MemoryUse> = own
        .memory
        .iter()
        .enumerate()
        .map(|(index, uses)| {
            let of_cell = domain
                .cells
                .get(index)
                .and_then(|cell| domain.memnodes.get(&cell.id));
            let bound = of_cell.map_or(overall, |memory| strict(&memory.mode));
            MemoryUse {
                nodes: if bound { uses.nodes.clone() } else { NodeSet::new() },
                ..uses.clone()
            }
        })
        .collect();
    let kinds: BTreeSet<(Option<KiB>, NodeSet)> =
        hard.iter().map(|uses| (uses.page, uses.nodes.clone())).collect();
    kinds.iter().all(|(page, nodes)| {
        let inside = |uses: &&MemoryUse| {
            uses.page == *page
                && (nodes.is_empty() || (!uses.nodes.is_empty() && uses.nodes.is_subset(nodes)))
        };
        let here = |node: NodeId| nodes.is_empty() || nodes.contains(node);
        match page {
            Some(size) => {
                let wanted: u64 = hard.iter().filter(inside).fold(0, |sum, uses| {
                    sum.saturating_add(uses.amount.0.div_ceil(size.0.max(1)))
                });
                let there = taken
                    .pages_free
                    .iter()
                    .filter(|((node, of), _)| of == size && here(*node))
                    .fold(0u64, |sum, (_, pages)| sum.saturating_add(*pages));
                wanted <= there
            }
            None if nodes.is_empty() || !nodes.iter().all(|node| taken.memory_free.contains_key(&node)) => {
                true
            }
            None => {
                let wanted: u64 = hard
                    .iter()
                    .filter(inside)
                    .fold(0, |sum, uses| sum.saturating_add(uses.amount.0));
                let there = taken
                    .memory_free
                    .iter()
                    .filter(|(node, _)| here(**node))
                    .fold(0u64, |sum, (_, free)| sum.saturating_add(free.0));
                wanted <= there
            }
        }
    })
}
