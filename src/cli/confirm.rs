//! Question before many guests are changed.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::Failure;
use crate::types::plural::counted;
use crate::types::printable::visible;

/// Options and words with which a command that writes was called.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Asking {
    /// `--yes` was given.
    pub yes: bool,
    /// One guest was named, so it is clear what changes.
    pub one: bool,
}

/// Asks on a terminal whether so many guests should change, with `list` before the question;
/// anything but `y` or `yes` is no. With `--yes` nothing is asked.
///
/// # Errors
/// There is no terminal to ask on, several guests may change, and `--yes` was not given.
pub(crate) fn confirmed(asking: Asking, list: &str, verb: &str, count: usize) -> Result<bool, Failure> {
    if asking.yes {
        return Ok(true);
    }
    let stdin = io::stdin();
    let guests = counted(count, "guest");
    if !stdin.is_terminal() {
        return match asking.one {
            // A script that names a guest has decided already.
            true => Ok(true),
            false => Err(Failure::Usage(format!(
                "{verb} {guests}? There is no terminal to ask on: nothing was written; --yes goes ahead"
            ))),
        };
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{}{verb} {guests}? [y/N] ", visible(list));
    let _ = stderr.flush();
    let mut answer = String::new();
    let _ = stdin.lock().read_line(&mut answer);
    Ok(matches!(answer.trim(), "y" | "Y" | "yes"))
}
