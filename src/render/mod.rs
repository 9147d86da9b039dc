//! Text for people: a plan in words, drawn on the host it is made for. Pure functions; nothing here
//! prints.
//!
//! Every text from outside (names, XML values, reasons that quote them) goes through
//! [`escape::clean`], so that no control character of a domain XML reaches a terminal. No line is
//! wider than [`Style::width`], but for commands, which are to be pasted.

mod bands;
pub(crate) mod check;
pub mod diff;
pub(crate) mod escape;
pub(crate) mod json;
mod layout;
mod legend;
pub(crate) mod map;
pub(crate) mod measure;
mod memory;
pub(crate) mod metrics;
mod picture;
pub mod plan;
mod rows;
pub(crate) mod status;
mod table;
mod value;

/// Narrowest page text is laid out for, in columns; a narrower one is treated as this wide.
pub const MIN_WIDTH: usize = 40;

/// Properties of the reader's screen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Style {
    /// Columns: 80 when not on a terminal, up to 100 on one. Less than [`MIN_WIDTH`] counts as
    /// that.
    pub width: usize,
    /// The screen shows more than ASCII (a UTF-8 locale).
    pub unicode: bool,
    /// ANSI colours are written. A colour repeats what the text says and never adds to it.
    pub color: bool,
}

impl Default for Style {
    /// Returns the style of a pipe or a file: 80 columns, ASCII, no colour.
    fn default() -> Self {
        Self {
            width: 80,
            unicode: false,
            color: false,
        }
    }
}

impl Style {
    /// Returns the columns to lay out for.
    fn columns(&self) -> usize {
        self.width.max(MIN_WIDTH)
    }

    /// Returns the arrow before a consequence of a change.
    fn arrow(&self) -> &'static str {
        if self.unicode { "→" } else { "->" }
    }

    /// Returns the sign for text that was cut off.
    fn ellipsis(&self) -> &'static str {
        if self.unicode { "…" } else { "..." }
    }
}
