use super::*;

#[test]
fn what_is_no_toml_is_one_problem_with_its_place() {
    for (text, at, message) in [
        ("mode = observe\n", "p:1:8", "must be quoted"),
        ("[host\n", "p:1:6", "unclosed table"),
        ("[host]\nmode = \"a\nx = 1\n", "p:2:10", "invalid basic string"),
        (
            "[host]\nmode = \"a\"\nmode = \"b\"\n",
            "p:3:1",
            "duplicate key 'mode'",
        ),
        ("[host]\n[host]\n", "p:2:2", "duplicate key 'host'"),
        (
            "[[rule]]\nprofile = \"fit\"\n  [rule]\n",
            "p:3:4",
            "a rule is written [[rule]]",
        ),
        (
            "[rule]\nprofile = \"fit\"\n[[rule]]\n",
            "p:1:2",
            "a rule is written [[rule]]",
        ),
        ("a = [1,\n\n\n", "p:1:8", "unclosed array"),
        ("\u{feff}x = y\r\n", "p:1:5", "must be quoted"),
    ] {
        let (fragment, problems) = parse(text, "p");
        assert!(fragment.broken && problems.len() == 1, "{text:?}");
        let shown = problems.first().map(ToString::to_string).unwrap_or_default();
        assert!(
            shown.starts_with(&format!("{at}: ")) && shown.contains(message),
            "{text:?}\n{shown}"
        );
    }
}

#[test]
fn shapes_that_are_no_section_are_told() {
    for (text, message) in [
        ("host = 3\n", "host = 3: expected a section, written [host]"),
        ("[[host]]\n", "expected a section, written [host]"),
        (
            "[profile]\nsmt = \"prefer\"\n",
            "a profile is written [profile.NAME]",
        ),
        ("[[profile.a]]\n", "profile.a = a list of tables"),
        ("profile = 1\n", "a profile is written [profile.NAME]"),
        ("[rule]\nprofile = \"fit\"\n", "a rule is written [[rule]]"),
        ("rule = [1]\n", "a rule is written [[rule]]"),
        (
            "[[rule]]\nmatch = \"db-*\"\nprofile = \"fit\"\n",
            "expected a table such as { name",
        ),
        ("[[rule]]\nmatch = {}\n", "names no profile"),
        ("[profile.\"\"]\n", "is empty"),
        ("[profile.-x]\n", "starts with '-'"),
        (
            "[host]\nreserved_hugepages = { \"2M\" = 1, \"2048K\" = 2 }\n",
            "given twice",
        ),
        (
            "[host]\nreserved_hugepages = 512\n",
            "expected a table such as { \"2M\" = 512 }",
        ),
    ] {
        let (_, problems) = parse(text, "p");
        let shown = problems
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("\n");
        assert!(
            problems.len() == 1 && shown.contains(message),
            "{text:?}\n{shown}"
        );
    }
}
