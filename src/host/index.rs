//! Quick answers about a host of a thousand CPUs.

use crate::types::ids::HostCpu;

use crate::host::{Core, Host, PagePool};

/// Which core each CPU is on, in constant time. Made once by [`Host::core_index`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreIndex {
    /// By CPU number.
    core: Vec<Option<usize>>,
}

impl CoreIndex {
    /// Position in [`Host::cores`]; `None` for an offline or unknown CPU.
    pub fn get(&self, cpu: HostCpu) -> Option<usize> {
        self.core.get(cpu.0 as usize).copied().flatten()
    }
}

impl Host {
    /// An index from CPUs to cores. It does not follow later changes of `cores`.
    pub fn core_index(&self) -> CoreIndex {
        let mut core = Vec::new();
        for (position, Core { cpus, .. }) in self.cores.iter().enumerate() {
            for cpu in cpus {
                let slot = cpu.0 as usize;
                if core.len() <= slot {
                    core.resize(slot + 1, None);
                }
                if let Some(entry) = core.get_mut(slot) {
                    *entry = Some(position);
                }
            }
        }
        CoreIndex { core }
    }
}

/// Orders pools by size and makes those of one size one.
pub(crate) fn merge_pools(pools: &mut Vec<PagePool>) {
    pools.sort_by_key(|pool| pool.size);
    pools.dedup_by(|next, kept| {
        let same = next.size == kept.size;
        if same {
            kept.total = kept.total.saturating_add(next.total);
            kept.free = kept.free.saturating_add(next.free);
        }
        same
    });
}
