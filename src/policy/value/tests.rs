use super::*;
use proptest::prelude::*;

#[test]
fn sizes() {
    for (text, expected) in [
        ("0", Some(0)),
        ("2M", Some(2048)),
        ("1G", Some(1 << 20)),
        ("4096K", Some(4096)),
        ("1T", Some(1 << 30)),
        ("", None),
        ("M", None),
        ("2", None),
        ("2m", None),
        ("2MiB", None),
        ("-1G", None),
        ("1.5G", None),
        ("99999999999999999999G", None),
        ("9999999999999T", None),
    ] {
        assert_eq!(size(text).ok().map(|k| k.0), expected, "{text:?}");
    }
    assert_eq!(size("2MiB").unwrap_err().suggestion.as_deref(), Some("2M"));
    assert_eq!(size("2m").unwrap_err().suggestion.as_deref(), Some("2M"));
}

#[test]
fn page_sizes() {
    for (text, good) in [
        ("2M", true),
        ("1G", true),
        ("64K", true),
        ("4K", false),
        ("3M", false),
        ("0", false),
    ] {
        assert_eq!(page_size(text).is_ok(), good, "{text}");
    }
}

#[test]
fn vcpu_lists() {
    for (text, expected) in [
        ("", Some("")),
        ("none", Some("")),
        ("all", Some("all")),
        (" ^0 ", Some("^0")),
        ("^0, ^1", Some("^0,^1")),
        ("0,1,2", Some("0-2")),
        ("0-7,^3", Some("0-2,4-7")),
        ("x", None),
        ("3-1", None),
        ("^", None),
    ] {
        let read = vcpu_list(&Scalar::text(text)).ok().map(|list| list.0);
        assert_eq!(read.as_deref(), expected, "{text:?}");
    }
}

proptest! {
    #[test]
    fn sizes_read_back(kib in 0u64..1 << 40) {
        prop_assert_eq!(size(&size_text(KiB(kib))), Ok(KiB(kib)));
    }

    #[test]
    fn readers_never_panic(text in "\\PC{0,12}") {
        let _ = (size(&text), page_size(&text), vcpu_list(&Scalar::text(text.clone())), quoted(&text));
    }

    #[test]
    fn quoted_text_reads_back(text in "\\PC{0,12}[\\t\\n\u{1}\u{7f}\"\\\\]{0,3}") {
        let doc = format!("a = {}", quoted(&text));
        let doc = toml_edit::Document::parse(doc.as_str()).unwrap();
        prop_assert_eq!(doc.as_table().get("a").and_then(|v| v.as_str()), Some(text.as_str()));
    }
}
