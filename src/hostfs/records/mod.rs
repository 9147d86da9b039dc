//! Folders of records: one small JSON file about each guest, named after the guest's UUID.
//!
//! ```text
//! FOLDER/UUID.json     0600; one line of JSON, whole or absent (`atomic`)
//! ```
//! A kind of record is a type with [`Record`]: it names its folder, and its version if it has one.
//! - **Named** by the guest's UUID in normal form: no other text becomes a file's name. A record
//!   that says a UUID counts only in the file of that name: a copy under another name would
//!   outlive its guest.
//! - **Written** by rename; a second write replaces the first.
//! - **Removed** twice without an error.
//! - **Read** without a lock. A file that cannot be parsed is an error of its own, and the reader
//!   goes on with the others.

use std::io;
use std::marker::PhantomData;
use std::path::PathBuf;
use std::time::Instant;

use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words_alone;
use crate::hostfs::atomic::{AtomicDir, WriteError};
use crate::hostfs::stems::stems;
use crate::types::uuid;

/// Kind of record.
pub(crate) trait Record: Serialize + DeserializeOwned {
    /// Folder on the host.
    const FOLDER: &'static str;
    /// Mode of the folder, when virtfit makes it.
    const MODE: u32;
    /// Words before the parser's error, e.g. `not a reservation: `.
    const NOT_ONE: &'static str = "";
    /// Words before a version, and the only version that is read; `None`: records without a
    /// version.
    const FORMAT: Option<(&'static str, u32)> = None;

    /// Returns the UUID that the record says; `None`: only the file's name says it.
    fn uuid(&self) -> Option<&str> {
        None
    }
}

/// Reason for which a record does not count, was not written or not removed.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    /// Malformed UUID: a file cannot be named after it. At most 64 characters of it.
    #[error("'{0}' is no UUID, so nothing can be written down for this guest")]
    Uuid(String),
    /// The deadline passed before the file was in its place.
    #[error("{}: too late to write it", .0.display())]
    Late(PathBuf),
    /// The kernel's error: no room, read-only, not allowed, no folder.
    #[error("{}: {}", path.display(), io_words_alone(.error))]
    Io {
        /// File or folder that the error is about.
        path: PathBuf,
        /// The kernel's error.
        error: io::Error,
    },
    /// Malformed JSON, or JSON of another form.
    #[error("{not_one}{error}")]
    Json {
        not_one: &'static str,
        /// The parser's error.
        error: serde_json::Error,
    },
    /// Format of another version of virtfit.
    #[error("{format} {found}, but this virtfit knows only {known}")]
    Version {
        /// Words before the version.
        format: &'static str,
        /// Version of the record.
        found: u32,
        /// Version that is read.
        known: u32,
    },
    /// The file's name is not the UUID that the record says, which is here.
    #[error("the record of another guest, {0}")]
    Name(String),
}

/// Records of one kind on a host.
#[derive(Debug, Clone)]
pub(crate) struct RecordFolder<T> {
    root: HostFs,
    folder: AtomicDir,
    of: PhantomData<fn() -> T>,
}

/// Parses the text of a record that stands in the file `UUID.json`.
///
/// # Errors
/// The text is no record of this kind and version, or the record is another guest's.
pub(crate) fn parse<T: Record>(uuid: &str, text: &str) -> Result<T, RecordError> {
    let record: T = parse_text(text)?;
    match record.uuid() {
        Some(own) if uuid::normal(own).as_deref() != Some(uuid) => {
            Err(RecordError::Name(own.chars().take(64).collect()))
        }
        _ => Ok(record),
    }
}

/// Parses the text of a record, whatever its file is called.
///
/// # Errors
/// The text is no record of this kind and version.
pub(crate) fn parse_text<T: Record>(text: &str) -> Result<T, RecordError> {
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let malformed = |error| RecordError::Json {
        not_one: T::NOT_ONE,
        error,
    };
    // The version comes first: a later one may have any form.
    if let Some((format, known)) = T::FORMAT {
        let Version { version: found } = serde_json::from_str(text).map_err(malformed)?;
        if found != known {
            return Err(RecordError::Version { format, found, known });
        }
    }
    serde_json::from_str(text).map_err(malformed)
}

/// Returns the text of a record's file, one line.
///
/// # Errors
/// None that is known; serialisation is fallible by type.
pub(crate) fn text_of<T: Record>(record: &T) -> Result<String, RecordError> {
    let text = serde_json::to_string(record).map_err(|error| RecordError::Json {
        not_one: "cannot be written as JSON: ",
        error,
    })?;
    Ok(text + "\n")
}

impl<T: Record> RecordFolder<T> {
    /// Opens the folder of a host.
    pub(crate) fn new(root: &HostFs) -> Self {
        Self {
            root: root.clone(),
            folder: AtomicDir::new(root.path(T::FOLDER), T::MODE),
            of: PhantomData,
        }
    }

    /// Lists the names of the folder's files without `.json`, sorted.
    ///
    /// # Errors
    /// The folder cannot be read.
    pub(crate) fn stems(&self) -> Result<Vec<String>, RecordError> {
        stems(&self.root, T::FOLDER, "json").map_err(|error| RecordError::Io {
            path: self.folder.path().to_path_buf(),
            error,
        })
    }

    /// Reads all records, with the names of their files. A folder that is missing or cannot be read
    /// counts as an empty one.
    pub(crate) fn all(&self) -> impl Iterator<Item = (String, Result<T, RecordError>)> + '_ {
        let stems = self.stems().unwrap_or_default().into_iter();
        stems.filter_map(|stem| {
            let read = self.read_file(&stem).transpose()?;
            Some((stem, read))
        })
    }

    /// Reads all records that count.
    pub(crate) fn valid(&self) -> impl Iterator<Item = T> + '_ {
        self.all().filter_map(|(_, read)| read.ok())
    }

    /// Reads a guest's record; `None` if there is none.
    ///
    /// # Errors
    /// The UUID is malformed, or the file is there and cannot be read or does not count.
    pub(crate) fn read(&self, uuid: &str) -> Result<Option<T>, RecordError> {
        self.read_file(&normal(uuid)?)
    }

    fn read_file(&self, stem: &str) -> Result<Option<T>, RecordError> {
        let path = format!("{}/{stem}.json", T::FOLDER);
        let text = self.root.read_opt(&path).map_err(|error| RecordError::Io {
            path: self.root.path(&path),
            error,
        })?;
        text.map(|text| parse(stem, &text)).transpose()
    }

    /// Returns whether a guest has a file, readable or not.
    pub(crate) fn is_there(&self, uuid: &str) -> bool {
        self.root.exists(format!("{}/{uuid}.json", T::FOLDER))
    }

    /// Writes a guest's record, whole or not at all; with a deadline, never after it.
    ///
    /// # Errors
    /// The UUID is malformed, the deadline passed, or the kernel's error.
    pub(crate) fn write(&self, uuid: &str, record: &T, deadline: Option<Instant>) -> Result<(), RecordError> {
        let (name, text) = (format!("{}.json", normal(uuid)?), text_of(record)?);
        let written = match deadline {
            Some(deadline) => self.folder.write_before(deadline, &name, &text),
            None => self.folder.write(&name, &text).map_err(WriteError::from),
        };
        let path = || self.folder.path().join(&name);
        written.map_err(|error| match error {
            WriteError::Late => RecordError::Late(path()),
            WriteError::Io(error) => RecordError::Io { path: path(), error },
        })
    }

    /// Removes a guest's record; `false` if there was none.
    ///
    /// # Errors
    /// The UUID is malformed, or the file is there and cannot be removed.
    pub(crate) fn remove(&self, uuid: &str) -> Result<bool, RecordError> {
        let name = format!("{}.json", normal(uuid)?);
        self.folder.remove(&name).map_err(|error| RecordError::Io {
            path: self.folder.path().join(name),
            error,
        })
    }

    /// Removes the files that dead processes left half written.
    pub(crate) fn sweep(&self) {
        self.folder.sweep();
    }
}

impl RecordError {
    /// Returns `true` if the file could not be read, so that its content is unknown.
    pub(crate) fn is_io(&self) -> bool {
        matches!(self, Self::Io { .. })
    }

    /// Words the error without the path, for lines that name the file or folder.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Io { error, .. } => io_words_alone(error),
            _ => self.to_string(),
        }
    }
}

/// Turns a UUID into its normal form, the stem of its file.
fn normal(uuid: &str) -> Result<String, RecordError> {
    uuid::normal(uuid).ok_or_else(|| RecordError::Uuid(uuid.chars().take(64).collect()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
