//! Waiting for a file lock of several processes, with a deadline and in turn.
//!
//! `flock(2)` has no timeout, and a process that asks for a busy lock again and again gets it only
//! if it asks at the right moment: of 64 hooks that poll, most never do. So the kernel's own queue
//! is used: a thread waits in `flock(2)` and hands the lock over. At the deadline nobody takes what
//! that thread gets later, and it gives the lock back at once.

use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

/// Threads that may wait at once in one process. More only pile up where a process holds the lock
/// and is stopped.
const MOST: usize = 8;
/// Pause between two attempts where no thread can wait.
const PAUSE: Duration = Duration::from_millis(1);
/// Stack of a thread that waits, in bytes.
const STACK: usize = 64 << 10;

/// Number of threads that wait now.
static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Locks a file for this process alone; `None`: another one held the lock until the deadline.
///
/// # Errors
/// What the kernel says of anything but a lock that is held.
pub fn exclusive(file: File, deadline: Instant) -> io::Result<Option<Flock<File>>> {
    // Mostly the lock is free.
    let file = match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
        Ok(lock) => return Ok(Some(lock)),
        Err((file, Errno::EWOULDBLOCK | Errno::EINTR)) => file,
        Err((_, error)) => return Err(error.into()),
    };
    if left(deadline).is_zero() {
        return Ok(None);
    }
    if WAITING.fetch_add(1, Ordering::SeqCst) >= MOST {
        WAITING.fetch_sub(1, Ordering::SeqCst);
        return poll(file, deadline);
    }
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
        // Where nobody listens any more the lock comes back as an error, and is let go of here.
        let _ = sender.send(got);
    };
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

/// Asks for the lock again and again.
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
        // More than may wait at once: the others poll, and end at the deadline too.
        let waits: Vec<_> = (0..2 * MOST)
            .map(|_| {
                let file = open(&path);
                thread::spawn(move || exclusive(file, soon()).unwrap().is_none())
            })
            .collect();
        assert!(waits.into_iter().all(|wait| wait.join().unwrap()));
        drop(held);
        // The threads that waited on get the lock now, one after the other, and none keeps it.
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
