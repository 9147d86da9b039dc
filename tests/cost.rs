//! Cost of a guest's XML: time and memory grow no faster than its length, whatever it contains, and
//! one guest's file never costs another guest's start more than a moment.
//!
//! Each family of hostile texts is made with `n` and with `4 n` pieces and processed as hook,
//! daemon and commands do. Time is the thread's own CPU time, so other work on the machine does not
//! count; memory is the most that was allocated at once. `VIRTFIT_COST_PIECES` makes the texts
//! longer (`make fuzz`). Time is what counts: the tests are in optimised builds alone (`make test`
//! makes one).
#![cfg(not(debug_assertions))]
#![allow(clippy::unwrap_used, clippy::print_stdout, unreachable_pub)]

#[path = "cost/families.rs"]
mod families;
#[path = "cost/meter.rs"]
mod meter;

use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use families::FAMILIES;
use meter::{Cost, measured};
use virtfit::engine::Question;
use virtfit::hostfs::HostFs;
use virtfit::ledger::claims::Written;
use virtfit::ledger::live_pins::Records;
use virtfit::ledger::status;
use virtfit::live::plan;
use virtfit::policy::Files;
use virtfit::rewrite;
use virtfit::snapshot::{Snapshot, Sources};
use virtfit::types::ids::KiB;
use virtfit::types::plan::Scope;
use virtfit::xml::Document;
use virtfit::xml::tree::MAX_BYTES;

/// Largest growth with four times as much text: linear cost takes 4 times as long, quadratic 16.
const GROWTH: u32 = 9;
/// Times and amounts below these say nothing about growth.
const SHORT: Duration = Duration::from_millis(40);
const SMALL: usize = 2 << 20;

fn pieces() -> usize {
    std::env::var("VIRTFIT_COST_PIECES").map_or(1000, |text| text.parse().unwrap())
}

fn view(policy: &str) -> Snapshot {
    let hosts = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts");
    let place = Sources {
        root: HostFs::new(hosts.join("paper")),
        ..Sources::default()
    };
    let mut view = Snapshot::read(&place, SystemTime::now()).unwrap();
    view.policy = Arc::new(Files::text("policy.toml", policy).policy().unwrap());
    view
}

fn running(domain: &str) -> String {
    format!(
        "<domstatus state='running' reason='booted' pid='9'>\n<vcpus><vcpu id='0' pid='7'/></vcpus>\n{domain}\n</domstatus>\n"
    )
}

/// Reads all that another guest's start reads of this one: its definition and its status file.
fn beside_it(text: &str) {
    let _ = Written::parse(text, KiB(2048));
    let _ = status::parse(&running(text), KiB(2048), &Records::default());
}

/// Does all that is ever worked out for the guest.
fn worked_out(text: &str, views: &[Snapshot]) {
    beside_it(text);
    if let Ok(document) = Document::parse(text) {
        let _ = rewrite::revert(&document);
        let _ = rewrite::request(&document, Some("fit"));
    }
    for view in views {
        for scope in [Scope::Boot, Scope::Incoming] {
            let _ = view.decide(text, Question::of(scope));
        }
        let case = plan::Case {
            status: &running(text),
            reservations: &[],
            follows: true,
            pinned: &Records::default(),
        };
        let _ = plan::plan(case, view);
    }
}

#[test]
fn four_times_the_text_costs_four_times_as_much() {
    let views = [
        view("[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n"),
        view(
            "[profile.all]\ninherits = \"isolated\"\non_existing = \"override\"\n\n[[rule]]\nmatch = { name = \"*\" }\nprofile = \"all\"\n",
        ),
    ];
    let mut slow = Vec::new();
    for (name, family) in FAMILIES {
        let grown = |n: usize| {
            let text = family(n);
            (text.len(), measured(|| worked_out(&text, &views)))
        };
        let too_much = |one: Cost, four: Cost| {
            four.time > SHORT.max(one.time) * GROWTH || four.memory > SMALL.max(one.memory) * GROWTH as usize
        };
        let (short, mut one) = grown(pieces());
        let (long, mut four) = grown(4 * pieces());
        println!("{name}: {short} bytes {one}, {long} bytes {four}");
        // The machine may do much else: measure once more, and take the smaller of both counts.
        if too_much(one, four) {
            one = one.least(grown(pieces()).1);
            four = four.least(grown(4 * pieces()).1);
        }
        if too_much(one, four) {
            slow.push(format!("{name}: {short} bytes cost {one}, {long} bytes {four}"));
        }
    }
    assert!(slow.is_empty(), "{}", slow.join("\n"));
}

#[test]
fn another_guests_file_costs_a_start_no_more_than_a_moment() {
    // The hook has 0.9 s, and one machine is twice as fast as another.
    let most = Duration::from_millis(400);
    for (name, family) in FAMILIES {
        let mut text = family(MAX_BYTES / family(1_000).len() * 1_000);
        while text.len() > virtfit::ledger::reader::unread::MAX_BYTES as usize {
            let fewer = text.len() / 2;
            text = family(fewer / (family(1_000).len() / 1_000 + 1));
        }
        let mut cost = measured(|| beside_it(&text));
        if cost.time >= most {
            cost = cost.least(measured(|| beside_it(&text)));
        }
        println!("{name}: {} bytes {cost}", text.len());
        assert!(cost.time < most, "{name}: {} bytes cost {cost}", text.len());
    }
}
