//! Answer that libvirt gets.

use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};

use virtfit_hook::text::visible;

/// Exit code and streams.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Answer {
    /// Exit code.
    pub exit: u8,
    /// Text that libvirt may take as the domain's XML.
    pub stdout: Vec<u8>,
    /// Lines for people.
    pub stderr: Vec<u8>,
}

impl Answer {
    /// Makes an answer of one line on stderr, with exit code 0.
    pub(crate) fn line(text: &str) -> Self {
        Self {
            stderr: format!("{text}\n").into_bytes(),
            ..Self::default()
        }
    }

    /// Writes the streams and returns the exit code. A closed pipe is no failure of the hook.
    pub(crate) fn give(self) -> u8 {
        write(std::io::stderr().as_fd(), &shown(self.stderr));
        write(std::io::stdout().as_fd(), &self.stdout);
        self.exit
    }
}

/// Makes lines for people safe to print: they name the guest.
fn shown(stderr: Vec<u8>) -> Vec<u8> {
    let plain = |byte: &u8| matches!(byte, b'\n' | b' '..=b'~');
    match stderr.iter().all(plain) {
        true => stderr,
        false => visible(&String::from_utf8_lossy(&stderr)).into_bytes(),
    }
}

/// Writes all bytes at once, without a line buffer in between.
fn write(to: BorrowedFd<'_>, bytes: &[u8]) {
    if bytes.is_empty() {
        return;
    }
    if let Ok(fd) = to.try_clone_to_owned() {
        let _ = File::from(fd).write_all(bytes);
    }
}
