//! KVM guests: the host's CPU, and vCPU threads of their own. They have no system to boot, but
//! their threads exist.

use crate::daemon::{Libvirt, Setup, sized, within};
use crate::kvm;

fn policy(keys: &str) -> String {
    format!(
        "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\non_policy_change = \"apply\"\n\n\
         [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n{keys}\n\
         [[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"plain\"\n"
    )
}

/// Makes a KVM guest. Its CPU lacks one feature, which fails where the machine is a guest itself.
fn guest(name: &str, mode: &str) -> String {
    let cpu = format!(
        "</features>\n  <cpu mode='{mode}'>\n    <feature policy='disable' name='arch-capabilities'/>\n  </cpu>"
    );
    sized(name, 1, 32)
        .replace("<domain type='qemu'>", "<domain type='kvm'>")
        .replace("<acpi/>", "<acpi/>\n    <apic/>")
        .replace("</features>", &cpu)
}

fn has(libvirt: &Libvirt, guest: &str, all: &[&str]) {
    within(10, "its definition has it", || {
        let dump = libvirt.dump(guest);
        let missing: Vec<_> = all.iter().filter(|part| !dump.contains(**part)).collect();
        missing
            .is_empty()
            .then_some(())
            .ok_or_else(|| format!("{missing:?} not in {dump}\n{}", libvirt.log()))
    });
}

#[test]
#[ignore = "needs root, libvirtd and /dev/kvm; run by make test"]
fn kvm_guests_from_definition_to_end() {
    if let Err(why) = kvm::kvm() {
        kvm::say(&format!("NOT RUN: kvm_guests_from_definition_to_end: {why}"));
        return;
    }
    let seen = policy(
        "kvm = { hint_dedicated = \"on\", poll_control = \"on\" }\nfeatures = { pmu = \"off\", cache = \"passthrough\", tsc_deadline = \"require\" }\n",
    );
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&seen),
        ..Setup::default()
    });
    let _daemon = libvirt.virtfitd();
    for name in ["a", "b"] {
        libvirt.define(&guest(name, "host-model")).unwrap();
        has(
            &libvirt,
            name,
            &[
                "<cpu mode='host-passthrough'",
                "<feature policy='disable' name='arch-capabilities'/>",
                "<feature policy='require' name='tsc-deadline'/>",
                "<cache mode='passthrough'/>",
                "<hint-dedicated state='on'/>",
                "<poll-control state='on'/>",
                "<pmu state='off'/>",
                "<vcpupin vcpu='0' cpuset='1'/>",
                "<emulatorpin cpuset='0'/>",
            ],
        );
    }
    let start = |name| {
        libvirt
            .virsh(&["start", name])
            .unwrap_or_else(|error| panic!("{error}\n{}\n{}", libvirt.dump(name), libvirt.log()));
    };
    start("a");
    libvirt.runs_on("a", "1");
    let threads = libvirt.threads("a");
    let vcpus: Vec<_> = threads
        .iter()
        .filter(|thread| thread.name == "CPU 0/KVM")
        .collect();
    assert_eq!(vcpus.len(), 1, "not run by KVM: {threads:?}");
    for emulator in threads
        .iter()
        .filter(|thread| thread.name.starts_with("qemu-system"))
    {
        assert_eq!(emulator.cpus, "0", "{emulator:?}");
    }
    let now = libvirt.guest("a");
    assert_eq!(
        (now.held.to_string().as_str(), now.wrong()),
        ("1", 0),
        "{:#?}",
        now.threads
    );
    // The other guest has no placement; later it has one.
    start("b");
    libvirt.runs_on("b", "0");
    for name in ["a", "b"] {
        libvirt.virsh(&["destroy", name]).unwrap();
    }
    libvirt.is_clean();
    start("b");
    libvirt.runs_on("b", "1");
    libvirt.virsh(&["destroy", "b"]).unwrap();
    libvirt.is_clean();
}
