//! Commands that a plan advises: they do what it showed, with its options, and can be pasted into a
//! shell.

use crate::cli::args::{Global, Options};
use crate::cli::input::Source;
use crate::cli::session::{self, Session};
use crate::libvirt::definitions;
use crate::policy::select;
use crate::render::Style;
use crate::render::escape::shell_word;
use crate::types::plan::{Plan, Scope, Verdict};

/// Returns the commands that come next, one per line; none where nothing would change, or where the
/// words cannot be given to a shell.
pub(crate) fn commands(
    global: &Global,
    options: &Options,
    session: &Session,
    word: &str,
    plan: &Plan,
    style: &Style,
) -> Vec<String> {
    if plan.verdict != Verdict::Tuned {
        return Vec::new();
    }
    lines(global, options, session, word, plan, style).unwrap_or_default()
}

fn lines(
    global: &Global,
    options: &Options,
    session: &Session,
    word: &str,
    plan: &Plan,
    style: &Style,
) -> Option<Vec<String>> {
    let quoted = |text: &str| shell_word(text, style.unicode).filter(|word| word != "''");
    let guest = quoted(word)?;
    // Options that say where the host is read; every command gets them.
    let mut place = String::new();
    let mut add = |option: &str, value: &str| {
        place.push_str(&format!(" --{option} {}", quoted(value)?));
        Some(())
    };
    if let Some(root) = &global.root {
        add("root", root.to_str()?)?;
    }
    if let Some(policy) = &global.policy {
        add("policy", policy.to_str()?)?;
    }
    if let Some(topology) = &global.topology {
        add("topology", topology)?;
    }
    if global.assume_empty {
        place.push_str(" --assume-empty");
    }
    // Options that change the plan itself; the daemon and `apply` do not take them.
    let mut chosen = String::new();
    if let Some(profile) = &options.profile {
        chosen.push_str(&format!(" --profile {}", quoted(profile)?));
    }
    if plan.scope == Scope::Incoming {
        chosen.push_str(" --scope incoming");
    }
    let is_guest = matches!(Source::of(word.as_ref()), Source::Guest(_));
    // Only a plan made from this host as it is can be written to its libvirt.
    let real = session::root(global).is_real() && global.topology.is_none() && !global.assume_empty;
    // The first command brings the plan into force, as far as this host and these options allow.
    let mut lines = Vec::new();
    match (&options.profile, plan.scope) {
        (_, Scope::Incoming) => {}
        (None, _) if is_guest && real => lines.push(format!("virtfit apply {guest}{place}")),
        (Some(profile), _) if is_guest && real && global.policy.is_none() => {
            // Without permission the daemon would not follow the request: a rule is what is
            // missing.
            if is_permitted(session, &plan.guest, profile) {
                lines.push(format!("virtfit profile set {guest} {}", quoted(profile)?));
            }
        }
        _ if is_guest => {}
        _ if real => lines.push(format!(
            "virtfit rewrite {guest}{place}{chosen} | virsh define /dev/stdin"
        )),
        _ => lines.push(format!("virtfit rewrite {guest}{place}{chosen}")),
    }
    lines.push(format!("virtfit plan {guest}{place}{chosen} --diff"));
    lines.push(format!("virtfit plan {guest}{place}{chosen} --json"));
    Some(lines)
}

/// Returns whether the policy lets this guest ask for the profile.
fn is_permitted(session: &Session, guest: &str, profile: &str) -> bool {
    let view = &session.view;
    definitions::read(&view.root, guest, &view.reading)
        .is_ok_and(|found| select::permitted(&view.policy, &found.domain, found.autostart, profile).is_ok())
}
