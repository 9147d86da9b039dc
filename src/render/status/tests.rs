use std::collections::BTreeMap;

use super::*;
use crate::status::{Code, Thread};
use crate::types::cpulist;
use crate::types::ids::NodeId;

fn status() -> Status {
    let thread = |wrong: Option<&str>| Thread {
        wrong: wrong.map(String::from),
        ..Thread::default()
    };
    let odd = Guest {
        name: "a-very-long-name-of-a-guest-\u{1b}[31m-漢字".into(),
        state: "running".into(),
        profile: Some("a-profile-with-a-long-name".into()),
        held: cpulist::parse("2-5,18-21,34-37,50-53,66-69").unwrap(),
        floating: cpulist::parse("0-1").unwrap(),
        realtime: Some("fifo".into()),
        memory_kib: KiB(1536 * 1024),
        page_kib: Some(KiB(1 << 20)),
        wait_percent: Some(12.34),
        threads: vec![thread(Some("vhost-4711 on CPU 3")), thread(None)],
        pending: vec!["shut down, start".into()],
        notes: vec![
            Note::new(Code::ThreadElsewhere, "vhost-4711 on CPU 3"),
            Note::new(Code::Restart, "shut down, start"),
        ],
        ..Guest::default()
    };
    Status {
        guests: vec![odd],
        nodes: vec![Node {
            id: NodeId(0),
            cpus: cpulist::parse("0-15").unwrap(),
            held: cpulist::parse("2-5").unwrap(),
            free: cpulist::parse("6-11").unwrap(),
            whole_cores: 3,
            memory_free_kib: Some(KiB(3_250_586)),
            pages_free: BTreeMap::from([(KiB(2048), 512)]),
        }],
        ..Status::default()
    }
}

#[test]
fn no_line_is_wider_than_the_page_and_nothing_moves_the_cursor() {
    for columns in [40, 50, 60, 80, 100] {
        let style = Style {
            width: columns,
            unicode: true,
            color: false,
        };
        let text = text(&status(), &style);
        for line in text.lines() {
            assert!(width(line) <= columns, "{columns}: {line}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
        // Of the host's table nothing is cut, where there is room for its numbers.
        let table = text.lines().skip_while(|line| !line.starts_with("NODE"));
        let cut = table.filter(|line| line.contains('…')).count();
        assert!(cut == 0 || columns < 50, "{columns}:\n{text}");
        // The important words are there however narrow the page is.
        let words = text.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(words.contains("vhost-4711"), "{columns}:\n{text}");
    }
}

#[test]
fn a_status_goes_through_json_unchanged() {
    let status = status();
    let json = status.to_json().unwrap();
    assert!(json.contains(r#""held":"2-5,18-21,34-37,50-53,66-69""#), "{json}");
    assert_eq!(serde_json::from_str::<Status>(&json).unwrap(), status);
}
