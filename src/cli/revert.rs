//! `virtfit revert`: the XML as it was before virtfit; for a guest, its definition. Needs neither host nor policy: all is in
//! the XML.

use crate::apply::definitions;
use crate::cli::args::{Global, RevertArgs};
use crate::cli::hypervisor;
use crate::cli::input::Source;
use crate::cli::outcome::without_errno;
use crate::cli::{Exit, Failure, Outcome, guest, plan, rewrite as command, session};
use crate::ledger::read::Reading;
use crate::rewrite;
use crate::root::Root;
use crate::xml::{Document, XmlError};

/// Runs it.
///
/// # Errors
/// The input is broken, or libvirt cannot be asked.
pub fn run(global: &Global, args: &RevertArgs) -> Result<Outcome, Failure> {
    if args.all {
        let names = guest::definitions(&session::root(global))?;
        return guests(global, &names, false);
    }
    let source = command::one_source(args.input.as_deref(), "revert")?;
    if let Source::Guest(word) = &source {
        let root = session::root(global);
        if root.is_none() {
            return Err(Failure::at(word, "no such file; guests are looked up on a host"));
        }
        return guests(global, &[guest::name(&root, word)?], true);
    }
    let input = plan::load(&source, &Root::none())?;
    let reverted = reverted(&input.text).map_err(|error| Failure::at(&input.label, error))?;
    Ok(Outcome::answer(reverted))
}

/// A text before virtfit; what others changed since stays, which is told.
fn reverted(text: &str) -> Result<String, XmlError> {
    let document = Document::parse(text)?;
    let reverted = rewrite::revert(&document)?;
    for (target, why) in &reverted.left {
        log::warn!("{}: left as it is: {why}", rewrite::path(target));
    }
    Ok(reverted.xml)
}

/// Redefines guests as they were before virtfit, with the request `off`, or the daemon would tune them again. Guests virtfit
/// never touched stay as they are, unless one is named.
fn guests(global: &Global, names: &[String], named: bool) -> Result<Outcome, Failure> {
    let root = session::root(global);
    let mut outcome = Outcome::default();
    let mut libvirt = None;
    for name in names {
        let result = definitions::read(&root, name, &Reading::default())
            .map_err(|error| without_errno(&error.to_string()))
            .and_then(|definition| {
                let document = Document::parse(&definition.text).map_err(|error| error.to_string())?;
                let touched = rewrite::provenance(&document)
                    .map_err(|error| error.to_string())?
                    .is_some();
                if !touched && !named {
                    return Ok(None);
                }
                let before = reverted(&definition.text).map_err(|error| error.to_string())?;
                let before = Document::parse(&before).map_err(|error| error.to_string())?;
                let off = rewrite::request(&before, Some("off")).map_err(|error| error.to_string())?;
                Ok((off != definition.text).then_some((definition, off)))
            });
        let (definition, off) = match result {
            Ok(Some(both)) => both,
            Ok(None) => continue,
            Err(error) => {
                outcome.stderr.push(format!("virtfit: {name}: {error}"));
                outcome.exit = Exit::Broken;
                continue;
            }
        };
        let libvirt = match &mut libvirt {
            Some(libvirt) => libvirt,
            none => none.insert(hypervisor::connect(global)),
        };
        match hypervisor::redefine(&root, libvirt.as_mut(), &definition, &off) {
            Ok(()) => outcome.stdout.push_str(&format!(
                "{name}: reverted; virtfit leaves it alone until virtfit profile unset {name}\n"
            )),
            Err(error) => {
                outcome.stderr.push(format!("virtfit: {name}: {error}"));
                outcome.exit = Exit::Broken;
            }
        }
    }
    if outcome == Outcome::default() {
        outcome.stdout = "Nothing to revert.\n".into();
    }
    Ok(outcome)
}
