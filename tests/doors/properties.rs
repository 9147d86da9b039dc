//! Any order of starts and ends: no CPU is promised twice, nothing is left over.

use proptest::prelude::*;
use virtfit::types::idset::CpuSet;

use crate::host::{Host, NOW, domain, pinned};

#[derive(Debug, Clone)]
enum Step {
    /// Guest, its kind, vCPUs, whether its status file appears.
    Start(usize, usize, u32, bool),
    Incoming(usize, usize, u32),
    End(usize),
    /// libvirtd was restarted: running guests stay.
    Restart,
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (0..6usize, 0..6usize, 1..5u32, any::<bool>()).prop_map(|(g, k, v, s)| Step::Start(g, k, v, s)),
        1 => (0..6usize, 0..6usize, 1..5u32).prop_map(|(g, k, v)| Step::Incoming(g, k, v)),
        3 => (0..6usize).prop_map(Step::End),
        1 => Just(Step::Restart),
    ]
}

/// Returns the XML of a guest. A guest keeps its kind, which its name says.
fn xml_of(guest: usize, kind: usize, vcpus: u32) -> (String, String) {
    let kinds = [
        "run",
        "refuse",
        "iso",
        "strict",
        "shared",
        "hand",
        "local",
        "run-hand",
        "local-hand",
    ];
    let name = format!(
        "{}-g{guest}",
        kinds[(guest + 3 * (kind / 3) + kind % 2) % kinds.len()]
    );
    let first = guest as u32 + kind as u32 % 3;
    let pin = |vcpu: u32| match (first + vcpu) % 4 {
        // A mask of several CPUs; two of them may be the same.
        3 => format!("{first}-{}", (first + 3 + 5 * (vcpu % 2)).min(15)),
        _ => ((first + 3 * vcpu) % 16).to_string(),
    };
    let xml = match name.contains("hand") {
        true => {
            let pins: Vec<String> = (0..vcpus).map(pin).collect();
            pinned(&name, &pins.iter().map(String::as_str).collect::<Vec<_>>())
        }
        false => domain(&name, vcpus, ""),
    };
    (name, xml)
}

fn nothing_twice(host: &Host) -> Result<(), TestCaseError> {
    let mut seen = CpuSet::new();
    for reservation in host.reading(NOW).reservations {
        let held = reservation.cpus.union(&reservation.withheld);
        prop_assert!(
            held.is_disjoint(&seen),
            "{} has {held}, others {seen}",
            reservation.name
        );
        seen.extend_from(&held);
    }
    Ok(())
}

proptest! {
    // A tenth of the usual number: each case is dozens of decisions.
    #![proptest_config(ProptestConfig { cases: ProptestConfig::default().cases.div_ceil(10), ..ProptestConfig::default() })]
    #[test]
    fn no_cpu_is_promised_twice(steps in proptest::collection::vec(step(), 1..24)) {
        let host = Host::new();
        // XML with which each running guest was started.
        let mut running: Vec<Option<(String, String)>> = vec![None; 6];
        let mut start = 5;
        for step in steps {
            match step {
                Step::Start(guest, kind, vcpus, appears) => {
                    if running[guest].is_some() {
                        continue;
                    }
                    let (name, xml) = xml_of(guest, kind, vcpus);
                    let got = host.hook(&name, "prepare", &xml);
                    prop_assert!(got.undecided.is_none(), "{:?}", got);
                    prop_assert_eq!(got.answer.exit == 3, got.vetoed);
                    if got.vetoed {
                        prop_assert!(host.reservation(&name).is_none());
                        host.hook(&name, "release", &xml);
                        continue;
                    }
                    // A running guest has its XML, pinned live as it was decided.
                    let live = if got.answer.stdout.is_empty() { xml } else { got.answer.stdout };
                    if appears {
                        host.runs(&name, &live);
                    }
                    running[guest] = Some((name, live));
                }
                Step::Incoming(guest, kind, vcpus) => {
                    if running[guest].is_none() {
                        let (name, xml) = xml_of(guest, kind, vcpus);
                        host.hook(&name, "migrate", &xml);
                        host.hook(&name, "release", &xml);
                    }
                }
                Step::End(guest) => {
                    if let Some((name, xml)) = running[guest].take() {
                        host.stopped(&name);
                        let got = host.hook(&name, "release", &xml);
                        prop_assert_eq!(got.answer.exit, 0);
                        prop_assert!(host.reservation(&name).is_none());
                    }
                }
                Step::Restart => {
                    start += 1;
                    host.daemon(77, start);
                    for (name, xml) in running.iter().flatten() {
                        host.hook(name, "reconnect", xml);
                    }
                }
            }
            nothing_twice(&host)?;
        }
        for (name, xml) in running.into_iter().flatten() {
            host.stopped(&name);
            host.hook(&name, "release", &xml);
        }
        let left = std::fs::read_dir(host.path().join("run/virtfit/reservations"));
        let left = left.map_or(0, Iterator::count);
        prop_assert_eq!(left, 0);
    }
}
