//! Definitions of a host, as their files have them.

use std::io;

use crate::domain::{self, Domain};
use crate::hostfs::HostFs;
use crate::hostfs::at_path::at_path;
use crate::hostfs::stems::stems;
use crate::ledger::claims;
use crate::ledger::reader::Reading;
use crate::libvirt::definition_file::DefinitionFile;
use crate::xml::XmlError;

/// Definition with the state of its guest.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Definition {
    pub file: DefinitionFile,
    /// Domain that the text describes.
    pub domain: Domain,
    /// libvirt starts the guest by itself.
    pub autostart: bool,
    /// The guest runs, or is starting.
    pub running: bool,
}

/// Reason why a definition cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum DefinitionError {
    /// The file cannot be read; the error names it.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// The file is not the XML of a domain.
    #[error("{path}: {error}")]
    Xml {
        /// Path of the file.
        path: String,
        /// Error in the XML.
        error: XmlError,
    },
    /// The file has another name than its guest: a copy beside it.
    #[error("{path}: left out: libvirt does not load it, as it is not named after its guest, {guest}")]
    OtherName {
        /// Path of the file.
        path: String,
        /// Name in the XML.
        guest: String,
    },
}

/// Returns the names of all definitions, sorted. A host without the folder has none.
///
/// # Errors
/// The folder cannot be read.
pub(crate) fn names(root: &HostFs) -> io::Result<Vec<String>> {
    let mut names = stems(root, claims::FOLDER, "xml")?;
    names.retain(|name| {
        root.metadata(claims::path(name))
            .is_ok_and(|metadata| metadata.is_file())
    });
    Ok(names)
}

/// Reads a guest's definition. `reading` has the guests that run and those on autostart.
///
/// # Errors
/// The file does not exist, cannot be read, is no domain, or one that libvirt does not load: a
/// guest's file is named after the guest (`virDomainObjListLoadConfig`).
pub(crate) fn read(root: &HostFs, name: &str, reading: &Reading) -> Result<Definition, DefinitionError> {
    let file = DefinitionFile::read(root, name)?.ok_or_else(|| absent(root, name))?;
    let path = || root.path(claims::path(name)).display().to_string();
    let domain =
        domain::parse::from_text(&file.text).map_err(|error| DefinitionError::Xml { path: path(), error })?;
    if domain.name != name {
        return Err(DefinitionError::OtherName {
            path: path(),
            guest: domain.name,
        });
    }
    Ok(Definition {
        file,
        autostart: reading.autostart.contains(name),
        running: reading.running.contains(name),
        domain,
    })
}

fn absent(root: &HostFs, name: &str) -> io::Error {
    let path = root.path(claims::path(name));
    at_path(path.display(), io::Error::from_raw_os_error(nix::libc::ENOENT))
}
