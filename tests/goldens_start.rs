//! Nothing virtfit writes keeps a guest from starting: every tuned golden is started by a real
//! libvirt and QEMU, as far as this machine can.
//!
//! A golden is of a large host, so its guest is cut to this machine: emulated, with little memory,
//! on CPU 0 and node 0, on images and bridges that are made for it, without that host's PCI
//! devices. Everything else that virtfit writes, and all that the guest brings along, stays as it
//! is. QEMU starts paused.
#![allow(clippy::unwrap_used)]

#[path = "common/case.rs"]
mod common;
#[path = "common/libvirt.rs"]
mod daemon;

use std::fs;
use std::io::Write as _;
use std::path::Path;

use common::{cases, name_of};
use daemon::{Libvirt, Setup};

/// Goldens whose guests do not start here as they came either, each with the reason.
const NOT_AS_THEY_CAME: &[(&str, &str)] = &[
    ("apic-ids-with-eim", "x2APIC needs KVM"),
    ("cachetune-is-not-placed-by", "cachetune needs KVM and resctrl"),
    ("cachetune-pulls-to-its-cache", "cachetune needs KVM and resctrl"),
    (
        "cells-without-vcpus-need-no-node",
        "QEMU takes no cell without memory from libvirt 9.0",
    ),
    ("default-topology-is-replaced", "its network disk has a secret"),
    ("device-and-1g-pages-on-one-node", "there is no such PCI device"),
    (
        "iothreads-off-pinned-vcpus",
        "the tests' libvirt has no CPU controller",
    ),
    ("iothreads-only-on-pci-and-ccw", "no machine has all of its buses"),
    ("memory-backing-by-hand-stays", LOCKED),
    ("nvme-disk-pulls-to-its-node", "there is no such PCI device"),
    ("odd-bytes", "its -set is no QEMU's"),
    ("placement-auto", "numad is not installed"),
    (
        "qemu-options-of-devices",
        "-set finds no device that is given as JSON",
    ),
    (
        "qemu-options-rule-memory",
        "QEMU refuses its -numa beside libvirt's memory",
    ),
    (
        "topology-of-another-number-of-vcpus",
        "libvirt refuses its topology",
    ),
];
/// Goldens with a value for which this machine lacks something, each with the reason. On such a
/// host virtfit does not write the value.
const MACHINE_LACKS: &[(&str, &str)] = &[
    ("hyperv-recommended", "Hyper-V's services need KVM"),
    ("realtime", LOCKED),
    ("realtime-all", LOCKED),
    ("realtime-settings-by-hand-stay", LOCKED),
    ("realtime-throttled", LOCKED),
];
const LOCKED: &str = "libvirtd may not lock memory without limit";

/// Memory of a guest cell, and a quarter of that of a guest without cells, in KiB.
const CELL_KIB: u64 = 16 << 10;

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn every_tuned_golden_starts() {
    let libvirt = Libvirt::with(&Setup {
        pages: 256,
        network: true,
        ..Setup::default()
    });
    libvirt.sh(
        "ip link add br0 type bridge; ip link add qbr0 type bridge; ip tuntap add tap7 mode tap",
        &[],
    );
    let (mut started, mut left_out, mut wrong) = (0, Vec::new(), Vec::new());
    for case in cases() {
        let name = name_of(&case);
        let Ok(tuned) = fs::read_to_string(case.join("expected/rewrite.xml")) else {
            continue;
        };
        if case.join("command").exists() {
            continue;
        }
        let emulator = text_between(&tuned, "<emulator>", "</emulator>");
        if let Some(missing) = emulator.filter(|emulator| !Path::new(emulator).exists()) {
            left_out.push(format!("{name} ({missing} is not installed)"));
            continue;
        }
        let Err(problem) = start(&libvirt, &tuned) else {
            started += 1;
            continue;
        };
        let reason = |list: &'static [(&str, &str)]| list.iter().find(|(case, _)| *case == name);
        let as_it_came = || start(&libvirt, &fs::read_to_string(case.join("domain.xml")).unwrap());
        match (reason(MACHINE_LACKS), reason(NOT_AS_THEY_CAME)) {
            (Some((_, why)), _) => left_out.push(format!("{name} ({why})")),
            (None, _) if as_it_came().is_ok() => {
                wrong.push(format!(
                    "{name} starts as it came, and tuned it does not: {problem}\n"
                ));
            }
            (None, Some((_, why))) => left_out.push(format!("{name} ({why})")),
            (None, None) => wrong.push(format!("{name}: {problem}\n")),
        }
    }
    // Past the test harness, which would swallow it.
    let _ = writeln!(
        std::io::stderr(),
        "\n{started} goldens started; NOT RUN: {}",
        left_out.join(", ")
    );
    assert!(
        wrong.is_empty() && started > 0,
        "{started} start, {} do not:\n{}",
        wrong.len(),
        wrong.concat()
    );
}

/// Starts a guest paused, and ends it.
fn start(libvirt: &Libvirt, xml: &str) -> Result<(), String> {
    let xml = for_this_machine(libvirt, xml);
    let name = text_between(&xml, "<name>", "</name>").unwrap();
    let file = libvirt.folder().join("golden.xml");
    fs::write(&file, &xml).unwrap();
    libvirt.virsh(&["create", "--paused", &file.to_string_lossy()])?;
    libvirt.virsh(&["destroy", name]).map(drop)
}

/// Cuts a guest to this machine.
fn for_this_machine(libvirt: &Libvirt, tuned: &str) -> String {
    // Attributes are read in single quotes from here on.
    let mut xml = tuned.replace("type=\"kvm\"", "type='kvm'");
    // Emulation has no host CPU; `maximum` takes everything else that goes with it.
    for (from, to) in [
        ("type='kvm'", "type='qemu'"),
        ("mode='host-passthrough'", "mode='maximum'"),
        ("<qemu:arg value='host,", "<qemu:arg value='max,"),
        ("size=4G", "size=64M"),
    ] {
        xml = xml.replace(from, to);
    }
    // CPUs, nodes and pages of the golden's host become those of this one.
    for element in ["vcpu", "vcpupin", "emulatorpin", "iothreadpin"] {
        xml = with_attribute(&xml, element, "cpuset", |_| "0".into());
    }
    xml = with_attribute(&xml, "memory", "nodeset", |_| "0".into());
    xml = with_attribute(&xml, "memnode", "nodeset", |_| "0".into());
    xml = with_attribute(&xml, "page", "size", |_| "2048".into());
    xml = with_attribute(&xml, "page", "unit", |_| "KiB".into());
    // Cells of memory stay so, and those without stay without.
    let cells = xml.matches("<cell ").count() as u64;
    xml = with_attribute(&xml, "cell", "unit", |_| "KiB".into());
    xml = with_attribute(&xml, "cell", "memory", |was| match was {
        "0" => "0".into(),
        _ => CELL_KIB.to_string(),
    });
    let memory = if cells == 0 {
        4 * CELL_KIB
    } else {
        cells * CELL_KIB
    };
    for element in ["memory", "currentMemory"] {
        xml = with_content(&xml, element, &memory.to_string());
    }
    // Images are files of one MiB.
    let images = Libvirt::images().display().to_string();
    xml = xml.replace("<disk type='block'", "<disk type='file'");
    xml = xml.replace("<source dev='/dev/vg/", &format!("<source file='{images}/"));
    xml = xml.replace("type='qcow2'", "type='raw'");
    for part in xml.split(&format!("file='{images}/")).skip(1) {
        let image = part.split('\'').next().unwrap();
        libvirt.image(image, &vec![0; 1 << 20]);
    }
    // Devices of the golden's host are taken out; the buses they were on stay.
    while let Some((before, rest)) = xml.split_once("<hostdev ") {
        xml = format!("{before}{}", rest.split_once("</hostdev>").unwrap().1);
    }
    // Interfaces are taps on a bridge.
    xml = xml.replace("<interface type='network'", "<interface type='bridge'");
    for network in ["default", "unknown"] {
        let source = format!("<source network='{network}'/>");
        xml = xml.replace(&source, "<source bridge='br0'/>");
    }
    xml = xml.replace("<interface type='direct'", "<interface type='bridge'");
    xml.replace("<source dev='eth0' mode='bridge'/>", "<source bridge='br0'/>")
}

/// Gives an attribute of each element of a name another value, where it is there.
fn with_attribute(xml: &str, element: &str, name: &str, value: impl Fn(&str) -> String) -> String {
    let mut out = String::new();
    let mut rest = xml;
    while let Some(at) = rest.find(&format!("<{element} ")) {
        let end = at + rest[at..].find('>').unwrap();
        let tag = &rest[at..end];
        out.push_str(&rest[..at]);
        match tag.split_once(&format!(" {name}='")) {
            Some((before, after)) => {
                let (was, after) = after.split_once('\'').unwrap();
                out.push_str(&format!("{before} {name}='{}'{after}", value(was)));
            }
            None => out.push_str(tag),
        }
        rest = &rest[end..];
    }
    out + rest
}

/// Gives each element of a name that has a number as its content another one, in KiB.
fn with_content(xml: &str, element: &str, content: &str) -> String {
    let mut out = String::new();
    let mut rest = xml;
    while let Some(at) = rest.find(&format!("<{element}")) {
        let end = at + rest[at..].find('>').unwrap() + 1;
        let close = rest[end..].find('<').unwrap();
        let is_number = rest[end..end + close].trim().parse::<u64>().is_ok();
        out.push_str(&rest[..at]);
        match is_number {
            true => out.push_str(&format!("<{element} unit='KiB'>{content}")),
            false => out.push_str(&rest[at..end + close]),
        }
        rest = &rest[end + close..];
    }
    out + rest
}

fn text_between<'a>(text: &'a str, from: &str, to: &str) -> Option<&'a str> {
    Some(text.split_once(from)?.1.split_once(to)?.0)
}
