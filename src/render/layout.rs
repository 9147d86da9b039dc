//! Lines of styled text, measured in terminal columns.

use unicode_width::UnicodeWidthChar;

use crate::render::Style;
use crate::render::escape::clean;
use crate::types::line_breaks::{self, LongWord};

/// Look of a piece of text where colour is asked for. Without colour the text has the same meaning.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Paint {
    Plain,
    /// Headings.
    Strong,
    /// CPUs and values of the planned guest.
    Own,
    /// CPUs of other guests.
    Other,
    /// Parts of the guest with this colour.
    Guest(usize),
    /// Parts of no interest here.
    Dim,
    /// Bad news.
    Bad,
    /// Added lines.
    Added,
    /// Removed lines.
    Removed,
}

/// Colours of guests, of the 256 that terminals have: those that colour-blind people tell apart
/// (Okabe and Ito, "Color Universal Design", 2008), as far as they read on light and dark.
const GUESTS: [&str; 7] = [
    "1;38;5;172", // orange
    "1;38;5;74",  // sky blue
    "1;38;5;36",  // bluish green
    "1;38;5;142", // yellow
    "1;38;5;32",  // blue
    "1;38;5;166", // vermilion
    "1;38;5;175", // reddish purple
];

impl Paint {
    /// Returns the ANSI "select graphic rendition" parameters (ECMA-48, 8.3.117).
    fn sgr(self) -> Option<&'static str> {
        Some(match self {
            Self::Plain => return None,
            Self::Strong => "1",
            Self::Own => "1;36",
            Self::Other => "35",
            Self::Guest(color) => GUESTS[color % GUESTS.len()],
            Self::Dim => "2",
            Self::Bad => "1;31",
            Self::Added => "32",
            Self::Removed => "31",
        })
    }
}

/// Returns the number of columns a text takes.
pub(crate) fn width(text: &str) -> usize {
    text.chars().map(char_width).sum()
}

fn char_width(c: char) -> usize {
    c.width().unwrap_or(0)
}

/// Line of styled pieces.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Line {
    spans: Vec<(String, Paint)>,
    columns: usize,
    /// A command, which is never cut: it is to be pasted.
    whole: bool,
}

impl Line {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Makes a line of one piece.
    pub(crate) fn of(text: impl Into<String>, paint: Paint) -> Self {
        let mut line = Self::new();
        line.push(text, paint);
        line
    }

    /// Makes a line of a command, which is neither wrapped nor cut, behind an indent.
    pub(crate) fn command(indent: &str, command: &str, style: &Style) -> Self {
        let mut line = Self::of(indent, Paint::Plain);
        line.push(clean(command, style.unicode), Paint::Plain);
        Self { whole: true, ..line }
    }

    /// Makes a line as [`Line::command`] does, of a command for a guest: one whose name the reader
    /// could not type as it is shown is named by its UUID.
    pub(crate) fn command_for(
        (name, uuid): (&str, Option<&str>),
        indent: &str,
        command: &str,
        style: &Style,
    ) -> Self {
        match uuid.filter(|uuid| !uuid.is_empty() && clean(command, style.unicode) != command) {
            Some(uuid) => Self::command(indent, &command.replace(name, uuid), style),
            None => Self::command(indent, command, style),
        }
    }

    /// Appends a piece.
    pub(crate) fn push(&mut self, text: impl Into<String>, paint: Paint) -> &mut Self {
        let text = text.into();
        if !text.is_empty() {
            self.columns += width(&text);
            self.spans.push((text, paint));
        }
        self
    }

    /// Appends another line's pieces.
    pub(crate) fn append(&mut self, other: &Line) -> &mut Self {
        self.columns += other.columns;
        self.spans.extend(other.spans.iter().cloned());
        self
    }

    /// Fills a line with blanks up to a column.
    pub(crate) fn pad_to(&mut self, column: usize) -> &mut Self {
        let missing = column.saturating_sub(self.columns);
        self.push(" ".repeat(missing), Paint::Plain)
    }

    /// Returns the number of columns filled.
    pub(crate) fn width(&self) -> usize {
        self.columns
    }

    /// Writes the line as text with a line feed: no blanks at its end, cut off at the width.
    pub(crate) fn finish(&self, style: &Style, out: &mut String) {
        let limit = match self.whole {
            true => self.columns,
            false => style.columns(),
        };
        let mut left = if self.columns > limit {
            limit.saturating_sub(width(style.ellipsis()))
        } else {
            limit
        };
        let start = out.len();
        for (text, paint) in &self.spans {
            let (piece, used) = fitting(text, left);
            left -= used;
            paint_into(out, piece, *paint, style);
            if piece.len() < text.len() {
                break;
            }
        }
        if self.columns > limit {
            out.push_str(style.ellipsis());
        }
        let kept = out[start..].trim_end_matches(' ').len();
        out.truncate(start + kept);
        out.push('\n');
    }
}

/// Appends a text in its colour. Blanks at its ends are not coloured, so that they can be trimmed.
pub(crate) fn paint_into(out: &mut String, text: &str, paint: Paint, style: &Style) {
    match paint.sgr() {
        Some(sgr) if style.color && !text.trim_matches(' ').is_empty() => {
            let body = text.trim_matches(' ');
            let lead = text.len() - text.trim_start_matches(' ').len();
            out.push_str(&text[..lead]);
            out.push_str("\x1b[");
            out.push_str(sgr);
            out.push('m');
            out.push_str(body);
            out.push_str("\x1b[0m");
            out.push_str(&text[lead + body.len()..]);
        }
        _ => out.push_str(text),
    }
}

/// Returns the longest beginning of a text that takes at most so many columns, and the columns it
/// takes.
fn fitting(text: &str, columns: usize) -> (&str, usize) {
    let mut used = 0;
    for (at, c) in text.char_indices() {
        let w = char_width(c);
        if used + w > columns {
            return (&text[..at], used);
        }
        used += w;
    }
    (text, used)
}

/// Cuts a text to at most so many columns, with an ellipsis where it was cut.
pub(crate) fn cut(text: &str, columns: usize, style: &Style) -> String {
    if width(text) <= columns {
        return text.to_string();
    }
    let dots = style.ellipsis();
    let room = columns.saturating_sub(width(dots));
    format!("{}{dots}", fitting(text, room).0)
}

/// Breaks a text into lines of at most `columns` columns, between words where possible. Returns at
/// least one line.
pub(crate) fn wrap(text: &str, columns: usize) -> Vec<String> {
    // A character is at most two columns wide.
    line_breaks::wrap(text, columns.max(2), LongWord::Broken)
}

/// Appends a text with a first indent and a hanging one, wrapped to the style's width.
pub(crate) fn paragraph(
    out: &mut Vec<Line>,
    first: &str,
    hang: usize,
    text: &str,
    paint: Paint,
    style: &Style,
) {
    let room = style.columns().saturating_sub(hang.max(width(first)));
    for (index, piece) in wrap(text, room).into_iter().enumerate() {
        let mut line = Line::new();
        if index == 0 {
            line.push(first, Paint::Plain);
        }
        line.pad_to(hang);
        line.push(piece, paint);
        out.push(line);
    }
}

/// Joins lines into one text.
pub(crate) fn finish(lines: &[Line], style: &Style) -> String {
    let mut out = String::new();
    for line in lines {
        line.finish(style, &mut out);
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_wide_character_counts_two_columns() {
        for (text, columns) in [("abc", 3), ("bär", 3), ("漢字", 4), ("e\u{301}", 1), ("", 0)] {
            assert_eq!(width(text), columns, "{text:?}");
        }
    }

    #[test]
    fn colour_leaves_no_blanks_at_the_end() {
        let style = Style {
            color: true,
            ..Style::default()
        };
        let mut out = String::new();
        Line::of("v0 ", Paint::Own).pad_to(9).finish(&style, &mut out);
        assert_eq!(out, "\x1b[1;36mv0\x1b[0m\n");
    }

    proptest! {
        #[test]
        fn no_line_is_wider_than_the_page(text in "\\PC{0,120}", page in 0usize..90) {
            let style = Style { width: page, ..Style::default() };
            let mut out = String::new();
            Line::of(text, Paint::Plain).finish(&style, &mut out);
            prop_assert!(width(out.trim_end_matches('\n')) <= style.columns());
        }
    }
}
