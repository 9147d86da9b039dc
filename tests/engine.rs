//! The engine against its contract, a sentence per table: the wishes, and what the plan must say.
#![allow(clippy::unwrap_used)]

#[path = "common/engine.rs"]
mod asked;
#[path = "engine/hyperv.rs"]
mod hyperv;
#[path = "engine/kept_memory.rs"]
mod kept_memory;
#[path = "engine/options.rs"]
mod options;
#[path = "engine/order.rs"]
mod order;
#[path = "engine/pages.rs"]
mod pages;

use asked::{Asked, guest, pins};
use virtfit::engine::{self, Inputs, Question};
use virtfit::ledger::Ledger;
use virtfit::policy::Policy;
use virtfit::types::devices::GuestFacts;
use virtfit::types::ids::Id;
use virtfit::types::plan::{Plan, Scope};
use virtfit::types::reason::Reason;
use virtfit::types::setting::{DiskAttribute, Target};

/// Makes a disk of a file that is not there, with these attributes of its driver.
fn disk(target: &str, driver: &str) -> String {
    format!(
        "<disk type='file' device='disk'><driver name='qemu' type='raw' {driver}/>\
         <source file='/x.raw'/><target dev='{target}' bus='virtio'/></disk>"
    )
}

/// Over a hand-written setting of each kind, `on_existing = "override"` leaves XML that libvirt
/// takes.
#[test]
fn overridden_iothreads_leave_nothing_behind() {
    let host = Asked::on("paper");
    let two = format!("{}{}", disk("vda", "iothread='4'"), disk("vdb", "iothread='2'"));
    let pinned = "<iothreads>4</iothreads><cputune><iothreadpin iothread='3' cpuset='5'/></cputune>";
    let listed = "<iothreads>2</iothreads><iothreadids><iothread id='4'/><iothread id='2'/></iothreadids>";
    let scheduled = "<iothreads>4</iothreads><cputune>\
                     <iothreadsched iothreads='3' scheduler='fifo' priority='1'/></cputune>";
    let mapped = "<disk type='file' device='disk'><driver name='qemu' type='raw'><iothreads><iothread id='3'/>\
                  </iothreads></driver><source file='/x.raw'/><target dev='vda' bus='virtio'/></disk>";
    let table: [(&str, &str, &str, &[&str]); 7] = [
        (
            pinned,
            &two,
            "iothreads = { count = 1 }",
            &[
                "set iothreads 1",
                "set cputune/iothreadpin[@iothread='1'] 0,16",
                "set cputune/iothreadpin[@iothread='3'] nothing",
                "set devices/disk[target/@dev='vda']/driver/@iothread 1",
                "set devices/disk[target/@dev='vdb']/driver/@iothread 1",
            ],
        ),
        (
            pinned,
            &two,
            "iothreads = { count = 0 }",
            &[
                "set cputune/iothreadpin[@iothread='3'] nothing",
                "set devices/disk[target/@dev='vda']/driver/@iothread nothing",
                "set devices/disk[target/@dev='vdb']/driver/@iothread nothing",
            ],
        ),
        // libvirt takes as many as are listed, whatever the count is.
        (
            listed,
            &two,
            "iothreads = { count = 1 }",
            &["!set iothreads", "iothread 2 0,16", "iothread 4 0,16"],
        ),
        // A scheduler for an iothread that is not there is an error.
        (
            scheduled,
            &two,
            "iothreads = { count = 1 }",
            &["set iothreads 3", "iothread 3 0,16"],
        ),
        (
            "<iothreads>4</iothreads>",
            mapped,
            "iothreads = { count = 1 }",
            &["set iothreads 3", "!set devices/disk", "kept vda iothread"],
        ),
        (
            "<iothreads>4</iothreads>",
            mapped,
            "",
            &["set iothreads 3", "!set devices/disk", "kept vda iothread"],
        ),
        (
            pinned,
            &two,
            "iothreads = { count = 1, cpus = \"isolate\" }",
            &["set cputune/iothreadpin[@iothread='3'] nothing", "iothread 1 3"],
        ),
    ];
    for (number, (inner, devices, keys, wanted)) in table.iter().enumerate() {
        let xml = guest(4, 1024, inner, "", devices);
        let answer = host.decide(&format!("on_existing = \"override\"\n{keys}"), &xml);
        answer.expect(&format!("row {number}: {keys}"), wanted);
        assert_eq!(answer.reverted(), xml, "row {number}");
    }
}

/// A `vcpu@cpuset` counts for nothing under numad; under override it would come to life.
#[test]
fn an_overridden_automatic_placement_leaves_no_cpuset() {
    let xml = guest(4, 1024, "", "", "").replace("placement='static'", "placement='auto' cpuset='3-4'");
    let answer = Asked::on("paper").decide("on_existing = \"override\"", &xml);
    answer.expect(
        "auto",
        &[
            "set vcpu/@placement static",
            "set vcpu/@cpuset nothing",
            "pins 1 17 2 18",
        ],
    );
    let keep = Asked::on("paper").decide("", &xml);
    keep.expect("auto kept", &["!set vcpu", "!set cputune/vcpupin"]);
}

/// `off` under override takes away what an administrator wrote, for each setting `on_existing`
/// covers.
#[test]
fn off_overrides_too() {
    let host = Asked::on("paper");
    let bound = "<numatune><memory mode='strict' nodeset='1'/></numatune>";
    let scheduled = "<cputune><vcpusched vcpus='0' scheduler='fifo' priority='3'/>\
                     <vcpusched vcpus='1' scheduler='rr' priority='3'/></cputune>";
    let cells = "<cpu><numa><cell id='0' cpus='0-1' memory='524288' unit='KiB'/>\
                 <cell id='1' cpus='2-3' memory='524288' unit='KiB'/></numa></cpu>";
    let memnode = "<numatune><memnode cellid='0' mode='strict' nodeset='1'/></numatune>";
    let table: [(&str, &str, &str, &[&str]); 9] = [
        (bound, "", "numa = \"off\"", &["set numatune/memory nothing"]),
        (
            bound,
            "",
            "memory_mode = \"off\"",
            &["set numatune/memory nothing"],
        ),
        (bound, "", "cpus = \"shared\"", &["set numatune/memory nothing"]),
        (
            bound,
            "",
            "hugepages = \"1G\"",
            &["set numatune/memory nothing", "nodes "],
        ),
        (bound, "", "cpus = \"keep\"", &["!set numatune"]),
        (
            memnode,
            cells,
            "numa = \"off\"",
            &["set numatune/memnode[@cellid='0'] nothing"],
        ),
        (scheduled, "", "", &["set cputune/vcpusched nothing"]),
        (
            scheduled,
            "",
            "realtime = { vcpus = \"2\" }",
            &["set cputune/vcpusched fifo 1: 2"],
        ),
        (
            scheduled,
            "",
            "realtime = { vcpus = \"all\" }\ncpus = \"shared\"",
            &["set cputune/vcpusched nothing"],
        ),
    ];
    for (inner, cpu, keys, wanted) in table {
        let xml = guest(4, 1024, inner, cpu, "");
        let answer = host.decide(&format!("on_existing = \"override\"\n{keys}"), &xml);
        answer.expect(keys, wanted);
        assert_eq!(answer.reverted(), xml, "{keys}");
        let kept = host.decide(keys, &xml);
        kept.expect(&format!("{keys}, kept"), &["!set cputune/vcpusched"]);
        assert!(
            !inner.contains("numatune") || kept.text().contains(inner),
            "{keys}"
        );
    }
}

/// `io=native` beside a cache mode of the page cache is an error to libvirt, even if both are an
/// administrator's.
#[test]
fn no_native_io_beside_the_page_cache() {
    let table: [(&str, &str, &[&str]); 4] = [
        (
            "cache='none' io='native'",
            "cache = \"writeback\"",
            &["@cache writeback", "@io nothing"],
        ),
        (
            "cache='none' io='native'",
            "cache = \"writeback\", io = \"keep\"",
            &[],
        ),
        (
            "cache='none' io='native'",
            "cache = \"writeback\", io = \"threads\"",
            &["@cache writeback", "@io threads"],
        ),
        ("cache='writeback'", "io = \"native\"", &[]),
    ];
    for (driver, rule, wanted) in table {
        let xml = guest(4, 1024, "", "", &disk("vda", driver));
        let keys = format!("on_existing = \"override\"\ndisk = {{ {rule} }}");
        let answer = Asked::on("paper").decide(&keys, &xml);
        let driver = "set devices/disk[target/@dev='vda']/driver/";
        let lines = answer.lines();
        let found: Vec<&str> = lines
            .iter()
            .filter_map(|line| line.strip_prefix(driver))
            .filter(|line| !line.starts_with("@iothread"))
            .collect();
        assert_eq!(found, wanted, "{rule}");
    }
}

/// Floating vCPUs stay in a `vcpu@cpuset` written by hand, off held CPUs, with their memory near.
#[test]
fn floating_vcpus_keep_a_cpuset() {
    let xml = |cpuset: &str| {
        guest(4, 1024, "", "", "").replace("'static'>", &format!("'static' cpuset='{cpuset}'>"))
    };
    let near = "cpus = \"shared\"\nmax_nodes = 1";
    let mixed = "cpus = \"mixed\"\ndedicated_vcpus = \"^0\"";
    let table: [(&str, &str, &str, &[&str]); 5] = [
        (
            "8-11",
            "",
            near,
            &["pins 8-11 8-11 8-11 8-11", "nodes 1", "!set cputune/vcpupin"],
        ),
        (
            "8-12",
            "9",
            near,
            &["pins 8,10-12 8,10-12 8,10-12 8,10-12", "nodes 1"],
        ),
        ("2-6", "", mixed, &["pins 5-6 2 3 4", "nodes 0"]),
        ("2-6", "5", mixed, &["pins 6 2 3 4"]),
        // Nothing of the cpuset is free: it is the administrator's.
        ("9-10", "9-10", near, &["!set cputune/vcpupin"]),
    ];
    for (cpuset, held, keys, wanted) in table {
        let asked = Asked::on("paper").held(held);
        asked
            .decide(keys, &xml(cpuset))
            .expect(&format!("{cpuset} {keys}"), wanted);
    }
}

/// CPUs outside `machine.slice`'s cpuset cannot be pinned to.
#[test]
fn pins_outside_the_slice_do_not_fit() {
    let mut asked = Asked::on("paper");
    asked.host.guest_cpus = Some(virtfit::types::cpulist::parse("2-3,18-19").unwrap());
    let table: [(&str, &[&str]); 4] = [
        ("- -", &["pins 3 19"]),
        (
            "5 -",
            &["because vCPU 0 is pinned to CPU 5; machine.slice's cpuset…"],
        ),
        ("3 -", &["pins 3 19", "!because"]),
        (
            "0-31 -",
            &["pins 0-31 3", "because vCPU 0 has no CPU of its own…"],
        ),
    ];
    for (list, wanted) in table {
        let xml = guest(2, 1024, &pins(list), "", "");
        asked.decide("", &xml).expect(list, wanted);
    }
    let emulator = guest(2, 1024, "<cputune><emulatorpin cpuset='0'/></cputune>", "", "");
    let why = "because its emulatorpin names CPU 0, which machine.slice's cpuset…";
    asked
        .decide("", &emulator)
        .expect("emulator", &["emulator 0", why]);
    let asked = asked.incoming();
    let inner = "<cputune><vcpupin vcpu='0' cpuset='5'/><emulatorpin cpuset='0'/></cputune>\
                 <memoryBacking><hugepages/></memoryBacking>";
    let answer = asked.decide("", &guest(2, 1024, inner, "", ""));
    answer.expect("incoming", &["pins 3 19", "set cputune/emulatorpin 2,18"]);
}

/// `hint-dedicated` is for guests whose every vCPU has a dedicated CPU of its own, also by an
/// administrator's pin.
#[test]
fn no_hint_for_pins_that_are_shared() {
    let on = "kvm = { hint_dedicated = \"on\" }";
    let table = [
        ("- - - -", on, true),
        ("1 17 2 18", on, true),
        ("2-5 2-5 2-5 2-5", on, false),
        ("0 - - -", on, false),
        (
            "- - - -",
            "kvm = { hint_dedicated = \"on\" }\ncpus = \"shared\"",
            false,
        ),
        ("- - - -", "", false),
    ];
    for (list, keys, hinted) in table {
        let answer = Asked::on("paper").decide(keys, &guest(4, 1024, &pins(list), "", ""));
        let hint = answer
            .lines()
            .contains(&"set features/kvm/hint-dedicated on".to_string());
        assert_eq!(hint, hinted, "{list} {keys}");
    }
    let isolated = Asked::on("isolcpus").decide("", &guest(4, 1024, "", "", ""));
    isolated.expect("isolated", &["set features/kvm/hint-dedicated on"]);
}

/// Guest cores and dies are inside one guest cell, also where the cells are not matched.
#[test]
fn guest_cores_do_not_reach_over_cells() {
    let cells = |a: &str, b: &str| {
        format!(
            "<cpu><numa><cell id='0' cpus='{a}' memory='524288' unit='KiB'/>\
             <cell id='1' cpus='{b}' memory='524288' unit='KiB'/></numa></cpu>"
        )
    };
    let table: [(&str, &str, u32, &str, &[&str]); 6] = [
        ("0-1", "2-3", 4, "match", &["pins 1 17 9 25", "topology 2 1 1 2"]),
        ("0,2", "1,3", 4, "match", &["pins 1 9 2 10", "topology 4 1 1 1"]),
        ("0-1", "2-3", 4, "keep", &["pins 1 17 2 18", "topology 1 2 1 2"]),
        ("0,2", "1,3", 4, "keep", &["pins 1 2 3 4", "topology 4 1 1 1"]),
        ("0-2", "3-5", 6, "off", &["pins 1 2 3 4 5 6", "topology 1 2 3 1"]),
        (
            "0-2",
            "3-5",
            6,
            "match",
            &["pins 1 2 3 9 10 11", "topology 2 1 3 1"],
        ),
    ];
    for (a, b, vcpus, numa, wanted) in table {
        let xml = guest(vcpus, 1024, "", &cells(a, b), "");
        let answer = Asked::on("paper").decide(&format!("numa = \"{numa}\""), &xml);
        answer.expect(&format!("{a} {b} {numa}"), wanted);
    }
    let xml = guest(4, 1024, "", &cells("0,2", "1,3"), "");
    Asked::on("paper").decide("smt = \"require\"", &xml).expect(
        "require",
        &["because the vCPUs of its guest cells do not fill whole cores of 2 threads (smt = require)"],
    );
}

/// Sockets mirror packages also where some vCPUs float, and a cell without vCPUs is no socket.
#[test]
fn sockets_mirror_packages() {
    let cells = "<cpu><numa><cell id='0' cpus='0-1' memory='524288' unit='KiB'/>\
                 <cell id='1' cpus='2-3' memory='524288' unit='KiB'/></numa></cpu>";
    let xml = guest(4, 1024, "", cells, "");
    let mixed = "cpus = \"mixed\"\ndedicated_vcpus = \"^0\"";
    Asked::on("paper")
        .decide(mixed, &xml)
        .expect("mixed", &["topology 2 1 2 1"]);
    Asked::on("paper")
        .decide(mixed, &guest(4, 1024, "", "", ""))
        .expect("mixed on one node", &["topology 1 1 4 1"]);
    let three = cells.replace("</numa>", "<cell id='2' memory='524288' unit='KiB'/></numa>");
    let host = asked::synthetic("numa:4(indexes=0-3) pack:1 core:4 pu:2");
    let answer = Asked::of(host).decide("", &guest(4, 1536, "", &three, ""));
    answer.expect("memory-only", &["topology 2 1 1 2"]);
}

/// The shape is decided once: a guest that needs another shape does not fit, and a policy with
/// equal wishes changes nothing.
#[test]
fn the_shape_stays() {
    let half = "1-7,9-15"; // a thread of each core
    let xml = guest(4, 1024, "", "", "");
    let table: [(&str, &str, &[&str]); 4] = [
        (
            "",
            half,
            &["because needs 2 cores with 2 free CPUs each…", "topology 1 1 2 2"],
        ),
        ("", "1,17", &["pins 2 18 3 19", "topology 1 1 2 2", "!because"]),
        // All vCPUs as cores is one shape, whatever they share; so is the topology the guest was
        // defined with.
        (
            "topology = \"cores\"",
            half,
            &["pins 17 18 19 20", "topology 1 1 4 1", "!because"],
        ),
        (
            "topology = \"keep\"",
            half,
            &["pins 17 18 19 20", "topology 4 1 1 1", "!because"],
        ),
    ];
    for (keys, held, wanted) in table {
        let first = Asked::on("paper").decide(keys, &xml);
        let again = Asked::on("paper").held(held).decide(keys, first.text());
        again.expect(&format!("{keys} {held}"), wanted);
        assert_eq!(again.reverted(), xml, "{keys} {held}");
    }
    let first = Asked::on("paper").decide("", &xml);
    let isolate = Asked::on("paper").decide("smt = \"isolate\"", first.text());
    isolate.expect(
        "isolate",
        &["because its topology has 2 threads a core, but smt = isolate gives each vCPU a core"],
    );
    let other = Asked::on("paper")
        .host_keys("strategy = \"spread\"")
        .decide("description = \"x\"", first.text());
    other.expect("another policy", &["unchanged"]);
}

/// The reason names hand-written pins where they exclude a setting.
#[test]
fn reasons_name_hand_written_pins() {
    let table: [(&str, &str, &[&str]); 3] = [
        (
            "1 2 - -",
            "smt = \"require\"",
            &[
                "because no place around the pins written by hand (vCPUs 0-1): smt = require needs whole cores",
            ],
        ),
        (
            "1 17 - -",
            "smt = \"isolate\"",
            &[
                "because no place around the pins written by hand (vCPUs 0-1): smt = isolate needs a core for each vCPU",
            ],
        ),
        ("1 2 - -", "", &["pins 1 2 3 4", "!because"]),
    ];
    for (list, keys, wanted) in table {
        let answer = Asked::on("paper").decide(keys, &guest(4, 1024, &pins(list), "", ""));
        answer.expect(keys, wanted);
    }
}

/// Sockets and dies are part of the shape: a later place mirrors them too.
#[test]
fn a_later_place_has_the_same_caches_and_packages() {
    let amd = || Asked::on("amd-ccd");
    let xml = |vcpus: u32| guest(vcpus, 1024, "", "", "");
    // A cache has 4 cores, two cores of the first are housekeeping: CPUs 4 to 7 and 36 to 39 are
    // the second cache.
    let first = amd().decide("", &xml(16));
    first.expect(
        "16",
        &[
            "pins 4 36 5 37 6 38 7 39 8 40 9 41 10 42 11 43",
            "topology 1 2 4 2",
        ],
    );
    amd().held("4,36").decide("", first.text()).expect(
        "16 moved",
        &[
            "pins 8 40 9 41 10 42 11 43 12 44 13 45 14 46 15 47",
            "topology 1 2 4 2",
        ],
    );
    let one_of_each = "4,36,8,40,12,44,16,48,20,52,24,56,28,60";
    amd().held(one_of_each).decide("", first.text()).expect(
        "16 in threes",
        &["because no place has the shape the guest sees (1 socket, 2 dies, 4 cores, 2 threads); to give it another: virtfit apply --reshape g"],
    );
    let threes = amd().held(one_of_each).decide("", &xml(12));
    threes.expect(
        "12 in threes",
        &["topology 1 2 3 2", "pins 5 37 6 38 7 39 9 41 10 42 11 43"],
    );
    amd().held("5,37").decide("", threes.text()).expect(
        "12 again",
        &[
            "topology 1 2 3 2",
            "pins 4 36 6 38 7 39 8 40 9 41 10 42",
            "!because",
        ],
    );

    let snc = || Asked::of(asked::synthetic("pack:2 numa:2(memory=4GB) core:4 pu:2"));
    let first = snc().decide("", &xml(12));
    first.expect("two nodes", &["nodes 0 1", "topology 1 2 3 2"]);
    let other = snc().held("0-7").decide("", first.text());
    other.expect(
        "the other package",
        &["nodes 2 3", "topology 1 2 3 2", "!because"],
    );
    let split = snc().held("8-15").held("24-31").decide("", first.text());
    split.expect(
        "a node of each",
        &["because no place has the shape the guest sees…"],
    );
}

/// A CPU mode with which a start failed is not given again; CPU settings that were given before are
/// taken out.
#[test]
fn a_cpu_mode_that_does_not_start_is_left_out() {
    use virtfit::host::failed_starts::FailedStart;
    const UUID: &str = "a37a9b65-15f7-58b0-990d-11ce0c9a3af9";
    let mut host = Asked::on("paper");
    let xml = guest(4, 1024, "", "", "");
    let before = host.decide("", &xml);
    before.expect("before", &["set cpu/@mode host-passthrough"]);
    let tuned = before.text().to_string();
    host.host.failed.host_cpu = Some("MSR".into());
    let left_out = "not done CPU mode…";
    host.decide("", &xml).expect("new", &["!set cpu/@mode", left_out]);
    let by_hand = guest(4, 1024, "", "<cpu mode='host-passthrough'/>", "");
    host.decide("", &by_hand)
        .expect("by hand", &["!set cpu/@mode", "!not done CPU mode"]);
    host.decide("", &tuned)
        .expect("tuned before", &["!not done CPU mode"]);
    let own = FailedStart {
        cpu: Some("MSR".into()),
        ..FailedStart::default()
    };
    host.host.failed.guests.insert(UUID.into(), own);
    let after = host.decide("", &tuned);
    after.expect("failed", &[left_out]);
    assert!(!after.text().contains("host-passthrough"), "{}", after.text());
    assert!(after.text().contains("<topology"), "{}", after.text());
}

/// libvirt takes `<cache mode='passthrough'/>` only beside the host's whole CPU, even if both are
/// an administrator's.
#[test]
fn cache_passthrough_and_the_cpu_mode_go_together() {
    let host = Asked::on("paper");
    let cpu = |mode: &str, cache: &str| format!("<cpu mode='{mode}'>{cache}</cpu>");
    let passthrough = "<cache mode='passthrough'/>";
    let asks = "features = { cache = \"passthrough\" }";
    let table: [(&str, &str, &str, &[&str]); 8] = [
        (
            "host-model",
            "",
            asks,
            &["set cpu/@mode host-passthrough", "set cpu/cache passthrough"],
        ),
        (
            "host-passthrough",
            "",
            asks,
            &["!set cpu/@mode", "set cpu/cache passthrough"],
        ),
        (
            "host-passthrough",
            "",
            "cpu_mode = \"host-model\"\nfeatures = { cache = \"passthrough\" }",
            &[
                "set cpu/@mode host-model",
                "!set cpu/cache",
                "not done cache passthrough…",
            ],
        ),
        (
            "maximum",
            "",
            "cpu_mode = \"keep\"\nfeatures = { cache = \"passthrough\" }",
            &["!set cpu/@mode", "set cpu/cache passthrough"],
        ),
        (
            "host-model",
            "",
            "cpu_mode = \"keep\"\nfeatures = { cache = \"passthrough\" }",
            &["!set cpu/@mode", "!set cpu/cache", "not done cache passthrough…"],
        ),
        (
            "host-passthrough",
            passthrough,
            "cpu_mode = \"host-model\"",
            &[
                "!set cpu/@mode",
                "!set cpu/cache",
                "not done CPU mode host-model…",
            ],
        ),
        (
            "maximum",
            passthrough,
            "",
            &["set cpu/@mode host-passthrough", "!set cpu/cache"],
        ),
        (
            "host-passthrough",
            "<cache mode='emulate' level='3'/>",
            "cpu_mode = \"host-model\"",
            &["set cpu/@mode host-model"],
        ),
    ];
    for (mode, cache, keys, wanted) in table {
        let xml = guest(4, 1024, "", &cpu(mode, cache), "");
        host.decide(keys, &xml)
            .expect(&format!("{mode} {cache}: {keys}"), wanted);
    }
}

/// Leftovers are named where no rule matches; in a guest from another host, those that would keep
/// it from starting are taken out.
#[test]
fn settings_of_virtfits_without_a_rule_are_named_and_foreign_ones_go() {
    let large = Asked::on("paper");
    let keys = "max_nodes = 1\nemulator = \"housekeeping\"\nhugepages = \"off\"\nmemory_mode = \"strict\"";
    let answer = large.decide(keys, &guest(4, 1024, "", "", ""));
    let tuned = answer.xml().unwrap();
    assert!(tuned.contains("<numatune>") && tuned.contains("<topology"));
    let small = asked::synthetic("numa:1 core:2 pu:1");
    for (row, host, scope, goes) in [
        ("defined", &large.host, Scope::Boot, false),
        ("restored", &large.host, Scope::Incoming, false),
        ("defined, a smaller host", &small, Scope::Boot, false),
        ("migrated to a smaller host", &small, Scope::Incoming, true),
    ] {
        let inputs = Inputs {
            host,
            policy: &Policy::builtin(),
            ledger: &Ledger::default(),
            facts: &GuestFacts::default(),
            question: Question::of(scope),
        };
        let decision = engine::decide(tuned, &inputs).unwrap();
        let plan = decision.plan();
        let said = format!(
            "carries virtfit's settings though no rule matches: virtfit revert {}",
            plan.guest
        );
        assert_eq!(plan.reasons_line(), said, "{row}");
        assert_eq!(plan.reasons[0].code(), "leftover", "{row}");
        assert_eq!(plan.placement, None, "{row}");
        assert_eq!(decision.xml().is_some(), goes, "{row}");
        if let Some(xml) = decision.xml() {
            for gone in ["<vcpupin", "<emulatorpin", "<numatune>"] {
                assert!(!xml.contains(gone), "{row}: {gone} in {xml}");
            }
            assert!(
                xml.contains("<topology"),
                "{row}: what the guest sees stays: {xml}"
            );
        }
    }
}

/// An administrator's pins are kept and named, and where they leave a vCPU without a CPU of its
/// own, that is said, too.
#[test]
fn pins_that_are_kept_are_said() {
    let host = Asked::on("paper");
    let emulator = "<cputune><vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0-3'/></cputune>";
    // pins, kept, away
    let table: [(&str, String, &[&str], &str); 4] = [
        ("none", String::new(), &[], ""),
        ("of its own", pins("4 5"), &["vcpupin 0-1: 4-5"], ""),
        (
            "housekeeping",
            emulator.into(),
            &["vcpupin 0: 0", "emulatorpin: 0-3"],
            "vCPU 0 has no CPU of its own: your pin keeps it on CPU 0, not within the dedicated CPUs",
        ),
        (
            "both",
            pins("0-7 0-7"),
            &["vcpupin 0-1: 0-7"],
            "vCPUs 0-1 have no CPUs of their own: your pins keep them on CPUs 0-7, not within the dedicated CPUs",
        ),
    ];
    for (row, written, kept, away) in table {
        let answer = host.decide("", &guest(2, 1024, &written, "", ""));
        let plan = answer.plan();
        let pins: Vec<String> = plan.kept_pins().map(|note| note.what.to_string()).collect();
        assert_eq!(pins, kept, "{row}");
        let pinned_away = plan.notes.pinned_away.clone();
        let said = pinned_away.as_ref().map(ToString::to_string);
        assert_eq!(said.unwrap_or_default(), away, "{row}");
        let reasons: Vec<Reason> = pinned_away.into_iter().map(Reason::from).collect();
        assert!(plan.reasons.ends_with(&reasons), "{row}");
        // A guest that has its pins by hand is not called tuned.
        let again = answer.xml().map(|xml| host.decide("", xml));
        for plan in again.iter().map(|again| again.plan()).chain([plan]) {
            let tuned = plan
                .reasons
                .contains(&virtfit::types::reason::Outcome::TunedAlready.into());
            assert!(!tuned || kept.is_empty(), "{row}: {:?}", plan.reasons);
        }
        let line = virtfit::hook_events::lines::summary(plan, virtfit::hook_events::lines::Mood::Done);
        // A pin that costs its vCPU a CPU of its own is said with that alone.
        let said = |pin: &&&str| away.is_empty() || !pin.starts_with("vcpupin");
        for said in kept
            .iter()
            .filter(said)
            .chain((!away.is_empty()).then_some(&away))
        {
            assert!(line.contains(said), "{row}: {said} in {line}");
        }
    }
}

/// The guest sees that a disk discards blocks, when that is set and when it is taken out, and a
/// profile that keeps what the guest sees leaves it alone.
#[test]
fn discard_is_seen_by_the_guest() {
    let host = Asked::on("paper");
    let disk = &disk("vda", "");
    let unmap = "disk = { discard = \"unmap\" }\n";
    let seen = |plan: &Plan| -> Vec<bool> {
        let changes = plan.changes.iter();
        let target = Target::Disk("vda".into(), DiskAttribute::Discard);
        let discard = changes.filter(|change| change.target == target);
        discard.map(|change| change.target.is_guest_visible()).collect()
    };
    let set = host.decide(unmap, &guest(2, 1024, "", "", disk));
    assert_eq!(seen(set.plan()), [true], "set");
    let taken_out = host.decide("", set.xml().unwrap());
    assert_eq!(seen(taken_out.plan()), [true], "taken out");
    let keep = format!("guest_visible = \"keep\"\n{unmap}");
    let kept = host.decide(&keep, &guest(2, 1024, "", "", disk));
    assert!(seen(kept.plan()).is_empty(), "kept");
}

/// Queues are written at the first fit: a guest that has its shape keeps those it was started with,
/// and so does one that comes in from another host. A device that is gone takes its queues along.
#[test]
fn queues_are_decided_once() {
    let interface = "<interface type='bridge'>\n      <mac address='52:54:00:00:00:01'/>\n      <source bridge='br0'/>\n      \
                     <model type='virtio'/>\n    </interface>";
    let xml = guest(4, 4096, "", "", &format!("{}\n    {interface}", disk("vda", "")));
    let mut asked = Asked::on("paper");
    let given = |asked: &Asked, keys: &str, xml: &str| {
        let lines = asked.decide(keys, xml).lines();
        lines.iter().filter(|line| line.contains("queues")).count()
    };
    let first = "disk = { queues = 4 }\nnet = { queues = \"vcpus\" }";
    let later = "disk = { queues = 2 }\nnet = { queues = 2 }";
    assert_eq!(given(&asked, first, &xml), 2);
    let tuned = asked.decide(first, &xml).text().to_string();
    for scope in [Scope::Boot, Scope::Incoming] {
        asked.scope = scope;
        assert_eq!(given(&asked, later, &tuned), 0, "{scope:?}");
        let answer = asked.decide(later, &tuned);
        assert_eq!(answer.text().matches(" queues='4'").count(), 2, "{scope:?}");
    }
    assert_eq!(given(&asked, first, &xml), 0, "on the way in");
    // An interface that is gone takes its queues along.
    asked.scope = Scope::Boot;
    let start = tuned.find("<interface").unwrap();
    let end = tuned.find("</interface>").unwrap() + "</interface>".len();
    let without = format!("{}{}", &tuned[..start], &tuned[end..]);
    let left = asked.decide(later, &without);
    assert_eq!(left.text().matches(" queues='4'").count(), 1, "{}", left.text());
    assert!(!left.text().contains("interface/52:54"), "{}", left.text());
}

/// A reservation of a cache limits the guest to that cache; where it cannot, the plan says that it
/// does not hold.
#[test]
fn reserved_caches_place_the_guest() {
    let mut asked = Asked::on("paper");
    let tune = |vcpus: &str, id: u32| {
        format!(
            "<cachetune vcpus='{vcpus}'><cache id='{id}' level='3' type='both' size='4' unit='MiB'/></cachetune>"
        )
    };
    let lines = |asked: &Asked, keys: &str, tunes: &str| {
        let xml = guest(4, 4096, &format!("<cputune>{tunes}</cputune>"), "", "");
        asked.decide(keys, &xml).lines()
    };
    let all = |lines: &[String], text: &str| lines.iter().any(|line| line.contains(text));
    // Without ids nothing is known of the caches.
    let unknown = lines(&asked, "", &tune("0-3", 1));
    assert!(all(&unknown, "virtfit does not place by it"), "{unknown:?}");
    let caches = asked
        .host
        .nodes
        .iter()
        .map(|node| (node.id.get(), asked.host.cpus_of(node.id)));
    asked.host.cache_ids = caches.collect();
    let second = lines(&asked, "", &tune("0-3", 1).replace("level='3'", "level='2'"));
    assert!(all(&second, "virtfit does not place by it"), "{second:?}");
    // keys, tunes, nodes, what does not hold
    let memory = "<memorytune vcpus='0-3'><node id='1' bandwidth='60'/></memorytune>";
    let rows = [
        ("", tune("0-3", 1), "1", None),
        ("", tune("0-3", 0), "0", None),
        ("", format!("{}{memory}", tune("0-3", 1)), "1", None),
        ("", memory.to_string(), "1", None),
        (
            "on_existing = \"override\"",
            tune("0-3", 1),
            "0",
            Some("vCPUs 0-3 (id 1)"),
        ),
        // Not all vCPUs, two caches at once, no such cache: nothing to place by.
        ("", tune("0-1", 1), "0", Some("vCPUs 0-1 (id 1)")),
        (
            "",
            format!("{}{}", tune("0-1", 0), tune("2-3", 1)),
            "0",
            Some("vCPUs 2-3 (id 1)"),
        ),
        ("", tune("0-3", 7), "0", Some("vCPUs 0-3 (id 7)")),
    ];
    for (keys, tunes, node, elsewhere) in rows {
        let found = lines(&asked, keys, &tunes);
        assert!(
            all(&found, &format!("numatune/memory strict {node}")),
            "{tunes}: {found:?}"
        );
        let said = found.iter().find(|line| line.contains("does not hold"));
        assert_eq!(said.is_some(), elsewhere.is_some(), "{tunes}: {found:?}");
        assert!(
            elsewhere.is_none_or(|part| all(&found, part)),
            "{tunes}: {found:?}"
        );
    }
}

/// Several iothreads serve a disk only where libvirt and QEMU know that, and no more than it has
/// queues; what is written by hand stays.
#[test]
fn disks_get_several_iothreads_where_that_is_known() {
    let on = |libvirt: u32, qemu: u32| {
        let mut asked = Asked::on("paper").host_keys("housekeeping = \"0-3,16-19\"");
        asked.host.emulators = vec![virtfit::host::Emulator {
            path: "/usr/bin/qemu-system-x86_64".into(),
            qemu,
            libvirt,
            ..virtfit::host::Emulator::default()
        }];
        asked
    };
    let new = on(10_000_000, 9_000_000);
    let two = "iothreads = { per_disk = 2 }";
    let mapped = "<disk type='file' device='disk'><driver name='qemu' type='raw'><iothreads><iothread id='1'/>\
                  </iothreads></driver><source file='/x.raw'/><target dev='vda' bus='virtio'/></disk>";
    let bare =
        "<disk type='file' device='disk'><source file='/x.raw'/><target dev='vda' bus='virtio'/></disk>";
    let plain = disk("vda", "");
    // host, keys, vCPUs, disk, iothreads, line
    let rows: [(&Asked, &str, u32, &str, &str, &str); 10] = [
        (
            &new,
            two,
            4,
            &plain,
            "2",
            "set devices/disk[target/@dev='vda']/driver/iothreads 1,2",
        ),
        (
            &new,
            two,
            4,
            bare,
            "2",
            "set devices/disk[target/@dev='vda']/driver/iothreads 1,2",
        ),
        (
            &new,
            "",
            4,
            &plain,
            "1",
            "set devices/disk[target/@dev='vda']/driver/@iothread 1",
        ),
        // No more than queues, nor than iothreads.
        (
            &new,
            two,
            1,
            &plain,
            "1",
            "set devices/disk[target/@dev='vda']/driver/@iothread 1",
        ),
        (
            &new,
            two,
            4,
            &disk("vda", "queues='1'"),
            "1",
            "set devices/disk[target/@dev='vda']/driver/@iothread 1",
        ),
        (
            &new,
            "iothreads = { per_disk = 4, count = 3 }",
            8,
            &plain,
            "3",
            "set devices/disk[target/@dev='vda']/driver/iothreads 1,2,3",
        ),
        (
            &on(9_000_000, 9_000_000),
            two,
            4,
            &plain,
            "1",
            "not done iothreads of disk vda: libvirt, QEMU",
        ),
        (
            &on(10_000_000, 8_002_000),
            two,
            4,
            &plain,
            "1",
            "not done iothreads of disk vda: libvirt, QEMU",
        ),
        (
            &Asked::on("paper"),
            two,
            4,
            &plain,
            "1",
            "not done iothreads of disk vda: libvirt has not told",
        ),
        (&new, two, 4, mapped, "-", "kept vda iothread"),
    ];
    for (asked, keys, vcpus, device, count, line) in rows {
        let inner = if device == mapped {
            "<iothreads>1</iothreads>"
        } else {
            ""
        };
        let xml = guest(vcpus, 2048, inner, "", device);
        let answer = asked.decide(keys, &xml);
        let lines = answer.lines();
        assert!(
            lines.iter().any(|found| found.starts_with(line)),
            "{line}: {lines:?}"
        );
        let written = lines
            .iter()
            .find_map(|found| found.strip_prefix("set iothreads "));
        assert_eq!(written.unwrap_or("-"), count, "{line}: {lines:?}");
        let driver = answer.text().split("<driver").nth(1).unwrap();
        let driver = driver.split("</driver>").next().unwrap();
        let tag = driver.split('>').next().unwrap();
        assert!(
            !(tag.contains(" iothread='") && driver.contains("<iothread ")),
            "{driver}"
        );
        assert_eq!(answer.reverted(), xml);
    }
}

/// A device of a guest cell pulls that cell to its node; an expander bus without a cell is shown in
/// the cell that is where its devices are, and nothing else is.
#[test]
fn expander_buses_are_shown_where_their_devices_are() {
    let controllers = |node: &str| {
        format!(
            "<controller type='pci' index='0' model='pcie-root'/>\n    \
             <controller type='pci' index='1' model='pcie-expander-bus'>\n      <target busNr='254'>{node}</target>\n    \
             </controller>\n    <controller type='pci' index='2' model='pcie-root-port'>\n      \
             <address type='pci' domain='0' bus='0x01' slot='0' function='0'/>\n    </controller>\n    "
        )
    };
    let device = |bus: u32, acpi: &str| {
        format!(
            "<hostdev mode='subsystem' type='pci' managed='yes'>\n      <source><address domain='0' bus='0x3b' slot='0' \
             function='0'/></source>{acpi}\n      <address type='pci' domain='0' bus='{bus}' slot='0' function='0'/>\n    \
             </hostdev>"
        )
    };
    let cells = "<cpu><numa><cell id='0' cpus='0-1' memory='1' unit='GiB'/><cell id='1' cpus='2-3' memory='1' unit='GiB'/>\
                 </numa></cpu>";
    let asked = |on: u32, cell: Option<u32>| {
        let mut asked = Asked::on("paper").device(on);
        let cell = cell.map(virtfit::types::ids::CellId);
        asked.facts.device_cells.extend(cell.map(|cell| (0, cell)));
        asked
    };
    let written = |asked: &Asked, keys: &str, devices: &str| -> Option<String> {
        let xml = guest(4, 2048, "", cells, devices);
        let answer = asked.decide(keys, &xml);
        assert_eq!(answer.reverted(), xml);
        let mut lines = answer.lines().into_iter();
        let found = lines.find(|line| line.contains("/target/node"));
        found.and_then(|line| line.rsplit(' ').next().map(str::to_string))
    };
    let below = |node: &str, bus: u32| format!("{}{}", controllers(node), device(bus, ""));
    // Cell 0 goes to node 0 and cell 1 to node 1.
    assert_eq!(written(&asked(0, None), "", &below("", 2)).as_deref(), Some("0"));
    assert_eq!(written(&asked(1, None), "", &below("", 2)).as_deref(), Some("1"));
    assert_eq!(
        written(&asked(1, None), "", &below("<node>0</node>", 2)),
        None,
        "by hand"
    );
    assert_eq!(written(&asked(1, None), "", &below("", 0)), None, "not below it");
    assert_eq!(
        written(&asked(1, None), "guest_visible = \"keep\"", &below("", 2)),
        None
    );
    assert_eq!(written(&asked(1, None).incoming(), "", &below("", 2)), None);
    // The cell follows its device: cell 0 is shown the device on node 1.
    let domain =
        virtfit::domain::parse::from_text(&guest(4, 2048, "", cells, &below("<node>0</node>", 2))).unwrap();
    assert_eq!(domain.device_cells.get(&0).map(|cell| cell.0), Some(0));
    let acpi = device(0, "<acpi nodeset='1'/>");
    let domain = virtfit::domain::parse::from_text(&guest(4, 2048, "", cells, &acpi)).unwrap();
    assert_eq!(domain.device_cells.get(&0).map(|cell| cell.0), Some(1));
    for (cell, node) in [(0, "1"), (1, "0")] {
        let xml = guest(4, 2048, "", cells, &below(&format!("<node>{cell}</node>"), 2));
        let lines = asked(1, Some(cell)).decide("", &xml).lines();
        let memory = format!("set numatune/memnode[@cellid='0'] strict {node}");
        assert!(lines.contains(&memory), "{cell}: {lines:?}");
    }
}
