//! Figures and verdicts, from counters that are made up.

use std::collections::BTreeMap;
use std::time::Duration;

use super::sampler::{Rest, Watched};
use super::*;
use crate::host::Host;
use crate::host::thread_counts::{Counts, Task, Times};
use crate::hostfs::HostFs;
use crate::types::cpulist;
use crate::types::ids::{HostCpu, KiB, NodeId};

/// Nanoseconds of a millisecond.
const MS: u64 = 1_000_000;

/// Returns a host of 2 nodes, each of 2 caches of 2 cores of 2 CPUs: node 0 has CPUs 0-7.
pub(crate) fn host() -> Host {
    crate::host::load(&HostFs::none(), Some("numa:2 l3:2 core:2 pu:2")).unwrap()
}

/// Guest in a made-up measurement: its vCPUs are threads 1, 2, …, its emulator thread is 9.
pub(crate) struct Made<'m> {
    /// Milliseconds of each tenth of a second that vCPU 0 waits; it runs in the others.
    pub waits: &'m [u64],
    /// CPUs it runs on, one a tenth of a second, again and again.
    pub cpus: &'m [u32],
    /// CPUs that are its place.
    pub planned: &'m str,
    /// Moves and switches a tenth of a second.
    pub events: u64,
}

/// Makes the moments of two seconds, a slice being two tenths of a second.
pub(crate) fn moments(made: &Made<'_>) -> Vec<Moment> {
    let mut out = Vec::new();
    let mut times = Times::default();
    for tenth in 0..=20u64 {
        let at = usize::try_from(tenth).unwrap();
        times.cpu = Some(HostCpu(made.cpus[at % made.cpus.len()]));
        if tenth > 0 {
            let wait = made.waits[at % made.waits.len()] * MS;
            times.wait_ns += wait;
            times.run_ns += 100 * MS - wait;
        }
        let emulator = Times {
            cpu: Some(HostCpu(0)),
            run_ns: tenth * MS,
            wait_ns: 0,
        };
        let events = Counts {
            migrations: Some(7 + tenth * made.events),
            preempted: Some(tenth * made.events),
        };
        let task = |tid, pid, name: &str, cpu, ms: u64| Task {
            tid,
            pid,
            name: name.into(),
            cpu: Some(HostCpu(cpu)),
            ran_ns: ms * MS,
        };
        let rest = Rest {
            counts: BTreeMap::from([(1, events), (9, Counts::default())]),
            exits: BTreeMap::from([(9, 1000 + tenth * 50)]),
            tasks: match tenth {
                0 => Vec::new(),
                _ => vec![
                    task(1, 9, "qemu", made.cpus[0], 100),
                    task(77, 77, "cargo\u{1b}[31m", made.cpus[0], 2),
                    task(21, 20, "qemu", made.cpus[0], 50),
                    task(78, 78, "elsewhere", 15, 50),
                ],
            },
        };
        out.push(Moment {
            at: Duration::from_millis(100 * tenth),
            times: BTreeMap::from([(1, times), (9, emulator)]),
            rest: (tenth % 2 == 0).then_some(rest),
        });
    }
    out
}

/// Makes a measurement of a guest with memory on node 0, and some on node 1.
pub(crate) fn made(guest: &Made<'_>) -> Measurement {
    let watched = |tid, role: &str, planned: &str| Watched {
        tid,
        role: role.into(),
        planned: cpulist::parse(planned).unwrap_or_default(),
    };
    let subject = Subject {
        name: "db".into(),
        uuid: "6d3f1a52-0000-4000-8000-000000000001".into(),
        profile: Some("fit".into()),
        pid: 9,
        threads: vec![
            watched(9, "emulator", "0"),
            watched(1, "vcpu 0", guest.planned),
            watched(5, "kvm", ""),
        ],
        memory: Some(BTreeMap::from([
            ((NodeId(0), KiB(2048)), KiB(7 << 20)),
            ((NodeId(1), KiB(4)), KiB(1 << 20)),
        ])),
    };
    let names = BTreeMap::from([(9, "db".to_string()), (20, "web".to_string())]);
    measurement(&host(), &[subject], &names, &moments(guest), 1_700_000_000)
}

/// Guest that shares CPU 1 with another one.
pub(crate) const CROWDED: Made<'_> = Made {
    waits: &[50, 45, 55, 52],
    cpus: &[1],
    planned: "1",
    events: 9,
};
/// Guest that has CPU 2 for itself.
pub(crate) const FITTED: Made<'_> = Made {
    waits: &[0, 1],
    cpus: &[2],
    planned: "2",
    events: 0,
};
/// Guest that roams the host, off its place.
const ROAMING: Made<'_> = Made {
    waits: &[10],
    cpus: &[0, 1, 2, 4, 8],
    planned: "0-1",
    events: 1,
};

fn value(measurement: &Measurement, kind: Kind) -> Option<f64> {
    let figures = &measurement.guests[0].figures;
    figures.iter().find(|figure| figure.figure == kind).unwrap().value
}

#[test]
fn times_become_shares_and_events_become_rates() {
    let crowded = made(&CROWDED);
    assert_eq!((crowded.seconds, crowded.samples), (2.0, 21));
    let expected = [1.0, 50.5, 0.0, 12.5, 0.0, 90.0, 90.0].map(Some);
    assert_eq!(Kind::ALL.map(|kind| value(&crowded, kind)), expected);
    let guest = &crowded.guests[0];
    assert_eq!(guest.kvm_exits, Some(1000));
    // Own threads do not count, nor what ran on other CPUs.
    let others: Vec<(&str, bool, u64)> = guest
        .others
        .iter()
        .map(|other| (other.name.as_str(), other.guest, other.run_ns / MS))
        .collect();
    assert_eq!(others, [("web", true, 500), ("cargo\u{1b}[31m", false, 20)]);
    // A thread that was never read is there, and did nothing.
    assert_eq!((guest.threads[2].run_ns, guest.threads[2].migrations), (0, None));
}

#[test]
fn places_are_told_apart_by_cpu_and_node() {
    let roaming = made(&ROAMING);
    // Of five tenths, CPUs 0 and 1 are the place, 2 and 4 are on its node.
    assert_eq!(value(&roaming, Kind::OffCpu), Some(60.0));
    assert_eq!(value(&roaming, Kind::OffNode), Some(20.0));
    assert_eq!(value(&roaming, Kind::Remote), Some(0.0), "it runs on both nodes");
    let moves = roaming.guests[0].threads[1].moves;
    assert_eq!((moves.core, moves.cache, moves.node, moves.nodes), (4, 4, 4, 8));
    // Without a place there is nothing to be off.
    let free = made(&Made {
        planned: "",
        ..ROAMING
    });
    assert_eq!(
        (value(&free, Kind::OffCpu), value(&free, Kind::OffNode)),
        (None, None)
    );
}

#[test]
fn counters_that_fall_or_are_missing_count_for_nothing() {
    let mut all = moments(&FITTED);
    // The thread ends, and another one gets its number.
    for moment in &mut all[10..15] {
        moment.times.remove(&1);
    }
    for moment in &mut all[15..] {
        moment.times.insert(1, Times::default());
    }
    let watched = vec![Watched {
        tid: 1,
        role: "vcpu 0".into(),
        ..Watched::default()
    }];
    let subject = Subject {
        name: "db".into(),
        threads: watched,
        ..Subject::default()
    };
    let subjects = [subject];
    let seen = measurement(&host(), &subjects, &BTreeMap::new(), &all, 0);
    assert_eq!(seen.guests[0].threads[0].run_ns, 895 * MS);
    let nothing = measurement(&host(), &subjects, &BTreeMap::new(), &[], 0);
    assert!(
        nothing.guests[0]
            .figures
            .iter()
            .all(|figure| figure.value.is_none())
    );
    let huge = Times {
        cpu: Some(HostCpu(9999)),
        run_ns: u64::MAX,
        wait_ns: u64::MAX,
    };
    let mut all = moments(&FITTED);
    all.last_mut().unwrap().times.insert(1, huge);
    let seen = measurement(&host(), &subjects, &BTreeMap::new(), &all, 0);
    assert_eq!(seen.guests[0].threads[0].run_ns, u64::MAX);
}

#[test]
fn the_verdict_is_that_of_the_first_figure_beyond_the_noise() {
    let (crowded, fitted, roaming) = (made(&CROWDED), made(&FITTED), made(&ROAMING));
    for (before, after, verdict) in [
        (&crowded, &fitted, Verdict::Better),
        (&fitted, &crowded, Verdict::Worse),
        (&crowded, &crowded, Verdict::Same),
        (&roaming, &fitted, Verdict::Better),
    ] {
        let compared = compare(before, after);
        assert_eq!(compared.verdict, verdict, "{compared:?}");
        assert_eq!(compared.guests[0].verdict, verdict);
        assert!(!compared.guests[0].load_differs, "{compared:?}");
    }
    // The tenths of the crowded guest differ by some points, so one of these says nothing.
    let slightly = made(&Made {
        waits: &[46, 52, 50, 49],
        ..CROWDED
    });
    let compared = compare(&crowded, &slightly);
    let waited = &compared.guests[0].figures[1];
    assert_eq!((waited.figure, waited.verdict), (Kind::Waited, Verdict::Same));
    assert!(waited.before != waited.after && waited.noise > 1.0, "{waited:?}");
}

#[test]
fn a_guest_that_did_other_work_or_is_new_is_told() {
    let mut idle = made(&FITTED);
    for figure in &mut idle.guests[0].figures {
        figure.value = figure.value.map(|value| value / 4.0);
    }
    let compared = compare(&made(&CROWDED), &idle);
    assert!(compared.guests[0].load_differs);
    // Another UUID and name: a new guest, and one that is missing.
    idle.guests[0].uuid = "other".into();
    idle.guests[0].name = "web".into();
    let compared = compare(&made(&CROWDED), &idle);
    assert_eq!(compared.verdict, Verdict::Unknown);
    assert_eq!(
        (compared.missing.as_slice(), compared.guests[0].figures.len()),
        (&["db".to_string()][..], 0)
    );
    // A guest that was defined again under its name is the same one.
    idle.guests[0].name = "db".into();
    assert_eq!(compare(&made(&CROWDED), &idle).missing, [""; 0]);
}

#[test]
fn one_guest_that_is_worse_off_decides() {
    let mut before = made(&CROWDED);
    let mut after = made(&FITTED);
    let (mut one, mut other) = (made(&FITTED).guests[0].clone(), made(&CROWDED).guests[0].clone());
    for guest in [&mut one, &mut other] {
        guest.uuid = "2".into();
    }
    before.guests.push(one);
    after.guests.push(other);
    assert_eq!(compare(&before, &after).verdict, Verdict::Worse);
}

#[test]
fn a_saved_measurement_is_read_as_it_was() {
    let crowded = made(&CROWDED);
    let text = serde_json::to_string(&crowded).unwrap();
    assert_eq!(serde_json::from_str::<Measurement>(&text).unwrap(), crowded);
    // Values of any size give numbers.
    let mut odd = crowded.clone();
    for figure in &mut odd.guests[0].figures {
        figure.spread = Some(f64::MAX);
        figure.value = Some(-f64::MAX);
    }
    let compared = compare(&odd, &crowded);
    assert!(
        compared.guests[0]
            .figures
            .iter()
            .all(|figure| figure.noise.is_finite())
    );
}
