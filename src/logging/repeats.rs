//! Log lines that other programs can cause as often as they like: written once, then counted.
//!
//! The first line of a kind within a minute is written at once. The second starts a thread that
//! counts for a minute and then logs the number of lines: the thread exists only while there is
//! something to count.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use log::Level;

/// Time for which lines of one kind are counted, from the second line on.
const WHILE: Duration = Duration::from_secs(60);
/// Stack of the thread that logs the count, in bytes.
const STACK: usize = 64 << 10;

/// One kind of log lines.
#[derive(Debug)]
pub(crate) struct Repeats {
    counted_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// Time at which a line was written last, unless a count has ended since then.
    said: Option<Instant>,
    /// Number of lines counted since then.
    left_out: u64,
}

/// Treatment of a line.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Said,
    /// First line to be counted.
    First,
    Counted,
}

impl Repeats {
    /// Creates a kind of which no line was written yet.
    pub(crate) const fn new() -> Self {
        Self::counting_for(WHILE)
    }

    const fn counting_for(counted_for: Duration) -> Self {
        let state = State {
            said: None,
            left_out: 0,
        };
        Self {
            counted_for,
            state: Mutex::new(state),
        }
    }

    /// Logs a line if it is the first of its kind, also the first after a count. Otherwise counts
    /// it; the count is logged a minute after it began.
    pub(crate) fn say(&'static self, level: Level, line: &str) {
        match self.take() {
            Fate::Said => log::log!(level, "{line}"),
            Fate::Counted => {}
            Fate::First => {
                let line = line.to_string();
                let tell = move || {
                    thread::sleep(self.counted_for);
                    // The line that is written now was counted, too.
                    match self.end().saturating_sub(1) {
                        0 => log::log!(level, "{line}"),
                        more => log::log!(
                            level,
                            "{line} (and {more} more like it within {} s)",
                            self.counted_for.as_secs()
                        ),
                    }
                };
                let builder = thread::Builder::new().name("count".into()).stack_size(STACK);
                if builder.spawn(tell).is_err() {
                    // No thread can be started: the next line is written at once.
                    self.end();
                }
            }
        }
    }

    fn take(&self) -> Fate {
        let mut state = self.state();
        let is_old = state.said.is_none_or(|said| said.elapsed() >= self.counted_for);
        if state.left_out == 0 && is_old {
            state.said = Some(Instant::now());
            return Fate::Said;
        }
        state.left_out = state.left_out.saturating_add(1);
        match state.left_out {
            1 => Fate::First,
            _ => Fate::Counted,
        }
    }

    /// Ends a count. Returns the number of lines that were counted.
    fn end(&self) -> u64 {
        let mut state = self.state();
        state.said = None;
        std::mem::take(&mut state.left_out)
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Default for Repeats {
    fn default() -> Self {
        Self::new()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_is_said_and_the_rest_is_counted_until_the_time_is_over() {
        static KIND: Repeats = Repeats::counting_for(Duration::from_millis(300));
        assert_eq!(KIND.take(), Fate::Said);
        KIND.say(Level::Debug, "the first that is counted");
        for _ in 0..1000 {
            assert_eq!(KIND.take(), Fate::Counted);
        }
        let begin = std::time::Instant::now();
        while KIND.state().said.is_some() {
            assert!(begin.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(KIND.take(), Fate::Said);
        // A line that comes long after the last one is not held back.
        thread::sleep(Duration::from_millis(310));
        assert_eq!(KIND.take(), Fate::Said);
    }
}
