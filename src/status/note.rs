//! Notes of a status: what is wrong, or worth knowing, on the host and with each guest.
//!
//! `docs/status.md` has the table of all codes. A code, once published, keeps its meaning; texts
//! may change.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::types::reason::without_command;

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
    /// Neither a daemon of libvirt runs, nor does systemd listen for one.
    LibvirtDown,
    /// The policy's files have errors; the last good policy, if there is one, is used.
    PolicyBroken,
    /// The policy's CPU sets name CPUs this host does not have or cannot give.
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
    /// A vCPU that should have a CPU of its own was pinned elsewhere by hand.
    PinnedAway,
    /// A guest binds more memory to nodes than they have.
    MemoryBeyondNodes,
    /// A bug in virtfit was met with a guest.
    Failed,
    /// The placement of a guest cannot be worked out.
    Undecidable,
    /// A guest started without a decision.
    Undecided,
    /// A guest failed to start right after virtfit changed it.
    FailedStart,
    /// A status file or definition cannot be read.
    Unreadable,
    /// In observe mode: what a guest would be given.
    Observe,
    /// Definitions that start together at host boot claim the same CPUs.
    BootClaimsOverlap,
    /// Definitions claim the same CPUs.
    ClaimsOverlap,
    /// A guest has virtfit's settings, and no profile.
    LeftOver,
    /// A guest asks in its own XML to be left alone.
    AskedToBeLeftAlone,
    /// The profile that a guest asks for in its own XML is not the one it has.
    RequestNotFollowed,
    /// A definition was copied from another guest's, with virtfit's record of that guest.
    Copied,
    /// A change of the definition may be lost, as virtfit defined the guest in that moment.
    ChangeLost,
    /// Pins that an administrator wrote, and that stay.
    SetByHand,
    /// A guest has no definition.
    Transient,
    /// The definition differs from what the guest runs with.
    Restart,
    /// `virtfit apply` would change the definition.
    Apply,
    /// Running guests hold what the definition claims.
    ClaimHeld,
    /// A guest would run without the CPUs its profile asks for, if it started now.
    NoPlaceNow,
    /// A guest would be refused, if it started now.
    RefusedNow,
    /// Code of a later version.
    #[serde(other)]
    Other,
}

/// Note on the host or a guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Note {
    /// Code, for programs.
    pub code: Code,
    /// Text, for people.
    pub text: String,
    /// Something is not as it should be: `virtfit status` exits with 3.
    pub wrong: bool,
    /// Command that mends it or is its next step, which the text ends in; left out: there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub command: Option<String>,
}

impl Code {
    /// Returns whether `virtfit status` exits with 3 for the code.
    fn is_wrong(self) -> bool {
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
            | Self::MemoryBeyondNodes
            | Self::Failed
            | Self::Undecidable
            | Self::Undecided
            | Self::FailedStart
            | Self::BootClaimsOverlap => true,
            Self::HookNotCalledYet
            | Self::LibvirtDown
            | Self::CpuSets
            | Self::Unreadable
            | Self::Observe
            | Self::ClaimsOverlap
            | Self::LeftOver
            | Self::AskedToBeLeftAlone
            | Self::RequestNotFollowed
            | Self::Copied
            | Self::ChangeLost
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

    /// Returns whether the note is about what waits for a start, or what a start would lead to.
    pub(crate) fn is_pending(self) -> bool {
        matches!(
            self,
            Self::Restart | Self::Apply | Self::ClaimHeld | Self::NoPlaceNow | Self::RefusedNow
        )
    }
}

impl Note {
    /// Makes a note that is as wrong as its code.
    pub(crate) fn new(code: Code, text: impl Into<String>) -> Self {
        Self {
            code,
            text: text.into(),
            wrong: code.is_wrong(),
            command: None,
        }
    }

    /// Makes a note as [`Note::new`] does, with a command at the end of its text.
    pub(crate) fn with_command(code: Code, said: impl fmt::Display, command: impl Into<String>) -> Self {
        let command = command.into();
        Self {
            command: Some(command.clone()),
            ..Self::new(code, format!("{said}: {command}"))
        }
    }

    /// Returns the text without the command at its end.
    pub(crate) fn said(&self) -> &str {
        without_command(&self.text, self.command.as_deref())
    }

    /// Returns the note as a wrong one, whatever its code says.
    #[must_use]
    pub(crate) fn wrong(self) -> Self {
        Self { wrong: true, ..self }
    }
}

/// Joins names: `db`, `db and web`, `db, web and 3 more`.
pub(crate) fn names(mut names: Vec<&str>) -> String {
    names.sort_unstable();
    names.dedup();
    first_names(&names, names.len())
}

/// Joins names of which only the first ones, three or more, are at hand, `count` in all.
pub(crate) fn first_names(names: &[&str], count: usize) -> String {
    match (names, count) {
        ([], _) => String::new(),
        ([one], _) => (*one).to_string(),
        ([first, second], _) => format!("{first} and {second}"),
        ([first, second, third, ..], 3) => format!("{first}, {second} and {third}"),
        ([first, second, ..], _) => format!("{first}, {second} and {} more", count - 2),
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
    fn a_command_is_a_field_and_the_end_of_the_text() {
        let note = Note::with_command(Code::LeftOver, "no rule matches", "virtfit revert db");
        assert_eq!(note.text, "no rule matches: virtfit revert db");
        assert_eq!(
            (note.said(), note.command.as_deref()),
            ("no rule matches", Some("virtfit revert db"))
        );
        assert_eq!(Note::new(Code::Restart, "a: b").said(), "a: b");
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
