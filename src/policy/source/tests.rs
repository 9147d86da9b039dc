use super::*;

fn shown(text: &str, what: &str) -> String {
    let start = text.find(what).unwrap();
    let source = Arc::new(Source::new("p.toml", text));
    Problem::at(Place::new(&source, start..start + what.len()), "wrong").to_string()
}

#[test]
fn carets_stand_below_the_place() {
    for (text, what, expected) in [
        ("a = X\n", "X", "p.toml:1:5: wrong\n    a = X\n        ^"),
        (
            "\r\nä = XY\r\n",
            "XY",
            "p.toml:2:5: wrong\n    ä = XY\n        ^^",
        ),
        ("\ta\t= X", "X", "p.toml:1:6: wrong\n    \ta\t= X\n    \t \t  ^"),
        ("x\n\nX", "X", "p.toml:3:1: wrong\n    X\n    ^"),
    ] {
        assert_eq!(shown(text, what), expected, "{text:?}");
    }
}

#[test]
fn a_long_line_is_cut_around_the_place() {
    let text = format!("a = [{}X, {}]", "1, ".repeat(100), "2, ".repeat(100));
    let out = shown(&text, "X");
    let lines: Vec<&str> = out.lines().collect();
    assert!(lines.iter().all(|l| l.chars().count() <= 80), "{out}");
    let caret = lines[2].chars().position(|c| c == '^').unwrap();
    assert_eq!(lines[1].chars().nth(caret), Some('X'), "{out}");
}

#[test]
fn places_outside_the_text_do_no_harm() {
    let source = Arc::new(Source::new("p", "\u{feff}ab\n"));
    for span in [0..0, 2..9, 3..3, 99..120] {
        let place = Place::new(&source, span.clone());
        assert!(Problem::at(place, "x").to_string().contains("p:"), "{span:?}");
    }
}

#[test]
fn control_characters_do_not_reach_the_terminal() {
    assert!(!shown("a = \u{1b}[31mX", "X").contains('\u{1b}'));
    assert!(!printable("a\u{1b}\n").contains(['\u{1b}', '\n']));
}
