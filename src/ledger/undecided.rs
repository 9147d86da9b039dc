//! Marks of guests that started although it could not be decided in time, or not be written down,
//! what they may take.
//!
//! `/run/virtfit/undecided/UUID.json`, one a guest, for `virtfit status`: whether their CPUs are
//! theirs alone is not known. Written by rename and without the lock, which may be what could not
//! be had; removed at `release`.

use serde::{Deserialize, Serialize};

/// Where they are on the host.
pub const FOLDER: &str = "/run/virtfit/undecided";
/// A mark of a guest that does not run is forgotten after so many seconds: its start came to
/// nothing.
pub const FORGOTTEN_SECONDS: u64 = 60;

/// The mark of a guest of this UUID (lower case), on the host.
pub fn path(uuid: &str) -> String {
    format!("{FOLDER}/{uuid}.json")
}

/// One mark.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// The guest's UUID, lower case; also the file's name.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// What kept virtfit from deciding, one line.
    pub why: String,
    /// Seconds since the epoch.
    pub written_at: u64,
}

impl Undecided {
    /// Reads a file's text.
    ///
    /// # Errors
    /// It is not JSON of this shape.
    pub fn from_json(text: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(text)
    }

    /// The text of its file, one line.
    ///
    /// # Errors
    /// None that is known; serialisation is fallible by type.
    pub fn to_json(&self) -> Result<String, serde_json::Error> {
        Ok(serde_json::to_string(self)? + "\n")
    }

    /// Whether it means nothing any more. `now` is in seconds since the epoch; a moment in the
    /// future means that the clock was set back.
    pub fn forgotten(&self, now: u64, has_status: bool) -> bool {
        !has_status && now.abs_diff(self.written_at) > FORGOTTEN_SECONDS
    }
}
