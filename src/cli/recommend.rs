//! `virtfit recommend`: a policy for this host and its guests as they are.

use crate::cli::args::Global;
use crate::cli::chosen::{self, Purpose};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, daemon_client, outcome};
use crate::recommend::{self, Setting};
use crate::snapshot::Sources;

/// Runs the command. Exit 1: some definitions could not be read; the policy is for the others.
///
/// # Errors
/// The host or its definitions cannot be read.
pub(crate) fn run(global: &Global) -> Result<Outcome, Failure> {
    let root = session::host(global)?;
    if global.policy.is_some() {
        let text = "recommend takes no --policy: it makes one, whatever is in force";
        return Err(Failure::Usage(text.into()));
    }
    if daemon_client::has_to(&root) {
        let text = format!("definitions are root's to read{}", outcome::ROOT_ONLY);
        return Err(Failure::Broken(text));
    }
    // Which guests run does not depend on a policy.
    let session = Session::open_to_show(global, true)?;
    let found = chosen::read(&root, &[], &session.view.reading, Purpose::Show)?;
    let place = Sources {
        policy: None,
        ..session::place(global)
    };
    let text = recommend::policy(&place, &found.definitions, Setting::read(&root));
    let text = text.map_err(|error| Failure::at("recommend", error))?;
    let exit = match found.problems.is_empty() {
        true => Exit::Done,
        false => Exit::Broken,
    };
    Ok(Outcome {
        stdout: text,
        stderr: [found.left_out, found.problems].concat(),
        exit,
    })
}
