//! Output of `virtfit profile list|show` and `virtfit policy check|show|cat`.
//!
//! `show` prints TOML that means the same policy when it is read again.

use crate::policy::builtin::ALIASES;
use crate::policy::keys::{HOST, PROFILE};
use crate::policy::load::{Files, State};
use crate::policy::merge::{Draft, Origin, chain};
use crate::policy::select::{UnknownProfile, unknown};
use crate::policy::source::{PolicyErrors, printable};
use crate::policy::text::{commented, wrapped};
use crate::policy::value::{quoted, size_text};
use crate::policy::{Policy, Profile};
use crate::types::plural::counted;

/// Prints `profile list`: name, alias, parent and description of each profile. Profiles that a file
/// gives or changes are marked, with the places.
pub(crate) fn profiles(policy: &Policy) -> String {
    // Column widths follow the longest name within limits, so that descriptions have room on 80
    // columns.
    let names = policy
        .profiles
        .keys()
        .map(|name| name.chars().count())
        .max()
        .unwrap_or(0);
    let parents = policy
        .origins
        .profiles
        .values()
        .filter_map(|draft| draft.inherits.as_ref());
    let parents = parents
        .map(|(parent, _)| parent.chars().count())
        .max()
        .unwrap_or(0);
    let (names, parents) = (names.clamp(4, 24), parents.clamp(8, 24));
    let mut out = format!(
        "  {:names$} {:5} {:parents$} DESCRIPTION\n",
        "NAME", "ALIAS", "INHERITS"
    );
    let indent = 2 + names + 1 + 5 + 1 + parents + 1;
    let mut marked = false;
    // One line for each profile, and below it the sections of files that change it.
    for (name, profile) in &policy.profiles {
        let Some(draft) = policy.origins.profiles.get(name) else {
            continue;
        };
        let given = is_changed(draft);
        marked |= given;
        let mark = if given { '*' } else { ' ' };
        let parent = draft.inherits.as_ref().map_or("-", |(parent, _)| parent.as_str());
        let alias = alias_of(policy, name).unwrap_or("-");
        let description = match profile.description.as_str() {
            "" => "-".to_string(),
            text => wrapped(&printable(text), indent),
        };
        out.push_str(&format!(
            "{mark} {name:names$} {alias:5} {parent:parents$} {description}\n"
        ));
        for place in draft.sections.iter().filter(|_| given) {
            out.push_str(&format!("    {place}\n"));
        }
    }
    if marked {
        out.push_str("* given or changed by a policy file; the others are built in\n");
    }
    out
}

/// Returns true if a policy file gives a profile or changes a key of it. A section without keys
/// does not change a built-in profile.
pub(crate) fn is_changed(draft: &Draft) -> bool {
    let from_file = |origin: &Origin| matches!(origin, Origin::File(_));
    from_file(&draft.origin) || draft.keys.values().any(|(_, origin)| from_file(origin))
}

/// Returns the other name of a profile.
pub(crate) fn alias_of(policy: &Policy, name: &str) -> Option<&'static str> {
    ALIASES
        .iter()
        .find(|(alias, target)| *target == name && !policy.profiles.contains_key(*alias))
        .map(|(alias, _)| *alias)
}

/// Prints `profile show NAME`: every key with its value and its source, as TOML.
///
/// # Errors
/// No profile or alias has that name.
pub fn profile(policy: &Policy, name: &str) -> Result<String, UnknownProfile> {
    let profile = policy.profile(name).ok_or_else(|| unknown(policy, name))?;
    let chain = chain(&profile.name, &policy.origins.profiles);
    let mut out = String::new();
    // The name asked for may be an alias, and the keys of `off` have no effect: comments say so.
    if profile.name != name {
        out.push_str(&format!(
            "# '{}' is another name for '{}'\n",
            printable(name),
            profile.name
        ));
    }
    if profile.off {
        out.push_str("# the guest is left alone; no other key has an effect\n");
    }
    // The header and the parent come first, as in a policy file.
    let origin = chain
        .first()
        .map_or(Origin::BuiltIn, |(_, draft)| draft.origin.clone());
    out.push_str(&commented(&header(&profile.name), &origin.to_string()));
    if let Some((parent, origin)) = chain.first().and_then(|(_, draft)| draft.inherits.as_ref()) {
        out.push_str(&commented(
            &format!("inherits = {}", quoted(parent)),
            &origin.to_string(),
        ));
    }
    // Each key with the profile that gives it; a description counts only where it is the profile's
    // own.
    for key in PROFILE
        .iter()
        .filter(|key| !profile.off || key.path == "description")
    {
        let from = chain.iter().find_map(|(owner, draft)| {
            let (_, origin) = draft.keys.get(key.path)?;
            (key.path != "description" || *owner == profile.name).then_some((*owner, origin))
        });
        let comment = match from {
            Some((owner, origin)) if owner == profile.name => origin.to_string(),
            Some((owner, origin)) => format!("{owner}, {origin}"),
            None => Origin::BuiltIn.to_string(),
        };
        out.push_str(&commented(
            &format!("{} = {}", key.path, (key.get)(profile)),
            &comment,
        ));
    }
    Ok(out)
}

fn header(name: &str) -> String {
    let bare = name
        .bytes()
        .all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-'));
    if bare {
        format!("[profile.{name}]")
    } else {
        format!("[profile.{}]", quoted(name))
    }
}

/// Prints `policy show`: the merged policy as TOML, each value with its place. Of each profile only
/// its own keys are printed.
pub fn policy(policy: &Policy) -> String {
    let mut out = format!("# the merged policy, digest {}\n[host]\n", policy.digest);
    // All host keys, built-in ones included: `[host]` is printed complete.
    for key in HOST {
        out.push_str(&commented(
            &format!("{} = {}", key.path, (key.get)(&policy.host)),
            &host_origin(policy, key.path),
        ));
    }
    if policy.host.reserved_hugepages.is_empty() {
        out.push_str(&commented("reserved_hugepages = {}", "built-in"));
    }
    for (size, count) in &policy.host.reserved_hugepages {
        let place = policy.origins.reserved_hugepages.get(size);
        let origin = place.map_or("built-in".to_string(), ToString::to_string);
        let line = format!("reserved_hugepages.{} = {count}", quoted(&size_text(*size)));
        out.push_str(&commented(&line, &origin));
    }
    // Profiles and rules follow in their order of evaluation.
    for (name, draft) in &policy.origins.profiles {
        if let Some(profile) = policy.profiles.get(name) {
            out.push('\n');
            out.push_str(&own_keys(profile, draft));
        }
    }
    for (index, rule) in policy.rules.iter().enumerate() {
        out.push('\n');
        out.push_str(&commented(
            "[[rule]]",
            &format!("rule {}, {}", index + 1, rule.place),
        ));
        out.push_str(&format!(
            "match = {}\nprofile = {}\n",
            rule.matches.to_toml(),
            quoted(&rule.profile)
        ));
    }
    out
}

/// Returns the source of a key of `[host]`.
pub(crate) fn host_origin(policy: &Policy, key: &str) -> String {
    let place = policy.origins.host.get(key);
    place.map_or_else(|| Origin::BuiltIn.to_string(), ToString::to_string)
}

/// Prints a profile's own keys; all keys of the base, which has no parent to take them from.
fn own_keys(profile: &Profile, draft: &Draft) -> String {
    let mut out = commented(&header(&profile.name), &draft.origin.to_string());
    if let Some((parent, origin)) = &draft.inherits {
        out.push_str(&commented(
            &format!("inherits = {}", quoted(parent)),
            &origin.to_string(),
        ));
    }
    for key in PROFILE {
        let origin = match draft.keys.get(key.path) {
            Some((_, origin)) => origin.to_string(),
            None if draft.inherits.is_none() => Origin::BuiltIn.to_string(),
            None => continue,
        };
        out.push_str(&commented(
            &format!("{} = {}", key.path, (key.get)(profile)),
            &origin,
        ));
    }
    out
}

/// Prints `policy check` of files without errors: a line for each file, and the totals.
///
/// # Errors
/// All problems in the files; their text is the command's output then.
pub fn check(files: &Files) -> Result<String, PolicyErrors> {
    let policy = files.policy()?;
    let mut out = String::new();
    for file in &files.files {
        let state = match &file.state {
            State::Used(_) => "ok".to_string(),
            State::Masked(by) => format!("masked by {by}"),
            State::Removed => "switched off (link to /dev/null)".into(),
            State::Unreadable(_) => "cannot be read".into(),
        };
        out.push_str(&format!("{}: {state}\n", printable(&file.path)));
    }
    let used = files
        .files
        .iter()
        .filter(|file| matches!(file.state, State::Used(_)))
        .count();
    if used == 0 {
        out.push_str("no policy file: the built-in profiles, no rule\n");
    }
    let own = policy
        .origins
        .profiles
        .values()
        .filter(|draft| is_changed(draft))
        .count();
    out.push_str(&format!(
        "{}, {} given or changed, {}; digest {}\n",
        counted(used, "file"),
        counted(own, "profile"),
        counted(policy.rules.len(), "rule"),
        policy.digest
    ));
    Ok(out)
}

/// Returns the closing line of `policy check` with errors, for a reader who sees only the end of
/// them.
pub fn error_count(errors: &PolicyErrors) -> String {
    counted(errors.0.len(), "error")
}

/// Prints `policy cat`: the files as they are, each below a line with its path. Files that do not
/// count are only named.
pub fn cat(files: &Files) -> String {
    let mut out = String::new();
    for file in &files.files {
        if !out.is_empty() {
            out.push('\n');
        }
        let path = printable(&file.path);
        match &file.state {
            State::Used(text) => {
                out.push_str(&format!(
                    "# {path}\n{}",
                    text.strip_prefix('\u{feff}').unwrap_or(text)
                ));
                if !text.is_empty() && !text.ends_with('\n') {
                    out.push('\n');
                }
            }
            State::Masked(by) => out.push_str(&format!("# {path} is masked by {by}\n")),
            State::Removed => out.push_str(&format!("# {path} is switched off (link to /dev/null)\n")),
            State::Unreadable(problem) => {
                out.push_str(&format!("# {path} cannot be shown: {}\n", problem.message))
            }
        }
    }
    if out.is_empty() {
        out.push_str("# no policy file; 'virtfit policy show' prints the built-in policy\n");
    }
    out
}
