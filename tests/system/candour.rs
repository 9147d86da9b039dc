//! `virtfit status` and `plan` when a part of virtfit is missing, or a guest is not where it should
//! be.

use std::fs;
use std::os::unix::fs::symlink;

use virtfit::status::{Code, Guest, Note, Status};

use crate::daemon::{Libvirt, Setup, installed, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"db*\" }\nprofile = \"plain\"\n";

fn host() -> Libvirt {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    libvirt.define(&small("db-1")).unwrap();
    libvirt
}

/// Runs status; returns its answer, exit code, and stderr.
fn status(libvirt: &Libvirt) -> (Status, i32, String) {
    let said = libvirt.virtfit(&["status", "--json"]);
    let stderr = String::from_utf8_lossy(&said.stderr).into_owned();
    let status = serde_json::from_slice(&said.stdout).unwrap_or_else(|error| panic!("{error}: {stderr}"));
    (status, said.status.code().unwrap(), stderr)
}

fn wrong(notes: &[Note]) -> Vec<Code> {
    notes
        .iter()
        .filter(|note| note.wrong)
        .map(|note| note.code)
        .collect()
}

fn guest<'s>(status: &'s Status, name: &str) -> &'s Guest {
    status.guests.iter().find(|guest| guest.name == name).unwrap()
}

/// Waits until status exits with this code; returns its answer.
fn exits(libvirt: &Libvirt, expected: i32) -> Status {
    within(10, "the exit code", || {
        let (status, exit, stderr) = status(libvirt);
        match exit == expected {
            true => Ok(status),
            false => Err(format!("{exit}: {status:?}\n{stderr}\n{}", libvirt.log())),
        }
    })
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_dead_daemon_a_missing_hook_and_a_lost_place_are_said() {
    let libvirt = host();
    let daemon = libvirt.virtfitd();
    libvirt.is_tuned("db-1");
    libvirt.virsh(&["start", "db-1"]).unwrap();
    exits(&libvirt, 0);
    // The daemon is killed, and another guest starts over the first one's CPU.
    drop(daemon);
    let now = exits(&libvirt, 3);
    assert_eq!(wrong(&now.notes), [Code::NoDaemon]);
    // A killed guest of an equal name may have left control groups, with their CPUs.
    let second = format!("db-{}", std::process::id());
    libvirt.define(&small(&second)).unwrap();
    libvirt.virsh(&["start", &second]).unwrap();
    let now = exits(&libvirt, 3);
    let codes = wrong(&guest(&now, &second).notes);
    assert!(codes.contains(&Code::OnHeldCpu), "{now:?}");
    assert!(codes.contains(&Code::NoPlace), "{now:?}");
    // With a daemon it makes room, and still has no placement of its own.
    let daemon = libvirt.virtfitd();
    libvirt.runs_on(&second, "0");
    let now = exits(&libvirt, 3);
    let found = guest(&now, &second);
    assert_eq!(wrong(&found.notes), [Code::NoPlace], "{found:?}");
    let text = &found.notes[0].text;
    assert!(
        text.starts_with("no place: floats on CPU 0: ") && text.contains("db-1"),
        "{text}"
    );
    assert_eq!(wrong(&now.notes), []);
    let plan = libvirt.virtfit(&["plan", &second]);
    let plan = String::from_utf8_lossy(&plan.stdout).into_owned();
    let headline = plan.lines().next().unwrap();
    assert!(headline.contains("place of its own"), "{plan}");
    // A restart of the guest does not change that.
    libvirt.virsh(&["destroy", &second]).unwrap();
    libvirt.is_tuned(&second);
    libvirt.virsh(&["start", &second]).unwrap();
    libvirt.runs_on(&second, "0");
    let now = exits(&libvirt, 3);
    assert_eq!(wrong(&guest(&now, &second).notes), [Code::NoPlace], "{now:?}");
    libvirt.virsh(&["destroy", &second]).unwrap();
    exits(&libvirt, 0);
    // The hook's link is taken away.
    let link = libvirt.on_host("etc/libvirt/hooks/qemu.d/50-virtfit");
    fs::remove_file(&link).unwrap();
    assert_eq!(wrong(&exits(&libvirt, 3).notes), [Code::HookMissing]);
    symlink(installed::hook(), &link).unwrap();
    exits(&libvirt, 0);
    // A stopped daemon answers as little as a dead one.
    daemon.signal("STOP");
    assert_eq!(wrong(&exits(&libvirt, 3).notes), [Code::NoDaemon]);
    daemon.signal("CONT");
    exits(&libvirt, 0);
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_typo_in_the_policy_blinds_nobody() {
    let libvirt = host();
    let _daemon = libvirt.virtfitd();
    libvirt.is_tuned("db-1");
    libvirt.virsh(&["start", "db-1"]).unwrap();
    exits(&libvirt, 0);
    fs::write(
        libvirt.on_host("etc/virtfit/policy.toml"),
        format!("{POLICY}[rule]\n"),
    )
    .unwrap();
    let now = exits(&libvirt, 3);
    let (_, _, stderr) = status(&libvirt);
    assert!(stderr.contains("/etc/virtfit/policy.toml:"), "{stderr}");
    assert_eq!(wrong(&now.notes), [Code::PolicyBroken]);
    let first = guest(&now, "db-1");
    assert_eq!(
        (first.profile.as_deref(), first.held.to_string().as_str()),
        (Some("plain"), "1")
    );
    let plan = libvirt.virtfit(&["plan", "db-1"]);
    let said = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(
        String::from_utf8_lossy(&plan.stdout).contains("plain"),
        "{plan:?}"
    );
    assert!(said.contains("/etc/virtfit/policy.toml:"), "{said}");
    assert_eq!(plan.status.code(), Some(1));
    fs::write(libvirt.on_host("etc/virtfit/policy.toml"), POLICY).unwrap();
    exits(&libvirt, 0);
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn two_guests_on_one_held_cpu_are_never_ok() {
    let libvirt = host();
    let _daemon = libvirt.virtfitd();
    libvirt.is_tuned("db-1");
    libvirt.virsh(&["start", "db-1"]).unwrap();
    // A killed guest of an equal name may have left control groups, with their CPUs.
    let web = format!("web-{}", std::process::id());
    libvirt.define(&small(&web)).unwrap();
    libvirt.virsh(&["start", &web]).unwrap();
    let named = |libvirt: &Libvirt| {
        let now = exits(libvirt, 3);
        let notes = guest(&now, &web).notes.clone();
        let found = notes.iter().find(|note| note.wrong && note.text.contains("db-1"));
        found.unwrap_or_else(|| panic!("{notes:?}")).code
    };
    assert_eq!(named(&libvirt), Code::OnHeldCpu);
    libvirt.virsh(&["vcpupin", &web, "0", "1", "--live"]).unwrap();
    libvirt.runs_on(&web, "1");
    named(&libvirt);
    // With all threads off the CPU, emulator included, everything is in order.
    libvirt.virsh(&["vcpupin", &web, "0", "0", "--live"]).unwrap();
    libvirt.virsh(&["emulatorpin", &web, "0", "--live"]).unwrap();
    exits(&libvirt, 0);
    // The other guest is moved to the housekeeping CPU by hand: it has no CPU of its own any more.
    libvirt.virsh(&["vcpupin", "db-1", "0", "0", "--live"]).unwrap();
    let now = exits(&libvirt, 3);
    assert_eq!(wrong(&guest(&now, "db-1").notes), [Code::PinnedAway], "{now:?}");
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_hook_that_libvirt_does_not_call_is_said() {
    let libvirt = host();
    let _daemon = libvirt.virtfitd();
    libvirt.is_tuned("db-1");
    // libvirt starts without any hook, and looks for one again only at a reload.
    libvirt.hold("TERM");
    let link = libvirt.on_host("etc/libvirt/hooks/qemu.d/50-virtfit");
    fs::remove_file(&link).unwrap();
    libvirt.release();
    std::thread::sleep(std::time::Duration::from_secs(1));
    symlink(installed::hook(), &link).unwrap();
    let (now, exit, _) = status(&libvirt);
    let codes: Vec<Code> = now.notes.iter().map(|note| note.code).collect();
    assert_eq!((exit, codes), (0, vec![Code::HookNotCalledYet]), "{now:?}");
    std::thread::sleep(std::time::Duration::from_secs(3));
    libvirt.virsh(&["start", "db-1"]).unwrap();
    let now = exits(&libvirt, 3);
    assert_eq!(wrong(&now.notes), [Code::HookNotCalled], "{now:?}");
    libvirt.sh("kill -HUP $(cat /run/libvirt/libvirtd.pid)", &[]);
    std::thread::sleep(std::time::Duration::from_secs(1));
    libvirt.virsh(&["destroy", "db-1"]).unwrap();
    libvirt.virsh(&["start", "db-1"]).unwrap();
    exits(&libvirt, 0);
    // A restarted libvirt finds the guest running and calls the hook.
    libvirt.restart_libvirtd();
    exits(&libvirt, 0);
}
