//! Notes of a status: what is not as it should be, or worth knowing, of the host and of each guest.
//!
//! `docs/status.md` has the table of all codes. A code, once published, keeps its meaning; texts
//! may change.

use serde::{Deserialize, Serialize};

/// Code of a note, for programs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Code {
    /// `/run/virtfit/disabled` exists.
    Disabled,
    /// No daemon answers.
    NoDaemon,
    /// libvirt finds no hook of virtfit's.
    HookMissing,
    /// The hook is there and libvirt cannot execute it.
    HookNotExecutable,
    /// A guest started, or libvirt did, and the hook was not called.
    HookNotCalled,
    /// libvirt runs for longer than the hook is installed, and has had no reason to call it yet.
    HookNotCalledYet,
    /// The policy's files have errors; the last good policy, if there is one, is used.
    PolicyBroken,
    /// The policy's CPU sets name what this host does not have or cannot give.
    CpuSets,
    /// A thread runs, or may run, where its guest's XML does not let it.
    ThreadElsewhere,
    /// Two guests hold one CPU.
    CpuHeldTwice,
    /// A guest may run on CPUs that another holds.
    OnHeldCpu,
    /// A guest runs without the CPUs its profile asks for.
    NoPlace,
    /// A guest runs without pins it could have.
    NotPinned,
    /// A guest holds CPUs, and its profile asks for none.
    HoldsTooMuch,
    /// A vCPU that is to have a CPU of its own was pinned elsewhere by hand.
    PinnedAway,
    /// A bug in virtfit was met with a guest.
    Failed,
    /// A guest whose place cannot be worked out.
    Undecidable,
    /// A guest started without a decision.
    Undecided,
    /// A guest failed to start right after virtfit changed it.
    FailedStart,
    /// A status file or definition cannot be read.
    Unreadable,
    /// Observe mode: what a guest would have.
    Observe,
    /// Definitions that start together at host boot claim the same CPUs.
    BootClaimsOverlap,
    /// Definitions claim the same CPUs.
    ClaimsOverlap,
    /// A guest has settings of virtfit's, and no profile.
    LeftOver,
    /// Pins that an administrator wrote, and that stay.
    SetByHand,
    /// A guest without definition.
    Transient,
    /// The definition has what the guest does not run with.
    Restart,
    /// `virtfit apply` would change the definition.
    Apply,
    /// Running guests hold what the definition claims.
    ClaimHeld,
    /// A guest would run without the CPUs its profile asks for, if it was started now.
    NoPlaceNow,
    /// A guest would be refused, if it was started now.
    RefusedNow,
    /// Code of a later version.
    #[serde(other)]
    Other,
}

/// One note.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Its code.
    pub code: Code,
    /// The same for people.
    pub text: String,
    /// Something is not as it should be: `virtfit status` ends with 3.
    pub wrong: bool,
}

impl Code {
    /// Whether `virtfit status` ends with 3 for it.
    pub fn is_wrong(self) -> bool {
        match self {
            Self::Disabled
            | Self::NoDaemon
            | Self::HookMissing
            | Self::HookNotExecutable
            | Self::HookNotCalled
            | Self::PolicyBroken
            | Self::ThreadElsewhere
            | Self::CpuHeldTwice
            | Self::OnHeldCpu
            | Self::NoPlace
            | Self::NotPinned
            | Self::HoldsTooMuch
            | Self::PinnedAway
            | Self::Failed
            | Self::Undecidable
            | Self::Undecided
            | Self::FailedStart
            | Self::BootClaimsOverlap => true,
            Self::HookNotCalledYet
            | Self::CpuSets
            | Self::Unreadable
            | Self::Observe
            | Self::ClaimsOverlap
            | Self::LeftOver
            | Self::SetByHand
            | Self::Transient
            | Self::Restart
            | Self::Apply
            | Self::ClaimHeld
            | Self::NoPlaceNow
            | Self::RefusedNow
            | Self::Other => false,
        }
    }

    /// Whether the note says what waits for a start, or would come of one.
    pub fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Restart | Self::Apply | Self::ClaimHeld | Self::NoPlaceNow | Self::RefusedNow
        )
    }
}

impl Note {
    /// A note that is as wrong as its code.
    pub fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            wrong: code.is_wrong(),
        }
    }

    /// The same note where something is not as it should be, whatever its code says.
    #[must_use]
    pub fn wrong(self) -> Self {
        Self { wrong: true, ..self }
    }
}

/// `db`, `db and web`, `db, web and 3 more`.
pub fn names(mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.dedup();
    match names.as_slice() {
        [] => String::new(),
        [one] => (*one).to_string(),
        [first, second] => format!("{first} and {second}"),
        [first, second, third] => format!("{first}, {second} and {third}"),
        [first, second, rest @ ..] => format!("{first}, {second} and {} more", rest.len()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_code_of_a_later_version_is_no_error() {
        let note: Note = serde_json::from_str(r#"{"code":"moon-phase","text":"full","wrong":true}"#).unwrap();
        assert_eq!((note.code, note.wrong), (Code::Other, true));
        let known = serde_json::to_string(&Note::new(Code::CpuHeldTwice, "x")).unwrap();
        assert_eq!(known, r#"{"code":"cpu-held-twice","text":"x","wrong":true}"#);
    }

    #[test]
    fn many_names_are_counted() {
        for (given, expected) in [
            (&["a"][..], "a"),
            (&["b", "a", "b"], "a and b"),
            (&["c", "b", "a"], "a, b and c"),
            (&["d", "c", "b", "a"], "a, b and 2 more"),
        ] {
            assert_eq!(names(given.to_vec()), expected);
        }
    }
}
