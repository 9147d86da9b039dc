//! `virtfit status`: every guest, where its threads really run, what is free.

use crate::cli::args::{Global, StatusArgs};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, daemon_client, output};
use crate::hostfs::HostFs;
use crate::render;
use crate::status::{self, Found, Status};

/// Runs the command. Exit 3: something is wrong (`docs/status.md`).
///
/// # Errors
/// Host or policy cannot be read, or an ordinary user cannot ask the daemon.
pub(crate) fn run(global: &Global, args: &StatusArgs) -> Result<Outcome, Failure> {
    let root = session::host(global)?;
    let mut stderr = Vec::new();
    let status = match daemon_client::has_to(&root) {
        true => ask(&root)?,
        false => {
            let session = Session::open_to_show(global, true)?;
            stderr.extend(session.policy_errors);
            let found = Found {
                no_daemon: !daemon_client::is_answered(&root),
                policy: session.policy,
            };
            status::answer(&session.view, found)
        }
    };
    let exit = match status.ok {
        true => Exit::Done,
        false => Exit::No,
    };
    let stdout = match args.json {
        true => status.to_json().map_err(|error| Failure::at("status", error))?,
        false => render::status::text(&status, &output::style(global.color)),
    };
    Ok(Outcome { stdout, stderr, exit })
}

/// Asks the daemon for the status.
fn ask(root: &HostFs) -> Result<Status, Failure> {
    let said = daemon_client::ask(root, &["status"])?;
    let status: Status = serde_json::from_slice(&said)
        .map_err(|error| Failure::at("virtfitd", format!("not a status: {error}")))?;
    for warning in &status.warnings {
        log::warn!("{warning}");
    }
    Ok(status)
}
