//! Reservations: CPUs, memory and pins promised to a guest before it runs, one small JSON file
//! each.
//!
//! Protocol
//! ```text
//! /run/virtfit/                        0755 root
//!   lock                               flock: held only for "is it still free?" and the rename, never while computing
//!   reservations/                      0755 root
//!     UUID.json                        one guest, 0600; complete or absent
//!     .virtfit.PID.N                   being written; never read, left behind only by a crash
//!   undecided/                         0755 root: guests that started without a decision ([`crate::ledger::undecided`])
//! ```
//! - **Written** by `prepare` (firm) and `migrate`/`restore begin` (tentative), under the lock, by
//!   write, then rename. A second write for the same UUID replaces the first: running the hook
//!   twice is harmless.
//! - **Removed** by `release`. Removing a missing file is no error, so removing twice is harmless.
//! - **Read** without the lock; a reader sees a file completely or not at all. `ENOENT` means that
//!   there is no reservation.
//! - **Void** ([`Reservation::void`]) after another boot; if tentative, after
//!   [`TENTATIVE_SECONDS`]; and if the libvirt daemon that ran the hook is gone (or its pid is
//!   another process by now) and libvirt has no status file of the guest. A void file counts for
//!   nothing; the next holder of the lock may remove it.

pub use crate::host::libvirt_process::{Daemon, start_time};
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::hostfs::records::{self, Record, RecordError};
use crate::ledger::{Holder, MemoryUse};
use crate::types::ids::{IothreadId, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet};

/// Folder of the reservations on the host.
pub(crate) const FOLDER: &str = "/run/virtfit/reservations";
/// Lifetime of a tentative reservation, in seconds: `prepare` follows `migrate`/`restore begin`
/// within moments or not at all.
pub(crate) const TENTATIVE_SECONDS: u64 = 30;
/// Version of the format; only this one is read.
pub(crate) const VERSION: u32 = 1;

/// Reservation file.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Reservation {
    /// Always [`VERSION`].
    pub version: u32,
    /// Guest's UUID, lower case with dashes; also the file's name.
    pub uuid: String,
    /// Guest's name.
    pub name: String,
    /// CPUs reserved for vCPUs, and for an isolated emulator and isolated iothreads.
    pub cpus: CpuSet,
    /// Siblings withheld from all other guests.
    #[serde(default)]
    pub withheld: CpuSet,
    /// Reserved memory by node and page size.
    #[serde(default)]
    pub memory: Vec<ReservedMemory>,
    /// `/proc/sys/kernel/random/boot_id` at the time of writing.
    pub boot_id: String,
    /// Process id of the libvirt daemon that ran the hook, found among the hook's ancestors.
    pub pid: u32,
    /// Field 22 of that daemon's `/proc/PID/stat`: its start, in clock ticks since boot.
    pub start_time: u64,
    /// End of a tentative reservation, in seconds since the epoch; null: firm.
    #[serde(default)]
    pub tentative_until: Option<u64>,
    /// Time of writing, in seconds since the epoch.
    pub written_at: u64,
    /// CPUs for the guest's threads once it runs, if its XML does not have them: these pins are set
    /// live at `started`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub pins: Option<ReservedPins>,
}

/// Pins for a guest that starts with other pins than it is to have, or with none.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedPins {
    /// CPUs of each vCPU; a vCPU with several floats on them.
    pub vcpus: BTreeMap<VcpuId, CpuSet>,
    /// CPUs of the emulator threads; empty: left alone.
    #[serde(default)]
    pub emulator: CpuSet,
    /// CPUs of each iothread.
    #[serde(default)]
    pub iothreads: BTreeMap<IothreadId, CpuSet>,
}

/// Piece of a reservation's memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ReservedMemory {
    /// Host node; null: any.
    pub node: Option<NodeId>,
    /// Huge page size; null: small pages.
    pub page_kib: Option<KiB>,
    /// Size of the piece.
    pub kib: KiB,
}

impl Record for Reservation {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o755;
    const NOT_ONE: &'static str = "not a reservation: ";
    const FORMAT: Option<(&'static str, u32)> = Some(("reservation format", VERSION));

    fn uuid(&self) -> Option<&str> {
        Some(&self.uuid)
    }
}

impl Reservation {
    /// Parses the text of a reservation file.
    ///
    /// # Errors
    /// The text is not JSON of this form, or is of another version.
    pub fn from_json(text: &str) -> Result<Self, RecordError> {
        records::parse_text(text)
    }

    /// Returns the text of the reservation's file, one line.
    ///
    /// # Errors
    /// None that is known; serialisation is fallible by type.
    pub fn to_json(&self) -> Result<String, RecordError> {
        records::text_of(self)
    }

    /// Returns the reason for which the reservation is void; `None`: it is valid. `now` is in
    /// seconds since the epoch, `boot_id` that of the running kernel if it is known.
    pub fn void(
        &self,
        now: u64,
        boot_id: Option<&str>,
        daemon: Daemon,
        has_status: bool,
    ) -> Option<&'static str> {
        if boot_id.is_some_and(|boot_id| boot_id != self.boot_id) {
            return Some("it is from before the last boot");
        }
        // An end that is further away than a tentative reservation can last means that the clock
        // was set back.
        let expired = |until: u64| now >= until || until - now > TENTATIVE_SECONDS;
        if self.tentative_until.is_some_and(expired) {
            return Some("it was tentative and its time is over");
        }
        let orphaned = match daemon {
            Daemon::Unknown => false,
            Daemon::Gone => true,
            Daemon::StartedAt(start) => start != self.start_time,
        };
        if orphaned && !has_status {
            return Some("the libvirt daemon it was written for is gone and the guest does not run");
        }
        None
    }

    /// Finds a guest's reservation. Only the UUID tells: a guest that comes in may have the name of
    /// one that runs, until libvirt refuses it.
    pub fn of<'r>(all: &'r [Self], uuid: &str) -> Option<&'r Self> {
        all.iter()
            .find(|reservation| reservation.uuid.eq_ignore_ascii_case(uuid))
    }

    /// Converts the reservation to an entry of the ledger: each CPU is a pin of its own, because a
    /// reservation never floats.
    pub fn holder(&self) -> Holder {
        Holder {
            uuid: self.uuid.to_ascii_lowercase(),
            name: self.name.clone(),
            pins: self.cpus.iter().map(CpuSet::one).collect(),
            withheld: self.withheld.clone(),
            memory: self.memory.iter().map(|piece| piece.to_use()).collect(),
            starting: true,
            reservation: true,
            ..Holder::default()
        }
    }
}

impl ReservedMemory {
    fn to_use(self) -> MemoryUse {
        MemoryUse {
            amount: self.kib,
            page: self.page_kib,
            nodes: self.node.into_iter().collect::<NodeSet>(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::type_complexity)]
mod tests;
