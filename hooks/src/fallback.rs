//! Without an answer of the daemon: `virtfit hook` decides by itself.
//!
//! It runs as a child rather than in place of this process: it may crash or hang (it links hwloc),
//! and neither may stop a guest, nor keep libvirt's pipes open.

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
use virtfit_hook::wire::{MAX_BODY, Reply};

/// Where it is when it is not next to this program.
const USUAL: &str = "/usr/bin/virtfit";
/// With less time than this it could not decide.
const LEAST: Duration = Duration::from_millis(20);
/// As much of its stderr is kept, in bytes.
const MAX_LINES: usize = 64 << 10;

/// Runs it and says what it says.
pub fn run(step: &Step<'_>, xml: &[u8], clock: &Clock) -> Answer {
    if clock.left(clock::END) < LEAST {
        return step.broken("there is no time left to decide", xml);
    }
    match decided(step, xml, clock) {
        Ok(reply) => step.answer(reply),
        Err(why) => step.broken(&why, xml),
    }
}

/// What it answered; `Err`: why it did not.
fn decided(step: &Step<'_>, xml: &[u8], clock: &Clock) -> Result<Reply, String> {
    let program = program();
    let cannot = |error: io::Error| {
        format!(
            "virtfitd does not answer and {} cannot be run: {}",
            program.display(),
            error.kind()
        )
    };
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
    let stderr = child
        .stderr
        .take()
        .map(|pipe| lines(pipe, clock))
        .unwrap_or_default();
    let name = program.display();
    let Some(status) = ended(&mut child, clock) else {
        // Not waited for: a process that hangs in the kernel does not end by this either.
        let _ = child.kill();
        return Err(format!("virtfitd does not answer and {name} hangs"));
    };
    let exit = status.code().and_then(|code| u8::try_from(code).ok());
    let Some(exit) = exit.filter(|exit| step.may_end_with(*exit)) else {
        return Err(format!(
            "virtfitd does not answer and {name} {}",
            how(status, &stderr)
        ));
    };
    let mut said = Vec::new();
    stdout.rewind().map_err(cannot)?;
    stdout
        .take(MAX_BODY as u64 + 1)
        .read_to_end(&mut said)
        .map_err(cannot)?;
    if said.len() > MAX_BODY {
        return Err(format!("{name} answered with more than {} MiB", MAX_BODY >> 20));
    }
    Ok(Reply {
        exit,
        stdout: said,
        stderr,
    })
}

/// In the folder of this program's own file, else where packages put it.
fn program() -> PathBuf {
    let beside = std::env::current_exe()
        .ok()
        .map(|own| own.with_file_name("virtfit"));
    beside
        .filter(|path| path.is_file())
        .unwrap_or_else(|| USUAL.into())
}

/// Its stderr until it closes it, or the time is over.
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

/// How it ended; `None`: not yet, and the time is over.
fn ended(child: &mut Child, clock: &Clock) -> Option<ExitStatus> {
    loop {
        // Mostly at once: it has closed its stderr.
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
