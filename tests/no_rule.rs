//! Guests that carry virtfit's settings though no rule matches them, or though they have no place,
//! on a real libvirt: none runs on a CPU that another holds, and each on all that are left.
#![allow(clippy::unwrap_used)]

#[path = "common/libvirt.rs"]
mod common;

use std::fs;
use std::time::Duration;

use common::{Daemon, Libvirt, Setup, small, within};

const SAID: &str = "carries virtfit's settings though no rule matches: virtfit revert";

fn policy(name: &str) -> String {
    format!(
        "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
         [[rule]]\nmatch = {{ name = \"{name}\" }}\nprofile = \"fit\"\n"
    )
}

/// Starts a libvirt with the daemon, and two guests that were both fitted to the one dedicated CPU.
fn two() -> (Libvirt, Daemon) {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&policy("db-*")),
        ..Setup::default()
    });
    let daemon = libvirt.virtfitd();
    for guest in ["db-1", "db-7"] {
        libvirt.define(&small(guest)).unwrap();
        libvirt.is_tuned(guest);
        assert!(libvirt.dump(guest).contains("<vcpupin vcpu='0' cpuset='1'/>"));
    }
    (libvirt, daemon)
}

fn write(libvirt: &Libvirt, text: &str) {
    let file = libvirt.on_host("/etc/virtfit/policy.toml");
    fs::write(file, text).unwrap();
    std::thread::sleep(Duration::from_millis(500));
}

fn out(libvirt: &Libvirt, words: &[&str]) -> String {
    let said = libvirt.virtfit(words);
    String::from_utf8_lossy(&said.stdout).into_owned() + &String::from_utf8_lossy(&said.stderr)
}

/// Checks every place that has to name it.
fn is_said(libvirt: &Libvirt, guest: &str) {
    let wanted = format!("{SAID} {guest}");
    let log = libvirt.log();
    assert!(log.contains(&wanted), "the log: {log}");
    let plan = out(libvirt, &["plan", guest]);
    assert!(
        plan.split_whitespace()
            .collect::<Vec<_>>()
            .join(" ")
            .contains(&wanted),
        "{plan}"
    );
}

/// Checks that both run: `holds` alone on CPU 1, the other on the remaining CPU, in either order of
/// start.
fn apart(libvirt: &Libvirt, holds: &str, other: &str) {
    for [first, second] in [[holds, other], [other, holds]] {
        libvirt.virsh(&["start", first]).unwrap();
        libvirt.virsh(&["start", second]).unwrap();
        libvirt.runs_on(holds, "1");
        libvirt.runs_on(other, "0");
        let status = libvirt.virtfit(&["status"]);
        assert_eq!(status.status.code(), Some(0), "{}", out(libvirt, &["status"]));
        is_said(libvirt, other);
        for guest in [holds, other] {
            libvirt.virsh(&["destroy", guest]).unwrap();
        }
        libvirt.is_clean();
    }
    // The command virtfit advises.
    let reverted = libvirt.virtfit(&["revert", other]);
    assert!(reverted.status.success(), "{}", out(libvirt, &["revert", other]));
    assert!(!libvirt.dump(other).contains("vcpupin"));
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_renamed_guest_does_not_run_on_the_cpu_another_holds() {
    let (libvirt, _daemon) = two();
    libvirt.virsh(&["domrename", "db-7", "app"]).unwrap();
    apart(&libvirt, "db-1", "app");
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_cloned_guest_does_not_run_on_the_cpu_another_holds() {
    let (libvirt, _daemon) = two();
    // Cloned as virt-clone does: another name and UUID, all metadata.
    let text = libvirt.dump("db-1");
    let uuid = libvirt.virsh(&["domuuid", "db-1"]).unwrap();
    let clone = text
        .replace("<name>db-1</name>", "<name>web</name>")
        .replace(uuid.trim(), "6d3f1a52-0000-4000-9000-000000000001");
    libvirt.define(&clone).unwrap();
    apart(&libvirt, "db-1", "web");
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_rule_that_was_narrowed_leaves_no_pins_on_held_cpus() {
    let (libvirt, _daemon) = two();
    write(&libvirt, &policy("db-1"));
    apart(&libvirt, "db-1", "db-7");
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_guest_that_runs_keeps_its_cpu_when_its_rule_goes() {
    let (libvirt, _daemon) = two();
    libvirt.virsh(&["start", "db-7"]).unwrap();
    libvirt.runs_on("db-7", "1");
    write(&libvirt, &policy("db-1"));
    libvirt.virsh(&["start", "db-1"]).unwrap();
    libvirt.runs_on("db-1", "0");
    assert_eq!(libvirt.first_vcpu("db-7"), "1", "{}", libvirt.log());
    let status = libvirt.guest("db-7");
    assert_eq!(status.held.to_string(), "1");
    let plan = out(&libvirt, &["plan", "db-7"]);
    assert!(plan.contains("though no rule"), "{plan}");
    // Its next start is that of a guest without a rule.
    libvirt.virsh(&["destroy", "db-7"]).unwrap();
    libvirt.virsh(&["start", "db-7"]).unwrap();
    within(5, "it floats", || {
        let status = libvirt.guest("db-7");
        status
            .held
            .is_empty()
            .then_some(())
            .ok_or_else(|| format!("{status:?}"))
    });
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_saved_guest_comes_back_beside_who_took_its_cpu() {
    let (libvirt, _daemon) = two();
    libvirt.virsh(&["start", "db-7"]).unwrap();
    libvirt.runs_on("db-7", "1");
    libvirt.virsh(&["managedsave", "db-7"]).unwrap();
    write(&libvirt, &policy("db-1"));
    libvirt.virsh(&["start", "db-1"]).unwrap();
    libvirt.virsh(&["start", "db-7"]).unwrap();
    libvirt.runs_on("db-1", "1");
    libvirt.runs_on("db-7", "0");
    assert_eq!(libvirt.virtfit(&["status"]).status.code(), Some(0));
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn one_that_started_unseen_on_a_held_cpu_is_moved_when_it_is_found() {
    let (libvirt, daemon) = two();
    libvirt.virsh(&["domrename", "db-7", "app"]).unwrap();
    // No hook and no daemon runs: both guests start on the CPU their XML names.
    drop(daemon);
    let disabled = libvirt.on_host("/run/virtfit/disabled");
    fs::write(&disabled, "").unwrap();
    for guest in ["app", "db-1"] {
        libvirt.virsh(&["start", guest]).unwrap();
        assert_eq!(libvirt.first_vcpu(guest), "1");
    }
    // A start before the policy's last change is no reason to leave them there.
    write(&libvirt, &policy("db-1"));
    fs::remove_file(&disabled).unwrap();
    let _daemon = libvirt.virtfitd();
    libvirt.runs_on("app", "0");
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(libvirt.first_vcpu("db-1"), "1", "{}", libvirt.log());
}

/// Policy that also keeps guests without a rule off held CPUs.
fn confining() -> String {
    policy("db-*").replace("[host]\n", "[host]\nunmanaged = \"confine\"\n")
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn confine_acts_on_guests_that_run_and_gives_back_what_it_took() {
    let (libvirt, _daemon) = two();
    libvirt.define(&small("web")).unwrap();
    libvirt.virsh(&["start", "web"]).unwrap();
    libvirt.virsh(&["start", "db-1"]).unwrap();
    libvirt.runs_on("db-1", "1");
    assert_eq!(libvirt.first_vcpu("web"), "0-1");
    write(&libvirt, &confining());
    libvirt.runs_on("web", "0");
    assert!(
        libvirt.log().contains("web: floats: vCPU 0 on 0"),
        "{}",
        libvirt.log()
    );
    write(&libvirt, &policy("db-*"));
    libvirt.runs_on("web", "0-1");
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn what_was_saved_while_confined_is_widened_when_it_comes_back() {
    let (libvirt, _daemon) = two();
    write(&libvirt, &confining());
    libvirt.define(&small("web")).unwrap();
    libvirt.virsh(&["start", "web"]).unwrap();
    libvirt.virsh(&["start", "db-1"]).unwrap();
    libvirt.runs_on("web", "0");
    libvirt.virsh(&["managedsave", "web"]).unwrap();
    libvirt.virsh(&["destroy", "db-1"]).unwrap();
    libvirt.virsh(&["start", "web"]).unwrap();
    libvirt.runs_on("web", "0-1");
    // Beside the holder it stays narrow, and is widened when that has ended.
    libvirt.virsh(&["start", "db-1"]).unwrap();
    libvirt.runs_on("web", "0");
    libvirt.virsh(&["managedsave", "web"]).unwrap();
    libvirt.virsh(&["start", "web"]).unwrap();
    libvirt.runs_on("web", "0");
    libvirt.virsh(&["destroy", "db-1"]).unwrap();
    libvirt.runs_on("web", "0-1");
    // Pinned by hand in a life of its own, it stays where it was put.
    libvirt.virsh(&["destroy", "web"]).unwrap();
    libvirt.virsh(&["start", "web"]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    libvirt.virsh(&["vcpupin", "web", "0", "0"]).unwrap();
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(libvirt.first_vcpu("web"), "0", "{}", libvirt.log());
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_guest_named_driver_switches_nothing_off() {
    let (libvirt, _daemon) = two();
    libvirt.define(&small("driver")).unwrap();
    for ends in [false, true] {
        libvirt.virsh(&["start", "driver"]).unwrap();
        if ends {
            libvirt.virsh(&["destroy", "driver"]).unwrap();
        }
        let name = if ends { "db-9" } else { "db-8" };
        libvirt.define(&small(name)).unwrap();
        libvirt.is_tuned(name);
        // db-1 holds the one CPU; db-7 floats beside it, and is let go of it again.
        libvirt.virsh(&["start", "db-1"]).unwrap();
        libvirt.runs_on("db-1", "1");
        libvirt.virsh(&["start", "db-7"]).unwrap();
        libvirt.runs_on("db-7", "0");
        libvirt.virsh(&["destroy", "db-1"]).unwrap();
        libvirt.virsh(&["destroy", "db-7"]).unwrap();
        // A transient guest is pinned by the daemon alone.
        let transient = small("db-t");
        fs::write(libvirt.on_host("/run/db-t.xml"), transient).unwrap();
        libvirt.virsh(&["create", "/run/db-t.xml"]).unwrap();
        libvirt.runs_on("db-t", "1");
        libvirt.virsh(&["destroy", "db-t"]).unwrap();
        if !ends {
            libvirt.virsh(&["destroy", "driver"]).unwrap();
        }
    }
    assert!(!libvirt.on_host("/run/libvirt/qemu/driver.pid").exists());
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn of_two_on_one_cpu_the_second_runs_untuned_elsewhere() {
    let (libvirt, _daemon) = two();
    let untuned = "[profile.u]\ninherits = \"fit\"\non_no_fit = \"run-untuned\"\n";
    let rules = policy("db-*").replace("profile = \"fit\"", "profile = \"u\"");
    write(&libvirt, &format!("{rules}{untuned}"));
    for [first, second] in [["db-1", "db-7"], ["db-7", "db-1"]] {
        libvirt.virsh(&["start", first]).unwrap();
        libvirt.runs_on(first, "1");
        let plan = out(&libvirt, &["plan", second]);
        assert!(plan.contains("it floats without the pins"), "{plan}");
        libvirt.virsh(&["start", second]).unwrap();
        libvirt.runs_on(second, "0");
        libvirt.runs_on(first, "1");
        let log = libvirt.log();
        let said = format!("{second}: starts without a place of its own, floats on CPU 0");
        assert!(log.contains(&said), "{log}");
        let status = libvirt.virtfit(&["status"]);
        let text = out(&libvirt, &["status"]);
        assert!(text.contains("no place") && !text.contains("as does"), "{text}");
        assert!(status.status.code().is_some(), "{text}");
        libvirt.virsh(&["destroy", first]).unwrap();
        libvirt.runs_on(second, "0-1");
        libvirt.virsh(&["destroy", second]).unwrap();
        libvirt.is_clean();
    }
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_guest_that_starts_beside_a_full_host_gets_the_cpus_that_are_freed() {
    let rules = format!("{}\n[[rule]]\nprofile = \"local\"\n", policy("db-1"));
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&rules),
        ..Setup::default()
    });
    let _daemon = libvirt.virtfitd();
    libvirt.define(&small("db-1")).unwrap();
    libvirt.is_tuned("db-1");
    for changes in [false, true] {
        libvirt.virsh(&["start", "db-1"]).unwrap();
        libvirt.runs_on("db-1", "1");
        libvirt.define(&small("web")).unwrap();
        libvirt.is_tuned("web");
        assert!(libvirt.dump("web").contains("<vcpupin vcpu='0' cpuset='0'/>"));
        libvirt.virsh(&["start", "web"]).unwrap();
        libvirt.runs_on("web", "0");
        if changes {
            write(&libvirt, &format!("# changed\n{rules}"));
        }
        libvirt.virsh(&["destroy", "db-1"]).unwrap();
        libvirt.runs_on("web", "0-1");
        libvirt.virsh(&["start", "db-1"]).unwrap();
        libvirt.runs_on("web", "0");
        libvirt.virsh(&["destroy", "db-1"]).unwrap();
        libvirt.runs_on("web", "0-1");
        let dump = libvirt.virsh(&["dumpxml", "--inactive", "web"]).unwrap();
        assert!(dump.contains("<vcpupin vcpu='0' cpuset='0'/>"), "{dump}");
        libvirt.virsh(&["destroy", "web"]).unwrap();
        libvirt.virsh(&["undefine", "web"]).unwrap();
    }
}
