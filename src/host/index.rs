//! Index from CPUs to cores, for quick answers on hosts of a thousand CPUs.

use crate::types::ids::HostCpu;

use crate::host::{Core, Host, PagePool};

/// Core of each CPU, found in constant time. Made once by [`Host::core_index`].
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CoreIndex {
    /// Position of the core in [`Host::cores`], by CPU number.
    core: Vec<Option<usize>>,
}

impl CoreIndex {
    /// Returns the position in [`Host::cores`]; `None` for an offline or unknown CPU.
    pub fn get(&self, cpu: HostCpu) -> Option<usize> {
        self.core.get(cpu.0 as usize).copied().flatten()
    }
}

impl Host {
    /// Makes an index from CPUs to cores. It does not follow later changes of `cores`.
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

/// Sorts pools by size and merges those of equal size.
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
