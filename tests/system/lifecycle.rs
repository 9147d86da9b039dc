//! Guests that do more than start and stop: started paused, reset, rebooted, killed.

use std::thread;
use std::time::Duration;

use crate::daemon::{Libvirt, Setup, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"plain\"\n";

fn host() -> Libvirt {
    Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    })
}

fn virsh(libvirt: &Libvirt, words: &[&str]) -> String {
    libvirt
        .virsh(words)
        .unwrap_or_else(|error| panic!("{words:?}: {error}\n{}", libvirt.log()))
}

fn is_off(libvirt: &Libvirt, guest: &str) {
    within(10, "it is off", || {
        let state = virsh(libvirt, &["domstate", guest]);
        (state.trim() == "shut off").then_some(()).ok_or(state)
    });
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_guest_that_waits_or_begins_again_keeps_its_cpu() {
    let libvirt = host();
    let _daemon = libvirt.virtfitd();
    for guest in ["a", "b"] {
        libvirt.define(&small(guest)).unwrap();
        libvirt.is_tuned(guest);
    }
    let is_as_it_was = |what: &str, reserved: usize| {
        libvirt.runs_on("a", "1");
        let a = libvirt.guest("a");
        assert_eq!((a.held.to_string().as_str(), a.wrong()), ("1", 0), "{what}");
        let left = libvirt.reservations();
        assert_eq!(left.len(), reserved, "{what}: {left:?}\n{}", libvirt.log());
        assert!(
            libvirt.dump("a").contains("<vcpupin vcpu='0' cpuset='1'/>"),
            "{what}"
        );
    };
    virsh(&libvirt, &["start", "--paused", "a"]);
    assert_eq!(virsh(&libvirt, &["domstate", "a"]).trim(), "paused");
    is_as_it_was("paused", 1);
    // The guest holds its CPU though it does nothing on it.
    virsh(&libvirt, &["start", "b"]);
    libvirt.runs_on("b", "0");
    virsh(&libvirt, &["resume", "a"]);
    is_as_it_was("resumed", 2);
    for what in ["reset", "reboot", "suspend", "resume"] {
        virsh(&libvirt, &[what, "a"]);
        thread::sleep(Duration::from_millis(200));
        is_as_it_was(what, 2);
    }
    virsh(&libvirt, &["destroy", "b"]);
    virsh(&libvirt, &["destroy", "a"]);
    libvirt.is_clean();

    // For libvirt a reset of this guest is its end.
    let ends = "</features>\n  <on_reboot>destroy</on_reboot>";
    libvirt.define(&small("c").replace("</features>", ends)).unwrap();
    libvirt.is_tuned("c");
    virsh(&libvirt, &["start", "c"]);
    libvirt.runs_on("c", "1");
    virsh(&libvirt, &["reset", "c"]);
    is_off(&libvirt, "c");
    libvirt.is_clean();
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_guest_that_is_killed_leaves_nothing() {
    let libvirt = host();
    let daemon = libvirt.virtfitd();
    for guest in ["a", "b"] {
        libvirt.define(&small(guest)).unwrap();
        libvirt.is_tuned(guest);
    }
    let next_has_it = || {
        is_off(&libvirt, "a");
        libvirt.is_clean();
        virsh(&libvirt, &["start", "b"]);
        libvirt.runs_on("b", "1");
        virsh(&libvirt, &["destroy", "b"]);
        libvirt.is_clean();
    };
    for state in [&["start", "a"][..], &["start", "--paused", "a"]] {
        virsh(&libvirt, state);
        libvirt.runs_on("a", "1");
        libvirt.signal_qemu("a", "KILL");
        next_has_it();
    }

    // While it starts: in another hook, between its first instruction and the end of its start.
    let started = libvirt.on_host("run/virtfit/test-started");
    libvirt.other_hook("[ \"$1/$2\" = a/started ] && touch /run/virtfit/test-started && sleep 1");
    thread::scope(|scope| {
        let client = scope.spawn(|| libvirt.virsh(&["start", "a"]));
        within(5, "it runs", || {
            started.exists().then_some(()).ok_or(libvirt.log())
        });
        libvirt.signal_qemu("a", "KILL");
        // libvirt notices before or after it reports the start.
        let _ = client.join().unwrap();
    });
    next_has_it();
    libvirt.other_hook("true");

    // libvirt's daemon is not there to see it; the second time virtfit's is stopped as well.
    for with_us in [true, false] {
        virsh(&libvirt, &["start", "a"]);
        libvirt.runs_on("a", "1");
        libvirt.hold("TERM");
        libvirt.signal_qemu("a", "KILL");
        if !with_us {
            daemon.signal("STOP");
        }
        libvirt.release();
        is_off(&libvirt, "a");
        daemon.signal("CONT");
        next_has_it();
    }
}
