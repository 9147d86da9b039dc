//! Finding of one check: the verdict, what it was read from, what it means, and what mends it.

use serde::Serialize;

/// Verdict of a check, the mildest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Verdict {
    /// Read, and as it should be.
    Pass,
    /// Worth knowing, or not known on this host.
    Info,
    /// Guests run, with less than their profile promises.
    Warn,
    /// Guests do not get what their profile promises, or do not start.
    Fail,
}

impl Verdict {
    /// Returns the word that reports print.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Pass => "PASS",
            Self::Info => "INFO",
            Self::Warn => "WARN",
            Self::Fail => "FAIL",
        }
    }
}

/// Cure of a finding: words, and commands for them in their order.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub(crate) struct Mend {
    /// Words for what to do, or for what the commands do.
    pub text: String,
    /// Commands for root's shell, each whole.
    pub commands: Vec<String>,
}

/// Finding of one check for one profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Finding {
    /// Verdict.
    pub verdict: Verdict,
    /// `false` where this host does not have what the check reads.
    pub known: bool,
    /// Files and values that were read.
    pub read: String,
    /// Consequence, in one line.
    pub means: String,
    /// Cure; null: none is needed or known.
    pub mend: Option<Mend>,
}

impl Finding {
    fn new(verdict: Verdict, read: impl Into<String>, means: impl Into<String>) -> Self {
        Self {
            verdict,
            known: true,
            read: read.into(),
            means: means.into(),
            mend: None,
        }
    }

    pub(super) fn pass(read: impl Into<String>, means: impl Into<String>) -> Self {
        Self::new(Verdict::Pass, read, means)
    }

    pub(super) fn info(read: impl Into<String>, means: impl Into<String>) -> Self {
        Self::new(Verdict::Info, read, means)
    }

    pub(super) fn warn(read: impl Into<String>, means: impl Into<String>) -> Self {
        Self::new(Verdict::Warn, read, means)
    }

    pub(super) fn fail(read: impl Into<String>, means: impl Into<String>) -> Self {
        Self::new(Verdict::Fail, read, means)
    }

    /// Makes the finding of a check that has nothing to read here: `read` says what is not there.
    pub(super) fn unknown(read: impl Into<String>) -> Self {
        Self {
            known: false,
            ..Self::new(Verdict::Info, read, "not known on this host")
        }
    }

    /// Makes the finding of a check whose file or folder is not there.
    pub(super) fn absent(path: &str) -> Self {
        Self::unknown(format!("{path} is absent"))
    }

    /// Makes a warning for profiles to which it is one, else a note.
    pub(super) fn warn_if(bad: bool, read: impl Into<String>, means: impl Into<String>) -> Self {
        let verdict = if bad { Verdict::Warn } else { Verdict::Info };
        Self::new(verdict, read, means)
    }

    /// Adds the cure.
    pub(super) fn mend(self, mend: Mend) -> Self {
        Self {
            mend: Some(mend),
            ..self
        }
    }

    /// Adds a cure in words alone.
    pub(super) fn advise(self, text: impl Into<String>) -> Self {
        self.mend(Mend {
            text: text.into(),
            commands: Vec::new(),
        })
    }

    /// Adds a cure by commands.
    pub(super) fn run<const N: usize>(self, text: impl Into<String>, commands: [String; N]) -> Self {
        self.mend(Mend {
            text: text.into(),
            commands: commands.into(),
        })
    }

    /// Returns the order in which one of several findings is shown: the worst, and of equal ones
    /// the one that is known.
    pub(super) fn weight(&self) -> (Verdict, bool) {
        (self.verdict, self.known)
    }
}
