//! Properties that hold for every domain and every set of settings.

use proptest::prelude::*;

use crate::rewrite::tests::samples::{all_settings, domain, fixtures, head};
use crate::rewrite::{apply, changes, in_force, provenance, revert};
use crate::types::setting::Setting;
use crate::xml::Document;

fn holds(name: &str, text: &str, settings: &[Setting]) {
    let original = Document::parse(text).unwrap();
    let head = head();
    let tuned = apply(&original, settings, &head).unwrap_or_else(|error| panic!("{name}: {error}"));
    let fitted = Document::parse(&tuned).unwrap_or_else(|error| panic!("{name}: {error}\n{tuned}"));
    assert_eq!(apply(&original, settings, &head).unwrap(), tuned, "{name}");
    let provenance = provenance(&fitted).unwrap().unwrap();
    assert_eq!(provenance.head, head, "{name}");
    assert_eq!(provenance.owned.len(), settings.len(), "{name}");
    assert!(
        in_force(&fitted, &provenance, settings, &head).unwrap(),
        "{name}: not in force\n{:#?}\n{tuned}",
        changes(&original, &fitted, settings, None)
    );
    let reverted = revert(&fitted).unwrap();
    assert_eq!(reverted.left, [], "{name}");
    assert_eq!(reverted.xml, text, "{name}: revert of\n{tuned}");
    // All comments are still there, in order, except those inside an element that is replaced as a
    // whole.
    let mut rest = tuned.as_str();
    for comment in text
        .split("<!--")
        .skip(1)
        .map(|piece| piece.split("-->").next().unwrap())
    {
        if comment.contains("biggest first") {
            continue;
        }
        let comment = format!("<!--{comment}-->");
        let at = rest
            .find(&comment)
            .unwrap_or_else(|| panic!("{name}: lost {comment}\n{tuned}"));
        rest = &rest[at..];
    }
}

#[test]
fn all_settings_on_all_fixtures() {
    for (name, text) in fixtures() {
        let mut turn = 0;
        for round in 0..5 {
            let settings = all_settings(&domain(&text), || {
                turn += 1;
                if round == 4 { 0 } else { (turn + round) % 4 }
            });
            holds(&name, &text, &settings);
        }
        holds(&name, &text, &all_settings(&domain(&text), || 1));
        holds(&name, &text, &[]);
    }
}

/// Returns the domain with other line breaks and indentation, and without any.
fn variants(text: &str) -> Vec<String> {
    let lines = || text.lines().map(str::trim);
    vec![
        text.to_string(),
        text.replace("\r\n", "\n").replace('\n', "\r\n"),
        lines().collect::<Vec<_>>().join(" "),
        lines().map(|line| format!("{line}\n\n\t")).collect(),
        text.replace("  ", "\t"),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(300))]

    #[test]
    fn random_settings(
        which in any::<prop::sample::Index>(),
        variant in any::<prop::sample::Index>(),
        picks in proptest::collection::vec(0u32..4, 200),
        keep in proptest::collection::vec(any::<bool>(), 200),
    ) {
        let fixtures = fixtures();
        let (name, text) = &fixtures[which.index(fixtures.len())];
        let variants = variants(text);
        let text = &variants[variant.index(variants.len())];
        // White space before an XML declaration is not XML; the variants add none.
        let mut picks = picks.into_iter();
        let mut keep = keep.into_iter();
        let mut settings = all_settings(&domain(text), || picks.next().unwrap_or(1));
        settings.retain(|_| keep.next().unwrap_or(true));
        holds(name, text, &settings);
    }

    #[test]
    fn provenance_survives_any_text(profile in "[ -~\u{e9}\n\t\r]{0,20}", policy in "\\PC{0,20}") {
        let text = "<domain><name>a</name></domain>";
        let mut head = head();
        head.profile = profile;
        head.policy_digest = policy;
        let tuned = apply(&Document::parse(text).unwrap(), &[], &head).unwrap();
        let document = Document::parse(&tuned).unwrap();
        prop_assert_eq!(provenance(&document).unwrap().unwrap().head, head);
    }
}
