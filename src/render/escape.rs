//! Text from outside, made safe for a terminal.

use crate::types::printable::{is_unsafe, push_escape};

/// Returns a text without control characters: each becomes its escape (`\n`, `\u{1b}`). The
/// invisible characters that reorder or hide text become escapes too (bidirectional controls,
/// zero-width ones, variation selectors, tags; Unicode Technical Report 36, section 2.5). Without
/// `unicode`, everything beyond ASCII does, except a few signs that have an ASCII twin.
pub(crate) fn clean(text: &str, unicode: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        push(&mut out, c, unicode);
    }
    out
}

/// Cleans a text as [`clean`] does, but keeps tabs: for lines of a file that are shown as they are.
pub(crate) fn clean_line(text: &str, unicode: bool) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if c == '\t' {
            out.push(c);
        } else {
            push(&mut out, c, unicode);
        }
    }
    out
}

fn push(out: &mut String, c: char, unicode: bool) {
    match c {
        '\n' => out.push_str("\\n"),
        '\r' => out.push_str("\\r"),
        '\t' => out.push_str("\\t"),
        ' '..='~' => out.push(c),
        _ if is_unsafe(c) => push_escape(out, c),
        _ if unicode => out.push(c),
        _ => match ascii_twin(c) {
            Some(twin) => out.push_str(twin),
            None => push_escape(out, c),
        },
    }
}

fn ascii_twin(c: char) -> Option<&'static str> {
    Some(match c {
        '→' => "->",
        '…' => "...",
        '–' | '—' | '−' => "-",
        '×' => "x",
        '≥' => ">=",
        '≤' => "<=",
        '‘' | '’' => "'",
        '“' | '”' => "\"",
        '\u{a0}' => " ",
        _ => return None,
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_moves_the_cursor_or_hides_text_gets_through() {
        for (given, unicode, ascii) in [
            ("db-1", "db-1", "db-1"),
            ("a\x1b[31mred", r"a\u{1b}[31mred", r"a\u{1b}[31mred"),
            ("two\nlines\r\t", r"two\nlines\r\t", r"two\nlines\r\t"),
            ("c1 \u{9b}2J", r"c1 \u{9b}2J", r"c1 \u{9b}2J"),
            ("bidi \u{202e}fdp", r"bidi \u{202e}fdp", r"bidi \u{202e}fdp"),
            ("zero\u{200b}width", r"zero\u{200b}width", r"zero\u{200b}width"),
            ("bär → 1 …", "bär → 1 …", r"b\u{e4}r -> 1 ..."),
            ("", "", ""),
        ] {
            assert_eq!(clean(given, true), unicode, "{given:?} on a UTF-8 terminal");
            assert_eq!(clean(given, false), ascii, "{given:?} in ASCII");
        }
        assert_eq!(clean_line("\t<a>\r", true), "\t<a>\\r");
    }
}
