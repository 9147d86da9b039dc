//! Programs that are fed on stdin.
#![allow(clippy::unwrap_used, unreachable_pub)]

use std::io::Write as _;
use std::process::{Command, Output, Stdio};

/// Runs a program with these bytes on stdin and returns what it said. A program may answer before
/// it has read all, or without reading: a thread writes.
pub fn feed(command: &mut Command, stdin: &[u8]) -> Output {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = stdin.to_vec();
    let writer = std::thread::spawn(move || {
        let _ = pipe.write_all(&bytes);
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    output
}
