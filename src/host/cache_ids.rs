//! Ids of level 3 caches, by which resctrl and libvirt's `<cachetune>` name them.
//!
//! Kernel: `Documentation/ABI/testing/sysfs-devices-system-cpu` (`cache/indexN/id`).

use std::collections::BTreeMap;

use crate::host::{Core, Host};
use crate::hostfs::HostFs;
use crate::types::idset::CpuSet;

/// Most levels and kinds of cache that a CPU has.
const MOST_INDICES: u32 = 8;

/// Reads the CPUs of each level 3 cache that has an id; one CPU tells for all of its cache.
pub(super) fn read(root: &HostFs, host: &Host) -> BTreeMap<u32, CpuSet> {
    let mut ids = BTreeMap::new();
    for (index, _) in host.llcs.iter().enumerate().filter(|(_, llc)| llc.level == 3) {
        let cores: Vec<&Core> = host.cores.iter().filter(|core| core.llc == index).collect();
        let first = cores.first().and_then(|core| core.cpus.first());
        let id = first.and_then(|cpu| {
            let file = |index: u32, name: &str| {
                let path = format!("/sys/devices/system/cpu/cpu{cpu}/cache/index{index}/{name}");
                root.read(path).ok()?.trim().parse::<u32>().ok()
            };
            let level_3 = (0..MOST_INDICES).find(|index| file(*index, "level") == Some(3))?;
            file(level_3, "id")
        });
        if let Some(id) = id {
            let cpus = cores.iter().flat_map(|core| core.cpus.iter().copied());
            ids.insert(id, cpus.collect());
        }
    }
    ids
}
