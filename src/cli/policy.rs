//! `virtfit policy check|show|cat`.

use crate::cli::args::{Global, PolicyCommand};
use crate::cli::{Failure, Outcome, session};
use crate::host::load;
use crate::policy::{Files, advice, show};

/// Runs the command.
///
/// # Errors
/// The policy is broken: every error at once.
pub(crate) fn run(global: &Global, command: &PolicyCommand) -> Result<Outcome, Failure> {
    match command {
        PolicyCommand::Check { files } => {
            let files = match files.as_slice() {
                [] => session::place(global).policy_files(),
                named => Files::named(named),
            };
            let answer = show::check(&files).map_err(|errors| {
                let count = show::error_count(&errors);
                Failure::Broken(format!("{}\n{count}", session::policy_errors(&errors)))
            })?;
            let mut outcome = Outcome::answer(answer);
            let access = files.warnings.iter().map(|warning| format!("virtfit: {warning}"));
            outcome.stderr.extend(access);
            // Warnings are no errors: the policy is used as it is. A policy may be checked where
            // there is no host.
            let place = session::place(global);
            let host = load::load(&place.root, place.topology.as_deref()).ok();
            if let Ok(policy) = files.policy() {
                let warnings = advice::warnings(&policy, host.as_ref());
                let lines = warnings
                    .into_iter()
                    .map(|line| format!("virtfit: warning: {line}"));
                outcome.stderr.extend(lines);
            }
            Ok(outcome)
        }
        PolicyCommand::Show => {
            let policy = session::load_policy(global)?;
            Ok(Outcome::answer(show::policy(&policy)))
        }
        PolicyCommand::Cat => Ok(Outcome::answer(show::cat(&session::place(global).policy_files()))),
    }
}
