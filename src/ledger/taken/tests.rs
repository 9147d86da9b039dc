use std::collections::BTreeMap;

use proptest::prelude::*;

use super::*;
use crate::host::{Core, Node, PagePool};
use crate::ledger::{Claim, MemoryUse};
use crate::policy::ReservedMemory;
use crate::types::cpulist;
use crate::types::ids::{HostCpu, KiB, NodeId};

const TWO_MIB: KiB = KiB(2048);

fn cpus(list: &str) -> CpuSet {
    cpulist::parse(list).unwrap()
}

/// Nodes of 4 cores x 2 threads; CPU n and n + 8 are siblings; 16 GiB each, of which 12 GiB are
/// 2-MiB pages.
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
        holders: holders.into_iter().map(Into::into).collect(),
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
        ..Claim::default()
    };
    let ledger = Ledger {
        holders: vec![guest("me", &["2"]).into(), guest("other", &["3"]).into()],
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
    // holders, free pages of each node, pages available on each node
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
fn claimed_huge_pages() {
    let huge = |gib, nodes| memory(gib, Some(TWO_MIB), nodes);
    let claim = |autostart, own_pages, pages: &MemoryUse| Claim {
        uuid: "claims-uuid".into(),
        name: "claims".into(),
        autostart,
        own_pages,
        pages: vec![pages.clone()],
        ..Claim::default()
    };
    let running = |uses| with_memory("me", vec![uses]);
    // claim, guest itself, free pages, pages left to a guest: not on autostart, on autostart
    let rows: Vec<(&str, MemoryUse, Vec<Holder>, [u64; 2], [u64; 2])> = vec![
        ("on a node", huge(4, "0"), vec![], [6144, 6144], [4096, 6144]),
        ("somewhere", huge(4, ""), vec![], [6144, 6144], [4096, 4096]),
        ("on two nodes", huge(4, "0-1"), vec![], [6144, 5000], [4096, 2952]),
        ("more than is free", huge(4, "0"), vec![], [1000, 6144], [0, 6144]),
        (
            "more than there is",
            huge(13, "0"),
            vec![],
            [6144, 6144],
            [6144, 6144],
        ),
        (
            "small pages",
            memory(4, None, "0"),
            vec![],
            [6144, 6144],
            [6144, 6144],
        ),
        ("no such node", huge(4, "7"), vec![], [6144, 6144], [6144, 6144]),
        (
            "myself running",
            huge(12, "0"),
            vec![running(huge(2, "0"))],
            [5120, 6144],
            [1024, 6144],
        ),
    ];
    for (what, pages, holders, free, left) in rows {
        for (autostart, own, is_firm) in [
            (false, true, false),
            (true, true, true),
            (false, false, true),
            (true, false, true),
        ] {
            let host = host(free);
            let ledger = Ledger {
                holders: holders.iter().cloned().map(Into::into).collect(),
                claims: vec![claim(autostart, own, &pages)],
            };
            let policy = HostPolicy::default();
            let seen = taken(&ledger, "me-uuid", "me", &host, &cpus("2-7"), &policy);
            let got = |autostart| {
                let pages = seen.pages_unclaimed(autostart);
                [0, 1].map(|n| pages[&(NodeId(n), TWO_MIB)])
            };
            let all = [0, 1].map(|n| seen.pages_free[&(NodeId(n), TWO_MIB)]);
            assert_eq!(got(false), left, "{what}");
            assert_eq!(got(true), if is_firm { left } else { all }, "{what}");
            // A definition is short where more is claimed than is free.
            let short = short_of_pages(&ledger, &host, &policy).len();
            let is_short = own && ["more than is free", "myself running"].contains(&what);
            assert_eq!(short, usize::from(is_short), "{what}");
        }
    }
}

#[test]
fn of_definitions_that_claim_too_much_the_one_on_autostart_is_not_short() {
    let claim = |name: &str, autostart, gib| Claim {
        uuid: format!("{name}-uuid"),
        name: name.into(),
        autostart,
        own_pages: true,
        pages: vec![memory(gib, Some(TWO_MIB), "0")],
        ..Claim::default()
    };
    // GiB claimed on autostart, GiB claimed otherwise, guests that are short of 12 GiB
    for (first, rest, short) in [(8, 4, ""), (8, 5, "rest"), (12, 1, "rest"), (6, 6, "")] {
        let ledger = Ledger {
            holders: Vec::new(),
            claims: vec![claim("first", true, first), claim("rest", false, rest)],
        };
        let host = host([6144, 6144]);
        let found = short_of_pages(&ledger, &host, &HostPolicy::default());
        let names: Vec<&str> = found.iter().map(|claim| claim.name.as_str()).collect();
        assert_eq!(names.join(" "), short, "{first} {rest}");
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
    // holders, reserved (None: auto), GiB free on each node (of 4 outside the pools)
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
            reserved_memory: reserved.map_or(ReservedMemory::Auto, |gib| ReservedMemory::At(KiB(gib << 20))),
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
