//! Queue through which the other threads hand events to the worker and wake it.
//!
//! The worker sleeps in `poll` on its inotify and on [`Queue::fd`]; it has no timer while there is
//! nothing to wait for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

use crate::daemon::tasks::WorkerEvent;
use crate::hostfs::at_path::at_path;

/// Events in the order in which they came; equal ones that still wait are merged.
#[derive(Debug)]
pub(crate) struct Queue {
    tasks: Mutex<VecDeque<WorkerEvent>>,
    wake: EventFd,
}

impl Queue {
    /// Creates an empty queue.
    ///
    /// # Errors
    /// The kernel gives no eventfd.
    pub(crate) fn new() -> io::Result<Self> {
        let wake = EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC);
        Ok(Self {
            tasks: Mutex::new(VecDeque::new()),
            wake: wake.map_err(|error| at_path("eventfd", error.into()))?,
        })
    }

    /// Adds an event and wakes the worker, without waiting for it.
    pub(crate) fn push(&self, task: WorkerEvent) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.contains(&task) {
            tasks.push_back(task);
        }
        // An error means that the counter is full: the worker is awake already.
        let _ = self.wake.write(1);
    }

    /// Takes all events that wait.
    pub(crate) fn take(&self) -> Vec<WorkerEvent> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // An error means that the counter is empty: no event came since the last time.
        let _ = self.wake.read();
        tasks.drain(..).collect()
    }

    /// Returns a descriptor that is readable while events wait.
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.wake.as_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn readable(queue: &Queue) -> bool {
        let mut fds = [PollFd::new(queue.fd(), PollFlags::POLLIN)];
        poll(&mut fds, PollTimeout::ZERO).unwrap() == 1
    }

    #[test]
    fn wakes_until_taken_and_keeps_the_order() {
        let queue = Queue::new().unwrap();
        assert!(!readable(&queue));
        let prepared = WorkerEvent::Prepared { name: "db".into() };
        for task in [WorkerEvent::Rescan, prepared.clone(), WorkerEvent::Rescan] {
            queue.push(task);
        }
        assert!(readable(&queue));
        assert_eq!(queue.take(), [WorkerEvent::Rescan, prepared]);
        assert!(!readable(&queue));
        assert!(queue.take().is_empty());
    }
}
