//! Memory that an administrator bound, and that stays where it is bound: it is counted there, cell
//! by cell, wherever the vCPUs are.

use std::collections::BTreeMap;

use crate::domain::Domain;
use crate::engine::supply::Supplies;
use crate::host::Host;
use crate::ledger::guest_xml;
use crate::placement::{Placed, Supply, memory};
use crate::types::ids::{CellId, KiB, NodeId};
use crate::types::idset::{NodeSet, VcpuSet};
use crate::types::plan::PlacedCell;
use crate::types::reason::{Given, NoPlace};

/// Memory of a guest that stays where it is bound.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct KeptMemory {
    /// Pieces: one for each guest cell, or one for a guest without.
    pub pieces: Vec<Piece>,
}

/// Piece of a guest's memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Piece {
    /// Cell; 0 for a guest without.
    pub cell: CellId,
    /// vCPUs of the cell.
    pub vcpus: VcpuSet,
    /// Size of the piece.
    pub amount: KiB,
    /// Nodes it is bound to; empty: not bound.
    pub nodes: NodeSet,
    /// No other node may take its place.
    pub strict: bool,
}

impl KeptMemory {
    /// Reads the pieces of a guest whose `<numatune>` stays.
    pub(crate) fn of(domain: &Domain) -> Self {
        let uses = guest_xml::memory(domain, None, || KiB(0));
        let pieces = uses.into_iter().enumerate().map(|(index, uses)| {
            let cell = domain.cells.get(index);
            let of_cell = cell.and_then(|cell| domain.memnodes.get(&cell.id));
            let memory = of_cell.or(domain.numatune.as_ref());
            Piece {
                cell: cell.map_or(CellId(0), |cell| cell.id),
                vcpus: cell.map_or_else(|| domain.all_vcpus(), |cell| cell.vcpus.clone()),
                amount: uses.amount,
                strict: memory.is_some_and(|memory| matches!(memory.mode.as_str(), "strict" | "restrictive")),
                nodes: uses.nodes,
            }
        });
        Self {
            pieces: pieces.collect(),
        }
    }

    /// Returns whether a piece is bound: otherwise there is nothing to count.
    pub(crate) fn is_bound(&self) -> bool {
        self.pieces.iter().any(|piece| !piece.nodes.is_empty())
    }

    /// Returns the first piece that does not fit its nodes in such pages, with all pieces that
    /// share these nodes. Small pages that are only preferred there may be elsewhere.
    pub(crate) fn misfit(&self, supply: &Supply, page: Option<KiB>) -> Option<&Piece> {
        let bound = || self.pieces.iter().filter(|piece| !piece.nodes.is_empty());
        bound().find(|piece| {
            let counts = |other: &&Piece| page.is_some() || other.strict;
            let inside = |other: &&Piece| other.nodes.is_subset(&piece.nodes);
            let sum = bound()
                .filter(inside)
                .filter(counts)
                .fold(0u64, |sum, other| sum.saturating_add(other.amount.0));
            let free = free(supply, &piece.nodes, page);
            !memory::divides(page, piece.amount) || free.is_some_and(|free| sum > free)
        })
    }

    /// Returns the reason for which the memory fits its nodes in no page size of the demand.
    pub(crate) fn reason(&self, supply: &Supply, pages: &[Option<KiB>]) -> Option<NoPlace> {
        let piece = pages.iter().find_map(|page| self.misfit(supply, *page))?;
        let on = |page: &Option<KiB>| {
            let nodes = piece.nodes.iter();
            let free = nodes.map(|node| (node, KiB(free(supply, &NodeSet::one(node), *page).unwrap_or(0))));
            (*page, free.collect())
        };
        Some(NoPlace::LittleMemoryThere {
            need: piece.amount,
            nodes: piece.nodes.clone(),
            free: pages.iter().map(on).collect(),
            asking: supply.asking(pages, |node| piece.nodes.contains(node)),
            holders: supply.memory_held.clone(),
        })
    }

    /// Names the vCPUs that run on other nodes than their memory is on.
    pub(crate) fn apart(&self, host: &Host, placed: &Placed) -> Vec<Given> {
        let mut found: BTreeMap<(NodeSet, NodeSet), VcpuSet> = BTreeMap::new();
        for piece in self.pieces.iter().filter(|piece| !piece.nodes.is_empty()) {
            let near = near_cpus(host, &piece.nodes);
            for vcpu in piece.vcpus.iter() {
                let pin = placed.vcpus.get(&vcpu);
                let nodes: NodeSet = pin
                    .iter()
                    .flat_map(|pin| pin.iter())
                    .filter_map(|cpu| Some(host.core_of(cpu)?.node))
                    .collect();
                if !nodes.is_subset(&near) {
                    found
                        .entry((piece.nodes.clone(), nodes))
                        .or_default()
                        .insert(vcpu);
                }
            }
        }
        let reason = |((memory, cpus), vcpus)| Given::MemoryApart { vcpus, cpus, memory };
        found.into_iter().map(reason).collect()
    }

    /// Puts the nodes of the memory into the cells of a plan, where each is on one node.
    pub(crate) fn show(&self, cells: &mut [PlacedCell]) {
        if !self.is_bound() {
            return;
        }
        let all = self
            .pieces
            .iter()
            .fold(NodeSet::new(), |all, piece| all.union(&piece.nodes));
        let whole = cells.len() != self.pieces.len();
        for cell in cells {
            let piece = self
                .pieces
                .iter()
                .find(|piece| piece.cell == cell.id)
                .filter(|_| !whole);
            let nodes = piece.map_or(&all, |piece| &piece.nodes);
            cell.node = nodes.first().filter(|_| nodes.len() == 1);
        }
    }
}

/// Returns the memory that is free on these nodes together in such pages, in KiB; `None`: unknown.
fn free(supply: &Supply, nodes: &NodeSet, page: Option<KiB>) -> Option<u64> {
    let of = |node: NodeId| match page {
        Some(size) => {
            let pages = supply.pages.get(&(node, size)).copied().unwrap_or(0);
            Some(pages.saturating_mul(size.0))
        }
        None => Some(supply.memory.get(&node)?.0),
    };
    nodes
        .iter()
        .try_fold(0u64, |sum, node| Some(sum.saturating_add(of(node)?)))
}

/// Returns the nodes for the CPUs of a guest whose memory is on `nodes`: those of them that have
/// CPUs, and for each other one the nearest that has some.
pub(crate) fn near_cpus(host: &Host, nodes: &NodeSet) -> NodeSet {
    let has_cpus = |node: NodeId| host.cores.iter().any(|core| core.node == node);
    let near = |node: NodeId| {
        let others = host
            .nodes
            .iter()
            .map(|node| node.id)
            .filter(|other| has_cpus(*other));
        others.min_by_key(|other| (host.distance(*other, node), *other))
    };
    nodes
        .iter()
        .map(|node| match has_cpus(node) || host.node(node).is_none() {
            true => node,
            false => near(node).unwrap_or(node),
        })
        .collect()
}

/// Limits page sizes to those in which kept memory fits its nodes now; where there is none, the
/// reason is returned.
pub(crate) fn fitting(
    kept: &KeptMemory,
    supplies: &Supplies,
    pages: &mut Vec<Option<KiB>>,
) -> Option<NoPlace> {
    if !kept.is_bound() || pages.is_empty() {
        return None;
    }
    let reason = || kept.reason(&supplies.now, pages);
    let good: Vec<Option<KiB>> = pages
        .iter()
        .copied()
        .filter(|page| kept.misfit(&supplies.now, *page).is_none())
        .collect();
    if good.is_empty() {
        return reason();
    }
    *pages = good;
    None
}
