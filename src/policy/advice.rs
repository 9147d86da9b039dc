//! Warnings about a policy that is free of errors but will hardly do what it was written for.

use crate::host::Host;
use crate::policy::Policy;
use crate::policy::cpu_sets;
use crate::policy::rule::Match;

/// Returns one line for each weakness: no rule, a rule without a match, one that no guest reaches,
/// a regular expression where a shell pattern is read, CPUs in `[host]` that this host does not
/// have.
pub(crate) fn warnings(policy: &Policy, host: Option<&Host>) -> Vec<String> {
    let mut out = Vec::new();
    if policy.rules.is_empty() {
        out.push("there is no rule: only guests that ask for a profile themselves are tuned".to_string());
    }
    let mut all = None;
    for (index, rule) in policy.rules.iter().enumerate() {
        let number = index + 1;
        if rule.matches == Match::default() {
            out.push(format!(
                "{}: rule {number} has no match, so it is for every guest; to say so: match = {{ name = \"*\" }}",
                rule.place
            ));
        }
        if let Some(first) = all {
            out.push(format!(
                "{}: rule {number} is never reached: rule {first} matches every guest",
                rule.place
            ));
        } else if is_for_all(&rule.matches) {
            all = Some(number);
        }
        let globs = [&rule.matches.name, &rule.matches.title, &rule.matches.os];
        for glob in globs.into_iter().flatten() {
            // These characters show a regular expression where a shell pattern is read: `db-(1|2)`,
            // `db-.*`, `^db`.
            let text = glob.as_str();
            let odd = text.contains(['|', '(', ')', '^', '$', '{', '}', '\\']) && !text.contains("[^");
            if odd || text.contains(".*") {
                out.push(format!(
                    "{}: rule {number}: '{text}' is read as a shell pattern (*, ?, [a-z]), not as a regular expression; several patterns \
                     are a list: [\"db-1\", \"db-2\"]",
                    rule.place
                ));
            }
        }
    }
    if let Some(host) = host {
        let sets = cpu_sets::resolve(&policy.host, host);
        out.extend(sets.notes.iter().map(ToString::to_string));
    }
    out
}

fn is_for_all(matches: &Match) -> bool {
    let only_name = Match {
        name: Vec::new(),
        ..matches.clone()
    } == Match::default();
    only_name && (matches.name.is_empty() || matches.name.iter().any(|glob| glob.as_str() == "*"))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_does_nothing_is_said() {
        let rule = |name: &str| format!("[[rule]]\nmatch = {{ name = \"{name}\" }}\nprofile = \"fit\"\n");
        for (text, expected) in [
            (String::new(), vec!["there is no rule"]),
            (rule("db-*"), vec![]),
            (rule("db-[^a]"), vec![]),
            (rule("*") + &rule("db-*"), vec!["rule 2 is never reached: rule 1"]),
            (
                "[[rule]]\nprofile = \"fit\"\n".into(),
                vec!["rule 1 has no match, so it is for every guest"],
            ),
            (rule("db-(1|2)"), vec!["not as a regular expression"]),
            (rule("db-.*"), vec!["not as a regular expression"]),
        ] {
            let policy = Policy::parse(&text, "p.toml").unwrap();
            let got = warnings(&policy, None);
            assert_eq!(got.len(), expected.len(), "{text}: {got:?}");
            for (got, expected) in got.iter().zip(expected) {
                assert!(got.contains(expected), "{text}: {got}");
            }
        }
    }
}
