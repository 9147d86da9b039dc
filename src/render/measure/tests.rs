use std::fs;
use std::path::Path;

use super::*;
use crate::measure::compare;
use crate::measure::tests::{CROWDED, FITTED, made};

fn fitted() -> Measurement {
    let mut fitted = made(&FITTED);
    fitted.began += 3725;
    // Below its name the same guest is there with a name that steers terminals, and new.
    let mut odd = made(&FITTED).guests[0].clone();
    odd.name = "w\u{1b}[31m漢字".into();
    odd.uuid = "2".into();
    odd.memory = None;
    odd.kvm_exits = None;
    fitted.guests.push(odd);
    fitted
}

#[test]
fn measure_goldens() {
    let (crowded, fitted) = (made(&CROWDED), fitted());
    let mut other_work = fitted.clone();
    other_work.guests[0].figures[0].value = Some(0.2);
    let style = Style::default();
    for (name, got) in [
        ("measure.txt", text(&crowded, None, &style)),
        (
            "measure-better.txt",
            text(&fitted, Some(&compare(&crowded, &fitted)), &style),
        ),
        (
            "measure-worse.txt",
            text(&crowded, Some(&compare(&fitted, &crowded)), &style),
        ),
        (
            "measure-same.txt",
            text(&crowded, Some(&compare(&crowded, &crowded)), &style),
        ),
        (
            "measure-other-work.txt",
            text(&other_work, Some(&compare(&crowded, &other_work)), &style),
        ),
        (
            "measure-no-guest.txt",
            text(&Measurement::default(), None, &style),
        ),
    ] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("tests/render")
            .join(name);
        if std::env::var_os("VIRTFIT_BLESS").is_some() {
            fs::write(&path, &got).unwrap();
        }
        let want = fs::read_to_string(&path).unwrap_or_default();
        assert!(want == got, "{name} differs; got:\n{got}\nwant:\n{want}");
    }
}

#[test]
fn no_line_is_wider_than_the_page_and_nothing_moves_the_cursor() {
    let (crowded, fitted) = (made(&CROWDED), fitted());
    for columns in [40, 60, 80, 100] {
        let style = Style {
            width: columns,
            unicode: true,
            color: false,
        };
        let text = text(&fitted, Some(&compare(&crowded, &fitted)), &style);
        for line in text.lines() {
            assert!(width(line) <= columns, "{columns}: {line}");
        }
        assert!(!text.contains('\u{1b}'), "{text}");
    }
}
