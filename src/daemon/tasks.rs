//! What the worker is told to do by the other threads, and how it is woken.
//!
//! The worker sleeps in `poll` on its inotify and on [`Queue::fd`]; it has no timer while there is nothing to wait for.

use std::collections::VecDeque;
use std::io;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Mutex, PoisonError};

use nix::sys::eventfd::{EfdFlags, EventFd};

/// Something for the worker. Names are guests' names, UUIDs lower case with dashes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Task {
    /// A definition appeared or changed.
    Defined(String),
    /// A definition is gone.
    Undefined(String),
    /// A guest's `started` (or `reconnect`) hook has ended: it runs.
    Started(String),
    /// A guest's `release` hook has ended, or its start was vetoed: what it held is free.
    Ended(String),
    /// Policy files changed.
    PolicyChanged,
    /// The host may have changed.
    HostChanged,
    /// libvirt's driver came up.
    LibvirtUp,
    /// Anything may have changed.
    Rescan,
}

/// Tasks in the order in which they came; equal ones that still wait are one.
#[derive(Debug)]
pub struct Queue {
    tasks: Mutex<VecDeque<Task>>,
    wake: EventFd,
}

impl Queue {
    /// An empty one.
    ///
    /// # Errors
    /// The kernel gives no eventfd.
    pub fn new() -> io::Result<Self> {
        Ok(Self {
            tasks: Mutex::new(VecDeque::new()),
            wake: EventFd::from_flags(EfdFlags::EFD_NONBLOCK | EfdFlags::EFD_CLOEXEC)?,
        })
    }

    /// Adds a task and wakes the worker. Never waits for it.
    pub fn push(&self, task: Task) {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        if !tasks.contains(&task) {
            tasks.push_back(task);
        }
        // Full means that the worker is woken already.
        let _ = self.wake.write(1);
    }

    /// Takes all that waits.
    pub fn take(&self) -> Vec<Task> {
        let mut tasks = self.tasks.lock().unwrap_or_else(PoisonError::into_inner);
        // Empty means that nobody woke us since.
        let _ = self.wake.read();
        tasks.drain(..).collect()
    }

    /// Readable while something waits.
    pub fn fd(&self) -> BorrowedFd<'_> {
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
        for task in [Task::Rescan, Task::Ended("a".into()), Task::Rescan] {
            queue.push(task);
        }
        assert!(readable(&queue));
        assert_eq!(queue.take(), [Task::Rescan, Task::Ended("a".into())]);
        assert!(!readable(&queue));
        assert!(queue.take().is_empty());
    }
}
