//! Starts that fail right after virtfit changed the guest: reported once, with the way back, and
//! not repeated.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;

use crate::daemon::{Libvirt, Setup, sized, within};
use crate::kvm;

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\non_policy_change = \"apply\"\n\n\
     [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n[[rule]]\nmatch = { name = \"db-*\" }\nprofile = \"plain\"\n";

/// QEMU's message on a host that does not start guests with its own CPU.
const WRAPPER: &str = "#!/bin/sh\ncase \" $* \" in *' -cpu host'*)\n  echo 'qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69' >&2\n  \
     exit 1 ;;\nesac\nexec /usr/bin/qemu-system-x86_64 \"$@\"\n";

/// Makes a KVM guest as `virt-install` leaves it, with libvirt's default CPU.
fn guest(name: &str, emulator: &str) -> String {
    sized(name, 1, 32)
        .replace("<domain type='qemu'>", "<domain type='kvm'>")
        .replace("<acpi/>", "<acpi/>\n    <apic/>")
        .replace("/usr/bin/qemu-system-x86_64", emulator)
}

/// Returns a QEMU that does not start with the host's CPU: the machine's own, or a script.
fn emulator(libvirt: &Libvirt) -> String {
    if kvm::host_cpu().is_err() {
        return "/usr/bin/qemu-system-x86_64".into();
    }
    let script = libvirt.folder().join("qemu-without-host-cpu");
    fs::write(&script, WRAPPER).unwrap();
    fs::set_permissions(&script, fs::Permissions::from_mode(0o755)).unwrap();
    script.to_str().unwrap().into()
}

fn lines(libvirt: &Libvirt, part: &str) -> Vec<String> {
    let log = libvirt.log();
    let lines = log.lines().filter(|line| line.contains(part));
    lines.map(str::to_string).collect()
}

/// The daemon finds a definition of `virtfit apply` as libvirt stored it.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_definition_of_an_apply_is_untried_until_its_guest_starts() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    libvirt.define(&sized("db-a", 1, 32)).unwrap();
    let applied = libvirt.virtfit(&["apply", "db-a"]);
    assert!(applied.status.success(), "{applied:?}");
    let untried = || libvirt.sh("cat /var/lib/virtfit/untried/*.json || true", &[]);
    assert!(untried().contains("\"record\""), "{}", untried());
    let _daemon = libvirt.virtfitd();
    within(10, "found", || {
        let text = untried();
        (text.contains("db-a") && !text.contains("\"record\""))
            .then_some(())
            .ok_or(text)
    });
    libvirt.virsh(&["start", "db-a"]).unwrap();
    within(10, "tried", || {
        untried().is_empty().then_some(()).ok_or_else(untried)
    });
    libvirt.virsh(&["destroy", "db-a"]).unwrap();
}

#[test]
#[ignore = "needs root, libvirtd and /dev/kvm; run by make test"]
fn a_cpu_mode_that_does_not_start_is_told_taken_back_and_not_tried_again() {
    if let Err(why) = kvm::kvm() {
        kvm::say(&format!("NOT RUN: failed starts: {why}"));
        return;
    }
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let emulator = emulator(&libvirt);
    let daemon = libvirt.virtfitd();
    for name in ["db-k", "db-l"] {
        libvirt.define(&guest(name, &emulator)).unwrap();
        libvirt.is_tuned(name);
    }
    let passthrough = |name| libvirt.dump(name).contains("<cpu mode='host-passthrough'");
    assert!(passthrough("db-k") && passthrough("db-l"), "{}", libvirt.log());
    libvirt.virsh(&["start", "db-k"]).unwrap_err();
    // The log and the status have one line each, with the way back; the mode is taken out.
    within(10, "the mode is taken back", || {
        (!passthrough("db-k")).then_some(()).ok_or_else(|| libvirt.log())
    });
    let said = lines(&libvirt, "failed to start");
    assert_eq!(said.len(), 1, "{said:#?}");
    for part in [
        "db-k: failed to start after virtfit changed cpu mode",
        "QEMU: failed to set MSR",
        "virtfit revert db-k",
    ] {
        assert!(said[0].contains(part), "{part}: {}", said[0]);
    }
    let told = libvirt.guest("db-k").failed_start.unwrap();
    assert!(told.ends_with("virtfit revert db-k"), "{told}");
    let table = libvirt.virtfit(&["status"]);
    let table = String::from_utf8_lossy(&table.stdout)
        .split_whitespace()
        .collect::<Vec<_>>()
        .join(" ");
    assert!(table.contains("failed to start after"), "{table}");
    let plan = |name| {
        let plan = libvirt.virtfit(&["plan", name]);
        let text = String::from_utf8_lossy(&plan.stdout).into_owned();
        text.split_whitespace().collect::<Vec<_>>().join(" ")
    };
    assert!(
        plan("db-k").contains("the guest did not start with it (QEMU: failed to set MSR"),
        "{}",
        plan("db-k")
    );
    // It starts now, which shows what the host can do: its brother does not get the mode either.
    libvirt
        .virsh(&["start", "db-k"])
        .unwrap_or_else(|error| panic!("{error}\n{}", libvirt.log()));
    within(10, "its brother's mode goes, too", || {
        (!passthrough("db-l")).then_some(()).ok_or_else(|| libvirt.log())
    });
    assert_eq!(libvirt.guest("db-k").failed_start, None);
    libvirt.virsh(&["destroy", "db-k"]).unwrap();
    libvirt
        .virsh(&["start", "db-l"])
        .unwrap_or_else(|error| panic!("{error}\n{}", libvirt.log()));
    libvirt.virsh(&["destroy", "db-l"]).unwrap();
    // After a restart of the daemon, the mode is not even tried on a third guest.
    drop(daemon);
    let _daemon = libvirt.virtfitd();
    libvirt.define(&guest("db-m", &emulator)).unwrap();
    libvirt.is_tuned("db-m");
    assert!(!passthrough("db-m"), "{}", libvirt.dump("db-m"));
    let third = plan("db-m");
    assert!(
        third.contains("CPU mode KVM with the host's CPU does not start here (QEMU: failed to set MSR"),
        "{third}"
    );
    libvirt.virsh(&["start", "db-m"]).unwrap();
    libvirt.virsh(&["destroy", "db-m"]).unwrap();
    assert_eq!(
        lines(&libvirt, "failed to start after").len(),
        1,
        "{}",
        libvirt.log()
    );
    libvirt.is_clean();
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_start_that_fails_for_a_reason_of_its_own_is_not_blamed_on_virtfit() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let _daemon = libvirt.virtfitd();
    let disk = |name: &str| {
        let images = Libvirt::images().display();
        format!(
            "<disk type='file' device='disk'>\n      <driver name='qemu' type='raw'/>\n      <source file='{images}/{name}.raw'/>\n      \
             <target dev='vda' bus='virtio'/>\n    </disk>\n    <controller type='usb'"
        )
    };
    let with_disk = sized("db-d", 1, 32).replace("<controller type='usb'", &disk("db-d"));
    libvirt.image("db-d.raw", &[0; 4096]);
    libvirt.define(&with_disk).unwrap();
    libvirt.is_tuned("db-d");
    fs::remove_file(libvirt.on_host("var/lib/libvirt/images/db-d.raw")).unwrap();
    libvirt.virsh(&["start", "db-d"]).unwrap_err();
    // Another program's hook refuses.
    libvirt.other_hook("[ \"$1 $2\" = 'db-h prepare' ] && exit 1");
    libvirt.define(&sized("db-h", 1, 32)).unwrap();
    libvirt.is_tuned("db-h");
    libvirt.virsh(&["start", "db-h"]).unwrap_err();
    // QEMU itself fails because of what an administrator wrote after virtfit.
    libvirt.define(&sized("db-a", 1, 32)).unwrap();
    libvirt.is_tuned("db-a");
    let argument = "</devices>\n  <qemu:commandline xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'>\n    \
                    <qemu:arg value='-no-such-option'/>\n  </qemu:commandline>";
    let theirs = libvirt.dump("db-a").replace("</devices>", argument);
    libvirt.define(&theirs).unwrap();
    libvirt.virsh(&["start", "db-a"]).unwrap_err();
    libvirt.is_clean();
    assert_eq!(lines(&libvirt, "failed to start"), Vec::<String>::new());
    for name in ["db-d", "db-h", "db-a"] {
        assert_eq!(libvirt.guest(name).failed_start, None, "{name}");
    }
}
