//! Reasons: why a plan is as it is. Each reason is data with a stable code, and its words are made
//! here and nowhere else.
//!
//! ```text
//! choice    the profile of a guest: which one, and why it changes nothing
//! no_place  nothing fits: the wish that no CPU or memory of the host can meet
//! given     values written by hand that this host cannot honour
//! outcome   the course that is taken, and notes on the placement
//! shape     parts of the topology shown that are not real
//! start     a guest that starts cannot have the CPUs of its XML
//! basis     a value is written, taken out or left
//! left_out  a part of a profile is left out
//! sets      the policy's CPU sets name what the host does not have
//! ```
//!
//! A code, once published, keeps its meaning; words may change. No code decides by the words of a
//! reason: it matches the variant.

use std::fmt;

/// Declares the reasons of one topic, each with its code.
macro_rules! reasons {
    (
        $(#[$doc:meta])*
        $name:ident {
            $(
                $(#[$about:meta])*
                $variant:ident $({ $($(#[$part:meta])* $field:ident: $kind:ty),* $(,)? })? = $code:literal,
            )*
        }
    ) => {
        $(#[$doc])*
        // A variant's doc names its fields.
        #[allow(missing_docs)]
        #[derive(Debug, Clone, PartialEq, Eq)]
        pub enum $name {
            $(
                $(#[$about])*
                $variant $({ $($(#[$part])* $field: $kind),* })?,
            )*
        }

        impl $name {
            #[cfg(test)]
            /// Codes of this topic, in the order of its variants.
            pub(crate) const CODES: &'static [&'static str] = &[$($code),*];

            /// Returns the reason's code.
            // A topic whose reasons are parts of another one's has codes that only tests read.
            #[allow(dead_code)]
            pub(crate) fn code(&self) -> &'static str {
                match self {
                    $(Self::$variant { .. } => $code,)*
                }
            }
        }
    };
}

mod amounts;
mod basis;
mod choice;
mod given;
mod left_out;
mod no_place;
mod outcome;
mod sets;
mod shape;
mod start;

pub(crate) use amounts::Holders;
pub use basis::Basis;
pub use choice::{Choice, Denied};
pub(crate) use given::{Given, GivenValue};
pub use left_out::LeftOut;
pub use no_place::{NoPlace, WholeCores};
pub use outcome::{Excludes, Outcome};
pub(crate) use sets::SetWarning;
pub use shape::{Unmirrored, Untrue};
pub(crate) use start::Start;

/// Reason in a plan.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Reason {
    /// About the guest's profile.
    Choice(Choice),
    /// About the profile that the guest asks for in its own XML, and that it is not given.
    Request {
        /// Name of that profile.
        asked: String,
        /// Reason against it.
        why: Denied,
    },
    /// Nothing fits.
    NoPlace(NoPlace),
    /// About a value written by hand.
    Given(Given),
    /// About the course that is taken.
    Outcome(Outcome),
    /// About the topology that is shown.
    Untrue(Untrue),
    /// About a guest that starts.
    Start(Start),
    /// About a value.
    Basis(Basis),
    /// About a part of a profile.
    LeftOut(LeftOut),
    /// About the policy's CPU sets.
    SetWarning(SetWarning),
}

impl Reason {
    /// Returns the stable code, for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::Choice(reason) => reason.code(),
            Self::Request { why, .. } => why.code(),
            Self::NoPlace(reason) => reason.code(),
            Self::Given(reason) => reason.code(),
            Self::Outcome(reason) => reason.code(),
            Self::Untrue(reason) => reason.code(),
            Self::Start(reason) => reason.code(),
            Self::Basis(reason) => reason.code(),
            Self::LeftOut(reason) => reason.code(),
            Self::SetWarning(reason) => reason.code(),
        }
    }

    /// Lists the codes of all reasons.
    #[cfg(test)]
    pub(crate) fn codes() -> impl Iterator<Item = &'static str> {
        [
            Choice::CODES,
            Denied::CODES,
            NoPlace::CODES,
            Given::CODES,
            Outcome::CODES,
            Untrue::CODES,
            Start::CODES,
            Basis::CODES,
            LeftOut::CODES,
            SetWarning::CODES,
        ]
        .into_iter()
        .flatten()
        .copied()
    }

    /// Returns the command that the words end in, `: virtfit revert db`; `None`: there is none.
    pub(crate) fn command(&self) -> Option<String> {
        match self {
            Self::Choice(reason) => reason.command(),
            Self::Outcome(reason) => reason.command(),
            _ => None,
        }
    }

    /// Returns whether the reason holds on this host with or without other guests.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(self, Self::NoPlace(reason) if reason.is_lasting())
    }

    /// Returns the words without the command at their end.
    pub(crate) fn said(&self) -> String {
        without_command(&self.to_string(), self.command().as_deref()).to_string()
    }

    /// Returns the words as a line that names its guest once.
    pub(crate) fn with_guest(&self, guest: &str) -> String {
        match self {
            Self::NoPlace(reason) if reason.is_need() => format!("{guest} {self}"),
            Self::Start(reason) if reason.is_of_the_guests() => format!("{guest}'s {self}"),
            _ => format!("{guest}: {self}"),
        }
    }
}

/// Returns a text without the command at its end, `: virtfit revert db`.
pub(crate) fn without_command<'t>(text: &'t str, command: Option<&str>) -> &'t str {
    let said = command.and_then(|command| text.strip_suffix(command)?.strip_suffix(": "));
    said.unwrap_or(text)
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Choice(reason) => reason.fmt(f),
            Self::Request { asked, why } => {
                write!(f, "its request for profile '{asked}' is not followed: {why}")
            }
            Self::NoPlace(reason) => reason.fmt(f),
            Self::Given(reason) => reason.fmt(f),
            Self::Outcome(reason) => reason.fmt(f),
            Self::Untrue(reason) => reason.fmt(f),
            Self::Start(reason) => reason.fmt(f),
            Self::Basis(reason) => reason.fmt(f),
            Self::LeftOut(reason) => reason.fmt(f),
            Self::SetWarning(reason) => reason.fmt(f),
        }
    }
}

macro_rules! topics {
    ($($topic:ident),*) => {
        $(impl From<$topic> for Reason {
            fn from(reason: $topic) -> Self {
                Self::$topic(reason)
            }
        })*
    };
}

topics!(
    Choice, NoPlace, Given, Outcome, Untrue, Start, Basis, LeftOut, SetWarning
);

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn codes_are_kebab_case_and_each_is_one_reason() {
        let codes: Vec<&str> = Reason::codes().collect();
        let kebab = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        for code in &codes {
            assert!(code.chars().all(kebab) && code.len() <= 32, "{code}");
        }
        let once: BTreeSet<&&str> = codes.iter().collect();
        assert_eq!(once.len(), codes.len(), "{codes:?}");
    }

    #[test]
    fn the_page_has_every_code() {
        let page = concat!(env!("CARGO_MANIFEST_DIR"), "/docs/reasons.md");
        let page = std::fs::read_to_string(page).unwrap_or_default();
        let rows = page
            .lines()
            .filter_map(|line| line.strip_prefix("| `")?.split('`').next());
        let told: BTreeSet<&str> = rows.collect();
        assert_eq!(
            told,
            Reason::codes().collect(),
            "docs/reasons.md, and the codes there are"
        );
    }

    #[test]
    fn a_reason_names_its_guest_once() {
        let few = NoPlace::HostTooSmall { need: 4, has: 2 };
        assert_eq!(
            Reason::from(few).with_guest("db"),
            "db needs 4 CPUs, but this host has only 2 dedicated CPUs"
        );
        let none = Reason::from(NoPlace::NoDedicatedCpus);
        assert_eq!(
            none.with_guest("db"),
            "db: this host has no dedicated CPUs (host.dedicated)"
        );
    }
}
