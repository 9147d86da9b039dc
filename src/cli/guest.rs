//! Look-up of a guest's definition by name or UUID.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::cli::Failure;
use crate::cli::outcome::ROOT_ONLY;
use crate::hostfs::HostFs;
use crate::ledger::claims;
use crate::libvirt::definitions::names;
use crate::libvirt::lookup;
use crate::libvirt::lookup::LookupError;

/// Returns the file of the definition of the guest with this UUID, otherwise with this name.
///
/// # Errors
/// There is none (with a guess at the name that was meant), or definitions may not be read.
pub(crate) fn find(root: &HostFs, word: &str) -> Result<PathBuf, Failure> {
    let name = lookup::name(root, word).map_err(|error| match error {
        LookupError::Transient { ref guest, .. } => Failure::Broken(format!(
            "{error}; virsh dumpxml --inactive {guest} | virtfit plan -"
        )),
        error => told(no_file_either(error)),
    })?;
    Ok(root.path(claims::path(&name)))
}

/// Returns the name as [`name`] does, for a word that could also have been a file's.
///
/// # Errors
/// As of [`find`].
pub(crate) fn name_or_file(root: &HostFs, word: &str) -> Result<String, Failure> {
    lookup::name(root, word).map_err(|error| told(no_file_either(error)))
}

/// Says of a word that means nothing that it names no file, either.
fn no_file_either(error: LookupError) -> LookupError {
    match error {
        LookupError::Unknown {
            word, folder, guess, ..
        } => LookupError::Unknown {
            word,
            or_file: true,
            folder,
            guess,
        },
        error => error,
    }
}

/// Returns the name of the guest with this UUID, otherwise with this name, that has a definition.
///
/// # Errors
/// As of [`find`].
pub(crate) fn name(root: &HostFs, word: &str) -> Result<String, Failure> {
    lookup::name(root, word).map_err(told)
}

fn told(error: LookupError) -> Failure {
    match error {
        LookupError::Nothing => Failure::Usage(error.to_string()),
        LookupError::Io(error) => failure(&error),
        LookupError::Transient { .. } => Failure::Broken(format!(
            "{error}: there is nothing to change; define it first (virsh define)"
        )),
        error => Failure::Broken(error.to_string()),
    }
}

/// Returns whether libvirt starts the guest by itself.
pub(crate) fn is_on_autostart(root: &HostFs, name: &str) -> bool {
    root.exists(format!("{}/{name}.xml", claims::AUTOSTART_FOLDER))
}

/// Returns the names of all definitions, sorted. A host without the folder has none.
///
/// # Errors
/// The folder may not be read.
pub(crate) fn definitions(root: &HostFs) -> Result<Vec<String>, Failure> {
    names(root).map_err(|error| failure(&error))
}

/// Converts an I/O error. Errors of [`HostFs`] name the path already.
fn failure(error: &io::Error) -> Failure {
    let hint = match error.kind() {
        ErrorKind::PermissionDenied => ROOT_ONLY,
        _ => "",
    };
    Failure::Broken(format!("{error}{hint}"))
}
