//! Errors in an XML text.

use std::fmt;

use crate::panics::Bug;

/// Error in an XML text, with its position.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub struct XmlError {
    /// Line, from 1; 0 where virtfit itself failed ([`Bug`]).
    pub line: usize,
    /// Column in characters, from 1; 0 where virtfit itself failed.
    pub column: usize,
    /// Description of the error.
    pub problem: String,
}

impl fmt::Display for XmlError {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.is_bug() {
            true => write!(out, "{}", self.problem),
            false => write!(
                out,
                "line {}, column {}: {}",
                self.line, self.column, self.problem
            ),
        }
    }
}

impl From<Bug> for XmlError {
    fn from(bug: Bug) -> Self {
        Self {
            line: 0,
            column: 0,
            problem: format!("failed: {bug}"),
        }
    }
}

/// Limit of a description, in characters: a message is one line for a person, whatever the text
/// contains.
const LONGEST: usize = 400;
/// Limit of a quotation in a description, in characters.
const LONGEST_QUOTE: usize = 60;

/// Cuts a piece of a text for a message, on one line.
pub(crate) fn short(text: &str) -> String {
    let line: String = text.split_whitespace().collect::<Vec<_>>().join(" ");
    limited(line, LONGEST_QUOTE)
}

fn limited(text: String, longest: usize) -> String {
    match text.char_indices().nth(longest) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

impl XmlError {
    /// Returns true if virtfit failed rather than the text.
    pub(crate) fn is_bug(&self) -> bool {
        self.line == 0
    }

    /// Makes an error at a byte offset of `text`.
    pub(crate) fn at(text: &str, offset: usize, problem: impl Into<String>) -> Self {
        let mut cut = offset.min(text.len());
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        let before = &text[..cut];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Self {
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: limited(problem.into(), LONGEST),
        }
    }
}
