use proptest::prelude::*;

use super::*;
use crate::types::cpulist;
use crate::types::ids::HostCpu;

fn example() -> Reservation {
    Reservation {
        version: VERSION,
        uuid: "8c1f6f0e-0000-4000-8000-000000000001".into(),
        name: "db".into(),
        cpus: cpulist::parse("1-2,17").unwrap(),
        withheld: CpuSet::one(HostCpu(18)),
        memory: vec![ReservedMemory {
            node: Some(NodeId(0)),
            page_kib: Some(KiB(2048)),
            kib: KiB(8 << 20),
        }],
        boot_id: "b0".into(),
        pid: 4711,
        start_time: 1234,
        tentative_until: None,
        written_at: 1000,
        pins: None,
    }
}

#[test]
fn the_format_is_what_it_is() {
    let text = example().to_json().unwrap();
    assert_eq!(
        text,
        concat!(
            r#"{"version":1,"uuid":"8c1f6f0e-0000-4000-8000-000000000001","name":"db","cpus":[1,2,17],"withheld":[18],"#,
            r#""memory":[{"node":0,"page_kib":2048,"kib":8388608}],"boot_id":"b0","pid":4711,"start_time":1234,"#,
            r#""tentative_until":null,"written_at":1000}"#,
            "\n"
        )
    );
}

#[test]
fn refuses_what_is_not_one() {
    let good = example().to_json().unwrap();
    for (text, expected) in [
        ("", "not a reservation"),
        ("{}", "not a reservation"),
        (&good[..good.len() / 2], "not a reservation"),
        (r#"{"version":2,"other":true}"#, "reservation format 2"),
        (
            &good.replace("[1,2,17]", "[4000000000]"),
            "not a reservation: CPU 4000000000",
        ),
    ] {
        let error = Reservation::from_json(text).unwrap_err().to_string();
        assert!(error.starts_with(expected), "{error} for {text:?}");
    }
}

#[test]
fn void_by_the_rules() {
    use Daemon::{Gone, StartedAt, Unknown};
    // tentative_until, now, boot id, daemon, status file, void
    let rows: &[(Option<u64>, u64, Option<&str>, Daemon, bool, bool)] = &[
        (None, 1000, Some("b0"), StartedAt(1234), false, false),
        (None, 9_999_999, Some("b0"), StartedAt(1234), false, false),
        (None, 1000, Some("b1"), StartedAt(1234), true, true),
        (None, 1000, None, Unknown, false, false),
        (None, 1000, Some("b0"), Gone, false, true),
        (None, 1000, Some("b0"), Gone, true, false),
        (None, 1000, Some("b0"), StartedAt(1235), false, true),
        (None, 1000, Some("b0"), StartedAt(1235), true, false),
        (Some(1030), 1029, Some("b0"), StartedAt(1234), false, false),
        (Some(1030), 1030, Some("b0"), StartedAt(1234), false, true),
        (Some(1030), 1030, Some("b0"), StartedAt(1234), true, true),
        (Some(1030), 1000, Some("b0"), StartedAt(1234), false, false),
        (Some(1030), 999, Some("b0"), StartedAt(1234), false, true),
    ];
    for row in rows {
        let (tentative_until, now, boot_id, daemon, has_status, expected) = *row;
        let reservation = Reservation {
            tentative_until,
            ..example()
        };
        let void = reservation.void(now, boot_id, daemon, has_status);
        assert_eq!(void.is_some(), expected, "{row:?} gave {void:?}");
    }
}

#[test]
fn start_time_is_counted_after_the_name() {
    let tail = "S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 987654 20 21";
    for name in ["libvirtd", "a b", "x) S 1 (y", ""] {
        assert_eq!(
            start_time(&format!("42 ({name}) {tail}\n")),
            Some(987_654),
            "{name}"
        );
    }
    for bad in [
        "",
        "42 (x",
        "42 (x) S 1 2",
        "42 (x) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 -1",
    ] {
        assert_eq!(start_time(bad), None, "{bad}");
    }
}

proptest! {
    #[test]
    fn written_and_read_is_the_same(
        name in ".*",
        cpus in proptest::collection::btree_set(0u32..16_384, 0..40),
        withheld in proptest::collection::btree_set(0u32..16_384, 0..8),
        memory in proptest::collection::vec(
            (proptest::option::of(0u32..64), proptest::option::of(1u64..1 << 21), 0u64..1 << 40), 0..5),
        until in proptest::option::of(any::<u64>()),
        start_time: u64,
    ) {
        let reservation = Reservation {
            name,
            cpus: cpus.into_iter().map(HostCpu).collect(),
            withheld: withheld.into_iter().map(HostCpu).collect(),
            memory: memory
                .into_iter()
                .map(|(node, page, kib)| ReservedMemory {
                    node: node.map(NodeId),
                    page_kib: page.map(KiB),
                    kib: KiB(kib),
                })
                .collect(),
            tentative_until: until,
            start_time,
            ..example()
        };
        let text = reservation.to_json().unwrap();
        prop_assert_eq!(text.lines().count(), 1);
        prop_assert_eq!(Reservation::from_json(&text).unwrap(), reservation);
    }

    #[test]
    fn any_text_is_an_error_or_a_reservation(text in ".*") {
        let _ = Reservation::from_json(&text);
        let _ = start_time(&text);
    }
}
