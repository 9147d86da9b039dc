//! Text for people, kept to 80 columns.

use crate::types::line_breaks::{self, LongWord};

/// Line width in columns, also where stdout is no terminal.
const WIDTH: usize = 80;

/// Breaks a text at blanks so that no line is longer than 80 columns. Lines after the first begin
/// with `indent` blanks; the first one stands behind as many columns. Words that are longer than a
/// line stay whole.
pub(crate) fn wrapped(text: &str, indent: usize) -> String {
    let words: Vec<&str> = text.split_whitespace().collect();
    let lines = line_breaks::wrap(&words.join(" "), WIDTH - indent, LongWord::Whole);
    lines.join(&format!("\n{}", " ".repeat(indent)))
}

/// Writes a line of TOML with a comment: beside the line where that fits 80 columns, else above it.
pub(crate) fn commented(line: &str, comment: &str) -> String {
    const COLUMN: usize = 39;
    let (width, beside) = (line.chars().count(), comment.chars().count() + 3);
    if width + beside > WIDTH || line.contains('\n') {
        return format!("# {comment}\n{line}\n");
    }
    // Comments line up where there is room, else they come as close to the column as 80 columns
    // allow.
    let pad = COLUMN.saturating_sub(width).min(WIDTH - width - beside);
    format!("{line}{} # {comment}\n", " ".repeat(pad))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_stay_within_80_columns() {
        let text = "word ".repeat(60);
        for line in wrapped(&text, 4).lines() {
            assert!(line.len() <= WIDTH, "{line}");
        }
        assert_eq!(commented("a = 1", "here").find('#'), Some(40));
        assert!(commented(&"x".repeat(70), "here is a file:4").starts_with("# here"));
        assert_eq!(commented(&"x".repeat(30), &"y".repeat(47)).len(), 81);
    }
}
