//! Worked examples of `docs/placement.md`, section 3: one for each criterion of the order of
//! preference.

use super::asked::{Answer, Asked, guest, synthetic};
use virtfit::host::{Node, PagePool};
use virtfit::types::ids::{KiB, NodeId};

/// Question about a guest of so many vCPUs with 2 GiB.
fn ask(asked: &Asked, keys: &str, vcpus: u32) -> Answer {
    asked.decide(keys, &guest(vcpus, 2048, "", "", ""))
}

#[test]
fn claims_of_definitions_on_autostart_come_first() {
    let node_0 = "1-7,17-23";
    let near = || Asked::on("paper").device(0);
    ask(&near().claimed(node_0, true), "", 4).expect("autostart", &["pins 9 25 10 26"]);
    ask(&near().claimed(node_0, false), "", 4).expect("not autostart", &["pins 1 17 2 18"]);
}

#[test]
fn few_nodes_come_before_devices() {
    let both = Asked::on("paper").device(0).device(1);
    ask(&both, "max_nodes = 2", 8).expect("nodes", &["nodes 0", "pins 1 17 2 18 3 19 4 20"]);
}

#[test]
fn devices_come_before_kinds_and_threads() {
    let far = Asked::on("paper").device(1);
    ask(&far, "", 4).expect("devices", &["pins 9 25 10 26"]);
    let broken = Asked::on("paper").device(0).held("17-23");
    ask(&broken, "", 4).expect("before threads", &["pins 1 2 3 4"]);
}

#[test]
fn fast_cores_come_before_claims() {
    // CPUs 0 to 15 are threads of eight fast cores, 16 to 23 are slow cores.
    let claimed = Asked::on("hybrid").claimed("0-15", false);
    ask(&claimed, "", 4).expect("fast", &["pins 0 1 2 3", "!because"]);
    let held = Asked::on("hybrid").held("0-13");
    ask(&held, "", 4).expect(
        "slow",
        &[
            "pins 17 18 19 20",
            "because it is on slow cores: too few fast ones are free for it",
        ],
    );
}

#[test]
fn a_shape_that_can_be_shown_comes_before_few_caches() {
    // Four cores a cache; ten cores need three caches, or mirror five.
    let many = ask(&Asked::on("amd-ccd"), "", 20);
    many.expect("two on each", &["topology 1 5 2 2"]);
    // Five cores would need five caches, more than twice as many as they need.
    ask(&Asked::on("amd-ccd"), "", 10).expect("not scattered", &["topology 5 1 1 2"]);
}

#[test]
fn threads_come_before_pages() {
    let broken = Asked::on("paper").held("17-23");
    ask(&broken, "", 4).expect("threads", &["pins 9 25 10 26"]);
    let paged = |asked: Asked| asked.pages(1, KiB(1 << 20), 4);
    ask(&paged(Asked::on("paper")), "", 4).expect("pages", &["pins 9 25 10 26", "page 1048576"]);
    let broken = paged(Asked::on("paper").held("25-31"));
    ask(&broken, "", 4).expect("threads before pages", &["pins 1 17 2 18", "page 2048"]);
}

#[test]
fn nodes_with_memory_come_before_those_without() {
    let mut asked = Asked::on("paper");
    asked.host.nodes[0].memory = KiB(0);
    asked.host.nodes[0].pools.clear();
    ask(&asked, "", 4).expect("beside its memory", &["pins 9 25 10 26"]);
    // Whole cores come before a short way to the memory.
    let narrow = asked.held("9-15");
    ask(&narrow, "", 4).expect("on whole cores", &["pins 1 17 2 18"]);
}

#[test]
fn memory_without_cpus_is_not_taken_unnamed() {
    let mut asked = Asked::on("paper");
    let cxl = NodeId(2);
    asked.host.guest_nodes = None;
    for (node, far) in asked.host.nodes.iter_mut().zip([14, 24]) {
        node.distances.insert(cxl, far);
    }
    asked.host.nodes.push(Node {
        id: cxl,
        memory: KiB(64 << 20),
        pools: vec![PagePool {
            size: KiB(2048),
            total: 8192,
            free: 8192,
        }],
        distances: [(0, 14), (1, 24), (2, 10)]
            .map(|(to, far)| (NodeId(to), far))
            .into(),
    });
    let cells = |second: u64| {
        let cpu = format!(
            "<cpu><numa><cell id='0' cpus='0-3' memory='1048576' unit='KiB'/>\
             <cell id='1' memory='{second}' unit='KiB'/></numa></cpu>"
        );
        guest(4, (1 << 10) + second / 1024, "", &cpu, "")
    };
    let cell_1 = |node: u32, kib: u64| format!("cell 1 vcpus  memory {kib} node {node}");
    // It shares a node while that has the memory; then it is on the other node, though CXL is
    // nearer.
    for (gib, node) in [(4u64, 0), (12, 1), (13, 2)] {
        let answer = asked.decide("", &cells(gib << 20));
        answer.expect(&format!("{gib} GiB"), &["page 2048", &cell_1(node, gib << 20)]);
    }
}

#[test]
fn nodes_get_equally_many_vcpus() {
    let even = ask(&Asked::on("paper"), "", 20);
    even.expect(
        "even",
        &["cell 0 vcpus 0-9 memory 1048576 node 0", "topology 2 1 5 2"],
    );
    // Five cores cannot be halved, and too few cores are free for a vCPU each.
    let held = Asked::on("paper").held("5-7,13-15,21-23,29-31");
    let odd = ask(&held, "max_nodes = 2", 10);
    odd.expect("odd", &["pins 1 17 2 18 3 19 9 25 10 26"]);
}

#[test]
fn nodes_are_near_each_other() {
    // Nodes 0 and 1, 2 and 3 are 12 apart, others 21. Node 0 has half its cores.
    let near = ask(&Asked::on("snc-offline"), "", 10);
    near.expect("near", &["nodes 2 3"]);
}

#[test]
fn caches_are_few_even_and_large() {
    let claimed = Asked::on("amd-ccd").claimed("4,36,8,40,12,44,16,48,20,52,24,56,28,60", false);
    ask(&claimed, "", 8).expect("few", &["pins 4 36 5 37 6 38 7 39"]);
    let even = ask(&Asked::on("amd-ccd"), "", 10);
    even.expect("even", &["pins 2 34 3 35 4 36 5 37 6 38"]);
    let mut large = Asked::on("amd-ccd");
    large.host.llcs[5].size = KiB(32 << 10);
    ask(&large, "", 8).expect("large", &["pins 20 52 21 53 22 54 23 55"]);
}

#[test]
fn what_comes_after_the_caches() {
    let claimed = Asked::on("paper").claimed("1,17,2,18", false);
    ask(&claimed, "", 4).expect("claims", &["pins 3 19 4 20"]);
    let broken = || Asked::on("paper").held("1-2");
    ask(&broken(), "", 3).expect("siblings", &["pins 3 17 18"]);
    let spread = "strategy = \"spread\"";
    ask(&broken().host_keys(spread), "", 3).expect("spread", &["pins 9 10 11"]);
    let other = || Asked::on("paper").held("9,25,10,26");
    ask(&other(), "", 4).expect("left", &["pins 11 27 12 28"]);
    ask(&other().host_keys(spread), "", 4).expect("left, spread", &["pins 1 17 2 18"]);
    ask(&Asked::on("paper"), "", 4).expect("numbers", &["pins 1 17 2 18"]);
}

#[test]
fn kinds_of_core_are_those_of_the_profile() {
    for (keys, held, vcpus, wanted) in [
        ("core_kind = \"fast\"", "", 4, &["pins 0 1 2 3", "!because"][..]),
        ("core_kind = \"slow\"", "", 4, &["pins 17 18 19 20", "!because"]),
        ("core_kind = \"any\"", "0-13", 4, &["pins 14 17 18 19"]),
        (
            "core_kind = \"fast\"",
            "0-13",
            4,
            &["because too few fast cores are free for it (core_kind = fast)"],
        ),
        (
            "core_kind = \"slow\"",
            "",
            8,
            &["because too few slow cores are free for it (core_kind = slow)"],
        ),
        (
            "",
            "0-13",
            8,
            &["because it would fit fast and slow cores together (core_kind = any)"],
        ),
    ] {
        let hybrid = Asked::on("hybrid");
        let asked = if held.is_empty() {
            hybrid
        } else {
            hybrid.held(held)
        };
        ask(&asked, keys, vcpus).expect(keys, wanted);
    }
    // Where all cores are of one kind there is nothing to choose.
    ask(&Asked::on("paper"), "core_kind = \"slow\"", 4).expect("one kind", &["pins 1 17 2 18"]);
}

#[test]
fn sockets_are_no_more_than_the_guest_can_use() {
    let four = || Asked::of(synthetic("pack:4 [numa(memory=34359738368)] l3:1 core:4 pu:2"));
    for (id, keys, topology) in [
        ("", "", "topology 4 1 3 2"),
        ("http://debian.org/debian/12", "", "topology 4 1 3 2"),
        ("http://microsoft.com/win/11", "", "topology 1 4 3 2"),
        ("http://microsoft.com/win/2k", "", "topology 1 4 3 2"),
        ("http://microsoft.com/win/2k22", "", "topology 4 1 3 2"),
        (
            "http://microsoft.com/win/11",
            "max_sockets = 4",
            "topology 4 1 3 2",
        ),
        ("", "max_sockets = 1", "topology 1 4 3 2"),
    ] {
        let note = format!(
            "<metadata><o:libosinfo xmlns:o='http://libosinfo.org/xmlns/libvirt/domain/1.0'>\
             <o:os id='{id}'/></o:libosinfo></metadata>"
        );
        let answer = four().decide(keys, &guest(24, 2048, &note, "", ""));
        answer.expect(&format!("{id} {keys}"), &[topology]);
        // It has its sockets: a smaller number later takes neither them nor its place.
        let later = four().decide("max_sockets = 1", answer.text());
        later.expect(&format!("{id} {keys}, later"), &[topology]);
    }
}
