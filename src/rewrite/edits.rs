//! Byte edits of one text, collected and applied in one pass.

use std::collections::HashSet;
use std::ops::Range;

use crate::xml::{Element, ElementId};

struct Edit {
    range: Range<usize>,
    text: String,
}

/// Edits of one text. What lies within bytes that go is not looked at any more.
pub(super) struct Edits<'d> {
    text: &'d str,
    edits: Vec<Edit>,
    /// Elements that go.
    removed: HashSet<ElementId>,
    removed_attributes: HashSet<(ElementId, String)>,
}

impl<'d> Edits<'d> {
    pub(super) fn new(text: &'d str) -> Self {
        Self {
            text,
            edits: Vec::new(),
            removed: HashSet::new(),
            removed_attributes: HashSet::new(),
        }
    }

    /// The text being edited.
    pub(super) fn text(&self) -> &'d str {
        self.text
    }

    /// Puts `text` in place of a range; nothing is done where that changes nothing.
    pub(super) fn replace(&mut self, range: Range<usize>, text: String) {
        if self.text.get(range.clone()) != Some(text.as_str()) {
            self.edits.push(Edit { range, text });
        }
    }

    /// Inserts before the byte at `offset`; later insertions at the same place follow.
    pub(super) fn insert(&mut self, offset: usize, text: String) {
        self.replace(offset..offset, text);
    }

    /// Takes an element out, with the white space before it.
    pub(super) fn remove(&mut self, element: &Element<'d>) {
        if self.removed.insert(element.id()) {
            self.replace(with_space(self.text, element), String::new());
        }
    }

    /// Whether an element goes.
    pub(super) fn removes(&self, element: &Element<'d>) -> bool {
        self.removed.contains(&element.id())
    }

    /// Sets an attribute to raw bytes (without quotes), or adds it after the others.
    pub(super) fn set_attribute(&mut self, element: &Element<'d>, name: &str, raw: &str) {
        match element.attr_value_span(name) {
            Some(range) => {
                let old = &self.text[range.clone()];
                let quote = self.text[range.end..].chars().next().unwrap_or('\'');
                if old != raw {
                    // Bytes that come back stood between other quotes, perhaps.
                    let entity = if quote == '"' { "&quot;" } else { "&apos;" };
                    self.replace(range, raw.replace(quote, entity));
                }
            }
            None => {
                let end = element
                    .raw_attrs()
                    .filter_map(|(name, _)| element.attr_span(name))
                    .last();
                let at = end.map_or(element.name_span().end, |span| span.end);
                let quote = if raw.contains('\'') { '"' } else { '\'' };
                self.insert(at, format!(" {name}={quote}{raw}{quote}"));
            }
        }
    }

    /// Takes an attribute out, with the white space before it.
    pub(super) fn remove_attribute(&mut self, element: &Element<'d>, name: &str) {
        if let Some(range) = element.attr_span(name)
            && self.removed_attributes.insert((element.id(), name.to_string()))
        {
            self.replace(range, String::new());
        }
    }

    /// Whether an attribute goes.
    pub(super) fn removes_attribute(&self, element: &Element<'d>, name: &str) -> bool {
        self.removed_attributes
            .contains(&(element.id(), name.to_string()))
    }

    /// Walks `count` bytes on from `from`, not counting bytes that go. `None` past `limit`.
    pub(super) fn walk(&self, from: usize, count: usize, limit: usize) -> Option<usize> {
        let mut gone: Vec<&Range<usize>> = self
            .edits
            .iter()
            .map(|edit| &edit.range)
            .filter(|range| !range.is_empty() && range.start >= from)
            .collect();
        gone.sort_by_key(|range| (range.start, range.end));
        let mut at = from;
        let mut left = count;
        for range in gone {
            if left == 0 || range.start > at + left {
                break;
            }
            if range.start < at {
                continue;
            }
            left -= range.start - at;
            if left == 0 {
                at = range.start;
                break;
            }
            at = range.end;
        }
        let end = at + left;
        (end <= limit && self.text.is_char_boundary(end)).then_some(end)
    }

    /// The edited text.
    pub(super) fn finish(mut self) -> String {
        // At one place insertions come first, in their order, then what goes. Of two ranges that start together the
        // longer one holds the other; of two equal ones the later was made knowing of the earlier.
        let mut edits: Vec<(usize, Edit)> = std::mem::take(&mut self.edits).into_iter().enumerate().collect();
        edits.sort_by_key(|(turn, edit)| match edit.range.len() {
            0 => (edit.range.start, 0, *turn),
            length => (edit.range.start, usize::MAX - length, usize::MAX - turn),
        });
        let grown: usize = edits.iter().map(|(_, edit)| edit.text.len()).sum();
        let mut out = String::with_capacity(self.text.len() + grown);
        let mut at = 0;
        for (_, edit) in &edits {
            if edit.range.start < at {
                continue;
            }
            out.push_str(&self.text[at..edit.range.start]);
            out.push_str(&edit.text);
            at = edit.range.end;
        }
        out.push_str(&self.text[at..]);
        out
    }
}

/// An element's bytes with the white space before it.
pub(super) fn with_space(text: &str, element: &Element<'_>) -> Range<usize> {
    let span = element.span();
    space_start(text, span.start)..span.end
}

/// Where the white space that ends at `offset` begins.
pub(super) fn space_start(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    let space = before
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_whitespace())
        .count();
    offset - space
}

/// The bytes between the quotes of ` name='value'`.
pub(super) fn value_in(raw: &str) -> &str {
    let Some(start) = raw.find(['"', '\'']) else {
        return "";
    };
    let quoted = &raw[start + 1..];
    quoted.get(..quoted.len().saturating_sub(1)).unwrap_or_default()
}

/// Whether a piece between elements does not end inside a comment, CDATA section or processing instruction.
pub(super) fn is_whole(piece: &str) -> bool {
    let mut rest = piece;
    while let Some(at) = rest.find('<') {
        rest = &rest[at..];
        let end = if rest.starts_with("<!--") {
            "-->"
        } else if rest.starts_with("<![CDATA[") {
            "]]>"
        } else if rest.starts_with("<?") {
            "?>"
        } else {
            ">"
        };
        match rest.find(end) {
            Some(length) => rest = &rest[length + end.len()..],
            None => return false,
        }
    }
    true
}
