//! Questions to the daemon.

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

/// Connects to the daemon. A stopped daemon with a full backlog costs no more than the daemon's
/// time.
///
/// # Errors
/// The reason for which there is no connection, for people.
pub(crate) fn connect(path: &Path, clock: &Clock) -> Result<UnixStream, String> {
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
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => "virtfitd does not run".into(),
        _ => in_time(&error),
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
/// The reason for which there is no answer, for people.
pub(crate) fn ask(
    stream: &UnixStream,
    step: &Step<'_>,
    question: &Question,
    clock: &Clock,
) -> Result<Reply, String> {
    let mut timed = Timed::new(stream, clock.at(clock::DAEMON));
    let asked = question.write(&mut timed);
    if asked.is_ok() {
        watch(stream);
    }
    let reply = asked.and_then(|()| Reply::read(&mut BufReader::new(timed)));
    match reply {
        Ok(reply) if step.may_end_with(reply.exit) => Ok(reply),
        Ok(reply) => Err(format!("virtfitd answered with exit {}", reply.exit)),
        Err(error) => Err(in_time(&error)),
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

fn in_time(error: &io::Error) -> String {
    match error.kind() {
        ErrorKind::TimedOut | ErrorKind::WouldBlock => {
            format!("virtfitd did not answer within {} ms", clock::DAEMON.as_millis())
        }
        ErrorKind::InvalidData => "virtfitd answered with something else".into(),
        ErrorKind::UnexpectedEof | ErrorKind::BrokenPipe | ErrorKind::ConnectionReset => {
            "virtfitd gave no answer".into()
        }
        _ => format!("virtfitd cannot be asked: {}", error.kind()),
    }
}
