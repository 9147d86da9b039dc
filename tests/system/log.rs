//! The daemon's log: one entry for each thing, repeated ones once, and entries that users can cause
//! counted.

use std::fs;
use std::os::unix::net::UnixStream;

use crate::daemon::{Libvirt, Setup, sized, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n[profile.plain]\ninherits = \"fit\"\n\
     hugepages = \"off\"\n\n[[rule]]\nmatch = { name = \"db-*\" }\nprofile = \"plain\"\n";

fn count(libvirt: &Libvirt, part: &str) -> usize {
    libvirt.log().lines().filter(|line| line.contains(part)).count()
}

fn says(libvirt: &Libvirt, part: &str) {
    within(10, part, || {
        (count(libvirt, part) > 0)
            .then_some(())
            .ok_or_else(|| libvirt.log())
    });
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_flood_of_connections_is_one_line() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let _daemon = libvirt.virtfitd();
    let socket = libvirt.on_host("run/virtfit/virtfitd.sock");
    // 128 connections are held, and some thousand are refused.
    let held: Vec<_> = (0..144).map(|_| UnixStream::connect(&socket).unwrap()).collect();
    for _ in 0..3000 {
        let _ = UnixStream::connect(&socket);
    }
    says(&libvirt, "more than 128 connections at once");
    drop(held);
    assert_eq!(
        count(&libvirt, "more than 128 connections"),
        1,
        "{}",
        libvirt.log()
    );
    libvirt.virsh(&["version"]).unwrap();
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn the_same_is_said_once_and_each_thing_is_one_line() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let _daemon = libvirt.virtfitd();
    // There is no placement for four vCPUs. Whatever else changes, that is logged once.
    libvirt.define(&sized("db-4", 4, 32)).unwrap();
    libvirt.is_tuned("db-4");
    says(&libvirt, "db-4: tuned by plain without a place of its own");
    let changes: [&[&str]; 4] = [
        &["schedinfo", "db-4", "--config", "--set", "cpu_shares=512"],
        &["schedinfo", "db-4", "--config", "--set", "cpu_shares=513"],
        &["blkiotune", "db-4", "--config", "--weight", "500"],
        &["desc", "db-4", "--config", "--title", "a title"],
    ];
    for words in changes {
        libvirt.virsh(words).unwrap();
        // Long enough for the daemon to decide each of them.
        std::thread::sleep(std::time::Duration::from_millis(300));
    }
    let lines = count(&libvirt, "db-4: no place of its own");
    assert!(lines <= 1, "{lines} times\n{}", libvirt.log());
    // A name that changes, and nothing else.
    libvirt.define(&small("db-7")).unwrap();
    libvirt.is_tuned("db-7");
    libvirt.virsh(&["domrename", "db-7", "app"]).unwrap();
    says(&libvirt, "app: renamed, it was db-7");
    // A policy with errors: one line, with the place of the first.
    fs::write(
        libvirt.on_host("etc/virtfit/policy.toml"),
        "[host]\nfoo = 1\nbar = 2\n[[rules]]\n",
    )
    .unwrap();
    says(&libvirt, "the last good policy stays in force");
    let log = libvirt.log();
    for line in log.lines() {
        assert!(line.starts_with("virtfitd: "), "{line:?} is part of\n{log}");
    }
    assert!(log.contains("policy.toml:2"), "{log}");
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn guests_that_start_without_the_hook_are_noticed() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let _daemon = libvirt.virtfitd();
    let start = |name: &str| {
        libvirt.virsh(&["start", name]).unwrap();
        libvirt.virsh(&["destroy", name]).unwrap();
    };
    for name in ["db-1", "db-2", "web"] {
        libvirt.define(&small(name)).unwrap();
    }
    for name in ["db-1", "web"] {
        start(name);
    }
    libvirt.is_clean();
    assert_eq!(count(&libvirt, "no hook told of it"), 0, "{}", libvirt.log());
    fs::remove_file(libvirt.on_host("etc/libvirt/hooks/qemu.d/50-virtfit")).unwrap();
    for name in ["db-2", "web", "db-2"] {
        start(name);
    }
    says(&libvirt, "db-2: started, and no hook told of it");
    assert_eq!(count(&libvirt, "no hook told of it"), 1, "{}", libvirt.log());
}
