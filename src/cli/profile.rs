//! `virtfit profile list|show|set|unset`.

use std::ffi::OsStr;

use crate::cli::args::{Global, ProfileCommand};
use crate::cli::redefine;
use crate::cli::{Exit, Failure, Outcome, chosen, daemon_client, guest, output, session};
use crate::hostfs::HostFs;
use crate::ledger::reader::Reading;
use crate::ledger::status;
use crate::libvirt::definitions;
use crate::libvirt::definitions::Definition;
use crate::policy::json::{One, Profiles};
use crate::policy::select::UnknownProfile;
use crate::policy::{Policy, select, show};
use crate::rewrite;
use crate::status::PolicyRead;
use crate::types::guest_word::guest_word;
use crate::types::printable::visible;
use crate::xml::{Document, XmlError};

/// Runs the command.
///
/// # Errors
/// The policy is broken, the profile or guest does not exist, or libvirt cannot be asked.
pub(crate) fn run(global: &Global, command: &ProfileCommand) -> Result<Outcome, Failure> {
    // Profiles that are built in are there whatever errors the policy has, and a guest can be left
    // alone under every policy.
    let shown = session::policy_to_show(&session::place(global));
    let policy = &shown.policy;
    let outcome = match command {
        ProfileCommand::List { json: true } => output::json(&Profiles::of(policy)),
        ProfileCommand::List { json: false } => Ok(Outcome::answer(show::profiles(policy))),
        ProfileCommand::Show { name, json } => shown_profile(policy, name, *json),
        ProfileCommand::Set { guest, name } => set(global, policy, guest, name),
        ProfileCommand::Unset { guest } => unset(global, guest),
    };
    let by = match shown.read {
        PolicyRead::Whole => return outcome,
        PolicyRead::LastGood => "the last good policy is used",
        PolicyRead::None => "only what is built in is used",
    };
    let errors = format!("virtfit: {}", shown.errors.trim_end());
    let mut outcome = outcome.map_err(|failure| failure.after(&shown.errors))?;
    outcome.stderr.splice(0..0, [errors, format!("virtfit: {by}")]);
    // The answer is not that of the policy as it stands; a request is written all the same.
    if matches!(command, ProfileCommand::List { .. } | ProfileCommand::Show { .. }) {
        outcome.worsen(Exit::Broken);
    }
    Ok(outcome)
}

/// Prints one profile, found by name or alias.
fn shown_profile(policy: &Policy, name: &str, json: bool) -> Result<Outcome, Failure> {
    let unknown = |unknown: UnknownProfile| Failure::Broken(unknown.to_string());
    match json {
        true => output::json(&One::of(policy, name).map_err(unknown)?),
        false => show::profile(policy, name).map(Outcome::answer).map_err(unknown),
    }
}

/// Lets a guest ask for a profile, and says where that will not be followed.
fn set(global: &Global, policy: &Policy, guest: &OsStr, name: &str) -> Result<Outcome, Failure> {
    select::by_name(policy, name).map_err(|unknown| Failure::Broken(unknown.to_string()))?;
    let root = session::host(global)?;
    let (mut outcome, definition, changed) = request(&root, global, guest, Some(name))?;
    // The rule that matches the guest decides what it may ask for.
    let autostart = guest::is_on_autostart(&root, &definition.file.name);
    if let Err(why) = select::permitted(policy, &definition.domain, autostart, name) {
        outcome
            .stderr
            .push(format!("virtfit: this request will not be followed: {why}"));
    } else if changed {
        let next = next_step(&root, &definition, Some(name));
        outcome.stdout.push_str(&visible(&next));
    }
    Ok(outcome)
}

/// Takes a guest's own request out of its definition.
fn unset(global: &Global, guest: &OsStr) -> Result<Outcome, Failure> {
    let root = session::host(global)?;
    let (mut outcome, definition, changed) = request(&root, global, guest, None)?;
    if changed {
        let next = next_step(&root, &definition, None);
        outcome.stdout.push_str(&visible(&next));
    } else {
        let name = &definition.file.name;
        let text = format!("{name}: makes no request; the policy's rules decide already\n");
        outcome.stdout = visible(&text);
    }
    Ok(outcome)
}

/// Changes a guest's own request in its definition; returns the definition as it was before, and
/// whether there was anything to change.
fn request(
    root: &HostFs,
    global: &Global,
    word: &OsStr,
    profile: Option<&str>,
) -> Result<(Outcome, Definition, bool), Failure> {
    chosen::may_write(root)?;
    redefine::uri(global)?;
    let name = guest::name(root, &word.to_string_lossy())?;
    let at = |error: XmlError| Failure::at(&name, error);
    let definition = definitions::read(root, &name, &Reading::default())
        .map_err(|error| Failure::Broken(error.to_string()))?;
    let document = Document::parse(&definition.file.text).map_err(at)?;
    let asked = rewrite::request(&document, profile).map_err(at)?;
    let text = match profile {
        Some(profile) => format!("{name}: asks for profile {profile}\n"),
        None => format!("{name}: request removed; the policy's rules decide\n"),
    };
    let text = visible(&text);
    if asked == definition.file.text {
        return Ok((Outcome::answer(text), definition, false));
    }
    let mut libvirt = redefine::connect(root, global)?;
    redefine::redefine(root, libvirt.as_mut(), &definition, &asked)
        .map_err(|error| Failure::at(&name, error))?;
    let mut outcome = Outcome::answer(text);
    outcome.stderr.extend(chosen::while_disabled(root));
    Ok((outcome, definition, true))
}

/// Says what a changed request waits for; empty: virtfitd tunes the guest at once, or the guest
/// asks to be left alone.
fn next_step(root: &HostFs, definition: &Definition, profile: Option<&str>) -> String {
    if profile == Some("off") {
        return String::new();
    }
    let name = &definition.file.name;
    let guest = guest_word(name, &definition.domain.uuid);
    // Without a request the policy's rules are what is followed.
    let (followed, it) = match profile {
        Some(_) => ("the request is", "it"),
        None => ("the rules are", "the rules"),
    };
    let runs = root.exists(status::path(name));
    match (daemon_client::is_answered(root), runs) {
        (false, false) => format!("virtfitd does not run; to have {it} followed: virtfit apply {guest}\n"),
        (false, true) => {
            format!(
                "virtfitd does not run; to have {it} followed, before its next start: virtfit apply {guest}\n"
            )
        }
        (true, true) => format!("{name} runs: {followed} followed in full from its next start\n"),
        (true, false) => String::new(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_next_step_is_that_of_the_request_or_of_the_rules() {
        let dir = tempfile::tempdir().unwrap();
        let put = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        put(
            "etc/libvirt/qemu/db.xml",
            "<domain type='kvm'><name>db</name><memory>1024</memory><vcpu>1</vcpu></domain>",
        );
        let root = HostFs::new(dir.path());
        let definition = definitions::read(&root, "db", &Reading::default()).unwrap();
        for (profile, said) in [
            (
                Some("fit"),
                "virtfitd does not run; to have it followed: virtfit apply db\n",
            ),
            (
                None,
                "virtfitd does not run; to have the rules followed: virtfit apply db\n",
            ),
            (Some("off"), ""),
        ] {
            assert_eq!(next_step(&root, &definition, profile), said);
        }
    }
}
