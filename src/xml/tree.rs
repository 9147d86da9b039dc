//! A read-only tree over XML text in which every element and attribute knows its bytes.
//!
//! Tokens come from quick-xml; what it does not check and libvirt's parser (libxml2) refuses is checked here, so that a
//! text this module accepts is one libvirt can read. DTDs are refused altogether: libvirt needs none and entity
//! bombs live there.

use std::borrow::Cow;
use std::ops::Range;

use quick_xml::errors::{Error as QuickError, IllFormedError};
use quick_xml::events::{BytesStart, Event};
use quick_xml::reader::Reader;

/// The largest text accepted, in bytes: the longest string libvirt's RPC carries (`REMOTE_STRING_MAX`), so no domain
/// libvirt knows is larger.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// The deepest nesting accepted: libxml2's own limit (`xmlParserMaxDepth`).
pub const MAX_DEPTH: usize = 256;

/// What is wrong with an XML text, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line}, column {column}: {problem}")]
pub struct XmlError {
    /// From 1.
    pub line: usize,
    /// From 1, in characters.
    pub column: usize,
    /// What is wrong there.
    pub problem: String,
}

impl XmlError {
    /// An error at a byte offset of `text`.
    pub fn at(text: &str, offset: usize, problem: impl Into<String>) -> Self {
        let mut cut = offset.min(text.len());
        while !text.is_char_boundary(cut) {
            cut -= 1;
        }
        let before = &text[..cut];
        let line_start = before.rfind('\n').map_or(0, |i| i + 1);
        Self {
            line: before.bytes().filter(|b| *b == b'\n').count() + 1,
            column: before[line_start..].chars().count() + 1,
            problem: problem.into(),
        }
    }
}

/// Names an element of one [`Document`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementId(u32);

#[derive(Debug)]
struct Node {
    parent: Option<ElementId>,
    first_child: Option<ElementId>,
    last_child: Option<ElementId>,
    next_sibling: Option<ElementId>,
    /// `<name …>` or `<name …/>`.
    start_tag: Range<usize>,
    /// `</name>`; empty at the end of a self-closing tag.
    end_tag: Range<usize>,
    name: Range<usize>,
    /// Into `Document::attributes`.
    attributes: Range<usize>,
}

#[derive(Debug)]
struct Attribute {
    /// With the white space before it: ` cache='none'`.
    whole: Range<usize>,
    name: Range<usize>,
    /// Between the quotes.
    value: Range<usize>,
}

/// A parsed text.
#[derive(Debug)]
pub struct Document<'a> {
    text: &'a str,
    nodes: Vec<Node>,
    attributes: Vec<Attribute>,
}

/// An element of a [`Document`].
#[derive(Clone, Copy)]
pub struct Element<'d> {
    document: &'d Document<'d>,
    id: ElementId,
}

impl<'a> Document<'a> {
    /// Parses bytes that should be UTF-8.
    ///
    /// # Errors
    /// As [`Document::parse`], and for bytes that are not UTF-8.
    pub fn parse_bytes(bytes: &'a [u8]) -> Result<Self, XmlError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                Err(XmlError::at(&good, good.len(), "not valid UTF-8"))
            }
        }
    }

    /// Parses a text.
    ///
    /// # Errors
    /// It is empty, larger than [`MAX_BYTES`], nested deeper than [`MAX_DEPTH`], has a DTD, or is not well-formed.
    pub fn parse(text: &'a str) -> Result<Self, XmlError> {
        if text.len() > MAX_BYTES {
            return Err(XmlError::at(
                "",
                0,
                format!(
                    "{} bytes of XML; libvirt takes no more than {MAX_BYTES}",
                    text.len()
                ),
            ));
        }
        check_characters(text)?;
        let mut document = Self {
            text,
            nodes: Vec::new(),
            attributes: Vec::new(),
        };
        document.read()?;
        Ok(document)
    }

    /// The text it was parsed from.
    pub fn text(&self) -> &'a str {
        self.text
    }

    /// The root element.
    pub fn root(&self) -> Element<'_> {
        self.element(ElementId(0))
    }

    /// The element with this id.
    pub fn element(&self, id: ElementId) -> Element<'_> {
        Element { document: self, id }
    }

    fn read(&mut self) -> Result<(), XmlError> {
        let text = self.text;
        let skip = if text.starts_with('\u{feff}') {
            '\u{feff}'.len_utf8()
        } else {
            0
        };
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
                    // quick-xml has checked that it matches.
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
                    if decode(&text[start..end]).is_err() {
                        return fail("an entity that XML does not predefine");
                    }
                }
                Event::CData(_) if open.is_empty() => return fail("CDATA outside the root element"),
                Event::DocType(_) => return fail("a document type declaration (DTD); domain XML has none"),
                Event::Decl(declaration) => {
                    if start != skip {
                        return fail("an XML declaration that is not at the beginning");
                    }
                    if let Some(Ok(encoding)) = declaration.encoding()
                        && !encoding.eq_ignore_ascii_case("utf-8")
                        && !encoding.eq_ignore_ascii_case("us-ascii")
                    {
                        return fail("an encoding other than UTF-8");
                    }
                }
                Event::Eof => break,
                _ => {}
            }
            start = end;
        }
        if let Some(id) = open.last() {
            let tag = &self.nodes[id.0 as usize].start_tag;
            let name = &text[self.nodes[id.0 as usize].name.clone()];
            let line = XmlError::at(text, tag.start, "").line;
            return Err(XmlError::at(
                text,
                text.len(),
                format!("the text ends inside <{name}>, opened in line {line}"),
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
        let end = tag.end
            - if bytes[tag.end - 2] == b'/' && tag.end - 2 >= from {
                2
            } else {
                1
            };
        let first = self.attributes.len();
        let mut at = from;
        loop {
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
            let raw = &text[value.clone()];
            if raw.contains('<') {
                return fail(value.start, "'<' in an attribute value");
            }
            if raw.contains('&') && decode(raw).is_err() {
                return fail(value.start, "an entity that XML does not predefine");
            }
            if self.attributes[first..]
                .iter()
                .any(|other| text[other.name.clone()] == text[name.clone()])
            {
                return fail(name_start, "an attribute that is there twice");
            }
            self.attributes.push(Attribute {
                whole: whole..at,
                name,
                value,
            });
        }
    }
}

impl<'d> Element<'d> {
    fn node(&self) -> &'d Node {
        &self.document.nodes[self.id.0 as usize]
    }

    fn slice(&self, range: &Range<usize>) -> &'d str {
        &self.document.text[range.clone()]
    }

    /// Its id in the document.
    pub fn id(&self) -> ElementId {
        self.id
    }

    /// Its name with any prefix.
    pub fn name(&self) -> &'d str {
        self.slice(&self.node().name)
    }

    /// Its name without prefix.
    pub fn local_name(&self) -> &'d str {
        self.name().rsplit(':').next().unwrap_or_default()
    }

    /// The namespace it is in; `None` where it is in none.
    pub fn namespace(&self) -> Option<Cow<'d, str>> {
        let declaration = match self.name().split_once(':') {
            Some((prefix, _)) => Cow::Owned(format!("xmlns:{prefix}")),
            None => Cow::Borrowed("xmlns"),
        };
        let mut here = Some(*self);
        while let Some(element) = here {
            if let Some(uri) = element.attr(&declaration) {
                return Some(uri).filter(|uri| !uri.is_empty());
            }
            here = element.parent();
        }
        None
    }

    /// The element around it.
    pub fn parent(&self) -> Option<Element<'d>> {
        self.node().parent.map(|id| self.document.element(id))
    }

    /// Child elements in order.
    pub fn children(&self) -> impl Iterator<Item = Element<'d>> + use<'d> {
        let document = self.document;
        let mut next = self.node().first_child;
        std::iter::from_fn(move || {
            let id = next?;
            next = document.nodes[id.0 as usize].next_sibling;
            Some(document.element(id))
        })
    }

    /// Child elements of this name that are in no namespace prefix.
    pub fn children_named(&self, name: &'d str) -> impl Iterator<Item = Element<'d>> + use<'d> {
        self.children().filter(move |child| child.name() == name)
    }

    /// The first child element of this name.
    pub fn child(&self, name: &str) -> Option<Element<'d>> {
        self.children().find(|child| child.name() == name)
    }

    /// The first element found by following child names.
    pub fn descend(&self, path: &[&str]) -> Option<Element<'d>> {
        path.iter().try_fold(*self, |element, name| element.child(name))
    }

    /// An attribute's value, entities resolved.
    pub fn attr(&self, name: &str) -> Option<Cow<'d, str>> {
        let attribute = self.attribute(name)?;
        let raw = self.slice(&attribute.value);
        Some(decode(raw).unwrap_or(Cow::Borrowed(raw)))
    }

    /// The bytes of an attribute with the white space before it: ` cache='none'`.
    pub fn attr_span(&self, name: &str) -> Option<Range<usize>> {
        self.attribute(name).map(|attribute| attribute.whole.clone())
    }

    /// The bytes between an attribute's quotes.
    pub fn attr_value_span(&self, name: &str) -> Option<Range<usize>> {
        self.attribute(name).map(|attribute| attribute.value.clone())
    }

    /// Attribute names in order, with their values as written.
    pub fn raw_attrs(&self) -> impl Iterator<Item = (&'d str, &'d str)> + use<'d> {
        let document = self.document;
        let attributes = &document.attributes[self.node().attributes.clone()];
        attributes
            .iter()
            .map(|a| (&document.text[a.name.clone()], &document.text[a.value.clone()]))
    }

    fn attribute(&self, name: &str) -> Option<&'d Attribute> {
        let attributes = &self.document.attributes[self.node().attributes.clone()];
        attributes.iter().find(|a| self.slice(&a.name) == name)
    }

    /// Its own text (not that of child elements), entities and CDATA resolved.
    pub fn text(&self) -> String {
        let mut out = String::new();
        let mut from = self.inner_span().start;
        for child in self.children() {
            append_text(&self.document.text[from..child.span().start], &mut out);
            from = child.span().end;
        }
        append_text(&self.document.text[from..self.inner_span().end], &mut out);
        out
    }

    /// All its bytes, tags included.
    pub fn span(&self) -> Range<usize> {
        self.node().start_tag.start..self.node().end_tag.end
    }

    /// Its bytes as they stand.
    pub fn raw(&self) -> &'d str {
        self.slice(&self.span())
    }

    /// `<name …>` or `<name …/>`.
    pub fn start_tag_span(&self) -> Range<usize> {
        self.node().start_tag.clone()
    }

    /// The bytes of its name in the start tag.
    pub fn name_span(&self) -> Range<usize> {
        self.node().name.clone()
    }

    /// Between its tags; empty at the end of a self-closing one.
    pub fn inner_span(&self) -> Range<usize> {
        self.node().start_tag.end..self.node().end_tag.start
    }

    /// Whether it is written `<name/>`.
    pub fn is_self_closing(&self) -> bool {
        self.node().end_tag.is_empty()
    }

    /// An error that points at this element.
    pub fn error(&self, problem: impl Into<String>) -> XmlError {
        XmlError::at(self.document.text, self.node().start_tag.start, problem)
    }
}

/// Text between elements: comments and processing instructions do not count.
fn append_text(piece: &str, out: &mut String) {
    let mut rest = piece;
    while let Some(at) = rest.find(['<', '&']) {
        out.push_str(&rest[..at]);
        rest = &rest[at..];
        let (end, content) = if let Some(cdata) = rest.strip_prefix("<![CDATA[") {
            let length = cdata.find("]]>").unwrap_or(cdata.len());
            out.push_str(&cdata[..length]);
            ("]]>", None)
        } else if rest.starts_with("<!--") {
            ("-->", None)
        } else if rest.starts_with("<?") {
            ("?>", None)
        } else {
            (";", Some(()))
        };
        let length = rest.find(end).map_or(rest.len(), |i| i + end.len());
        if content.is_some() {
            out.push_str(&decode(&rest[..length]).unwrap_or(Cow::Borrowed("")));
        }
        rest = &rest[length..];
    }
    out.push_str(rest);
}

/// Resolves the five predefined entities and character references.
fn decode(raw: &str) -> Result<Cow<'_, str>, quick_xml::escape::EscapeError> {
    quick_xml::escape::unescape(raw)
}

/// libxml2 refuses control characters and the two non-characters U+FFFE and U+FFFF.
fn check_characters(text: &str) -> Result<(), XmlError> {
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

fn describe(error: &QuickError) -> String {
    match error {
        QuickError::IllFormed(IllFormedError::MissingEndTag(name)) => {
            format!("the text ends inside <{name}>")
        }
        QuickError::IllFormed(IllFormedError::MismatchedEndTag { expected, found }) => {
            format!("</{found}> where </{expected}> should be")
        }
        other => other
            .to_string()
            .trim_start_matches("syntax error: ")
            .trim_start_matches("ill-formed document: ")
            .to_string(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn knows_where_things_stand() {
        let text = "<?xml version='1.0'?>\n<a x = \"1\">\n  t&amp;<b/>u<!-- c --><![CDATA[<v>]]>\n</a>";
        let document = Document::parse(text).unwrap();
        let root = document.root();
        assert_eq!(root.attr("x").unwrap(), "1");
        assert_eq!(&text[root.attr_span("x").unwrap()], " x = \"1\"");
        assert_eq!(root.text(), "\n  t&u<v>\n");
        let b = root.child("b").unwrap();
        assert!(b.is_self_closing());
        assert_eq!(b.raw(), "<b/>");
    }

    #[test]
    fn namespaces_resolve_through_parents() {
        let document = Document::parse("<a xmlns:v='urn:v'><v:b/><c xmlns='urn:c'><d/></c></a>").unwrap();
        let root = document.root();
        assert_eq!(root.namespace(), None);
        assert_eq!(root.child("v:b").unwrap().namespace().unwrap(), "urn:v");
        assert_eq!(root.descend(&["c", "d"]).unwrap().namespace().unwrap(), "urn:c");
    }

    #[test]
    fn refuses_with_a_position() {
        let deep = "<a>".repeat(100_000);
        let cases: &[(&str, &str)] = &[
            ("", "line 1, column 1: no element: the text is empty"),
            (
                "<a>\n <b>",
                "line 2, column 5: the text ends inside <b>, opened in line 2",
            ),
            ("<a></b>", "line 1, column 4: </b> where </a> should be"),
            (
                "<!DOCTYPE a [<!ENTITY e 'x'>]><a>&e;</a>",
                "line 1, column 1: a document type declaration",
            ),
            (
                "<a>&e;</a>",
                "line 1, column 4: an entity that XML does not predefine",
            ),
            (
                "<a b='&e;'/>",
                "line 1, column 7: an entity that XML does not predefine",
            ),
            (
                "<a b='1' b='2'/>",
                "line 1, column 10: an attribute that is there twice",
            ),
            ("<a b=1/>", "line 1, column 6: an attribute value without quotes"),
            ("<a/><b/>", "line 1, column 5: a second root element"),
            ("<a/>x", "line 1, column 5: text outside the root element"),
            ("<a>\u{1}</a>", "line 1, column 4: a character XML does not allow"),
            (&deep, "line 1, column 769: elements nested deeper than 256"),
        ];
        for (text, expected) in cases {
            let error = Document::parse(text).unwrap_err().to_string();
            assert!(
                error.starts_with(expected),
                "{error} for {}",
                &text[..text.len().min(40)]
            );
        }
        let error = Document::parse_bytes(b"<a>\n\xff</a>").unwrap_err().to_string();
        assert_eq!(error, "line 2, column 1: not valid UTF-8");
    }
}
