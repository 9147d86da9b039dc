//! Text content: entities, CDATA, and what does not count as text.

use std::borrow::Cow;

/// Text between elements: comments and processing instructions do not count.
pub(super) fn append_text(piece: &str, out: &mut String) {
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
pub(super) fn decode(raw: &str) -> Result<Cow<'_, str>, quick_xml::escape::EscapeError> {
    quick_xml::escape::unescape(raw)
}
