//! `virtfit revert`: the XML as it was before virtfit. Needs neither host nor policy: all is in the XML.

use crate::cli::args::{Global, RevertArgs};
use crate::cli::input::Source;
use crate::cli::{Failure, Outcome, plan, rewrite as command};
use crate::rewrite;
use crate::root::Root;
use crate::xml::Document;

/// Runs it.
///
/// # Errors
/// The input is broken, or is a guest: those need libvirt.
pub fn run(_global: &Global, args: &RevertArgs) -> Result<Outcome, Failure> {
    const NEEDS_LIBVIRT: &str =
        "redefining needs the daemon or libvirt, not in this version: virtfit revert FILE";
    if args.all {
        return Err(Failure::at("--all", NEEDS_LIBVIRT));
    }
    let source = command::one_source(args.input.as_deref(), "revert")?;
    if let Source::Guest(word) = &source {
        return Err(Failure::at(word, NEEDS_LIBVIRT));
    }
    let input = plan::load(&source, &Root::none())?;
    let document = Document::parse(&input.text).map_err(|error| Failure::at(&input.label, error))?;
    let reverted = rewrite::revert(&document).map_err(|error| Failure::at(&input.label, error))?;
    for (target, why) in &reverted.left {
        log::warn!("{}: left as it is: {why}", rewrite::path(target));
    }
    Ok(Outcome::answer(reverted.xml))
}
