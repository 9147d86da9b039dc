//! `<cachetune>` and `<memorytune>`: their ids name caches of the host, and a reservation holds
//! only for vCPUs that run there.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::Domain;
use crate::engine::case::Case;
use crate::host::Host;
use crate::types::ids::VcpuId;
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::reason::Given;

/// Returns the CPUs on which all reservations of the guest hold: those of the caches that each of
/// its vCPUs names. `None`: some vCPUs have none, they differ, or the host has no such cache.
pub(crate) fn within(case: &Case<'_>) -> Option<CpuSet> {
    let Case {
        domain, host, wishes, ..
    } = *case;
    if !wishes.keep || !wishes.profile.dedicates() || domain.cache_tunes.is_empty() {
        return None;
    }
    let mut each: BTreeMap<VcpuId, CpuSet> = BTreeMap::new();
    for tune in &domain.cache_tunes {
        let cpus = cpus_of(host, &tune.ids)?;
        for vcpu in tune.vcpus.iter() {
            let held = each.entry(vcpu).or_insert_with(|| cpus.clone());
            *held = held.intersection(&cpus);
        }
    }
    let first = each.values().next()?;
    let of_all = domain
        .all_vcpus()
        .iter()
        .all(|vcpu| each.get(&vcpu) == Some(first));
    Some(first.clone()).filter(|cpus| of_all && !cpus.is_empty())
}

/// Returns the CPUs of these caches; `None` where the host lacks one.
fn cpus_of(host: &Host, ids: &BTreeSet<u32>) -> Option<CpuSet> {
    let mut all = CpuSet::new();
    for id in ids {
        all.extend_from(host.cache_ids.get(id)?);
    }
    Some(all)
}

/// Names the reservations that do not hold where their vCPUs run. `None`: which CPUs an id stands
/// for is not known.
pub(crate) fn elsewhere(domain: &Domain, host: &Host, pins: &BTreeMap<VcpuId, CpuSet>) -> Option<Vec<Given>> {
    // Ids of other levels than the third are not known.
    let named: BTreeSet<u32> = domain
        .cache_tunes
        .iter()
        .flat_map(|tune| tune.ids.clone())
        .collect();
    if host.cache_ids.is_empty() || !domain.resource_ids.is_subset(&named) {
        return None;
    }
    let found = domain.cache_tunes.iter().filter_map(|tune| {
        let cpus = cpus_of(host, &tune.ids).unwrap_or_default();
        let off = |vcpu: &VcpuId| pins.get(vcpu).is_some_and(|pin| !pin.is_subset(&cpus));
        let vcpus: VcpuSet = tune.vcpus.iter().filter(off).collect();
        let ids = tune.ids.clone();
        (!vcpus.is_empty()).then_some(Given::ResourceElsewhere { vcpus, ids })
    });
    Some(found.collect())
}
