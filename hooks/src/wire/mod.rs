//! Protocol of `/run/virtfit/virtfitd.sock`: one question and one answer on each connection.
//!
//! ```text
//! question: virtfit 1 KIND WORDS BODY\n   then WORDS bytes of words, each ended by a NUL, then BODY bytes
//! answer:   virtfit 1 EXIT STDOUT STDERR\n then STDOUT bytes for stdout, then STDERR bytes for stderr
//! ```
//! KIND is `hook` (words: guest, operation, suboperation, extra, pid of the libvirt daemon; body:
//! the XML; only from root) or `ask` (words: a question and its arguments; body: what the question
//! says). Lengths are decimal. The asker keeps the connection open until its process ends: by the
//! end of the connection the daemon knows that a hook has ended.
//!
//! Only the standard library and nix are used here, because the hook's start-up time is part of
//! every guest's start.

use std::io::{self, BufRead, ErrorKind, IoSlice, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, recv};

/// Path of the daemon's socket on the host.
pub const SOCKET: &str = "/run/virtfit/virtfitd.sock";
/// Switch file: while it exists, every door is a no-op.
pub const DISABLED: &str = "/run/virtfit/disabled";
/// Largest length of the words, in bytes.
pub const MAX_WORDS: usize = 64 << 10;
/// Largest length of a body, of stdout and of stderr, in bytes.
pub const MAX_BODY: usize = 16 << 20;
/// Memory that is allocated before the text comes, in bytes: the XML of most guests is smaller.
const USUAL_BODY: usize = 16 << 10;
/// Largest length of the header line, in bytes.
const MAX_HEADER: u64 = 128;

/// Kind of a question.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Question of libvirt's hook.
    Hook,
    /// Any other question.
    Ask,
}

/// Question to the daemon.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Kind of the question.
    pub kind: Kind,
    /// Words, as bytes: a guest's name may have any byte but NUL.
    pub words: Vec<Vec<u8>>,
    /// Body of the question.
    pub body: Vec<u8>,
}

/// Answer of the daemon.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Exit code of the asker.
    pub exit: u8,
    /// Text for the asker's stdout.
    pub stdout: Vec<u8>,
    /// Text for the asker's stderr.
    pub stderr: Vec<u8>,
}

impl Question {
    /// Writes the question.
    ///
    /// # Errors
    /// The stream's error.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let kind = match self.kind {
            Kind::Hook => "hook",
            Kind::Ask => "ask",
        };
        let words: usize = self.words.iter().map(|word| word.len() + 1).sum();
        let mut head = format!("virtfit 1 {kind} {words} {}\n", self.body.len()).into_bytes();
        for word in &self.words {
            head.extend_from_slice(word);
            head.push(0);
        }
        write_at_once(to, [&head, &self.body, &[]])
    }

    /// Reads a question.
    ///
    /// # Errors
    /// The stream's error, or `InvalidData` for anything but a question.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let announced = Announced::read(from)?;
        let words = announced.words(from)?;
        announced.rest(words, from)
    }
}

/// Header of a question, of which nothing else has been read yet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Announced {
    /// Kind of the question.
    pub kind: Kind,
    /// Length of its words in bytes, at most [`MAX_WORDS`].
    pub words: usize,
    /// Length of its body in bytes, at most [`MAX_BODY`].
    pub body: usize,
}

impl Announced {
    /// Reads a question's header.
    ///
    /// # Errors
    /// The stream's error, or `InvalidData` for anything but a question.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let header = header(from)?;
        let mut parts = header.split(' ');
        let kind = match parts.next() {
            Some("hook") => Kind::Hook,
            Some("ask") => Kind::Ask,
            _ => return Err(garbage("no question of virtfit")),
        };
        let words = number(parts.next(), MAX_WORDS)?;
        let body = number(parts.next(), MAX_BODY)?;
        ended(parts.next())?;
        Ok(Self { kind, words, body })
    }

    /// Reads the question's words, which follow the header.
    ///
    /// # Errors
    /// The errors of [`Announced::read`].
    pub fn words(self, from: &mut impl BufRead) -> io::Result<Vec<Vec<u8>>> {
        let words = exactly(from, self.words)?;
        if words.last().is_some_and(|last| *last != 0) {
            return Err(garbage("words that do not end"));
        }
        let mut words: Vec<Vec<u8>> = words.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        words.pop();
        Ok(words)
    }

    /// Reads the body, which follows the words.
    ///
    /// # Errors
    /// The errors of [`Announced::read`].
    pub fn rest(self, words: Vec<Vec<u8>>, from: &mut impl BufRead) -> io::Result<Question> {
        Ok(Question {
            kind: self.kind,
            words,
            body: exactly(from, self.body)?,
        })
    }
}

impl Reply {
    /// Writes the answer.
    ///
    /// # Errors
    /// The stream's error.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (stdout, stderr) = (self.stdout.len(), self.stderr.len());
        let head = format!("virtfit 1 {} {stdout} {stderr}\n", self.exit);
        write_at_once(to, [head.as_bytes(), &self.stdout, &self.stderr])
    }

    /// Reads an answer.
    ///
    /// # Errors
    /// The stream's error, or `InvalidData` for anything but an answer.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let header = header(from)?;
        let mut parts = header.split(' ');
        let exit = number(parts.next(), usize::from(u8::MAX))?;
        let stdout = number(parts.next(), MAX_BODY)?;
        let stderr = number(parts.next(), MAX_BODY)?;
        ended(parts.next())?;
        Ok(Self {
            exit: u8::try_from(exit).map_err(|_| garbage("an exit code that cannot be"))?,
            stdout: exactly(from, stdout)?,
            stderr: exactly(from, stderr)?,
        })
    }
}

/// Writes pieces one after the other, mostly in one call: the reader wakes up once, and the pieces
/// need not be copied together.
fn write_at_once(to: &mut impl Write, mut pieces: [&[u8]; 3]) -> io::Result<()> {
    while pieces.iter().any(|piece| !piece.is_empty()) {
        let mut wrote = match to.write_vectored(&pieces.map(IoSlice::new)) {
            Ok(0) => return Err(ErrorKind::WriteZero.into()),
            Ok(wrote) => wrote,
            Err(error) if error.kind() == ErrorKind::Interrupted => continue,
            Err(error) => return Err(error),
        };
        for piece in &mut pieces {
            let (gone, left) = piece.split_at(wrote.min(piece.len()));
            wrote -= gone.len();
            *piece = left;
        }
    }
    to.flush()
}

/// Reads the header line and returns it without `virtfit 1 ` and its line end.
fn header(from: &mut impl BufRead) -> io::Result<String> {
    let mut line = Vec::new();
    from.take(MAX_HEADER).read_until(b'\n', &mut line)?;
    if line.is_empty() {
        return Err(ErrorKind::UnexpectedEof.into());
    }
    let text = line
        .strip_prefix(b"virtfit 1 ")
        .and_then(|rest| rest.strip_suffix(b"\n"))
        .and_then(|rest| std::str::from_utf8(rest).ok());
    text.map(str::to_owned)
        .ok_or_else(|| garbage("not what virtfit 1 says"))
}

/// Parses a decimal number, digits alone, of at most `most`.
fn number(word: Option<&str>, most: usize) -> io::Result<usize> {
    word.filter(|word| word.bytes().all(|byte| byte.is_ascii_digit()))
        .and_then(|word| word.parse().ok())
        .filter(|number| *number <= most)
        .ok_or_else(|| garbage("a number that cannot be"))
}

/// Checks that a header has no further words.
fn ended(rest: Option<&str>) -> io::Result<()> {
    match rest {
        None => Ok(()),
        Some(_) => Err(garbage("a header that goes on")),
    }
}

/// Reads exactly `length` bytes. Beyond [`USUAL_BODY`] the buffer grows with the bytes that come,
/// not with the announced length.
fn exactly(from: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::with_capacity(length.min(USUAL_BODY));
    from.take(length as u64).read_to_end(&mut bytes)?;
    if bytes.len() == length {
        Ok(bytes)
    } else {
        Err(ErrorKind::UnexpectedEof.into())
    }
}

fn garbage(what: &str) -> io::Error {
    io::Error::new(ErrorKind::InvalidData, what)
}

/// Stream whose reads and writes all end by one moment, with [`ErrorKind::TimedOut`].
#[derive(Debug)]
pub struct Timed<'a> {
    stream: &'a UnixStream,
    until: Instant,
}

impl<'a> Timed<'a> {
    /// Limits a stream to the moment `until`. The stream must be a blocking one.
    pub fn new(stream: &'a UnixStream, until: Instant) -> Self {
        Self { stream, until }
    }

    fn left(&self) -> io::Result<Duration> {
        let left = self.until.saturating_duration_since(Instant::now());
        if left.is_zero() {
            Err(ErrorKind::TimedOut.into())
        } else {
            // The kernel takes 0 as no limit, and counts in microseconds.
            Ok(left.max(Duration::from_micros(100)))
        }
    }
}

impl Read for Timed<'_> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        // The bytes are mostly there already.
        match recv(self.stream.as_raw_fd(), into, MsgFlags::MSG_DONTWAIT) {
            Ok(got) => return Ok(got),
            Err(Errno::EAGAIN | Errno::EINTR) => {}
            Err(error) => return Err(error.into()),
        }
        self.stream.set_read_timeout(Some(self.left()?))?;
        (&mut &*self.stream).read(into).map_err(timed_out)
    }
}

impl Write for Timed<'_> {
    fn write(&mut self, from: &[u8]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        (&mut &*self.stream).write(from).map_err(timed_out)
    }

    fn write_vectored(&mut self, from: &[IoSlice<'_>]) -> io::Result<usize> {
        self.stream.set_write_timeout(Some(self.left()?))?;
        (&mut &*self.stream).write_vectored(from).map_err(timed_out)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Converts the `EAGAIN` by which the kernel reports the end of a socket's timeout.
fn timed_out(error: io::Error) -> io::Error {
    match error.kind() {
        ErrorKind::WouldBlock => ErrorKind::TimedOut.into(),
        _ => error,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
