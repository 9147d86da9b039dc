//! `virtfit status`: every guest, where its threads really run, what is free.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::time::Duration;

use nix::unistd::geteuid;

use crate::cli::args::{Global, StatusArgs};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, output};
use crate::render;
use crate::root::Root;
use crate::status::{self, Status};
use crate::wire::{Kind, Question, Reply, SOCKET};

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Runs it. Exit 3: a thread is elsewhere than it should be.
///
/// # Errors
/// Host or policy cannot be read, or an ordinary user cannot ask the daemon.
pub fn run(global: &Global, args: &StatusArgs) -> Result<Outcome, Failure> {
    let root = session::root(global);
    if root.is_none() {
        return Err(Failure::Usage(
            "--topology alone is a host without guests: give --root".into(),
        ));
    }
    let status = match root.is_real() && !geteuid().is_root() {
        true => ask(&root)?,
        false => status::answer(&Session::open(global)?.view),
    };
    let exit = match status.wrong() {
        0 => Exit::Done,
        _ => Exit::No,
    };
    let stdout = match args.json {
        true => status.to_json().map_err(|error| Failure::at("status", error))?,
        false => render::status::text(&status, &output::style(global.color)),
    };
    Ok(Outcome {
        stdout,
        exit,
        ..Outcome::default()
    })
}

/// The daemon's answer: only root may read who holds what.
fn ask(root: &Root) -> Result<Status, Failure> {
    let path = root.path(SOCKET);
    let failed = |why: String| {
        Failure::Broken(format!(
            "{}: {why}: only root can read who holds what; run it as root, or start virtfitd and be in group libvirt",
            path.display()
        ))
    };
    let broken = |error: io::Error| failed(crate::cli::outcome::io_text(&error));
    let mut stream = UnixStream::connect(&path).map_err(broken)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let question = Question {
        kind: Kind::Ask,
        words: vec![b"status".to_vec()],
        body: Vec::new(),
    };
    question.write(&mut stream).map_err(broken)?;
    let reply = Reply::read(&mut BufReader::new(stream)).map_err(broken)?;
    let said = String::from_utf8_lossy(&reply.stderr).trim().to_string();
    let status: Status = serde_json::from_slice(&reply.stdout).map_err(|error| match said.is_empty() {
        true => failed(format!("not a status: {error}")),
        false => Failure::Broken(said),
    })?;
    for warning in &status.warnings {
        log::warn!("{warning}");
    }
    Ok(status)
}
