//! Read-only tree over an XML text in which every element and attribute knows its bytes.
//!
//! Tokens come from quick-xml. What quick-xml accepts and libvirt's parser (libxml2) refuses is
//! checked here, so that libvirt can read every text this module accepts. DTDs are refused
//! altogether: libvirt needs none, and entity bombs are made of them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;

use crate::panics;
use crate::xml::encoding;
use crate::xml::error::XmlError;
use crate::xml::read::{Pieces, check_characters};
use crate::xml::text::{append_text, decode};

/// Size limit of a text, in bytes: the longest string that libvirt's RPC carries
/// (`REMOTE_STRING_MAX`), so no domain known to libvirt is larger.
pub const MAX_BYTES: usize = 4 * 1024 * 1024;
/// Limit of nesting: libxml2's own (`xmlParserMaxDepth`).
pub(crate) const MAX_DEPTH: usize = 256;
/// Limit of an element's attributes. libvirt's own elements have fewer than 30, and a look-up by
/// name reads all of them.
pub(crate) const MAX_ATTRIBUTES: usize = 256;
/// Limit of a text's elements. The status file of a guest with 16,384 vCPUs (libvirt's limit), each
/// pinned and recorded, has about 100,000.
pub(crate) const MAX_ELEMENTS: usize = 200_000;

/// Id of an element of one [`Document`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ElementId(pub(super) u32);

#[derive(Debug)]
pub(super) struct Node {
    pub(super) parent: Option<ElementId>,
    pub(super) first_child: Option<ElementId>,
    pub(super) last_child: Option<ElementId>,
    pub(super) next_sibling: Option<ElementId>,
    /// Bytes of `<name …>` or `<name …/>`.
    pub(super) start_tag: Range<usize>,
    /// Bytes of `</name>`; empty at the end of a self-closing tag.
    pub(super) end_tag: Range<usize>,
    pub(super) name: Range<usize>,
    /// Indices into `Document::attributes`.
    pub(super) attributes: Range<usize>,
}

#[derive(Debug)]
pub(super) struct Attribute {
    /// Bytes with the white space before the attribute: ` cache='none'`.
    pub(super) whole: Range<usize>,
    pub(super) name: Range<usize>,
    /// Bytes between the quotes.
    pub(super) value: Range<usize>,
}

/// Parsed text.
#[derive(Debug)]
pub struct Document<'a> {
    pub(super) text: Cow<'a, str>,
    pub(super) nodes: Vec<Node>,
    pub(super) attributes: Vec<Attribute>,
}

/// Element of a [`Document`].
#[derive(Clone, Copy)]
pub struct Element<'d> {
    document: &'d Document<'d>,
    id: ElementId,
}

impl<'a> Document<'a> {
    /// Parses bytes that should be UTF-8.
    ///
    /// # Errors
    /// The errors of [`Document::parse`], and bytes that are not UTF-8; the error names another
    /// encoding.
    pub fn parse_bytes(bytes: &'a [u8]) -> Result<Self, XmlError> {
        match std::str::from_utf8(bytes) {
            Ok(text) => Self::parse(text),
            Err(error) => {
                if let Some(problem) = encoding::problem(bytes) {
                    return Err(XmlError::at("", 0, problem));
                }
                let good = String::from_utf8_lossy(&bytes[..error.valid_up_to()]);
                Err(XmlError::at(&good, good.len(), "not valid UTF-8"))
            }
        }
    }

    /// Parses a text.
    ///
    /// # Errors
    /// The text is empty, larger than [`MAX_BYTES`], nested deeper than [`MAX_DEPTH`] or not
    /// well-formed, has a DTD, or has more than [`MAX_ELEMENTS`] elements or [`MAX_ATTRIBUTES`]
    /// attributes in one element.
    pub fn parse(text: &'a str) -> Result<Self, XmlError> {
        Self::of(Cow::Borrowed(text))
    }

    /// Parses a text that is borrowed, or owned by the document from then on.
    ///
    /// # Errors
    /// The errors of [`Document::parse`].
    pub(crate) fn of(text: Cow<'a, str>) -> Result<Self, XmlError> {
        panics::guarded(|| Self::read(text))?
    }

    fn read(text: Cow<'a, str>) -> Result<Self, XmlError> {
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
        if let Some(problem) = encoding::problem(text.as_bytes()) {
            return Err(XmlError::at("", 0, problem));
        }
        check_characters(&text)?;
        let Pieces {
            nodes, attributes, ..
        } = Pieces::of(&text)?;
        Ok(Self {
            nodes,
            attributes,
            text,
        })
    }

    /// Returns the document's text.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// Returns the root element.
    pub fn root(&self) -> Element<'_> {
        self.element(ElementId(0))
    }

    /// Returns the element with this id.
    pub(crate) fn element(&self, id: ElementId) -> Element<'_> {
        Element { document: self, id }
    }
}

impl<'d> Element<'d> {
    fn node(&self) -> &'d Node {
        &self.document.nodes[self.id.0 as usize]
    }

    fn slice(&self, range: &Range<usize>) -> &'d str {
        &self.document.text[range.clone()]
    }

    /// Returns the element's id in the document.
    pub(crate) fn id(&self) -> ElementId {
        self.id
    }

    /// Returns the element's name, with its prefix if it has one.
    pub(crate) fn name(&self) -> &'d str {
        self.slice(&self.node().name)
    }

    /// Returns the element's name without prefix.
    pub(crate) fn local_name(&self) -> &'d str {
        self.name().rsplit(':').next().unwrap_or_default()
    }

    /// Returns the element's namespace; `None` where it is in none.
    pub fn namespace(&self) -> Option<Cow<'d, str>> {
        self.declared(&self.declaration()).filter(|uri| !uri.is_empty())
    }

    /// Returns the child elements in order, each with its namespace. Declarations outside the
    /// children are resolved once for each prefix, so that many children cost no more than their
    /// own bytes.
    pub(crate) fn children_with_namespaces(
        &self,
    ) -> impl Iterator<Item = (Element<'d>, Option<Rc<str>>)> + use<'d> {
        let parent = *self;
        let mut inherited: HashMap<String, Option<Rc<str>>> = HashMap::new();
        self.children().map(move |child| {
            let declaration = child.declaration();
            let uri = child.attr(&declaration).map(Rc::from).or_else(|| {
                let around = inherited.entry(declaration.into_owned());
                around
                    .or_insert_with_key(|declaration| parent.declared(declaration).map(Rc::from))
                    .clone()
            });
            (child, uri.filter(|uri| !uri.is_empty()))
        })
    }

    /// Returns the name of the attribute that declares the element's namespace.
    fn declaration(&self) -> Cow<'static, str> {
        match self.name().split_once(':') {
            Some((prefix, _)) => Cow::Owned(format!("xmlns:{prefix}")),
            None => Cow::Borrowed("xmlns"),
        }
    }

    /// Returns the value of a declaration, from this element or the nearest one around it.
    fn declared(&self, declaration: &str) -> Option<Cow<'d, str>> {
        let mut here = Some(*self);
        while let Some(element) = here {
            if let Some(uri) = element.attr(declaration) {
                return Some(uri);
            }
            here = element.parent();
        }
        None
    }

    /// Returns the element around this one.
    pub(crate) fn parent(&self) -> Option<Element<'d>> {
        self.node().parent.map(|id| self.document.element(id))
    }

    /// Returns the child elements in order.
    pub fn children(&self) -> impl Iterator<Item = Element<'d>> + use<'d> {
        let document = self.document;
        let mut next = self.node().first_child;
        std::iter::from_fn(move || {
            let id = next?;
            next = document.nodes[id.0 as usize].next_sibling;
            Some(document.element(id))
        })
    }

    /// Returns the child elements of this name; a name without prefix matches only elements without
    /// one.
    pub fn children_named(&self, name: &'d str) -> impl Iterator<Item = Element<'d>> + use<'d> {
        self.children().filter(move |child| child.name() == name)
    }

    /// Returns the first child element of this name.
    pub(crate) fn child(&self, name: &str) -> Option<Element<'d>> {
        self.children().find(|child| child.name() == name)
    }

    /// Returns an attribute's value, entities resolved.
    pub fn attr(&self, name: &str) -> Option<Cow<'d, str>> {
        let attribute = self.attribute(name)?;
        let raw = self.slice(&attribute.value);
        Some(decode(raw).unwrap_or(Cow::Borrowed(raw)))
    }

    /// Returns the bytes of an attribute with the white space before it: ` cache='none'`.
    pub fn attr_span(&self, name: &str) -> Option<Range<usize>> {
        self.attribute(name).map(|attribute| attribute.whole.clone())
    }

    /// Returns the bytes between an attribute's quotes.
    pub(crate) fn attr_value_span(&self, name: &str) -> Option<Range<usize>> {
        self.attribute(name).map(|attribute| attribute.value.clone())
    }

    /// Returns the attributes in order: name, and value as written.
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

    /// Returns the element's own text (not that of child elements), entities and CDATA resolved.
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

    /// Returns all bytes of the element, tags included.
    pub fn span(&self) -> Range<usize> {
        self.node().start_tag.start..self.node().end_tag.end
    }

    /// Returns the element as it is written.
    pub fn raw(&self) -> &'d str {
        self.slice(&self.span())
    }

    /// Returns the bytes of the start tag, `<name …>` or `<name …/>`.
    pub(crate) fn start_tag_span(&self) -> Range<usize> {
        self.node().start_tag.clone()
    }

    /// Returns the bytes of the name in the start tag.
    pub(crate) fn name_span(&self) -> Range<usize> {
        self.node().name.clone()
    }

    /// Returns the bytes between the tags; empty at the end of a self-closing tag.
    pub(crate) fn inner_span(&self) -> Range<usize> {
        self.node().start_tag.end..self.node().end_tag.start
    }

    /// Returns true if the element is written `<name/>`.
    pub(crate) fn is_self_closing(&self) -> bool {
        self.node().end_tag.is_empty()
    }

    /// Makes an error that points at this element.
    pub(crate) fn error(&self, problem: impl Into<String>) -> XmlError {
        XmlError::at(&self.document.text, self.node().start_tag.start, problem)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
