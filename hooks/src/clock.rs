//! The one clock: everything counts from the start of the process.

use std::time::{Duration, Instant};

/// Until when the daemon may answer.
pub const DAEMON: Duration = Duration::from_millis(300);
/// Until when the XML must be there. libvirt writes it at once; later there is no time left to do
/// anything with it.
pub const INPUT: Duration = Duration::from_millis(800);
/// `virtfit hook` gives up by itself at 900 ms; this is when it is left behind.
pub const END: Duration = Duration::from_millis(950);

/// When it began.
#[derive(Debug, Clone, Copy)]
pub struct Clock(Instant);

impl Clock {
    /// Now.
    pub fn start() -> Self {
        Self(Instant::now())
    }

    /// The moment so long after the start.
    pub fn at(&self, after: Duration) -> Instant {
        self.0 + after
    }

    /// What is left until so long after the start; zero when it is past.
    pub fn left(&self, until: Duration) -> Duration {
        until.saturating_sub(self.0.elapsed())
    }

    /// Milliseconds since the start.
    pub fn spent_ms(&self) -> u128 {
        self.0.elapsed().as_millis()
    }
}
