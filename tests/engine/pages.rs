//! Huge pages that other definitions ask for: they are left to them while there is a place without.

use virtfit::types::ids::KiB;

use super::asked::{Asked, guest};

/// Claim on node 0: pages, autostart, written by virtfit.
type Claimed = (u64, bool, bool);

const NO_PAGES: &str = "hugepages = \"off\"";
const HERE: &str = "max_nodes = 1";
const BY_HAND: &str = "<memoryBacking><hugepages/></memoryBacking>";

/// Makes a host with one node, 1024 pages of 2 MiB and so much small memory.
fn host(claimed: &[Claimed], small_mib: u64) -> Asked {
    let mut asked = Asked::on("paper").host_keys("reserved_memory = \"0\"");
    for (number, node) in asked.host.nodes.iter_mut().enumerate() {
        let pages = if number == 0 { 1024 } else { 0 };
        for pool in node.pools.iter_mut().filter(|pool| pool.size == KiB(2048)) {
            pool.total = pages;
            pool.free = pages;
        }
        let mib = if number == 0 { small_mib } else { 0 };
        node.memory = KiB((pages * 2 + mib) * 1024);
    }
    for (pages, autostart, own) in claimed {
        asked = asked.pages_claimed(0, KiB(2048), *pages, *autostart, *own);
    }
    asked
}

#[test]
fn pages_are_left_to_definitions_that_ask_for_them() {
    const CONTESTED: &str =
        "because too few 2 MiB pages are there for it and other definitions (pages0 asks for 1026 MiB)";
    // claims, small MiB, keys, XML beside, autostart, lines; the guest needs 512 pages
    type Row<'r> = (&'r [Claimed], u64, &'r str, &'r str, bool, &'r [&'r str]);
    let rows: &[Row<'_>] = &[
        // What is left is enough.
        (
            &[(512, false, true)],
            4096,
            "",
            "",
            false,
            &["page 2048", "!because"],
        ),
        // One page less is not: ordinary memory instead, beside pages of virtfit or not, and why.
        (
            &[(513, false, true)],
            4096,
            "",
            "",
            false,
            &[
                "page none",
                "not done huge pages: 512 of 2 MiB needed, 511 left on node 0 beside those that other definitions ask for \
                 (pages0 asks for 1026 MiB)",
            ],
        ),
        (&[(513, false, false)], 4096, "", "", false, &["page none"]),
        (
            &[(100, false, true), (413, true, true)],
            4096,
            "",
            "",
            false,
            &["page none"],
        ),
        // A definition that gives way takes nothing from a guest on autostart; all others do.
        (
            &[(513, false, true)],
            4096,
            "",
            "",
            true,
            &["page 2048", "!because"],
        ),
        (&[(513, true, true)], 4096, "", "", true, &["page none"]),
        (&[(513, false, false)], 4096, "", "", true, &["page none"]),
        // A definition that this host cannot start takes nothing from others.
        (
            &[(1025, false, false)],
            4096,
            "",
            "",
            false,
            &["page 2048", "!because"],
        ),
        // Without a place in ordinary memory the guest asks for the same pages.
        (
            &[(513, false, true)],
            100,
            "",
            "",
            false,
            &["page 2048", CONTESTED],
        ),
        (
            &[(513, false, true)],
            4096,
            "hugepages = \"2M\"",
            "",
            false,
            &["page 2048", CONTESTED],
        ),
        (
            &[(513, false, true)],
            4096,
            "hugepages = \"2M\"\non_no_fit = \"refuse\"",
            "",
            false,
            &["page 2048", CONTESTED],
        ),
        // Pages that an administrator wrote stay.
        (
            &[(513, false, true)],
            4096,
            "",
            BY_HAND,
            false,
            &["page 2048", CONTESTED],
        ),
        (
            &[(2000, false, true)],
            4096,
            NO_PAGES,
            "",
            false,
            &["page none", "!because"],
        ),
    ];
    for (claimed, small, keys, inner, autostart, lines) in rows {
        let mut asked = host(claimed, *small);
        asked.facts.autostart = *autostart;
        let xml = guest(4, 1024, inner, "", "");
        let row = format!("{claimed:?} {small} {keys} {inner} {autostart}");
        asked.decide(&format!("{HERE}\n{keys}"), &xml).expect(&row, lines);
    }
}

/// Definitions that claim more than there is: one gives way, the next finds enough.
#[test]
fn a_definition_gives_its_pages_back_while_others_ask_for_them() {
    let xml = guest(4, 1024, "", "", "");
    let tuned = host(&[], 4096).decide(HERE, &xml);
    tuned.expect("alone", &["page 2048"]);
    let text = tuned.text();
    let short = host(&[(513, false, true)], 4096).decide(HERE, text);
    short.expect("short", &["page none", "set memoryBacking/hugepages nothing"]);
    // Its CPUs stay, and it gets the pages back when the others are gone.
    let pins = |lines: Vec<String>| lines.into_iter().find(|line| line.starts_with("pins "));
    assert_eq!(pins(short.lines()), pins(tuned.lines()));
    let again = host(&[(512, false, true)], 4096).decide(HERE, short.text());
    again.expect("again", &["page 2048"]);
    assert_eq!(again.text(), text);
}

/// While a guest runs, no claim takes away the pages it has.
#[test]
fn a_running_guest_keeps_its_pages_whatever_is_claimed() {
    let xml = guest(4, 1024, "", "", "");
    let tuned = host(&[], 4096).decide(HERE, &xml);
    let asked = host(&[(1000, true, false)], 4096).running(512);
    let answer = asked.decide(HERE, tuned.text());
    answer.expect("running", &["unchanged", "page 2048"]);
}
