//! Hooks as processes, against each other.

use virtfit::types::idset::CpuSet;

use crate::host::{Host, NOW, domain};

/// Number of rounds.
const ROUNDS: usize = 100;

#[test]
fn of_two_that_refuse_one_wins() {
    let host = Host::new();
    let names = ["refuse-a", "refuse-b"];
    // The host has twelve dedicated CPUs, six per node: one of the guests fits on each node, so one
    // node is taken.
    host.runs(
        "big",
        &crate::host::pinned("big", &["10", "11", "12", "13", "14", "15"]),
    );
    for round in 0..ROUNDS {
        let xml = names.map(|name| domain(name, 4, ""));
        let order = if round % 2 == 0 { [0, 1] } else { [1, 0] };
        let running = order.map(|guest| (guest, host.spawn(names[guest], "prepare", &xml[guest])));
        let ran = running.map(|(guest, running)| (guest, running.wait()));
        let (winners, losers): (Vec<_>, Vec<_>) = ran.iter().partition(|(_, ran)| ran.code == Some(0));
        assert_eq!((winners.len(), losers.len()), (1, 1), "round {round}");
        let (winner, loser) = (winners[0].0, &losers[0].1);
        assert_eq!(loser.code, Some(3));
        let line = loser.stderr.lines().next().unwrap_or_default();
        assert!(
            line.starts_with(&format!("virtfit: {} needs 4 free CPUs", names[losers[0].0]))
                && line.contains(names[winner]),
            "round {round}: {}",
            loser.stderr
        );
        assert_eq!(host.reading(NOW).reservations.len(), 1, "round {round}");
        for guest in order {
            host.run(names[guest], "release", &xml[guest]);
        }
        assert_eq!(host.reading(NOW).reservations.len(), 0, "round {round}");
    }
}

#[test]
fn of_four_that_run_shared_none_gets_what_another_has() {
    let host = Host::new();
    let names = ["run-a", "run-b", "run-c", "run-d"];
    for round in 0..ROUNDS / 4 {
        let running = names.map(|name| host.spawn(name, "prepare", &domain(name, 4, "")));
        for ran in running.map(crate::host::Running::wait) {
            assert_eq!(ran.code, Some(0), "round {round}: {}", ran.stderr);
            assert!(!ran.stderr.contains("nothing was changed"), "{}", ran.stderr);
        }
        let mut seen = CpuSet::new();
        let mut reservations = host.reading(NOW).reservations;
        // The other guests' reservations say where they float.
        reservations.retain(|reservation| !reservation.cpus.is_empty());
        // Six CPUs a node: two guests fit.
        assert_eq!(reservations.len(), 2, "round {round}");
        for reservation in reservations {
            assert!(reservation.cpus.is_disjoint(&seen), "round {round}");
            assert_eq!(reservation.cpus.len(), 4);
            seen.extend_from(&reservation.cpus);
        }
        for name in names {
            host.run(name, "release", &domain(name, 4, ""));
        }
    }
}

#[test]
fn twenty_at_once_all_get_an_answer_in_time() {
    let host = Host::paper();
    let names: Vec<String> = (0..20).map(|n| format!("run-{n:02}")).collect();
    let running: Vec<_> = names
        .iter()
        .map(|name| host.spawn(name, "prepare", &domain(name, 1, "")))
        .collect();
    let mut seen = CpuSet::new();
    let mut late = 0;
    for running in running {
        let ran = running.wait();
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        // On a busy machine the time may be over before the XML was read; a CPU must never be given
        // twice.
        late += usize::from(ran.stderr.contains("nothing was changed"));
    }
    assert!(host.reading(NOW).undecided.len() <= late);
    for reservation in host.reading(NOW).reservations {
        assert!(reservation.cpus.is_disjoint(&seen));
        seen.extend_from(&reservation.cpus);
    }
    assert!(seen.len() + late >= 20, "{seen}, {late} undecided");
}
