use super::*;
use crate::host::{Core, Node};
use crate::policy::Policy;
use crate::types::cpulist;
use crate::types::ids::{HostCpu, KiB};
use proptest::prelude::*;

fn cpus(list: &str) -> CpuSet {
    cpulist::parse(list).unwrap()
}

/// Returns a host with `threads` CPUs on each core; siblings are numbered after all first threads.
/// Each entry is a node's number of cores.
fn host(nodes: &[u32], threads: u32) -> Host {
    let all: u32 = nodes.iter().sum();
    let mut cores = Vec::new();
    for (node, count) in nodes.iter().enumerate() {
        for _ in 0..*count {
            let first = cores.len() as u32;
            cores.push(Core {
                cpus: (0..threads).map(|t| HostCpu(first + t * all)).collect(),
                node: NodeId(node as u32),
                llc: node,
                package: node as u32,
                die: node as u32,
                kind: 0,
            });
        }
    }
    Host {
        cores,
        nodes: (0..nodes.len() as u32)
            .map(|id| Node {
                id: NodeId(id),
                memory: KiB::GIB,
                pools: Vec::new(),
                distances: BTreeMap::new(),
            })
            .collect(),
        online: CpuSet::first_n(all * threads),
        ..Host::default()
    }
}

fn sets(policy: &str, host: &Host) -> Sets {
    let policy = Policy::parse(&format!("[host]\n{policy}\n"), "p").unwrap();
    resolve(&policy.host, host)
}

#[test]
fn automatic_housekeeping_takes_what_guests_miss_least() {
    let mut hybrid = host(&[24], 1);
    hybrid.cores[8..].iter_mut().for_each(|core| core.kind = 1);
    assert_eq!(sets("", &hybrid).housekeeping, cpus("8-9"));
    // The only slow core is not enough.
    hybrid.cores[8..23].iter_mut().for_each(|core| core.kind = 0);
    assert_eq!(sets("", &hybrid).housekeeping, cpus("0,23"));
    assert_eq!(sets("dedicated = '23'", &hybrid).housekeeping, cpus("0-1"));

    // One of the two caches is the larger one.
    let mut stacked = host(&[16], 2);
    let llc = |size| crate::host::Llc { level: 3, size };
    stacked.llcs = vec![llc(KiB(96 << 10)), llc(KiB(32 << 10))];
    stacked.cores[8..].iter_mut().for_each(|core| core.llc = 1);
    assert_eq!(sets("", &stacked).housekeeping, cpus("8,24"));
    stacked.llcs[1].size = stacked.llcs[0].size;
    assert_eq!(sets("", &stacked).housekeeping, cpus("0,16"));

    // One core for the whole host, which is too small for one a node.
    let mut small = host(&[3, 3], 1);
    small.cores[4].kind = 1;
    assert_eq!(sets("", &small).housekeeping, cpus("4"));
}

#[test]
fn automatic_sets() {
    for (nodes, threads, isolated, housekeeping, dedicated) in [
        (&[8, 8][..], 2, "", "0,8,16,24", "1-7,9-15,17-23,25-31"),
        (&[16], 1, "", "0", "1-15"),
        (&[17], 1, "", "0-1", "2-16"),
        (
            &[64, 64],
            2,
            "",
            "0-3,64-67,128-131,192-195",
            "4-63,68-127,132-191,196-255",
        ),
        (&[4], 2, "", "0,4", "1-3,5-7"),
        (&[2, 2], 2, "", "0,4", "1-3,5-7"),
        (&[2], 1, "", "0", "1"),
        (&[1, 1], 1, "", "0", "1"),
        (&[1], 2, "", "0-1", ""),
        (&[1], 1, "", "0", ""),
        (&[0, 8], 1, "", "0", "1-7"),
        (&[0, 3], 1, "", "0", "1-2"),
        (&[8], 1, "2-7", "0-1", "2-7"),
        (&[8], 1, "2-7,99", "0-1", "2-7"),
        (&[], 1, "", "", ""),
    ] {
        let mut host = host(nodes, threads);
        host.isolated = cpus(isolated);
        let got = sets("", &host);
        let row = format!("{nodes:?} {threads} {isolated:?}: {got:?}");
        assert_eq!(got.housekeeping, cpus(housekeeping), "{row}");
        assert_eq!(got.dedicated, cpus(dedicated), "{row}");
        assert!(got.shared.is_none() && got.notes.is_empty(), "{row}");
    }
}

#[test]
fn given_sets() {
    // 2 nodes of 8 cores, siblings n and n+16.
    for (policy, isolated, housekeeping, dedicated, shared, noted) in [
        ("housekeeping = \"0-1\"", "", "0-1", "2-31", None, ""),
        ("housekeeping = \"none\"", "", "", "0-31", None, ""),
        (
            "housekeeping = 2",
            "",
            "0-1,8-9,16-17,24-25",
            "2-7,10-15,18-23,26-31",
            None,
            "",
        ),
        (
            "housekeeping = 9",
            "",
            "0-31",
            "",
            None,
            "node 1 has 8 whole cores",
        ),
        (
            "dedicated = \"0-3,16-19\"",
            "",
            "4,8,20,24",
            "0-3,16-19",
            None,
            "",
        ),
        ("dedicated = \"0-15\"", "", "16", "0-15", None, ""),
        ("dedicated = \"0-31\"", "", "", "0-31", None, ""),
        ("dedicated = \"none\"", "", "0,8,16,24", "", None, ""),
        (
            "shared = \"4-7,20-23\"",
            "",
            "0,8,16,24",
            "1-3,9-15,17-19,25-31",
            Some("4-7,20-23"),
            "",
        ),
        (
            "shared = 1",
            "",
            "0,8,16,24",
            "2-7,10-15,18-23,26-31",
            Some("1,9,17,25"),
            "",
        ),
        (
            "shared = \"none\"",
            "",
            "0,8,16,24",
            "1-7,9-15,17-23,25-31",
            Some(""),
            "",
        ),
        (
            "housekeeping = 1\nshared = 1",
            "",
            "0,8,16,24",
            "2-7,10-15,18-23,26-31",
            Some("1,9,17,25"),
            "",
        ),
        (
            "housekeeping = 1\nshared = \"0,16\"",
            "",
            "1,8,17,24",
            "2-7,9-15,18-23,25-31",
            Some("0,16"),
            "",
        ),
        (
            "housekeeping = \"0,99\"",
            "",
            "0",
            "1-31",
            None,
            "CPUs 99, which this host does not have",
        ),
        // Isolated CPUs are never in a mask of several CPUs.
        (
            "housekeeping = \"0-4\"",
            "4-15",
            "0-3",
            "5-15",
            None,
            "housekeeping: CPUs 4 are isolated",
        ),
        ("housekeeping = \"4\"", "4-15", "4", "5-15", None, ""),
        ("housekeeping = 1", "0-3", "4,8,20,24", "0-3", None, ""),
        (
            "shared = \"4-5\"",
            "4-15",
            "0-3,16-31",
            "6-15",
            Some(""),
            "shared: CPUs 4-5 are isolated",
        ),
        ("dedicated = \"8-15\"", "4-15", "0-3,16-31", "8-15", None, ""),
    ] {
        let mut host = host(&[8, 8], 2);
        host.isolated = cpus(isolated);
        let got = sets(policy, &host);
        let row = format!("{policy} {isolated:?}: {got:?}");
        assert_eq!(got.housekeeping, cpus(housekeeping), "{row}");
        assert_eq!(got.dedicated, cpus(dedicated), "{row}");
        assert_eq!(got.shared, shared.map(cpus), "{row}");
        assert_eq!(got.notes.is_empty(), noted.is_empty(), "{row}");
        assert!(
            noted.is_empty() || got.notes.iter().any(|note| note.to_string().contains(noted)),
            "{row}"
        );
    }
}

#[test]
fn one_core_gives_nothing_away() {
    let got = sets("dedicated = \"0-1\"", &host(&[1], 2));
    assert!(
        got.dedicated.is_empty() && got.notes.contains(&SetWarning::OneCore),
        "{got:?}"
    );
}

#[test]
fn offline_and_forbidden_cpus_are_left_out() {
    let mut host = host(&[8], 1);
    host.online = cpus("0-5");
    host.offline = cpus("6-7");
    host.cores.truncate(6);
    let got = sets("dedicated = \"4-7\"", &host);
    assert_eq!(
        (got.dedicated, got.housekeeping),
        (cpus("4-5"), cpus("0")),
        "{:?}",
        got.notes
    );
    assert!(
        got.notes[0].to_string().contains("CPUs 6-7 are offline"),
        "{:?}",
        got.notes
    );
    host.guest_cpus = Some(cpus("2-5"));
    let got = sets("", &host);
    assert_eq!(
        (&got.dedicated, &got.housekeeping),
        (&cpus("3-5"), &cpus("2")),
        "{got:?}"
    );
    assert_eq!(got.shared_now(&host, &cpus("3")), cpus("2,4-5"));
    assert!(
        got.notes[0].to_string().contains("machine.slice"),
        "{:?}",
        got.notes
    );
}

#[test]
fn floating_guests_get_what_nobody_holds() {
    let mut host = host(&[8], 1);
    let held = cpus("2-3");
    assert_eq!(sets("", &host).shared_now(&host, &held), cpus("0-1,4-7"));
    assert_eq!(
        sets("shared = \"3-5\"", &host).shared_now(&host, &held),
        cpus("4-5")
    );
    assert_eq!(
        sets("shared = \"none\"", &host).shared_now(&host, &held),
        cpus("")
    );
    host.isolated = cpus("6-7");
    assert_eq!(sets("", &host).shared_now(&host, &held), cpus("0-1,4-5"));
}

proptest! {
    /// On any host, with any policy, sets that must not overlap do not, and no unusable CPU is in a
    /// set.
    #[test]
    fn sets_keep_their_promises(
        nodes in prop::collection::vec(0u32..9, 1..4),
        threads in 1u32..3,
        isolated in prop::collection::vec(0u32..48, 0..6),
        allowed in prop::option::of(prop::collection::vec(0u32..48, 0..40)),
        rules in (0usize..4, 0usize..3, 0usize..4),
        marks in prop::collection::vec(0u8..4, 48),
    ) {
        let mut host = host(&nodes, threads);
                    host.isolated = isolated.into_iter().map(HostCpu).collect();
        host.guest_cpus = allowed.map(|ids| ids.into_iter().map(HostCpu).collect());
        // Only lists that do not overlap: the parser refuses the others.
        let list = |mark: u8| SetRule::Cpus((0u32..).zip(&marks).filter(|(_, m)| **m == mark).map(|(c, _)| HostCpu(c)).collect());
        let rule = |kind: usize, mark: u8| match kind {
            0 => SetRule::Auto,
            1 => SetRule::Cpus(CpuSet::new()),
            2 => list(mark),
            _ => SetRule::CoresPerNode(2),
        };
        let policy = HostPolicy {
            housekeeping: rule(rules.0, 1),
            dedicated: rule(rules.1, 2),
            shared: rule(rules.2, 3),
            ..HostPolicy::default()
        };
        let got = resolve(&policy, &host);
        let usable = usable(&host);
        let shared = got.shared.clone().unwrap_or_default();
        for set in [&got.housekeeping, &got.dedicated, &shared] {
            prop_assert!(set.is_subset(&usable), "{:?} {:?}", policy, got);
        }
        for mask in [&got.housekeeping, &shared, &got.shared_now(&host, &CpuSet::new())] {
            prop_assert!(mask.len() <= 1 || mask.is_disjoint(&host.isolated), "{:?} {:?}", policy, got);
        }
        prop_assert!(got.dedicated.is_disjoint(&got.housekeeping), "{:?} {:?}", policy, got);
        prop_assert!(got.dedicated.is_disjoint(&shared), "{:?} {:?}", policy, got);
        if policy.housekeeping == SetRule::Auto && policy.dedicated == SetRule::Auto && !usable.is_empty()
            && !usable.is_subset(&host.isolated) {
            prop_assert!(!got.housekeeping.is_empty(), "{:?} {:?}", policy, got);
        }
    }
}
