//! Clock of the hook: every time limit counts from the start of the process.

use std::time::{Duration, Instant};

/// Time until which the daemon may answer.
pub(crate) const DAEMON: Duration = Duration::from_millis(300);
/// Time until which the XML must have ended. libvirt writes it at once; after this limit no time
/// would be left to use it.
pub(crate) const INPUT: Duration = Duration::from_millis(800);
/// Time at which the hook leaves `virtfit hook` behind, which gives up by itself at 900 ms.
pub(crate) const END: Duration = Duration::from_millis(950);

/// Start of the process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Clock(Instant);

impl Clock {
    /// Starts the clock.
    pub(crate) fn start() -> Self {
        Self(Instant::now())
    }

    /// Returns the moment that is `after` later than the start.
    pub(crate) fn at(&self, after: Duration) -> Instant {
        self.0 + after
    }

    /// Returns the time left until the moment `until` after the start; zero if it is past.
    pub(crate) fn left(&self, until: Duration) -> Duration {
        until.saturating_sub(self.0.elapsed())
    }

    /// Returns the milliseconds since the start.
    pub(crate) fn spent_ms(&self) -> u128 {
        self.0.elapsed().as_millis()
    }
}
