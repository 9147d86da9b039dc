//! CPUs and memory that other guests have, seen from one guest: the ledger without that guest,
//! under a policy's sets.
//!
//! `docs/design.md` section 3 has the rules. CPUs are here, pages and other memory in
//! `taken/memory.rs`.

mod memory;

use crate::host::Host;
use crate::ledger::{Claim, Holder, Ledger, Taken};
use crate::policy::HostPolicy;
use crate::policy::cpu_sets::floats;
use crate::types::idset::CpuSet;

/// Computes what guests other than this one hold, claim and use. Guests are compared by UUID, or by
/// name if one of them has no UUID.
pub fn taken(
    ledger: &Ledger,
    guest_uuid: &str,
    guest_name: &str,
    host: &Host,
    dedicated: &CpuSet,
    host_policy: &HostPolicy,
) -> Taken {
    let own = |uuid: &str, name: &str| same_guest((guest_uuid, guest_name), (uuid, name));
    let (mine, others): (Vec<&Holder>, Vec<&Holder>) = ledger
        .holders
        .iter()
        .map(AsRef::as_ref)
        .partition(|holder| own(&holder.uuid, &holder.name));
    let mut taken = Taken::default();
    for holder in &others {
        for cpu in held(holder, host, dedicated, host_policy.share_cores).iter() {
            taken.cpus.entry(cpu).or_insert_with(|| holder.name.clone());
        }
        taken.occupied.extend_from(&holder.occupies);
    }
    taken.occupied = taken.occupied.difference(dedicated);
    for claim in ledger
        .claims
        .iter()
        .filter(|claim| !own(&claim.uuid, &claim.name))
    {
        let all = match claim.autostart {
            true => &mut taken.claimed_autostart,
            false => &mut taken.claimed_other,
        };
        all.extend_from(&claimed(claim, host, dedicated));
    }
    taken.memory_of = memory::memory_of(&others);
    taken.pages_free = memory::pages_free(&mine, &others, host, host_policy);
    let claims = ledger
        .claims
        .iter()
        .filter(|claim| !own(&claim.uuid, &claim.name));
    taken.pages_claimed = memory::pages_claimed(claims, &mine, &others, host);
    if host.memory_known {
        taken.memory_free = memory::memory_free(&others, host, host_policy);
    }
    taken
}

/// Compares two guests by UUID if both have one, else by name.
pub(crate) fn same_guest(a: (&str, &str), b: (&str, &str)) -> bool {
    if a.0.is_empty() || b.0.is_empty() {
        a.1 == b.1
    } else {
        a.0.eq_ignore_ascii_case(b.0)
    }
}

/// Returns the CPUs a guest holds: its pins in the dedicated set, the siblings withheld for it,
/// and, if cores are not shared, all siblings of held CPUs. Siblings withheld by its XML count as
/// far as its pins confirm them.
pub fn held(holder: &Holder, host: &Host, dedicated: &CpuSet, share_cores: bool) -> CpuSet {
    let mut held = pinned(holder, dedicated);
    let withheld = match holder.reservation {
        true => holder.withheld.clone(),
        false => confirmed(&holder.withheld, &held, host, dedicated),
    };
    if !share_cores {
        held.extend_from(&siblings(&held, host));
    }
    held.extend_from(&withheld);
    held.extend_from(&holder.promised);
    held
}

/// Returns the CPUs of the dedicated set that a guest's threads are pinned to, without what is
/// withheld for it.
pub(crate) fn pinned(holder: &Holder, dedicated: &CpuSet) -> CpuSet {
    let mut pinned = CpuSet::new();
    for pin in holder.pins.iter().filter(|pin| !floats(pin, dedicated)) {
        pinned.extend_from(&pin.intersection(dedicated));
    }
    pinned
}

/// Lists the definitions whose huge pages virtfit wrote and that may not find them at their start:
/// guests, other programs and definitions together ask for more than there are.
pub(crate) fn short_of_pages<'l>(
    ledger: &'l Ledger,
    host: &Host,
    host_policy: &HostPolicy,
) -> Vec<&'l Claim> {
    let own = ledger.claims.iter().filter(|claim| claim.own_pages);
    let own: Vec<&Claim> = own.collect();
    if own.is_empty() {
        return own;
    }
    let all = taken(ledger, "", "", host, &CpuSet::new(), host_policy);
    let is_short = |claim: &&Claim| memory::is_short(claim, &all);
    own.into_iter().filter(is_short).collect()
}

/// Returns the CPUs that a claim covers on this host: those of the dedicated set, and withheld
/// siblings of them.
pub fn claimed(claim: &Claim, host: &Host, dedicated: &CpuSet) -> CpuSet {
    let withheld = confirmed(&claim.withheld, &claim.cpus, host, dedicated);
    claim.cpus.intersection(dedicated).union(&withheld)
}

/// Returns the CPUs of a guest's provenance that can be withheld: siblings, in the dedicated set,
/// of CPUs the guest is pinned to. The author of the XML can forge the record, and could name all
/// CPUs of the host.
pub(crate) fn confirmed(withheld: &CpuSet, pinned: &CpuSet, host: &Host, dedicated: &CpuSet) -> CpuSet {
    if withheld.is_empty() {
        return CpuSet::new();
    }
    let pinned = pinned.intersection(dedicated);
    let beside = siblings(&pinned, host).difference(&pinned);
    withheld.intersection(&beside).intersection(dedicated)
}

/// Returns all CPUs of these CPUs' cores.
fn siblings(cpus: &CpuSet, host: &Host) -> CpuSet {
    cpus.iter()
        .filter_map(|cpu| host.core_of(cpu))
        .flat_map(|core| core.cpus.iter().copied())
        .collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::type_complexity)]
mod tests;
