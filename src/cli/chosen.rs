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
use crate::ledger::reader::unread::MAX_BYTES;
use crate::libvirt::definition_file::DefinitionFile;
use crate::libvirt::definitions;
use crate::libvirt::definitions::{Definition, DefinitionError};
use crate::policy::glob::Glob;
use crate::status::Status;
use crate::types::plural::counted;
use crate::types::shell_word::file_word;
use virtfit_hook::wire::DISABLED;

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
pub(crate) fn read(
    root: &HostFs,
    words: &[OsString],
    reading: &Reading,
    purpose: Purpose,
) -> Result<Chosen, Failure> {
    let mut chosen = Chosen::default();
    if words.is_empty() {
        for name in names(root)? {
            chosen.add_listed(root, &name, reading);
        }
        return Ok(chosen);
    }
    for word in words {
        let word = word.to_string_lossy();
        let Some(names) = matching(root, &word, purpose)? else {
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

/// Purpose for which guests are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// Definitions may be changed.
    Write,
    /// Definitions are only read.
    Show,
}

/// Returns the names of the guests that match a pattern; `None` for a word that is the name of one
/// guest.
///
/// # Errors
/// The pattern cannot be read, no guest's name matches, or definitions may be changed and the word
/// is both the name of a guest and a pattern that other names match.
pub(crate) fn matching(root: &HostFs, word: &str, purpose: Purpose) -> Result<Option<Vec<String>>, Failure> {
    if !is_pattern(word) {
        return Ok(None);
    }
    let glob = Glob::parse(word);
    let all = names(root)?;
    // A guest's name may look like a pattern: libvirt allows it.
    if all.iter().any(|name| name == word) {
        let others = all.iter().filter(|name| *name != word);
        let others = others.filter(|name| glob.as_ref().is_ok_and(|glob| glob.matches(name)));
        return match (others.count(), purpose) {
            (0, _) => Ok(None),
            (_, Purpose::Show) => {
                log::warn!("{}", shadows(word));
                Ok(None)
            }
            (others, Purpose::Write) => Err(Failure::Usage(format!(
                "{word}: the name of a guest, and a pattern that {} match{}: nothing was written. Give that guest's UUID, or \
                 the names of the others",
                counted(others, "other guest"),
                if others == 1 { "es" } else { "" }
            ))),
        };
    }
    let glob = glob.map_err(|error| Failure::Usage(format!("{word}: {error}")))?;
    let names: Vec<String> = all.into_iter().filter(|name| glob.matches(name)).collect();
    match names.is_empty() {
        true => Err(Failure::Broken(format!("{word}: no guest's name matches"))),
        false => Ok(Some(names)),
    }
}

/// Words the warning that a guest's name comes before the pattern that it also is.
pub(crate) fn shadows(word: &str) -> String {
    format!("{word} is taken as the guest of that name, not as a pattern")
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

/// Says, for commands that write although virtfit is disabled, what stays as it is.
pub(crate) fn while_disabled(root: &HostFs) -> Option<String> {
    let switch = root.path(DISABLED);
    root.exists(DISABLED).then(|| {
        let (switch, word) = (switch.display(), file_word(&switch.to_string_lossy()));
        format!("virtfit: {switch} exists: a guest's request is written, and virtfit tunes nothing until: rm {word}")
    })
}

/// Says, for what shows changes although virtfit is disabled, that none is made.
pub(crate) fn switched_off(root: &HostFs) -> Option<String> {
    let switch = root.path(DISABLED);
    root.exists(DISABLED).then(|| {
        let (switch, word) = (switch.display(), file_word(&switch.to_string_lossy()));
        format!("virtfit: {switch} exists: nothing is written until: rm {word}")
    })
}
