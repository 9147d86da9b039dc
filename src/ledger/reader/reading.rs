//! The ledger as one reading found it.

use std::collections::BTreeSet;
use std::io::{self, ErrorKind};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

use crate::ledger::Ledger;
use crate::ledger::reservation::Reservation;
use crate::ledger::undecided::Undecided;

/// Ledger as read, with warnings.
#[derive(Serialize, Deserialize, Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Holders and claims.
    pub ledger: Ledger,
    /// Files that could not be taken into account, one line each, for people.
    pub warnings: Vec<String>,
    /// Names of the guests that have a status file: they run or start.
    pub running: BTreeSet<String>,
    /// Names of the guests that libvirt starts by itself.
    pub autostart: BTreeSet<String>,
    /// Valid reservations, as in their files; [`Ledger::holders`] has them too.
    pub reservations: Vec<Reservation>,
    /// Guests that started undecided: their CPUs may be held by other guests too. For people.
    pub undecided: Vec<Undecided>,
}

/// Reason for which the ledger cannot be read. The errors name the file or folder.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// Access is denied, as to an ordinary user.
    #[error(
        "cannot read who holds what: {0}: run it as root (members of group libvirt ask virtfitd), or give --assume-empty"
    )]
    Denied(io::Error),
    /// Any other error of the kernel.
    #[error("cannot read who holds what: {0}")]
    Io(io::Error),
}

impl From<io::Error> for LedgerError {
    fn from(error: io::Error) -> Self {
        match error.kind() {
            ErrorKind::PermissionDenied => Self::Denied(error),
            _ => Self::Io(error),
        }
    }
}

/// Returns the seconds since the epoch; 0 before it.
pub(crate) fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
