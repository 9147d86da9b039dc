//! Reasons about the profile of a guest.

use std::fmt;

reasons! {
    /// Profile of a guest, and why it changes nothing.
    Choice {
        /// No rule matches, and the guest asks for no profile.
        NoRule = "no-rule",
        /// No rule matches.
        NoRuleMatches = "no-rule-matches",
        /// The profile leaves guests alone.
        LeftAlone { profile: String } = "left-alone",
        /// The guest asks in its own XML to be left alone.
        AskedForThat { guest: String } = "asked-to-be-left-alone",
        /// The guest's type is not one that QEMU runs.
        NotQemu { kind: String } = "not-qemu",
        /// The provenance cannot be read, for the reason in `error`.
        RecordUnreadable { error: String } = "record-unreadable",
        /// The guest carries virtfit's settings, and no rule matches it; `revert`: the command that
        /// takes them out.
        Leftover { revert: String } = "leftover",
        /// The policy has errors, and plans are made by the last one without.
        LastGoodPolicy = "last-good-policy",
    }
}

reasons! {
    /// Reason why a guest may not have the profile it asks for, as the end of a sentence.
    Denied {
        /// The policy has no such profile; `hint` names a near one.
        NoSuchProfile { hint: String } = "request-unknown-profile",
        /// The policy follows no requests.
        NoRequests = "requests-are-off",
        /// The policy's list of profiles does not name this one.
        NotListed = "request-not-listed",
        /// The profile takes `more` than the rule gives; `ruled`: the rule's profile.
        TakesMore { more: &'static str, ruled: Option<String> } = "request-takes-more",
    }
}

impl Choice {
    /// Returns the command that the words end in.
    pub(super) fn command(&self) -> Option<String> {
        match self {
            Self::AskedForThat { guest } => Some(format!("virtfit profile unset {guest}")),
            Self::Leftover { revert } => Some(revert.clone()),
            _ => None,
        }
    }
}

impl fmt::Display for Choice {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("no rule matches and it asks for no profile"),
            Self::NoRuleMatches => f.write_str("no rule matches"),
            Self::LeftAlone { profile } => write!(f, "profile {profile} leaves it alone"),
            Self::AskedForThat { guest } => write!(
                f,
                "it asks for that itself; to let the rules decide: virtfit profile unset {guest}"
            ),
            Self::NotQemu { kind } => write!(f, "type '{kind}' is not run by QEMU"),
            Self::RecordUnreadable { error } => write!(f, "left as it is: {error}"),
            Self::Leftover { revert } => {
                write!(f, "carries virtfit's settings though no rule matches: {revert}")
            }
            Self::LastGoodPolicy => f.write_str("planned by the last good policy"),
        }
    }
}

impl fmt::Display for Denied {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoSuchProfile { hint } => write!(f, "there is no such profile{hint}"),
            Self::NoRequests => f.write_str("requests = \"none\""),
            Self::NotListed => f.write_str("requests does not name it"),
            Self::TakesMore {
                more,
                ruled: Some(ruled),
            } => write!(
                f,
                "it {more}, which the profile of its rule, '{ruled}', does not (requests = \"safe\")"
            ),
            Self::TakesMore { more, ruled: None } => {
                write!(
                    f,
                    "it {more}, and no rule gives it a profile (requests = \"safe\")"
                )
            }
        }
    }
}
