//! Lines about a decision, for the log and for the user of `virsh start`.

use crate::types::plan::{Note, Plan, Scope, Verdict};
use crate::types::plural::counted;
use crate::types::reason::{Choice, Given, Reason};
use crate::types::subject::Subject;

/// Mood of a line about a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mood {
    /// The plan is carried out.
    Done,
    /// The plan is only shown, or waits: nothing is carried out.
    Would,
}

/// Returns a plan's result in one line: `db: tuned by fit, 12 changes`; with an administrator's
/// pins that are kept.
pub fn summary(plan: &Plan, mood: Mood) -> String {
    let mut line = verdict(plan, mood);
    // A pin that costs its vCPU a CPU of its own is said with that.
    let said_below = |note: &&Note| match (&plan.notes.pinned_away, &note.what) {
        (Some(Given::PinnedAway { vcpus: away, .. }), Subject::VcpuPins(vcpus, _)) => vcpus.is_subset(away),
        _ => false,
    };
    let pins = plan.kept_pins().filter(|note| !said_below(note));
    let pins: Vec<String> = pins.map(|note| note.what.to_string()).collect();
    // Pins of an incoming guest are those of another host.
    let told = plan.scope == Scope::Boot && plan.verdict != Verdict::Refused;
    if told && !pins.is_empty() {
        line.push_str(&format!(" (yours, kept: {})", pins.join(", ")));
    }
    if let Some(away) = &plan.notes.pinned_away {
        line.push_str(&format!("; {away}"));
    }
    line
}

/// Returns the line of a plan's verdict.
fn verdict(plan: &Plan, mood: Mood) -> String {
    let guest = &plan.guest;
    let profile = plan.profile.as_deref().unwrap_or("-");
    let would = match mood {
        Mood::Done => "",
        Mood::Would => "would be ",
    };
    match plan.verdict {
        Verdict::Refused => format!("{guest}: {would}refused by {profile}: {}", plan.reasons_line()),
        Verdict::Tuned if plan.notes.leftover => {
            let why = plan.reasons_line();
            format!("{guest}: pins and memory binding {would}taken out, {why}")
        }
        Verdict::Tuned => {
            let place = if plan.is_without_place() {
                " without a place of its own"
            } else {
                ""
            };
            let tail = match plan.changes.len() {
                0 => ", only its record changes".to_string(),
                count => format!(", {}", counted(count, "change")),
            };
            format!("{guest}: {would}tuned by {profile}{place}{tail}")
        }
        Verdict::Unchanged if plan.notes.leftover => format!("{guest}: unchanged, {}", plan.reasons_line()),
        Verdict::Unchanged if plan.profile.is_none() => format!("{guest}: unchanged, no rule matches"),
        Verdict::Unchanged if plan.notes.on_no_fit.is_none() => {
            let left_alone = |reason: &&Reason| matches!(reason, Reason::Choice(Choice::LeftAlone { .. }));
            let why = plan.reasons.first().filter(|reason| !left_alone(reason));
            let why = why.map_or(String::new(), |reason| format!(": {reason}"));
            format!("{guest}: left alone (profile {profile}){why}")
        }
        Verdict::Unchanged if plan.is_without_place() => {
            format!("{guest}: no place of its own (profile {profile})")
        }
        Verdict::Unchanged => format!("{guest}: nothing to change (profile {profile})"),
    }
}

/// Returns the line of a plan, with the reasons if the guest has no place of its own.
pub(crate) fn summary_with_causes(plan: &Plan, mood: Mood) -> String {
    let line = summary(plan, mood);
    // The reasons of a refusal are in the line.
    match plan.is_without_place() && plan.verdict != Verdict::Refused {
        true => format!("{line}: {}", plan.reasons_line()),
        false => line,
    }
}

/// Returns all reasons of a refusal in one line, which names the guest.
pub(crate) fn veto(guest: &str, reasons: &[Reason]) -> String {
    let mut words = reasons.iter().enumerate().map(|(index, reason)| match index {
        0 => one_line(&reason.with_guest(guest)),
        _ => one_line(&reason.to_string()),
    });
    match words.next() {
        None => format!("{guest}: refused"),
        Some(first) => words.fold(first, |line, reason| format!("{line}; {reason}")),
    }
}

/// Returns the first of several lines, with the number of the others.
pub(crate) fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("no reason given").to_string();
    match lines.count() {
        0 => first,
        more => format!(
            "{first} (and {}: virtfit policy check)",
            counted(more, "more line")
        ),
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
