//! Places in a policy file's text, and problems shown with their line and a caret.

use std::fmt;
use std::ops::Range;
use std::sync::{Arc, OnceLock};

use crate::types::printable::{is_unsafe, visible as visible_text};

/// Limit of the piece of a source line that a message shows, in characters.
const EXCERPT: usize = 70;

/// Limit of the problems that are shown; a file with more of them is hardly a policy.
const MOST_SHOWN: usize = 500;

/// One policy file: its name in messages, and its text without a byte order mark.
#[derive(Debug, Default)]
pub(crate) struct Source {
    path: String,
    text: String,
    line_starts: OnceLock<Vec<usize>>,
}

impl Source {
    /// Takes a file's text under the name that messages use.
    pub(crate) fn new(path: &str, text: &str) -> Self {
        Self {
            path: printable(path),
            text: text.strip_prefix('\u{feff}').unwrap_or(text).to_string(),
            line_starts: OnceLock::new(),
        }
    }

    /// Returns the file's name in messages.
    fn path(&self) -> &str {
        &self.path
    }

    /// Returns the file's text.
    pub(crate) fn text(&self) -> &str {
        &self.text
    }

    fn line_starts(&self) -> &[usize] {
        self.line_starts.get_or_init(|| {
            std::iter::once(0)
                .chain(
                    self.text
                        .bytes()
                        .enumerate()
                        .filter(|(_, b)| *b == b'\n')
                        .map(|(i, _)| i + 1),
                )
                .collect()
        })
    }

    /// Returns the number of the line at a byte offset, from 1, and the line's byte range without
    /// its line end.
    fn line_at(&self, offset: usize) -> (usize, Range<usize>) {
        let starts = self.line_starts();
        let number = starts.partition_point(|start| *start <= offset).max(1);
        let start = starts.get(number - 1).copied().unwrap_or(0);
        let end = starts.get(number).map_or(self.text.len(), |next| next - 1);
        let line = self.text.get(start..end).unwrap_or("");
        (number, start..start + line.trim_end_matches('\r').len())
    }
}

/// Piece of a policy file.
#[derive(Debug, Clone)]
pub struct Place {
    source: Arc<Source>,
    span: Range<usize>,
}

impl Place {
    /// Returns the place of the bytes `span` of a file, cut to the bytes there are.
    pub(crate) fn new(source: &Arc<Source>, span: Range<usize>) -> Self {
        let end = span.end.min(source.text.len());
        Self {
            source: Arc::clone(source),
            span: span.start.min(end)..end,
        }
    }

    /// Returns the file's name in messages.
    pub(crate) fn path(&self) -> &str {
        self.source.path()
    }

    /// Returns the line, from 1.
    pub(crate) fn line(&self) -> usize {
        self.source.line_at(self.span.start).0
    }

    /// Returns the column in characters, from 1.
    pub(crate) fn column(&self) -> usize {
        let (_, line) = self.source.line_at(self.span.start);
        let before = self.source.text.get(line.start..self.span.start);
        1 + before.map_or(0, |text| text.chars().count())
    }

    /// Returns the offset of the first byte.
    pub(crate) fn start(&self) -> usize {
        self.span.start
    }

    /// Returns the source line, a long one cut around the place, and carets below the place.
    fn excerpt(&self) -> String {
        let (_, line) = self.source.line_at(self.span.start);
        let text = self.source.text.get(line.clone()).unwrap_or("");
        let first = self.column() - 1;
        let span_end = self.span.end.min(line.end).max(self.span.start.min(line.end));
        let marked = self.source.text.get(self.span.start.min(line.end)..span_end);
        let width = marked.map_or(0, |text| text.chars().count()).max(1);
        let total = text.chars().count();
        // The place stays in the window, with some of the text before it for orientation.
        let from = if total <= EXCERPT || first < EXCERPT / 2 {
            0
        } else {
            first - EXCERPT / 4
        };
        let shown: String = text.chars().skip(from).take(EXCERPT).map(visible).collect();
        let (lead, tail) = (
            if from > 0 { "..." } else { "" },
            if from + EXCERPT < total { "..." } else { "" },
        );
        let pad: String = text
            .chars()
            .skip(from)
            .take(first - from)
            .map(|c| if c == '\t' { '\t' } else { ' ' })
            .collect();
        let carets = "^".repeat(width.min((from + EXCERPT).saturating_sub(first)).max(1));
        let lead_pad = " ".repeat(lead.len());
        format!("    {lead}{shown}{tail}\n    {lead_pad}{pad}{carets}")
    }
}

impl fmt::Display for Place {
    /// Writes `file:line`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.path(), self.line())
    }
}

fn visible(c: char) -> char {
    if c != '\t' && is_unsafe(c) { '\u{fffd}' } else { c }
}

/// Returns a text as it may go into a message: unsafe characters as escapes, cut to 200 characters.
pub(crate) fn printable(text: &str) -> String {
    const MOST: usize = 200;
    let first: String = text.chars().take(MOST).collect();
    let mut out = visible_text(&first).replace('\n', "\\n");
    if text.chars().nth(MOST).is_some() {
        out.push_str("...");
    }
    out
}

/// One problem of the policy.
#[derive(Debug, Clone)]
pub struct Problem {
    /// File's name in messages.
    pub path: String,
    /// Place in the file; `None` where the whole file is the problem (it cannot be read, say).
    pub place: Option<Place>,
    /// Description of the problem.
    pub message: String,
    /// Second place that is part of the problem, with its description.
    pub also: Option<Box<(String, Place)>>,
    /// Advice on the next step, where the message does not imply it.
    pub next: Option<String>,
}

impl Problem {
    /// Makes a problem at a place.
    pub(crate) fn at(place: Place, message: impl Into<String>) -> Self {
        Self {
            path: place.path().to_string(),
            place: Some(place),
            message: message.into(),
            also: None,
            next: None,
        }
    }

    /// Makes a problem of a whole file.
    pub(crate) fn file(path: &str, message: impl Into<String>) -> Self {
        Self {
            path: printable(path),
            place: None,
            message: message.into(),
            also: None,
            next: None,
        }
    }

    /// Adds advice on the next step.
    #[must_use]
    pub(crate) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }

    /// Adds a second place with its description.
    #[must_use]
    pub(crate) fn also(mut self, what: impl Into<String>, place: Place) -> Self {
        self.also = Some(Box::new((what.into(), place)));
        self
    }
}

impl fmt::Display for Problem {
    /// Writes `file:line:column: problem`, the line, a caret line, the second place likewise, and
    /// the advice.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.place {
            None => write!(f, "{}: {}", self.path, self.message)?,
            Some(place) => {
                let (line, column) = (place.line(), place.column());
                write!(
                    f,
                    "{}:{line}:{column}: {}\n{}",
                    self.path,
                    self.message,
                    place.excerpt()
                )?;
            }
        }
        if let Some((what, place)) = self.also.as_deref() {
            let (path, line, column) = (place.path(), place.line(), place.column());
            write!(f, "\n  {what} at {path}:{line}:{column}:\n{}", place.excerpt())?;
        }
        if let Some(next) = &self.next {
            write!(f, "\n  {next}")?;
        }
        Ok(())
    }
}

/// All problems of the policy, in the order of files and lines; never empty. Its text has the first
/// 500.
#[derive(Debug, Clone)]
pub struct PolicyErrors(pub Vec<Problem>);

impl fmt::Display for PolicyErrors {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.0.iter().take(MOST_SHOWN).enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{problem}")?;
        }
        match self.0.len().saturating_sub(MOST_SHOWN) {
            0 => Ok(()),
            more => write!(f, "\n... and {more} more"),
        }
    }
}

impl std::error::Error for PolicyErrors {}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
