//! Domain's XML on stdin.

use std::io;
use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::clock::{self, Clock};
use virtfit_hook::wire::MAX_BODY;

/// Failure to read stdin to its end.
#[derive(Debug)]
pub(crate) struct Cut {
    /// Reason of the failure.
    pub why: String,
    /// Part that was read until then.
    pub xml: Vec<u8>,
}

/// Size in bytes that the XML of most guests does not exceed; the buffer doubles when it is full.
/// A larger buffer would cost a page fault for each page, and faults are most of this program's
/// time.
const ROOM: usize = 16 << 10;

/// Reads stdin to its end, within a time limit and a size limit.
///
/// # Errors
/// stdin does not end in time, is larger than 16 MiB, or cannot be read.
pub(crate) fn read(clock: &Clock) -> Result<Vec<u8>, Cut> {
    let stdin = io::stdin();
    let mut xml = vec![0; ROOM];
    let mut have = 0;
    let end = loop {
        match wait(stdin.as_fd(), clock) {
            Ok(true) => {}
            Ok(false) => {
                let ms = clock::INPUT.as_millis();
                break Err(format!("the XML on stdin did not end within {ms} ms"));
            }
            Err(error) => break Err(format!("cannot read stdin: {}", error.desc())),
        }
        if have == xml.len() {
            xml.resize(2 * have, 0);
        }
        match nix::unistd::read(stdin.as_fd(), xml.get_mut(have..).unwrap_or_default()) {
            Ok(0) => break Ok(()),
            Ok(got) => have += got,
            Err(Errno::EINTR) => {}
            Err(error) => break Err(format!("cannot read stdin: {}", error.desc())),
        }
        if have > MAX_BODY {
            break Err(format!("the XML on stdin is larger than {} MiB", MAX_BODY >> 20));
        }
    };
    xml.truncate(have);
    match end {
        Ok(()) => Ok(xml),
        Err(why) => Err(Cut { why, xml }),
    }
}

/// Waits until there is something to read, or the end; `false`: the time is over.
fn wait(fd: std::os::fd::BorrowedFd<'_>, clock: &Clock) -> nix::Result<bool> {
    loop {
        let left = clock.left(clock::INPUT);
        if left.is_zero() {
            return Ok(false);
        }
        // Rounded up: otherwise the loop would spin through the rest of a millisecond.
        let timeout = PollTimeout::try_from(left.as_millis() + 1).unwrap_or(PollTimeout::MAX);
        match poll(&mut [PollFd::new(fd, PollFlags::POLLIN)], timeout) {
            Ok(0) | Err(Errno::EINTR) => {}
            Ok(_) => return Ok(true),
            Err(error) => return Err(error),
        }
    }
}
