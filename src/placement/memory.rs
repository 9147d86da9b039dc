//! Check that memory fits on nodes in pages of a given size.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BTreeMap;

use crate::placement::cores::Site;
use crate::placement::distance::homes;
use crate::types::ids::{KiB, NodeId};

/// Size to which cells in small pages are rounded down: libvirt rounds a cell up to it on x86
/// (`qemuDomainAlignMemorySizes`), and the guest's memory has to stay what its definition says.
const SMALL_CUT: KiB = KiB::MIB;

impl Site<'_> {
    /// Returns a node's free memory in such pages, in KiB; `None`: unknown, so not checked.
    pub(crate) fn available(&self, node: NodeId, page: Option<KiB>) -> Option<u64> {
        match page {
            Some(size) => Some(
                self.supply
                    .pages
                    .get(&(node, size))
                    .map_or(0, |count| count.saturating_mul(size.0)),
            ),
            None => self.supply.memory.get(&node).map(|free| free.0),
        }
    }

    /// Returns the most memory that vCPUs on a node can have in such pages, in KiB; `None`:
    /// unknown.
    pub(crate) fn most_available(&self, node: NodeId, page: Option<KiB>) -> Option<u64> {
        let homes = self.homes(node);
        let each = homes.iter().map(|home| self.available(*home, page));
        each.collect::<Option<Vec<u64>>>()?.into_iter().max()
    }

    /// Returns whether a piece of memory fits the vCPUs of a node in such pages.
    pub(crate) fn memory_fits(&self, node: NodeId, memory: KiB, page: Option<KiB>) -> bool {
        if !self.demand.bind {
            return self.memory_fits_host(page);
        }
        divides(page, memory)
            && self
                .most_available(node, page)
                .is_none_or(|free| memory.0 <= free)
    }

    /// Returns whether the guest's memory fits the vCPUs of these nodes together.
    pub(crate) fn memory_fits_together(&self, nodes: &[NodeId], page: Option<KiB>) -> bool {
        if !self.demand.bind {
            return self.memory_fits_host(page);
        }
        let add = |sum: u64, node: &NodeId| Some(sum.saturating_add(self.available(*node, page)?));
        let free = self.homes_of_all(nodes).iter().try_fold(0, add);
        divides(page, self.demand.memory) && free.is_none_or(|free| self.demand.memory.0 <= free)
    }

    /// Lists the nodes for the memory of a guest that is bound as one, whose vCPUs are on `nodes`:
    /// each of them that has memory; if none has, the nearest of the first.
    pub(crate) fn homes_of_all(&self, nodes: &[NodeId]) -> Vec<NodeId> {
        let own = |node: &&NodeId| self.homes(**node).first() == Some(node);
        let own: Vec<NodeId> = nodes.iter().filter(own).copied().collect();
        match (own.is_empty(), nodes.first()) {
            (true, Some(node)) => self.homes(*node).first().copied().into_iter().collect(),
            _ => own,
        }
    }

    /// Chooses a node for each piece of memory, given with the node of its vCPUs: that node, or
    /// where it has no memory the one with most left of the nearest that have enough. `None` where
    /// all pieces together do not fit.
    pub(crate) fn settle(&self, pieces: &[(NodeId, KiB)], page: Option<KiB>) -> Option<Vec<NodeId>> {
        // Memory that can be in one place only comes first.
        let mut order: Vec<usize> = (0..pieces.len()).collect();
        order.sort_by_key(|piece| self.homes(pieces[*piece].0).len() > 1);
        let mut settled = vec![NodeId(0); pieces.len()];
        let fits = self.settle_rest(&order, pieces, page, &mut BTreeMap::new(), &mut settled);
        fits.then_some(settled)
    }

    fn settle_rest(
        &self,
        order: &[usize],
        pieces: &[(NodeId, KiB)],
        page: Option<KiB>,
        used: &mut BTreeMap<NodeId, u64>,
        settled: &mut [NodeId],
    ) -> bool {
        let Some((piece, rest)) = order.split_first() else {
            return true;
        };
        let (node, memory) = pieces[*piece];
        let left = |home: NodeId| {
            let taken = used.get(&home).copied().unwrap_or(0);
            match self.available(home, page).filter(|_| self.demand.bind) {
                Some(free) => free.checked_sub(taken + memory.0),
                None => Some(0),
            }
        };
        let homes = self.homes(node);
        let mut open: Vec<(NodeId, u64)> = homes
            .iter()
            .filter_map(|home| Some((*home, left(*home)?)))
            .collect();
        open.sort_by_key(|(home, left)| (self.host.distance(node, *home), Reverse(*left), *home));
        for (home, _) in open {
            *used.entry(home).or_default() += memory.0;
            settled[*piece] = home;
            if self.settle_rest(rest, pieces, page, used, settled) {
                return true;
            }
            *used.entry(home).or_default() -= memory.0;
            if !self.spend(8) {
                return false;
            }
        }
        false
    }

    /// Lists the nodes that hold the memory of vCPUs on a node, nearest first.
    fn homes(&self, node: NodeId) -> Cow<'_, [NodeId]> {
        match self.node(node) {
            Some(node) => Cow::Borrowed(&node.memory),
            None => Cow::Owned(
                self.host
                    .node(node)
                    .map_or(vec![node], |node| homes(self.host, node)),
            ),
        }
    }

    /// Returns whether unbound memory fits on the host: huge pages must be free on some nodes,
    /// small pages are the kernel's business.
    fn memory_fits_host(&self, page: Option<KiB>) -> bool {
        page.is_none() || {
            let nodes = self
                .host
                .nodes
                .iter()
                .filter_map(|node| self.available(node.id, page));
            divides(page, self.demand.memory) && self.demand.memory.0 <= nodes.fold(0, u64::saturating_add)
        }
    }
}

/// Returns whether memory is a whole number of such pages.
pub(crate) fn divides(page: Option<KiB>, memory: KiB) -> bool {
    page.is_none_or(|size| size.0 > 0 && memory.0.is_multiple_of(size.0))
}

/// Returns the memory of a cell with `vcpus` of the guest's `all` vCPUs: in proportion, rounded
/// down to the page. Cell 0 gets the remainder.
pub(crate) fn share(memory: KiB, vcpus: u32, all: u32, page: Option<KiB>) -> KiB {
    let cut = u128::from(cut(page).0);
    let exact = u128::from(memory.0) * u128::from(vcpus) / u128::from(all.max(1));
    KiB((exact / cut * cut) as u64)
}

/// Returns the unit to which the memory of cells is rounded: the page, at least 1 KiB.
pub(crate) fn cut(page: Option<KiB>) -> KiB {
    KiB(page.unwrap_or(SMALL_CUT).0.max(1))
}
