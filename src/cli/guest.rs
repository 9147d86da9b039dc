//! Finding a guest's definition by name or UUID.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::cli::pending;
use crate::cli::{Failure, input};
use crate::ledger::{claims, status};
use crate::xml::Document;

/// The definition of the guest of this name, else of this UUID, below `root`.
///
/// # Errors
/// There is none (with a guess at what was meant), or definitions may not be read.
pub fn find(root: &Path, word: &str) -> Result<PathBuf, Failure> {
    let folder = root.join(claims::FOLDER);
    let path = folder.join(format!("{word}.xml"));
    match fs::metadata(&path) {
        Ok(metadata) if metadata.is_file() => return Ok(path),
        Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
            return Err(Failure::io(path.display(), &error));
        }
        _ => {}
    }
    let all = definitions(root)?;
    if let Some(uuid) = uuid(word) {
        for (_, path) in &all {
            if uuid_of(path)?.as_deref() == Some(uuid.as_str()) {
                return Ok(path.clone());
            }
        }
    }
    if root.join(status::FOLDER).join(format!("{word}.xml")).exists() {
        return Err(Failure::at(
            word,
            format!(
                "runs but has no definition (transient): virsh dumpxml --inactive {word} | virtfit plan -"
            ),
        ));
    }
    let guess = pending::did_you_mean(word, all.iter().map(|(name, _)| name.as_str()));
    Err(Failure::at(
        word,
        format!("no such file, and no such guest in {}{guess}", folder.display()),
    ))
}

/// Names and files of all definitions, by name.
///
/// # Errors
/// The folder may not be read. One that does not exist is a host without guests.
pub fn definitions(root: &Path) -> Result<Vec<(String, PathBuf)>, Failure> {
    let folder = root.join(claims::FOLDER);
    let entries = match fs::read_dir(&folder) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Failure::io(folder.display(), &error)),
    };
    let mut found = Vec::new();
    for entry in entries {
        let path = entry
            .map_err(|error| Failure::io(folder.display(), &error))?
            .path();
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        if let Some(stem) = name.strip_suffix(".xml").filter(|stem| !stem.is_empty())
            && path.is_file()
        {
            found.push((stem.to_string(), path.clone()));
        }
    }
    found.sort();
    Ok(found)
}

/// A UUID in libvirt's form, from one with or without dashes, in any case.
fn uuid(word: &str) -> Option<String> {
    let digits: String = word.chars().filter(|c| *c != '-').collect();
    let is_uuid = digits.len() == 32 && digits.bytes().all(|b| b.is_ascii_hexdigit());
    is_uuid.then(|| digits.to_ascii_lowercase())
}

/// The UUID in a definition, in the form of [`uuid`]; a definition that is broken or vanished has none.
fn uuid_of(path: &Path) -> Result<Option<String>, Failure> {
    let input = match input::read_file(path) {
        Ok(input) => input,
        Err(_) if !path.exists() => return Ok(None),
        Err(error) => {
            log::debug!("{}", error.message());
            return match fs::File::open(path) {
                Err(denied) if denied.kind() == io::ErrorKind::PermissionDenied => Err(error),
                _ => Ok(None),
            };
        }
    };
    let Ok(document) = Document::parse(&input.text) else {
        return Ok(None);
    };
    let text = document.root().child("uuid").map(|element| element.text());
    Ok(text.and_then(|text| uuid(text.trim())))
}
