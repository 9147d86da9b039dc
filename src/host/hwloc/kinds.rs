//! Kinds of cores on hybrid processors.

use std::collections::BTreeMap;

use hwlocality::Topology;

use crate::types::cpulist::MAX_ID;

/// Returns the rank of each CPU's kind, by CPU number: 0 is the fastest. Empty if hwloc reports one
/// kind at most.
///
/// Kinds that differ only in their frequencies count as one: favoured cores (Turbo Boost Max, Speed
/// Select) are cores of one design, and a guest may well span both.
pub(super) fn kinds(topology: &Topology) -> BTreeMap<usize, u32> {
    let mut ranks = BTreeMap::new();
    let Ok(kinds) = topology.cpu_kinds() else {
        return ranks;
    };
    let mut signatures: Vec<String> = Vec::new();
    // hwloc lists the most efficient kind first, which is the slowest.
    for (order, kind) in kinds.enumerate().collect::<Vec<_>>().into_iter().rev() {
        let mut told: Vec<String> = kind
            .infos
            .iter()
            .filter(|info| !info.name().to_string_lossy().starts_with("Frequency"))
            .map(|info| {
                format!(
                    "{}={}",
                    info.name().to_string_lossy(),
                    info.value().to_string_lossy()
                )
            })
            .collect();
        told.sort();
        // Kinds without any facts differ by efficiency; kinds whose only facts are frequencies are
        // alike.
        let signature = match (told.is_empty(), kind.infos.is_empty()) {
            (true, true) => format!("#{}", kind.efficiency.unwrap_or(order)),
            (true, false) => String::new(),
            (false, _) => told.join(","),
        };
        let rank = match signatures.iter().position(|known| *known == signature) {
            Some(rank) => rank,
            None => {
                signatures.push(signature);
                signatures.len() - 1
            }
        };
        for cpu in kind.cpuset.iter_set().map(usize::from) {
            // A set may be infinite.
            if cpu > MAX_ID as usize {
                break;
            }
            ranks.insert(cpu, rank as u32);
        }
    }
    if signatures.len() < 2 {
        ranks.clear();
    }
    ranks
}
