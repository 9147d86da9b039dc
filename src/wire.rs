//! What is said over `/run/virtfit/virtfitd.sock`: one question and one answer a connection.
//!
//! ```text
//! question: virtfit 1 KIND WORDS BODY\n   then WORDS bytes of words, each ended by a NUL, then BODY bytes
//! answer:   virtfit 1 EXIT STDOUT STDERR\n then STDOUT bytes for stdout, then STDERR bytes for stderr
//! ```
//! KIND is `hook` (words: guest, operation, suboperation, extra, pid of the libvirt daemon; body: the XML; only from root) or
//! `ask` (words: a question and its arguments; body: what the question says). Lengths are decimal. The asker keeps the connection
//! open until it ends: the daemon knows by the end of it that a hook has ended.
//!
//! This file uses only the standard library and nothing else of this package: `virtfit-hook` includes it as it is.

use std::io::{self, BufRead, ErrorKind, Read, Write};

/// Where the daemon listens, on the host.
pub const SOCKET: &str = "/run/virtfit/virtfitd.sock";
/// While this file exists, every door is a no-op.
pub const DISABLED: &str = "/run/virtfit/disabled";
/// The longest words, in bytes.
pub const MAX_WORDS: usize = 64 << 10;
/// The longest body, stdout or stderr, in bytes.
pub const MAX_BODY: usize = 16 << 20;
/// The longest header line, in bytes.
const MAX_HEADER: u64 = 128;

/// What kind of question it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// libvirt's hook runs.
    Hook,
    /// Anything else.
    Ask,
}

/// A question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// Its kind.
    pub kind: Kind,
    /// Its words, as bytes: guests may be called anything but what holds a NUL.
    pub words: Vec<Vec<u8>>,
    /// Its body.
    pub body: Vec<u8>,
}

/// An answer.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Reply {
    /// Exit code of the asker.
    pub exit: u8,
    /// What it shall print.
    pub stdout: Vec<u8>,
    /// What it shall say on stderr.
    pub stderr: Vec<u8>,
}

impl Question {
    /// Writes it.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let kind = match self.kind {
            Kind::Hook => "hook",
            Kind::Ask => "ask",
        };
        let mut words = Vec::new();
        for word in &self.words {
            words.extend_from_slice(word);
            words.push(0);
        }
        let mut all = format!("virtfit 1 {kind} {} {}\n", words.len(), self.body.len()).into_bytes();
        all.append(&mut words);
        all.extend_from_slice(&self.body);
        to.write_all(&all)?;
        to.flush()
    }

    /// Reads one.
    ///
    /// # Errors
    /// What the stream says, or `InvalidData` for anything that is no question.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let header = header(from)?;
        let mut parts = header.split(' ');
        let kind = match parts.next() {
            Some("hook") => Kind::Hook,
            Some("ask") => Kind::Ask,
            _ => return Err(garbage("no question of virtfit")),
        };
        let words = length(parts.next(), MAX_WORDS)?;
        let body = length(parts.next(), MAX_BODY)?;
        let words = exactly(from, words)?;
        if words.last().is_some_and(|last| *last != 0) {
            return Err(garbage("words that do not end"));
        }
        let mut words: Vec<Vec<u8>> = words.split(|byte| *byte == 0).map(<[u8]>::to_vec).collect();
        words.pop();
        Ok(Self {
            kind,
            words,
            body: exactly(from, body)?,
        })
    }
}

impl Reply {
    /// Writes it.
    ///
    /// # Errors
    /// What the stream says.
    pub fn write(&self, to: &mut impl Write) -> io::Result<()> {
        let (stdout, stderr) = (self.stdout.len(), self.stderr.len());
        let mut all = format!("virtfit 1 {} {stdout} {stderr}\n", self.exit).into_bytes();
        all.extend_from_slice(&self.stdout);
        all.extend_from_slice(&self.stderr);
        to.write_all(&all)?;
        to.flush()
    }

    /// Reads one.
    ///
    /// # Errors
    /// What the stream says, or `InvalidData` for anything that is no answer.
    pub fn read(from: &mut impl BufRead) -> io::Result<Self> {
        let header = header(from)?;
        let mut parts = header.split(' ');
        let exit = parts.next().and_then(|exit| exit.parse().ok());
        let exit = exit.ok_or_else(|| garbage("no answer of virtfitd"))?;
        let stdout = length(parts.next(), MAX_BODY)?;
        let stderr = length(parts.next(), MAX_BODY)?;
        Ok(Self {
            exit,
            stdout: exactly(from, stdout)?,
            stderr: exactly(from, stderr)?,
        })
    }
}

/// The header line without `virtfit 1 ` and its end.
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

fn length(word: Option<&str>, most: usize) -> io::Result<usize> {
    word.and_then(|word| word.parse().ok())
        .filter(|length| *length <= most)
        .ok_or_else(|| garbage("a length that cannot be"))
}

fn exactly(from: &mut impl BufRead, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
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
