//! Threads that take the connections of one socket.

use std::io::ErrorKind;
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use log::Level;
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};

use crate::daemon::server::{Peer, Services, serve};
use crate::hostfs::at_path::io_words;
use crate::logging::repeats::Repeats;
use crate::panics::guarded;

/// Most connections at once. libvirt runs 20 hooks at once by default (`max_workers`), and more for
/// calls with priority.
pub(super) const MOST: usize = 128;
/// Most connections at once of peers that are not root.
const MOST_READERS: usize = 8;
/// Number of threads that wait for connections while there are none.
const READY: usize = 2;
/// Stack of a connection's thread, in bytes: as much as a main thread has. Only the part in use
/// takes memory.
const STACK: usize = 8 << 20;

/// Log lines that any peer can cause as often as it likes.
static NO_THREAD: Repeats = Repeats::new();
static NO_CONNECTION: Repeats = Repeats::new();
static BUG: Repeats = Repeats::new();
static TOO_MANY: Repeats = Repeats::new();
static TOO_MANY_READERS: Repeats = Repeats::new();

/// Answers and counts of a server, whichever socket its connections come from.
pub(super) struct Shared {
    services: Services,
    /// Number of threads that answer a connection.
    busy: AtomicUsize,
    /// Number of busy threads that answer a peer that is not root.
    readers: AtomicUsize,
}

impl Shared {
    pub(super) fn new(services: Services) -> Arc<Self> {
        Arc::new(Self {
            services,
            busy: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
        })
    }
}

/// Threads that take connections. Each takes one and answers it by itself: a hook does not wait for
/// a handover, and seldom for a new thread.
pub(super) struct Pool {
    listener: UnixListener,
    shared: Arc<Shared>,
    /// Number of threads that wait for a connection.
    waiting: AtomicUsize,
}

/// Increment of a number, undone when this is dropped.
struct Counted<'n> {
    number: &'n AtomicUsize,
    before: usize,
}

impl<'n> Counted<'n> {
    fn one_more(number: &'n AtomicUsize) -> Self {
        let before = number.fetch_add(1, Ordering::SeqCst);
        Self { number, before }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.number.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pool {
    /// Starts to take connections.
    pub(super) fn open(listener: UnixListener, shared: &Arc<Shared>) -> Arc<Self> {
        let pool = Arc::new(Self {
            listener,
            shared: Arc::clone(shared),
            waiting: AtomicUsize::new(0),
        });
        for _ in 0..READY {
            pool.spawn();
        }
        pool
    }

    /// Takes no more connections; those that are open are still answered.
    pub(super) fn close(&self) {
        // All threads in accept(2) return.
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }

    /// Serves a connection, if its peer is root or few other peers are not.
    fn admit(&self, stream: &UnixStream) {
        let credentials = match getsockopt(stream, PeerCredentials) {
            Ok(credentials) => credentials,
            Err(error) => return log::debug!("a connection without a peer: {error}"),
        };
        let peer = Peer {
            uid: credentials.uid(),
            pid: credentials.pid(),
        };
        if peer.is_trusted() {
            return serve(stream, &self.shared.services, peer);
        }
        // Counted down by the drop, also after a panic.
        let reader = Counted::one_more(&self.shared.readers);
        if reader.before < MOST_READERS {
            serve(stream, &self.shared.services, peer);
        } else {
            let line = format!(
                "more than {MOST_READERS} connections at once that are not root's: one is closed unread"
            );
            TOO_MANY_READERS.say(Level::Warn, &line);
        }
    }

    /// Starts one more thread.
    fn spawn(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        // Counted from now on, so that of two threads that take connections at once only one makes
        // another.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let builder = std::thread::Builder::new()
            .name("answer".into())
            .stack_size(STACK);
        if let Err(error) = builder.spawn(move || pool.take_and_answer()) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            NO_THREAD.say(
                Level::Warn,
                &format!("cannot start a thread to answer hooks: {}", io_words(&error)),
            );
        }
    }

    /// Takes and answers connections until the server is stopped, or enough other threads wait. The
    /// thread is counted as waiting when it begins.
    fn take_and_answer(self: Arc<Self>) {
        loop {
            let taken = self.listener.accept();
            if let Err(error) = &taken {
                match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                    // The socket was shut down by `run`.
                    ErrorKind::InvalidInput => return,
                    _ => {
                        // Out of descriptors or memory: open connections end soon and give some
                        // back.
                        NO_CONNECTION.say(
                            Level::Warn,
                            &format!("cannot take a connection: {}", io_words(error)),
                        );
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                }
            }
            let busy = self.shared.busy.fetch_add(1, Ordering::SeqCst);
            if self.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.spawn();
            }
            match taken {
                Ok((stream, _)) if busy < MOST => {
                    if let Err(bug) = guarded(|| self.admit(&stream)) {
                        BUG.say(Level::Error, &format!("a connection got no answer: {bug}"));
                    }
                }
                _ => {
                    let line =
                        format!("more than {MOST} connections at once: one is closed without an answer");
                    TOO_MANY.say(Level::Warn, &line);
                }
            }
            self.shared.busy.fetch_sub(1, Ordering::SeqCst);
            if self.waiting.fetch_add(1, Ordering::SeqCst) >= READY {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
    }
}
