//! Outcome of a command.

use crate::hostfs::at_path::io_words;
use std::io;
use std::process::ExitCode;

/// Exit codes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Exit {
    /// The command did what was asked.
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

/// Outcome of a command that worked.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Outcome {
    /// Complete answer.
    pub stdout: String,
    /// Lines for stderr, in order.
    pub stderr: Vec<String>,
    /// Exit code.
    pub exit: Exit,
}

impl Outcome {
    /// Sets the exit code, unless a worse one is set.
    pub(crate) fn worsen(&mut self, exit: Exit) {
        if self.exit == Exit::Done {
            self.exit = exit;
        }
    }

    /// Makes an outcome that has an answer and exit code 0.
    pub(crate) fn answer(stdout: impl Into<String>) -> Self {
        Self {
            stdout: stdout.into(),
            ..Self::default()
        }
    }
}

/// Hint after an error that root would not get.
pub(crate) const ROOT_ONLY: &str =
    ": run it as root; members of group libvirt may only look (virtfit plan GUEST, virtfit status)";

/// Failure of a command: there is no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Failure {
    /// Exit 1. Several lines only where several errors are reported at once.
    Broken(String),
    /// Exit 2: wrong usage.
    Usage(String),
}

impl Failure {
    /// Makes a failure about a file or another input.
    pub(crate) fn at(label: impl std::fmt::Display, problem: impl std::fmt::Display) -> Self {
        Self::Broken(format!("{label}: {problem}"))
    }

    /// Makes a failure from the operating system's error about a file.
    pub(crate) fn io(label: impl std::fmt::Display, error: &io::Error) -> Self {
        let hint = match error.kind() {
            io::ErrorKind::PermissionDenied => ROOT_ONLY,
            _ => "",
        };
        Self::Broken(format!("{label}: {}{hint}", io_words(error)))
    }

    /// Returns the text, without the program's name.
    pub(crate) fn message(&self) -> &str {
        match self {
            Self::Broken(text) | Self::Usage(text) => text,
        }
    }

    /// Puts other errors, which came first, before this one.
    #[must_use]
    pub(crate) fn after(self, errors: &str) -> Self {
        let before = |text: String| format!("{}\nvirtfit: {text}", errors.trim_end());
        match self {
            Self::Broken(text) => Self::Broken(before(text)),
            Self::Usage(text) => Self::Usage(before(text)),
        }
    }

    /// Puts a line behind this one, on what follows from it.
    #[must_use]
    pub(crate) fn then(self, line: &str) -> Self {
        let behind = |text: String| format!("{}\nvirtfit: {line}", text.trim_end());
        match self {
            Self::Broken(text) => Self::Broken(behind(text)),
            Self::Usage(text) => Self::Usage(behind(text)),
        }
    }

    /// Converts the failure to an outcome: nothing on stdout.
    pub(crate) fn into_outcome(self) -> Outcome {
        self.into_outcome_of("virtfit")
    }

    /// Converts the failure as [`Failure::into_outcome`] does, for the program of this name.
    pub(crate) fn into_outcome_of(self, program: &str) -> Outcome {
        let exit = match self {
            Self::Broken(_) => Exit::Broken,
            Self::Usage(_) => Exit::Usage,
        };
        Outcome {
            stdout: String::new(),
            stderr: vec![format!("{program}: {}", self.message().trim_end())],
            exit,
        }
    }
}
