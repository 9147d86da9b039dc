//! Bound of what one reading parses.

use std::time::Duration;

use nix::time::{ClockId, clock_gettime};

/// Most that one reading parses of a folder's files, the smallest files first. The files left over
/// are parsed by the next readings with the same cache.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct AtOnce {
    /// Bytes of all files together.
    pub bytes: u64,
    /// Time of the thread after which no further file is parsed; `None`: no bound.
    pub time: Option<Duration>,
}

impl AtOnce {
    /// Bound for files of guests that run or start: what these hold must be known, so there is no
    /// bound of time.
    pub(crate) const HOLDERS: Self = Self {
        bytes: 12 * 1024 * 1024,
        time: None,
    };
    /// Bound for definitions, while a guest's start or the daemon waits: what definitions claim is
    /// only a preference, and any user's are read in another guest's hook. Hundreds of guests take
    /// less. A build without optimisation is many times slower.
    pub(crate) const CLAIMS: Self = Self {
        bytes: 4 * 1024 * 1024,
        time: Some(Duration::from_millis(if cfg!(debug_assertions) {
            500
        } else {
            50
        })),
    };
    /// Bound that lets no unknown file be parsed.
    pub(crate) const NONE: Self = Self { bytes: 0, time: None };
    /// Bound for definitions in a command, for which only its user waits.
    pub(crate) const CLAIMS_OF_ALL: Self = Self {
        bytes: 16 * 1024 * 1024,
        time: None,
    };
}

/// Part of a bound that a reading has used.
pub(crate) struct Spent {
    at_once: AtOnce,
    bytes: u64,
    /// Time of the thread when the first file was allowed.
    since: Option<Duration>,
}

impl Spent {
    /// Begins a reading: nothing is used.
    pub(crate) fn none(at_once: AtOnce) -> Self {
        Self {
            at_once,
            bytes: 0,
            since: None,
        }
    }

    /// Returns `true` if a file of this size in bytes may be parsed, and counts it. Later files of
    /// the same size or larger ones are not allowed either, once one was not.
    pub(crate) fn allows(&mut self, size: u64) -> bool {
        self.bytes = self.bytes.saturating_add(size);
        if self.bytes > self.at_once.bytes {
            return false;
        }
        let Some(most) = self.at_once.time else {
            return true;
        };
        // The thread's own time: on a busy machine as much is read as on a quiet one.
        let now = clock_gettime(ClockId::CLOCK_THREAD_CPUTIME_ID).map_or(Duration::ZERO, Duration::from);
        now.saturating_sub(*self.since.get_or_insert(now)) < most
    }
}
