//! Byte edits of one text, collected and applied in one pass.

use std::collections::HashSet;
use std::ops::Range;

use crate::xml::{Element, ElementId};

struct Edit {
    range: Range<usize>,
    text: String,
}

/// Edits of one text. An edit within bytes that another edit removes has no effect.
pub(super) struct Edits<'d> {
    text: &'d str,
    edits: Vec<Edit>,
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

    /// Returns the text that is edited.
    pub(super) fn text(&self) -> &'d str {
        self.text
    }

    /// Replaces a range by `text`; a replacement by equal bytes is not recorded.
    pub(super) fn replace(&mut self, range: Range<usize>, text: String) {
        if self.text.get(range.clone()) != Some(text.as_str()) {
            self.edits.push(Edit { range, text });
        }
    }

    /// Inserts before the byte at `offset`, behind earlier insertions at that offset.
    pub(super) fn insert(&mut self, offset: usize, text: String) {
        self.replace(offset..offset, text);
    }

    /// Removes an element with the white space before it.
    pub(super) fn remove(&mut self, element: &Element<'d>) {
        if self.removed.insert(element.id()) {
            self.replace(with_space(self.text, element), String::new());
        }
    }

    /// Returns true if an element is removed.
    pub(super) fn removes(&self, element: &Element<'d>) -> bool {
        self.removed.contains(&element.id())
    }

    /// Sets an attribute to raw bytes (without quotes), or adds it after the other attributes.
    pub(super) fn set_attribute(&mut self, element: &Element<'d>, name: &str, raw: &str) {
        match element.attr_value_span(name) {
            Some(range) => {
                let old = &self.text[range.clone()];
                let quote = self.text[range.end..].chars().next().unwrap_or('\'');
                if old != raw {
                    // The raw bytes may have stood between quotes of the other kind.
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

    /// Removes an attribute with the white space before it.
    pub(super) fn remove_attribute(&mut self, element: &Element<'d>, name: &str) {
        if let Some(range) = element.attr_span(name)
            && self.removed_attributes.insert((element.id(), name.to_string()))
        {
            self.replace(range, String::new());
        }
    }

    /// Returns true if an attribute is removed.
    pub(super) fn removes_attribute(&self, element: &Element<'d>, name: &str) -> bool {
        self.removed_attributes
            .contains(&(element.id(), name.to_string()))
    }

    /// Returns the bytes that are removed or replaced.
    pub(super) fn gone(&self) -> Gone {
        let ranges = self.edits.iter().map(|edit| edit.range.clone());
        let mut ranges: Vec<Range<usize>> = ranges.filter(|range| !range.is_empty()).collect();
        ranges.sort_by_key(|range| (range.start, std::cmp::Reverse(range.end)));
        let mut gone = Gone::default();
        let (mut end, mut before) = (0, 0);
        // As in the edited text, a range that begins within another one has no effect.
        for range in ranges {
            if range.start >= end {
                end = range.end;
                gone.ranges.push((range.clone(), range.start - before));
                before += range.len();
            }
        }
        gone
    }

    /// Returns the edited text.
    pub(super) fn finish(mut self) -> String {
        // At one offset, insertions come first, in their order, then removals. Of two ranges that
        // begin together, the longer one contains the other; of two equal ones the later edit wins,
        // as it was made with knowledge of the earlier.
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

/// Returns the bytes of an element with the white space before it.
pub(super) fn with_space(text: &str, element: &Element<'_>) -> Range<usize> {
    let span = element.span();
    space_start(text, span.start)..span.end
}

/// Returns the start of the white space that ends at `offset`.
pub(super) fn space_start(text: &str, offset: usize) -> usize {
    let before = text.as_bytes().get(..offset).unwrap_or_default();
    let space = before
        .iter()
        .rev()
        .take_while(|byte| byte.is_ascii_whitespace())
        .count();
    offset - space
}

/// Returns the bytes between the quotes of ` name='value'`.
pub(super) fn value_in(raw: &str) -> &str {
    let Some(start) = raw.find(['"', '\'']) else {
        return "";
    };
    let quoted = &raw[start + 1..];
    quoted.get(..quoted.len().saturating_sub(1)).unwrap_or_default()
}

/// Bytes of a text that are removed: ranges in order without overlaps, each with the number of
/// bytes before it that stay.
#[derive(Debug, Default)]
pub(super) struct Gone {
    ranges: Vec<(Range<usize>, usize)>,
}

impl Gone {
    /// Returns the offset `count` bytes after `from`, removed bytes not counted; `None` beyond
    /// `limit`.
    pub(super) fn walk(&self, from: usize, count: usize, limit: usize) -> Option<usize> {
        let first = self.ranges.partition_point(|(range, _)| range.start < from);
        let ranges = &self.ranges[first..];
        let Some((range, kept)) = ranges.first() else {
            return from.checked_add(count).filter(|end| *end <= limit);
        };
        // Number of bytes that stay before `from`, counted back from the next range.
        let start = (kept + from).checked_sub(range.start)?;
        let wanted = start.checked_add(count)?;
        // The last range that lies wholly before the result: more bytes are wanted than stay before
        // it.
        let passed = ranges.partition_point(|(_, kept)| *kept < wanted);
        let end = match passed.checked_sub(1).map(|last| &ranges[last]) {
            Some((range, kept)) => range.end.checked_add(wanted - kept)?,
            None => from.checked_add(count)?,
        };
        (end <= limit).then_some(end)
    }
}

/// Comments, CDATA sections, processing instructions and tags of a text, in order.
#[derive(Debug)]
pub(super) struct Tokens {
    ranges: Vec<Range<usize>>,
}

impl Tokens {
    pub(super) fn of(text: &str) -> Self {
        let mut ranges = Vec::new();
        let mut at = 0;
        while let Some(found) = text[at..].find('<') {
            let start = at + found;
            let rest = &text[start..];
            let close = if rest.starts_with("<!--") {
                "-->"
            } else if rest.starts_with("<![CDATA[") {
                "]]>"
            } else if rest.starts_with("<?") {
                "?>"
            } else {
                ">"
            };
            at = rest
                .find(close)
                .map_or(text.len(), |length| start + length + close.len());
            ranges.push(start..at);
        }
        Self { ranges }
    }

    /// Returns true if an offset is not inside one of the tokens.
    pub(super) fn is_between(&self, offset: usize) -> bool {
        let next = self.ranges.partition_point(|range| range.start < offset);
        let before = next.checked_sub(1).map(|last| &self.ranges[last]);
        before.is_none_or(|range| range.end <= offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_walk_does_not_count_what_goes() {
        let text = "0123456789";
        let mut edits = Edits::new(text);
        for range in [2..4, 3..5, 7..8] {
            edits.replace(range, String::new());
        }
        let gone = edits.gone();
        // from, count, limit, end
        for (from, count, limit, end) in [
            (0, 0, 10, Some(0)),
            (0, 2, 10, Some(2)),
            (0, 3, 10, Some(5)),
            (0, 5, 10, Some(7)),
            (0, 6, 10, Some(9)),
            (0, 6, 8, None),
            (0, 7, 10, Some(10)),
            (0, 8, 10, None),
            (5, 2, 10, Some(7)),
            (5, 3, 10, Some(9)),
            (8, 2, 10, Some(10)),
            (8, usize::MAX, 10, None),
            (0, usize::MAX, usize::MAX, None),
            (2, 0, 10, Some(2)),
        ] {
            assert_eq!(gone.walk(from, count, limit), end, "{count} on from {from}");
        }
    }

    #[test]
    fn offsets_between_tokens() {
        let text = "<a><!-- <b> -->x<?p?> <![CDATA[>]]></a>";
        let tokens = Tokens::of(text);
        for (part, inside) in [
            ("<a>", false),
            ("<!-- ", true),
            ("x", false),
            ("?p", true),
            ("x<", true),
        ] {
            let end = text.find(part).map_or(0, |start| start + part.len());
            assert_eq!(tokens.is_between(end), !inside, "{part}");
        }
        assert!(tokens.is_between(text.len()) && tokens.is_between(0));
    }
}
