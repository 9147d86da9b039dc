//! The host's CPUs in their three roles: for the host itself, handed out exclusively, and floated on.

use std::collections::BTreeMap;

use super::{HostPolicy, SetRule};
use crate::host::{Core, Host};
use crate::idset::CpuSet;
use crate::units::NodeId;

/// A policy's sets on one host. Only CPUs that are online and that guests may use are in them.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Sets {
    /// For the host, emulator threads and iothreads. Without isolated CPUs, but it is a single CPU.
    pub housekeeping: CpuSet,
    /// Handed out exclusively.
    pub dedicated: CpuSet,
    /// Where floating guests run, as given; `None`: every non-isolated CPU nobody holds. Without isolated CPUs,
    /// but it is a single CPU.
    pub shared: Option<CpuSet>,
    /// What of the policy this host does not allow, for people.
    pub notes: Vec<String>,
}

impl Sets {
    /// The CPUs a floating guest may use while `held` are taken; may be empty.
    pub fn shared_now(&self, host: &Host, held: &CpuSet) -> CpuSet {
        let all = match &self.shared {
            Some(explicit) => explicit.clone(),
            None => usable(host).difference(&host.isolated),
        };
        all.difference(held)
    }
}

/// The sets of a policy on a host.
pub fn resolve(policy: &HostPolicy, host: &Host) -> Sets {
    let usable = usable(host);
    let isolated = host.isolated.intersection(&usable);
    let mut notes = Vec::new();
    let kept_out = host.online.difference(&usable);
    if !kept_out.is_empty() {
        notes.push(format!(
            "CPUs {kept_out} are outside machine.slice's cpuset: no guest can use them"
        ));
    }
    let mut given = |name: &str, rule: &SetRule| explicit(name, rule, host, &usable, &mut notes);
    let housekeeping_given = given("housekeeping", &policy.housekeeping);
    let dedicated_given = given("dedicated", &policy.dedicated);
    let shared_given = given("shared", &policy.shared);

    // What a list names is the administrator's word on those CPUs, also where they cannot be in that set.
    let listed = |rule: &SetRule| match rule {
        SetRule::Cpus(cpus) => cpus.clone(),
        _ => CpuSet::new(),
    };
    let dedicated_listed = listed(&policy.dedicated);
    let shared_listed = listed(&policy.shared);

    let plain = usable.difference(&isolated);
    let housekeeping = match &policy.housekeeping {
        SetRule::Cpus(_) => masked("housekeeping", housekeeping_given, &isolated, &mut notes),
        SetRule::CoresPerNode(count) => {
            let free = plain.difference(&dedicated_listed).difference(&shared_listed);
            cores_per_node("housekeeping", *count, host, &free, &mut notes)
        }
        SetRule::Auto if !isolated.is_empty() => plain.difference(&dedicated_listed),
        SetRule::Auto => auto_housekeeping(host, &usable, &dedicated_listed),
    };
    let taken = housekeeping.union(&listed(&policy.housekeeping));
    let shared = match &policy.shared {
        SetRule::Auto => None,
        SetRule::Cpus(_) => Some(masked("shared", shared_given, &isolated, &mut notes)),
        SetRule::CoresPerNode(count) => {
            let free = plain.difference(&dedicated_listed).difference(&taken);
            Some(cores_per_node("shared", *count, host, &free, &mut notes))
        }
    };
    let spoken_for = taken
        .union(&shared_listed)
        .union(&shared.clone().unwrap_or_default());
    let mut dedicated = match &policy.dedicated {
        SetRule::Cpus(_) => dedicated_given,
        _ if !isolated.is_empty() => isolated.difference(&spoken_for),
        _ => usable.difference(&spoken_for),
    };
    if host.cores.len() <= 1 && !dedicated.is_empty() {
        dedicated = CpuSet::new();
        if matches!(policy.dedicated, SetRule::Cpus(_)) {
            notes.push("dedicated: this host has one core; nothing is handed out exclusively".into());
        }
    }
    Sets {
        housekeeping,
        dedicated,
        shared,
        notes,
    }
}

/// Online, and allowed to guests by `machine.slice`'s cpuset.
pub fn usable(host: &Host) -> CpuSet {
    match &host.guest_cpus {
        Some(allowed) => host.online.intersection(allowed),
        None => host.online.clone(),
    }
}

/// A list less what this host cannot give, with a note for what was taken out; empty for the other rules.
fn explicit(name: &str, rule: &SetRule, host: &Host, usable: &CpuSet, notes: &mut Vec<String>) -> CpuSet {
    let SetRule::Cpus(cpus) = rule else {
        return CpuSet::new();
    };
    let present = host.online.union(&host.offline);
    for (gone, why) in [
        (cpus.difference(&present), "this host does not have"),
        (
            cpus.intersection(&host.offline).difference(&host.online),
            "are offline",
        ),
    ] {
        if !gone.is_empty() {
            notes.push(match why {
                "are offline" => format!("{name}: CPUs {gone} {why}; left out"),
                _ => format!("{name}: CPUs {gone}, which {why}; left out"),
            });
        }
    }
    cpus.intersection(usable)
}

/// The kernel does not balance over isolated CPUs: threads with a mask of several would pile up on one of them.
fn masked(name: &str, cpus: CpuSet, isolated: &CpuSet, notes: &mut Vec<String>) -> CpuSet {
    let both = cpus.intersection(isolated);
    if both.is_empty() || cpus.len() <= 1 {
        return cpus;
    }
    notes.push(format!(
        "{name}: CPUs {both} are isolated; the kernel would not balance threads there; left out"
    ));
    cpus.difference(isolated)
}

/// Cores of each node, in the order of their first CPU. Only nodes that have some.
fn by_node(host: &Host) -> BTreeMap<NodeId, Vec<&Core>> {
    let mut nodes: BTreeMap<NodeId, Vec<&Core>> = BTreeMap::new();
    for core in &host.cores {
        nodes.entry(core.node).or_default().push(core);
    }
    for cores in nodes.values_mut() {
        cores.sort_by_key(|core| core.cpus.first().copied());
    }
    nodes
}

fn cpus_of(core: &Core) -> CpuSet {
    core.cpus.iter().copied().collect()
}

/// The first `count` cores of each node whose CPUs are all in `free`.
fn cores_per_node(name: &str, count: u32, host: &Host, free: &CpuSet, notes: &mut Vec<String>) -> CpuSet {
    let mut out = CpuSet::new();
    for (node, cores) in by_node(host) {
        let whole: Vec<CpuSet> = cores
            .iter()
            .map(|core| cpus_of(core))
            .filter(|cpus| cpus.is_subset(free))
            .collect();
        if whole.len() < count as usize {
            notes.push(format!(
                "{name} = {count}: node {node} has {} whole cores for it",
                whole.len()
            ));
        }
        whole
            .iter()
            .take(count as usize)
            .for_each(|cpus| out.extend_from(cpus));
    }
    out
}

/// The first ceil(cores/16) cores of each node, at most a quarter of it, at least one core on the host; around what
/// is dedicated by name.
fn auto_housekeeping(host: &Host, usable: &CpuSet, dedicated: &CpuSet) -> CpuSet {
    let free = usable.difference(dedicated);
    let mut out = CpuSet::new();
    let mut first: Option<CpuSet> = None;
    for cores in by_node(host).values() {
        let all = cores
            .iter()
            .filter(|core| !cpus_of(core).is_disjoint(usable))
            .count();
        let count = all.div_ceil(16).min(all / 4);
        let mut whole = cores
            .iter()
            .map(|core| cpus_of(core).intersection(usable))
            .filter(|cpus| !cpus.is_empty() && cpus.is_subset(&free));
        for _ in 0..count {
            out.extend_from(&whole.next().unwrap_or_default());
        }
        if first.is_none() {
            first = whole.next();
        }
    }
    if !out.is_empty() {
        return out;
    }
    // Small nodes: one core. Where every core has a dedicated thread: what is left of the first that has any.
    first.unwrap_or_else(|| {
        host.cores
            .iter()
            .map(|core| cpus_of(core).intersection(&free))
            .find(|cpus| !cpus.is_empty())
            .unwrap_or_default()
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::cpulist;
    use crate::host::{Core, Node};
    use crate::policy::Policy;
    use crate::units::{HostCpu, KiB};
    use proptest::prelude::*;

    fn cpus(list: &str) -> CpuSet {
        cpulist::parse(list).unwrap()
    }

    /// Nodes with so many cores each; `threads` per core, the siblings numbered after all first threads.
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
            // Isolated CPUs: never in a mask of several.
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
                noted.is_empty() || got.notes.iter().any(|note| note.contains(noted)),
                "{row}"
            );
        }
    }

    #[test]
    fn one_core_gives_nothing_away() {
        let got = sets("dedicated = \"0-1\"", &host(&[1], 2));
        assert!(
            got.dedicated.is_empty() && got.notes.iter().any(|note| note.contains("one core")),
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
        assert!(got.notes[0].contains("CPUs 6-7 are offline"), "{:?}", got.notes);
        host.guest_cpus = Some(cpus("2-5"));
        let got = sets("", &host);
        assert_eq!(
            (&got.dedicated, &got.housekeeping),
            (&cpus("3-5"), &cpus("2")),
            "{got:?}"
        );
        assert_eq!(got.shared_now(&host, &cpus("3")), cpus("2,4-5"));
        assert!(got.notes[0].contains("machine.slice"), "{:?}", got.notes);
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
        /// Whatever host and policy: roles do not overlap where they must not, and nothing unusable is in them.
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
            // Lists that do not overlap, as the parser makes sure.
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
}
