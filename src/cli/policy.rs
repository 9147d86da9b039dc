//! `virtfit policy check|show|cat`.

use std::path::{Path, PathBuf};

use crate::cli::args::{Global, PolicyCommand};
use crate::cli::{Exit, Failure, Outcome, output, session};
use crate::host::load;
use crate::policy::json::{Check, Shown};
use crate::policy::load::{MAIN_FILE, STDIN};
use crate::policy::{Files, advice, show};

/// Runs the command.
///
/// # Errors
/// The policy is broken: every error at once.
pub(crate) fn run(global: &Global, command: &PolicyCommand) -> Result<Outcome, Failure> {
    match command {
        PolicyCommand::Check {
            files,
            stands_for,
            json,
        } => check(
            global,
            &files_to_check(global, files, stands_for.as_deref())?,
            *json,
        ),
        PolicyCommand::Show { json } => {
            let policy = session::load_policy(global)?;
            match json {
                true => output::json(&Shown::of(&policy)),
                false => Ok(Outcome::answer(show::policy(&policy))),
            }
        }
        PolicyCommand::Cat => Ok(Outcome::answer(show::cat(&session::place(global).policy_files()))),
    }
}

/// Returns the files that are checked: of the host, of the words given, or of the host with one
/// text in another's place.
fn files_to_check(global: &Global, files: &[PathBuf], stands_for: Option<&Path>) -> Result<Files, Failure> {
    let place = match (files, stands_for) {
        ([], None) => return Ok(session::place(global).policy_files()),
        ([], Some(place)) => {
            let text = format!(
                "--as {}: which text? Give a file, or - for stdin",
                place.display()
            );
            return Err(Failure::Usage(text));
        }
        ([one], None) if one == Path::new(STDIN) && global.policy.is_none() => Path::new(MAIN_FILE),
        (_, None) => return Ok(Files::named(files)),
        ([_], Some(place)) => place,
        (_, Some(_)) => return Err(Failure::Usage("--as takes one file".into())),
    };
    let root = session::root(global);
    Files::with(&root, &files[0], place).map_err(|error| Failure::Usage(error.to_string()))
}

/// Reports errors, else what the files give. Warnings are no errors: the policy is used as it is.
fn check(global: &Global, files: &Files, json: bool) -> Result<Outcome, Failure> {
    let policy = files.policy();
    // A policy may be checked where there is no host.
    let warnings = match &policy {
        Ok(policy) => {
            let place = session::place(global);
            let host = load::load(&place.root, place.topology.as_deref()).ok();
            advice::warnings(policy, host.as_ref())
        }
        Err(_) => Vec::new(),
    };
    if json {
        let all = files.warnings.iter().cloned().chain(warnings).collect();
        let mut outcome = output::json(&Check::of(files, policy.as_ref(), all))?;
        if policy.is_err() {
            outcome.worsen(Exit::Broken);
        }
        return Ok(outcome);
    }
    let answer = show::check(files).map_err(|errors| {
        let count = show::error_count(&errors);
        Failure::Broken(format!("{}\n{count}", session::policy_errors(&errors)))
    })?;
    let mut outcome = Outcome::answer(answer);
    let access = files.warnings.iter().map(|warning| format!("virtfit: {warning}"));
    outcome.stderr.extend(access);
    let lines = warnings
        .into_iter()
        .map(|line| format!("virtfit: warning: {line}"));
    outcome.stderr.extend(lines);
    Ok(outcome)
}
