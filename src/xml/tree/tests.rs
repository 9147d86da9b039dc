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
    let d = root.child("c").unwrap().child("d").unwrap();
    assert_eq!(d.namespace().unwrap(), "urn:c");
}

#[test]
fn children_are_told_with_their_namespaces() {
    let text =
        "<a xmlns:v='urn:v' xmlns='urn:a'><v:b/><c/><v:d xmlns:v='urn:w'/><e xmlns=''/><v:f/><n:g/></a>";
    let document = Document::parse(text).unwrap();
    for (child, namespace) in document.root().children_with_namespaces() {
        assert_eq!(
            namespace.as_deref(),
            child.namespace().as_deref(),
            "{}",
            child.raw()
        );
    }
}

#[test]
fn refuses_with_a_position() {
    let deep = "<a>".repeat(100_000);
    let many: String = (0..=MAX_ATTRIBUTES).map(|n| format!(" a{n}=''")).collect();
    let wide = format!("<a{many}/>");
    let long = format!("<a>{}</a>", "<b/>".repeat(MAX_ELEMENTS));
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
            "<a>&#1;</a>",
            "line 1, column 4: an entity that XML does not predefine",
        ),
        (
            "<a b='x&#xffff;'/>",
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
        (
            &wide,
            "line 1, column 1942: more than 256 attributes in one element",
        ),
        (&long, "line 1, column 800000: more than 200000 elements"),
    ];
    for (text, expected) in cases {
        let error = Document::parse(text).unwrap_err().to_string();
        assert!(
            error.starts_with(expected),
            "{error} for {}",
            &text[..text.len().min(40)]
        );
    }
    // Messages quote nothing at length, and of a tag its name alone.
    let long = format!("<{}></b>", "a".repeat(5000));
    for text in [
        "<a></a passwd='s3cret'>",
        "<a></a\tpasswd='s3cret'",
        "<a b='s3cret></a>",
        &long,
    ] {
        let error = Document::parse(text).unwrap_err().to_string();
        assert!(!error.contains("s3cret") && error.len() < 200, "{error}");
    }
    let error = Document::parse_bytes(b"<a>\n\xff</a>").unwrap_err().to_string();
    assert_eq!(error, "line 2, column 1: not valid UTF-8");
}
