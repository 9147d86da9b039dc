//! What the files of the ledger said when they were last read: a daemon that decides beside hundreds of guests reads again only
//! what changed.
//!
//! A file is taken to be unchanged while inode, size, mtime and ctime are. Those of a file that was changed a moment before it was
//! read prove nothing (the kernel's clock for them ticks every few milliseconds, and inodes are used again): it is read again
//! until it has rested.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::Metadata;
use std::os::unix::fs::MetadataExt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::ledger::pinned::Records;
use crate::ledger::reservation::Reservation;
use crate::ledger::undecided::Undecided;
use crate::ledger::{Claim, Holder};
use crate::units::KiB;

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

/// What one folder's files said, by stem.
#[derive(Debug)]
pub struct Folder<T> {
    known: BTreeMap<String, (Stamp, Result<T, String>)>,
}

impl<T> Default for Folder<T> {
    fn default() -> Self {
        Self {
            known: BTreeMap::new(),
        }
    }
}

impl<T> Folder<T> {
    /// What a file said, while it has this stamp.
    pub fn get(&self, stem: &str, stamp: Stamp) -> Option<&Result<T, String>> {
        let (known, said) = self.known.get(stem)?;
        (*known == stamp).then_some(said)
    }

    /// Remembers what a file said; not when it had not rested.
    pub fn put(&mut self, stem: &str, stamp: Stamp, now: SystemTime, said: Result<T, String>)
    where
        T: Clone,
    {
        if stamp.rested(now) {
            self.known.insert(stem.to_string(), (stamp, said));
        } else {
            self.known.remove(stem);
        }
    }

    /// Forgets the files that are not there any more.
    pub fn keep(&mut self, stems: &BTreeSet<&str>) {
        if self.known.len() > stems.len() {
            self.known.retain(|stem, _| stems.contains(stem.as_str()));
        }
    }
}

/// All of the ledger.
#[derive(Debug, Default)]
pub struct Cache {
    /// Status files, and the default huge page size they were read with.
    pub status: Folder<Holder>,
    /// Reservations, whether they are void or not.
    pub reservations: Folder<Reservation>,
    /// Marks of guests that started undecided.
    pub undecided: Folder<Undecided>,
    /// Definitions; none of them counted as autostarted.
    pub definitions: Folder<Claim>,
    /// What `<hugepages/>` without a size meant in the status files.
    pub default_page: Option<KiB>,
    /// The masks virtfit set on running guests, which status files are read with.
    pub pinned: Records,
}
