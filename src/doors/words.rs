//! The lines a decision is told in: for the log, and for the user of `virsh start`.

use std::collections::BTreeSet;

use crate::idset::CpuSet;
use crate::ledger::Taken;
use crate::plan::{self, Plan, Verdict};

/// `db: tuned by fit, 12 changes`.
pub fn summary(plan: &Plan) -> String {
    let by = match &plan.profile {
        Some(profile) => format!(" by {profile}"),
        None => String::new(),
    };
    let tail = match plan.verdict {
        Verdict::Tuned => format!(", {} changes", plan.changes.len()),
        Verdict::Unchanged if plan.profile.is_none() => ", no rule matches".to_string(),
        Verdict::Unchanged => String::new(),
        Verdict::Refused => format!(": {}", plan.reasons.join("; ")),
    };
    format!("{}: {}{by}{tail}", plan.guest, plan.verdict.word())
}

/// `CPU 3`, `CPUs 3-4`.
pub fn cpus(cpus: &CpuSet) -> String {
    match cpus.len() {
        1 => format!("CPU {cpus}"),
        _ => format!("CPUs {cpus}"),
    }
}

/// `CPUs 3-4 are held by db, web`.
pub fn held(taken_cpus: &CpuSet, taken: &Taken) -> String {
    let names: BTreeSet<&str> = taken_cpus
        .iter()
        .filter_map(|cpu| taken.cpus.get(&cpu).map(String::as_str))
        .collect();
    let names: Vec<&str> = names.into_iter().collect();
    let verb = if taken_cpus.len() == 1 { "is" } else { "are" };
    format!("{} {verb} held by {}", cpus(taken_cpus), names.join(", "))
}

/// All reasons of a refusal in one line, for the user of `virsh start`.
pub fn veto(guest: &str, reasons: &[String]) -> String {
    let reasons: Vec<String> = reasons.iter().map(|reason| one_line(reason)).collect();
    let reasons = if reasons.is_empty() {
        "refused".to_string()
    } else {
        reasons.join("; ")
    };
    format!("virtfit: {}", plan::with_name(guest, &reasons))
}

/// Several lines as one: the first, and how many more there are.
pub fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("no reason given").to_string();
    match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more lines: virtfit policy check)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("a\n"), "a");
        assert_eq!(
            one_line("\n a\n  b\nc\n"),
            "a (and 2 more lines: virtfit policy check)"
        );
        assert_eq!(one_line(""), "no reason given");
    }
}
