//! Mark of a file's state, so that a change is seen without reading the file.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Time for which a file must not have changed before it was read. The kernel's coarse clock ticks
/// at least every 10 ms.
const RESTED: Duration = Duration::from_millis(100);

/// Mark of a file's state: device, inode, size and times.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Stamp {
    device: u64,
    inode: u64,
    size: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stamp {
    /// Takes the stamp of a file or folder.
    pub(crate) fn of(meta: &Metadata) -> Self {
        Self {
            device: meta.dev(),
            inode: meta.ino(),
            size: meta.size(),
            modified: (meta.mtime(), meta.mtime_nsec()),
            changed: (meta.ctime(), meta.ctime_nsec()),
        }
    }

    /// Returns the file's length in bytes.
    pub(crate) fn size(&self) -> u64 {
        self.size
    }

    /// Returns `true` if the file had not changed for `RESTED` at `now`: a file with an equal stamp
    /// later is unchanged. When the clock was set, files look younger or older than they are; an
    /// old file that is taken for a young one is only read once more.
    pub(crate) fn rested(&self, now: SystemTime) -> bool {
        let Some(changed) = moment(self.changed) else {
            return false;
        };
        let apart = now
            .duration_since(changed)
            .unwrap_or_else(|early| early.duration());
        apart > RESTED
    }

    /// Returns the later of two times: the last change of the content and the last change of the
    /// inode. Package managers set the first to the day of the build.
    pub(crate) fn last_change(&self) -> Option<SystemTime> {
        moment(self.modified).max(moment(self.changed))
    }
}

/// Converts seconds and nanoseconds since the epoch; `None` before it.
fn moment((seconds, nanos): (i64, i64)) -> Option<SystemTime> {
    let since = Duration::new(u64::try_from(seconds).ok()?, u32::try_from(nanos).ok()?);
    UNIX_EPOCH.checked_add(since)
}
