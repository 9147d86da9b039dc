//! The definitions of a host, as their files have them.

use std::io;
use std::time::SystemTime;

use crate::domain::{self, Domain};
use crate::hostfs::HostFs;
use crate::ledger::claims;
use crate::ledger::reader::Reading;
use crate::ledger::reader::files::stems;
use crate::xml::XmlError;

/// A definition.
#[derive(Debug, Clone, PartialEq)]
pub struct Definition {
    /// The guest's name, which is the file's.
    pub name: String,
    /// The file's text, passwords included.
    pub text: String,
    /// What it says.
    pub domain: Domain,
    /// libvirt starts it by itself.
    pub autostart: bool,
    /// It runs, or starts.
    pub running: bool,
    /// Last write of the file.
    pub modified: Option<SystemTime>,
}

/// Why a definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum DefinitionError {
    /// The file cannot be read; the error names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is no domain.
    #[error("{path}: {error}")]
    Xml {
        /// The file.
        path: String,
        /// What is wrong.
        error: XmlError,
    },
}

/// Names of all definitions, sorted. A host without the folder has none.
///
/// # Errors
/// The folder may not be read.
pub fn names(root: &HostFs) -> io::Result<Vec<String>> {
    let mut names = stems(root, claims::FOLDER, "xml")?;
    names.retain(|name| {
        root.metadata(claims::path(name))
            .is_ok_and(|metadata| metadata.is_file())
    });
    Ok(names)
}

/// Reads one. `reading` tells what runs and what is on autostart.
///
/// # Errors
/// It is not there, may not be read, or is no domain.
pub fn read(root: &HostFs, name: &str, reading: &Reading) -> Result<Definition, DefinitionError> {
    let modified = root
        .metadata(claims::path(name))
        .and_then(|meta| meta.modified())
        .ok();
    let text = root.read(claims::path(name))?;
    let in_file = |error| DefinitionError::Xml {
        path: root.path(claims::path(name)).display().to_string(),
        error,
    };
    let domain = domain::parse::from_text(&text).map_err(in_file)?;
    Ok(Definition {
        name: name.to_string(),
        autostart: reading.autostart.contains(name),
        running: reading.running.contains(name),
        modified,
        text,
        domain,
    })
}
