//! Memory that an administrator bound: it is counted where it is bound, wherever the vCPUs are.

use virtfit::types::ids::{KiB, NodeId};
use virtfit::types::setting::Target;

use super::asked::{Asked, guest, pins};

const CELLS: &str = "<cpu><numa><cell id='0' cpus='0-1' memory='1048576' unit='KiB'/>\
                     <cell id='1' cpus='2-3' memory='2097152' unit='KiB'/></numa></cpu>";

/// Makes the paper's host with so many free 2 MiB pages, and small memory in MiB, on each node.
fn host(pages: [u64; 2], small_mib: [u64; 2]) -> Asked {
    let mut asked = Asked::on("paper").host_keys("reserved_memory = \"0\"");
    for (node, (pages, mib)) in asked.host.nodes.iter_mut().zip(pages.into_iter().zip(small_mib)) {
        for pool in node.pools.iter_mut().filter(|pool| pool.size == KiB(2048)) {
            pool.total = pages;
            pool.free = pages;
        }
        node.memory = KiB((pages * 2 + mib) * 1024);
    }
    asked
}

fn bound(mode: &str, memory: &str, cells: &[&str]) -> String {
    let memory = match memory {
        "" => String::new(),
        nodes => format!("<memory mode='{mode}' nodeset='{nodes}'/>"),
    };
    let cells: String = cells
        .iter()
        .enumerate()
        .map(|(cell, nodes)| format!("<memnode cellid='{cell}' mode='{mode}' nodeset='{nodes}'/>"))
        .collect();
    format!("<numatune>{memory}{cells}</numatune>")
}

#[test]
fn pages_and_memory_are_counted_where_they_are_bound() {
    const ON_0: &str = "2 3 4 5";
    const APART: &str = "because vCPUs 0-3 run on node 0, and your numatune binds the memory to node 1";
    // pins, binding, cells, 2 MiB pages and small MiB of the nodes, lines
    type Row<'r> = (&'r str, String, &'r str, [u64; 2], [u64; 2], &'r [&'r str]);
    let rows: [Row; 14] = [
        // Without cells, by hand on the other node.
        (
            ON_0,
            bound("strict", "1", &[]),
            "",
            [6144, 1024],
            [4096, 4096],
            &[
                "page none",
                APART,
                "not done huge pages: 1536 of 2 MiB needed, 1024 free on node 1",
            ],
        ),
        (
            ON_0,
            bound("strict", "1", &[]),
            "",
            [0, 1536],
            [4096, 4096],
            &["page 2048", APART],
        ),
        (
            ON_0,
            bound("preferred", "1", &[]),
            "",
            [6144, 1024],
            [4096, 100],
            &["page none", APART],
        ),
        // Strict small pages that are not there are no fit, whatever is free elsewhere.
        (
            ON_0,
            bound("strict", "1", &[]),
            "",
            [6144, 1024],
            [4096, 1024],
            &[
                "because needs 3 GiB of memory on node 1, as its XML binds it; 2 MiB pages: 2 GiB free on node 1; small pages: 1 GiB free on node 1",
            ],
        ),
        // Over two nodes, memory counts together.
        (
            "",
            bound("strict", "0-1", &[]),
            "",
            [768, 768],
            [100, 100],
            &["page 2048", "pins 1 17 2 18", "!because"],
        ),
        (
            "",
            bound("strict", "0-1", &[]),
            "",
            [768, 767],
            [2000, 2000],
            &["page none", "pins 1 17 2 18", "!because"],
        ),
        (
            "",
            bound("interleave", "0-1", &[]),
            "",
            [0, 1536],
            [0, 0],
            &["page 2048"],
        ),
        // Cell by cell.
        (
            "",
            bound("strict", "", &["1", "0"]),
            CELLS,
            [1024, 512],
            [100, 100],
            &[
                "page 2048",
                "pins 9 25 1 17",
                "cell 0 vcpus 0-1 memory 1048576 node 1",
                "!because",
            ],
        ),
        (
            "",
            bound("strict", "", &["1", "0"]),
            CELLS,
            [512, 1024],
            [4096, 4096],
            &[
                "page none",
                "not done huge pages: 1024 of 2 MiB needed, 512 free on node 0",
            ],
        ),
        (
            "1 2 9 10",
            bound("strict", "", &["1", "0"]),
            CELLS,
            [1024, 512],
            [100, 100],
            &[
                "page 2048",
                "cell 0 vcpus 0-1 memory 1048576 node 1",
                "because vCPUs 0-1 run on node 0, and your numatune binds the memory to node 1",
                "because vCPUs 2-3 run on node 1, and your numatune binds the memory to node 0",
            ],
        ),
        // Two cells on one node take from it together.
        (
            "1 2 3 4",
            bound("strict", "", &["0", "0"]),
            CELLS,
            [1536, 0],
            [100, 100],
            &["page 2048", "!because vCPU"],
        ),
        (
            "1 2 3 4",
            bound("strict", "", &["0", "0"]),
            CELLS,
            [1535, 4096],
            [4096, 4096],
            &["page none"],
        ),
        // A cell that is not bound counts nowhere.
        (
            "1 2 9 10",
            bound("strict", "", &["0"]),
            CELLS,
            [512, 4096],
            [100, 100],
            &["page 2048", "!because vCPU"],
        ),
        // numad chooses.
        (
            "",
            "<numatune><memory mode='strict' placement='auto'/></numatune>".into(),
            "",
            [2048, 2048],
            [100, 100],
            &["page 2048", "!because"],
        ),
    ];
    for (number, (list, inner, cpu, pages, small, wanted)) in rows.iter().enumerate() {
        let asked = host(*pages, *small);
        let xml = guest(4, 3072, &format!("{}{inner}", pins(list)), cpu, "");
        let answer = asked.decide("on_no_fit = \"run-untuned\"", &xml);
        answer.expect(&format!("row {number}: {inner} {list}"), wanted);
        assert!(answer.text().contains(inner), "row {number}");
        assert_eq!(answer.reverted(), xml, "row {number}");
    }
}

/// Memory on a node without CPUs: the vCPUs are on the nearest node that has some.
#[test]
fn memory_without_cpus_has_them_near() {
    let with_cxl = || {
        let mut asked = host([2048, 2048], [4096, 4096]);
        let mut far = asked.host.nodes[1].clone();
        far.id = NodeId(2);
        far.distances = [(NodeId(0), 28), (NodeId(1), 14), (NodeId(2), 10)].into();
        for (node, distance) in asked.host.nodes.iter_mut().zip([28, 14]) {
            node.distances.insert(NodeId(2), distance);
        }
        asked.host.nodes.push(far);
        asked.host.guest_nodes = None;
        asked
    };
    let rows: [(&str, String, &str, &[&str]); 4] = [
        (
            "",
            bound("strict", "2", &[]),
            "",
            &[
                "pins 9 25 10 26",
                "nodes 1",
                "page 2048",
                "cell 0 vcpus 0-3 memory 3145728 node 2",
                "!because",
            ],
        ),
        (
            "1 2 3 4",
            bound("strict", "2", &[]),
            "",
            &["because vCPUs 0-3 run on node 0, and your numatune binds the memory to node 2"],
        ),
        (
            "",
            bound("strict", "", &["2", "0"]),
            CELLS,
            &[
                "pins 9 25 1 17",
                "cell 0 vcpus 0-1 memory 1048576 node 2",
                "!because",
            ],
        ),
        (
            "",
            bound("strict", "0,2", &[]),
            "",
            &[
                "pins 1 17 2 18",
                "cell 0 vcpus 0-3 memory 3145728 node none",
                "!because",
            ],
        ),
    ];
    for (list, inner, cpu, wanted) in rows {
        let xml = guest(4, 3072, &format!("{}{inner}", pins(list)), cpu, "");
        with_cxl().decide("", &xml).expect(&inner, wanted);
    }
}

/// The reason against a page size is the first cause, with its numbers.
#[test]
fn reasons_against_pages_are_true() {
    let device = "<memory model='virtio-mem'><target><size unit='GiB'>4</size><node>0</node>\
                  <block unit='MiB'>2</block><requested unit='GiB'>1</requested></target></memory>";
    let cell = "<cpu><numa><cell id='0' cpus='0-3' memory='2097152' unit='KiB'/></numa></cpu>";
    let both = |gib: u64| {
        let mut asked = Asked::on("amd-ccd");
        asked.host.hugetlbfs.push(KiB::GIB);
        for pool in asked.host.nodes.iter_mut().flat_map(|node| &mut node.pools) {
            if pool.size == KiB::GIB {
                (pool.total, pool.free) = (gib, gib);
            }
        }
        asked
    };
    // memory in MiB, 1 GiB pages, CPU, devices, the reason of the page size
    let rows = [
        (4096, 16, "", "", "the largest mounted"),
        (
            4096,
            3,
            "",
            "",
            "the largest that fits; 4 of 1 GiB needed, 3 free on node 0",
        ),
        (
            4098,
            16,
            "",
            "",
            "the largest that fits; 4098 MiB is not a whole number of 1 GiB pages",
        ),
        (
            2048,
            16,
            cell,
            device,
            "the largest that fits; a memory device's blocks of 2 MiB rule 1 GiB pages out",
        ),
    ];
    for (mib, gib, cpu, devices, expected) in rows {
        let answer = both(gib).decide("", &guest(4, mib, "", cpu, devices));
        let changes = &answer.plan().changes;
        let pages = changes.iter().find(|change| change.target == Target::Hugepages);
        assert_eq!(pages.unwrap().why.to_string(), expected, "{mib} MiB");
    }
    let fixed = both(16).decide("hugepages = \"2M\"", &guest(4, 4096, "", "", ""));
    let mut changes = fixed.plan().changes.iter();
    let pages = changes.find(|change| change.target == Target::Hugepages);
    assert_eq!(pages.unwrap().why.to_string(), "profile");
}
