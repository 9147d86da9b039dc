//! The question before much is written.

use std::io::{self, BufRead, IsTerminal, Write};

use crate::cli::output;

/// Asks on a terminal, with what is to be done before the question; anything but `y` or `yes` is no. Not with `--yes`, and not
/// where stdin is no terminal: a script knows what it does.
pub fn confirmed(yes: bool, list: &str, question: &str) -> bool {
    let stdin = io::stdin();
    if yes || !stdin.is_terminal() {
        return true;
    }
    let mut stderr = io::stderr();
    let _ = write!(stderr, "{}{question} [y/N] ", output::visible(list));
    let _ = stderr.flush();
    let mut answer = String::new();
    let _ = stdin.lock().read_line(&mut answer);
    matches!(answer.trim(), "y" | "Y" | "yes")
}
