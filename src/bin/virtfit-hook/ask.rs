//! Asks the daemon.

use std::io::{self, BufReader, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::net::UnixStream;
use std::path::Path;

use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect as connect_to, socket};

use crate::clock::{self, Clock};
use crate::step::Step;
use crate::wire::{Kind, Question, Reply, Timed};

/// Connects. A daemon that is stopped and has its backlog full costs no more than its time.
///
/// # Errors
/// Why there is no connection, for people.
pub fn connect(path: &Path, clock: &Clock) -> Result<UnixStream, String> {
    let left = clock.left(clock::DAEMON).max(std::time::Duration::from_millis(1));
    let tried = || -> io::Result<UnixStream> {
        let address = UnixAddr::new(path)?;
        let stream = socket(
            AddressFamily::Unix,
            SockType::Stream,
            SockFlag::SOCK_CLOEXEC,
            None,
        )?;
        let stream = UnixStream::from(stream);
        // Linux waits for a place in the backlog as long as a write may take (unix(7), SO_SNDTIMEO).
        stream.set_write_timeout(Some(left))?;
        connect_to(stream.as_raw_fd(), &address)?;
        Ok(stream)
    };
    tried().map_err(|error| match error.kind() {
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => "virtfitd does not run".into(),
        _ => in_time(&error),
    })
}

/// Asks and reads the answer.
///
/// # Errors
/// Why there is none, for people.
pub fn ask(stream: &UnixStream, step: &Step<'_>, xml: &[u8], clock: &Clock) -> Result<Reply, String> {
    let mut words: Vec<Vec<u8>> = (0..4).map(|at| step.word(at).as_bytes().to_vec()).collect();
    words.push(std::os::unix::process::parent_id().to_string().into_bytes());
    let question = Question {
        kind: Kind::Hook,
        words,
        body: xml.to_vec(),
    };
    let mut timed = Timed::new(stream, clock.at(clock::DAEMON));
    let asked = question.write(&mut timed);
    let reply = asked.and_then(|()| Reply::read(&mut BufReader::new(timed)));
    match reply {
        Ok(reply) if step.may_end_with(reply.exit) => Ok(reply),
        Ok(reply) => Err(format!("virtfitd answered with exit {}", reply.exit)),
        Err(error) => Err(in_time(&error)),
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
