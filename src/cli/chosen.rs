//! Definitions a command works on: of the guests that are named, of those that match a pattern, or
//! of all.

use std::ffi::OsString;

use crate::apply::read_guests::Patience;
use crate::cli::input::text_of;
use crate::cli::{Failure, daemon_client, guest};
use crate::domain;
use crate::hostfs::HostFs;
use crate::ledger::claims;
use crate::ledger::reader::Reading;
use crate::ledger::reader::files::MAX_BYTES;
use crate::libvirt::definition_file::DefinitionFile;
use crate::libvirt::definitions;
use crate::libvirt::definitions::{Definition, DefinitionError};
use crate::policy::glob::Glob;
use crate::status::Status;
use crate::types::plural::counted;

/// Largest number of bytes of definitions that an unattended run reads. Thousands of guests have
/// less.
const MOST_AT_BOOT: u64 = 16 * 1024 * 1024;

/// Definitions, and errors of those that could not be read.
#[derive(Debug, Default)]
pub(crate) struct Chosen {
    /// Definitions that could be read.
    pub definitions: Vec<Definition>,
    /// Errors of the others.
    pub problems: Vec<String>,
    /// Files that are no definitions, where all were asked for.
    pub left_out: Vec<String>,
}

/// Returns whether a word is a pattern, so that it may mean several guests.
pub(crate) fn is_pattern(word: &str) -> bool {
    word.contains(['*', '?', '['])
}

/// Reads the definitions of the guests these words name; without words, of all guests of the host.
///
/// # Errors
/// The only guest that is named does not exist or is broken, a pattern matches none, or the
/// definitions may not be read.
pub(crate) fn read(root: &HostFs, words: &[OsString], reading: &Reading) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::default();
    if words.is_empty() {
        for name in names(root)? {
            chosen.add_listed(root, &name, reading);
        }
        return Ok(chosen);
    }
    for word in words {
        let word = word.to_string_lossy();
        let Some(names) = matching(root, &word)? else {
            match one(root, &word, reading) {
                Err(error) if words.len() == 1 => return Err(error),
                // A broken one of several does not hide the others.
                read => chosen.add(read),
            }
            continue;
        };
        for name in names {
            chosen.add_listed(root, &name, reading);
        }
    }
    Ok(chosen)
}

/// Reads the definitions of all guests before libvirt loads them, the smallest first: those that
/// are larger than any guest needs, or too many, are named and left out, as are those for which
/// there is no time.
///
/// # Errors
/// The definitions may not be read.
pub(crate) fn read_at_boot(root: &HostFs, reading: &Reading, patience: Patience) -> Result<Chosen, Failure> {
    let size = |name: &String| root.metadata(claims::path(name)).map_or(0, |meta| meta.len());
    let mut sized: Vec<(u64, String)> = names(root)?.into_iter().map(|name| (size(&name), name)).collect();
    sized.sort_unstable();
    let mut chosen = Chosen::default();
    let (mut bytes, mut unread) = (0u64, Vec::new());
    for (size, name) in sized {
        bytes = bytes.saturating_add(size);
        match size > MAX_BYTES || bytes > MOST_AT_BOOT || patience.is_over().is_some() {
            true => unread.push(name),
            false => chosen.add_listed(root, &name, reading),
        }
    }
    chosen
        .definitions
        .sort_by(|a, b| a.domain.name.cmp(&b.domain.name));
    if let Some(first) = unread.first() {
        let others = match unread.len() - 1 {
            0 => String::new(),
            more => format!(" and {}", counted(more, "larger definition")),
        };
        chosen.problems.push(format!(
            "virtfit: {first}{others}: not read, as definitions of this size or so many take too long before libvirt starts"
        ));
    }
    Ok(chosen)
}

/// Returns the names of the guests that match a pattern; `None` for a word that is the name of one
/// guest.
///
/// # Errors
/// The pattern cannot be read, or no guest's name matches.
pub(crate) fn matching(root: &HostFs, word: &str) -> Result<Option<Vec<String>>, Failure> {
    // A guest's name may look like a pattern.
    if !is_pattern(word) || names(root)?.iter().any(|name| name == word) {
        return Ok(None);
    }
    let glob = Glob::parse(word).map_err(|error| Failure::Usage(format!("{word}: {error}")))?;
    let names: Vec<String> = names(root)?
        .into_iter()
        .filter(|name| glob.matches(name))
        .collect();
    match names.is_empty() {
        true => Err(Failure::Broken(format!("{word}: no guest's name matches"))),
        false => Ok(Some(names)),
    }
}

impl Chosen {
    /// Adds one of a list: files that libvirt does not load are none of its definitions.
    fn add_listed(&mut self, root: &HostFs, name: &str, reading: &Reading) {
        if daemon_client::has_to(root) {
            return self.add(one(root, name, reading));
        }
        match definitions::read(root, name, reading) {
            Err(error @ DefinitionError::OtherName { .. }) => self.left_out.push(format!("virtfit: {error}")),
            read => self.add(read.map_err(|error| Failure::Broken(error.to_string()))),
        }
    }

    fn add(&mut self, read: Result<Definition, Failure>) {
        match read {
            Ok(definition) => self.push(definition),
            Err(error) => self.problems.push(format!("virtfit: {}", error.message())),
        }
    }

    /// Adds a definition; a guest that is named twice is meant once.
    fn push(&mut self, definition: Definition) {
        if self
            .definitions
            .iter()
            .all(|other| other.file.name != definition.file.name)
        {
            self.definitions.push(definition);
        }
    }
}

/// Reads one definition, by name or UUID; from the daemon where its file may not be read.
fn one(root: &HostFs, word: &str, reading: &Reading) -> Result<Definition, Failure> {
    if !daemon_client::has_to(root) {
        let name = guest::name(root, word)?;
        return definitions::read(root, &name, reading).map_err(|error| Failure::Broken(error.to_string()));
    }
    let text = text_of(daemon_client::ask(root, &["definition", word])?)
        .map_err(|error| Failure::at(word, error))?;
    let domain = domain::parse::from_text(&text).map_err(|error| Failure::at(word, error))?;
    Ok(Definition {
        file: DefinitionFile::of_text(&domain.name, text),
        autostart: reading.autostart.contains(&domain.name),
        running: reading.running.contains(&domain.name),
        domain,
    })
}

/// Returns the names of all guests that have a definition.
///
/// # Errors
/// The folder of definitions may not be read; or an ordinary user cannot ask the daemon.
pub(crate) fn names(root: &HostFs) -> Result<Vec<String>, Failure> {
    if !daemon_client::has_to(root) {
        return guest::definitions(root);
    }
    let said = daemon_client::ask(root, &["status"])?;
    let status: Status = serde_json::from_slice(&said)
        .map_err(|error| Failure::at("virtfitd", format!("not a status: {error}")))?;
    let defined = status.guests.into_iter().filter(|guest| !guest.transient);
    Ok(defined.map(|guest| guest.name).collect())
}

/// Refuses to change definitions as an ordinary user, before anything is read.
///
/// # Errors
/// The user is not root.
pub(crate) fn may_write(root: &HostFs) -> Result<(), Failure> {
    match daemon_client::has_to(root) {
        true => Err(Failure::Broken(
            "only root may change definitions: run it as root; members of group libvirt may only look (virtfit plan, virtfit \
             status)"
                .into(),
        )),
        false => Ok(()),
    }
}
