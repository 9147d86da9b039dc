//! Asking the daemon: what an ordinary user may not read for himself.

use std::io::{self, BufReader};
use std::os::unix::net::UnixStream;
use std::time::{Duration, Instant};

use nix::unistd::geteuid;

use crate::cli::Failure;
use crate::cli::outcome::io_text;
use crate::hostfs::HostFs;
use virtfit_hook::wire::{Kind, Question, Reply, SOCKET, Timed};

/// How long the daemon may take.
const PATIENCE: Duration = Duration::from_secs(10);

/// Whether this user has to ask: only root can read what guests hold and their definitions.
pub fn has_to(root: &HostFs) -> bool {
    root.is_real() && !geteuid().is_root()
}

/// How long a daemon may take to say that it is there.
const ALIVE: Duration = Duration::from_millis(500);

/// Whether a daemon answers. One that is stopped or hangs does not.
pub fn is_answered(root: &HostFs) -> bool {
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

/// The daemon's answer.
///
/// # Errors
/// It does not answer, or says no.
pub fn ask(root: &HostFs, words: &[&str]) -> Result<Vec<u8>, Failure> {
    let path = root.path(SOCKET);
    let broken = |error: io::Error| {
        Failure::Broken(format!(
            "{}: {}: only root can read who holds what; run it as root, or start virtfitd and be in group libvirt",
            path.display(),
            io_text(&error)
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
