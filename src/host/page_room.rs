//! Memory that huge pages can be made of while the host runs.
//!
//! A write to `nr_hugepages` takes what it gets, to the last page of its node, and reports success
//! (`mm/hugetlb.c`). So what may be asked for is worked out before: a node keeps the memory that is
//! reserved for the host, and no more is counted than is free or comes free without a storm of
//! swapping.

use crate::host::kernel;
use crate::types::ids::KiB;

/// Memory of one node, from its `meminfo`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PageRoom {
    /// Memory that nothing uses (`MemFree`).
    free: KiB,
    /// Pages of files, of which the kernel can drop many (`Active(file)` and `Inactive(file)`).
    files: KiB,
}

impl PageRoom {
    /// Parses a node's `meminfo`, or `/proc/meminfo`; `None`: it does not say what is free.
    pub(crate) fn parse(meminfo: &str) -> Option<Self> {
        let amount = |key| kernel::meminfo(meminfo, key);
        let files = ["Active(file)", "Inactive(file)"].map(|key| amount(key).unwrap_or_default().0);
        Some(Self {
            free: amount("MemFree")?,
            files: KiB(files.into_iter().fold(0, u64::saturating_add)),
        })
    }

    /// Returns how much of it can become huge pages of a size, in whole pages, if the node keeps
    /// `reserved`. Half of the files' pages count. Gigantic pages need memory in one piece, so no
    /// more than half of the free memory counts for them.
    pub(crate) fn for_pages(self, size: KiB, reserved: KiB) -> KiB {
        let all = self.free.0.saturating_add(self.files.0 / 2);
        let room = all.saturating_sub(reserved.0);
        let room = match size >= KiB::GIB {
            true => room.min(self.free.0 / 2),
            false => room,
        };
        KiB(room - room % size.0.max(1))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const TWO_MIB: KiB = KiB(2048);

    #[test]
    fn a_node_keeps_what_is_reserved() {
        let text = "Node 0 MemTotal: 9437184 kB\nNode 0 MemFree: 4194304 kB\n\
                    Node 0 Active(file): 1048576 kB\nNode 0 Inactive(file): 1048577 kB\n";
        let room = PageRoom::parse(text).unwrap();
        let gib = |amount: u64| KiB(amount << 20);
        // page size, reserved, room
        for (size, reserved, expected) in [
            (TWO_MIB, gib(0), gib(5)),
            (TWO_MIB, gib(1), gib(4)),
            (TWO_MIB, KiB(1), KiB((5 << 20) - 2048)),
            (TWO_MIB, gib(5), gib(0)),
            (TWO_MIB, gib(64), gib(0)),
            (KiB::GIB, gib(1), gib(2)),
            (KiB::GIB, gib(4), gib(1)),
            (KiB::GIB, KiB(u64::MAX), gib(0)),
            (KiB(0), gib(6), gib(0)),
        ] {
            assert_eq!(room.for_pages(size, reserved), expected, "{size} {reserved}");
        }
    }

    #[test]
    fn broken_and_huge_tables() {
        assert_eq!(PageRoom::parse(""), None);
        assert_eq!(PageRoom::parse("MemFree: much kB\n"), None);
        let huge = format!(
            "MemFree: {0} kB\nActive(file): {0}\nInactive(file): {0}\n",
            u64::MAX
        );
        let room = PageRoom::parse(&huge).unwrap().for_pages(TWO_MIB, KiB(0));
        assert_eq!(room, KiB(u64::MAX - u64::MAX % 2048));
        let no_files = PageRoom::parse("MemFree: 4096 kB\n").unwrap();
        assert_eq!(no_files.for_pages(TWO_MIB, KiB(0)), KiB(4096));
    }
}
