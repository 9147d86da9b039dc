//! `virtfit policy check|show|cat`.

use crate::cli::args::{Global, PolicyCommand};
use crate::cli::{Failure, Outcome, session};
use crate::policy::{Files, show};

/// Runs it.
///
/// # Errors
/// The policy is broken: every error at once.
pub fn run(global: &Global, command: &PolicyCommand) -> Result<Outcome, Failure> {
    match command {
        PolicyCommand::Check { files } => {
            let files = match files.as_slice() {
                [] => session::place(global).policy_files(),
                named => Files::named(named),
            };
            let checked = show::check(&files).map(|answer| Outcome {
                stderr: files
                    .warnings
                    .iter()
                    .map(|warning| format!("virtfit: {warning}"))
                    .collect(),
                ..Outcome::answer(answer)
            });
            checked.map_err(|errors| {
                let count = show::error_count(&errors);
                Failure::Broken(format!("{}\n{count}", session::policy_errors(&errors)))
            })
        }
        PolicyCommand::Show => {
            let policy = session::load_policy(global)?;
            Ok(Outcome::answer(show::policy(&policy)))
        }
        PolicyCommand::Cat => Ok(Outcome::answer(show::cat(&session::place(global).policy_files()))),
    }
}
