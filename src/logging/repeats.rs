//! Log lines that others can bring about as often as they like: said once, then counted.
//!
//! After a line no other of its kind is said for a minute. A thread that lives as long as that
//! minute then says how many there were: it is there only while there is something to count.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use log::Level;

/// How long lines of one kind are counted after the first.
const WHILE: Duration = Duration::from_secs(60);
/// Stack of the thread that tells the count, in bytes.
const STACK: usize = 64 << 10;

/// One kind of lines.
#[derive(Debug)]
pub struct Repeats {
    counted_for: Duration,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    /// A line was said and its time is not over.
    said: bool,
    /// Lines left out since.
    left_out: u64,
}

/// What becomes of a line.
#[derive(Debug, PartialEq, Eq)]
enum Fate {
    Said,
    /// The first one to be counted.
    First,
    Counted,
}

impl Repeats {
    /// A kind of which nothing was said yet.
    pub const fn new() -> Self {
        Self::counting_for(WHILE)
    }

    const fn counting_for(counted_for: Duration) -> Self {
        let state = State {
            said: false,
            left_out: 0,
        };
        Self {
            counted_for,
            state: Mutex::new(state),
        }
    }

    /// Logs a line, or counts it where one of its kind was logged within the last minute.
    pub fn say(&'static self, level: Level, line: &str) {
        match self.take() {
            Fate::Said => log::log!(level, "{line}"),
            Fate::Counted => {}
            Fate::First => {
                let line = line.to_string();
                let tell = move || {
                    thread::sleep(self.counted_for);
                    let left_out = self.end();
                    log::log!(
                        level,
                        "{line} (and {left_out} more like it within {} s)",
                        self.counted_for.as_secs()
                    );
                };
                let builder = thread::Builder::new().name("count".into()).stack_size(STACK);
                if builder.spawn(tell).is_err() {
                    // Out of threads: the next line is said at once.
                    self.end();
                }
            }
        }
    }

    fn take(&self) -> Fate {
        let mut state = self.state();
        if !state.said {
            state.said = true;
            return Fate::Said;
        }
        state.left_out = state.left_out.saturating_add(1);
        match state.left_out {
            1 => Fate::First,
            _ => Fate::Counted,
        }
    }

    /// Ends the time of the line that was said; how many were left out.
    fn end(&self) -> u64 {
        let mut state = self.state();
        state.said = false;
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
        static KIND: Repeats = Repeats::counting_for(Duration::from_millis(30));
        assert_eq!(KIND.take(), Fate::Said);
        KIND.say(Level::Debug, "the first that is counted");
        for _ in 0..1000 {
            assert_eq!(KIND.take(), Fate::Counted);
        }
        let begin = std::time::Instant::now();
        while KIND.state().said {
            assert!(begin.elapsed() < Duration::from_secs(10));
            thread::sleep(Duration::from_millis(5));
        }
        assert_eq!(KIND.take(), Fate::Said);
    }
}
