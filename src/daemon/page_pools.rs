//! Pools of huge pages, looked at from time to time: the kernel has no event for one that is made
//! larger or smaller.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use crate::host::{Host, PagePool};
use crate::types::ids::{KiB, NodeId};

/// Time between two looks.
const EVERY: Duration = Duration::from_secs(5);

/// Sizes of the pools as last seen, and the time of the next look.
#[derive(Debug, Default)]
pub(crate) struct PagePools {
    totals: BTreeMap<(NodeId, KiB), u64>,
    next: Option<Instant>,
}

impl PagePools {
    /// Returns the time of the next look; `None` while no definition depends on pages.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.next
    }

    /// Asks for looks from now on, or for none any more. A look that is set stays.
    pub(crate) fn watch(&mut self, wanted: bool, now: Instant) {
        self.next = match wanted {
            true => self.next.or_else(|| now.checked_add(EVERY)),
            false => None,
        };
    }

    /// Returns true if a look is due, and sets the time of the next.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let due = self.next.is_some_and(|next| next <= now);
        if due {
            self.next = now.checked_add(EVERY);
        }
        due
    }

    /// Notes the pools of a host; returns true if their sizes are not those noted before.
    pub(crate) fn note(&mut self, host: &Host) -> bool {
        let pools = host.nodes.iter().flat_map(|node| {
            let of = |pool: &PagePool| ((node.id, pool.size), pool.total);
            node.pools.iter().map(of)
        });
        let totals = pools.collect();
        std::mem::replace(&mut self.totals, totals) != self.totals
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::host::Node;

    fn host(total: u64) -> Host {
        let pool = PagePool {
            size: KiB(2048),
            total,
            free: 0,
        };
        Host {
            nodes: vec![Node {
                id: NodeId(0),
                memory: KiB(1 << 20),
                pools: vec![pool],
                distances: BTreeMap::new(),
            }],
            ..Host::default()
        }
    }

    #[test]
    fn a_look_is_due_while_pages_are_asked_for() {
        let mut pools = PagePools::default();
        let begin = Instant::now();
        assert!(!pools.is_due(begin + EVERY));
        pools.watch(true, begin);
        // Asking again puts nothing off.
        pools.watch(true, begin + EVERY / 2);
        assert!(!pools.is_due(begin + EVERY / 2));
        assert!(pools.is_due(begin + EVERY));
        assert_eq!(pools.deadline(), Some(begin + 2 * EVERY));
        pools.watch(false, begin + EVERY);
        assert_eq!(pools.deadline(), None);
    }

    #[test]
    fn a_pool_of_another_size_is_news() {
        let mut pools = PagePools::default();
        assert!(pools.note(&host(8)));
        assert!(!pools.note(&host(8)));
        assert!(pools.note(&host(0)));
    }
}
