//! Decision by `virtfit hook` if the daemon gives no answer.
//!
//! `virtfit hook` runs as a child rather than in the place of this process: it links hwloc and may
//! crash or hang, and neither may stop a guest or keep libvirt's pipes open.

use std::fmt;
use std::fs::File;
use std::io::{self, Read, Seek, Write};
use std::os::fd::AsFd;
use std::os::unix::process::ExitStatusExt;
use std::path::PathBuf;
use std::process::{Child, ChildStderr, Command, ExitStatus, Stdio};
use std::time::Duration;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::memfd::{MFdFlags, memfd_create};

use crate::answer::Answer;
use crate::clock::{self, Clock};
use crate::step::Step;
use virtfit_hook::program;
use virtfit_hook::wire::{MAX_BODY, Reply};

/// Path of virtfit if it is not in the folder of this program.
const USUAL: &str = "/usr/bin/virtfit";
/// Least time that a decision takes; with less, the child is not started.
const LEAST: Duration = Duration::from_millis(20);
/// Largest size of the child's stderr that is kept, in bytes.
const MAX_LINES: usize = 64 << 10;

/// Reason why `virtfit hook` made no decision.
#[derive(Debug)]
struct NoDecision {
    program: PathBuf,
    fault: Fault,
}

#[derive(Debug)]
enum Fault {
    /// The program, or the memory for its input and output, cannot be had.
    NotRun(io::ErrorKind),
    /// The program did not end in time.
    Hangs,
    /// The program ended without an answer, in these words.
    Ended(String),
    /// The program wrote more than [`MAX_BODY`] bytes.
    TooMuch,
}

impl fmt::Display for NoDecision {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.program.display();
        let neither = format_args!("virtfitd does not answer and {name}");
        match &self.fault {
            Fault::NotRun(kind) => write!(f, "{neither} cannot be run: {kind}"),
            Fault::Hangs => write!(f, "{neither} hangs"),
            Fault::Ended(how) => write!(f, "{neither} {how}"),
            Fault::TooMuch => write!(f, "{name} answered with more than {} MiB", MAX_BODY >> 20),
        }
    }
}

/// Runs `virtfit hook` and makes its answer the hook's.
pub(crate) fn run(step: &Step<'_>, xml: &[u8], clock: &Clock) -> Answer {
    if clock.left(clock::END) < LEAST {
        return step.broken("there is no time left to decide", xml);
    }
    match decided(step, xml, clock) {
        Ok(reply) => step.answer(reply),
        Err(why) => step.broken(&why.to_string(), xml),
    }
}

/// Returns the answer of `virtfit hook`; `Err`: the reason for which there is none.
fn decided(step: &Step<'_>, xml: &[u8], clock: &Clock) -> Result<Reply, NoDecision> {
    let program = program::installed_at(USUAL);
    let failed = |fault| NoDecision {
        program: program.clone(),
        fault,
    };
    let cannot = |error: io::Error| failed(Fault::NotRun(error.kind()));
    // The XML and the answer go through memory, so that neither side can block the other.
    let memory = || memfd_create("virtfit-hook", MFdFlags::MFD_CLOEXEC).map(File::from);
    let mut stdin = memory().map_err(|error| cannot(error.into()))?;
    stdin
        .write_all(xml)
        .and_then(|()| stdin.rewind())
        .map_err(cannot)?;
    let mut stdout = memory().map_err(|error| cannot(error.into()))?;
    let its_stdout = stdout.try_clone().map_err(cannot)?;
    let mut child = Command::new(&program)
        .args(["hook", "--spent", &clock.spent_ms().to_string()])
        .args(["--parent", &std::os::unix::process::parent_id().to_string(), "--"])
        .args(step.words())
        .stdin(stdin)
        .stdout(its_stdout)
        .stderr(Stdio::piped())
        .spawn()
        .map_err(cannot)?;
    // The child closes its stderr when it ends, so reading it is also the wait for the end.
    let stderr = child
        .stderr
        .take()
        .map(|pipe| lines(pipe, clock))
        .unwrap_or_default();
    let Some(status) = ended(&mut child, clock) else {
        // There is no wait after the kill: a process that hangs in the kernel does not end by it.
        let _ = child.kill();
        return Err(failed(Fault::Hangs));
    };
    // An exit code that this step may not end with is no answer.
    let exit = status.code().and_then(|code| u8::try_from(code).ok());
    let Some(exit) = exit.filter(|exit| step.may_end_with(*exit)) else {
        return Err(failed(Fault::Ended(how(status, &stderr))));
    };
    // The bound keeps a child that writes without end from filling memory.
    let mut said = Vec::new();
    stdout.rewind().map_err(cannot)?;
    stdout
        .take(MAX_BODY as u64 + 1)
        .read_to_end(&mut said)
        .map_err(cannot)?;
    if said.len() > MAX_BODY {
        return Err(failed(Fault::TooMuch));
    }
    Ok(Reply {
        exit,
        stdout: said,
        stderr,
    })
}

/// Reads the child's stderr until the child closes it, or the time is over.
fn lines(mut pipe: ChildStderr, clock: &Clock) -> Vec<u8> {
    let mut kept = Vec::new();
    let mut piece = [0; 4096];
    loop {
        let left = clock.left(clock::END);
        if left.is_zero() {
            return kept;
        }
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(pipe.as_fd(), PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => continue,
            Ok(_) => {}
            Err(_) => return kept,
        }
        match pipe.read(&mut piece) {
            Ok(0) => return kept,
            Ok(got) => {
                let room = MAX_LINES.saturating_sub(kept.len());
                kept.extend_from_slice(piece.get(..got.min(room)).unwrap_or_default());
            }
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return kept,
        }
    }
}

/// Returns the child's exit status; `None`: the child still runs and the time is over.
fn ended(child: &mut Child, clock: &Clock) -> Option<ExitStatus> {
    loop {
        // The status is mostly there at once, as the child has closed its stderr.
        if let Some(status) = child.try_wait().ok()? {
            return Some(status);
        }
        if clock.left(clock::END).is_zero() {
            return None;
        }
        std::thread::sleep(Duration::from_micros(200));
    }
}

fn how(status: ExitStatus, stderr: &[u8]) -> String {
    let ended = match (status.code(), status.signal()) {
        (Some(code), _) => format!("ended with exit {code}"),
        (None, Some(signal)) => format!("died of signal {signal}"),
        (None, None) => "ended".into(),
    };
    let text = String::from_utf8_lossy(stderr);
    match text.lines().find(|line| !line.trim().is_empty()) {
        Some(line) => format!("{ended}: {}", line.trim()),
        None => ended,
    }
}
