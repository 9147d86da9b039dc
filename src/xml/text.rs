//! Text content: entities, CDATA, and the parts that do not count as text.

use std::borrow::Cow;

/// Appends the text of a piece between elements; comments and processing instructions do not count.
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

/// Resolves the five predefined entities and character references. `None` for any other entity, and
/// for a reference to a character that XML does not allow (`&#1;`): libvirt refuses both.
pub(super) fn decode(raw: &str) -> Option<Cow<'_, str>> {
    let decoded = quick_xml::escape::unescape(raw).ok()?;
    // The text itself was checked before, so only a resolved reference can be wrong.
    let allowed = |c: char| !matches!(c, '\0'..='\u{8}' | '\u{b}' | '\u{c}' | '\u{e}'..='\u{1f}' | '\u{fffe}' | '\u{ffff}');
    match &decoded {
        Cow::Owned(text) if !text.chars().all(allowed) => None,
        _ => Some(decoded),
    }
}
