//! Rewriting twice is rewriting once, and what was rewritten can be taken back.
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::io::Write;
use std::process::{Command, Stdio};

use tempfile::TempDir;

fn domain(vcpus: u32, memory_gib: u32) -> String {
    format!(
        "<domain type='kvm'>\n  <name>g</name>\n  <memory unit='GiB'>{memory_gib}</memory>\n  \
         <vcpu>{vcpus}</vcpu>\n  <os>\n    <type>hvm</type>\n  </os>\n</domain>\n"
    )
}

fn virtfit(words: &[&str], stdin: &str) -> String {
    let mut child = Command::new(env!("CARGO_BIN_EXE_virtfit"))
        .args(words)
        .env_remove("VIRTFIT_ROOT")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(stdin.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert!(output.status.success(), "{words:?}: {output:?}");
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn rewriting_twice_is_rewriting_once() {
    // topology, vCPUs, GiB, keys of the profile
    let rows = [
        // A cell whose vCPUs all float, before, between and after cells with dedicated ones.
        (
            "numa:8(memory=6GB) core:2 pu:1",
            7,
            32,
            "cpus = \"mixed\"\ndedicated_vcpus = \"^0\"",
        ),
        (
            "numa:4(memory=6GB) core:2 pu:1",
            7,
            16,
            "cpus = \"mixed\"\ndedicated_vcpus = \"0-1\"",
        ),
        (
            "numa:4(memory=6GB) core:2 pu:1",
            6,
            16,
            "cpus = \"mixed\"\ndedicated_vcpus = \"0,5\"",
        ),
        ("numa:2(memory=6GB) core:4 pu:2", 6, 8, "max_nodes = 2"),
        (
            "numa:2(memory=6GB) core:4 pu:2",
            3,
            8,
            "smt = \"isolate\"\nmax_nodes = 2",
        ),
    ];
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.toml");
    let policy_word = policy.to_str().unwrap();
    for (topology, vcpus, memory, keys) in rows {
        let text = format!(
            "[host]\nhousekeeping = \"none\"\nreserved_memory = \"0\"\n[profile.p]\ninherits = \"fit\"\n{keys}\n\
             [[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"p\"\n"
        );
        std::fs::write(&policy, text).unwrap();
        let words = ["--topology", topology, "--policy", policy_word, "rewrite", "-"];
        let before = domain(vcpus, memory);
        let once = virtfit(&words, &before);
        assert!(
            once.contains("memnode"),
            "{topology}, {keys}: not over several nodes:\n{once}"
        );
        assert_eq!(virtfit(&words, &once), once, "{topology}, {keys}");
        assert_eq!(virtfit(&["revert", "-"], &once), before, "{topology}, {keys}");
    }
}

#[test]
fn the_order_of_disks_does_not_matter() {
    let folder = TempDir::new().unwrap();
    let policy = folder.path().join("policy.toml");
    std::fs::write(&policy, "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n").unwrap();
    let words = [
        "--topology",
        "numa:1(memory=64GB) core:32 pu:1",
        "--policy",
        policy.to_str().unwrap(),
        "rewrite",
        "-",
    ];
    let disk = |target: &str| {
        format!(
            "    <disk type='block'>\n      <driver name='qemu' type='raw' cache='none' io='native'/>\n      \
             <source dev='/dev/{target}'/>\n      <target dev='{target}' bus='virtio'/>\n    </disk>\n"
        )
    };
    let controller =
        |index: &str| format!("    <controller type='scsi' index='{index}' model='virtio-scsi'/>\n");
    // Iothread of each device, in any order of the devices.
    let iothreads = |disks: &[&str], controllers: &[&str]| -> BTreeMap<String, String> {
        let devices: String = disks
            .iter()
            .map(|d| disk(d))
            .chain(controllers.iter().map(|c| controller(c)))
            .collect();
        let text = domain(2, 2).replace("</os>\n", &format!("</os>\n  <devices>\n{devices}  </devices>\n"));
        let plan = virtfit(&[&words[..4], &["plan", "--json", "-"]].concat(), &text);
        let plan: serde_json::Value = serde_json::from_str(&plan).unwrap();
        let changes = plan["changes"].as_array().unwrap().iter();
        changes
            .map(|change| (change["path"].to_string(), change["to"].to_string()))
            .filter(|(path, _)| path.contains("driver/@iothread"))
            .collect()
    };
    // libvirt stores vdaa after vdb.
    let sorted = iothreads(&["vda", "vdb", "vdaa"], &["0", "2", "10"]);
    assert_eq!(sorted.len(), 6, "{sorted:?}");
    assert_eq!(iothreads(&["vdaa", "vdb", "vda"], &["10", "0", "2"]), sorted);
}

/// Writes a policy file with one profile for every guest.
fn policy(folder: &TempDir, keys: &str) -> String {
    let path = folder.path().join("policy.toml");
    let text = format!(
        "[profile.p]\ninherits = \"fit\"\n{keys}\n[[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"p\"\n"
    );
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().to_string()
}

#[test]
fn a_host_model_that_libvirt_resolved_stays() {
    let folder = TempDir::new().unwrap();
    let keys = "cpu_mode = \"host-model\"\nfeatures = { tsc_deadline = \"require\" }";
    let policy = policy(&folder, keys);
    let host = [
        "--topology",
        "numa:1(memory=64GB) core:8 pu:1",
        "--policy",
        &policy,
    ];
    let tuned = virtfit(&[&host[..], &["rewrite", "-"]].concat(), &domain(2, 2));
    // libvirt resolves it at start, with its own order of features.
    let (head, rest) = tuned
        .split_once("<cpu mode='host-model' check='partial'>")
        .unwrap();
    let (_, tail) = rest.split_once("</cpu>").unwrap();
    let topology = &rest[rest.find("<topology").unwrap()..];
    let topology = &topology[..=topology.find('>').unwrap()];
    let cpu = format!(
        "<cpu mode='custom' match='exact' check='full'>\n    <model fallback='forbid'>Skylake-Server</model>\n    \
         <vendor>Intel</vendor>\n    {topology}\n    <feature policy='require' name='tsc-deadline'/>\n    \
         <feature policy='disable' name='hle'/>\n  </cpu>"
    );
    let resolved = format!("{head}{cpu}{tail}");
    let running = resolved.replacen("<domain type='kvm'>", "<domain type='kvm' id='1'>", 1);
    assert_eq!(
        virtfit(&[&host[..], &["rewrite", "-"]].concat(), &running),
        running
    );

    // On a host where its pins are not valid it gets others, and keeps its CPU to the byte.
    let moved = resolved
        .replace("cpuset='1'", "cpuset='77'")
        .replace("wrote='1'", "wrote='77'");
    assert_ne!(moved, resolved);
    let words = [&host[..], &["rewrite", "--scope", "incoming", "-"]].concat();
    let came = virtfit(&words, &moved);
    assert!(!came.contains("77"), "{came}");
    assert!(came.contains(&cpu), "{came}");
    assert_eq!(virtfit(&words, &came), came);
}

#[test]
fn a_running_guest_keeps_its_pages() {
    let folder = TempDir::new().unwrap();
    let host = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hosts/paper");
    for keys in ["", "cpus = \"shared\"\nmax_nodes = 1"] {
        let policy = policy(&folder, keys);
        let words = ["--root", host, "--policy", &policy, "rewrite", "-"];
        let odd = "<memory unit='KiB'>66561</memory>";
        let tuned = virtfit(
            &words,
            &domain(2, 2).replace("<memory unit='GiB'>2</memory>", odd),
        );
        assert!(!tuned.contains("hugepages"), "{keys}: {tuned}");
        // libvirt rounds it up at start: now it is a whole number of pages.
        let running =
            tuned
                .replace("66561", "67584")
                .replacen("<domain type='kvm'>", "<domain type='kvm' id='1'>", 1);
        assert_eq!(virtfit(&words, &running), running, "{keys}");
    }
}

/// libvirt does not store `<iothreads>0</iothreads>`: it has the meaning of its absence.
#[test]
fn no_iothreads_by_hand_are_none() {
    let folder = TempDir::new().unwrap();
    let policy = policy(&folder, "");
    let words = [
        "--topology",
        "numa:1(memory=64GB) core:8 pu:1",
        "--policy",
        &policy,
        "rewrite",
        "-",
    ];
    let disk = "  <devices>\n    <disk type='block'>\n      <source dev='/dev/vg/g'/>\n      <target dev='vda' bus='virtio'/>\n    \
                </disk>\n  </devices>\n";
    let plain = domain(2, 2).replace("</os>\n", &format!("</os>\n{disk}"));
    let by_hand = plain.replace("</vcpu>\n", "</vcpu>\n  <iothreads>0</iothreads>\n");
    let tuned = virtfit(&words, &by_hand);
    assert!(tuned.contains("<iothreads>1</iothreads>"), "{tuned}");
    assert_eq!(virtfit(&words, &tuned), tuned);
    assert_eq!(virtfit(&["revert", "-"], &tuned), by_hand);
}

/// Changes an administrator makes after virtfit are theirs: the guest keeps seeing them, and can be
/// restored.
#[test]
fn changes_by_hand_stay() {
    let folder = TempDir::new().unwrap();
    let keys = "locked = true\nkvm = { hint_dedicated = \"on\", poll_control = \"on\" }\n\
                features = { pmu = \"off\", tsc_deadline = \"require\", cache = \"passthrough\" }\n\
                devices = { memballoon = \"none\" }";
    let policy = policy(&folder, keys);
    let host = [
        "--topology",
        "numa:1(memory=64GB) core:8 pu:1",
        "--policy",
        &policy,
    ];
    let tuned = virtfit(&[&host[..], &["rewrite", "-"]].concat(), &domain(4, 2));
    // virtfit's value, an administrator's value.
    let rows = [
        (
            "<topology sockets='1' dies='1' cores='4' threads='1'/>",
            "<topology sockets='4' dies='1' cores='1' threads='1'/>",
        ),
        (
            "<feature policy='require' name='tsc-deadline'/>",
            "<feature policy='disable' name='tsc-deadline'/>",
        ),
        ("<cache mode='passthrough'/>", "<cache mode='disable'/>"),
        ("<pmu state='off'/>", "<pmu state='on'/>"),
        ("<hint-dedicated state='on'/>", "<hint-dedicated state='off'/>"),
        ("<poll-control state='on'/>", "<poll-control state='off'/>"),
        ("<memballoon model='none'/>", "<memballoon model='virtio'/>"),
    ];
    for (ours, theirs) in rows {
        assert!(tuned.contains(ours), "{ours} is not in\n{tuned}");
        let edited = tuned.replace(ours, theirs);
        for scope in ["boot", "incoming"] {
            let words = [&host[..], &["rewrite", "--scope", scope, "-"]].concat();
            let again = virtfit(&words, &edited);
            assert!(
                again.contains(theirs) && !again.contains(ours),
                "{scope}, {theirs}:\n{again}"
            );
            assert_eq!(virtfit(&words, &again), again, "{scope}, {theirs}");
            assert!(
                virtfit(&["revert", "-"], &again).contains(theirs),
                "{scope}, {theirs}"
            );
        }
    }
    // A setting that was taken out is asked for again; but not on the way in, where the guest saw
    // none.
    let (ours, _) = rows[0];
    let without = tuned.replace(ours, "");
    assert!(virtfit(&[&host[..], &["rewrite", "-"]].concat(), &without).contains(ours));
    let words = [&host[..], &["rewrite", "--scope", "incoming", "-"]].concat();
    assert!(!virtfit(&words, &without).contains(ours));
}

/// Changes of an administrator to a guest's placement: (policy, guest, virtfit's value, theirs).
#[test]
fn places_changed_by_hand_stay() {
    let folder = TempDir::new().unwrap();
    let disk = "  <devices>\n    <disk type='block'>\n      <source dev='/dev/vg/g'/>\n      <target dev='vda' bus='virtio'/>\n    \
                </disk>\n  </devices>\n";
    let with_disk = domain(4, 2).replace("</os>\n", &format!("</os>\n{disk}"));
    let over_two = domain(12, 8);
    let rows = [
        (
            "",
            &with_disk,
            "<vcpupin vcpu='1' cpuset='3'/>",
            "<vcpupin vcpu='1' cpuset='7'/>",
        ),
        (
            "",
            &with_disk,
            "<emulatorpin cpuset='0-1'/>",
            "<emulatorpin cpuset='6'/>",
        ),
        (
            "",
            &with_disk,
            "<iothreadpin iothread='1' cpuset='0-1'/>",
            "<iothreadpin iothread='1' cpuset='6'/>",
        ),
        (
            "",
            &with_disk,
            "<iothreads>1</iothreads>",
            "<iothreads>3</iothreads>",
        ),
        (
            "",
            &with_disk,
            "<memory mode='preferred' nodeset='0'/>",
            "<memory mode='interleave' nodeset='1'/>",
        ),
        ("", &with_disk, " cache='none'", " cache='directsync'"),
        ("", &with_disk, " io='native'", " io='threads'"),
        (
            "disk = { discard = \"unmap\" }",
            &with_disk,
            " discard='unmap'",
            " discard='ignore'",
        ),
        ("disk = { queues = 4 }", &with_disk, " queues='4'", " queues='2'"),
        (
            "realtime = { vcpus = \"^0\" }",
            &with_disk,
            "scheduler='fifo' priority='1'",
            "scheduler='rr' priority='7'",
        ),
        (
            "max_nodes = 2",
            &over_two,
            "<memnode cellid='1' mode='preferred' nodeset='1'/>",
            "<memnode cellid='1' mode='strict' nodeset='0'/>",
        ),
        (
            "max_nodes = 2",
            &over_two,
            "<cell id='0' cpus='0-5'",
            "<cell id='0' cpus='0-3,6-7'",
        ),
    ];
    for (keys, before, ours, theirs) in rows {
        let policy = policy(&folder, keys);
        let topology = "numa:2(memory=16GB) core:4 pu:2";
        let words = ["--topology", topology, "--policy", &policy, "rewrite", "-"];
        let tuned = virtfit(&words, before);
        assert!(tuned.contains(ours), "{ours} is not in\n{tuned}");
        let edited = tuned.replace(ours, theirs).replace(
            "<cell id='1' cpus='6-11'",
            match theirs.contains("0-3,6-7") {
                true => "<cell id='1' cpus='4-5,8-11'",
                false => "<cell id='1' cpus='6-11'",
            },
        );
        for scope in ["boot", "incoming"] {
            let words = [&words[..5], &["--scope", scope, "-"]].concat();
            let again = virtfit(&words, &edited);
            assert!(
                again.contains(theirs) && !again.contains(ours),
                "{scope}, {theirs}:\n{again}"
            );
            assert_eq!(virtfit(&words, &again), again, "{scope}, {theirs}");
        }
        // An iothread's pin needs the iothread.
        let reverted = virtfit(&["revert", "-"], &edited);
        assert!(reverted.contains(theirs), "{theirs}:\n{reverted}");
        assert_eq!(
            reverted.contains("<iothreads>"),
            theirs.contains("iothread"),
            "{theirs}:\n{reverted}"
        );
    }
}

/// libvirt accepts no topology of another number of vCPUs than the guest's: it is decided afresh.
#[test]
fn another_number_of_vcpus_is_another_shape() {
    let folder = TempDir::new().unwrap();
    // vCPUs before and after, keys, what the topology is then, cells
    let rows = [
        (
            4,
            8,
            "",
            "sockets='1' dies='2' cores='2' threads='2'",
            Some("cpus='4-7'"),
        ),
        (4, 3, "", "sockets='1' dies='1' cores='3' threads='1'", None),
        (4, 2, "", "sockets='1' dies='1' cores='1' threads='2'", None),
        (
            4,
            6,
            "topology = \"cores\"",
            "sockets='1' dies='1' cores='6' threads='1'",
            None,
        ),
        (
            10,
            12,
            "max_nodes = 2",
            "sockets='1' dies='2' cores='3' threads='2'",
            Some("cpus='6-11'"),
        ),
    ];
    for (from, to, keys, topology, cells) in rows {
        let policy = policy(&folder, keys);
        let host = "numa:2(memory=16GB) core:4 pu:2";
        let words = ["--topology", host, "--policy", &policy, "rewrite", "-"];
        let vcpu = |count: u32| format!("<vcpu>{count}</vcpu>");
        let tuned = virtfit(&words, &domain(from, 8));
        // libvirt puts vCPUs that no cell lists into cell 0.
        let changed = tuned
            .replace(&vcpu(from), &vcpu(to))
            .replace("<cell id='0' cpus='0-5'", "<cell id='0' cpus='0-5,10-11'");
        let again = virtfit(&words, &changed);
        assert!(
            again.contains(&format!("<topology {topology}/>")),
            "{from} to {to}:\n{again}"
        );
        assert_eq!(
            again.matches("<vcpupin").count(),
            to as usize,
            "{from} to {to}:\n{again}"
        );
        assert!(
            cells.is_none_or(|cells| again.contains(cells)),
            "{from} to {to}:\n{again}"
        );
        assert_eq!(again, virtfit(&words, &domain(to, 8)), "{from} to {to}");
        assert_eq!(virtfit(&words, &again), again, "{from} to {to}");
        assert_eq!(virtfit(&["revert", "-"], &again), domain(to, 8), "{from} to {to}");
    }
}

/// cockpit-machines writes each vCPU as a socket over a topology of virtfit's when it changes their
/// number: that is no wish, and the guest is fitted again. A topology that was chosen stays.
#[test]
fn an_editors_default_topology_is_fitted_again() {
    let folder = TempDir::new().unwrap();
    let policy = policy(&folder, "");
    let host = "numa:2(memory=16GB) core:4 pu:2";
    let words = ["--topology", host, "--policy", &policy, "rewrite", "-"];
    let tuned = virtfit(&words, &domain(4, 8));
    let ours = "<topology sockets='1' dies='1' cores='2' threads='2'/>";
    assert!(tuned.contains(ours), "{tuned}");
    for (theirs, expected) in [
        (
            "<topology sockets='6' cores='1' threads='1'/>",
            "sockets='1' dies='1' cores='3' threads='2'",
        ),
        (
            "<topology sockets='3' cores='2' threads='1'/>",
            "sockets='3' cores='2' threads='1'",
        ),
    ] {
        let edited = tuned
            .replace(ours, theirs)
            .replace("<vcpu>4</vcpu>", "<vcpu>6</vcpu>");
        let again = virtfit(&words, &edited);
        assert!(
            again.contains(&format!("<topology {expected}/>")),
            "{theirs}:\n{again}"
        );
        assert_eq!(virtfit(&words, &again), again, "{theirs}");
    }
}

const OWN: &str = "8c1f6f0e-0000-4000-8000-000000000001";
const OTHER: &str = "8c1f6f0e-0000-4000-8000-000000000002";

/// Returns a domain as libvirt stores it: with a UUID.
fn with_uuid(text: &str, uuid: &str) -> String {
    text.replacen("</name>\n", &format!("</name>\n  <uuid>{uuid}</uuid>\n"), 1)
}

/// Lists the CPUs of the vCPUs' pins.
fn pins(text: &str) -> Vec<&str> {
    let pins = text.split("<vcpupin vcpu='").skip(1);
    pins.filter_map(|pin| pin.split("cpuset='").nth(1)?.split('\'').next())
        .collect()
}

/// A record names the guest it is of. One in a definition that has no UUID yet names none, and
/// stays the guest's own when libvirt gives the definition one; so does the record of a first
/// release.
#[test]
fn a_record_names_its_guest() {
    let folder = TempDir::new().unwrap();
    let host = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hosts/paper");
    let policy = policy(&folder, "");
    let words = ["--root", host, "--policy", &policy, "rewrite", "-"];
    let rewrite = |text: &str| virtfit(&words, text);
    let before = domain(4, 2);
    let unnamed = rewrite(&before);
    assert!(!unnamed.contains("uuid="), "{unnamed}");
    assert_eq!(rewrite(&unnamed), unnamed);
    // Defined, it keeps its place and its shape, and gets its UUID.
    let defined = with_uuid(&unnamed, OWN);
    let named = rewrite(&defined);
    let own = format!("version='1' uuid='{OWN}' profile=");
    assert_eq!(named, defined.replace("version='1' profile=", &own));
    assert_eq!(rewrite(&named), named);
    assert_eq!(named, rewrite(&with_uuid(&before, OWN)));
    assert_eq!(virtfit(&["revert", "-"], &named), with_uuid(&before, OWN));
    // On the way in a record without a UUID is no reason to answer.
    let incoming = [&words[..5], &["--scope", "incoming", "-"]].concat();
    assert_eq!(virtfit(&incoming, &defined), defined);
    // A plan says that this is all.
    let plan = virtfit(&[&words[..4], &["plan", "-"]].concat(), &defined);
    assert!(
        plan.contains("virtfit's record in it gets the guest's UUID"),
        "{plan}"
    );
    // A later version may record more; another release left an attribute that is not known here.
    let more = named.replace("version='1'", "version='1' moon='full'");
    assert_eq!(rewrite(&more), more);
    // libvirt takes UUIDs in other forms.
    let upper = with_uuid(&unnamed, &OWN.to_uppercase().replace('-', ""));
    assert!(rewrite(&upper).contains(&own));
}

/// A record that was copied with a definition says nothing of the copy: it is placed afresh, with
/// another shape if need be, and what it inherited goes like virtfit's own.
#[test]
fn a_copied_record_is_another_guests() {
    let folder = TempDir::new().unwrap();
    let host = concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hosts/paper");
    let text = |keys: &str| policy(&folder, keys);
    let before = with_uuid(&domain(4, 2), OWN)
        .replace("</os>\n", "</os>\n  <cpu mode='host-model' check='partial'/>\n");
    let policy = text("smt = \"isolate\"");
    let words = ["--root", host, "--policy", &policy, "rewrite", "-"];
    let template = virtfit(&words, &before);
    assert!(template.contains("withheld='"), "{template}");
    text("");
    let fresh = virtfit(&words, &before);
    let unnamed = |text: &str| {
        text.replace(&format!(" uuid='{OWN}'"), "")
            .replace(&format!(" uuid='{OTHER}'"), "")
    };
    // virt-clone gives it another UUID; other tools leave it out.
    for (from, to) in [(OWN, OTHER), (&format!("  <uuid>{OWN}</uuid>\n"), "")] {
        let copy = template.replacen(from, to, 1);
        assert_ne!(copy, template);
        let placed = virtfit(&words, &copy);
        assert_eq!(unnamed(&placed), unnamed(&fresh).replacen(from, to, 1));
        assert_eq!(virtfit(&words, &placed), placed);
        assert_eq!(virtfit(&["revert", "-"], &placed), before.replacen(from, to, 1));
        // The copy itself gives what the administrator wrote, too.
        assert_eq!(virtfit(&["revert", "-"], &copy), before.replacen(from, to, 1));
    }
    // Where nothing fits and it is to run untuned, it is what the administrator wrote.
    text("on_no_fit = \"run-untuned\"\nhugepages = \"1G\"");
    let copy = template.replacen(OWN, OTHER, 1);
    assert_eq!(virtfit(&words, &copy), before.replacen(OWN, OTHER, 1));
    // A guest that comes in sees what it saw.
    text("");
    let incoming = [&words[..5], &["--scope", "incoming", "-"]].concat();
    let came = virtfit(&incoming, &copy);
    let topology = |text: &str| {
        text.split("<topology")
            .nth(1)
            .map(|rest| rest.split('>').next().unwrap_or("").to_string())
    };
    assert!(topology(&came).is_some());
    assert_eq!(topology(&came), topology(&copy));
}

/// Copies of definitions of the first releases, whose records name no guest: the CPUs tell.
#[test]
fn two_definitions_do_not_go_on_claiming_one_place() {
    let folder = TempDir::new().unwrap();
    let root = folder.path().join("host");
    let made = Command::new("cp")
        .args([
            "-a",
            concat!(env!("CARGO_MANIFEST_DIR"), "/fixtures/hosts/paper/."),
        ])
        .arg(&root)
        .status();
    assert!(made.unwrap().success());
    let definitions = root.join("etc/libvirt/qemu");
    std::fs::create_dir_all(&definitions).unwrap();
    let policy = policy(&folder, "");
    let words = [
        "--root",
        root.to_str().unwrap(),
        "--policy",
        &policy,
        "rewrite",
        "-",
    ];
    let template = with_uuid(&virtfit(&words, &domain(4, 2)), OWN);
    let copy = template.replace(OWN, OTHER).replace("<name>g<", "<name>copy<");
    std::fs::write(definitions.join("g.xml"), &template).unwrap();
    std::fs::write(definitions.join("copy.xml"), &copy).unwrap();
    let placed = virtfit(&words, &copy);
    assert!(
        pins(&placed).iter().all(|cpu| !pins(&template).contains(cpu)),
        "{placed}"
    );
    // The one that is placed first goes; the other one stays.
    std::fs::write(definitions.join("copy.xml"), &placed).unwrap();
    assert_eq!(pins(&virtfit(&words, &template)), pins(&template));
    // A guest that runs there stays too.
    std::fs::write(definitions.join("copy.xml"), &copy).unwrap();
    let running = copy.replacen("<domain type='kvm'>", "<domain type='kvm' id='1'>", 1);
    assert_eq!(pins(&virtfit(&words, &running)), pins(&copy));
    // A definition that names its guest claims nothing for another.
    let named = virtfit(&words, &template);
    let copied = named
        .replace(&format!("<uuid>{OWN}"), &format!("<uuid>{OTHER}"))
        .replace("<name>g<", "<name>copy<");
    std::fs::write(definitions.join("g.xml"), &named).unwrap();
    std::fs::write(definitions.join("copy.xml"), &copied).unwrap();
    assert_eq!(virtfit(&words, &named), named);
}
