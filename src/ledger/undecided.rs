//! Marks of guests that started undecided: virtfit could not decide in time, or could not write
//! their reservation.
//!
//! `/run/virtfit/undecided/UUID.json`, one for each guest, for `virtfit status`: the CPUs of such a
//! guest may be other guests' too. Written by rename and without the lock, because a busy lock may
//! be the reason for the mark; removed at `release`.

use serde::{Deserialize, Serialize};

use crate::hostfs::records::Record;

/// Folder of the marks on the host.
pub(crate) const FOLDER: &str = "/run/virtfit/undecided";
/// Age in seconds at which the mark of a guest that does not run is forgotten: its start came to
/// nothing.
const FORGOTTEN_SECONDS: u64 = 60;

/// Mark of an undecided guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Undecided {
    /// Guest's UUID, lower case; also the file's name.
    pub uuid: String,
    /// Guest's name.
    pub name: String,
    /// Reason for which virtfit did not decide, one line.
    pub why: String,
    /// Time of writing, in seconds since the epoch.
    pub written_at: u64,
}

impl Record for Undecided {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o755;

    fn uuid(&self) -> Option<&str> {
        Some(&self.uuid)
    }
}

impl Undecided {
    /// Returns `true` if the mark counts no more. `now` is in seconds since the epoch; a mark from
    /// the future means that the clock was set back.
    pub(crate) fn forgotten(&self, now: u64, has_status: bool) -> bool {
        !has_status && now.abs_diff(self.written_at) > FORGOTTEN_SECONDS
    }
}
