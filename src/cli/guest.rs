//! Finding a guest's definition by name or UUID.

use std::io::{self, ErrorKind};
use std::path::PathBuf;

use crate::apply::definitions::names;
use crate::apply::lookup::{self, LookupError};
use crate::cli::Failure;
use crate::cli::outcome::without_errno;
use crate::ledger::claims;
use crate::root::Root;

/// The definition of the guest of this name, else of this UUID.
///
/// # Errors
/// There is none (with a guess at what was meant), or definitions may not be read.
pub fn find(root: &Root, word: &str) -> Result<PathBuf, Failure> {
    Ok(root.path(claims::path(&name(root, word)?)))
}

/// The name of the guest of this name, else of this UUID, that has a definition.
///
/// # Errors
/// As [`find`].
pub fn name(root: &Root, word: &str) -> Result<String, Failure> {
    lookup::name(root, word).map_err(|error| match error {
        LookupError::Nothing => Failure::Usage(error.to_string()),
        LookupError::Io(error) => failure(&error),
        error => Failure::Broken(error.to_string()),
    })
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
