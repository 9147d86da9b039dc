//! New XML: elements as data, rendered with the indentation of their place.

/// Element to be written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Fragment {
    /// Bytes as they once stood in a text.
    Raw(String),
    /// Element whose attribute values are plain text, escaped when rendered.
    Element {
        name: &'static str,
        attributes: Vec<(&'static str, String)>,
        content: Content,
    },
}

/// Content of an element.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Content {
    Text(String),
    Children(Vec<Fragment>),
}

/// White space that begins a line: a line break and the indentation, or nothing in a text without
/// line breaks.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Lead {
    /// White space before the element itself.
    pub(super) own: String,
    /// Additional indentation for each level.
    pub(super) step: String,
}

impl Lead {
    /// Returns the white space for the children of the element at this one.
    pub(super) fn deeper(&self) -> Self {
        let own = if self.own.is_empty() {
            String::new()
        } else {
            format!("{}{}", self.own, self.step)
        };
        Self {
            own,
            step: self.step.clone(),
        }
    }
}

impl Fragment {
    /// Makes an element without attributes or content.
    pub(super) fn new(name: &'static str) -> Self {
        Self::Element {
            name,
            attributes: Vec::new(),
            content: Content::Children(Vec::new()),
        }
    }

    /// Adds an attribute.
    pub(super) fn attr(mut self, name: &'static str, value: impl ToString) -> Self {
        if let Self::Element { attributes, .. } = &mut self {
            attributes.push((name, value.to_string()));
        }
        self
    }

    /// Adds a child.
    pub(super) fn child(mut self, child: Fragment) -> Self {
        if let Self::Element {
            content: Content::Children(children),
            ..
        } = &mut self
        {
            children.push(child);
        }
        self
    }

    /// Makes a text the content.
    pub(super) fn text(mut self, text: impl ToString) -> Self {
        if let Self::Element { content, .. } = &mut self {
            *content = Content::Text(text.to_string());
        }
        self
    }

    /// Appends the element to `out`, without the white space before it.
    pub(super) fn render(&self, lead: &Lead, out: &mut String) {
        let (name, attributes, content) = match self {
            Self::Raw(raw) => return out.push_str(raw),
            Self::Element {
                name,
                attributes,
                content,
            } => (name, attributes, content),
        };
        out.push('<');
        out.push_str(name);
        for (key, value) in attributes {
            out.push(' ');
            out.push_str(key);
            out.push('=');
            push_quoted(value, out);
        }
        match content {
            Content::Text(text) => {
                out.push('>');
                push_escaped(text, None, out);
            }
            Content::Children(children) if children.is_empty() => {
                out.push_str("/>");
                return;
            }
            Content::Children(children) => {
                out.push('>');
                let inner = lead.deeper();
                for child in children {
                    out.push_str(&inner.own);
                    child.render(&inner, out);
                }
                out.push_str(&lead.own);
            }
        }
        out.push_str("</");
        out.push_str(name);
        out.push('>');
    }
}

/// Writes a value in quotes, in the kind that needs no escaping inside where possible.
fn push_quoted(value: &str, out: &mut String) {
    let quote = if value.contains('\'') { '"' } else { '\'' };
    out.push(quote);
    push_escaped(value, Some(quote), out);
    out.push(quote);
}

/// Escapes text; in an attribute also the quote and white space that a parser would normalise.
fn push_escaped(text: &str, quote: Option<char>, out: &mut String) {
    for c in text.chars() {
        match c {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '\r' => out.push_str("&#13;"),
            '\n' if quote.is_some() => out.push_str("&#10;"),
            '\t' if quote.is_some() => out.push_str("&#9;"),
            '"' if quote == Some('"') => out.push_str("&quot;"),
            '\'' if quote == Some('\'') => out.push_str("&apos;"),
            c => out.push(c),
        }
    }
}

/// Escapes a value for an attribute that is there already, for quotes of either kind.
pub(super) fn escape_value(value: &str) -> String {
    let mut out = String::with_capacity(value.len());
    for c in value.chars() {
        match c {
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&apos;"),
            c => push_escaped(c.encode_utf8(&mut [0; 4]), Some('"'), &mut out),
        }
    }
    out
}
