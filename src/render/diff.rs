//! Unified diff of `plan --diff`.

use similar::{ChangeTag, TextDiff};

use crate::render::Style;
use crate::render::escape;
use crate::render::layout::{Paint, paint_into};

/// Lines of context around a change, as in `diff -u`.
const CONTEXT: usize = 3;

/// Returns the unified diff from `old` to `new`; empty where they are equal. `name` goes into the
/// headers.
///
/// Lines are not cut to the width. Control characters are escaped (a tab stays), so text with such
/// characters does not make a patch that applies.
pub fn unified(old: &str, new: &str, name: &str, style: &Style) -> String {
    let diff = TextDiff::from_lines(old, new);
    let mut out = String::new();
    for (index, hunk) in diff
        .unified_diff()
        .context_radius(CONTEXT)
        .iter_hunks()
        .enumerate()
    {
        if index == 0 {
            let name = escape::clean(name, style.unicode);
            put(&mut out, &format!("--- {name}"), Paint::Removed, style);
            put(&mut out, &format!("+++ {name} (virtfit)"), Paint::Added, style);
        }
        put(&mut out, &hunk.header().to_string(), Paint::Dim, style);
        for change in hunk.iter_changes() {
            let (sign, paint) = match change.tag() {
                ChangeTag::Equal => (' ', Paint::Plain),
                ChangeTag::Delete => ('-', Paint::Removed),
                ChangeTag::Insert => ('+', Paint::Added),
            };
            let text = change.value();
            let body = text.strip_suffix('\n').unwrap_or(text);
            let line = format!("{sign}{}", escape::clean_line(body, style.unicode));
            put(&mut out, &line, paint, style);
            if !text.ends_with('\n') {
                put(&mut out, "\\ No newline at end of file", Paint::Dim, style);
            }
        }
    }
    out
}

fn put(out: &mut String, line: &str, paint: Paint, style: &Style) {
    paint_into(out, line, paint, style);
    out.push('\n');
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const OLD: &str = "<domain>\n  <name>a</name>\n  <vcpu>4</vcpu>\n  <os/>\n  <x/>\n  <y/>\n</domain>\n";

    #[test]
    fn equal_texts_have_no_diff() {
        assert_eq!(unified(OLD, OLD, "a", &Style::default()), "");
        assert_eq!(unified("", "", "a", &Style::default()), "");
    }

    #[test]
    fn a_change_stands_in_its_context() {
        let new = OLD.replace("  <os/>\n", "  <os/>\n  <cputune/>\n");
        let want = "--- a.xml\n+++ a.xml (virtfit)\n@@ -2,6 +2,7 @@\n   <name>a</name>\n   <vcpu>4</vcpu>\n   <os/>\n\
                    +  <cputune/>\n   <x/>\n   <y/>\n </domain>\n";
        assert_eq!(unified(OLD, &new, "a.xml", &Style::default()), want);
    }

    #[test]
    fn escapes_of_the_terminal_do_not_get_through() {
        let got = unified("a\r\n", "\x1b[2Jb\tc", "n\x1b", &Style::default());
        assert!(!got.contains('\x1b') && !got.contains('\r'), "{got:?}");
        assert!(
            got.contains("+\\u{1b}[2Jb\tc\n\\ No newline at end of file\n"),
            "{got:?}"
        );
    }

    #[test]
    fn colour_only_wraps_lines() {
        let style = Style {
            color: true,
            ..Style::default()
        };
        let got = unified("a\n", "b\n", "n", &style);
        assert!(got.contains("\x1b[31m-a\x1b[0m\n\x1b[32m+b\x1b[0m\n"), "{got:?}");
    }
}
