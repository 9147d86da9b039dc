//! Text of foreign origin, made safe to print: names of guests and files may hold sequences that a
//! terminal obeys, and characters that reorder or hide what is beside them.

use std::fmt::Write as _;

/// Returns whether a character is better shown as its escape: a control character (C0, C1), or an
/// invisible one that reorders or hides text (bidirectional controls, zero-width ones, variation
/// selectors, tags; Unicode Technical Report 36, section 2.5).
pub fn is_unsafe(c: char) -> bool {
    c.is_control()
        || matches!(c,
            '\u{ad}' | '\u{61c}' | '\u{115f}' | '\u{1160}' | '\u{17b4}' | '\u{17b5}' | '\u{180b}'..='\u{180f}'
            | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{3164}'
            | '\u{fe00}'..='\u{fe0f}' | '\u{feff}' | '\u{ffa0}' | '\u{fff0}'..='\u{fffb}'
            | '\u{1d173}'..='\u{1d17a}' | '\u{e0000}'..='\u{e0fff}')
}

/// Returns the text with each unsafe character but line ends as its escape: `\u{202e}`.
pub fn visible(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '\n' => out.push(c),
            _ if is_unsafe(c) => push_escape(&mut out, c),
            _ => out.push(c),
        }
    }
    out
}

/// Appends the escape of a character: `\u{1b}`.
pub fn push_escape(out: &mut String, c: char) {
    // Writing to a String cannot fail.
    let _ = write!(out, "\\u{{{:x}}}", u32::from(c));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_obeys_or_hides_gets_through() {
        for (given, shown) in [
            ("db-1", "db-1"),
            ("two\nlines", "two\nlines"),
            ("a\u{1b}[31mred\r\t", r"a\u{1b}[31mred\u{d}\u{9}"),
            ("c1 \u{9b}2J", r"c1 \u{9b}2J"),
            (
                "bidi \u{202e}fdp\u{2066}x\u{2069}",
                r"bidi \u{202e}fdp\u{2066}x\u{2069}",
            ),
            ("zero\u{200b}width\u{feff}", r"zero\u{200b}width\u{feff}"),
            ("b\u{e4}r \u{2192} 1", "b\u{e4}r \u{2192} 1"),
        ] {
            assert_eq!(visible(given), shown, "{given:?}");
        }
    }
}
