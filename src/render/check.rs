//! `virtfit check` as text: the profiles the host is ready for, then each check by group.

use crate::check::{Checked, Group, Readiness, Report, Verdict};
use crate::render::Style;
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, finish, paragraph};
use crate::types::plural::{counted, join, list};

/// Column in which the text of a check begins.
const TEXT: usize = 5;
/// Column in which a command begins.
const COMMAND: &str = "       ";

/// Returns the whole text. `all`: with checks that pass, and sources.
pub(crate) fn text(report: &Report, all: bool, style: &Style) -> String {
    let mut out = Vec::new();
    ready(&report.ready, style, &mut out);
    let said = format!(
        "Checked for {} (--for PROFILE: for another).",
        list(&report.profiles)
    );
    paragraph(&mut out, "", 0, &clean(&said, style.unicode), Paint::Plain, style);
    let mut hidden = 0;
    for group in Group::ALL {
        let of_group: Vec<&Checked> = report
            .checks
            .iter()
            .filter(|check| check.group == group)
            .collect();
        let is_shown =
            |check: &&&Checked| all || (check.finding.known && check.finding.verdict != Verdict::Pass);
        let shown: Vec<&&Checked> = of_group.iter().filter(is_shown).collect();
        hidden += of_group.len() - shown.len();
        if shown.is_empty() {
            continue;
        }
        out.push(Line::new());
        out.push(Line::of(group.title(), Paint::Strong));
        for check in shown {
            one(check, all, style, &mut out);
        }
    }
    if hidden > 0 {
        out.push(Line::new());
        let unknown = report.checks.iter().filter(|check| !check.finding.known).count();
        let passed = format!("{} passed", counted(hidden.saturating_sub(unknown), "check"));
        let unknown = match unknown {
            0 => String::new(),
            unknown => format!(", {unknown} could not be made on this host"),
        };
        let said = format!("{passed}{unknown}: -v shows them.");
        paragraph(&mut out, "", 0, &said, Paint::Dim, style);
    }
    finish(&out, style)
}

/// Says which profiles the host is ready for, and which checks are against the others.
fn ready(all: &[Readiness], style: &Style, out: &mut Vec<Line>) {
    let good = all.iter().filter(|ready| ready.fails.is_empty());
    let (ready, warned): (Vec<&Readiness>, Vec<&Readiness>) = good.partition(|ready| ready.warns.is_empty());
    let mut parts = Vec::new();
    if !ready.is_empty() {
        let names: Vec<String> = ready.iter().map(|ready| ready.profile.clone()).collect();
        parts.push(format!("ready for {}", list(&names)));
    }
    if !warned.is_empty() {
        let counts = warned.iter();
        let counts = counts.map(|ready| format!("{} ({})", ready.profile, ready.warns.len()));
        parts.push(format!(
            "ready with warnings for {}",
            list(&counts.collect::<Vec<_>>())
        ));
    }
    // Profiles with the same failures are one part.
    let mut failed: Vec<(&[&str], Vec<String>)> = Vec::new();
    for ready in all.iter().filter(|ready| !ready.fails.is_empty()) {
        match failed.iter_mut().find(|(fails, _)| *fails == ready.fails) {
            Some((_, profiles)) => profiles.push(ready.profile.clone()),
            None => failed.push((&ready.fails, vec![ready.profile.clone()])),
        }
    }
    let paint = if failed.is_empty() {
        Paint::Strong
    } else {
        Paint::Bad
    };
    parts.extend(
        failed
            .iter()
            .map(|(fails, profiles)| format!("not ready for {} ({})", list(profiles), join(fails))),
    );
    let said = format!("This host is {}.", parts.join("; "));
    paragraph(out, "", 0, &clean(&said, style.unicode), paint, style);
}

/// Appends one check: what it means, what was read, and the cure.
fn one(check: &Checked, all: bool, style: &Style, out: &mut Vec<Line>) {
    let finding = &check.finding;
    let paint = match finding.verdict {
        Verdict::Fail => Paint::Bad,
        Verdict::Warn => Paint::Strong,
        Verdict::Pass | Verdict::Info => Paint::Plain,
    };
    let mark = format!("{} ", finding.verdict.word());
    let said = clean(&format!("{}: {}", check.id, finding.means), style.unicode);
    paragraph(out, &mark, TEXT, &said, paint, style);
    let mut below = |text: String, paint: Paint| {
        paragraph(out, "", TEXT, &clean(&text, style.unicode), paint, style);
    };
    below(format!("read: {}", finding.read), Paint::Dim);
    if all {
        below(
            format!("for: {}; source: {}", join(&check.profiles), check.source),
            Paint::Dim,
        );
    }
    let Some(mend) = &finding.mend else {
        return;
    };
    let colon = if mend.commands.is_empty() { "" } else { ":" };
    match mend.text.is_empty() {
        true => below("mend:".into(), Paint::Plain),
        false => below(format!("mend: {}{colon}", mend.text), Paint::Plain),
    }
    out.extend(
        mend.commands
            .iter()
            .map(|command| Line::command(COMMAND, command, style)),
    );
}
