use super::*;
use crate::ledger::claims::Written;
use crate::rewrite::Head;
use crate::types::cpulist;
use crate::types::ids::{IothreadId, VcpuId};
use crate::types::reason::Basis;
use crate::types::setting::Setting;

fn guest(inner: &str) -> GuestXml {
    let text = format!("<domain type='kvm'><name>g</name><memory>4194304</memory>{inner}</domain>");
    GuestXml::parse(&text).unwrap()
}

#[test]
fn each_mask_of_a_thread_once() {
    // XML, numad's CPUs, pins, wide masks, occupied
    type Row<'a> = (&'a str, Option<&'a str>, &'a [&'a str], &'a [&'a str], &'a str);
    let rows: &[Row] = &[
        ("<vcpu>4</vcpu>", None, &[], &[], ""),
        ("<vcpu cpuset='4-7'>4</vcpu>", None, &["4-7"], &[], "4-7"),
        ("<vcpu cpuset='4-7'>3</vcpu>", None, &[], &["4-7"], ""),
        ("<vcpu cpuset='4-7' current='1'>4</vcpu>", None, &[], &["4-7"], ""),
        (
            "<vcpu cpuset='4-7'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>",
            None,
            &["1"],
            &["4-7"],
            "1",
        ),
        (
            "<vcpu cpuset='0-7'>1</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>",
            None,
            &["1"],
            &[],
            "1",
        ),
        (
            "<vcpu current='1'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='9'/></cputune>",
            None,
            &["1"],
            &["9"],
            "1",
        ),
        (
            "<vcpu current='1'>3</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='1'/><vcpupin vcpu='2' cpuset='1-2'/></cputune>",
            None,
            &["1"],
            &["1-2"],
            "1",
        ),
        (
            "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='1-2'/></cputune>",
            None,
            &["1", "1-2"],
            &[],
            "1-2",
        ),
        (
            "<vcpu>2</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='1-3'/></cputune>",
            None,
            &["1"],
            &["1-3"],
            "1",
        ),
        (
            "<vcpu>1</vcpu><iothreads>1</iothreads><cputune><emulatorpin cpuset='0,8'/><iothreadpin iothread='1' cpuset='3'/></cputune>",
            None,
            &["3"],
            &["0,8"],
            "3",
        ),
        ("<vcpu placement='auto'>2</vcpu>", Some("0-3"), &[], &["0-3"], ""),
        ("<vcpu placement='auto'>2</vcpu>", None, &[], &[], ""),
        ("<vcpu placement='static'>2</vcpu>", Some("0-3"), &[], &[], ""),
    ];
    for row in rows {
        let numad = row.1.map(|list| cpulist::parse(list).unwrap());
        let sets = |lists: &[&str]| -> Vec<CpuSet> {
            lists.iter().map(|list| cpulist::parse(list).unwrap()).collect()
        };
        let expected = Masks {
            pins: sets(row.2),
            wide: sets(row.3),
            occupies: cpulist::parse(row.4).unwrap(),
        };
        assert_eq!(masks(&guest(row.0), numad.as_ref()), expected, "{row:?}");
    }
}

#[test]
fn support_threads_occupy_what_an_administrator_pinned_them_to() {
    let pins = "<vcpu>2</vcpu><cputune><emulatorpin cpuset='0'/><vcpupin vcpu='0' cpuset='1'/>\
                    <vcpupin vcpu='1' cpuset='1'/></cputune>";
    assert_eq!(masks(&guest(pins), None).occupies.to_string(), "0-1");
    // virtfit's pins to one housekeeping CPU, or of two vCPUs that float on the one shared CPU.
    let mut ours = guest(pins);
    ours.ours = [
        Target::EmulatorPin,
        Target::VcpuPin(VcpuId(0)),
        Target::VcpuPin(VcpuId(1)),
    ]
    .into();
    assert_eq!(masks(&ours, None).occupies, CpuSet::new());
    let own = pins.replace("vcpu='1' cpuset='1'", "vcpu='1' cpuset='2'");
    let mut own = guest(&own);
    own.ours = ours.ours;
    assert_eq!(masks(&own, None).occupies.to_string(), "1-2");
}

#[test]
fn memory_by_cell_and_page() {
    let cells = "<vcpu>2</vcpu><cpu><numa><cell id='0' cpus='0' memory='1048576'/><cell id='1' cpus='1' memory='3145728'/></numa></cpu>";
    // XML, numad's nodes, pieces (GiB, page in KiB, nodes)
    type Piece = (u64, Option<u64>, &'static str);
    let rows: Vec<(String, Option<&str>, Vec<Piece>)> = vec![
        ("<vcpu>1</vcpu>".into(), None, vec![(4, None, "")]),
        (
            "<vcpu>1</vcpu><currentMemory>1024</currentMemory><numatune><memory mode='strict' nodeset='1'/></numatune>".into(),
            None,
            vec![(4, None, "1")],
        ),
        (
            "<vcpu>1</vcpu><memoryBacking><hugepages/></memoryBacking>".into(),
            None,
            vec![(4, Some(2048), "")],
        ),
        (
            "<vcpu>1</vcpu><memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>".into(),
            None,
            vec![(4, Some(1 << 20), "")],
        ),
        ("<vcpu placement='auto'>1</vcpu>".into(), Some("0"), vec![(4, None, "0")]),
        (
            "<vcpu>1</vcpu><numatune><memory mode='strict' placement='auto'/></numatune>".into(),
            Some("1"),
            vec![(4, None, "1")],
        ),
        (cells.into(), None, vec![(1, None, ""), (3, None, "")]),
        (
            format!("{cells}<numatune><memory mode='preferred' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune>"),
            None,
            vec![(1, None, "0"), (3, None, "1")],
        ),
        (
            format!("{cells}<memoryBacking><hugepages><page size='2048' nodeset='1'/></hugepages></memoryBacking>"),
            None,
            vec![(1, None, ""), (3, Some(2048), "")],
        ),
        (
            format!("{cells}<memoryBacking><hugepages><page size='1048576'/><page size='2048' nodeset='1'/></hugepages></memoryBacking>"),
            None,
            vec![(1, Some(1 << 20), ""), (3, Some(2048), "")],
        ),
    ];
    for (xml, numad, expected) in rows {
        let numad = numad.map(|list| cpulist::parse(list).unwrap());
        let got: Vec<(u64, Option<u64>, String)> = memory(&guest(&xml).domain, numad.as_ref(), || KiB(2048))
            .iter()
            .map(|uses| {
                (
                    uses.amount.0 >> 20,
                    uses.page.map(|page| page.0),
                    uses.nodes.to_string(),
                )
            })
            .collect();
        let expected: Vec<_> = expected
            .into_iter()
            .map(|(a, b, c)| (a, b, c.to_string()))
            .collect();
        assert_eq!(got, expected, "{xml}");
    }
}

/// Guest's text with these pins written by virtfit.
fn tuned(on_no_fit: OnNoFit, pins: &[(Target, &str)]) -> String {
    let settings: Vec<Setting> = pins
        .iter()
        .map(|(target, cpus)| Setting {
            target: target.clone(),
            value: Value::Cpus(cpulist::parse(cpus).unwrap()),
            why: Basis::ByProfile,
        })
        .collect();
    let head = Head {
        uuid: None,
        profile: "fit".into(),
        policy_digest: "0".into(),
        shape: rewrite::Shape::default(),
        withheld: cpulist::parse("3,11").unwrap(),
        on_no_fit,
    };
    let text = "<domain type='kvm'><name>g</name><memory>1024</memory><vcpu>2</vcpu><iothreads>1</iothreads></domain>";
    rewrite::apply(&Document::parse(text).unwrap(), &settings, &head).unwrap()
}

#[test]
fn virtfits_own_pins_are_told_apart() {
    let [zero, one] = [0, 1].map(|vcpu| Target::VcpuPin(VcpuId(vcpu)));
    let iothread = Target::IothreadPin(IothreadId(1));
    let own = [
        (zero.clone(), "2"),
        (one.clone(), "10"),
        (Target::EmulatorPin, "0-1"),
    ];
    let floating = [(zero, "0-9"), (one, "0-9")];
    let isolated = [(Target::EmulatorPin, "4"), (iothread, "5")];
    // case, pins, an edit by hand, claimed, pins that hold
    let rows = [
        ("dedicated", &own[..], ("", ""), ("2,10", "2 10")),
        (
            "moved by hand",
            &own,
            ("cpuset='10'", "cpuset='11'"),
            ("2", "2 11"),
        ),
        ("floating", &floating, ("", ""), ("", "")),
        (
            "floating, narrowed live",
            &floating,
            ("vcpu='1' cpuset='0-9'", "vcpu='1' cpuset='0-3'"),
            ("", ""),
        ),
        (
            "floating, then pinned by hand",
            &floating,
            ("vcpu='1' cpuset='0-9'", "vcpu='1' cpuset='5'"),
            ("", "5"),
        ),
        (
            "isolated emulator and iothread",
            &isolated,
            ("", ""),
            ("4-5", "4 5"),
        ),
    ];
    for (what, wrote, (from, to), (claimed, held)) in rows {
        let text = tuned(OnNoFit::RunShared, wrote);
        assert!(text.contains(from), "{what}: {text}");
        let text = if from.is_empty() {
            text
        } else {
            text.replace(from, to)
        };
        let guest = GuestXml::parse(&text).unwrap();
        let all = masks(&guest, None).holding(true);
        let pins: Vec<String> = all.iter().map(CpuSet::to_string).collect();
        assert_eq!(guest.wrote.to_string(), claimed, "{what}");
        assert_eq!(pins.join(" "), held, "{what}");
    }
    let refuses = |on_no_fit| {
        let guest = GuestXml::parse(&tuned(on_no_fit, &own)).unwrap();
        assert_eq!(guest.withheld.to_string(), "3,11");
        guest.refuses
    };
    assert!(refuses(OnNoFit::Refuse));
    assert!(!refuses(OnNoFit::RunShared));
}

#[test]
fn a_copied_provenance_claims_nothing() {
    let text = tuned(OnNoFit::RunShared, &[(Target::VcpuPin(VcpuId(0)), "2")]);
    let [own, other] = ["a", "b"].map(|last| format!("8c1f6f0e-0000-4000-8000-00000000000{last}"));
    let recorded = text.replace("version='1'", &format!("version='1' uuid='{own}'"));
    let with = |uuid: &str| recorded.replace("</name>", &format!("</name><uuid>{uuid}</uuid>"));
    // text, copied
    for (text, copied) in [
        (text, false),
        (with(&own), false),
        (with(&other), true),
        (recorded.clone(), true),
    ] {
        let guest = GuestXml::parse(&text).unwrap();
        let withheld = if copied { "" } else { "3,11" };
        assert_eq!(guest.withheld.to_string(), withheld, "{text}");
        assert_eq!(guest.copied, copied);
        assert_eq!(Written::of(&guest) == Written::default(), copied);
        // While it runs, it is on that CPU.
        assert_eq!(
            (guest.wrote.to_string().as_str(), masks(&guest, None).pins.len()),
            ("2", 1)
        );
    }
}

#[test]
fn a_provenance_of_another_version_is_as_good_as_none() {
    let text = tuned(OnNoFit::Refuse, &[(Target::VcpuPin(VcpuId(0)), "2")]);
    let guest = GuestXml::parse(&text.replace("version='1'", "version='9'")).unwrap();
    assert_eq!(guest.wrote, CpuSet::new());
    assert!(guest.unreadable.is_some());
    assert_eq!(masks(&guest, None).pins.len(), 1);
}
