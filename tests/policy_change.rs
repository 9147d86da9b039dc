//! Changed policy and the guests that exist, on a real libvirt: one rule at each of the moments in
//! which a daemon meets it.
#![allow(clippy::unwrap_used)]

#[path = "common/libvirt.rs"]
mod common;

use std::fs;
use std::time::Duration;

use common::{Daemon, Libvirt, Setup, small, within};

const OURS: &str = "https://virtfit.dev/ns/domain/1";

/// Moment at which a daemon meets the policy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Moment {
    /// The file is written while the daemon runs.
    Written,
    /// The file is written, and the daemon is told to read it.
    Reloaded,
    /// The daemon is restarted after the file was written.
    Restarted,
    /// The daemon is restarted, and its memory of earlier policies is deleted.
    Forgotten,
    /// The file is there before the first daemon is.
    First,
}

const MOMENTS: [Moment; 5] = [
    Moment::Written,
    Moment::Reloaded,
    Moment::Restarted,
    Moment::Forgotten,
    Moment::First,
];

/// Returns the policy with this line in `[host]` and these rules.
fn policy(line: &str, rules: &str) -> String {
    format!("[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n{line}\n\n{rules}")
}

const RULE: &str = "[[rule]]\nmatch = { name = \"db-*\" }\nprofile = \"fit\"\n";

/// libvirt with a guest that runs and one that does not, defined and started some minutes ago: no
/// rule matched them.
fn existing() -> Libvirt {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&policy("", "")),
        ..Setup::default()
    });
    for guest in ["db-runs", "db-off"] {
        libvirt.define(&small(guest)).unwrap();
    }
    libvirt.virsh(&["start", "db-runs"]).unwrap();
    let old = "touch -d '5 minutes ago' /etc/virtfit/policy.toml /etc/virtfit\n\
               touch -d '4 minutes ago' /etc/libvirt/qemu/db-*.xml";
    libvirt.sh(old, &[]);
    libvirt
}

fn write(libvirt: &Libvirt, text: &str) {
    let file = libvirt.on_host("/etc/virtfit/policy.toml");
    let new = file.with_extension("new");
    fs::write(&new, text).unwrap();
    fs::rename(new, file).unwrap();
}

fn rest() {
    std::thread::sleep(Duration::from_millis(700));
}

/// Lets the daemon meet the policy at this moment.
fn meet(libvirt: &Libvirt, moment: Moment, text: &str) -> Daemon {
    if moment == Moment::First {
        write(libvirt, text);
        let daemon = libvirt.virtfitd();
        rest();
        return daemon;
    }
    let before = libvirt.virtfitd();
    rest();
    if moment == Moment::Restarted {
        drop(before);
        write(libvirt, text);
        let daemon = libvirt.virtfitd();
        rest();
        return daemon;
    }
    write(libvirt, text);
    rest();
    match moment {
        Moment::Reloaded => {
            before.signal("HUP");
            rest();
            before
        }
        Moment::Forgotten => {
            drop(before);
            libvirt.sh("rm -rf /var/lib/virtfit/*", &[]);
            let daemon = libvirt.virtfitd();
            rest();
            daemon
        }
        _ => before,
    }
}

fn is_tuned(libvirt: &Libvirt, guest: &str) -> bool {
    libvirt.dump(guest).contains(OURS)
}

/// Checks that new guests are fitted at once, and that another start of the daemon, as after an
/// upgrade of the package, changes nothing.
fn goes_on(libvirt: &Libvirt, daemon: Daemon, row: &str) {
    libvirt.define(&small("db-new")).unwrap();
    libvirt.is_tuned("db-new");
    rest();
    let texts = || ["db-runs", "db-off", "db-new"].map(|guest| libvirt.dump(guest));
    let (before, place) = (texts(), libvirt.first_vcpu("db-runs"));
    daemon.signal("TERM");
    rest();
    drop(daemon);
    let _again = libvirt.virtfitd();
    rest();
    assert_eq!(texts(), before, "{row}\n{}", libvirt.log());
    assert_eq!(libvirt.first_vcpu("db-runs"), place, "{row}\n{}", libvirt.log());
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn report_touches_nothing_that_exists_whenever_the_daemon_meets_the_policy() {
    let text = policy("on_policy_change = \"report\"", RULE);
    for moment in MOMENTS {
        let libvirt = existing();
        let (before, place) = (libvirt.dump("db-runs"), libvirt.first_vcpu("db-runs"));
        let daemon = meet(&libvirt, moment, &text);
        let row = format!("{moment:?}\n{}", libvirt.log());
        assert!(!is_tuned(&libvirt, "db-off"), "{row}");
        assert_eq!(libvirt.dump("db-runs"), before, "{row}");
        assert_eq!(libvirt.first_vcpu("db-runs"), place, "{row}");
        assert!(
            libvirt.log().contains("on_policy_change = report"),
            "it is said: {row}"
        );
        goes_on(&libvirt, daemon, &row);
    }
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn apply_lets_all_that_exists_follow_whenever_the_daemon_meets_the_policy() {
    let text = policy("on_policy_change = \"apply\"", RULE);
    for moment in MOMENTS {
        let libvirt = existing();
        let daemon = meet(&libvirt, moment, &text);
        let row = format!("{moment:?}\n{}", libvirt.log());
        within(5, &row, || {
            let all = ["db-off", "db-runs"]
                .iter()
                .all(|guest| is_tuned(&libvirt, guest));
            all.then_some(()).ok_or_else(|| libvirt.log())
        });
        libvirt.runs_on("db-runs", "1");
        goes_on(&libvirt, daemon, &row);
    }
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn what_came_while_no_daemon_ran_follows_where_it_is_newer_than_the_policy() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&policy("", RULE)),
        ..Setup::default()
    });
    rest();
    for guest in ["db-late", "db-started"] {
        libvirt.define(&small(guest)).unwrap();
    }
    libvirt.virsh(&["start", "db-started"]).unwrap();
    let daemon = libvirt.virtfitd();
    libvirt.is_tuned("db-late");
    libvirt.is_tuned("db-started");
    libvirt.runs_on("db-started", "1");
    // libvirt's restart reports all running guests, and changes none.
    write(&libvirt, &policy("", &RULE.replace("fit", "local")));
    rest();
    libvirt.restart_libvirtd();
    rest();
    assert_eq!(libvirt.first_vcpu("db-started"), "1", "{}", libvirt.log());
    drop(daemon);
}
