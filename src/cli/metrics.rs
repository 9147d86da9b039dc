//! `virtfit metrics`: guests and host as numbers, for Prometheus.

use crate::cli::args::Global;
use crate::cli::session::{self, Session};
use crate::cli::{Failure, Outcome, status};
use crate::map;
use crate::render::metrics;

/// Runs the command. What is wrong is in the numbers: the exit code is 0 all the same.
///
/// # Errors
/// Host or policy cannot be read, or an ordinary user cannot ask the daemon.
pub(crate) fn run(global: &Global) -> Result<Outcome, Failure> {
    session::host(global)?;
    let session = Session::open_to_show(global, true)?;
    let (status, found) = status::seen(&session)?;
    let map = map::of(&session.view, &status);
    Ok(Outcome {
        stdout: metrics::text(&status, &map, found),
        stderr: session.policy_errors,
        ..Outcome::default()
    })
}
