//! Names that look like families: `db-1`, `db-2`.

use std::collections::BTreeSet;

use crate::policy::glob::Glob;

/// Pattern of a rule, with the guests that it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Family {
    /// Pattern, as a policy has it.
    pub pattern: String,
    /// Names of its guests.
    pub names: Vec<String>,
}

/// Covers these guests with as few patterns as their names allow; `others` match none of them.
pub(crate) fn of(names: &[&str], others: &[&str]) -> Vec<Family> {
    let mut out: Vec<Family> = Vec::new();
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for name in names {
        if !done.insert(name) {
            continue;
        }
        let family = stem(name).and_then(|stem| {
            let pattern = format!("{}[0-9]*", escaped(stem));
            let glob = Glob::parse(&pattern).ok()?;
            let members: Vec<&str> = names.iter().copied().filter(|name| glob.matches(name)).collect();
            let alone = members.len() < 2 || others.iter().any(|other| glob.matches(other));
            (!alone).then_some((pattern, members))
        });
        let (pattern, members) = family.unwrap_or_else(|| (escaped(name), vec![*name]));
        done.extend(&members);
        out.push(Family {
            pattern,
            names: members.iter().map(ToString::to_string).collect(),
        });
    }
    out
}

/// Returns a name without the number at its end; `None` if it has none, or is nothing else.
fn stem(name: &str) -> Option<&str> {
    let stem = name.trim_end_matches(|c: char| c.is_ascii_digit());
    (!stem.is_empty() && stem != name).then_some(stem)
}

/// Makes a pattern that matches this name alone.
fn escaped(name: &str) -> String {
    let mut out = String::new();
    for c in name.chars() {
        match c {
            '*' | '?' | '[' => out.extend(['[', c, ']']),
            c => out.push(c),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_make_families() {
        let patterns = |names: &[&str], others: &[&str]| -> Vec<String> {
            of(names, others)
                .into_iter()
                .map(|family| family.pattern)
                .collect()
        };
        let names = ["db-1", "db-2", "web1", "win"];
        assert_eq!(patterns(&names, &["db"]), ["db-[0-9]*", "web1", "win"]);
        assert_eq!(patterns(&names, &["db-3"]), ["db-1", "db-2", "web1", "win"]);
        assert_eq!(patterns(&["1", "2"], &[]), ["1", "2"]);
        // A pattern is no wider than its guests, whatever their names are.
        assert_eq!(patterns(&["a*", "x[y]?"], &[]), ["a[*]", "x[[]y][?]"]);
        for name in ["a*", "x[y]?", "a]b", "q\"'\\"] {
            let all = of(&[name], &[]);
            let glob = Glob::parse(&all[0].pattern).ok();
            assert!(
                glob.is_some_and(|glob| glob.matches(name) && !glob.matches("ab")),
                "{name}"
            );
        }
        assert_eq!(of(&["db-1", "db-10"], &[])[0].names, ["db-1", "db-10"]);
    }
}
