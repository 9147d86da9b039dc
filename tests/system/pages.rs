//! Huge pages that are too few for all: no guest fails to start because virtfit gave it some.

use std::fs;
use std::thread;

use crate::daemon::{Libvirt, Setup, sized, within};

/// Pages of each guest: 32 MiB of 2 MiB.
const EACH: u64 = 16;
const POOL: &str = "/proc/sys/vm/nr_hugepages";

fn host(pages: u64, hugepages: &str) -> Libvirt {
    let policy = format!(
        "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
         [profile.pages]\ninherits = \"fit\"\ncpus = \"shared\"\nmax_nodes = 1\nhugepages = \"{hugepages}\"\n\n\
         [[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"pages\"\n"
    );
    Libvirt::with(&Setup {
        pages,
        policy: Some(&policy),
        ..Setup::default()
    })
}

fn define(libvirt: &Libvirt, names: &[&str]) {
    for name in names {
        libvirt.define(&sized(name, 1, 32)).unwrap();
        libvirt.is_tuned(name);
    }
}

/// Returns whether the guest's definition asks for huge pages.
fn asks(libvirt: &Libvirt, name: &str) -> bool {
    let dump = libvirt.virsh(&["dumpxml", "--inactive", name]).unwrap();
    dump.contains("<hugepages>")
}

fn asking(libvirt: &Libvirt, names: &[&str]) -> usize {
    names.iter().filter(|name| asks(libvirt, name)).count()
}

#[track_caller]
fn comes_to(libvirt: &Libvirt, name: &str, pages: bool) {
    within(10, name, || match asks(libvirt, name) == pages {
        true => Ok(()),
        false => Err(libvirt.log()),
    });
}

#[track_caller]
fn start(libvirt: &Libvirt, name: &str) {
    let started = libvirt.virsh(&["start", name]);
    started.unwrap_or_else(|error| panic!("{error}\n{}", libvirt.log()));
}

/// Changes the machine's pool while it lives.
struct Pool(String);

impl Pool {
    fn less(pages: u64) -> Self {
        let before = fs::read_to_string(POOL).unwrap();
        let now: u64 = before.trim().parse().unwrap();
        fs::write(POOL, (now - pages).to_string()).unwrap();
        Self(before)
    }
}

impl Drop for Pool {
    fn drop(&mut self) {
        let _ = fs::write(POOL, &self.0);
    }
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn guests_for_which_there_are_too_few_pages_all_start_at_once() {
    let names = ["p-a", "p-b", "p-c", "p-d"];
    let libvirt = host(2 * EACH + 8, "any");
    let daemon = libvirt.virtfitd();
    define(&libvirt, &names);
    assert_eq!(asking(&libvirt, &names), 2, "{}", libvirt.log());
    let plan = libvirt.virtfit(&["plan", "p-c"]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    let told = plan.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("beside those that other definitions ask for"),
        "{plan}"
    );
    for _ in 0..3 {
        thread::scope(|scope| {
            for name in names {
                scope.spawn(|| start(&libvirt, name));
            }
        });
        let kib: u64 = names.iter().map(|name| libvirt.huge_kib(name)).sum();
        assert_eq!(kib, 2 * EACH * 2048);
        for name in names {
            libvirt.virsh(&["destroy", name]).unwrap();
        }
    }
    assert_eq!(asking(&libvirt, &names), 2, "{}", libvirt.log());
    // One that is gone leaves its pages to another. A daemon that was started since does not wait
    // for an administrator, who could be editing the definitions.
    drop(daemon);
    let _daemon = libvirt.virtfitd();
    libvirt.virsh(&["undefine", "p-a"]).unwrap();
    start(&libvirt, "p-b");
    libvirt.virsh(&["destroy", "p-b"]).unwrap();
    within(10, "another asks for them", || {
        match asking(&libvirt, &names[1..]) {
            2 => Ok(()),
            _ => Err(libvirt.log()),
        }
    });
    libvirt.is_clean();
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_pool_that_is_emptied_keeps_no_guest_from_starting() {
    let libvirt = host(2 * EACH + 8, "any");
    let daemon = libvirt.virtfitd();
    define(&libvirt, &["p-a", "p-b"]);
    assert_eq!(asking(&libvirt, &["p-a", "p-b"]), 2, "{}", libvirt.log());
    // No guest starts or ends meanwhile.
    let pool = Pool::less(2 * EACH + 8);
    comes_to(&libvirt, "p-a", false);
    comes_to(&libvirt, "p-b", false);
    start(&libvirt, "p-a");
    libvirt.virsh(&["destroy", "p-a"]).unwrap();
    // A daemon that was started since does not wait for an administrator, who could be editing the
    // definitions.
    drop(daemon);
    let daemon = libvirt.virtfitd();
    drop(pool);
    comes_to(&libvirt, "p-a", true);
    comes_to(&libvirt, "p-b", true);
    // Without a daemon, status tells that a guest cannot start, and its command helps.
    drop(daemon);
    let _pool = Pool::less(2 * EACH + 8);
    let status = libvirt.virtfit(&["status", "p-a"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert_eq!(status.status.code(), Some(3), "{said}");
    let told = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(
        told.contains("libvirt cannot start it: too few of the huge pages"),
        "{said}"
    );
    assert!(libvirt.virtfit(&["apply", "p-a"]).status.success());
    start(&libvirt, "p-a");
    libvirt.virsh(&["destroy", "p-a"]).unwrap();
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn definitions_give_up_pages_that_are_gone_and_get_them_back() {
    let libvirt = host(2 * EACH + 8, "any");
    let daemon = libvirt.virtfitd();
    define(&libvirt, &["p-a", "p-b"]);
    assert_eq!(asking(&libvirt, &["p-a", "p-b"]), 2, "{}", libvirt.log());
    // The pool is smaller: the first that starts gets its pages, the other does without.
    let pool = Pool::less(EACH);
    start(&libvirt, "p-a");
    assert_eq!(libvirt.huge_kib("p-a"), EACH * 2048);
    comes_to(&libvirt, "p-b", false);
    start(&libvirt, "p-b");
    assert_eq!(libvirt.huge_kib("p-b"), 0);
    let log = libvirt.log();
    assert!(
        log.contains("p-b: tuned by pages, 2 changes; no huge pages: 16 of 2 MiB needed, 8 free on node 0"),
        "{log}"
    );
    // With the pages back, the end of a guest is the time to ask for them. A daemon that was
    // started since does not wait for an administrator.
    drop(daemon);
    let _daemon = libvirt.virtfitd();
    drop(pool);
    for name in ["p-a", "p-b"] {
        libvirt.virsh(&["destroy", name]).unwrap();
    }
    comes_to(&libvirt, "p-b", true);
    // No event tells that another program took the pages: one start fails, the next does not.
    let pool = Pool::less(2 * EACH);
    libvirt.virsh(&["start", "p-a"]).unwrap_err();
    for name in ["p-a", "p-b"] {
        comes_to(&libvirt, name, false);
        start(&libvirt, name);
    }
    let log = libvirt.log();
    assert!(
        log.contains("p-a: starts") && log.contains("too few of the huge pages"),
        "{log}"
    );
    for name in ["p-a", "p-b"] {
        libvirt.virsh(&["destroy", name]).unwrap();
    }
    drop(pool);
    libvirt.is_clean();
}

/// Definitions ask for huge pages that the profile requires; when they are taken, the others run as
/// guests without a place do.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn required_pages_are_given_up_when_they_are_taken() {
    let names = ["p-a", "p-b", "p-c"];
    let libvirt = host(2 * EACH + 8, "2M");
    let daemon = libvirt.virtfitd();
    define(&libvirt, &names);
    assert_eq!(asking(&libvirt, &names), 3, "{}", libvirt.log());
    start(&libvirt, "p-a");
    start(&libvirt, "p-b");
    comes_to(&libvirt, "p-c", false);
    start(&libvirt, "p-c");
    assert_eq!(libvirt.huge_kib("p-c"), 0);
    drop(daemon);
    let _daemon = libvirt.virtfitd();
    for name in names {
        libvirt.virsh(&["destroy", name]).unwrap();
    }
    comes_to(&libvirt, "p-c", true);
    libvirt.is_clean();
}
