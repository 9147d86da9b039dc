//! Text of foreign origin, made safe to print.

pub(crate) use virtfit_hook::text::{is_unsafe, push_escape, visible};

/// Returns JSON in which unsafe characters are escapes (`\\u202e`): they stand only inside of
/// strings, so that the values stay the same.
pub(crate) fn visible_json(json: &str) -> String {
    let mut out = String::with_capacity(json.len());
    for c in json.chars() {
        if c == '\n' || !is_unsafe(c) {
            out.push(c);
            continue;
        }
        let mut units = [0; 2];
        for unit in c.encode_utf16(&mut units) {
            out.push_str(&format!("\\u{unit:04x}"));
        }
    }
    out
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn json_keeps_its_values() {
        let value = "a\u{202e}b\u{9b}c\u{e0001}d\u{1b}\"\\n";
        let json = serde_json::to_string(value).unwrap();
        let shown = visible_json(&json);
        assert!(!shown.contains(is_unsafe), "{shown}");
        assert_eq!(serde_json::from_str::<String>(&shown).unwrap(), value);
    }
}
