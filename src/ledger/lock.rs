//! Waiting for a file lock between several processes, with a deadline and in order of arrival.
//!
//! `flock(2)` has no timeout, and a process that polls a busy lock gets it only if it asks at the
//! right moment: of 64 hooks that poll, most never do. So the kernel's own queue is used: a thread
//! waits in `flock(2)` and hands the lock over. If the thread gets the lock after the deadline, no
//! caller takes it any more, and it is released at once.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Largest number of threads of one process that wait at once. More of them would only pile up
/// while a process that holds the lock is stopped.
const MOST: usize = 8;
/// Pause between two attempts when no thread can wait.
const PAUSE: Duration = Duration::from_millis(1);
/// Stack of a waiting thread, in bytes.
const STACK: usize = 64 << 10;

/// Number of threads that are waiting now.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Locks a file for this process alone; `None`: another process held the lock until the deadline.
///
/// # Errors
/// The kernel's error, unless it says that the lock is held.
pub(crate) fn exclusive(file: File, deadline: Instant) -> io::Result<Option<Flock<File>>> {
    // The lock is mostly free, and then needs no thread.
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(Some(lock)),
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
        Err((_, error)) => return Err(error.into()),
    };
    if left(deadline).is_zero() {
        return Ok(None);
    }
    // Without a limit, threads pile up behind a stopped holder.
    if WAITING.fetch_add(1, Ordering::SeqCst) >= MOST {
        WAITING.fetch_sub(1, Ordering::SeqCst);
        return poll(file, deadline);
    }
    // If the thread cannot start, this second descriptor is there for polling.
    let second = file.try_clone();
    let (sender, receiver) = mpsc::channel();
    let waiting = move || {
        let mut file = file;
        let got = loop {
            match Flock::lock(file, FlockArg::LockExclusive) {
                Ok(lock) => break Ok(lock),
                Err((back, Errno::EINTR)) => file = back,
                Err((_, error)) => break Err(error.into()),
            }
        };
        WAITING.fetch_sub(1, Ordering::SeqCst);
        // If the caller has given up, `send` returns the lock as an error, and it is released here.
        let _ = sender.send(got);
    };
    // The caller waits for the thread's answer, but only until the deadline.
    let builder = thread::Builder::new().name("lock".into()).stack_size(STACK);
    match (builder.spawn(waiting), second) {
        (Ok(_), _) => match receiver.recv_timeout(left(deadline)) {
            Ok(got) => got.map(Some),
            Err(_) => Ok(None),
        },
        (Err(_), Ok(file)) => {
            WAITING.fetch_sub(1, Ordering::SeqCst);
            poll(file, deadline)
        }
        (Err(error), Err(_)) => {
            WAITING.fetch_sub(1, Ordering::SeqCst);
            Err(error)
        }
    }
}

/// Polls the lock until the deadline.
fn poll(mut file: File, deadline: Instant) -> io::Result<Option<Flock<File>>> {
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(lock) => return Ok(Some(lock)),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, error)) => return Err(error.into()),
        }
        let left = left(deadline);
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(PAUSE.min(left));
    }
}

fn left(deadline: Instant) -> Duration {
    deadline.saturating_duration_since(Instant::now())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn open(path: &std::path::Path) -> File {
        File::options()
            .create(true)
            .truncate(false)
            .write(true)
            .open(path)
            .unwrap()
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_millis(30)
    }

    #[test]
    fn a_lock_that_comes_too_late_is_let_go_of() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = exclusive(open(&path), soon()).unwrap().unwrap();
        // More than the threads that may wait at once: the others poll, and end at the deadline
        // too.
        let waits: Vec<_> = (0..2 * MOST)
            .map(|_| {
                let file = open(&path);
                thread::spawn(move || exclusive(file, soon()).unwrap().is_none())
            })
            .collect();
        assert!(waits.into_iter().all(|wait| wait.join().unwrap()));
        drop(held);
        // The threads that went on waiting get the lock one after the other, and none keeps it.
        let far = Instant::now() + Duration::from_secs(10);
        drop(exclusive(open(&path), far).unwrap().unwrap());
        while WAITING.load(Ordering::SeqCst) > 0 {
            assert!(Instant::now() < far);
            thread::sleep(Duration::from_millis(1));
        }
    }

    #[test]
    fn a_waiting_thread_gets_the_lock_when_it_is_free() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("lock");
        let held = exclusive(open(&path), soon()).unwrap().unwrap();
        let file = open(&path);
        let far = Instant::now() + Duration::from_secs(10);
        let waits = thread::spawn(move || exclusive(file, far).unwrap().is_some());
        thread::sleep(Duration::from_millis(20));
        drop(held);
        assert!(waits.join().unwrap());
    }
}
