//! `virtfit profile list|show`.

use crate::cli::args::{Global, ProfileCommand};
use crate::cli::{Failure, Outcome, session};
use crate::policy::show;

/// Runs it.
///
/// # Errors
/// The policy is broken, or there is no such profile.
pub fn run(global: &Global, command: &ProfileCommand) -> Result<Outcome, Failure> {
    let policy = session::load_policy(global)?;
    match command {
        ProfileCommand::List => Ok(Outcome::answer(show::profiles(&policy))),
        ProfileCommand::Show { name } => show::profile(&policy, name)
            .map(Outcome::answer)
            .map_err(|unknown| Failure::Broken(unknown.to_string())),
    }
}
