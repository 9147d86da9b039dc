//! `virtfit revert`: the XML as it was before virtfit; for a guest, its definition. It needs
//! neither host nor policy: everything is in the XML. Only for a guest that virtfit never tuned is
//! the policy asked if a rule would have it tuned.

use crate::cli::args::{Global, RevertArgs};
use crate::cli::chosen::Purpose;
use crate::cli::confirm::{Asking, confirmed};
use crate::cli::input::Source;
use crate::cli::redefine::{self, RedefineError};
use crate::cli::{Exit, Failure, Outcome, chosen, guest, plan, rewrite as command, session};
use crate::hostfs::HostFs;
use crate::ledger::reader::Reading;
use crate::ledger::status;
use crate::libvirt::Hypervisor;
use crate::libvirt::definitions;
use crate::libvirt::definitions::{Definition, DefinitionError};
use crate::panics::{Bug, guarded};
use crate::policy::select;
use crate::rewrite;
use crate::status::PolicyRead;
use crate::types::guest_word::guest_word;
use crate::types::printable::visible;
use crate::xml::{Document, XmlError};

/// Number of times a definition is read again that another program changed meanwhile.
const TRIES: u32 = 5;

/// Runs the command.
///
/// # Errors
/// The input is broken, or libvirt cannot be asked.
pub(crate) fn run(global: &Global, args: &RevertArgs) -> Result<Outcome, Failure> {
    if args.all {
        let root = session::host(global)?;
        chosen::may_write(&root)?;
        let names = guest::definitions(&root)?;
        let asking = Asking {
            yes: args.yes,
            one: false,
        };
        return guests(global, &names, asking, args.dry_run);
    }
    let source = command::one_source(args.input.as_deref(), "revert")?;
    if let Source::Guest(word) = &source {
        let root = session::root(global);
        if root.is_none() {
            return Err(Failure::at(word, "no such file; guests are looked up on a host"));
        }
        chosen::may_write(&root)?;
        let (names, asking) = match chosen::matching(&root, word, Purpose::Write)? {
            Some(names) => (
                names,
                Asking {
                    yes: args.yes,
                    one: false,
                },
            ),
            None => (
                vec![guest::name_or_file(&root, word)?],
                Asking { yes: true, one: true },
            ),
        };
        return guests(global, &names, asking, args.dry_run);
    }
    let input = plan::load(&source, &HostFs::none())?;
    let reverted = reverted(&input.text, &input.label).map_err(|error| Failure::at(&input.label, error))?;
    Ok(Outcome::answer(reverted))
}

/// Returns a text as it was before virtfit. Settings that were changed since stay, with a warning
/// that names the guest or file.
fn reverted(text: &str, label: &str) -> Result<String, XmlError> {
    let document = Document::parse(text)?;
    let reverted = rewrite::revert(&document)?;
    for (target, why) in &reverted.left {
        log::warn!("{label}: {}: left as it is: {why}", rewrite::path(target));
    }
    Ok(reverted.xml)
}

/// Redefines guests as they were before virtfit, with the request `off`: otherwise the daemon would
/// tune them again. With `dry_run` they are only listed.
fn guests(global: &Global, names: &[String], asking: Asking, dry_run: bool) -> Result<Outcome, Failure> {
    let root = session::root(global);
    if !dry_run {
        redefine::uri(global)?;
    }
    let mut outcome = Outcome::default();
    outcome.stderr.extend(chosen::while_disabled(&root));
    let mut changes: Vec<Box<Change>> = Vec::new();
    for name in names {
        let change = guarded(|| change(global, &root, name, asking.one));
        match change.unwrap_or_else(|bug| Err(bug.into())) {
            Ok(Wanted::Change(change)) => changes.push(change),
            Ok(Wanted::Nothing(why)) => outcome.stdout.push_str(&visible(&why)),
            Err(error) => broken(&mut outcome, name, &error),
        }
    }
    if dry_run {
        let would = changes.iter().map(|change| {
            let what = match change.tuned {
                true => "would be reverted",
                false => "has no settings of virtfit's; it would be told to be left alone",
            };
            format!("{}: {what}\n", change.definition.file.name)
        });
        outcome.stdout.push_str(&visible(&would.collect::<String>()));
        if outcome.stdout.is_empty() && outcome.exit == Exit::Done {
            outcome.stdout = "Nothing to revert.\n".into();
        }
        return Ok(outcome);
    }
    let list: Vec<&str> = changes
        .iter()
        .map(|change| change.definition.file.name.as_str())
        .collect();
    let list = format!("{}\n", list.join("\n"));
    if !changes.is_empty() && !confirmed(asking, &list, "Revert", changes.len())? {
        outcome.stdout = "Nothing was written.\n".into();
        return Ok(outcome);
    }
    let mut libvirt = redefine::connect(&root, global)?;
    let mut left = changes.len();
    for change in changes {
        left -= 1;
        let name = change.definition.file.name.clone();
        let again = || self::change(global, &root, &name, asking.one);
        match written(&root, libvirt.as_mut(), change, again) {
            Ok(said) => outcome.stdout.push_str(&visible(&said)),
            Err(RevertError::Redefine(error)) if error.is_down() => {
                broken(&mut outcome, &redefine::and_others(&name, left), &error);
                break;
            }
            Err(error) => broken(&mut outcome, &name, &error),
        }
    }
    if outcome.stdout.is_empty() && outcome.exit == Exit::Done {
        outcome.stdout = "Nothing to revert.\n".into();
    }
    Ok(outcome)
}

/// Redefines a guest; returns the line on it. Where the definition is another one by now, as the
/// daemon tunes guests at any moment, `again` reads it.
fn written(
    root: &HostFs,
    libvirt: &mut dyn Hypervisor,
    mut change: Box<Change>,
    mut again: impl FnMut() -> Result<Wanted, RevertError>,
) -> Result<String, RevertError> {
    let mut tries = TRIES;
    loop {
        let redefined = redefine::redefine(root, libvirt, &change.definition, &change.off);
        match redefined {
            Ok(()) => return Ok(said(root, &change)),
            Err(error) if !error.is_outdated() || tries == 0 => return Err(error.into()),
            Err(_) => tries -= 1,
        }
        match again()? {
            Wanted::Change(now) => change = now,
            Wanted::Nothing(why) => return Ok(why),
        }
    }
}

/// Words what was done to a guest.
fn said(root: &HostFs, change: &Change) -> String {
    let name = &change.definition.file.name;
    let runs = match change.tuned && root.exists(status::path(name)) {
        true => "it keeps running as it is until its next start; ",
        false => "",
    };
    let did = match change.tuned {
        true => "reverted",
        false => "had no settings of virtfit's",
    };
    let guest = guest_word(name, &change.definition.domain.uuid);
    format!("{name}: {did}; {runs}virtfit leaves it alone until virtfit profile unset {guest}\n")
}

/// Reason why a definition stays as it is.
#[derive(Debug, thiserror::Error)]
enum RevertError {
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error(transparent)]
    Xml(#[from] XmlError),
    #[error(transparent)]
    Redefine(#[from] RedefineError),
    #[error("failed: {0}")]
    Bug(#[from] Bug),
}

/// Definition that is to be reverted.
struct Change {
    definition: Definition,
    /// Text that replaces it.
    off: String,
    /// virtfit had changed it.
    tuned: bool,
}

/// Need of a guest's definition.
enum Wanted {
    Change(Box<Change>),
    /// None; with a line on why, which is empty where several guests are meant.
    Nothing(String),
}

/// Returns the change of a guest's definition. One that virtfit never touched stays unless its
/// guest is named and a rule would have it tuned, as does a file that libvirt does not load.
fn change(global: &Global, root: &HostFs, name: &str, named: bool) -> Result<Wanted, RevertError> {
    let nothing = |why: &str| match named {
        true => Wanted::Nothing(format!("{name}: {why}\n")),
        false => Wanted::Nothing(String::new()),
    };
    let definition = match definitions::read(root, name, &Reading::default()) {
        Err(DefinitionError::OtherName { .. }) if !named => return Ok(nothing("")),
        read => read?,
    };
    let document = Document::parse(&definition.file.text)?;
    let tuned = rewrite::provenance(&document)?.is_some();
    if !(tuned || named && would_be_tuned(global, root, &definition)) {
        return Ok(nothing(
            "has no settings of virtfit's, and nothing would have it tuned: nothing was written",
        ));
    }
    let before = reverted(&definition.file.text, name)?;
    let before = Document::parse(&before)?;
    let off = rewrite::request(&before, Some("off"))?;
    if off == definition.file.text {
        return Ok(nothing("is reverted already: nothing was written"));
    }
    Ok(Wanted::Change(Box::new(Change {
        definition,
        off,
        tuned,
    })))
}

/// Returns whether virtfit would tune a guest as it is: by a rule, or by the guest's own request.
/// A policy that cannot be read might have such a rule.
fn would_be_tuned(global: &Global, root: &HostFs, definition: &Definition) -> bool {
    let shown = session::policy_to_show(&session::place(global));
    let autostart = guest::is_on_autostart(root, &definition.file.name);
    let profile = select::select(&shown.policy, &definition.domain, autostart).profile;
    shown.read == PolicyRead::None || profile.is_some_and(|profile| !profile.off)
}

fn broken(outcome: &mut Outcome, name: &str, error: &dyn std::error::Error) {
    outcome.stderr.push(format!("virtfit: {name}: {error}"));
    outcome.exit = Exit::Broken;
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
