//! `virtfit revert`: the XML as it was before virtfit; for a guest, its definition. It needs
//! neither host nor policy: everything is in the XML.

use crate::cli::args::{Global, RevertArgs};
use crate::cli::confirm::{Asking, confirmed};
use crate::cli::input::Source;
use crate::cli::redefine;
use crate::cli::{Exit, Failure, Outcome, chosen, guest, plan, rewrite as command, session};
use crate::hostfs::HostFs;
use crate::ledger::reader::Reading;
use crate::ledger::status;
use crate::libvirt::definitions;
use crate::libvirt::definitions::{Definition, DefinitionError};
use crate::panics::{Bug, guarded};
use crate::rewrite;
use crate::types::guest_word::guest_word;
use crate::types::printable::visible;
use crate::xml::{Document, XmlError};

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
        return guests(global, &names, asking);
    }
    let source = command::one_source(args.input.as_deref(), "revert")?;
    if let Source::Guest(word) = &source {
        let root = session::root(global);
        if root.is_none() {
            return Err(Failure::at(word, "no such file; guests are looked up on a host"));
        }
        let asking = Asking { yes: true, one: true };
        chosen::may_write(&root)?;
        return guests(global, &[guest::name(&root, word)?], asking);
    }
    let input = plan::load(&source, &HostFs::none())?;
    let reverted = reverted(&input.text).map_err(|error| Failure::at(&input.label, error))?;
    Ok(Outcome::answer(reverted))
}

/// Returns a text as it was before virtfit. Settings that were changed since stay, with a warning.
fn reverted(text: &str) -> Result<String, XmlError> {
    let document = Document::parse(text)?;
    let reverted = rewrite::revert(&document)?;
    for (target, why) in &reverted.left {
        log::warn!("{}: left as it is: {why}", rewrite::path(target));
    }
    Ok(reverted.xml)
}

/// Redefines guests as they were before virtfit, with the request `off`: otherwise the daemon would
/// tune them again.
fn guests(global: &Global, names: &[String], asking: Asking) -> Result<Outcome, Failure> {
    let root = session::root(global);
    let mut outcome = Outcome::default();
    let mut changes = Vec::new();
    for name in names {
        let change = guarded(|| change(&root, name, asking.one));
        match change.unwrap_or_else(|bug| Err(bug.into())) {
            Ok(change) => changes.extend(change),
            Err(error) => broken(&mut outcome, name, &error),
        }
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
    let mut libvirt = redefine::connect(&root, global);
    for Change {
        definition,
        off,
        tuned,
    } in &changes
    {
        let name = &definition.file.name;
        match redefine::redefine(&root, libvirt.as_mut(), definition, off) {
            Ok(()) => {
                let runs = match *tuned && root.exists(status::path(name)) {
                    true => "it keeps running as it is until its next start; ",
                    false => "",
                };
                let did = match tuned {
                    true => "reverted",
                    false => "had no settings of virtfit's",
                };
                let guest = guest_word(name, &definition.domain.uuid);
                outcome.stdout.push_str(&visible(&format!(
                    "{name}: {did}; {runs}virtfit leaves it alone until virtfit profile unset {guest}\n"
                )));
            }
            Err(error) => broken(&mut outcome, name, &error),
        }
    }
    if outcome == Outcome::default() {
        outcome.stdout = "Nothing to revert.\n".into();
    }
    Ok(outcome)
}

/// Reason why a definition stays as it is.
#[derive(Debug, thiserror::Error)]
enum RevertError {
    #[error(transparent)]
    Definition(#[from] DefinitionError),
    #[error(transparent)]
    Xml(#[from] XmlError),
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

/// Returns the change of a guest's definition; `None`: the definition stays. One that virtfit never
/// touched stays unless its guest is named, as does a file that libvirt does not load.
fn change(root: &HostFs, name: &str, named: bool) -> Result<Option<Change>, RevertError> {
    let definition = match definitions::read(root, name, &Reading::default()) {
        Err(DefinitionError::OtherName { .. }) if !named => return Ok(None),
        read => read?,
    };
    let document = Document::parse(&definition.file.text)?;
    let tuned = rewrite::provenance(&document)?.is_some();
    if !named && !tuned {
        return Ok(None);
    }
    let before = reverted(&definition.file.text)?;
    let before = Document::parse(&before)?;
    let off = rewrite::request(&before, Some("off"))?;
    Ok((off != definition.file.text).then_some(Change {
        definition,
        off,
        tuned,
    }))
}

fn broken(outcome: &mut Outcome, name: &str, error: &dyn std::error::Error) {
    outcome.stderr.push(format!("virtfit: {name}: {error}"));
    outcome.exit = Exit::Broken;
}
