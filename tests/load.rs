//! Many guests that start at once: each is decided in time, and no CPU is given twice.
//!
//! Time is what counts, so the test is only in optimised builds (`make test` makes one).
//! `benches/load.rs` has the figures.
#![cfg(not(debug_assertions))]
// Numbers are told with --nocapture.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/load.rs"]
mod load;

use std::time::Duration;

use load::{Host, Report};

/// Options of a host with two packages of 32 cores: room for about 120 of the 500 guests. The
/// others find no placement, which takes longer to decide.
const SERVER: &str = "--packages 2 --cores 32 --threads 2 --memory 64 --pages 2M=16384";
const GUESTS: usize = 500;
const AT_ONCE: usize = 64;
/// Number of tries of a load: other programs may take the machine for a second.
const TRIES: usize = 3;

/// Checks rules that hold however slow the machine is.
fn is_sound(report: &Report) {
    assert_eq!(report.ran.len(), GUESTS);
    assert!(report.twice.is_empty(), "CPUs given twice: {:?}", report.twice);
    assert_eq!(report.failed(), 0, "a hook failed");
}

#[test]
fn with_a_daemon_all_are_decided_in_time() {
    let mut lines = Vec::new();
    for _ in 0..TRIES {
        let host = Host::made(SERVER).with_daemon();
        let report = host.start(GUESTS, AT_ONCE);
        is_sound(&report);
        lines.push(report.line("with a daemon"));
        if report.undecided() * 100 < GUESTS && report.percentile(100) < Duration::from_secs(1) {
            eprintln!("{}", lines.join("\n"));
            return;
        }
    }
    panic!("{}", lines.join("\n"));
}

#[test]
fn without_a_daemon_none_gets_what_another_has() {
    let host = Host::made(SERVER);
    let report = host.start(GUESTS, AT_ONCE);
    eprintln!("{}", report.line("without a daemon"));
    is_sound(&report);
    // The hook leaves its child behind at 950 ms; more than that is the machine's fault.
    assert!(
        report.percentile(50) < Duration::from_millis(1200),
        "{}",
        report.line("without a daemon")
    );
}

/// Options of a host with two packages of 1,024 cores: hwloc alone takes longer than a hook has.
const HUGE: &str = "--packages 2 --nodes-per-package 8 --cores 128 --threads 2 --memory 64 --pages 2M=16384";

#[test]
fn a_host_of_4096_cpus_is_decided_on_without_a_daemon() {
    let host = Host::made(HUGE);
    let file = host.path().join("run/virtfit/host");
    // The first hook is too late, and a process that is not waited for reads the host to its end.
    let mut number = 0;
    let mut hook = || {
        let (name, xml) = load::guest(number);
        number += 1;
        host.run(&name, "prepare", &xml)
    };
    let first = hook();
    assert!(
        first.code == Some(0) && first.took < Duration::from_millis(1200),
        "{first:?}"
    );
    let until = std::time::Instant::now() + Duration::from_secs(60);
    while !file.exists() {
        assert!(std::time::Instant::now() < until, "the host was not kept");
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut took: Vec<Duration> = (0..20)
        .map(|_| {
            let ran = hook();
            assert!(!ran.stderr.contains("nothing was changed"), "{ran:?}");
            ran.took
        })
        .collect();
    took.sort();
    eprintln!(
        "4,096 CPUs without a daemon: the first hook {:?}, then {:?} (median), {:?} (longest)",
        first.took, took[10], took[19]
    );
    assert!(took[10] < Duration::from_millis(500), "{took:?}");
}
