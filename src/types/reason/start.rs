//! Reasons about a guest that starts.

use std::fmt;

use crate::types::idset::CpuSet;
use crate::types::plural::{cpus, is_or_are, list};

reasons! {
    /// Reason why a guest that starts cannot have the CPUs of its XML.
    Start {
        /// Other guests hold CPUs that the guest is pinned to.
        CpusHeld { cpus: CpuSet, by: Vec<String> } = "cpus-held",
        /// The guest is pinned to CPUs that are offline, or that the host allows no guest.
        CpusUnusable { cpus: CpuSet } = "cpus-unusable",
        /// Two vCPUs that need a CPU of their own are pinned to one.
        PinnedTwice { cpus: CpuSet } = "pinned-twice",
        /// virtfit pinned the guest to CPUs that are not in the dedicated set.
        NotDedicated { cpus: CpuSet } = "pins-not-dedicated",
        /// The XML has no pins yet.
        NotPinnedYet = "not-pinned-yet",
        /// The XML was copied, and its pins are another guest's.
        CopiedPins = "copied-pins",
        /// The XML has pins, but not for every thread that gets a CPU of its own.
        PinsMissing = "pins-missing",
        /// The memory is bound to nodes that are full.
        MemoryBound = "memory-bound-to-full-nodes",
        /// Too few of the huge pages that the XML asks for are free.
        PagesNotFree = "pages-not-free",
        /// Other guests hold CPUs that an administrator pinned the guest to.
        PinsStay { cpus: CpuSet, by: Vec<String> } = "held-pins-stay",
        /// Other CPUs are free: the daemon writes them into the definition.
        Moved { why: Box<Start>, to: CpuSet } = "moved",
        /// Other CPUs are free: `virtfit apply` writes them into the definition.
        CouldMove { why: Box<Start>, to: CpuSet, guest: String } = "could-move",
    }
}

impl Start {
    /// Returns whether the words begin with something that is the guest's: `db's CPUs 3-4 …`.
    pub(crate) fn is_of_the_guests(&self) -> bool {
        match self {
            Self::PinsStay { .. } => true,
            Self::Moved { why, .. } | Self::CouldMove { why, .. } => {
                matches!(**why, Self::CpusHeld { .. } | Self::MemoryBound)
            }
            _ => false,
        }
    }
}

impl fmt::Display for Start {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpusHeld { cpus, by } => f.write_str(&held(cpus, by)),
            Self::CpusUnusable { cpus: set } => {
                let are = is_or_are(set.len());
                write!(
                    f,
                    "its XML pins it to {}, which {are} offline or not for guests",
                    cpus(set)
                )
            }
            Self::PinnedTwice { cpus: set } => write!(f, "its XML pins two of its vCPUs to {}", cpus(set)),
            Self::NotDedicated { cpus: set } => {
                let are = is_or_are(set.len());
                write!(
                    f,
                    "its XML pins it to {}, which {are} not dedicated now",
                    cpus(set)
                )
            }
            Self::NotPinnedYet => f.write_str("its XML does not pin it yet"),
            Self::CopiedPins => f.write_str("its XML was copied, with another guest's pins"),
            Self::PinsMissing => f.write_str("its XML lacks some of them"),
            Self::MemoryBound => f.write_str("memory is bound by its XML to nodes that are full"),
            Self::PagesNotFree => f.write_str("too few of the huge pages that its XML asks for are free"),
            Self::PinsStay { cpus, by } => {
                write!(f, "{}, and its pins are not virtfit's to move", held(cpus, by))
            }
            Self::Moved { why, to } => write!(f, "{why}; moved to {}, start it again", cpus(to)),
            Self::CouldMove { why, to, guest } => {
                let are = is_or_are(to.len());
                write!(
                    f,
                    "{why}; {} {are} free: virtfit apply {guest}, then start it again",
                    cpus(to)
                )
            }
        }
    }
}

/// Names the guests that hold CPUs: `CPUs 3-4 are held by db and web`.
fn held(set: &CpuSet, by: &[String]) -> String {
    format!("{} {} held by {}", cpus(set), is_or_are(set.len()), list(by))
}
