//! Plan as text, as `virtfit plan` shows it (`plan --json` has the same content for programs).

use crate::host::Host;
use crate::ledger::Taken;
use crate::panics;
use crate::types::idset::CpuSet;
use crate::types::plan::{Change, Plan, Scope, Verdict};
use crate::types::plural::counted;
use crate::types::reason::Reason;
use crate::types::target::Effect;

use crate::render::Style;
use crate::render::escape::clean;
use crate::render::layout::{Line, Paint, cut, finish, paragraph, width, wrap};
use crate::render::picture;
use crate::render::picture::Scene;
use crate::render::rows;
use crate::render::table;
use crate::render::table::Widths;
use crate::types::guest_word::guest_word;
use crate::types::shell_word::shell_word;

/// Next steps after a plan.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Advice {
    /// Sentences on what keeps the plan from lasting; empty: nothing does.
    pub said: Vec<String>,
    /// Lines of a rule that the policy needs; empty: it needs none.
    pub rule: Vec<String>,
    /// Commands, one a line.
    pub commands: Vec<String>,
}

/// Returns the text of one guest's plan for this host.
///
/// `housekeeping` and `taken` are the ones the plan was made with.
pub fn text(plan: &Plan, host: &Host, housekeeping: &CpuSet, taken: &Taken, style: &Style) -> String {
    let guest = match plan.uuid.as_deref() {
        Some(uuid) => guest_word(&plan.guest, uuid),
        None => &plan.guest,
    };
    let word = shell_word(guest, style.unicode).filter(|word| word != "''");
    let diff = word.map(|word| format!("virtfit plan {word} --diff"));
    let next = Advice {
        commands: diff.into_iter().collect(),
        ..Advice::default()
    };
    text_with(&next, plan, host, housekeeping, taken, style)
}

/// Returns the text as [`text`] does, with these steps at its end.
pub(crate) fn text_with(
    next: &Advice,
    plan: &Plan,
    host: &Host,
    housekeeping: &CpuSet,
    taken: &Taken,
    style: &Style,
) -> String {
    panics::fault_point("show", &plan.guest);
    let mut out = Vec::new();
    headline(plan, style, &mut out);
    let reasons = reasons(plan);
    for (reason, command) in &reasons {
        let colon = if command.is_some() { ":" } else { "" };
        let reason = clean(&format!("{reason}{colon}"), style.unicode);
        paragraph(&mut out, "  ", 2, &reason, paint(plan.verdict), style);
        out.extend(command.iter().map(|command| below(plan, command, style)));
    }
    if plan.verdict == Verdict::Unchanged {
        // For a guest that has what its profile asks for, the pins that are not virtfit's are all
        // there is to say.
        table::notes("kept", plan.kept_pins(), style, &mut out);
        // A guest that has all it can have still lacks what is not possible.
        table::notes("not done", &plan.notes.not_done, style, &mut out);
        return finish(&out, style);
    }
    takes_effect(plan, style, &mut out);
    let scene = Scene {
        host,
        housekeeping,
        taken,
        placement: plan.placement.as_ref(),
    };
    out.extend(picture::draw(&scene, style));
    changes(plan, style, &mut out);
    table::notes("kept", &plan.notes.kept, style, &mut out);
    table::notes("not done", &plan.notes.not_done, style, &mut out);
    if plan.verdict != Verdict::Tuned {
        return finish(&out, style);
    }
    let mut said = vec!["Nothing was written.".to_string()];
    said.extend(next.said.iter().cloned());
    let said = clean(&said.join(" "), style.unicode);
    paragraph(&mut out, "", 0, &said, Paint::Plain, style);
    finish(&out, style) + &closing(next, style)
}

/// Words a plan for a list of many: `db  tuned  fit  CPU 1-2,17-18 node 0`. At most 80 columns of
/// ASCII; what is longer goes on below itself.
pub fn line(plan: &Plan) -> String {
    list(std::slice::from_ref(plan), &Style::default())
}

/// Words each plan in a row, with aligned columns and, for several plans, a line of titles. Reasons
/// are whole.
pub fn list(plans: &[Plan], style: &Style) -> String {
    list_but(plans, &[], style)
}

/// Words plans as [`list`] does; those of the guests in `left` are not carried out, with the
/// reason.
pub(crate) fn list_but(plans: &[Plan], left: &[(&str, &str)], style: &Style) -> String {
    let page = style.columns();
    let why_left = |plan: &Plan| left.iter().find(|(name, _)| *name == plan.guest);
    let mut rows: Vec<[String; 4]> = plans
        .iter()
        .map(|plan| {
            [
                cut(&clean(&plan.guest, style.unicode), page / 3, style),
                why_left(plan).map_or_else(|| word(plan), |_| LEFT).to_string(),
                cut(
                    &clean(plan.profile.as_deref().unwrap_or("-"), style.unicode),
                    page / 5,
                    style,
                ),
                match why_left(plan) {
                    Some((_, why)) => format!("{why}; with --all: {}", clean(&gist(plan), style.unicode)),
                    None => clean(&gist(plan), style.unicode),
                },
            ]
        })
        .collect();
    // A single plan needs no titles.
    if rows.len() > 1 {
        rows.insert(0, ["GUEST", "PLAN", "PROFILE", "WHAT"].map(str::to_string));
    }
    let titles = rows.len() - plans.len();
    let column = |index: usize| {
        rows.iter()
            .filter_map(|row| row.get(index))
            .map(|cell| width(cell))
            .max()
    };
    // The last column is not measured: nothing follows it.
    let stops = [0, 1, 2].map(|index| column(index).unwrap_or(0) + 2);
    let mut out = Vec::new();
    // Refusals and missing placements stand out in colour.
    for (index, [guest, verdict, profile, gist]) in rows.iter().enumerate() {
        let mut line = Line::of(guest.clone(), Paint::Plain);
        let paint = if ["refused", NO_PLACE].contains(&verdict.as_str()) {
            Paint::Bad
        } else {
            Paint::Plain
        };
        line.pad_to(stops[0]).push(verdict.clone(), paint);
        line.pad_to(stops[0] + stops[1])
            .push(profile.clone(), Paint::Plain);
        let last = stops.iter().sum();
        let mut pieces = wrap(gist, page.saturating_sub(last)).into_iter();
        line.pad_to(last)
            .push(pieces.next().unwrap_or_default(), Paint::Plain);
        out.push(line);
        for piece in pieces {
            let mut line = Line::new();
            line.pad_to(last).push(piece, Paint::Plain);
            out.push(line);
        }
        if let Some(plan) = index.checked_sub(titles).and_then(|index| plans.get(index)) {
            let commands = reasons(plan).into_iter().filter_map(|(_, command)| command);
            out.extend(commands.map(|command| below(plan, &command, style)));
        }
    }
    finish(&out, style)
}

/// Makes the line of a command that a reason ends in.
fn below(plan: &Plan, command: &str, style: &Style) -> Line {
    let guest = (plan.guest.as_str(), plan.uuid.as_deref());
    Line::command_for(guest, "    ", command, style)
}

/// Word for a plan that is not carried out.
const LEFT: &str = "left";

/// Verdict of a plan that lets a guest run without the placement its profile asks for.
const NO_PLACE: &str = "no place";

/// Returns the verdict in a word.
fn word(plan: &Plan) -> &'static str {
    match plan.verdict {
        Verdict::Refused => plan.verdict.word(),
        _ if plan.is_without_place() => NO_PLACE,
        _ => plan.verdict.word(),
    }
}

/// Words the result of a plan briefly.
fn gist(plan: &Plan) -> String {
    if plan.verdict != Verdict::Tuned {
        // The first reason, and those whose commands are below the line; a refusal has them all.
        let all = reasons(plan);
        let count = all
            .len()
            .saturating_sub(plan.reasons.len() - plan.causes().count());
        let every = plan.verdict == Verdict::Refused;
        let shown = |index: usize, command: &Option<String>| every || index == 0 || command.is_some();
        let said = all.into_iter().enumerate();
        let said = said.filter_map(|(index, (said, command))| shown(index, &command).then_some(said));
        let said: Vec<String> = said.collect();
        return said.join("; ") + &more(count.saturating_sub(said.len()));
    }
    let mut parts = Vec::new();
    if let Some(placement) = &plan.placement {
        let floating = placement.floating();
        let mut own = CpuSet::new();
        placement.vcpus.values().for_each(|cpus| own.extend_from(cpus));
        own = own.difference(&floating);
        parts.extend((!own.is_empty()).then(|| format!("CPU {own}")));
        parts.extend((!floating.is_empty()).then(|| format!("floats on CPU {floating}")));
        if !placement.nodes.is_empty() {
            let nodes: Vec<String> = placement.nodes.iter().map(ToString::to_string).collect();
            parts.push(format!("node {}", nodes.join(",")));
        }
    }
    let others = more(plan.causes().count().saturating_sub(1));
    parts.extend(plan.reasons.first().map(|reason| reason.said() + &others));
    if plan.changes.is_empty() && !plan.notes.only_named {
        parts.push("only its record changes".into());
    }
    if parts.is_empty() {
        parts.push(counted(plan.changes.len(), "change"));
    }
    parts.join("; ")
}

/// Words the number of reasons that a list does not show; `virtfit plan GUEST` has them.
fn more(count: usize) -> String {
    match count {
        0 => String::new(),
        count => format!(" (and {})", counted(count, "more reason")),
    }
}

fn paint(verdict: Verdict) -> Paint {
    match verdict {
        Verdict::Refused => Paint::Bad,
        _ => Paint::Plain,
    }
}

/// Writes the headline: `def: tuned by fit (rule 1, /etc/virtfit/policy.toml:4)`.
fn headline(plan: &Plan, style: &Style, out: &mut Vec<Line>) {
    let profile = plan.profile.as_deref().unwrap_or("-");
    let what = match plan.verdict {
        Verdict::Refused => format!("refused by {profile}"),
        Verdict::Tuned if plan.is_without_place() => {
            format!("tuned by {profile} without a place of its own")
        }
        Verdict::Tuned => format!("tuned by {profile}"),
        Verdict::Unchanged if plan.profile.is_none() => "unchanged".to_string(),
        Verdict::Unchanged if plan.notes.on_no_fit.is_none() => format!("left alone, profile {profile}"),
        Verdict::Unchanged if plan.is_without_place() => {
            format!("no place of its own, profile {profile}")
        }
        Verdict::Unchanged => format!("unchanged, profile {profile}"),
    };
    let mut text = format!("{}: {what}", plan.guest);
    if !plan.notes.chosen_by.is_empty() {
        text.push_str(&format!(" ({})", plan.notes.chosen_by));
    }
    paragraph(out, "", 0, &clean(&text, style.unicode), Paint::Strong, style);
}

/// Returns the reasons, each with its command; never empty for a guest that is not tuned.
fn reasons(plan: &Plan) -> Vec<(String, Option<String>)> {
    if !plan.reasons.is_empty() || plan.verdict == Verdict::Tuned {
        let words = |reason: &Reason| (reason.said(), reason.command());
        return plan.reasons.iter().map(words).collect();
    }
    let text = match (plan.verdict, &plan.profile) {
        (Verdict::Refused, _) => "no reason was given",
        (_, None) => "no rule of the policy matches it and it asks for no profile itself",
        (_, Some(_)) => "it is already as the profile wants it",
    };
    vec![(text.to_string(), None)]
}

fn takes_effect(plan: &Plan, style: &Style, out: &mut Vec<Line>) {
    if plan.verdict != Verdict::Tuned || plan.notes.only_named {
        return;
    }
    let now = plan
        .changes
        .iter()
        .filter(|change| change.effect == Effect::AtOnce)
        .count();
    let text = match plan.scope {
        _ if plan.changes.is_empty() => "Only its record changes.",
        Scope::Incoming => "Takes effect as the guest arrives here (migration, restore).",
        Scope::Boot if now > 0 && now == plan.changes.len() => "Takes effect now.",
        Scope::Boot if now > 0 => {
            "Takes effect now where a running guest can be changed, the rest when it is next started."
        }
        Scope::Boot => "Takes effect when it is next started; a reboot inside the guest is not enough.",
    };
    paragraph(out, "", 0, text, Paint::Plain, style);
}

fn changes(plan: &Plan, style: &Style, out: &mut Vec<Line>) {
    const GUEST: &str = "what the guest sees";
    const HOST: &str = "what only the host sees";
    let vcpus = plan
        .placement
        .as_ref()
        .map_or(0, |placement| placement.vcpus.len());
    let (seen, unseen): (Vec<&Change>, Vec<&Change>) = plan
        .changes
        .iter()
        .partition(|change| change.target.is_guest_visible());
    let seen = rows::rows(seen.into_iter(), vcpus);
    let unseen = rows::rows(unseen.into_iter(), vcpus);
    let all: Vec<&rows::Row> = seen.iter().chain(&unseen).collect();
    let widths = Widths::of(&all, &[GUEST, HOST], style);
    table::draw(GUEST, &seen, widths, style, out);
    table::draw(HOST, &unseen, widths, style, out);
}

/// Returns the commands that come next, each complete and on a line of its own, so that it can be
/// pasted; and before them the rule that is needed. None of these lines is wrapped.
fn closing(next: &Advice, style: &Style) -> String {
    let rule = next.rule.iter().map(|line| ("      ", line));
    let commands = next.commands.iter().map(|command| ("  ", command));
    rule.chain(commands)
        .map(|(indent, line)| format!("{indent}{}\n", clean(line, style.unicode)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::more;

    #[test]
    fn what_a_list_does_not_show_is_named() {
        for (count, want) in [(0, ""), (1, " (and 1 more reason)"), (2, " (and 2 more reasons)")] {
            assert_eq!(more(count), want);
        }
    }
}
