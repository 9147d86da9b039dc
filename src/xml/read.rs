//! Tokens into a tree, and refusal of everything that libvirt's parser would refuse.

use std::collections::HashSet;
use std::ops::Range;

use quick_xml::errors::{Error as QuickError, IllFormedError};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

use crate::xml::error::{XmlError, short};
use crate::xml::text::decode;
use crate::xml::tree::{Attribute, ElementId, MAX_ATTRIBUTES, MAX_DEPTH, MAX_ELEMENTS, Node};

/// Elements and attributes of a document while its text is read.
#[derive(Debug)]
pub(super) struct Pieces<'t> {
    text: &'t str,
    pub nodes: Vec<Node>,
    pub attributes: Vec<Attribute>,
}

impl<'t> Pieces<'t> {
    /// Reads the elements and attributes of a text.
    pub(crate) fn of(text: &'t str) -> Result<Self, XmlError> {
        let mut pieces = Self {
            text,
            nodes: Vec::new(),
            attributes: Vec::new(),
        };
        pieces.read()?;
        Ok(pieces)
    }

    fn read(&mut self) -> Result<(), XmlError> {
        let text = self.text;
        // Offsets count from the beginning of the text, but quick-xml counts from behind a byte
        // order mark.
        let skip = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
        if text[skip..].starts_with('\u{feff}') {
            // quick-xml would skip it without counting its bytes; libxml2 refuses it.
            return Err(XmlError::at(text, skip, "text outside the root element"));
        }
        let mut reader = Reader::from_str(&text[skip..]);
        reader.config_mut().check_comments = true;
        let mut open: Vec<ElementId> = Vec::new();
        let mut start = skip;
        loop {
            let event = reader.read_event().map_err(|error| {
                XmlError::at(text, skip + reader.error_position() as usize, describe(&error))
            })?;
            let end = skip + reader.buffer_position() as usize;
            let fail = |problem: &str| Err(XmlError::at(text, start, problem));
            // quick-xml accepts more than libxml2 does. What only libxml2 refuses is refused here,
            // at its own position.
            match event {
                Event::Start(_) | Event::Empty(_) if open.is_empty() && !self.nodes.is_empty() => {
                    return fail("a second root element");
                }
                Event::Start(tag) => {
                    if open.len() == MAX_DEPTH {
                        return fail("elements nested deeper than 256, libvirt's limit");
                    }
                    let id = self.push(&tag, start..end, open.last().copied())?;
                    open.push(id);
                }
                Event::Empty(tag) => {
                    self.push(&tag, start..end, open.last().copied())?;
                }
                Event::End(_) => {
                    // quick-xml has checked that the end tag matches.
                    if let Some(id) = open.pop() {
                        self.nodes[id.0 as usize].end_tag = start..end;
                    }
                }
                Event::Text(_) => {
                    let piece = &text[start..end];
                    if open.is_empty() && !piece.trim().is_empty() {
                        return fail("text outside the root element");
                    }
                    if piece.contains("]]>") {
                        return fail("']]>' in text");
                    }
                }
                Event::GeneralRef(_) => {
                    if open.is_empty() {
                        return fail("an entity outside the root element");
                    }
                    if decode(&text[start..end]).is_none() {
                        return fail("an entity that XML does not predefine");
                    }
                }
                Event::CData(_) if open.is_empty() => return fail("CDATA outside the root element"),
                Event::DocType(_) => return fail("a document type declaration (DTD); domain XML has none"),
                Event::Decl(_) if start != skip => {
                    return fail("an XML declaration that is not at the beginning");
                }
                Event::Eof => break,
                _ => {}
            }
            start = end;
        }
        // quick-xml does not report elements that are still open at the end of the text.
        if let Some(id) = open.last() {
            let tag = &self.nodes[id.0 as usize].start_tag;
            let name = &text[self.nodes[id.0 as usize].name.clone()];
            let line = XmlError::at(text, tag.start, "").line;
            return Err(XmlError::at(
                text,
                text.len(),
                format!("the text ends inside <{}>, opened in line {line}", short(name)),
            ));
        }
        if self.nodes.is_empty() {
            return Err(XmlError::at(text, text.len(), "no element: the text is empty"));
        }
        Ok(())
    }

    fn push(
        &mut self,
        tag: &BytesStart<'_>,
        span: Range<usize>,
        parent: Option<ElementId>,
    ) -> Result<ElementId, XmlError> {
        let name = span.start + 1..span.start + 1 + tag.name().as_ref().len();
        if !is_name(&self.text[name.clone()]) {
            return Err(XmlError::at(
                self.text,
                span.start,
                "an element without a proper name",
            ));
        }
        if self.nodes.len() == MAX_ELEMENTS {
            let problem = format!("more than {MAX_ELEMENTS} elements, far above what a guest has");
            return Err(XmlError::at(self.text, span.start, problem));
        }
        let first_attribute = self.attributes.len();
        self.read_attributes(name.end, &span)?;
        let id = ElementId(self.nodes.len() as u32);
        self.nodes.push(Node {
            parent,
            first_child: None,
            last_child: None,
            next_sibling: None,
            end_tag: span.end..span.end,
            start_tag: span,
            name,
            attributes: first_attribute..self.attributes.len(),
        });
        if let Some(parent) = parent {
            match self.nodes[parent.0 as usize].last_child.replace(id) {
                None => self.nodes[parent.0 as usize].first_child = Some(id),
                Some(before) => self.nodes[before.0 as usize].next_sibling = Some(id),
            }
        }
        Ok(id)
    }

    /// Reads `name="value"` pairs from the end of the element's name to the end of its tag.
    fn read_attributes(&mut self, from: usize, tag: &Range<usize>) -> Result<(), XmlError> {
        let text = self.text;
        let bytes = text.as_bytes();
        // The `/` of a self-closing tag is no part of the last attribute.
        let end = tag.end
            - if bytes[tag.end - 2] == b'/' && tag.end - 2 >= from {
                2
            } else {
                1
            };
        let mut seen = HashSet::new();
        let mut at = from;
        loop {
            // The white space before an attribute belongs to it, so that removing both restores the
            // tag.
            let whole = at;
            while at < end && bytes[at].is_ascii_whitespace() {
                at += 1;
            }
            if at >= end {
                return Ok(());
            }
            let fail = |at: usize, problem: &str| Err(XmlError::at(text, at, problem));
            if at == whole {
                return fail(at, "no white space before an attribute");
            }
            let name_start = at;
            while at < end && !bytes[at].is_ascii_whitespace() && bytes[at] != b'=' {
                at += 1;
            }
            let name = name_start..at;
            if !is_name(&text[name.clone()]) {
                return fail(name_start, "an attribute without a proper name");
            }
            while at < end && bytes[at].is_ascii_whitespace() {
                at += 1;
            }
            if at >= end || bytes[at] != b'=' {
                return fail(at, "an attribute without a value");
            }
            at += 1;
            while at < end && bytes[at].is_ascii_whitespace() {
                at += 1;
            }
            let quote = bytes
                .get(at)
                .copied()
                .filter(|b| at < end && matches!(b, b'"' | b'\''));
            let Some(quote) = quote else {
                return fail(at, "an attribute value without quotes");
            };
            let value_start = at + 1;
            let Some(length) = bytes[value_start..end].iter().position(|b| *b == quote) else {
                return fail(at, "an attribute value without its closing quote");
            };
            let value = value_start..value_start + length;
            at = value.end + 1;
            // The value goes through libxml2's checks: no `<`, only known entities, no name twice.
            let raw = &text[value.clone()];
            if raw.contains('<') {
                return fail(value.start, "'<' in an attribute value");
            }
            if raw.contains('&') && decode(raw).is_none() {
                return fail(value.start, "an entity that XML does not predefine");
            }
            if !seen.insert(&text[name.clone()]) {
                return fail(name_start, "an attribute that is there twice");
            }
            if seen.len() > MAX_ATTRIBUTES {
                let problem = format!("more than {MAX_ATTRIBUTES} attributes in one element");
                return fail(name_start, &problem);
            }
            self.attributes.push(Attribute {
                whole: whole..at,
                name,
                value,
            });
        }
    }
}

/// Refuses characters that libxml2 refuses: control characters and the non-characters U+FFFE and
/// U+FFFF.
pub(super) fn check_characters(text: &str) -> Result<(), XmlError> {
    let bytes = text.as_bytes();
    let bad = |i: usize, b: u8| {
        (b < 0x20 && !matches!(b, b'\t' | b'\n' | b'\r'))
            || (b == 0xEF && bytes[i + 1] == 0xBF && bytes[i + 2] >= 0xBE)
    };
    match bytes.iter().enumerate().find(|(i, b)| bad(*i, **b)) {
        None => Ok(()),
        Some((at, byte)) => Err(XmlError::at(
            text,
            at,
            format!("a character XML does not allow (byte 0x{byte:02x})"),
        )),
    }
}

fn is_name(name: &str) -> bool {
    let mut bytes = name.bytes();
    bytes
        .next()
        .is_some_and(|b| b.is_ascii_alphabetic() || b == b'_' || b == b':' || b >= 0x80)
        && bytes.all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'-' | b'.') || b >= 0x80)
}

/// Returns the name of a tag for a message; the rest of the tag may be a password.
fn name_of(tag: &str) -> String {
    short(tag.split_whitespace().next().unwrap_or_default())
}

fn describe(error: &QuickError) -> String {
    match error {
        QuickError::IllFormed(IllFormedError::MissingEndTag(name)) => {
            format!("the text ends inside <{}>", name_of(name))
        }
        QuickError::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
            format!("</{}> where </{}> should be", name_of(found), name_of(expected))
        }
        other => other
            .to_string()
            .trim_start_matches("syntax error: ")
            .trim_start_matches("ill-formed document: ")
            .to_string(),
    }
}
