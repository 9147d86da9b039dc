//! `virtfit profile list|show`.

use crate::cli::args::{Global, ProfileCommand};
use crate::cli::{Failure, Outcome, pending, session};

/// Runs it.
///
/// # Errors
/// The policy is broken, or there is no such profile.
pub fn run(global: &Global, command: &ProfileCommand) -> Result<Outcome, Failure> {
    let root = session::root(global);
    let policy = pending::load_policy(root.as_deref(), global.policy.as_deref()).map_err(Failure::Broken)?;
    match command {
        ProfileCommand::List => Ok(Outcome::answer(pending::profile_list(&policy))),
        ProfileCommand::Show { name } => {
            let text = pending::profile_show(&policy, name).map_err(Failure::Broken)?;
            Ok(Outcome::answer(text))
        }
    }
}
