//! Encodings other than UTF-8: libvirt reads them, virtfit names them and says how to convert.

/// Number of bytes in which an XML declaration ends.
const DECLARATION: usize = 200;

/// Returns the problem of a text that is not in UTF-8, as its first bytes or its declaration say.
/// ASCII is UTF-8, whatever is declared.
pub(super) fn problem(bytes: &[u8]) -> Option<String> {
    let encoding = match bytes {
        [0, 0, 0, b'<', ..] | [b'<', 0, 0, 0, ..] | [0xff, 0xfe, 0, 0, ..] => "UTF-32",
        [0xff, 0xfe, ..] | [0xfe, 0xff, ..] | [0, b'<', ..] | [b'<', 0, ..] => "UTF-16",
        _ if bytes.is_ascii() => return None,
        _ => declared(bytes)?,
    };
    Some(format!(
        "encoding {encoding}; virtfit reads UTF-8: convert it with iconv -f {encoding} -t UTF-8, and change \
         encoding= in its first line if that is there"
    ))
}

/// Returns the encoding in the XML declaration, where it is not UTF-8.
fn declared(bytes: &[u8]) -> Option<&str> {
    let head = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let end = head.iter().take(DECLARATION).position(|byte| *byte == b'>')?;
    let declaration = std::str::from_utf8(&head[..end]).ok()?.strip_prefix("<?xml")?;
    let (_, rest) = declaration.split_once("encoding")?;
    let rest = rest.trim_start().strip_prefix('=')?.trim_start();
    let quote = rest.chars().next().filter(|quote| matches!(quote, '\'' | '"'))?;
    let name = rest[1..].split(quote).next()?;
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    let other = !["utf-8", "utf8", "us-ascii", "ascii"].contains(&name.to_ascii_lowercase().as_str());
    (other && !name.is_empty() && name.chars().all(is_name)).then_some(name)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use crate::xml::Document;

    #[test]
    fn other_encodings_are_named() {
        let text = |encoding: &str| format!("<?xml version='1.0' encoding={encoding}?>\n<a>B\u{fc}ro</a>");
        let latin = |encoding: &str| -> Vec<u8> { text(encoding).chars().map(|c| c as u8).collect() };
        let wide = |big: bool, mark: bool| -> Vec<u8> {
            let text = if mark {
                "\u{feff}<a>\u{fc}</a>"
            } else {
                "<a>\u{fc}</a>"
            };
            let units = text.encode_utf16();
            units
                .flat_map(|unit| {
                    if big {
                        unit.to_be_bytes()
                    } else {
                        unit.to_le_bytes()
                    }
                })
                .collect()
        };
        for (bytes, expected) in [
            (
                latin("'ISO-8859-1'"),
                "encoding ISO-8859-1; virtfit reads UTF-8: convert it with iconv -f ISO-8859-1 -t UTF-8",
            ),
            (latin("\"windows-1252\""), "encoding windows-1252;"),
            // libvirt reads what is declared, whatever the bytes look like.
            (text("'ISO-8859-1'").into_bytes(), "encoding ISO-8859-1;"),
            (latin("'UTF-8'"), "not valid UTF-8"),
            (latin("'x y; rm'"), "not valid UTF-8"),
            (latin(""), "not valid UTF-8"),
            (wide(false, true), "encoding UTF-16;"),
            (wide(true, true), "encoding UTF-16;"),
            (wide(false, false), "encoding UTF-16;"),
            (wide(true, false), "encoding UTF-16;"),
            (b"<\0\0\0a\0\0\0>\0\0\0".to_vec(), "encoding UTF-32;"),
        ] {
            let error = Document::parse_bytes(&bytes).unwrap_err();
            assert!(error.problem.starts_with(expected), "{error}, not {expected}");
        }
        for good in [
            text("'UTF-8'"),
            text("'utf-8'"),
            text("'ISO-8859-1'").replace('\u{fc}', "u"),
            format!("\u{feff}{}", text("'UTF-8'")),
        ] {
            Document::parse(&good).unwrap();
        }
    }
}
