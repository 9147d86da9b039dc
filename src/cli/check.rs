//! `virtfit check`: whether this host is ready for its guests.

use crate::check;
use crate::cli::args::{CheckArgs, Global};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, daemon_client, output, status};
use crate::policy::select;
use crate::render;

/// Runs the command. Exit 3: a check fails.
///
/// # Errors
/// The host cannot be read, or there is no profile of this name.
pub(crate) fn run(global: &Global, args: &CheckArgs) -> Result<Outcome, Failure> {
    let root = session::host(global)?;
    // Only root reads definitions and what guests hold; all else is there for everyone.
    let is_root = !daemon_client::has_to(&root);
    let global = Global {
        assume_empty: global.assume_empty || !is_root,
        ..global.clone()
    };
    let session = Session::open_to_show(&global, true)?;
    let view = &session.view;
    let asked = match &args.profile {
        Some(name) => {
            select::by_name(&view.policy, name)
                .map_err(|unknown| Failure::Usage(unknown.to_string()))?
                .profile
        }
        None => None,
    };
    if let Some(profile) = asked.as_ref().filter(|profile| profile.off) {
        let text = format!(
            "{}: this profile leaves guests alone, so there is nothing to check",
            profile.name
        );
        return Err(Failure::Usage(text));
    }
    let report = check::report(view, status::found(&session), is_root, asked.as_ref());
    let exit = match report.ok {
        true => Exit::Done,
        false => Exit::No,
    };
    let stdout = match args.json {
        true => output::json_line(&report)?,
        false => render::check::text(&report, global.verbose > 0, &output::style(global.color)),
    };
    Ok(Outcome {
        stdout,
        stderr: session.policy_errors,
        exit,
    })
}
