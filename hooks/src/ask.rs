//! Questions to the daemon.

use std::fmt;
use std::io::{self, BufReader, ErrorKind};
use std::os::fd::{AsFd, AsRawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket};

use crate::clock::{self, Clock};
use crate::step::Step;
use virtfit_hook::wire::{Kind, Question, Reply, Timed};

/// Time for which the hook polls for an answer before it sleeps.
const MOMENT: Duration = Duration::from_micros(200);

/// Reason why the daemon gives no answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoAnswer {
    /// There is no socket, or no process listens at it.
    NoDaemon,
    /// The daemon answered with an exit code that the step may not end with.
    Exit(u8),
    /// The connection failed.
    Failed(ErrorKind),
}

/// Connects to the daemon. A stopped daemon with a full backlog costs no more than the daemon's
/// time.
///
/// # Errors
/// No daemon listens, or the connection fails.
pub(crate) fn connect(path: &Path, clock: &Clock) -> Result<UnixStream, NoAnswer> {
    let left = clock.left(clock::DAEMON).max(Duration::from_millis(1));
    let tried = || -> io::Result<UnixStream> {
        let address = UnixAddr::new(path)?;
        let stream = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let stream = UnixStream::from(stream);
        // Linux waits for a place in the backlog for as long as a write may take (unix(7),
        // SO_SNDTIMEO).
        stream.set_write_timeout(Some(left))?;
        connect_to(stream.as_raw_fd(), &address)?;
        Ok(stream)
    };
    tried().map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => NoAnswer::NoDaemon,
        kind => NoAnswer::Failed(kind),
    })
}

/// Makes the question of a step.
pub(crate) fn question(step: &Step<'_>, xml: Vec<u8>) -> Question {
    let mut words: Vec<Vec<u8>> = (0..4).map(|at| step.word(at).as_bytes().to_vec()).collect();
    words.push(std::os::unix::process::parent_id().to_string().into_bytes());
    Question {
        kind: Kind::Hook,
        words,
        body: xml,
    }
}

/// Writes the question and reads the answer.
///
/// # Errors
/// The connection fails, or the answer is none.
pub(crate) fn ask(
    stream: &UnixStream,
    step: &Step<'_>,
    question: &Question,
    clock: &Clock,
) -> Result<Reply, NoAnswer> {
    let mut timed = Timed::new(stream, clock.at(clock::DAEMON));
    let asked = question.write(&mut timed);
    if asked.is_ok() {
        watch(stream);
    }
    let reply = asked.and_then(|()| Reply::read(&mut BufReader::new(timed)));
    match reply {
        Ok(reply) if step.may_end_with(reply.exit) => Ok(reply),
        Ok(reply) => Err(NoAnswer::Exit(reply.exit)),
        Err(error) => Err(NoAnswer::Failed(error.kind())),
    }
}

/// Polls for the answer for a moment and lets other threads run in between: being put to sleep and
/// woken again takes longer than most answers.
fn watch(stream: &UnixStream) {
    let began = Instant::now();
    while began.elapsed() < MOMENT {
        let mut answer = [PollFd::new(stream.as_fd(), PollFlags::POLLIN)];
        if poll(&mut answer, PollTimeout::ZERO) != Ok(0) {
            return;
        }
        std::thread::yield_now();
    }
}

impl fmt::Display for NoAnswer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoDaemon => f.write_str("virtfitd does not run"),
            Self::Exit(exit) => write!(f, "virtfitd answered with exit {exit}"),
            Self::Failed(kind) => match kind {
                ErrorKind::TimedOut | ErrorKind::WouldBlock => {
                    write!(
                        f,
                        "virtfitd did not answer within {} ms",
                        clock::DAEMON.as_millis()
                    )
                }
                ErrorKind::InvalidData => f.write_str("virtfitd answered with something else"),
                ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
                    f.write_str("virtfitd gave no answer")
                }
                kind => write!(f, "virtfitd cannot be asked: {kind}"),
            },
        }
    }
}
