//! Questions to the daemon, for data an ordinary user may not read.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use crate::cli::Failure;
use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use virtfit_hook::wire::{Kind, Question, Reply, SOCKET, Timed};

/// Time the daemon may take to answer.
const PATIENCE: Duration = Duration::from_secs(10);

/// Returns whether this user has to ask: only root can read definitions and what guests hold.
pub(crate) fn has_to(root: &HostFs) -> bool {
    root.is_real() && !geteuid().is_root()
}

/// Time a daemon may take to say that it is there.
const ALIVE: Duration = Duration::from_millis(500);

/// Returns whether a daemon answers. One that is stopped or hangs does not.
pub(crate) fn is_answered(root: &HostFs) -> bool {
    let question = Question {
        kind: Kind::Ask,
        words: vec![b"alive".to_vec()],
        body: Vec::new(),
    };
    let asked = || -> io::Result<Reply> {
        let stream = UnixStream::connect(root.path(SOCKET))?;
        let mut timed = Timed::new(&stream, Instant::now() + ALIVE);
        question.write(&mut timed)?;
        Reply::read(&mut BufReader::new(timed))
    };
    asked().is_ok()
}

/// Returns the daemon's answer.
///
/// # Errors
/// The daemon does not answer, or refuses.
pub(crate) fn ask(root: &HostFs, words: &[&str]) -> Result<Vec<u8>, Failure> {
    let path = root.path(SOCKET);
    let broken = |error: io::Error| {
        Failure::Broken(format!(
            "{}: {}: only root can read who holds what; run it as root, or start virtfitd and be in group libvirt",
            path.display(),
            io_words(&error)
        ))
    };
    let mut stream = UnixStream::connect(&path).map_err(broken)?;
    stream.set_read_timeout(Some(PATIENCE)).map_err(broken)?;
    stream.set_write_timeout(Some(PATIENCE)).map_err(broken)?;
    let question = Question {
        kind: Kind::Ask,
        words: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
        body: Vec::new(),
    };
    question.write(&mut stream).map_err(broken)?;
    let reply = Reply::read(&mut BufReader::new(stream)).map_err(broken)?;
    if reply.exit == 0 {
        return Ok(reply.stdout);
    }
    let said = String::from_utf8_lossy(&reply.stderr);
    Err(Failure::Broken(format!("virtfitd: {}", said.trim())))
}
