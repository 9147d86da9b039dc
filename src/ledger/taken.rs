//! What of a host is taken, seen by one guest: the ledger without that guest, under a policy's sets.
//!
//! `design.md` section 3 is the contract. What it leaves open is decided so that nothing is promised twice:
//! - **Huge pages on several possible nodes.** Of a running guest they are in `nr − free` already, so only pages known to be
//!   on one node count as known there; of a guest that has yet to take them, each possible node counts all of them.
//! - **The guest's own pages** are credited back only as far as they must be on a node: its pages less all that other
//!   nodes it may use could hold. With one possible node that is all of them.
//! - **Small pages on several nodes** are split by the small-page memory of those nodes, as the kernel fills them alike
//!   in the long run. A guest that is bound nowhere counts nowhere.

use std::collections::BTreeMap;

use crate::host::{Host, PagePool};
use crate::idset::CpuSet;
use crate::ledger::{Holder, Ledger, MemoryUse, Taken};
use crate::policy::{HostPolicy, ReservedMemory};
use crate::units::{KiB, NodeId};

/// What others hold, claim and use, for a guest of this UUID (or, where one of them has none, of this name).
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
        .partition(|holder| own(&holder.uuid, &holder.name));
    let mut taken = Taken::default();
    for holder in &others {
        for cpu in held(holder, host, dedicated, host_policy.share_cores).iter() {
            taken.cpus.entry(cpu).or_insert_with(|| holder.name.clone());
        }
    }
    for claim in ledger
        .claims
        .iter()
        .filter(|claim| !own(&claim.uuid, &claim.name))
    {
        let claimed = if claim.autostart {
            &mut taken.claimed_autostart
        } else {
            &mut taken.claimed_other
        };
        claimed.extend_from(&claim.cpus);
    }
    taken.pages_free = pages_free(&mine, &others, host, host_policy);
    if host.memory_known {
        taken.memory_free = memory_free(&others, host, host_policy);
    }
    taken
}

/// UUIDs decide where both have one, else names do.
pub fn same_guest(a: (&str, &str), b: (&str, &str)) -> bool {
    if a.0.is_empty() || b.0.is_empty() {
        a.1 == b.1
    } else {
        a.0.eq_ignore_ascii_case(b.0)
    }
}

/// The CPUs a guest holds: its pins in the dedicated set, what is withheld for it, and, where cores are not shared, the
/// siblings of what it holds.
pub fn held(holder: &Holder, host: &Host, dedicated: &CpuSet, share_cores: bool) -> CpuSet {
    let mut held = CpuSet::new();
    for pin in holder.pins.iter().filter(|pin| !floats(pin, dedicated)) {
        held.extend_from(&pin.intersection(dedicated));
    }
    if !share_cores {
        let siblings: CpuSet = held
            .iter()
            .filter_map(|cpu| host.core_of(cpu))
            .flat_map(|core| core.cpus.iter().copied())
            .collect();
        held.extend_from(&siblings);
    }
    held.extend_from(&holder.withheld);
    held
}

/// A mask of several CPUs that covers all that could be held is no choice of CPUs: the thread floats.
fn floats(pin: &CpuSet, dedicated: &CpuSet) -> bool {
    pin.len() > 1 && dedicated.is_subset(pin)
}

/// Huge pages still to be given out: min(nr − known there, free − yet to be taken there + own) − reserved.
fn pages_free(
    mine: &[&Holder],
    others: &[&Holder],
    host: &Host,
    host_policy: &HostPolicy,
) -> BTreeMap<(NodeId, KiB), u64> {
    let mut pages = BTreeMap::new();
    for node in &host.nodes {
        for pool in &node.pools {
            let known = pages_at(others, pool.size, |_, uses| only_on(host, uses, node.id));
            let coming = pages_at(others, pool.size, |holder, uses| {
                to_come(holder) && may_use(uses, node.id)
            });
            let own = own_pages(mine, others, host, node.id, pool);
            let by_size = pool.total.saturating_sub(known);
            let by_free = pool.free.saturating_add(own).saturating_sub(coming);
            let reserved = host_policy
                .reserved_hugepages
                .get(&pool.size)
                .copied()
                .unwrap_or(0);
            pages.insert(
                (node.id, pool.size),
                by_size.min(by_free).saturating_sub(reserved),
            );
        }
    }
    pages
}

/// The pages of this pool that must be the guest's own: it runs, so they are missing from `free` now and come back.
fn own_pages(mine: &[&Holder], others: &[&Holder], host: &Host, node: NodeId, pool: &PagePool) -> u64 {
    let in_use = |node: NodeId, pool: &PagePool| {
        let others = pages_at(others, pool.size, |holder, uses| {
            !to_come(holder) && only_on(host, uses, node)
        });
        pool.total.saturating_sub(pool.free).saturating_sub(others)
    };
    let mut own = 0u64;
    for holder in mine.iter().filter(|holder| !to_come(holder)) {
        for uses in holder.memory.iter().filter(|uses| uses.page == Some(pool.size)) {
            if !may_use(uses, node) {
                continue;
            }
            let elsewhere: u64 = host
                .nodes
                .iter()
                .filter(|other| other.id != node && may_use(uses, other.id))
                .flat_map(|other| other.pools.iter().map(move |pool| (other.id, pool)))
                .filter(|(_, other)| other.size == pool.size)
                .fold(0, |sum, (id, other)| sum.saturating_add(in_use(id, other)));
            own = own.saturating_add(pages_of(uses, pool.size).saturating_sub(elsewhere));
        }
    }
    if own == 0 { 0 } else { own.min(in_use(node, pool)) }
}

/// Small-page memory still to be given out: MemTotal − huge-page pools − guests there − reserved.
fn memory_free(others: &[&Holder], host: &Host, host_policy: &HostPolicy) -> BTreeMap<NodeId, KiB> {
    let room: BTreeMap<NodeId, u64> = host
        .nodes
        .iter()
        .map(|node| (node.id, small_memory(node)))
        .collect();
    let mut used: BTreeMap<NodeId, u64> = BTreeMap::new();
    let small = others
        .iter()
        .flat_map(|holder| &holder.memory)
        .filter(|uses| uses.page.is_none() && !uses.nodes.is_empty());
    for uses in small {
        let possible: Vec<(NodeId, u64)> = room
            .iter()
            .map(|(id, room)| (*id, *room))
            .filter(|(id, _)| may_use(uses, *id))
            .collect();
        let whole: u128 = possible.iter().map(|(_, room)| u128::from(*room)).sum();
        for (node, room) in possible {
            let part = if whole == 0 {
                0
            } else {
                (u128::from(uses.amount.0) * u128::from(room)).div_ceil(whole)
            };
            let slot = used.entry(node).or_default();
            *slot = slot.saturating_add(u64::try_from(part).unwrap_or(u64::MAX));
        }
    }
    host.nodes
        .iter()
        .map(|node| {
            let reserved = match host_policy.reserved_memory {
                ReservedMemory::Auto => KiB::GIB.0.max(node.memory.0 / 20),
                ReservedMemory::At(amount) => amount.0,
            };
            let used = used.get(&node.id).copied().unwrap_or(0);
            let free = small_memory(node).saturating_sub(used).saturating_sub(reserved);
            (node.id, KiB(free))
        })
        .collect()
}

/// A node's memory outside its huge-page pools.
fn small_memory(node: &crate::host::Node) -> u64 {
    let pools = node.pools.iter().fold(0u64, |sum, pool| {
        sum.saturating_add(pool.total.saturating_mul(pool.size.0))
    });
    node.memory.0.saturating_sub(pools)
}

/// Pages of one size of those pieces of memory that `counts` picks.
fn pages_at(holders: &[&Holder], size: KiB, counts: impl Fn(&Holder, &MemoryUse) -> bool) -> u64 {
    let mut sum = 0u64;
    for holder in holders {
        for uses in holder.memory.iter().filter(|uses| uses.page == Some(size)) {
            if counts(holder, uses) {
                sum = sum.saturating_add(pages_of(uses, size));
            }
        }
    }
    sum
}

/// Whole pages; what is left over takes one more, as QEMU rounds up.
fn pages_of(uses: &MemoryUse, size: KiB) -> u64 {
    if size.0 == 0 {
        0
    } else {
        uses.amount.0.div_ceil(size.0)
    }
}

/// Its pages are not in `nr − free` yet.
fn to_come(holder: &Holder) -> bool {
    holder.starting || holder.reservation
}

/// Whether it may be on this node: no node named is any node.
fn may_use(uses: &MemoryUse, node: NodeId) -> bool {
    uses.nodes.is_empty() || uses.nodes.contains(node)
}

/// Whether it must be on this node: there is no other it may use.
fn only_on(host: &Host, uses: &MemoryUse, node: NodeId) -> bool {
    let other = |other: &crate::host::Node| other.id != node && may_use(uses, other.id);
    may_use(uses, node) && !host.nodes.iter().any(other)
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::type_complexity)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::cpulist;
    use crate::host::{Core, Node};
    use crate::ledger::Claim;
    use crate::units::HostCpu;

    const TWO_MIB: KiB = KiB(2048);

    fn cpus(list: &str) -> CpuSet {
        cpulist::parse(list).unwrap()
    }

    /// Nodes of 4 cores x 2 threads; CPU n and n + 8 are siblings; 16 GiB each, of which 12 GiB are 2-MiB pages.
    fn host(free: [u64; 2]) -> Host {
        let core = |n: u32| Core {
            cpus: vec![HostCpu(n), HostCpu(n + 8)],
            node: NodeId(n / 4),
            llc: (n / 4) as usize,
            package: n / 4,
            die: n / 4,
            kind: 0,
        };
        let node = |n: u32| Node {
            id: NodeId(n),
            memory: KiB(16 << 20),
            pools: vec![PagePool {
                size: TWO_MIB,
                total: 6144,
                free: free[n as usize],
            }],
            distances: BTreeMap::new(),
        };
        Host {
            cores: (0..8).map(core).collect(),
            nodes: (0..2).map(node).collect(),
            online: cpus("0-15"),
            memory_known: true,
            ..Host::default()
        }
    }

    fn guest(name: &str, pins: &[&str]) -> Holder {
        Holder {
            uuid: format!("{name}-uuid"),
            name: name.into(),
            pins: pins.iter().map(|list| cpus(list)).collect(),
            ..Holder::default()
        }
    }

    fn memory(gib: u64, page: Option<KiB>, nodes: &str) -> MemoryUse {
        MemoryUse {
            amount: KiB(gib << 20),
            page,
            nodes: cpulist::parse(nodes).unwrap(),
        }
    }

    fn with_memory(name: &str, memory: Vec<MemoryUse>) -> Holder {
        Holder {
            memory,
            ..guest(name, &[])
        }
    }

    fn look(holders: Vec<Holder>, guest: &str, host: &Host, policy: &HostPolicy) -> Taken {
        let ledger = Ledger {
            holders,
            claims: Vec::new(),
        };
        taken(
            &ledger,
            &format!("{guest}-uuid"),
            guest,
            host,
            &cpus("2-7,10-15"),
            policy,
        )
    }

    #[test]
    fn pins_hold_and_masks_over_everything_float() {
        let host = host([6144, 6144]);
        // pins, dedicated set, held
        let rows: &[(&[&str], &str, &str)] = &[
            (&[], "2-7,10-15", ""),
            (&["2", "3"], "2-7,10-15", "2-3"),
            (&["2-3"], "2-7,10-15", "2-3"),
            (&["0", "8"], "2-7,10-15", ""),
            (&["0-3"], "2-7,10-15", "2-3"),
            (&["0-15"], "2-7,10-15", ""),
            (&["2-7,10-15"], "2-7,10-15", ""),
            (&["2-7,10-14"], "2-7,10-15", "2-7,10-14"),
            (&["0-15", "5"], "2-7,10-15", "5"),
            (&["5"], "5", "5"),
            (&["4-5"], "5", ""),
            (&["5"], "", ""),
        ];
        for row in rows {
            let held = held(&guest("g", row.0), &host, &cpus(row.1), true);
            assert_eq!(held, cpus(row.2), "{row:?}");
        }
    }

    #[test]
    fn withheld_siblings_and_unshared_cores() {
        let host = host([6144, 6144]);
        let mut isolated = guest("iso", &["2"]);
        isolated.withheld = cpus("10");
        let seen = look(
            vec![isolated, guest("b", &["3"])],
            "me",
            &host,
            &HostPolicy::default(),
        );
        assert_eq!(seen.cpus.keys().copied().collect::<CpuSet>(), cpus("2-3,10"));
        assert_eq!(seen.cpus[&HostCpu(10)], "iso");
        let policy = HostPolicy {
            share_cores: false,
            ..HostPolicy::default()
        };
        let seen = look(vec![guest("b", &["3"])], "me", &host, &policy);
        assert_eq!(seen.cpus.keys().copied().collect::<CpuSet>(), cpus("3,11"));
    }

    #[test]
    fn the_guest_itself_holds_and_claims_nothing() {
        let host = host([6144, 6144]);
        let claim = |name: &str, autostart, list: &str| Claim {
            uuid: format!("{name}-uuid"),
            name: name.into(),
            autostart,
            cpus: cpus(list),
        };
        let ledger = Ledger {
            holders: vec![guest("me", &["2"]), guest("other", &["3"])],
            claims: vec![
                claim("me", true, "2"),
                claim("boot", true, "4-5"),
                claim("late", false, "5-6"),
            ],
        };
        let dedicated = cpus("2-7,10-15");
        // UUID given, name given, CPUs taken, claimed by autostart
        let rows = [
            ("ME-UUID", "renamed", "3", "4-5"),
            ("", "me", "3", "4-5"),
            ("fresh-uuid", "me", "2-3", "2,4-5"),
            ("", "", "2-3", "2,4-5"),
        ];
        for row in rows {
            let seen = taken(&ledger, row.0, row.1, &host, &dedicated, &HostPolicy::default());
            assert_eq!(
                seen.cpus.keys().copied().collect::<CpuSet>(),
                cpus(row.2),
                "{row:?}"
            );
            assert_eq!(seen.claimed_autostart, cpus(row.3), "{row:?}");
            assert_eq!(seen.claimed_other, cpus("5-6"), "{row:?}");
        }
    }

    #[test]
    fn huge_pages() {
        let huge = |gib, nodes| memory(gib, Some(TWO_MIB), nodes);
        let running = |uses| with_memory("other", vec![uses]);
        let starting = |uses| Holder {
            starting: true,
            ..with_memory("other", vec![uses])
        };
        let me = |uses| with_memory("me", vec![uses]);
        // holders, free pages a node, pages available a node
        let rows: Vec<(&str, Vec<Holder>, [u64; 2], [u64; 2])> = vec![
            ("nobody", vec![], [6144, 6144], [6144, 6144]),
            ("others than guests", vec![], [6000, 0], [6000, 0]),
            (
                "running there",
                vec![running(huge(4, "0"))],
                [4096, 6144],
                [4096, 6144],
            ),
            (
                "shrunk pool",
                vec![running(huge(4, "0"))],
                [6144, 6144],
                [4096, 6144],
            ),
            (
                "starting",
                vec![starting(huge(4, "0"))],
                [6144, 6144],
                [4096, 6144],
            ),
            (
                "half started",
                vec![starting(huge(4, "0"))],
                [5000, 6144],
                [2952, 6144],
            ),
            (
                "starting somewhere",
                vec![starting(huge(4, ""))],
                [6144, 6144],
                [4096, 4096],
            ),
            (
                "running somewhere",
                vec![running(huge(4, ""))],
                [5144, 5096],
                [5144, 5096],
            ),
            (
                "myself running",
                vec![me(huge(8, "0"))],
                [2048, 6144],
                [6144, 6144],
            ),
            (
                "myself starting",
                vec![Holder {
                    starting: true,
                    ..me(huge(8, "0"))
                }],
                [6144, 6144],
                [6144, 6144],
            ),
            (
                "myself over two nodes",
                vec![me(huge(8, "0-1"))],
                [4096, 4096],
                [6144, 6144],
            ),
            (
                "myself beside another",
                vec![me(huge(4, "0")), running(huge(4, "0"))],
                [2048, 6144],
                [4096, 6144],
            ),
            (
                "myself over two nodes beside another somewhere",
                vec![me(huge(4, "0-1")), running(huge(4, ""))],
                [4096, 4096],
                [4096, 4096],
            ),
            (
                "another page size",
                vec![running(memory(4, Some(KiB::GIB), "0"))],
                [6144, 6144],
                [6144, 6144],
            ),
            (
                "a node that is not there",
                vec![running(huge(4, "7"))],
                [6144, 6144],
                [6144, 6144],
            ),
        ];
        for (what, holders, free, expected) in rows {
            let seen = look(holders, "me", &host(free), &HostPolicy::default());
            let got = [0, 1].map(|n| seen.pages_free[&(NodeId(n), TWO_MIB)]);
            assert_eq!(got, expected, "{what}");
        }
    }

    #[test]
    fn reserved_huge_pages_go_last() {
        let policy = HostPolicy {
            reserved_hugepages: BTreeMap::from([(TWO_MIB, 512)]),
            ..HostPolicy::default()
        };
        let seen = look(vec![], "me", &host([6144, 100]), &policy);
        assert_eq!(seen.pages_free[&(NodeId(0), TWO_MIB)], 5632);
        assert_eq!(seen.pages_free[&(NodeId(1), TWO_MIB)], 0);
    }

    #[test]
    fn small_memory() {
        let one = |nodes, gib| with_memory("other", vec![memory(gib, None, nodes)]);
        // holders, reserved (None: auto), GiB free a node (of 4 outside the pools)
        let rows: Vec<(&str, Vec<Holder>, Option<u64>, [u64; 2])> = vec![
            ("nobody", vec![], None, [3, 3]),
            ("nothing reserved", vec![], Some(0), [4, 4]),
            ("bound", vec![one("0", 2)], Some(0), [2, 4]),
            ("over two nodes", vec![one("0-1", 2)], Some(0), [3, 3]),
            ("bound nowhere", vec![one("", 2)], Some(0), [4, 4]),
            ("more than there is", vec![one("1", 20)], Some(0), [4, 0]),
            (
                "huge pages are not in it",
                vec![with_memory("o", vec![memory(2, Some(TWO_MIB), "0")])],
                Some(0),
                [4, 4],
            ),
            (
                "myself",
                vec![with_memory("me", vec![memory(2, None, "0")])],
                Some(0),
                [4, 4],
            ),
        ];
        for (what, holders, reserved, expected) in rows {
            let policy = HostPolicy {
                reserved_memory: reserved
                    .map_or(ReservedMemory::Auto, |gib| ReservedMemory::At(KiB(gib << 20))),
                ..HostPolicy::default()
            };
            let seen = look(holders, "me", &host([0, 0]), &policy);
            let got = [0, 1].map(|n| seen.memory_free[&NodeId(n)].0 >> 20);
            assert_eq!(got, expected, "{what}");
        }
        let unknown = Host {
            memory_known: false,
            ..host([0, 0])
        };
        assert!(
            look(vec![], "me", &unknown, &HostPolicy::default())
                .memory_free
                .is_empty()
        );
    }

    fn any_use() -> impl Strategy<Value = MemoryUse> {
        (0u64..1 << 24, any::<bool>(), 0u32..4).prop_map(|(kib, huge, nodes)| MemoryUse {
            amount: KiB(kib),
            page: huge.then_some(TWO_MIB),
            nodes: (0..2).filter(|n| nodes >> n & 1 == 1).map(NodeId).collect(),
        })
    }

    fn any_holder() -> impl Strategy<Value = Holder> {
        let pins = proptest::collection::vec(proptest::collection::btree_set(0u32..16, 1..16), 0..4);
        let flags = (any::<bool>(), any::<bool>());
        (pins, proptest::collection::vec(any_use(), 0..3), flags).prop_map(|(pins, memory, flags)| Holder {
            pins: pins
                .into_iter()
                .map(|pin| pin.into_iter().map(HostCpu).collect())
                .collect(),
            memory,
            starting: flags.0,
            reservation: flags.1,
            ..guest("other", &[])
        })
    }

    proptest! {
        #[test]
        fn one_more_guest_never_frees_anything(
            holders in proptest::collection::vec(any_holder(), 0..4),
            more in any_holder(),
            free in [0u64..=6144, 0u64..=6144],
            share_cores: bool,
        ) {
            let host = host(free);
            let policy = HostPolicy { share_cores, ..HostPolicy::default() };
            let before = look(holders.clone(), "me", &host, &policy);
            let mut all = holders;
            all.push(more);
            let after = look(all, "me", &host, &policy);
            for (slot, pages) in &after.pages_free {
                let (node, _) = slot;
                prop_assert!(*pages <= before.pages_free[slot]);
                prop_assert!(*pages <= free[node.0 as usize]);
            }
            for (node, memory) in &after.memory_free {
                prop_assert!(*memory <= before.memory_free[node]);
            }
            prop_assert!(before.cpus.keys().all(|cpu| after.cpus.contains_key(cpu)));
        }

        #[test]
        fn a_running_guest_finds_its_own_pages(
            gib in 1u64..=12,
            node in 0u32..2,
            others in 0u64..6144,
        ) {
            let own = gib * 512;
            let others = others.min(6144 - own);
            let mut free = [6144, 6144];
            free[node as usize] = 6144 - own - others;
            let me = with_memory("me", vec![memory(gib, Some(TWO_MIB), &node.to_string())]);
            let seen = look(vec![me], "me", &host(free), &HostPolicy::default());
            prop_assert_eq!(seen.pages_free[&(NodeId(node), TWO_MIB)], 6144 - others);
        }
    }
}
