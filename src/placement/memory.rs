//! Check that memory fits on nodes in pages of a given size.

use crate::placement::cores::Site;
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

    /// Returns whether a piece of memory fits on a node in such pages.
    pub(crate) fn memory_fits(&self, node: NodeId, memory: KiB, page: Option<KiB>) -> bool {
        if !self.demand.bind {
            return self.memory_fits_host(page);
        }
        divides(page, memory) && self.available(node, page).is_none_or(|free| memory.0 <= free)
    }

    /// Returns whether the guest's memory fits on these nodes together.
    pub(crate) fn memory_fits_together(&self, nodes: &[NodeId], page: Option<KiB>) -> bool {
        if !self.demand.bind {
            return self.memory_fits_host(page);
        }
        let add = |sum: u64, node: &NodeId| Some(sum.saturating_add(self.available(*node, page)?));
        let free = nodes.iter().try_fold(0, add);
        divides(page, self.demand.memory) && free.is_none_or(|free| self.demand.memory.0 <= free)
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
