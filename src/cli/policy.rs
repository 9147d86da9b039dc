//! `virtfit policy check|show|cat`.

use crate::cli::args::{Global, PolicyCommand};
use crate::cli::{Failure, Outcome, pending, session};

/// Runs it.
///
/// # Errors
/// The policy is broken: every error at once.
pub fn run(global: &Global, command: &PolicyCommand) -> Result<Outcome, Failure> {
    let root = session::root(global);
    let file = global.policy.as_deref();
    let load = || pending::load_policy(root.as_deref(), file).map_err(Failure::Broken);
    let text = match command {
        PolicyCommand::Check { files } if files.is_empty() => {
            load()?;
            pending::policy_check(root.as_deref(), &[])
        }
        PolicyCommand::Check { files } => pending::policy_check(root.as_deref(), files),
        PolicyCommand::Show => Ok(pending::policy_show(&load()?)),
        PolicyCommand::Cat => pending::policy_cat(root.as_deref(), file),
    };
    Ok(Outcome::answer(text.map_err(Failure::Broken)?))
}
