//! Output of virtfit, given to a real libvirt and QEMU: defined, started, and read back from /proc.
#![allow(clippy::unwrap_used)]

#[path = "common/case.rs"]
mod common;
#[path = "common/libvirt.rs"]
mod daemon;
#[path = "common/kvm.rs"]
mod kvm;

use std::fs;
use std::path::Path;

use common::{NEWER, Stage, cases, name_of};
use daemon::{Libvirt, Thread};

const VIRTFIT: &str = env!("CARGO_BIN_EXE_virtfit");

/// Returns the text between two others.
fn between<'a>(text: &'a str, from: &str, to: &str) -> &'a str {
    text.split_once(from).unwrap().1.split_once(to).unwrap().0
}

/// Converts a guest's XML for this machine: without KVM, libvirt accepts neither KVM guests nor the
/// host's CPU under emulation; with KVM it does, even where such a guest does not start.
fn for_this_machine(xml: &str) -> String {
    if kvm::kvm().is_ok() {
        return xml.to_string();
    }
    xml.replace("<domain type='kvm'", "<domain type='qemu'")
        .replace("mode='host-passthrough'", "mode='maximum'")
}

/// Case whose domain libvirt refuses as it is; the plan says so.
const REFUSED: &str = "topology-of-another-number-of-vcpus";

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn libvirt_takes_and_keeps_every_tuned_golden() {
    let libvirt = Libvirt::start(0);
    let mut tried = 0;
    let mut left_out = Vec::new();
    let mut wrong = Vec::new();
    for case in cases() {
        let Ok(tuned) = fs::read_to_string(case.join("expected/rewrite.xml")) else {
            continue;
        };
        if case.join("command").exists() || NEWER.contains(&name_of(&case).as_str()) {
            continue;
        }
        // Without an element libvirt takes the emulator of the host's architecture.
        let emulator = match tuned.contains("<emulator>") {
            true => between(&tuned, "<emulator>", "</emulator>"),
            false => "/usr/bin/qemu-system-x86_64",
        };
        if !Path::new(emulator).exists() {
            left_out.push(format!("{} ({emulator} is not installed)", name_of(&case)));
            continue;
        }
        tried += 1;
        let original = fs::read_to_string(case.join("domain.xml")).unwrap();
        if name_of(&case) == REFUSED {
            assert!(takes(&libvirt, &for_this_machine(&original)).is_err());
            continue;
        }
        if let Err(problem) = keeps(
            &libvirt,
            &case,
            &for_this_machine(&original),
            &for_this_machine(&tuned),
        ) {
            wrong.push(format!("{}: {problem}\n", name_of(&case)));
        }
    }
    assert!(
        tried > 0 && left_out.iter().all(|case| case.contains("aarch64")),
        "{tried} tried, left out: {left_out:?}"
    );
    assert!(
        wrong.is_empty(),
        "{} of {tried} fail:\n{}",
        wrong.len(),
        wrong.concat()
    );
}

/// Checks that the golden is accepted; then, as in life, from the text libvirt has stored: virtfit
/// changes nothing in the stored tuned XML, and after a revert libvirt stores it as before.
fn keeps(libvirt: &Libvirt, case: &Path, original: &str, tuned: &str) -> Result<(), String> {
    let guest = between(original, "<name>", "</name>").to_string();
    let stored = |what: &str, xml: &str| -> Result<String, String> {
        libvirt.define(xml).map_err(|error| format!("{what}: {error}"))?;
        let dump = libvirt.dump(&guest);
        libvirt.virsh(&["undefine", &guest])?;
        Ok(dump)
    };
    stored("the golden", tuned)?;
    // Two rounds, because libvirt sorts the controllers it adds only when it reads them again.
    let before = stored("the original", &stored("the original", original)?)?;
    let stage = Stage::of(case);
    let text = |got: std::process::Output| String::from_utf8_lossy(&got.stdout).into_owned();
    let rewritten = text(stage.run(&["rewrite", "-"], before.as_bytes()));
    let after = stored("rewritten", &for_this_machine(&rewritten))?;
    if kvm::kvm().is_ok() {
        same(
            "rewritten again",
            &after,
            &text(stage.run(&["rewrite", "-"], after.as_bytes())),
        )?;
    }
    if original.contains("https://virtfit.dev/ns/domain/1") {
        // Reverting goes further back than to this original.
        return Ok(());
    }
    let reverted = text(stage.run_without_args(&["revert", "-"], after.as_bytes()));
    same("reverted", &before, &stored("reverted", &reverted)?)
}

fn same(what: &str, want: &str, got: &str) -> Result<(), String> {
    if want == got {
        return Ok(());
    }
    Err(virtfit::render::diff::unified(
        want,
        got,
        what,
        &virtfit::render::Style::default(),
    ))
}

/// Makes a guest with one vCPU and a disk that holds nothing to boot: enough to have its threads.
fn guest(name: &str, kind: &str) -> String {
    let images = Libvirt::images().display();
    format!(
        "<domain type='{kind}'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>1</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/>
      <source file='{images}/{name}.raw'/>
      <target dev='vda' bus='virtio'/>
    </disk>
  </devices>
</domain>
"
    )
}

/// Defines a guest, fits it with this policy, starts it; returns its threads.
fn start(libvirt: &Libvirt, name: &str, kind: &str, policy: &str) -> Vec<Thread> {
    libvirt.image(&format!("{name}.raw"), &vec![1; 1 << 20]);
    libvirt.define(&guest(name, kind)).unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    fs::write(file.path(), policy).unwrap();
    let policy = file.path().to_string_lossy().into_owned();
    let tuned = libvirt.run(VIRTFIT, &["rewrite", name, "--policy", &policy], &[]);
    let stderr = String::from_utf8_lossy(&tuned.stderr);
    assert!(tuned.status.success(), "virtfit rewrite {name}: {stderr}");
    let tuned = String::from_utf8(tuned.stdout).unwrap();
    libvirt
        .define(&tuned)
        .unwrap_or_else(|error| panic!("{error}\n{tuned}"));
    libvirt
        .virsh(&["start", name])
        .unwrap_or_else(|error| panic!("{error}\n{tuned}"));
    libvirt.threads(name)
}

fn stop(libvirt: &Libvirt, name: &str) {
    libvirt.virsh(&["destroy", name]).unwrap();
    libvirt.virsh(&["undefine", name]).unwrap();
}

/// Returns the one thread whose name begins like this.
fn thread<'a>(threads: &'a [Thread], name: &str) -> &'a Thread {
    let mut found = threads.iter().filter(|thread| thread.name.starts_with(name));
    match (found.next(), found.next()) {
        (Some(one), None) => one,
        _ => panic!("not one thread {name} among {threads:#?}"),
    }
}

const SETS: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n";

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn an_emulated_guest_runs_where_it_was_put() {
    let libvirt = Libvirt::start(0);
    let policy = format!("{SETS}[[rule]]\nmatch = {{ name = \"rd-*\" }}\nprofile = \"fit\"\n");
    let threads = start(&libvirt, "rd-tcg", "qemu", &policy);
    let vcpu = thread(&threads, "CPU 0");
    assert_eq!((vcpu.cpus.as_str(), vcpu.policy), ("1", 0), "{vcpu:?}");
    let iothread = thread(&threads, "IO iothread1");
    assert_eq!(iothread.cpus, "0", "{iothread:?}");
    for emulator in threads
        .iter()
        .filter(|thread| thread.name.starts_with("qemu-system"))
    {
        assert_eq!(emulator.cpus, "0", "{emulator:?}");
    }
    stop(&libvirt, "rd-tcg");
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_real_time_guest_has_its_cpu_its_class_and_its_pages() {
    let libvirt = Libvirt::start(64);
    let policy = format!(
        "{SETS}[profile.rt]\ninherits = \"realtime\"\nlocked = false\nemulator = \"housekeeping\"\nhugepages = \"2M\"\n\
         realtime = {{ vcpus = \"all\", priority = 3 }}\n\n[[rule]]\nmatch = {{ name = \"rd-*\" }}\nprofile = \"rt\"\n"
    );
    let kind = kvm::kind();
    let threads = start(&libvirt, "rd-rt", kind, &policy);
    let vcpu = thread(&threads, "CPU 0");
    assert_eq!(
        (vcpu.cpus.as_str(), vcpu.policy, vcpu.priority),
        ("1", 1, 3),
        "{vcpu:?}"
    );
    let iothread = thread(&threads, "IO iothread1");
    assert_eq!(
        (iothread.cpus.as_str(), iothread.policy),
        ("0", 0),
        "{iothread:?}"
    );
    assert!(
        libvirt.huge_kib("rd-rt") >= 64 * 1024,
        "{} KiB of huge pages",
        libvirt.huge_kib("rd-rt")
    );
    stop(&libvirt, "rd-rt");
}

/// Checks that libvirt accepts and starts a guest, for texts before virtfit and after.
fn takes(libvirt: &Libvirt, xml: &str) -> Result<(), String> {
    let name = between(xml, "<name>", "</name>").to_string();
    libvirt.define(xml).map_err(|error| format!("define: {error}"))?;
    let started = libvirt.virsh(&["start", &name]).map(drop);
    if started.is_ok() {
        libvirt.virsh(&["destroy", &name])?;
    }
    libvirt.virsh(&["undefine", &name])?;
    started.map_err(|error| format!("start: {error}"))
}

/// A guest with memory devices, and room for them, that libvirt starts is also started when fitted.
#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_guest_with_memory_devices_starts_as_before() {
    let libvirt = Libvirt::start(192);
    libvirt.image("nv.raw", &vec![0; 64 << 20]);
    let kind = kvm::kind();
    let device = |model: &str, rest: &str| format!("    <memory model='{model}'>\n{rest}    </memory>\n");
    let target = |size: u32, more: &str| {
        format!(
            "      <target>\n        <size unit='MiB'>{size}</size>\n        <node>0</node>\n{more}      </target>\n"
        )
    };
    let dimm = device("dimm", &target(128, ""));
    let small = "      <source>\n        <pagesize unit='KiB'>4</pagesize>\n        <nodemask>0</nodemask>\n      </source>\n";
    let nvdimm = format!(
        "      <source>\n        <path>{}/nv.raw</path>\n      </source>\n{}",
        Libvirt::images().display(),
        target(64, "")
    );
    let virtio_mem = target(
        256,
        "        <block unit='MiB'>2</block>\n        <requested unit='MiB'>64</requested>\n",
    );
    let celled =
        "  <cpu>\n    <numa>\n      <cell id='0' cpus='0' memory='64' unit='MiB'/>\n    </numa>\n  </cpu>\n";
    let room = "  <maxMemory slots='4' unit='GiB'>2</maxMemory>\n";
    // Without a UUID of its own the record would get one when the definition is rewritten.
    const UUID: &str = "  <uuid>6d3f1a52-0000-4000-8000-000000000777</uuid>\n";
    // what, <maxMemory>, <cpu>, devices
    let rows = [
        ("room", room, celled, String::new()),
        ("room-uncelled", room, "", String::new()),
        ("dimm", room, celled, dimm.clone()),
        ("dimm-uncelled", room, "", dimm.clone()),
        (
            "dimm-small",
            room,
            celled,
            device("dimm", &format!("{small}{}", target(128, ""))),
        ),
        ("nvdimm", room, celled, device("nvdimm", &nvdimm)),
        ("virtio-mem", room, celled, device("virtio-mem", &virtio_mem)),
    ];
    let mut wrong = Vec::new();
    let mut started = Vec::new();
    for (what, room, cpu, devices) in &rows {
        for keys in ["hugepages = \"2M\"", "cpus = \"shared\"\nmax_nodes = 1"] {
            let name = format!("rd-{what}");
            libvirt.image(&format!("{name}.raw"), &vec![1; 1 << 20]);
            let text = guest(&name, kind)
                .replace("  <memory unit", &format!("{UUID}{room}  <memory unit"))
                .replace("  <devices>\n", &format!("{cpu}  <devices>\n"))
                .replace("  </devices>", &format!("{devices}  </devices>"));
            // libvirt accepts neither without cells, and not every version accepts every device.
            if takes(&libvirt, &text).is_err() {
                continue;
            }
            let file = tempfile::NamedTempFile::new().unwrap();
            let rule = "[[rule]]\nmatch = { name = \"rd-*\" }\nprofile = \"p\"\n";
            fs::write(
                file.path(),
                format!("{SETS}[profile.p]\ninherits = \"fit\"\n{keys}\n{rule}"),
            )
            .unwrap();
            let policy = file.path().to_string_lossy().into_owned();
            let tuned = libvirt.run(VIRTFIT, &["rewrite", "-", "--policy", &policy], text.as_bytes());
            let tuned = String::from_utf8(tuned.stdout).unwrap();
            assert!(tuned.contains("<virtfit:fit"), "{what}, {keys}:\n{tuned}");
            started.push(*what);
            if let Err(error) = takes(&libvirt, &tuned) {
                wrong.push(format!("{what}, {keys}: {error}\n{tuned}\n"));
                continue;
            }
            libvirt.define(&tuned).unwrap();
            let stored = libvirt.dump(&name);
            libvirt.virsh(&["undefine", &name]).unwrap();
            let again = libvirt.run(VIRTFIT, &["rewrite", "-", "--policy", &policy], stored.as_bytes());
            assert_eq!(String::from_utf8(again.stdout).unwrap(), stored, "{what}, {keys}");
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
    assert!(
        started.contains(&"dimm") && started.contains(&"nvdimm"),
        "{started:?}"
    );
}

/// Changes an administrator makes with virsh after virtfit are theirs, and libvirt accepts what
/// virtfit writes around them.
#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn what_virsh_changes_stays() {
    let libvirt = Libvirt::start(0);
    let policy = tempfile::NamedTempFile::new().unwrap();
    let rule = "[[rule]]\nmatch = { name = \"rd-*\" }\nprofile = \"fit\"\n";
    fs::write(policy.path(), format!("{SETS}{rule}")).unwrap();
    let policy = policy.path().to_string_lossy().into_owned();
    let kind = kvm::kind();
    // virsh's words after the guest's name, what must be in the definition from then on
    let rows: [(&str, &[&str], &str); 6] = [
        ("vcpupin", &["0", "0"], "<vcpupin vcpu='0' cpuset='0'/>"),
        ("emulatorpin", &["0-1"], "<emulatorpin cpuset='0-1'/>"),
        (
            "iothreadpin",
            &["1", "1"],
            "<iothreadpin iothread='1' cpuset='1'/>",
        ),
        ("iothreadadd", &["7"], "<iothread id='7'/>"),
        (
            "numatune",
            &["--mode", "interleave", "--nodeset", "0"],
            "<memory mode='interleave' nodeset='0'/>",
        ),
        ("setvcpus", &["3", "--maximum"], "3</vcpu>"),
    ];
    libvirt.image("rd-virsh.raw", &vec![1; 1 << 20]);
    for (command, words, want) in rows {
        let rewrite = |text: &str| {
            let got = libvirt.run(VIRTFIT, &["rewrite", "-", "--policy", &policy], text.as_bytes());
            let stderr = String::from_utf8_lossy(&got.stderr).into_owned();
            assert!(got.status.success(), "{command}: {stderr}");
            String::from_utf8(got.stdout).unwrap()
        };
        libvirt.define(&rewrite(&guest("rd-virsh", kind))).unwrap();
        let all = [&[command, "rd-virsh"], words, &["--config"]].concat();
        let tuned = libvirt.dump("rd-virsh");
        if command == "setvcpus" && tuned.contains("<topology") {
            // libvirt itself keeps the count that belongs to a topology.
            let error = libvirt.virsh(&all).unwrap_err();
            assert!(error.contains("topology"), "{error}");
        } else {
            libvirt.virsh(&all).unwrap();
            let changed = libvirt.dump("rd-virsh");
            let again = rewrite(&changed);
            assert!(again.contains(want), "{command}: {want} is not in\n{again}");
            libvirt
                .define(&again)
                .unwrap_or_else(|error| panic!("{command}: {error}\n{again}"));
            libvirt
                .virsh(&["start", "rd-virsh"])
                .unwrap_or_else(|error| panic!("{command}: {error}\n{again}"));
            libvirt.virsh(&["destroy", "rd-virsh"]).unwrap();
            let stored = libvirt.dump("rd-virsh");
            assert_eq!(rewrite(&stored), stored, "{command}");
            let reverted = libvirt.run(VIRTFIT, &["revert", "-"], stored.as_bytes());
            let reverted = String::from_utf8(reverted.stdout).unwrap();
            libvirt
                .define(&reverted)
                .unwrap_or_else(|error| panic!("{command}: {error}\n{reverted}"));
        }
        libvirt.virsh(&["undefine", "rd-virsh"]).unwrap();
    }
}
