//! Counts and CPU lists in sentences: noun and verb agree with the count.

use std::fmt;

use crate::types::idset::CpuSet;

/// Returns the count with its noun: `1 change`, `2 changes`.
pub(crate) fn counted(count: usize, noun: &str) -> String {
    format!("{count} {noun}{}", if count == 1 { "" } else { "s" })
}

/// Returns the verb that agrees with `count` subjects: `is` or `are`.
pub(crate) fn is_or_are(count: usize) -> &'static str {
    if count == 1 { "is" } else { "are" }
}

/// Returns a CPU set with its noun: `CPU 3`, `CPUs 3-4`.
pub(crate) fn cpus(cpus: &CpuSet) -> String {
    match cpus.len() {
        1 => format!("CPU {cpus}"),
        _ => format!("CPUs {cpus}"),
    }
}

/// Returns the items as a list in prose: `a`, `a and b`, `a, b and c`; `none` without any.
pub(crate) fn list(items: &[String]) -> String {
    match items {
        [] => "none".to_string(),
        [only] => only.clone(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}

/// Joins items with commas: `0, 1`.
pub(crate) fn join<T: fmt::Display>(items: &[T]) -> String {
    let items: Vec<String> = items.iter().map(T::to_string).collect();
    items.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::HostCpu;

    #[test]
    fn nouns_and_verbs_agree() {
        assert_eq!(counted(0, "change"), "0 changes");
        assert_eq!(counted(1, "change"), "1 change");
        assert_eq!(is_or_are(1), "is");
        assert_eq!(is_or_are(2), "are");
        let mut set = CpuSet::one(HostCpu(3));
        assert_eq!(cpus(&set), "CPU 3");
        set.insert(HostCpu(4));
        assert_eq!(cpus(&set), "CPUs 3-4");
        let names = ["a", "b", "c"].map(str::to_string);
        assert_eq!(list(&names[..1]), "a");
        assert_eq!(list(&names[..2]), "a and b");
        assert_eq!(list(&names), "a, b and c");
    }
}
