//! Lock that is given in the order of arrival, with a deadline for each thread that waits.
//!
//! The daemon decides one start at a time: two starts decided at once would choose the same CPUs,
//! and the slower one would have to be decided again.

use std::collections::VecDeque;
use std::sync::mpsc::{self, Receiver, Sender};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

/// Order in which threads take their turns.
#[derive(Debug, Default)]
pub(crate) struct Turns(Mutex<State>);

#[derive(Debug, Default)]
struct State {
    taken: bool,
    waiting: VecDeque<(u64, Sender<()>)>,
    /// Number of the next thread that waits.
    next: u64,
}

/// Turn of one thread; ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Turn<'t>(&'t Turns);

impl Turns {
    /// Waits until all threads that came before had their turns; `None`: the deadline came first.
    pub(crate) fn take(&self, deadline: Instant) -> Option<Turn<'_>> {
        let (number, mine) = {
            let mut state = self.state();
            if !std::mem::replace(&mut state.taken, true) {
                return Some(Turn(self));
            }
            let (sender, receiver) = mpsc::channel();
            let number = state.next;
            state.next += 1;
            state.waiting.push_back((number, sender));
            (number, receiver)
        };
        let left = deadline.saturating_duration_since(Instant::now());
        if mine.recv_timeout(left).is_ok() {
            return Some(Turn(self));
        }
        self.leave(number, &mine)
    }

    /// Returns the number of threads that wait.
    pub(crate) fn waiting(&self) -> usize {
        self.state().waiting.len()
    }

    /// Leaves the queue. Returns the turn if it came in the last moment.
    fn leave(&self, number: u64, mine: &Receiver<()>) -> Option<Turn<'_>> {
        let mut state = self.state();
        state.waiting.retain(|(waiting, _)| *waiting != number);
        // Turns are handed over under this lock: a turn that has not come now will not come.
        mine.try_recv().ok().map(|()| Turn(self))
    }

    /// Locks the state, also after a panic: nothing between two steps of a change to it can panic.
    fn state(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Turn<'_> {
    fn drop(&mut self) {
        let mut state = self.0.state();
        while let Some((_, next)) = state.waiting.pop_front() {
            if next.send(()).is_ok() {
                return;
            }
        }
        state.taken = false;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::thread;
    use std::time::Duration;

    use super::*;

    fn far() -> Instant {
        Instant::now() + Duration::from_secs(30)
    }

    #[test]
    fn turns_come_in_the_order_of_arrival() {
        let turns = Arc::new(Turns::default());
        let order = Arc::new(Mutex::new(Vec::new()));
        let first = turns.take(far()).unwrap();
        let mut threads = Vec::new();
        for number in 0..20 {
            let (turns, order) = (Arc::clone(&turns), Arc::clone(&order));
            let before = turns.waiting();
            let known = Arc::clone(&turns);
            threads.push(thread::spawn(move || {
                let turn = turns.take(far()).unwrap();
                order.lock().unwrap().push(number);
                drop(turn);
            }));
            while known.waiting() == before {
                thread::yield_now();
            }
        }
        drop(first);
        for thread in threads {
            thread.join().unwrap();
        }
        assert_eq!(*order.lock().unwrap(), (0..20).collect::<Vec<_>>());
        assert!(turns.take(Instant::now()).is_some());
    }

    #[test]
    fn who_gives_up_stops_nobody() {
        let turns = Turns::default();
        let first = turns.take(far()).unwrap();
        assert!(turns.take(Instant::now()).is_none());
        assert!(turns.take(Instant::now() + Duration::from_millis(5)).is_none());
        assert_eq!(turns.waiting(), 0);
        drop(first);
        assert!(turns.take(Instant::now()).is_some());
    }

    /// Deadlines that pass at about the time at which turns end.
    #[test]
    fn no_turn_is_lost() {
        let turns = Turns::default();
        let taken = Mutex::new(0);
        thread::scope(|scope| {
            for thread in 0..8 {
                let (turns, taken) = (&turns, &taken);
                scope.spawn(move || {
                    for round in 0..200 {
                        let patience = Duration::from_micros((thread * 37 + round * 13) % 300);
                        if let Some(_turn) = turns.take(Instant::now() + patience) {
                            let mut alone = taken.try_lock().unwrap();
                            *alone += 1;
                            thread::sleep(Duration::from_micros(50));
                        }
                    }
                });
            }
        });
        assert!(*taken.lock().unwrap() > 0);
        assert!(turns.take(Instant::now()).is_some() && turns.waiting() == 0);
    }
}
