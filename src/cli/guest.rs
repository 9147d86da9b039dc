//! Finding a guest's definition by name or UUID.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::apply::definitions::{names, path};
use crate::cli::Failure;
use crate::cli::outcome::without_errno;
use crate::ledger::read::stems;
use crate::ledger::{claims, status};
use crate::policy::suggest::did_you_mean;
use crate::root::Root;
use crate::xml::Document;

/// The definition of the guest of this name, else of this UUID.
///
/// # Errors
/// There is none (with a guess at what was meant), or definitions may not be read.
pub fn find(root: &Root, word: &str) -> Result<PathBuf, Failure> {
    Ok(root.path(path(&name(root, word)?)))
}

/// The name of the guest of this name, else of this UUID, that has a definition.
///
/// # Errors
/// As [`find`].
pub fn name(root: &Root, word: &str) -> Result<String, Failure> {
    if word.is_empty() {
        return Err(Failure::Usage("'' is no guest".into()));
    }
    let all = definitions(root)?;
    if all.iter().any(|name| name == word) {
        return Ok(word.to_string());
    }
    if let Some(uuid) = uuid(word) {
        for name in &all {
            if uuid_of(root, name)?.as_deref() == Some(uuid.as_str()) {
                return Ok(name.clone());
            }
        }
    }
    let running = stems(root, status::FOLDER, "xml").unwrap_or_default();
    if running.iter().any(|name| name == word) {
        return Err(Failure::at(
            word,
            format!(
                "runs but has no definition (transient): virsh dumpxml --inactive {word} | virtfit plan -"
            ),
        ));
    }
    let folder = root.path(claims::FOLDER);
    let guess = did_you_mean(word, all.iter().map(String::as_str));
    Err(Failure::at(
        word,
        format!("no such file, and no such guest in {}{guess}", folder.display()),
    ))
}

/// Names of all definitions, sorted. A host without the folder has none.
///
/// # Errors
/// The folder may not be read.
pub fn definitions(root: &Root) -> Result<Vec<String>, Failure> {
    names(root).map_err(|error| failure(&error))
}

/// Errors of [`Root`] name the path already.
fn failure(error: &io::Error) -> Failure {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => ": run as root",
        _ => "",
    };
    Failure::Broken(format!("{}{hint}", without_errno(&error.to_string())))
}

/// A UUID in libvirt's form, from one with or without dashes, in any case.
fn uuid(word: &str) -> Option<String> {
    let digits: String = word.chars().filter(|c| *c != '-').collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_uuid.then(|| digits.to_ascii_lowercase())
}

/// The UUID in a definition, in the form of [`uuid`]; a definition that is broken or vanished has none.
fn uuid_of(root: &Root, name: &str) -> Result<Option<String>, Failure> {
    let text = match root.read(path(name)) {
        Ok(text) => text,
        Err(error) if error.kind() == ErrorKind::PermissionDenied => return Err(failure(&error)),
        Err(_) => return Ok(None),
    };
    let Ok(document) = Document::parse(&text) else {
        return Ok(None);
    };
    let text = document.root().child("uuid").map(|element| element.text());
    Ok(text.and_then(|text| uuid(text.trim())))
}
