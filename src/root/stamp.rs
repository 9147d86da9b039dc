//! What tells one state of a file from another, without reading it.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long a file must have rested when it was read. The kernel's coarse clock ticks at least every 10 ms.
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

    /// Whether the file had rested at `now`: what has this stamp later is the same. A clock that was set makes files look young
    /// or old; an old one that is taken for young is only read once more.
    pub fn rested(&self, now: SystemTime) -> bool {
        let (seconds, nanos) = self.changed;
        let changed = u64::try_from(seconds)
            .ok()
            .and_then(|seconds| UNIX_EPOCH.checked_add(Duration::new(seconds, u32::try_from(nanos).ok()?)));
        let Some(changed) = changed else { return false };
        let apart = now
            .duration_since(changed)
            .unwrap_or_else(|early| early.duration());
        apart > RESTED
    }
}
