//! Pins and memory that a guest's own XML takes at its start, and the check that they are free.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Domain;
use crate::host::{Host, memory};
use crate::ledger::guest_xml;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reservation::ReservedMemory;
use crate::ledger::{Holder, MemoryUse, Taken, taken};
use crate::policy::{cpu_sets, select};
use crate::snapshot::Snapshot;
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::reason::Start;
use crate::types::setting::Target;

/// Holdings of a guest, as libvirt's status file will show them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct OwnClaims {
    /// CPUs of its pins, as the ledger counts them.
    pub cpus: CpuSet,
    /// CPUs among these of its threads' own pins, without `vcpu@cpuset`, and the siblings withheld
    /// for it.
    pub pinned: CpuSet,
    /// Siblings that its provenance withholds, as far as its pins confirm them.
    pub withheld: CpuSet,
    /// Memory of the guest, by page size and nodes.
    pub memory: Vec<MemoryUse>,
    /// Nodes of the host.
    pub nodes: NodeSet,
}

/// State of the pins that a guest's XML brings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum PinState {
    /// All needed pins are there, valid and free; also if none is needed.
    Free,
    /// These CPUs are held by other guests.
    Taken(CpuSet),
    /// Some pins cannot be used, for the first reason that is found.
    Invalid(Start),
    /// Some vCPUs that need a CPU of their own have no such pin.
    Absent,
}

impl OwnClaims {
    /// Computes the holdings from a guest's XML.
    pub(crate) fn of(view: &Snapshot, guest: &GuestXml) -> Self {
        let autostart = view.reading.autostart.contains(&guest.domain.name);
        let dedicates = select::dedicates(&view.policy, &guest.domain, autostart);
        let holds = |guest: &GuestXml| {
            let holder = Holder {
                pins: guest_xml::masks(guest, None).holding(dedicates),
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
            memory: guest_xml::memory(&guest.domain, None, || memory::default_huge_page(&view.root)),
        }
    }

    /// Returns the CPUs that no other guest holds.
    pub(crate) fn free(&self, taken: &Taken) -> CpuSet {
        let held = taken.cpus.keys().copied().collect();
        self.cpus.difference(&held)
    }

    /// Judges the guest's pins; `dedicated` are the vCPUs that need a CPU of their own.
    pub(crate) fn standing(
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
        let (mut unusable, mut twice, mut other) = (CpuSet::new(), CpuSet::new(), CpuSet::new());
        let mut seen = CpuSet::new();
        let mut absent = false;
        for vcpu in dedicated.iter() {
            let pin = guest.domain.vcpupins.get(&vcpu);
            let Some(pin) = pin.filter(|_| !guest.floating.contains(&Target::VcpuPin(vcpu))) else {
                absent = true;
                continue;
            };
            unusable.extend_from(&pin.difference(&usable));
            if pin.len() != 1 {
                continue;
            }
            for cpu in pin.iter() {
                let ours = guest.wrote.contains(cpu);
                if !seen.insert(cpu) {
                    twice.insert(cpu);
                } else if ours && !view.sets.dedicated.contains(cpu) {
                    other.insert(cpu);
                }
            }
        }
        match absent {
            _ if !unusable.is_empty() => PinState::Invalid(Start::CpusUnusable { cpus: unusable }),
            _ if !twice.is_empty() => PinState::Invalid(Start::PinnedTwice { cpus: twice }),
            _ if !other.is_empty() => PinState::Invalid(Start::NotDedicated { cpus: other }),
            true => PinState::Absent,
            false => PinState::Free,
        }
    }

    /// Returns the memory in the form of a reservation: huge pages, and small pages bound to nodes,
    /// one piece for each node and page size. If memory may come from several nodes, huge pages
    /// count in full on each of them, like those of a starting guest, and small pages are split
    /// evenly. Nodes that the host does not have are left out: a short XML may name thousands.
    pub(crate) fn reserved_memory(&self) -> Vec<ReservedMemory> {
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

/// Returns the CPUs of pins of which no CPU is online and for guests: libvirt cannot set such a
/// pin, so that the start fails.
pub(crate) fn dead_pins(host: &Host, domain: &Domain) -> CpuSet {
    let usable = cpu_sets::usable(host);
    let vcpus = domain.vcpupins.iter();
    let vcpus = vcpus.filter(|(vcpu, _)| !domain.empty_slots.contains(**vcpu));
    let pins = vcpus
        .map(|(_, pin)| pin)
        .chain(&domain.emulatorpin)
        .chain(domain.iothreadpins.values());
    let dead = pins.filter(|pin| pin.is_disjoint(&usable));
    dead.fold(CpuSet::new(), |all, pin| all.union(pin))
}

/// Returns whether the huge pages and strictly bound memory that an XML asks for are free. QEMU
/// takes them as the XML says, whatever the policy asks for, and would fail without them. Pieces
/// that share nodes are added up before they are compared with those nodes.
pub(crate) fn memory_is_there(guest: &GuestXml, own: &OwnClaims, taken: &Taken) -> bool {
    is_there(&where_it_must_be(guest, own), taken)
}

/// Returns whether the huge pages among this memory are free.
pub(crate) fn pages_are_there(guest: &GuestXml, own: &OwnClaims, taken: &Taken) -> bool {
    let mut pages = where_it_must_be(guest, own);
    pages.retain(|piece| piece.page.is_some());
    is_there(&pages, taken)
}

/// Returns the guest's memory with the nodes that each piece must come from.
fn where_it_must_be(guest: &GuestXml, own: &OwnClaims) -> Vec<MemoryUse> {
    // Only strictly bound pieces must come from their nodes; the others may come from any.
    let domain = &guest.domain;
    let strict = |mode: &str| matches!(mode, "strict" | "restrictive");
    let overall = domain
        .numatune
        .as_ref()
        .is_some_and(|memory| strict(&memory.mode));
    own.memory
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
        .collect()
}

/// Returns whether these pieces of memory are free on the nodes they name; one that names none may
/// come from any.
pub(crate) fn is_there(pieces: &[MemoryUse], taken: &Taken) -> bool {
    // Each set of nodes is checked once for each page size, with all pieces that lie within it.
    let kinds: BTreeSet<(Option<KiB>, NodeSet)> = pieces
        .iter()
        .map(|uses| (uses.page, uses.nodes.clone()))
        .collect();
    kinds.iter().all(|(page, nodes)| {
        let inside = |uses: &&MemoryUse| {
            uses.page == *page
                && (nodes.is_empty() || (!uses.nodes.is_empty() && uses.nodes.is_subset(nodes)))
        };
        let here = |node: NodeId| nodes.is_empty() || nodes.contains(node);
        match page {
            Some(size) => {
                let wanted: u64 = pieces.iter().filter(inside).fold(0, |sum, uses| {
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
                let wanted: u64 = pieces
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
