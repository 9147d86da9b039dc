//! CPUs of the map: node, last-level cache, core, CPU, and what sits on each.

use std::collections::BTreeMap;

use crate::host::{Core, Host};
use crate::map::data::{Cache, Cpu, Guest, Placed, Role};
use crate::policy::Sets;
use crate::types::guest_thread::vcpu_of_role;
use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;

/// Guests of a picture by CPU, so that a large host with many guests is looked through once.
#[derive(Debug, Default)]
struct Sitting {
    held: BTreeMap<HostCpu, Vec<usize>>,
    withheld: BTreeMap<HostCpu, Vec<usize>>,
    floating: BTreeMap<HostCpu, Vec<usize>>,
    claims: BTreeMap<HostCpu, Vec<usize>>,
    threads: BTreeMap<HostCpu, Vec<Placed>>,
    astray: BTreeMap<HostCpu, Vec<usize>>,
}

/// Returns the caches of a node with their cores, those of fast cores first.
pub(super) fn caches(host: &Host, sets: &Sets, guests: &[Guest]) -> BTreeMap<NodeId, Vec<Cache>> {
    let sitting = Sitting::of(host, sets, guests);
    let mut cores: Vec<&Core> = host.cores.iter().collect();
    cores.sort_by_key(|core| (core.node, core.kind, core.llc, core.cpus.first().copied()));
    let mut out: BTreeMap<NodeId, Vec<Cache>> = BTreeMap::new();
    for core in cores {
        let caches = out.entry(core.node).or_default();
        let same = |cache: &Cache| (cache.id, cache.kind) == (core.llc, core.kind);
        if !caches.last().is_some_and(same) {
            let known = host.llcs.get(core.llc);
            caches.push(Cache {
                id: core.llc,
                level: known.map_or(0, |cache| cache.level),
                size_kib: known.map_or(KiB(0), |cache| cache.size),
                kind: core.kind,
                cores: Vec::new(),
            });
        }
        let cpus = core.cpus.iter().map(|cpu| sitting.cpu(*cpu, host, sets));
        if let Some(cache) = caches.last_mut() {
            cache.cores.push(cpus.collect());
        }
    }
    out
}

impl Sitting {
    fn of(host: &Host, sets: &Sets, guests: &[Guest]) -> Self {
        let mut out = Self::default();
        for (at, guest) in guests.iter().enumerate() {
            for (cpus, into) in [
                (&guest.held, &mut out.held),
                (&guest.withheld, &mut out.withheld),
                (&guest.floating, &mut out.floating),
                (&guest.claims, &mut out.claims),
            ] {
                cpus.iter().for_each(|cpu| into.entry(cpu).or_default().push(at));
            }
            for thread in &guest.threads {
                let placed = Placed {
                    guest: at,
                    role: thread.role.clone(),
                };
                // A vCPU that floats has no place, even where it floats on a single CPU.
                let floats = vcpu_of_role(&thread.role).is_some() && thread.cpus.is_subset(&guest.floating);
                let sits = !floats && has_its_place(&thread.cpus, guest, sets, host);
                if sits && !is_kernels(&thread.role) {
                    let put = |cpu| out.threads.entry(cpu).or_default().push(placed.clone());
                    thread.cpus.iter().for_each(put);
                }
                if let Some(cpu) = thread.cpu.filter(|_| thread.wrong.is_some()) {
                    let there = out.astray.entry(cpu).or_default();
                    if !there.contains(&at) {
                        there.push(at);
                    }
                }
            }
        }
        out
    }

    fn cpu(&self, id: HostCpu, host: &Host, sets: &Sets) -> Cpu {
        let at = |all: &BTreeMap<HostCpu, Vec<usize>>| all.get(&id).cloned().unwrap_or_default();
        let (held, withheld) = (at(&self.held), at(&self.withheld));
        let role = match () {
            () if !held.is_empty() => Role::Held,
            () if !withheld.is_empty() => Role::Withheld,
            () if host.guest_cpus.as_ref().is_some_and(|all| !all.contains(id)) => Role::NotForGuests,
            () if sets.housekeeping.contains(id) => Role::Housekeeping,
            () if sets.dedicated.contains(id) => Role::Free,
            () if host.isolated.contains(id) => Role::Isolated,
            () if sets.shared.as_ref().is_none_or(|all| all.contains(id)) => Role::Shared,
            () => Role::InNoSet,
        };
        Cpu {
            id,
            role,
            guests: if role == Role::Held { held } else { withheld },
            floating: at(&self.floating),
            claimed_by: at(&self.claims),
            threads: self.threads.get(&id).cloned().unwrap_or_default(),
            astray: at(&self.astray),
            isolated: host.isolated.contains(id),
        }
    }
}

/// Returns whether a thread's CPUs are a place of its own kind, rather than CPUs that it floats
/// over: one CPU, housekeeping ones, or its guest's own.
fn has_its_place(cpus: &CpuSet, guest: &Guest, sets: &Sets, host: &Host) -> bool {
    let whole = host.online.len() > 1 && host.online.is_subset(cpus);
    let own = cpus.is_subset(&sets.housekeeping.union(&guest.held));
    !whole && (cpus.len() == 1 || own)
}

/// Returns whether no pin moves a thread, as it is the kernel's.
fn is_kernels(role: &str) -> bool {
    matches!(role, "vhost" | "kvm")
}
