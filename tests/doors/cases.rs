//! Starts: what each is promised, vetoed and told, by the cases of `docs/design.md` section 2.

use std::cell::Cell;
use std::fs;
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use virtfit::engine::Question;
use virtfit::hook_events::Source;
use virtfit::hook_events::start::Place;
use virtfit::ledger::store::Store;
use virtfit::snapshot::{Snapshot, SnapshotError};
use virtfit::types::ids::{KiB, VcpuId};
use virtfit::types::plan::Scope;

use crate::host::{DAEMON, Fresh, Host, NOW, POLICY, TOPOLOGY, cpus, domain, pinned, uuid};

/// Returns the XML as the daemon would define it.
fn tuned(host: &Host, xml: &str) -> String {
    let view = host.view(NOW);
    match view.decide(xml, Question::of(Scope::Boot)).unwrap() {
        virtfit::engine::Decision::Tuned { xml, .. } => xml,
        other => panic!("not tuned: {other:?}"),
    }
}

/// Lets another guest hold these CPUs.
fn held(host: &Host, name: &str, list: &str) {
    let each: Vec<String> = cpus(list).iter().map(|cpu| cpu.to_string()).collect();
    let each: Vec<&str> = each.iter().map(String::as_str).collect();
    host.runs(name, &pinned(name, &each));
}

#[test]
fn a_its_own_pins_are_free() {
    let host = Host::new();
    let xml = tuned(&host, &domain("run-db", 2, ""));
    let got = host.hook("run-db", "prepare", &xml);
    assert_eq!(
        (got.answer.exit, got.moved, got.answer.stdout.as_str()),
        (0, false, "")
    );
    assert_eq!(got.reserved, Some(cpus("2-3")));
    let reservation = host.reservation("run-db").unwrap();
    assert_eq!(reservation.cpus, cpus("2-3"));
    assert_eq!((reservation.pid, reservation.start_time), DAEMON);
    assert_eq!(
        (reservation.boot_id.as_str(), reservation.written_at),
        ("b0", NOW)
    );
    assert_eq!((reservation.tentative_until, reservation.pins), (None, None));
    // Another guest goes elsewhere now.
    let other = tuned(&host, &domain("run-b", 2, ""));
    host.hook("run-b", "prepare", &other);
    assert_eq!(host.promised("run-b").unwrap(), "4-5");
    // A second call changes nothing.
    assert_eq!(host.hook("run-db", "prepare", &xml).reserved, Some(cpus("2-3")));
    assert_eq!(host.reading(NOW).reservations.len(), 2);
}

#[test]
fn b_pins_absent_or_taken() {
    let host = Host::new();
    let bare = domain("run-db", 2, "");
    let xml = tuned(&host, &bare);
    let got = host.hook("run-db", "prepare", &bare);
    assert_eq!(
        (got.answer.exit, got.moved, got.reserved),
        (0, true, Some(cpus("2-3")))
    );
    assert!(got.answer.stdout.contains("<vcpupin vcpu='0' cpuset='2'/>"));
    let pins = host.reservation("run-db").unwrap().pins.unwrap();
    assert_eq!(pins.vcpus[&VcpuId(1)], cpus("3"));
    assert_eq!(pins.emulator, cpus("0-1"));
    host.hook("run-db", "release", &bare);
    held(&host, "other", "3");
    let got = host.hook("run-db", "prepare", &xml);
    assert_eq!((got.answer.exit, got.moved), (0, true));
    let reserved = got.reserved.unwrap();
    assert!(
        reserved.len() == 2 && reserved.is_disjoint(&cpus("0-1,3,8-9")),
        "{reserved}"
    );
}

/// A copy of a definition starts while the guest it was copied from does not run.
#[test]
fn a_copied_record_gives_no_right_to_its_pins() {
    let host = Host::new();
    let template = tuned(&host, &domain("run-db", 2, ""));
    host.write("etc/libvirt/qemu/run-db.xml", &template);
    let own = format!("<uuid>{}</uuid>", uuid("run-db"));
    let of_copy = |name: &str| {
        let own_uuid = format!("<uuid>{}</uuid>", uuid(name));
        template
            .replace(&own, &own_uuid)
            .replace(">run-db<", &format!(">{name}<"))
    };
    for (name, exit) in [("run-copy", 0), ("refuse-copy", 0), ("shared-copy", 0)] {
        let got = host.hook(name, "prepare", &of_copy(name));
        assert_eq!((got.answer.exit, got.vetoed), (exit, false), "{name}: {got:?}");
        let pins = host.reservation(name).unwrap().pins.unwrap();
        let taken = pins.vcpus.values().filter(|pin| !pin.is_disjoint(&cpus("2-3")));
        assert!(taken.clone().all(|pin| pin.len() > 1), "{name}: {pins:?}");
        assert!(host.promised(name).is_none_or(|cpus| cpus != "2-3"), "{name}");
        host.hook(name, "release", &of_copy(name));
    }
    // The guest itself starts on its own CPUs beside the copy.
    host.hook("run-copy", "prepare", &of_copy("run-copy"));
    assert_eq!(host.promised("run-copy").unwrap(), "4-5");
    let got = host.hook("run-db", "prepare", &template);
    assert_eq!((got.moved, got.reserved), (false, Some(cpus("2-3"))));
    // Under refuse the copy does not even begin on CPUs that run.
    host.hook("run-db", "release", &template);
    held(&host, "other", "2-3");
    let got = host.hook("refuse-copy", "prepare", &of_copy("refuse-copy"));
    assert_eq!(got.answer.exit, 3, "{got:?}");
}

#[test]
fn a_refusing_guest_is_told_where_it_goes() {
    let host = Host::new();
    let xml = tuned(&host, &domain("refuse-db", 2, ""));
    // Absent pins alone never veto.
    let got = host.hook("refuse-db", "prepare", &domain("refuse-db", 2, ""));
    assert_eq!((got.answer.exit, got.moved), (0, true));
    held(&host, "other", "3");
    for (daemon, expected) in [
        (
            true,
            "virtfit: refuse-db's CPU 3 is held by other; moved to CPUs 4-5, start it again",
        ),
        (
            false,
            "virtfit: refuse-db's CPU 3 is held by other; CPUs 4-5 are free: virtfit apply refuse-db, then start it again",
        ),
    ] {
        let got = host.hook_at("refuse-db", "prepare", &xml, NOW, daemon);
        assert_eq!((got.answer.exit, got.vetoed, got.reserved), (3, true, None));
        assert_eq!(got.answer.stderr, [expected]);
        assert_eq!(got.answer.stdout, "");
        assert_eq!(host.reservation("refuse-db"), None);
    }
    // No room anywhere: the reason, with names.
    held(&host, "big", "2,4-7,10-15");
    let got = host.hook("refuse-db", "prepare", &domain("refuse-db", 2, ""));
    assert_eq!(got.answer.exit, 3);
    assert!(
        got.answer.stderr[0].starts_with("virtfit: refuse-db needs 2 free CPUs")
            && got.answer.stderr[0].contains("other")
            && got.answer.stderr[0].contains("big"),
        "{:?}",
        got.answer.stderr
    );
}

#[test]
fn c_nothing_fits() {
    for name in ["run-db", "untuned-db"] {
        let host = Host::new();
        let xml = tuned(&host, &domain(name, 2, ""));
        let first = cpus("2-3");
        host.hook(name, "prepare", &xml);
        assert_eq!(host.reservation(name).unwrap().cpus, first);
        held(&host, "big", "2-7,10-15");
        for xml in [&xml, &domain(name, 2, "")] {
            let got = host.hook(name, "prepare", xml);
            assert_eq!(
                (got.answer.exit, got.reserved, got.moved),
                (0, None, false),
                "{name}"
            );
            // The CPUs it floats on may be noted; it holds none of them. To run untuned, only a
            // guest that virtfit pinned has to be moved.
            let noted = host.reservation(name);
            let pinned = xml.contains("vcpupin");
            assert_eq!(noted.is_some(), name == "run-db" || pinned, "{name}");
            let pins = noted.iter().filter_map(|noted| noted.pins.as_ref());
            let mut masks = pins.flat_map(|pins| pins.vcpus.values());
            assert!(masks.all(|mask| mask.is_subset(&cpus("0-1,8-9"))), "{noted:?}");
            if name == "untuned-db" {
                let line = got.told.as_ref().unwrap().line(name, false);
                let floats = line.contains("without a place of its own, floats on CPUs 0-1");
                assert_eq!(floats, pinned, "{line}");
                let view = host.view(NOW);
                let decision = view.decide(xml, Question::of(Scope::Boot)).unwrap();
                let said = decision.plan().reasons_line();
                assert_eq!(
                    said.contains("it floats without the pins that virtfit wrote"),
                    pinned,
                    "{said}"
                );
            }
            let held = noted.map(|noted| noted.holder()).unwrap_or_default();
            assert_eq!((held.pins, held.memory), (Vec::new(), Vec::new()), "{name}");
        }
    }
}

#[test]
fn pins_by_hand_are_kept_and_never_given_twice() {
    let host = Host::new();
    held(&host, "other", "3");
    let got = host.hook("run-db", "prepare", &pinned("run-db", &["3", "4"]));
    assert_eq!((got.answer.exit, got.reserved), (0, Some(cpus("4"))));
    let got = host.hook("refuse-db", "prepare", &pinned("refuse-db", &["3", "5"]));
    assert_eq!((got.answer.exit, got.reserved), (3, None));
    assert!(got.answer.stderr[0].contains("other"), "{:?}", got.answer.stderr);
}

#[test]
fn a_wide_mask_by_hand_is_promised_what_it_holds_once_it_runs() {
    let iothread = "  <iothreads>2</iothreads>\n  <cputune>\n    <iothreadpin iothread='1' cpuset='1-14'/>\n  </cputune>\n";
    // name, XML, promised while run-a holds 2-3; the dedicated set is 2-7 and 10-15
    let rows = [
        ("local-a", pinned("local-a", &["1-14"]), None),
        ("local-a", pinned("local-a", &["0-15"]), None),
        ("local-a", pinned("local-a", &["1-14", "1-14"]), None),
        ("local-a", pinned("local-a", &["4-5", "4-5"]), Some("4-5")),
        ("local-a", pinned("local-a", &["1", "6"]), Some("6")),
        ("local-a", pinned("local-a", &["2", "6"]), Some("6")),
        ("local-a", domain("local-a", 2, iothread), None),
        ("shared-a", pinned("shared-a", &["1-14"]), None),
        ("other-a", pinned("other-a", &["1-14"]), None),
        // A profile that gives CPUs: the mask counts, but never what another guest holds, nor where
        // it covers all.
        ("run-b", pinned("run-b", &["4-14"]), Some("4-7,10-14")),
        ("run-b", pinned("run-b", &["1-14"]), Some("4-7,10-14")),
        ("run-b", pinned("run-b", &["0-15"]), None),
    ];
    for (name, xml, promised) in rows {
        let host = Host::new();
        let first = tuned(&host, &domain("run-a", 2, ""));
        assert_eq!(host.hook("run-a", "prepare", &first).reserved, Some(cpus("2-3")));
        let got = host.hook(name, "prepare", &xml);
        assert_eq!(got.answer.exit, 0, "{name} {xml}");
        assert_eq!(host.promised(name).as_deref(), promised, "{name} {xml}");
        // While it runs it holds the same: a guest that refuses gets the others.
        let last = domain("refuse-a", 2, "");
        host.runs(name, &xml);
        let refused = host.hook("refuse-a", "prepare", &last).vetoed;
        assert_eq!(refused, name == "run-b" && promised.is_some(), "{name} {xml}");
    }
}

#[test]
fn an_empty_slot_holds_a_cpu_only_where_the_profile_gives_one() {
    // name, promised of pins on 4, 5, 6, 7 with one vCPU of four plugged in; then with two
    for (name, one, two) in [
        ("other-a", "4", "4-5"),
        ("local-a", "4", "4-5"),
        ("shared-a", "4", "4-5"),
        ("run-a", "4-7", "4-7"),
    ] {
        let host = Host::new();
        let slots = |now: u32| {
            let most = pinned(name, &["4", "5", "6", "7"]);
            most.replace("<vcpu>4<", &format!("<vcpu current='{now}'>4<"))
        };
        host.hook(name, "prepare", &slots(1));
        assert_eq!(host.promised(name).as_deref(), Some(one), "{name}");
        // While it runs it holds the same; a vCPU that is plugged in holds its CPU from then on.
        host.hook(name, "release", &slots(1));
        for (now, held) in [(1, one), (2, two)] {
            host.runs(name, &slots(now));
            let view = host.view(NOW);
            let holder = &view.reading.ledger.holders[0];
            let taken = virtfit::ledger::taken::held(holder, &view.host, &view.sets.dedicated, true);
            assert_eq!(taken.to_string(), held, "{name} {now}");
        }
    }
}

#[test]
fn pins_by_hand_that_the_profile_replaces_are_not_promised() {
    let emulator =
        "  <cputune>\n    <vcpupin vcpu='0' cpuset='2'/>\n    <emulatorpin cpuset='3-7'/>\n  </cputune>\n";
    // keys of the profile beside on_existing, XML, promised, pinned live
    for (keys, xml, promised, moved) in [
        ("", pinned("over-a", &["2-7,10-14"]), Some("2"), true),
        ("", pinned("over-a", &["5"]), Some("2"), true),
        ("", pinned("over-a", &["2"]), Some("2"), false),
        ("", domain("over-a", 1, emulator), Some("2"), true),
        ("cpus = \"shared\"\n", pinned("over-a", &["2", "3"]), None, true),
        (
            "cpus = \"shared\"\n",
            domain("over-a", 2, "").replace("<vcpu>", "<vcpu cpuset='4-5'>"),
            None,
            true,
        ),
        (
            "cpus = \"keep\"\n",
            pinned("over-a", &["2", "3"]),
            Some("2-3"),
            false,
        ),
        // Without a place it floats.
        ("smt = \"isolate\"\n", pinned("over-a", &["2"; 12]), None, true),
    ] {
        let host = Host::new();
        let rule = "[[rule]]\nmatch = { name = \"over-*\" }\nprofile = \"over\"\n";
        let profile = format!("[profile.over]\non_existing = \"override\"\n{keys}");
        host.write("etc/virtfit/policy.toml", &format!("{POLICY}{rule}{profile}"));
        let got = host.hook("over-a", "prepare", &xml);
        assert_eq!(got.answer.exit, 0, "{keys} {xml}");
        let reservation = host.reservation("over-a");
        let pins = reservation.and_then(|reservation| reservation.pins);
        assert_eq!(host.promised("over-a").as_deref(), promised, "{keys} {xml}");
        assert_eq!(pins.is_some(), moved, "{keys} {xml}");
    }
}

#[test]
fn a_guest_without_the_vcpus_that_are_dedicated_floats() {
    for (vcpus, promised) in [(4, None), (6, Some("2,4"))] {
        let host = Host::new();
        let rule = "[[rule]]\nmatch = { name = \"mixed-*\" }\nprofile = \"mixed\"\n[profile.mixed]\n\
                    cpus = \"mixed\"\ndedicated_vcpus = \"4-7\"\non_no_fit = \"refuse\"\n";
        host.write("etc/virtfit/policy.toml", &format!("{POLICY}{rule}"));
        let xml = domain("mixed-a", vcpus, "");
        let view = host.view(NOW);
        let plan = view
            .decide(&xml, Question::of(Scope::Boot))
            .unwrap()
            .plan()
            .clone();
        assert!(
            plan.placement.is_some_and(|place| place.fits),
            "{:?}",
            plan.reasons
        );
        let got = host.hook("mixed-a", "prepare", &xml);
        assert_eq!(got.answer.exit, 0, "{got:?}");
        assert_eq!(host.promised("mixed-a").as_deref(), promised);
        // Nor does a wide mask hold anything where no vCPU is dedicated.
        host.hook(
            "mixed-b",
            "prepare",
            &domain(
                "mixed-b",
                vcpus,
                "  <cputune>\n    <emulatorpin cpuset='5-7'/>\n  </cputune>\n",
            ),
        );
        let wide = host.promised("mixed-b");
        assert_eq!(wide.is_some(), vcpus == 6, "{wide:?}");
        // Slots that float leave none that is dedicated.
        let floats = format!("{POLICY}{rule}hotplug = \"float\"\n");
        host.write("etc/virtfit/policy.toml", &floats);
        let slots = domain("mixed-c", 6, "").replace("<vcpu>", "<vcpu current='4'>");
        let decision = host.view(NOW).decide(&slots, Question::of(Scope::Boot)).unwrap();
        let plan = decision.plan();
        let fits = plan.placement.as_ref().is_some_and(|place| place.fits);
        assert!(fits, "{:?}", plan.reasons);
    }
}

#[test]
fn no_housekeeping_cpu_is_withheld_beside_a_pin_by_hand() {
    let host = Host::new();
    let policy = format!("[host]\nhousekeeping = \"0-1\"\nshare_cores = false\n{POLICY}");
    host.write("etc/virtfit/policy.toml", &policy);
    for name in ["run-a", "local-a"] {
        // vCPU 0 is on housekeeping, vCPU 1 beside a CPU that can be withheld.
        host.hook(name, "prepare", &pinned(name, &["1", "4"]));
        let promised = host.reservation(name).unwrap();
        let withheld = promised.withheld.clone();
        assert!(withheld.is_subset(&cpus("5")), "{name} {withheld}");
        assert_eq!(promised.cpus, cpus("4"), "{name}");
        host.hook(name, "release", &domain(name, 1, ""));
    }
}

#[test]
fn guests_no_rule_matches_are_never_vetoed_and_hold_their_pins() {
    let host = Host::new();
    held(&host, "other", "3");
    // name, pins, promised
    for (name, pins, expected) in [
        ("free", &["4", "5"][..], Some("4-5")),
        ("taken", &["3", "6"], Some("6")),
        ("pair", &["10-11", "10-11"], Some("10-11")),
        ("wide", &["12-14", "12-14"], None),
        ("floats", &["0-15", "0-15"], None),
        ("housekeeping", &["0", "8"], None),
        ("nowhere", &["99", "100"], None),
    ] {
        let got = host.hook(name, "prepare", &pinned(name, pins));
        assert_eq!(got.answer.exit, 0, "{name}");
        assert_eq!(got.answer.stdout, "", "{name}");
        assert_eq!(host.promised(name).as_deref(), expected, "{name}");
    }
    let refuse = "<request xmlns='https://virtfit.dev/ns/request/1' profile='off'/>";
    let xml = domain("refuse-x", 40, &format!("  <metadata>{refuse}</metadata>\n"));
    assert_eq!(host.hook("refuse-x", "prepare", &xml).answer.exit, 0);
}

#[test]
fn a_record_exempts_no_thread_from_being_confined() {
    let host = Host::new();
    let record = "  <metadata><v:fit xmlns:v='https://virtfit.dev/ns/domain/1' version='1' profile='fit' policy='0' \
                  on-no-fit='run-shared' threads='1'><v:set at='emulatorpin' wrote='0'/></v:fit></metadata>\n  \
                  <cputune><emulatorpin cpuset='0'/></cputune>\n";
    let xml = domain("nobody", 2, record);
    for (confines, floating) in [(false, 0), (true, 2)] {
        if confines {
            host.write("etc/virtfit/policy.d/9.toml", "[host]\nunmanaged = \"confine\"\n");
        }
        assert_eq!(host.hook("nobody", "prepare", &xml).answer.exit, 0);
        let promised = host.reservation("nobody").and_then(|promised| promised.pins);
        let vcpus = promised.unwrap_or_default().vcpus;
        assert_eq!(vcpus.len(), floating, "{vcpus:?}");
        assert!(vcpus.values().all(|mask| mask.len() > 1), "{vcpus:?}");
    }
}

#[test]
fn leftover_pins_of_what_comes_in_reserve_no_cpu() {
    for operation in ["prepare", "migrate", "restore"] {
        let host = Host::new();
        let of_rule = tuned(&host, &domain("run-db", 2, ""));
        assert!(host.hook("run-db", operation, &of_rule).reserved.is_some());
        host.hook("run-db", "release", &of_rule);
        let leftover = of_rule
            .replace("run-db", "nobody")
            .replace(&uuid("run-db"), &uuid("nobody"));
        let got = host.hook("nobody", operation, &leftover);
        assert_eq!(got.answer.exit, 0);
        assert_eq!(host.promised("nobody"), None, "{operation}");
        // An administrator's pin beside them is reserved as before.
        let by_hand = leftover.replace("</cputune>", "<iothreadpin iothread='1' cpuset='5'/></cputune>");
        let by_hand = by_hand.replace("</vcpu>", "</vcpu>\n  <iothreads>1</iothreads>");
        host.hook("nobody", operation, &by_hand);
        assert_eq!(host.promised("nobody").as_deref(), Some("5"), "{operation}");
    }
}

#[test]
fn strict_memory_binds_the_cpus_to_its_nodes() {
    let host = Host::new();
    let xml = tuned(&host, &domain("strict-db", 2, ""));
    assert!(xml.contains("mode='strict' nodeset='0'"), "{xml}");
    // There is room on its node.
    held(&host, "other", "2-3");
    assert_eq!(
        host.hook("strict-db", "prepare", &xml).reserved,
        Some(cpus("4-5"))
    );
    // Only the other node has room, which this XML excludes: its memory is on node 0.
    held(&host, "more", "4-7");
    let got = host.hook("strict-db", "prepare", &xml);
    assert_eq!((got.answer.exit, got.reserved), (0, None));
    // Memory that only prefers its node may go elsewhere.
    let soft = domain("run-db", 2, "");
    let soft = {
        for name in ["other", "more"] {
            host.stopped(name);
        }
        let soft = tuned(&host, &soft);
        held(&host, "other", "2-3");
        held(&host, "more", "4-7");
        soft
    };
    assert!(soft.contains("mode='preferred' nodeset='0'"), "{soft}");
    assert_eq!(
        host.hook("run-db", "prepare", &soft).reserved,
        Some(cpus("10-11"))
    );
    host.hook("run-db", "release", &soft);
    // A refused guest is told its CPUs after the next definition.
    let other = xml
        .replace("strict-db", "strictly-db")
        .replace(&uuid("strict-db"), &uuid("strictly-db"));
    let got = host.hook_at("strictly-db", "prepare", &other, NOW, true);
    assert_eq!(
        got.answer.stderr,
        ["virtfit: strictly-db's CPUs 2-3 are held by other; moved to CPUs 10-11, start it again"]
    );
}

#[test]
fn strict_memory_binds_cell_by_cell() {
    let host = Host::new();
    let cells = "  <cpu mode='host-passthrough'><numa><cell id='0' cpus='0-3' memory='32' unit='MiB'/>\
                 <cell id='1' cpus='4-5' memory='32' unit='MiB'/></numa></cpu>\n";
    let xml = tuned(&host, &domain("strict-db", 6, cells));
    for id in [0, 1] {
        let bound = format!("<memnode cellid='{id}' mode='strict' nodeset='{id}'/>");
        assert!(xml.contains(&bound), "{xml}");
    }
    // Both nodes have room: each cell goes to its own.
    held(&host, "other", "2,10");
    let got = host.hook("strict-db", "prepare", &xml);
    assert_eq!(got.reserved.map(|cpus| cpus.len()), Some(6));
    let pins = host.reservation("strict-db").unwrap().pins.unwrap().vcpus;
    let node_1 = cpus("10-15");
    for (vcpu, pin) in &pins {
        assert_eq!(pin.is_subset(&node_1), vcpu.0 > 3, "{pins:?}");
    }
    // It would fit with the nodes exchanged, which its memory rules out.
    held(&host, "other", "2-4");
    let got = host.hook("strict-db", "prepare", &xml);
    assert_eq!((got.answer.exit, got.reserved), (0, None));
    let again = tuned(&host, &domain("strict-db", 6, cells));
    assert!(
        again.contains("<memnode cellid='0' mode='strict' nodeset='1'/>"),
        "{again}"
    );
}

#[test]
fn withheld_siblings_are_promised_too() {
    let host = Host::new();
    let xml = tuned(&host, &domain("iso-db", 2, ""));
    assert_eq!(host.hook("iso-db", "prepare", &xml).reserved, Some(cpus("2,4")));
    assert_eq!(host.reservation("iso-db").unwrap().withheld, cpus("3,5"));
    let got = host.hook("run-b", "prepare", &domain("run-b", 2, ""));
    assert_eq!(got.reserved, Some(cpus("6-7")));
    // A held sibling is as bad as a held CPU.
    host.hook("iso-db", "release", &xml);
    held(&host, "other", "5");
    let got = host.hook("iso-db", "prepare", &xml);
    assert_eq!(got.answer.exit, 3);
    assert!(
        got.answer.stderr[0].starts_with("virtfit: iso-db's CPU 5 is held by other; "),
        "{:?}",
        got.answer.stderr
    );
}

#[test]
fn pins_this_host_no_longer_has() {
    let host = Host::new();
    let xml = tuned(&host, &domain("refuse-db", 2, ""));
    host.write(
        "etc/virtfit/policy.d/9.toml",
        "[host]\ndedicated = \"4-7\"\nhousekeeping = \"0-3\"\n",
    );
    let got = host.hook("refuse-db", "prepare", &xml);
    assert_eq!(
        (got.answer.exit, got.moved, got.reserved),
        (0, true, Some(cpus("4-5")))
    );
}

#[test]
fn pins_to_cpus_that_are_not_there_are_said() {
    let host = Host::new();
    let xml = tuned(&host, &domain("run-db", 2, ""))
        .replace("'3'", "'40'")
        .replace("\"3\"", "\"40\"");
    let said = host.run("run-db", "prepare", &xml).stderr;
    let line = "run-db: libvirt cannot start it: its XML pins it to CPU 40, which is offline or not for guests: \
                virtfit apply run-db";
    assert!(said.contains(line), "{said}");
    host.write("etc/libvirt/qemu/run-db.xml", &xml);
    let mut status = Command::new(env!("CARGO_BIN_EXE_virtfit"));
    status.arg("--root").arg(host.path());
    status.args(["--topology", TOPOLOGY, "status", "run-db", "--json"]);
    let shown: serde_json::Value = serde_json::from_slice(&status.output().unwrap().stdout).unwrap();
    let note = &shown["guests"][0]["notes"][0];
    assert_eq!((&note["code"], &note["wrong"]), (&"apply".into(), &true.into()));
    assert_eq!(
        note["text"],
        "apply, or libvirt cannot start it: its XML pins it to CPU 40, which is offline or not for guests: virtfit apply run-db"
    );
}

#[test]
fn pages_that_are_gone_are_said() {
    let host = Host::paper();
    host.write(
        "etc/virtfit/policy.d/9.toml",
        "[profile.fit]\nhugepages = \"any\"\n[host]\nstrategy = \"pack\"\n",
    );
    let xml = tuned(&host, &domain("run-db", 1, ""));
    assert!(xml.contains("<hugepages>"), "{xml}");
    host.write("etc/libvirt/qemu/run-db.xml", &xml);
    let status = || {
        let mut status = Command::new(env!("CARGO_BIN_EXE_virtfit"));
        status.arg("--root").arg(host.path());
        let out = status.args(["status", "run-db", "--json"]).output().unwrap();
        let shown: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        shown["guests"][0]["notes"][0].clone()
    };
    assert_ne!(status()["wrong"], serde_json::Value::Bool(true), "{}", status());
    for node in [0, 1] {
        for size in ["2048kB", "1048576kB"] {
            let pool = format!("sys/devices/system/node/node{node}/hugepages/hugepages-{size}");
            host.write(&format!("{pool}/nr_hugepages"), "0\n");
            host.write(&format!("{pool}/free_hugepages"), "0\n");
        }
    }
    let note = status();
    assert_eq!((&note["code"], &note["wrong"]), (&"apply".into(), &true.into()));
    assert_eq!(
        note["text"],
        "apply, or libvirt cannot start it: too few of the huge pages that its XML asks for are free: virtfit apply run-db"
    );
}

#[test]
fn huge_pages_are_promised_once() {
    let host = Host::paper();
    host.write(
        "etc/virtfit/policy.d/9.toml",
        "[profile.fit]\nhugepages = \"2M\"\nmemory_mode = \"strict\"\n[host]\nstrategy = \"pack\"\n",
    );
    let big = |name: &str| domain(name, 1, "").replace("<memory unit='MiB'>64", "<memory unit='GiB'>8");
    let first = tuned(&host, &big("refuse-a"));
    assert!(
        first.contains("nodeset='0'") && first.contains("<hugepages>"),
        "{first}"
    );
    host.hook("refuse-a", "prepare", &first);
    let reservation = host.reservation("refuse-a").unwrap();
    assert_eq!(reservation.memory.len(), 1);
    assert_eq!(reservation.memory[0].kib, KiB(8 << 20));
    assert_eq!(reservation.memory[0].page_kib, Some(KiB(2048)));
    // Its XML has the same pages and other CPUs: QEMU would fail, so the reason is given.
    let second = first
        .replace("refuse-a", "refuse-b")
        .replace(&uuid("refuse-a"), &uuid("refuse-b"))
        .replace("<vcpupin vcpu='0' cpuset='1'/>", "<vcpupin vcpu='0' cpuset='5'/>");
    assert_ne!(
        first.matches("cpuset='5'").count(),
        second.matches("cpuset='5'").count()
    );
    host.hook("filler", "prepare", &{
        let filler = big("filler").replace("<memory unit='GiB'>8", "<memory unit='GiB'>10");
        filler.replace(
            "  <vcpu>",
            "  <memoryBacking><hugepages/></memoryBacking>\n  <numatune><memory mode='strict' nodeset='1'/></numatune>\n  <vcpu>",
        )
    });
    let got = host.hook("refuse-b", "prepare", &second);
    assert_eq!(got.answer.exit, 3, "{:?}", got.answer.stderr);
    assert!(got.answer.stderr[0].contains("pages"), "{:?}", got.answer.stderr);
}

#[test]
fn what_comes_in_is_promised_for_half_a_minute() {
    let host = Host::new();
    for operation in ["migrate", "restore"] {
        let got = host.hook("run-db", operation, &domain("run-db", 2, ""));
        // It was started with a socket for each vCPU, so each has a core: 2 and 3 are one.
        assert_eq!((got.answer.exit, got.reserved), (0, Some(cpus("2,4"))));
        let reservation = host.reservation("run-db").unwrap();
        assert_eq!(reservation.tentative_until, Some(NOW + 30));
        assert_eq!(host.reading(NOW + 29).reservations.len(), 1);
        // The reservation's time is over, or the clock was set back.
        assert_eq!(host.reading(NOW + 30).reservations.len(), 0);
        assert_eq!(host.reading(NOW - 3600).reservations.len(), 0);
        // `prepare` makes it firm, on the same CPUs.
        let got = host.hook("run-db", "prepare", &got.answer.stdout);
        assert_eq!((got.moved, got.reserved), (false, Some(cpus("2,4"))));
        assert_eq!(host.reservation("run-db").unwrap().tentative_until, None);
        for later in [NOW + 9999, NOW - 9999] {
            assert_eq!(host.reading(later).reservations.len(), 1);
        }
        host.hook("run-db", "release", &domain("run-db", 2, ""));
    }
    // A guest with its placement is passed through silently, and still gets a reservation.
    let xml = host
        .hook("run-db", "migrate", &domain("run-db", 2, ""))
        .answer
        .stdout;
    let got = host.hook("run-db", "migrate", &xml);
    assert_eq!(
        (got.answer.stdout.as_str(), got.reserved),
        ("", Some(cpus("2,4")))
    );
    let got = host.hook("nobody", "migrate", &pinned("nobody", &["3", "4"]));
    assert_eq!((got.answer.stdout.as_str(), got.reserved), ("", Some(cpus("3"))));
}

#[test]
fn released_by_uuid_or_name_and_as_often_as_it_likes() {
    let host = Host::new();
    for xml in [domain("run-db", 2, ""), "not XML".to_string(), String::new()] {
        host.hook("run-db", "prepare", &domain("run-db", 2, ""));
        host.hook("run-other", "prepare", &domain("run-other", 2, ""));
        assert_eq!(host.reading(NOW).reservations.len(), 2);
        for _ in 0..2 {
            let got = host.hook("run-db", "release", &xml);
            assert_eq!((got.answer.exit, got.answer.stderr.len()), (0, 0));
            assert_eq!(host.reservation("run-db"), None, "{xml:?}");
        }
        assert!(host.reservation("run-other").is_some());
    }
    // The same holds with a policy that cannot be read.
    host.write("etc/virtfit/policy.toml", "broken");
    host.hook("run-other", "release", &domain("run-other", 2, ""));
    assert_eq!(host.reading(NOW).reservations.len(), 0);
}

#[test]
fn a_restarted_libvirt_adopts() {
    let host = Host::new();
    let xml = domain("run-db", 2, "");
    host.hook("run-db", "prepare", &xml);
    let before = host.reservation("run-db").unwrap();
    // libvirtd dies between prepare and its status file: void.
    fs::remove_dir_all(host.path().join("proc/77")).unwrap();
    assert_eq!(host.reading(NOW).reservations.len(), 0);
    // The guest runs: the reservation is not void, and belongs to the new daemon from now on.
    host.runs("run-db", &xml);
    assert_eq!(host.reading(NOW).reservations.len(), 1);
    host.daemon(DAEMON.0, 99);
    let got = host.hook("run-db", "reconnect", &xml);
    assert_eq!((got.answer.exit, got.answer.stdout.as_str()), (0, ""));
    let after = host.reservation("run-db").unwrap();
    assert_eq!(after.start_time, 99);
    assert_eq!((after.cpus, after.pins), (before.cpus, before.pins));
    // No reservation, no XML, another boot: nothing, and never a failure.
    for (name, xml) in [("nobody", &xml[..0]), ("run-db", "not XML")] {
        assert_eq!(host.hook(name, "reconnect", xml).answer.exit, 0);
    }
    host.write("proc/sys/kernel/random/boot_id", "b1\n");
    host.daemon(DAEMON.0, 123);
    host.hook("run-db", "reconnect", &xml);
    assert_eq!(host.reservation("run-db").unwrap().start_time, 99);
}

#[test]
fn observing_writes_and_vetoes_nothing() {
    let host = Host::new();
    host.write("etc/virtfit/policy.d/9.toml", "[host]\nmode = \"observe\"\n");
    for operation in ["prepare", "migrate", "restore"] {
        for vcpus in [2, 40] {
            let xml = domain("refuse-db", vcpus, "");
            let got = host.hook("refuse-db", operation, &xml);
            assert_eq!((got.answer.exit, got.answer.stdout.as_str()), (0, ""));
            assert_eq!(got.answer.stderr, Vec::<String>::new());
        }
    }
    assert!(!host.path().join("run").exists());
}

#[test]
fn a_truncated_status_file_falls_back_to_the_promise() {
    let host = Host::new();
    let xml = tuned(&host, &domain("run-db", 2, ""));
    host.hook("run-db", "prepare", &xml);
    host.runs("run-db", &xml);
    let path = host.path().join("run/libvirt/qemu/run-db.xml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    // The release works even if libvirt was restarted in between.
    fs::remove_dir_all(host.path().join("proc/77")).unwrap();
    host.daemon(DAEMON.0, 6);
    let got = host.hook("run-b", "prepare", &domain("run-b", 2, ""));
    assert_eq!(got.reserved, Some(cpus("4-5")));
}

/// Source that is one start behind: another guest starts right after it was read.
struct Behind<'a> {
    host: &'a Host,
    quicker: Vec<(&'static str, String)>,
    asked: Cell<usize>,
}

impl Source for Behind<'_> {
    fn current(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        let asked = self.asked.replace(self.asked.get() + 1);
        let fresh = Fresh {
            place: self.host.place(),
            now: NOW,
        };
        let view = fresh.current();
        if asked == 0 {
            for (name, xml) in &self.quicker {
                assert_eq!(self.host.hook(name, "prepare", xml).answer.exit, 0);
            }
        } else {
            // The lock is held from the second decision on: no guest can be quicker any more.
            let store = Store::new(&self.host.place().root);
            assert!(store.lock(Instant::now() + Duration::from_millis(5)).is_err());
        }
        view
    }
}

#[test]
fn who_is_late_decides_again() {
    // name, vCPUs of the quicker guests, exit, promised, number of decisions
    for (name, quicker, exit, promised, asked) in [
        ("run-db", vec![2], 0, Some("4-5"), 2),
        ("run-db", vec![2, 2, 2], 0, Some("10-11"), 2),
        ("refuse-db", vec![6, 6], 3, None, 2),
        ("run-db", vec![6, 6], 0, None, 2),
        ("run-db", vec![], 0, Some("2-3"), 1),
    ] {
        let host = Host::new();
        let names = ["refuse-q1", "refuse-q2", "refuse-q3"];
        let behind = Behind {
            host: &host,
            quicker: names
                .into_iter()
                .zip(&quicker)
                .map(|(name, vcpus)| (name, domain(name, *vcpus, "")))
                .collect(),
            asked: Cell::new(0),
        };
        let xml = domain(name, 2, "");
        let got = host.hook_from(&behind, name, "prepare", &xml, NOW, false);
        assert_eq!(got.answer.exit, exit, "{name} {quicker:?}: {:?}", got.answer);
        assert_eq!(host.promised(name).as_deref(), promised, "{name} {quicker:?}");
        assert_eq!(behind.asked.get(), asked, "{name} {quicker:?}");
    }
}

#[test]
fn a_guest_that_nobody_announced_is_noticed() {
    let host = Host::new();
    struct Unannounced<'a>(&'a Host, Cell<bool>);
    impl Source for Unannounced<'_> {
        fn current(&self) -> Result<Arc<Snapshot>, SnapshotError> {
            let view = Arc::new(self.0.view(NOW));
            if !self.1.replace(true) {
                held(self.0, "other", "2-3");
            }
            Ok(view)
        }
    }
    let source = Unannounced(&host, Cell::new(false));
    let got = host.hook_from(&source, "run-db", "prepare", &domain("run-db", 2, ""), NOW, false);
    assert_eq!(got.reserved, Some(cpus("4-5")));
}

#[test]
fn guests_that_may_be_anywhere_do_not_wait_for_each_other() {
    let host = Host::new();
    for name in ["shared-a", "nobody"] {
        let got = host.hook(name, "prepare", &domain(name, 2, ""));
        assert_eq!((got.answer.exit, got.reserved, got.moved), (0, None, false));
    }
    assert!(!host.path().join("run/virtfit/lock").exists());
}

#[test]
fn a_refused_restore_leaves_what_the_guest_was_promised() {
    let xml = domain("iso-db", 1, "");
    let renamed = |name: &str| xml.replace("<name>iso-db<", &format!("<name>{name}<"));
    for operation in ["restore", "migrate"] {
        // libvirt calls the hook before it says that the guest is active already: by the name in
        // the image, or by the name in the XML.
        for (called, name) in [
            ("iso-db", "iso-db"),
            ("iso-db", "iso-web"),
            ("iso-web", "iso-web"),
            ("iso-db", "web"),
            ("web", "web"),
            ("web", "run-web"),
        ] {
            for runs in [false, true] {
                let host = Host::new();
                assert_eq!(host.hook("iso-db", "prepare", &xml).answer.exit, 0);
                let before = host.reservation("iso-db").unwrap();
                assert!(!before.withheld.is_empty());
                if runs {
                    host.runs("iso-db", &xml);
                }
                let got = host.hook(called, operation, &renamed(name));
                assert_eq!(
                    (got.answer.exit, got.reserved),
                    (0, None),
                    "{operation} {called} {name}"
                );
                let after = host.reservation("iso-db").unwrap();
                assert_eq!(after, before, "{operation} {called} {name}");
            }
        }
    }
    // A guest that comes in under two names is promised nothing before its start.
    let host = Host::new();
    assert_eq!(host.hook("iso-db", "restore", &renamed("iso-web")).reserved, None);
    assert!(host.reservation("iso-db").is_none());
    // That it came in before, tentatively, is no obstacle.
    assert!(host.hook("iso-db", "restore", &xml).reserved.is_some());
    assert!(host.hook("iso-db", "restore", &xml).reserved.is_some());
    assert!(host.hook("iso-db", "prepare", &xml).reserved.is_some());
}

#[test]
fn a_restore_that_comes_during_a_start_leaves_its_promise() {
    struct Starts<'a>(&'a Host, &'a str);
    impl Source for Starts<'_> {
        fn current(&self) -> Result<Arc<Snapshot>, SnapshotError> {
            let view = Arc::new(self.0.view(NOW));
            self.0.hook("run-db", "prepare", self.1);
            Ok(view)
        }
    }
    let host = Host::new();
    let xml = domain("run-db", 2, "");
    let copy = domain("run-db", 4, "");
    let got = host.hook_from(&Starts(&host, &xml), "run-db", "restore", &copy, NOW, false);
    assert_eq!(got.reserved, None);
    let after = host.reservation("run-db").unwrap();
    assert_eq!((after.cpus.len(), after.tentative_until), (2, None));
}

/// Goes through profiles, pins and what others hold: the line on a start says one thing, which is
/// what was done.
#[test]
fn each_start_is_one_statement() {
    let full = "2-7,10-15";
    let mut seen = std::collections::BTreeSet::new();
    for (observe, name) in [false, true].iter().flat_map(|observe| {
        [
            "run-db",
            "refuse-db",
            "untuned-db",
            "shared-db",
            "strict-db",
            "nobody",
        ]
        .map(|name| (*observe, name))
    }) {
        for others in ["", "2-3", full] {
            let host = Host::new();
            let bare = domain(name, 2, "");
            let written = |cpus: &[&str]| pinned(name, cpus);
            let xmls = [
                ("bare", bare.clone()),
                ("tuned", tuned_or(&host, &bare)),
                ("free", written(&["4", "5"])),
                ("held", written(&["2", "3"])),
                ("housekeeping", written(&["0", "1"])),
                ("twice", written(&["4", "4"])),
                ("offline", written(&["4", "99"])),
                ("floating", written(&["4-5", "4-5"])),
                (
                    "left-over",
                    tuned_or(&host, &domain("run-x", 2, "")).replace("run-x", name),
                ),
            ];
            if !others.is_empty() {
                held(&host, "other", others);
            }
            if observe {
                host.write("etc/virtfit/policy.d/9.toml", "[host]\nmode = \"observe\"\n");
            }
            for (kind, xml) in xmls {
                let got = host.hook(name, "prepare", &xml);
                let row = format!("{name} {kind}, others hold {others:?}, observe {observe}: {got:?}");
                let Some(told) = &got.told else {
                    // A guest that is left out of the log is refused or undecided.
                    assert!(got.vetoed || got.undecided.is_some() || observe, "{row}");
                    continue;
                };
                let line = told.line(name, observe);
                let row = format!("{line}\n{row}");
                seen.insert(format!("{:?}", std::mem::discriminant(&told.place)));
                assert_eq!(
                    line.matches(" reserved").count(),
                    1 - usize::from(!line.contains(" reserved")),
                    "{row}"
                );
                assert!(
                    !(line.contains("floats") && line.contains("pinned once it runs")),
                    "{row}"
                );
                assert!(!line.contains("tuned by"), "{row}");
                let why: String = told.why.iter().map(|reason| format!("{reason}; ")).collect();
                for cpu in told.reserved().iter() {
                    let not = [format!("CPU {cpu} is held"), format!("pins it to CPU {cpu},")];
                    assert!(not.iter().all(|not| !why.contains(not.as_str())), "{row}");
                }
                if observe {
                    // Where nothing would be done there is nothing to observe.
                    let as_defined =
                        matches!(&told.place, Place::OwnPins { reserved } if reserved.is_empty());
                    assert_eq!(line.contains(": would start "), !as_defined, "{row}");
                    assert_eq!(line.contains("mode = observe"), !as_defined, "{row}");
                    assert_eq!((&got.reserved, host.reservation(name)), (&None, None), "{row}");
                    continue;
                }
                assert!(line.contains(": starts "), "{row}");
                assert_eq!(
                    got.reserved.clone().unwrap_or_default(),
                    *told.reserved(),
                    "{row}"
                );
                assert_eq!(
                    got.moved,
                    matches!(told.place, Place::Promised { .. } | Place::Floats { .. })
                        && !told.reserved().is_empty(),
                    "{row}"
                );
                host.hook(name, "release", &xml);
            }
        }
    }
    assert_eq!(seen.len(), 4, "each kind of place comes about: {seen:?}");
}

/// Returns the XML as the daemon would define it, or as it is where nothing changes.
fn tuned_or(host: &Host, xml: &str) -> String {
    let decision = host.view(NOW).decide(xml, Question::of(Scope::Boot)).unwrap();
    decision.xml().unwrap_or(xml).to_string()
}
