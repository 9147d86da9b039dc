//! Options of QEMU in a guest's XML: what they rule is left alone, and named.

use super::asked::{Asked, guest, synthetic};
use super::disk;

/// Puts options into a guest's XML.
fn with(xml: &str, options: &[&str]) -> String {
    let args: String = options
        .iter()
        .map(|option| format!("    <qemu:arg value='{option}'/>\n"))
        .collect();
    let line = format!("  <qemu:commandline>\n{args}  </qemu:commandline>\n</domain>");
    xml.replace("</domain>", &line).replacen(
        "type='kvm'",
        "type='kvm' xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'",
        1,
    )
}

const EVERYTHING: &str = "locked = true\nkvm = { hint_dedicated = \"on\", poll_control = \"on\" }\n\
                          features = { pmu = \"off\", tsc_deadline = \"require\", cache = \"passthrough\" }\n\
                          disk = { queues = 4 }\n";

#[test]
fn what_options_rule_is_left_alone_and_named() {
    let cpu = [
        "set cpu/@mode",
        "set cpu/feature",
        "set cpu/cache",
        "set features/kvm",
        "set features/pmu",
    ];
    let memory = ["set numatune", "set memoryBacking/hugepages"];
    // options, notes and settings that are there, settings that are not
    let rows: [(&[&str], &[&str], &[&str]); 13] = [
        (
            &["-smp", "4"],
            &["kept topology", "set cpu/@mode host-passthrough"],
            &["set cpu/topology"],
        ),
        (
            &["-cpu", "host"],
            &["kept CPU mode and features", "set cpu/topology…"],
            &cpu,
        ),
        (
            &["-m", "2G"],
            &["kept memory", "page none", "set memoryBacking/locked…"],
            &memory,
        ),
        (&["-mem-path", "/x"], &["kept memory"], &memory),
        (
            &["-numa", "node,memdev=m"],
            &["kept guest cells", "kept memory"],
            &memory,
        ),
        (&["-machine", "memory-backend=m"], &["kept memory"], &memory),
        (
            &["-object", "memory-backend-memfd,id=m"],
            &["kept memory"],
            &memory,
        ),
        (
            &["-global", "host-x86_64-cpu.pmu=on"],
            &[
                "kept pmu",
                "set cpu/@mode host-passthrough",
                "set features/kvm/poll-control…",
            ],
            &["set features/pmu"],
        ),
        (
            &["-global", "cpu.kvm-poll-control=off"],
            &["kept kvm poll-control"],
            &["set features/kvm/poll-control"],
        ),
        (
            &["-overcommit", "mem-lock=off"],
            &["kept memory locked", "set memoryBacking/nosharepages…"],
            &["set memoryBacking/locked"],
        ),
        (
            &["-machine", "mem-merge=on"],
            &["kept memory not shared", "set memoryBacking/locked…"],
            &["set memoryBacking/nosharepages"],
        ),
        (
            &[
                "-set",
                "device.virtio-disk0.num-queues=2",
                "-set",
                "device.virtio-disk1.iothread=iothread1",
            ],
            &[
                "kept vda queues",
                "kept vdb iothread",
                "set devices/disk[target/@dev=\'vda\']/driver/@iothread 1",
            ],
            &[
                "set devices/disk[target/@dev=\'vda\']/driver/@queues",
                "set devices/disk[target/@dev=\'vdb\']/driver/@iothread",
            ],
        ),
        (
            &["-readconfig", "/etc/q.cfg"],
            &["kept topology", "kept guest cells", "kept memory"],
            &["set cpu/topology", "set numatune"],
        ),
    ];
    let devices = format!("{}{}", disk("vda", ""), disk("vdb", ""));
    for existing in ["", "on_existing = \"override\"\n"] {
        for (options, there, not) in &rows {
            let xml = with(&guest(4, 1024, "", "", &devices), options);
            let answer = Asked::on("paper").decide(&format!("{EVERYTHING}{existing}"), &xml);
            let row = format!("{options:?} {existing}");
            answer.expect(&row, there);
            // Four vCPUs without threads have a core each.
            let pins = if options[0] == "-smp" {
                "pins 1 2 3 4"
            } else {
                "pins 1 17 2 18"
            };
            answer.expect(&row, &[pins]);
            let not: Vec<String> = not.iter().map(|start| format!("!{start}")).collect();
            answer.expect(&row, &not.iter().map(String::as_str).collect::<Vec<_>>());
            assert_eq!(answer.reverted(), xml, "{row}");
        }
    }
}

/// The topology of `-smp` decides the threads of a guest core, and `-numa` the cells that none may
/// reach over.
#[test]
fn a_topology_of_options_decides_the_placement() {
    let smt4 =
        || Asked::of(synthetic("numa:1(memory=64GB) core:8 pu:4")).host_keys("housekeeping = \"none\"");
    let rows: [(&[&str], &[&str]); 5] = [
        (
            &["-smp", "4,sockets=1,cores=2,threads=2"],
            &["topology 1 1 2 2", "pins 0 1 4 5"],
        ),
        (
            &["-smp", "4,sockets=1,cores=1,threads=4"],
            &["topology 1 1 1 4", "pins 0 1 2 3"],
        ),
        (
            &["-machine", "smp.sockets=2,smp.cores=1,smp.threads=2"],
            &["topology 2 1 1 2", "pins 0 1 4 5"],
        ),
        (&["-smp", "cores=some"], &["!topology"]),
        (
            &["-numa", "node,cpus=0-1", "-numa", "node,cpus=2-3"],
            &["pins 0 1 4 5"],
        ),
    ];
    for (options, wanted) in rows {
        let answer = smt4().decide("smt = \"prefer\"", &with(&guest(4, 1024, "", "", ""), options));
        answer.expect(&format!("{options:?}"), wanted);
    }
    // Cells are not made over the guest's own.
    let two = || {
        Asked::of(synthetic("numa:2(memory=8GB) core:2 pu:1"))
            .host_keys("housekeeping = \"none\"\nreserved_memory = \"0\"")
    };
    two()
        .decide("", &guest(4, 1024, "", "", ""))
        .expect("none", &["set cpu/numa…"]);
    let own = with(&guest(4, 1024, "", "", ""), &["-numa", "node,cpus=0-3"]);
    two()
        .decide("", &own)
        .expect("own", &["!set cpu/numa", "kept guest cells"]);
}

/// Options that an administrator adds to a guest virtfit has tuned rule from then on.
#[test]
fn options_added_later_rule_what_virtfit_wrote() {
    let asked = Asked::on("paper");
    let xml = guest(4, 1024, "", "", "");
    let tuned = asked.decide("", &xml).text().to_string();
    for (options, gone, kept) in [
        (
            ["-smp", "4,sockets=4,cores=1,threads=1"],
            "<topology",
            "kept topology",
        ),
        (["-cpu", "host"], "<cpu mode", "kept CPU mode and features"),
        (["-m", "1G"], "<hugepages", "kept memory"),
    ] {
        assert!(tuned.contains(gone), "{gone}");
        let answer = asked.decide("", &with(&tuned, &options));
        assert!(!answer.text().contains(gone), "{options:?}:\n{}", answer.text());
        answer.expect(&format!("{options:?}"), &[kept]);
        assert_eq!(answer.reverted(), with(&xml, &options));
        // A guest that runs with both comes in as it runs.
        let incoming = Asked::on("paper").incoming();
        let came = incoming.decide("", &with(&tuned, &options));
        assert!(came.text().contains(gone), "{options:?}:\n{}", came.text());
    }
}

/// Huge pages that are required do not fit memory that options rule.
#[test]
fn required_pages_against_options() {
    let xml = with(&guest(4, 1024, "", "", ""), &["-mem-path", "/x"]);
    let why = "because huge pages are required, but -mem-path of qemu:commandline in its XML rules them out";
    Asked::on("paper")
        .decide("hugepages = \"2M\"\non_no_fit = \"refuse\"", &xml)
        .expect("required", &["refused", why]);
}
