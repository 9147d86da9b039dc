//! `virtfit status`: every guest, where its threads really run, what is free.

use std::collections::BTreeSet;
use std::ffi::OsString;

use crate::cli::args::{Global, Names, StatusArgs};
use crate::cli::chosen::{self, is_pattern};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, complete, daemon_client, output};
use crate::hostfs::HostFs;
use crate::libvirt::lookup;
use crate::policy::glob::Glob;
use crate::policy::suggest::did_you_mean;
use crate::render;
use crate::status::{self, Code, Found, Guest, Note, Status};
use crate::types::guest_word::guest_word;
use crate::types::uuid;

/// Runs the command. Exit 3: something is wrong (`docs/status.md`).
///
/// # Errors
/// Host or policy cannot be read, an ordinary user cannot ask the daemon, or there is no guest that
/// is named.
pub(crate) fn run(global: &Global, args: &StatusArgs) -> Result<Outcome, Failure> {
    if args.names {
        return complete::run(global, Names::Guests);
    }
    let root = session::host(global)?;
    let mut stderr = Vec::new();
    let status = match daemon_client::has_to(&root) {
        true => ask(&root)?,
        false => {
            let session = Session::open_to_show(global, true)?;
            stderr.extend(session.policy_errors.iter().cloned());
            of(&session)
        }
    };
    let status = match args.guests.is_empty() {
        true => status,
        false => only(&root, status, &args.guests)?,
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

/// Reduces a status to the guests that are named: without what is free and what is wrong with
/// virtfit itself. It is ok when nothing is wrong with these guests, and all is known of the others
/// that can have their CPUs.
///
/// # Errors
/// There is no guest that is named.
pub(crate) fn only(root: &HostFs, mut status: Status, words: &[OsString]) -> Result<Status, Failure> {
    let mut wanted = BTreeSet::new();
    for word in words {
        let word = word.to_string_lossy();
        // As everywhere, a UUID comes before a name, and both before an ID and a pattern.
        let uuid = uuid::normal(&word);
        let by_name = |guest: &&Guest| guest.name == word;
        let by_uuid = |guest: &&Guest| uuid.is_some() && uuid::normal(&guest.uuid) == uuid;
        let all = || status.guests.iter();
        let by_id = || {
            let name = lookup::with_id(root, &word)?;
            all().find(|guest| guest.name == name)
        };
        let one = all().find(by_uuid).or_else(|| all().find(by_name)).or_else(by_id);
        let mut found: Vec<String> = one.into_iter().map(|guest| guest.name.clone()).collect();
        if is_pattern(&word) {
            let glob = Glob::parse(&word);
            let matches = |guest: &&Guest| glob.as_ref().is_ok_and(|glob| glob.matches(&guest.name));
            let matching = all().filter(matches).map(|guest| guest.name.clone());
            match (&glob, found.is_empty()) {
                (_, false) => {
                    if matching.into_iter().any(|name| name != word) {
                        log::warn!("{}", chosen::shadows(&word));
                    }
                }
                (Ok(_), true) => found.extend(matching),
                (Err(error), true) => return Err(Failure::Usage(format!("{word}: {error}"))),
            }
        }
        if found.is_empty() {
            let hint = did_you_mean(&word, all().map(|guest| guest.name.as_str()));
            return Err(Failure::at(word, format!("no such guest on this host{hint}")));
        }
        wanted.extend(found);
    }
    let (guests, others): (Vec<Guest>, Vec<Guest>) = status
        .guests
        .into_iter()
        .partition(|guest| wanted.contains(&guest.name));
    let holds = guests.iter().any(|guest| !guest.held.is_empty());
    let unknown = others.iter().filter(|guest| holds && guest.is_unknown());
    status.notes = unknown.map(unknown_beside).collect();
    status.guests = guests;
    status.nodes.clear();
    status.ok = status.nothing_is_wrong();
    Ok(status)
}

/// Makes the note on a guest that is not shown, and may have the CPUs of one that is.
fn unknown_beside(other: &Guest) -> Note {
    let name = &other.name;
    let text = format!("{name} runs, and what it holds is not known: CPUs below may not be exclusive");
    let command = format!("virtfit status {}", guest_word(name, &other.uuid));
    Note::with_command(Code::Unreadable, text, command).wrong()
}

/// Makes the status of the host that a session has read.
pub(crate) fn of(session: &Session) -> Status {
    status::answer(&session.view, found(session))
}

/// Returns the state of daemon and policy, as this process finds them.
pub(crate) fn found(session: &Session) -> Found {
    Found {
        no_daemon: !daemon_client::is_answered(&session.view.root),
        policy: session.policy,
    }
}

/// Returns the status, and the state of daemon and policy. An ordinary user gets the status from
/// the daemon.
///
/// # Errors
/// As of [`ask`].
pub(crate) fn seen(session: &Session) -> Result<(Status, Found), Failure> {
    let root = &session.view.root;
    if !daemon_client::has_to(root) {
        let found = found(session);
        return Ok((status::answer(&session.view, found), found));
    }
    let found = Found {
        no_daemon: false,
        policy: session.policy,
    };
    Ok((ask(root)?, found))
}

/// Asks the daemon for the status.
///
/// # Errors
/// The daemon does not answer, or not with a status.
fn ask(root: &HostFs) -> Result<Status, Failure> {
    let said = daemon_client::ask(root, &["status"])?;
    let status: Status = serde_json::from_slice(&said)
        .map_err(|error| Failure::at("virtfitd", format!("not a status: {error}")))?;
    for warning in &status.warnings {
        log::warn!("{warning}");
    }
    Ok(status)
}
