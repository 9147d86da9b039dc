//! Does the memory fit, and in pages of which size.

use crate::placement::cores::Site;
use crate::types::ids::{KiB, NodeId};

/// Cells of small pages are cut at this size: what libvirt rounds a cell up to on x86
/// (`qemuDomainAlignMemorySizes`), so that the guest's memory stays what its definition says.
const SMALL_CUT: KiB = KiB::MIB;

impl Site<'_> {
    /// Memory in such pages on a node, in KiB; `None`: not known, so not checked.
    pub fn available(&self, node: NodeId, page: Option<KiB>) -> Option<u64> {
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

    /// Whether a piece of memory fits a node in such pages.
    pub fn memory_fits(&self, node: NodeId, memory: KiB, page: Option<KiB>) -> bool {
        if !self.demand.bind {
            return self.memory_fits_host(page);
        }
        divides(page, memory) && self.available(node, page).is_none_or(|free| memory.0 <= free)
    }

    /// Whether the guest's memory fits these nodes together.
    pub fn memory_fits_together(&self, nodes: &[NodeId], page: Option<KiB>) -> bool {
        if !self.demand.bind {
            return self.memory_fits_host(page);
        }
        let free: Option<u64> = nodes.iter().map(|node| self.available(*node, page)).sum();
        divides(page, self.demand.memory) && free.is_none_or(|free| self.demand.memory.0 <= free)
    }

    /// Unbound memory comes from anywhere: huge pages have to be somewhere, small pages are the
    /// kernel's matter.
    fn memory_fits_host(&self, page: Option<KiB>) -> bool {
        page.is_none() || {
            let nodes = self
                .host
                .nodes
                .iter()
                .filter_map(|node| self.available(node.id, page));
            divides(page, self.demand.memory) && self.demand.memory.0 <= nodes.sum()
        }
    }
}

/// Whether memory is a whole number of such pages.
pub fn divides(page: Option<KiB>, memory: KiB) -> bool {
    page.is_none_or(|size| size.0 > 0 && memory.0.is_multiple_of(size.0))
}

/// The memory of a cell with `vcpus` of the guest's `all` vCPUs: in proportion, rounded down to the
/// page. What is left over goes to cell 0.
pub fn share(memory: KiB, vcpus: u32, all: u32, page: Option<KiB>) -> KiB {
    let cut = u128::from(cut(page).0);
    let exact = u128::from(memory.0) * u128::from(vcpus) / u128::from(all.max(1));
    KiB((exact / cut * cut) as u64)
}

/// What cells' memory is rounded to: the page, at least 1 KiB.
pub fn cut(page: Option<KiB>) -> KiB {
    KiB(page.unwrap_or(SMALL_CUT).0.max(1))
}
