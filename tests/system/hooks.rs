//! Hooks of other programs beside virtfit's: libvirt waits for them with the guest locked.

use std::fs;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Libvirt, Setup, small, within};

fn policy(profile: &str) -> String {
    format!(
        "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\non_policy_change = \"apply\"\n\n\
         [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
         [[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"{profile}\"\n"
    )
}

fn host(guests: &[&str]) -> Libvirt {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&policy("plain")),
        ..Setup::default()
    });
    for guest in guests {
        libvirt.define(&small(guest)).unwrap();
        // An editor may still have the definition open.
        let file = format!("/etc/libvirt/qemu/{guest}.xml");
        libvirt.sh("touch -d '5 minutes ago' \"$1\"", &[&file]);
    }
    libvirt
}

/// Reads the file: libvirt does not answer while a hook runs.
fn profile_of(libvirt: &Libvirt, guest: &str) -> String {
    let text = fs::read_to_string(libvirt.on_host(&format!("etc/libvirt/qemu/{guest}.xml"))).unwrap();
    let head = text.split_once("<virtfit:fit ").map_or("", |(_, rest)| rest);
    let profile = head
        .split_once("profile=\"")
        .and_then(|(_, rest)| rest.split_once('"'));
    profile.map_or_else(String::new, |(profile, _)| profile.to_string())
}

fn is_tuned_by(libvirt: &Libvirt, guest: &str, profile: &str) {
    within(10, "tuned by it", || {
        let now = profile_of(libvirt, guest);
        (now == profile)
            .then_some(())
            .ok_or_else(|| format!("{guest} by {now}, not {profile}\n{}", libvirt.log()))
    });
}

/// Waits until the daemon has nothing left to do: a call that began before a hook of its
/// guest waits for the hook's end, as any other client's does.
fn is_done(libvirt: &Libvirt) {
    let mut log = libvirt.log();
    let mut since = Instant::now();
    within(20, "at rest", || {
        let now = libvirt.log();
        if now != log {
            (log, since) = (now, Instant::now());
        }
        (since.elapsed() > Duration::from_millis(700))
            .then_some(())
            .ok_or_else(|| log.clone())
    });
}

/// While a hook runs for a guest, libvirt is not asked about it, however long another program takes
/// there: a client that asks waits with libvirt's list of guests locked, and all others wait behind
/// it. Afterwards, pending changes are made.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_slow_hook_holds_up_its_own_guest_only() {
    let libvirt = host(&["a", "b"]);
    let _daemon = libvirt.virtfitd();
    for guest in ["a", "b"] {
        is_tuned_by(&libvirt, guest, "plain");
    }
    let there = libvirt.on_host("run/virtfit/test-slow");
    let steps = [
        ("start", "prepare", "local"),
        ("destroy", "stopped", "plain"),
        ("start", "started", "local"),
        ("destroy", "release", "plain"),
    ];
    for (command, operation, profile) in steps {
        is_done(&libvirt);
        let _ = fs::remove_file(&there);
        let slow = format!("[ \"$1/$2\" = a/{operation} ] && touch /run/virtfit/test-slow && sleep 2.5");
        libvirt.other_hook(&slow);
        thread::scope(|scope| {
            let client = scope.spawn(|| libvirt.virsh(&[command, "a"]));
            within(5, "in the other hook", || {
                there.exists().then_some(()).ok_or(libvirt.log())
            });
            let begin = Instant::now();
            fs::write(libvirt.on_host("etc/virtfit/policy.toml"), policy(profile)).unwrap();
            is_tuned_by(&libvirt, "b", profile);
            thread::sleep(Duration::from_millis(500));
            // A define locks what every client needs.
            libvirt.define(&small("c")).unwrap();
            libvirt.virsh(&["dominfo", "b"]).unwrap();
            let took = begin.elapsed();
            assert!(
                took < Duration::from_millis(2300),
                "{operation}: {took:?}\n{}",
                libvirt.log()
            );
            assert_ne!(
                profile_of(&libvirt, "a"),
                profile,
                "{operation}: {}",
                libvirt.log()
            );
            client.join().unwrap().unwrap();
        });
        is_tuned_by(&libvirt, "a", profile);
    }
    libvirt.is_clean();
}

/// The commands also wait for the hook's end, and no client waits for them.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_command_waits_for_the_hook_of_its_guest_alone() {
    let libvirt = host(&["a", "b"]);
    let there = libvirt.on_host("run/virtfit/test-slow");
    fs::create_dir_all(there.parent().unwrap()).unwrap();
    libvirt.other_hook("[ \"$1/$2\" = a/started ] && touch /run/virtfit/test-slow && sleep 2.5");
    thread::scope(|scope| {
        let client = scope.spawn(|| libvirt.virsh(&["start", "a"]));
        within(5, "in the other hook", || {
            there.exists().then_some(()).ok_or(libvirt.log())
        });
        let begin = Instant::now();
        let command = scope.spawn(|| libvirt.virtfit(&["apply", "a"]));
        thread::sleep(Duration::from_millis(500));
        libvirt.define(&small("c")).unwrap();
        libvirt.virsh(&["dominfo", "b"]).unwrap();
        let took = begin.elapsed();
        assert!(took < Duration::from_millis(2300), "{took:?}\n{}", libvirt.log());
        client.join().unwrap().unwrap();
        let done = command.join().unwrap();
        assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
        assert_eq!(profile_of(&libvirt, "a"), "plain");
    });
    libvirt.virsh(&["destroy", "a"]).unwrap();
    libvirt.is_clean();
}
