//! What a command comes to.

use std::io;
use std::process::ExitCode;

/// Exit codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub enum Exit {
    /// Done.
    #[default]
    Done = 0,
    /// Input, host, or virtfit itself is broken.
    Broken = 1,
    /// The command line makes no sense.
    Usage = 2,
    /// The answer is no: refused, or (`--exit-code`) something would change.
    No = 3,
}

impl From<Exit> for ExitCode {
    fn from(exit: Exit) -> Self {
        ExitCode::from(exit as u8)
    }
}

/// What a command that worked wants written.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// The whole answer.
    pub stdout: String,
    /// Lines for stderr; the first comes first.
    pub stderr: Vec<String>,
    /// How it ends.
    pub exit: Exit,
}

impl Outcome {
    /// Ends with this exit code where nothing was broken before.
    pub fn worsen(&mut self, exit: Exit) {
        if self.exit == Exit::Done {
            self.exit = exit;
        }
    }

    /// An answer.
    pub fn answer(stdout: impl Into<String>) -> Self {
        Self {
            stdout: stdout.into(),
            ..Self::default()
        }
    }
}

/// What is added to an error that only root does not get.
pub const ROOT_ONLY: &str =
    ": run it as root; members of group libvirt may only look (virtfit plan GUEST, virtfit status)";

/// Why there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Failure {
    /// Broken: exit 1. Several lines only where several errors are told at once.
    Broken(String),
    /// Usage: exit 2.
    Usage(String),
}

impl Failure {
    /// Something about a file or other input.
    pub fn at(label: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Self::Broken(format!("{label}: {problem}"))
    }

    /// What the operating system said about a file.
    pub fn io(label: impl std::fmt::Display, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => ROOT_ONLY,
            _ => "",
        };
        Self::Broken(format!("{label}: {}{hint}", io_text(error)))
    }

    /// The text, without the program's name.
    pub fn message(&self) -> &str {
        match self {
            Self::Broken(text) | Self::Usage(text) => text,
        }
    }

    /// As it is written: nothing on stdout.
    pub fn into_outcome(self) -> Outcome {
        let exit = match self {
            Self::Broken(_) => Exit::Broken,
            Self::Usage(_) => Exit::Usage,
        };
        Outcome {
            stdout: String::new(),
            stderr: vec![format!("virtfit: {}", self.message().trim_end())],
            exit,
        }
    }
}

/// An I/O error without `(os error 2)`.
pub fn io_text(error: &io::Error) -> String {
    without_errno(&error.to_string())
}

/// A message without `(os error 2)` anywhere in it.
pub fn without_errno(text: &str) -> String {
    let mut out = String::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once(" (os error ") {
        out.push_str(before);
        rest = after.split_once(')').map_or("", |(_, rest)| rest);
    }
    out + rest
}
