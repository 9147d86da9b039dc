//! Live changes for running guests: decided on the paper's server from status files, without
//! libvirt.
#![allow(clippy::unwrap_used)]

use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use virtfit::domain;
use virtfit::engine::{Decision, Question};
use virtfit::host::load::load;
use virtfit::hostfs::HostFs;
use virtfit::ledger::live_pins::Records;
use virtfit::ledger::reader::Reading;
use virtfit::ledger::reservation::{Reservation, ReservedPins};
use virtfit::ledger::running::Running;
use virtfit::ledger::{Holder, status};
use virtfit::libvirt::LiveChange;
use virtfit::libvirt::LiveChange::{Numa, PinEmulator, PinIothread, PinVcpu};
use virtfit::live::floating;
use virtfit::live::plan;
use virtfit::live::plan::{Case, Class, Live};
use virtfit::policy::Policy;
use virtfit::snapshot::Snapshot;
use virtfit::types::cpulist;
use virtfit::types::ids::{IothreadId, KiB, VcpuId};
use virtfit::types::idset::{CpuSet, NodeSet};
use virtfit::types::plan::Scope;
use virtfit::types::subject::Subject;
use virtfit::xml::Document;

const UUID: &str = "8c1f6f0e-0000-4000-8000-0000000000aa";

fn cpus(list: &str) -> CpuSet {
    cpulist::parse(list).unwrap()
}

/// Makes the paper's server (2 nodes, 8 cores of 2 threads each; CPU n and n + 16 are siblings)
/// under this policy.
fn view(policy: &str) -> Snapshot {
    let root = HostFs::new(Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper"));
    let host = load(&root, None).unwrap();
    let policy = Policy::parse(policy, "policy.toml").unwrap();
    Snapshot::new(root, policy, host, Reading::default())
}

fn rule(profile: &str) -> String {
    format!("[[rule]]\nmatch = {{ name = \"g*\" }}\nprofile = \"{profile}\"\n")
}

/// Makes that server with other guests holding these CPUs.
fn with_held(policy: &str, held: &str) -> Snapshot {
    let mut view = view(policy);
    Arc::make_mut(&mut view.reading)
        .ledger
        .holders
        .push(Arc::new(Holder {
            uuid: "x".into(),
            name: "other".into(),
            pins: cpus(held).iter().map(CpuSet::one).collect(),
            ..Holder::default()
        }));
    view
}

fn xml(vcpus: u32, inner: &str) -> String {
    format!(
        "<domain type='kvm' id='3'>\n  <name>g</name>\n  <uuid>{UUID}</uuid>\n  <memory unit='KiB'>1048576</memory>\n  \
         <vcpu placement='static'>{vcpus}</vcpu>\n{inner}  <os>\n    <type arch='x86_64' machine='pc-q35-7.2'>hvm</type>\n  </os>\n  \
         <cpu mode='host-model' check='partial'/>\n  <devices>\n    <disk type='block' device='disk'>\n      \
         <driver name='qemu' type='raw'/>\n      <source dev='/dev/vg/g'/>\n      <target dev='vda' bus='virtio'/>\n    \
         </disk>\n  </devices>\n</domain>"
    )
}

fn status_of(xml: &str) -> String {
    let domain = domain::parse::parse(&Document::parse(xml).unwrap()).unwrap();
    let threads: String = (0..domain.vcpus)
        .map(|id| format!("<vcpu id='{id}' pid='{}'/>", 1000 + id))
        .collect();
    format!("<domstatus state='running' reason='booted' pid='900'><vcpus>{threads}</vcpus>{xml}</domstatus>")
}

/// Returns the tuned definition of this guest, running.
fn tuned(view: &Snapshot, xml: &str) -> String {
    match view.decide(xml, Question::of(Scope::Boot)).unwrap() {
        Decision::Tuned { xml, .. } => xml,
        other => panic!("{:?}", other.plan()),
    }
}

fn reserved(list: &str) -> Reservation {
    Reservation {
        version: 1,
        uuid: UUID.into(),
        name: "g".into(),
        cpus: cpus(list),
        withheld: CpuSet::new(),
        memory: Vec::new(),
        boot_id: String::new(),
        pid: 1,
        start_time: 1,
        tentative_until: None,
        written_at: 0,
        pins: None,
    }
}

/// Reads a status file as the ledger does, of a guest without a profile.
fn holder(status_text: &str, pinned: &Records) -> Holder {
    let status = status::parse(status_text, KiB(2048), pinned).unwrap();
    Holder::clone(&status.holder)
}

/// Puts the guest into the ledger as it would be read.
fn plan(view: &mut Snapshot, status_text: &str, reservation: Option<&Reservation>, pinned: &Records) -> Live {
    let mut own = holder(status_text, pinned);
    if let Some(reservation) = reservation {
        own.pins.extend(reservation.holder().pins);
    }
    Arc::make_mut(&mut view.reading)
        .ledger
        .holders
        .retain(|holder| holder.uuid != UUID);
    Arc::make_mut(&mut view.reading).ledger.holders.push(own.into());
    // Another guest of that name was about to be restored.
    let other = Reservation {
        uuid: "8c1f6f0e-0000-4000-8000-0000000000cc".into(),
        ..reserved("4-5")
    };
    let reservations: Vec<Reservation> = [other].into_iter().chain(reservation.cloned()).collect();
    let case = Case {
        status: status_text,
        reservations: &reservations,
        pinned,
        follows: true,
    };
    plan::plan(case, view).unwrap()
}

/// Returns the status file after these calls, as libvirt would have written it.
fn pinned_xml(xml: &str, changes: &[LiveChange]) -> String {
    let (mut pins, mut numa) = (String::new(), String::new());
    for change in changes {
        match change {
            PinVcpu(id, cpus) => pins.push_str(&format!("<vcpupin vcpu='{id}' cpuset='{cpus}'/>")),
            PinEmulator(cpus) => pins.push_str(&format!("<emulatorpin cpuset='{cpus}'/>")),
            PinIothread(id, cpus) => {
                pins.push_str(&format!("<iothreadpin iothread='{id}' cpuset='{cpus}'/>"))
            }
            Numa(nodes) => {
                numa = format!("<numatune><memory mode='restrictive' nodeset='{nodes}'/></numatune>")
            }
        }
    }
    let text = format!("<cputune>{pins}</cputune>{numa}");
    match xml.split_once("<cputune>") {
        None => xml.replacen("  <os>", &format!("  {text}\n  <os>"), 1),
        Some((before, rest)) => format!("{before}{text}{}", rest.split_once("</cputune>").unwrap().1),
    }
}

fn records(live: &Live) -> Records {
    let mut all = Records::default();
    all.insert(live.record.clone().unwrap());
    all
}

#[test]
fn a_guest_that_was_tuned_before_it_started_lacks_nothing() {
    for profile in ["fit", "local", "shared", "isolated", "realtime", "pin_def"] {
        let mut view = view(&rule(profile));
        let text = tuned(&view, &xml(4, ""));
        let live = plan(&mut view, &status_of(&text), None, &Records::default());
        assert_eq!(live.changes, [], "{profile}");
        assert_eq!(live.classes, [], "{profile}");
        assert_eq!(
            floating::plan(&view, &[status_of(&text)], &Records::default(), |_| false),
            [],
            "{profile}"
        );
    }
}

#[test]
fn a_guest_without_a_rule_or_with_off_is_left_alone() {
    for policy in ["", &rule("off")] {
        let live = plan(
            &mut view(policy),
            &status_of(&xml(4, "")),
            None,
            &Records::default(),
        );
        assert!(live.is_done() && live.profile.is_none(), "{live:?}");
    }
}

#[test]
fn without_pins_it_gets_exactly_what_was_reserved() {
    // reserved, what the vCPUs get
    for (list, pins) in [
        ("1-2,17-18", ["1", "2", "17", "18"]),
        ("11-12,27-28", ["11", "12", "27", "28"]),
        ("9-12", ["9", "10", "11", "12"]),
    ] {
        let mut view = view(&rule("fit"));
        let reservation = reserved(list);
        let live = plan(
            &mut view,
            &status_of(&xml(4, "")),
            Some(&reservation),
            &Records::default(),
        );
        let node = if list.starts_with('1') && !list.starts_with("11") {
            0
        } else {
            1
        };
        let mut wanted: Vec<LiveChange> = (0..4)
            .map(|id| PinVcpu(VcpuId(id), cpus(pins[id as usize])))
            .collect();
        let housekeeping = if node == 0 { "0,16" } else { "8,24" };
        wanted.push(PinEmulator(cpus(housekeeping)));
        let nodes: NodeSet = cpulist::parse(&node.to_string()).unwrap();
        wanted.push(Numa(nodes));
        assert_eq!(live.changes, wanted, "{list}");
        assert_eq!(live.unreserved, CpuSet::new(), "{list}");
        let waits: Vec<String> = live.waits.iter().map(|note| note.what.to_string()).collect();
        assert!(
            waits.contains(&"huge pages".into()) && waits.contains(&"disk vda".into()),
            "{waits:?}"
        );
        // Once done nothing is left to do, with or without the record.
        let after = status_of(&pinned_xml(&xml(4, ""), &live.changes));
        for records in [records(&live), Records::default()] {
            let again = plan(&mut view, &after, Some(&reservation), &records);
            assert_eq!(again.changes, [], "{list}");
        }
        // Half of it is done: the rest follows.
        let half = status_of(&pinned_xml(&xml(4, ""), &live.changes[..2]));
        let again = plan(&mut view, &half, Some(&reservation), &records(&live));
        assert_eq!(again.changes, live.changes[2..5], "{list}");
    }
}

#[test]
fn without_a_reservation_its_new_cpus_are_to_be_reserved_first() {
    let live = plan(
        &mut view(&rule("isolated")),
        &status_of(&xml(2, "")),
        None,
        &Records::default(),
    );
    assert_eq!(live.unreserved, cpus("1-2,17-18"));
    assert_eq!(live.withheld, cpus("17-18"));
}

#[test]
fn pins_that_were_taken_meanwhile_give_way_to_the_reservation() {
    let policy = rule("fit");
    let text = tuned(&view(&policy), &xml(4, ""));
    let mut view = with_held(&policy, "1,17");
    let live = plan(
        &mut view,
        &status_of(&text),
        Some(&reserved("3-4,19-20")),
        &Records::default(),
    );
    let wanted = ["3", "19", "4", "20"].map(cpus);
    let wanted: Vec<LiveChange> = (0..4)
        .map(|id| PinVcpu(VcpuId(id), wanted[id as usize].clone()))
        .collect();
    assert_eq!(live.changes, wanted);
}

#[test]
fn pins_that_prepare_chose_are_set_as_they_are() {
    let mut reservation = reserved("3-4,19-20");
    let chosen = [(0, "20"), (1, "4"), (2, "19"), (3, "3")];
    reservation.pins = Some(ReservedPins {
        vcpus: chosen
            .iter()
            .map(|(id, list)| (VcpuId(*id), cpus(list)))
            .collect(),
        emulator: cpus("0"),
        ..ReservedPins::default()
    });
    let live = plan(
        &mut view(&rule("fit")),
        &status_of(&xml(4, "")),
        Some(&reservation),
        &Records::default(),
    );
    for (id, list) in chosen {
        assert!(
            live.changes.contains(&PinVcpu(VcpuId(id), cpus(list))),
            "{live:?}"
        );
    }
    assert!(live.changes.contains(&PinEmulator(cpus("0"))) && live.unreserved.is_empty());
    assert!(
        live.record
            .unwrap()
            .threads
            .iter()
            .take(4)
            .all(|mask| !mask.floats)
    );
}

#[test]
fn a_guest_that_runs_as_promised_owns_its_later_pins() {
    // Promised to float on what its XML says already: there is nothing to pin.
    let floats = "0-1,8";
    let text = pinned_xml(
        &xml(1, ""),
        &[PinVcpu(VcpuId(0), cpus(floats)), PinEmulator(cpus("0"))],
    );
    let mut reservation = reserved("");
    reservation.pins = Some(ReservedPins {
        vcpus: [(VcpuId(0), cpus(floats))].into(),
        emulator: cpus("0"),
        ..ReservedPins::default()
    });
    let mut view = with_held(&rule("fit"), "1-7,9-15,17-23,25-31");
    let live = plan(
        &mut view,
        &status_of(&text),
        Some(&reservation),
        &Records::default(),
    );
    assert!(live.is_done(), "{live:?}");
    let record = live.record.as_ref().unwrap();
    assert!(record.threads.is_empty(), "{record:?}");
    // An administrator's pin counts as held then, although the reservation is still there.
    let by_hand = pinned_xml(&xml(1, ""), &[PinVcpu(VcpuId(0), cpus("2"))]);
    let holder = holder(&status_of(&by_hand), &records(&live));
    assert!(holder.set_live, "{holder:?}");
}

#[test]
fn pins_that_were_reserved_as_they_are_stay() {
    // The policy is not the one it was tuned under: its vCPUs stay where they are.
    let text = tuned(&view(&rule("fit")), &xml(4, ""));
    for profile in ["isolated", "realtime", "fit"] {
        let live = plan(
            &mut view(&rule(profile)),
            &status_of(&text),
            Some(&reserved("1-2,17-18")),
            &Records::default(),
        );
        let moved = live.changes.iter().any(|change| matches!(change, PinVcpu(..)));
        assert!(!moved, "{profile}: {:?}", live.changes);
    }
}

#[test]
fn a_mask_by_hand_that_the_profile_replaces_is_moved() {
    let policy = rule("fit") + "[profile.fit]\non_existing = \"override\"\nhugepages = \"off\"\n";
    let mut view = view(&policy);
    let wide = xml(1, "<cputune><vcpupin vcpu='0' cpuset='2-7'/></cputune>");
    // Also where all of the mask was reserved.
    for reservation in [None, Some(reserved("2-7"))] {
        let live = plan(
            &mut view,
            &status_of(&wide),
            reservation.as_ref(),
            &Records::default(),
        );
        let vcpu = live.changes.iter().find_map(|change| match change {
            LiveChange::PinVcpu(_, cpus) => Some(cpus.len()),
            _ => None,
        });
        assert_eq!(vcpu, Some(1), "{:?}", live.changes);
    }
}

#[test]
fn an_administrators_pins_stay_even_where_they_collide() {
    let pins = "<cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='2-3'/></cputune>";
    let mut view = with_held(&rule("fit"), "1-3");
    let live = plan(&mut view, &status_of(&xml(2, pins)), None, &Records::default());
    assert!(
        !live.changes.iter().any(|change| matches!(change, PinVcpu(..))),
        "{:?}",
        live.changes
    );
}

#[test]
fn without_a_place_it_floats_and_holds_nothing() {
    let policy = rule("fit");
    let mut view = with_held(&policy, "2-7,9-15,18-23,25-31");
    // pins of its own that are taken, none
    for pins in ["", "taken"] {
        let text = match pins {
            "" => xml(4, ""),
            _ => tuned(&self::view(&policy), &xml(4, "")),
        };
        let live = plan(&mut view, &status_of(&text), None, &Records::default());
        let floats = cpus("0-1,8,16-17,24");
        for id in 0..4 {
            assert!(
                live.changes.contains(&PinVcpu(VcpuId(id), floats.clone())),
                "{pins}: {live:?}"
            );
        }
        assert!(live.unreserved.is_empty() && !live.reasons.is_empty(), "{live:?}");
        let after = status_of(&pinned_xml(&text, &live.changes));
        let holder = holder(&after, &records(&live));
        assert_eq!(
            holder.pins.iter().filter(|pin| **pin == floats).count(),
            0,
            "{pins}: {holder:?}"
        );
        // Other guests stop: it gets more CPUs to float on; others start: fewer; never none.
        for (held, wanted) in [
            ("2-7,9-15,18-23,25-31", None),
            ("2", Some("0-1,3-31")),
            ("1-7,9-15,17-23,25-31", Some("0,8,16,24")),
        ] {
            let mut now = with_held(&policy, held);
            Arc::make_mut(&mut now.reading)
                .ledger
                .holders
                .push(holder.clone().into());
            let got = floating::plan(&now, std::slice::from_ref(&after), &records(&live), |_| false);
            let masks: Vec<String> = got
                .iter()
                .flat_map(|float| &float.changes)
                .filter_map(|change| match change {
                    PinVcpu(_, cpus) => Some(cpus.to_string()),
                    _ => None,
                })
                .collect();
            match wanted {
                None => assert_eq!(got, [], "{pins}"),
                Some(wanted) => assert_eq!(masks, [wanted; 4], "{pins}: {held}"),
            }
        }
        assert_eq!(
            floating::plan(&with_held(&policy, "2"), &[after], &records(&live), |_| true),
            [],
            "in flight"
        );
    }
}

/// Starts each kind of floating guest while others hold all CPUs but one, or but some: what was
/// written then is not all it may have later.
#[test]
fn a_mask_that_was_narrow_at_the_start_is_widened() {
    let sets = "[host]\nhousekeeping = \"0\"\n";
    let all = "0-1,3-31";
    let node = "0-1,3-7,16-23";
    // profile, CPUs others held at the start, mask then; masks of vCPUs and of the other threads
    // once CPU 2 alone is held
    for (profile, held, narrow, vcpu, support) in [
        ("shared", "1-31", "0", all, None),
        ("local", "1-31", "0", node, Some(node)),
        ("fit", "1-31", "0", all, None),
        ("local", "1-6,8-31", "0,7", node, Some(node)),
        ("fit", "1-30", "0,31", all, None),
    ] {
        let policy = format!("{sets}{}", rule(profile));
        let vcpus = 1 + u32::from(profile == "fit");
        let text = tuned(&with_held(&policy, held), &xml(vcpus, ""));
        let row = format!("{profile} beside {held}");
        assert!(
            text.contains(&format!("<vcpupin vcpu='0' cpuset='{narrow}'/>")),
            "{row}: {text}"
        );
        let text = status_of(&text);
        let own = holder(&text, &Records::default());
        let changes = |held: &str, changed: Option<SystemTime>| -> Vec<LiveChange> {
            let mut view = with_held(&policy, held);
            Arc::make_mut(&mut view.policy).changed_at = changed;
            Arc::make_mut(&mut view.reading)
                .ledger
                .holders
                .push(own.clone().into());
            let got = floating::plan(&view, std::slice::from_ref(&text), &Records::default(), |_| false);
            assert!(
                got.iter()
                    .flat_map(|float| &float.record.threads)
                    .all(|mask| mask.floats),
                "{row}"
            );
            got.into_iter().flat_map(|float| float.changes).collect()
        };
        assert_eq!(changes(held, None), [], "{row}: all are still held");
        let mut wanted: Vec<LiveChange> = (0..vcpus).map(|id| PinVcpu(VcpuId(id), cpus(vcpu))).collect();
        if let Some(list) = support {
            wanted.extend([PinEmulator(cpus(list)), PinIothread(IothreadId(1), cpus(list))]);
        }
        assert_eq!(changes("2", None), wanted, "{row}");
        // One CPU is too little for whatever reason; of several the older policy may have meant no
        // others.
        let older = changes("2", Some(SystemTime::now()));
        assert_eq!(older, if narrow == "0" { wanted } else { Vec::new() }, "{row}");
    }
}

/// Leaves alone what looks narrow and is a thread's own, or an administrator's.
#[test]
fn a_cpu_of_its_own_and_pins_by_hand_are_not_widened() {
    let sets = "[host]\nhousekeeping = \"0\"\n";
    let policy = format!("{sets}{}", rule("fit"));
    let fitted = tuned(&with_held(&policy, "2-31"), &xml(1, ""));
    assert!(fitted.contains("<vcpupin vcpu='0' cpuset='1'/>"), "{fitted}");
    let local = format!("{sets}{}", rule("local"));
    let narrow = tuned(&with_held(&local, "1-31"), &xml(1, ""));
    let by_hand = narrow.replace("<vcpupin vcpu='0' cpuset='0'/>", "<vcpupin vcpu='0' cpuset='7'/>");
    // A guest that was fitted to a CPU which the policy has since made a shared one.
    let older = format!("[host]\nhousekeeping = \"0-1\"\n{}", rule("fit"));
    for (policy, text, changed, kept) in [
        (&policy, &fitted, false, ""),
        (&local, &by_hand, false, "7"),
        (&older, &fitted, true, "1"),
    ] {
        let mut view = view(policy);
        Arc::make_mut(&mut view.policy).changed_at = changed.then(SystemTime::now);
        let reading = Arc::make_mut(&mut view.reading);
        let text = status_of(text);
        reading
            .ledger
            .holders
            .push(holder(&text, &Records::default()).into());
        if !kept.is_empty() {
            reading.reservations.push(reserved(kept));
        }
        let got = floating::plan(&view, &[text], &Records::default(), |_| false);
        let vcpu = |change: &&LiveChange| matches!(change, PinVcpu(..));
        let moved = got.iter().flat_map(|float| &float.changes).find(vcpu);
        assert_eq!(moved, None, "{policy}");
    }
}

/// Finds a guest on a CPU that virtfit wrote and that another guest holds, with no place for it.
#[test]
fn without_a_place_it_leaves_what_virtfit_pinned_it_to() {
    for on_no_fit in ["run-untuned", "refuse"] {
        let policy = format!(
            "[host]\nhousekeeping = \"0\"\n[profile.u]\ninherits = \"fit\"\non_no_fit = \"{on_no_fit}\"\n{}",
            rule("u")
        );
        let text = tuned(&with_held(&policy, "3-31"), &xml(2, ""));
        let hand = "<cputune><vcpupin vcpu='1' cpuset='2'/></cputune>";
        let half = tuned(&with_held(&policy, "3-31"), &xml(2, hand));
        // definition, CPUs others hold, CPUs by vCPU
        for (text, held, wanted) in [
            (&text, "1-31", &[(0, "0"), (1, "0")][..]),
            // The whole guest floats: half of its place is none.
            (&text, "1,3-31", &[(0, "0,2"), (1, "0,2")]),
            (&text, "3-31", &[]),
            // A pin by hand stays, also where other guests are.
            (&half, "1-31", &[(0, "0")]),
        ] {
            let row = format!("{on_no_fit} {held}");
            let mut view = with_held(&policy, held);
            let live = plan(&mut view, &status_of(text), None, &Records::default());
            let vcpus: Vec<LiveChange> = live
                .changes
                .iter()
                .filter(|change| matches!(change, PinVcpu(..)))
                .cloned()
                .collect();
            let wanted: Vec<LiveChange> = wanted
                .iter()
                .map(|(id, list)| PinVcpu(VcpuId(*id), cpus(list)))
                .collect();
            assert_eq!(vcpus, wanted, "{row}");
            if wanted.is_empty() {
                continue;
            }
            assert!(live.frees && live.unreserved.is_empty(), "{row}: {live:?}");
            let after = status_of(&pinned_xml(text, &live.changes));
            let holder = holder(&after, &records(&live));
            let taken: Vec<&CpuSet> = holder.pins.iter().filter(|pin| **pin != cpus("2")).collect();
            assert!(taken.iter().all(|pin| **pin == cpus("0")), "{row}: {holder:?}");
        }
    }
}

#[test]
fn real_time_only_on_a_cpu_of_its_own() {
    let profile = "[profile.rt]\ninherits = \"realtime\"\nhugepages = \"off\"\non_no_fit = \"run-shared\"\n";
    let policy = format!("{profile}{}", rule("rt"));
    let live = plan(
        &mut view(&policy),
        &status_of(&xml(3, "")),
        Some(&reserved("1-3,17")),
        &Records::default(),
    );
    let set: Vec<_> = live
        .classes
        .iter()
        .map(|class| (class.vcpu, class.tid, class.class))
        .collect();
    assert_eq!(
        set,
        [
            (VcpuId(1), 1001, Class::Fifo(1)),
            (VcpuId(2), 1002, Class::Fifo(1))
        ],
        "{live:?}"
    );
    for class in &live.classes {
        let pin = PinVcpu(class.vcpu, CpuSet::one(class.cpu.unwrap()));
        assert!(live.changes.contains(&pin), "{live:?}");
    }
    // The guest came with real-time vCPUs, and floats now.
    let text = tuned(&view(&policy), &xml(3, ""));
    let mut full = with_held(&policy, "1-7,9-15,17-23,25-31");
    let live = plan(&mut full, &status_of(&text), None, &Records::default());
    let set: Vec<_> = live
        .classes
        .iter()
        .map(|class| (class.vcpu, class.class))
        .collect();
    assert_eq!(
        set,
        [(VcpuId(1), Class::Other), (VcpuId(2), Class::Other)],
        "{live:?}"
    );
    // A host without real time.
    let mut never = view(&policy);
    std::sync::Arc::make_mut(&mut never.host).rt_runtime_us = Some(0);
    let live = plan(
        &mut never,
        &status_of(&xml(3, "")),
        Some(&reserved("1-3,17")),
        &Records::default(),
    );
    assert_eq!(live.classes, []);
}

#[test]
fn memory_is_bound_only_where_no_mode_is_set() {
    // numatune of the running XML, whether it is set
    for (numatune, set) in [
        ("", true),
        ("<numatune><memory mode='strict' nodeset='1'/></numatune>", false),
        (
            "<numatune><memory mode='preferred' nodeset='1'/></numatune>",
            false,
        ),
        (
            "<numatune><memory mode='restrictive' nodeset='1'/></numatune>",
            false,
        ),
        (
            "<numatune><memory mode='strict' placement='auto'/></numatune>",
            false,
        ),
    ] {
        let live = plan(
            &mut view(&rule("fit")),
            &status_of(&xml(2, numatune)),
            Some(&reserved("9,25")),
            &Records::default(),
        );
        let numa = live.changes.iter().any(|change| matches!(change, Numa(_)));
        assert_eq!(numa, set, "{numatune}: {:?}", live.changes);
        // numad decides where the vCPUs of the last one run.
        let pinned = live.changes.contains(&PinVcpu(VcpuId(0), cpus("9")));
        assert_eq!(pinned, !numatune.contains("auto"), "{numatune}");
    }
}

#[test]
fn a_guest_whose_memory_does_not_fit_is_pinned_all_the_same() {
    let big = xml(4, "").replace("1048576", "12582912");
    let live = plan(
        &mut view(&rule("fit")),
        &status_of(&big),
        Some(&reserved("1-2,17-18")),
        &Records::default(),
    );
    assert!(live.changes.contains(&PinVcpu(VcpuId(0), cpus("1"))), "{live:?}");
    assert!(
        !live.changes.iter().any(|change| matches!(change, Numa(_))),
        "{live:?}"
    );
    assert!(
        live.waits
            .iter()
            .any(|note| note.what == Subject::MemoryWithVcpus),
        "{live:?}"
    );
}

#[test]
fn the_topology_it_was_started_with_binds_its_cores() {
    for (topology, second) in [
        ("sockets='4' dies='1' cores='1' threads='1'", "2"),
        ("sockets='1' dies='1' cores='2' threads='2'", "17"),
    ] {
        let text = xml(4, "").replace(
            "<cpu mode='host-model' check='partial'/>",
            &format!("<cpu mode='host-model' check='partial'><topology {topology}/></cpu>"),
        );
        let live = plan(
            &mut view(&rule("fit")),
            &status_of(&text),
            None,
            &Records::default(),
        );
        assert!(
            live.changes.contains(&PinVcpu(VcpuId(1), cpus(second))),
            "{topology}: {live:?}"
        );
    }
}

#[test]
fn iothreads_that_exist_are_pinned() {
    let live = plan(
        &mut view(&rule("fit")),
        &status_of(&xml(2, "<iothreads>2</iothreads>")),
        None,
        &Records::default(),
    );
    for id in [1, 2] {
        assert!(
            live.changes.contains(&PinIothread(IothreadId(id), cpus("0,16"))),
            "{live:?}"
        );
    }
}

#[test]
fn an_iothread_added_to_a_floating_guest_floats_with_it() {
    let held = "1-2";
    for profile in ["local", "fit"] {
        let policy = rule(profile);
        // All but a few are held at its start, so that `fit` floats, too.
        let text = tuned(&with_held(&policy, "1-15,17-31"), &xml(2, ""));
        let iothreads = text.matches("<iothread ").count() + 1;
        let ids: String = (1..=iothreads)
            .map(|id| format!("<iothread id='{id}'/>"))
            .collect();
        let added = format!("<iothreads>{iothreads}</iothreads><iothreadids>{ids}</iothreadids><vcpu ");
        let text = match text.split_once("<iothreads>") {
            None => text.replace("<vcpu ", &added),
            Some((before, rest)) => {
                let rest = rest.split_once("</iothreads>").unwrap().1;
                format!("{before}{rest}").replace("<vcpu ", &added.replace(&iothreads.to_string(), "2"))
            }
        };
        let added = domain::parse::from_text(&text).unwrap().iothread_ids.len() as u32;
        let changes = |held: &str, text: &str, records: &Records| {
            let status = status_of(text);
            let mut view = with_held(&policy, held);
            let own = holder(&status, records);
            Arc::make_mut(&mut view.reading).ledger.holders.push(own.into());
            floating::plan(&view, &[status], records, |_| false)
        };
        let its_mask = |got: &[floating::Float]| {
            let all = got.iter().flat_map(|float| &float.changes);
            all.filter_map(|change| match change {
                PinIothread(IothreadId(id), cpus) if *id == added => Some(cpus.clone()),
                _ => None,
            })
            .next()
        };
        let got = changes(held, &text, &Records::default());
        let mask = its_mask(&got).unwrap_or_else(|| panic!("{profile}: {got:?}"));
        assert!(
            mask.is_disjoint(&cpus(held)) && !mask.is_empty(),
            "{profile}: {got:?}"
        );
        // It moves with the others from then on, and nothing differs before.
        let mut records = Records::default();
        records.insert(got[0].record.clone());
        let after = pinned_xml(&text, &got[0].changes);
        assert_eq!(its_mask(&changes(held, &after, &records)), None, "{profile}");
    }
}

#[test]
fn confined_guests_are_kept_off_held_cpus_and_let_go_again() {
    let confine = "[host]\nunmanaged = \"confine\"\n";
    let plain = status_of(&xml(2, "<iothreads>1</iothreads>"));
    let changes = |policy: &str, held: &str, text: &str, records: &Records| -> Vec<LiveChange> {
        let mut view = with_held(policy, held);
        let own = holder(text, records);
        Arc::make_mut(&mut view.reading).ledger.holders.push(own.into());
        let got = floating::plan(&view, &[text.to_string()], records, |_| false);
        got.into_iter().flat_map(|float| float.changes).collect()
    };
    let none = Records::default();
    assert_eq!(changes("", "1-2", &plain, &none), [], "leave");
    assert_eq!(changes(confine, "", &plain, &none), [], "nobody holds anything");
    assert_eq!(
        changes(&format!("{confine}{}", rule("off")), "1-2", &plain, &none),
        [],
        "off"
    );
    let pinned_by_hand = status_of(&xml(2, "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>"));
    let all = cpus("0,3-31");
    // Each thread by itself: what an administrator pinned stays.
    let rest = [PinVcpu(VcpuId(1), all.clone()), PinEmulator(all.clone())];
    assert_eq!(
        changes(confine, "1-2", &pinned_by_hand, &none),
        rest,
        "vCPU 0 pinned"
    );
    let emulator = status_of(&xml(1, "<cputune><emulatorpin cpuset='1'/></cputune>"));
    assert_eq!(
        changes(confine, "1-2", &emulator, &none),
        [PinVcpu(VcpuId(0), all.clone())],
        "emulator pinned"
    );
    let cpuset = status_of(&xml(2, "").replace("placement='static'", "cpuset='0-31'"));
    assert_eq!(changes(confine, "1-2", &cpuset, &none), [], "cpuset");
    let asks = "<metadata><r:request xmlns:r='https://virtfit.dev/ns/request/1' profile='off'/></metadata>";
    let asks = status_of(&xml(2, asks));
    assert_eq!(
        changes(confine, "1-2", &asks, &none).len(),
        3,
        "asks to be left alone"
    );
    let wanted = [
        PinVcpu(VcpuId(0), all.clone()),
        PinVcpu(VcpuId(1), all.clone()),
        PinEmulator(all.clone()),
        PinIothread(IothreadId(1), all),
    ];
    let view = with_held(confine, "1-2");
    let got = floating::plan(&view, std::slice::from_ref(&plain), &none, |_| false);
    assert_eq!(got[0].changes, wanted);
    let mut records = Records::default();
    records.insert(got[0].record.clone());
    let after = status_of(&pinned_xml(&xml(2, "<iothreads>1</iothreads>"), &wanted));
    // The guest holds nothing, and nothing differs now.
    assert_eq!(holder(&after, &records).pins, []);
    assert_eq!(changes(confine, "1-2", &after, &records), []);
    let full = cpus("0-31");
    for (policy, held) in [(confine, ""), ("", "1-2")] {
        let got = changes(policy, held, &after, &records);
        assert_eq!(got.len(), 4, "{policy} {held}: {got:?}");
        assert!(
            got.contains(&PinEmulator(full.clone())),
            "{policy} {held}: {got:?}"
        );
    }
    let nothing_left = "[host]
unmanaged = \"confine\"
housekeeping = \"none\"
dedicated = \"0-31\"
";
    assert_eq!(
        changes(nothing_left, "0-31", &after, &records),
        [],
        "never an empty mask"
    );
    let running = Running::parse(&after, &records).unwrap();
    assert_eq!(running.guest.floating.len(), 4);
}

/// Makes that server with a running guest without a rule whose vCPUs are pinned one by one.
fn with_pinned(policy: &str, list: &str) -> Snapshot {
    let pins: String = cpus(list)
        .iter()
        .enumerate()
        .map(|(vcpu, cpu)| format!("<vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>"))
        .collect();
    let text = xml(cpus(list).len() as u32, &format!("<cputune>{pins}</cputune>"))
        .replace("<name>g</name>", "<name>by-hand</name>")
        .replace(UUID, "8c1f6f0e-0000-4000-8000-0000000000bb");
    let mut view = view(policy);
    let other = holder(&status_of(&text), &Records::default());
    Arc::make_mut(&mut view.reading).ledger.holders.push(other.into());
    view
}

#[test]
fn floating_threads_leave_housekeeping_to_which_others_are_pinned() {
    let confine = "[host]\nunmanaged = \"confine\"\n";
    let text = status_of(&xml(2, ""));
    for (policy, changes) in [(confine, 3), ("", 0)] {
        let view = with_pinned(policy, "0");
        let got = floating::plan(&view, std::slice::from_ref(&text), &Records::default(), |_| false);
        let got: Vec<LiveChange> = got.into_iter().flat_map(|float| float.changes).collect();
        assert_eq!(got.len(), changes, "{policy}");
        assert!(
            policy.is_empty() || got.contains(&PinEmulator(cpus("1-31"))),
            "{got:?}"
        );
    }
    let floats = |policy: &str, list: &str| -> Vec<LiveChange> {
        // The guest was tuned before the other one ran.
        let text = status_of(&tuned(&view(policy), &xml(2, "")));
        let got = floating::plan(&with_pinned(policy, list), &[text], &Records::default(), |_| {
            false
        });
        got.into_iter().flat_map(|float| float.changes).collect()
    };
    // profile, CPUs of the other guest, CPUs of the emulator, CPUs of vCPU 0
    for (profile, list, emulator, vcpu) in [
        ("fit", "0", Some("16"), None),
        // No CPU is left: it stays on both.
        ("fit", "0,16", None, None),
        ("shared", "0", Some("8,16,24"), Some("1-31")),
        ("shared", "8-9", Some("0,16,24"), Some("0-7,10-31")),
    ] {
        let got = floats(&rule(profile), list);
        let of = |wanted: &dyn Fn(&LiveChange) -> Option<CpuSet>| got.iter().find_map(wanted);
        let of_emulator = of(&|change| match change {
            PinEmulator(mask) => Some(mask.clone()),
            _ => None,
        });
        let of_vcpu = of(&|change| match change {
            PinVcpu(VcpuId(0), mask) => Some(mask.clone()),
            _ => None,
        });
        assert_eq!(
            (of_emulator, of_vcpu),
            (emulator.map(cpus), vcpu.map(cpus)),
            "{profile} {list}"
        );
    }
}

#[test]
fn no_mask_of_several_cpus_has_an_isolated_one() {
    let mut view = with_held("[host]\nunmanaged = \"confine\"\n", "2");
    std::sync::Arc::make_mut(&mut view.host).isolated = cpus("4-7");
    let got = floating::plan(&view, &[status_of(&xml(1, ""))], &Records::default(), |_| false);
    assert_eq!(got[0].changes[0], PinVcpu(VcpuId(0), cpus("0-1,3,8-31")));
}

#[test]
fn an_emulator_on_housekeeping_stays_there() {
    for profile in ["shared", "local"] {
        let policy = rule(profile);
        let text = tuned(&view(&policy), &xml(2, ""));
        let mut full = with_held(&policy, "1-2");
        Arc::make_mut(&mut full.reading)
            .ledger
            .holders
            .push(holder(&status_of(&text), &Records::default()).into());
        let got = floating::plan(&full, &[status_of(&text)], &Records::default(), |_| false);
        for change in got.iter().flat_map(|float| &float.changes) {
            let (PinVcpu(_, mask) | PinEmulator(mask) | PinIothread(_, mask)) = change else {
                panic!("{change:?}");
            };
            assert!(
                mask.is_disjoint(&cpus("1-2")) && !mask.is_empty(),
                "{profile}: {change:?}"
            );
            let node = cpus("0-7,16-23");
            assert!(
                profile == "shared" || mask.is_subset(&node),
                "{profile}: {change:?}"
            );
        }
        assert!(!got.is_empty(), "{profile}");
    }
}

#[test]
fn a_truncated_status_file_is_an_error() {
    let text = status_of(&xml(2, ""));
    let case = Case {
        status: &text[..text.len() / 2],
        reservations: &[],
        pinned: &Records::default(),
        follows: true,
    };
    assert!(plan::plan(case, &view(&rule("fit"))).is_err());
}
