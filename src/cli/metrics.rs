//! `virtfit metrics`: guests and host as numbers, for Prometheus.

use crate::cli::args::Global;
use crate::cli::session::{self, Session};
use crate::cli::{Failure, Outcome, daemon_client, status};
use crate::map;
use crate::render::metrics::{self, Itself};
use crate::status::PolicyRead;

/// Runs the command. What is wrong is in the numbers: the exit code is 0 all the same.
///
/// # Errors
/// Host or policy cannot be read, or an ordinary user cannot ask the daemon.
pub(crate) fn run(global: &Global) -> Result<Outcome, Failure> {
    let root = session::host(global)?;
    let session = Session::open_to_show(global, true)?;
    let status = match daemon_client::has_to(&root) {
        true => status::ask(&root)?,
        false => status::of(&session),
    };
    let itself = Itself {
        daemon: daemon_client::is_answered(&root),
        policy: session.policy == PolicyRead::Whole,
    };
    let map = map::of(&session.view, &status);
    Ok(Outcome {
        stdout: metrics::text(&status, &map, itself),
        stderr: session.policy_errors,
        ..Outcome::default()
    })
}
