//! UUIDs in canonical form.

/// Returns a UUID in lower case with dashes, as libvirt prints it; `None` for any other text. The
/// text may have 32 hexadecimal digits in any case, with dashes anywhere (libvirt's `virUUIDParse`
/// accepts them between any two pairs), but no white space.
pub(crate) fn normal(text: &str) -> Option<String> {
    let digits: String = text
        .chars()
        .filter(|c| *c != '-')
        .map(|c| c.to_ascii_lowercase())
        .collect();
    if digits.len() != 32 || !digits.bytes().all(|b| b.is_ascii_hexdigit()) {
        return None;
    }
    let parts = [0..8, 8..12, 12..16, 16..20, 20..32].map(|range| digits.get(range).unwrap_or_default());
    Some(parts.join("-"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_form() {
        let it = "8c1f6f0e-0000-4000-8000-00000000000a";
        for (text, expected) in [
            (it, Some(it)),
            ("8C1F6F0E-0000-4000-8000-00000000000A", Some(it)),
            ("8c1f6f0e00004000800000000000000a", Some(it)),
            ("8c-1f6f0e00004000800000000000000a-", Some(it)),
            ("8c1f6f0e0000400080000000000000a", None),
            ("8c1f6f0e00004000800000000000000ab", None),
            ("8c1f6f0e00004000800000000000000g", None),
            ("8c1f6f0e00004000800000000000000é", None),
            (" 8c1f6f0e00004000800000000000000a", None),
            ("", None),
        ] {
            assert_eq!(normal(text).as_deref(), expected, "{text}");
        }
    }
}
