//! What tells one state of a file from another, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a file must have rested when it was read. The kernel's coarse clock ticks at least
/// every 10 ms.
const RESTED: Duration = Duration::from_millis(100);

/// What tells one state of a file from another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Of a file or folder.
    pub fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Returns the file's length in bytes.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Whether the file had rested at `now`: what has this stamp later is the same. A clock that
    /// was set makes files look young or old; an old one that is taken for young is only read once
    /// more.
    pub fn rested(&self, now: SystemTime) -> bool {
        let Some(changed) = moment(self.changed) else {
            return false;
        };
        let apart = now
            .duration_since(changed)
            .unwrap_or_else(|early| early.duration());
        apart > RESTED
    }

    /// Returns the later of two moments: the last change of the contents, and of the inode. Package
    /// managers set the first to the day of the build.
    pub fn last_change(&self) -> Option<SystemTime> {
        moment(self.modified).max(moment(self.changed))
    }
}

/// Converts seconds and nanoseconds since the epoch; `None` before it.
fn moment((seconds, nanos): (i64, i64)) -> Option<SystemTime> {
    let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
    UNIX_EPOCH.checked_add(since)
}
