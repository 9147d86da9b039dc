//! Second look under the lock, at the files that can have changed since a decision was made.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::SystemTime;

use crate::host::libvirt_process;
use crate::hostfs::HostFs;
use crate::hostfs::records;
use crate::ledger::reader::cache::Cache;
use crate::ledger::reader::files::{AtOnce, Unread, files, shown};
use crate::ledger::reader::{LedgerError, Reading, seconds};
use crate::ledger::reservation::{self, Daemon, Reservation};

/// Files of the ledger that change within moments, read without opening any guest's XML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Promises {
    /// Valid reservations.
    pub reservations: Vec<Reservation>,
    /// Files of void reservations, by stem.
    pub void: Vec<String>,
    /// Names of the guests that have a status file.
    pub running: Arc<BTreeSet<String>>,
    /// Warnings about files that could not be read, for people.
    pub warnings: Vec<String>,
}

/// Reads reservations and the names of running guests: the second look under the lock.
///
/// # Errors
/// The errors of [`read`](crate::ledger::reader::read).
pub(crate) fn glance(root: &HostFs, now: SystemTime) -> Result<Promises, LedgerError> {
    glance_with(root, now, &mut Cache::default())
}

/// Reads as [`glance`] does, with a cache.
///
/// # Errors
/// The errors of [`read`](crate::ledger::reader::read).
pub(crate) fn glance_with(
    root: &HostFs,
    now: SystemTime,
    cache: &mut Cache,
) -> Result<Promises, LedgerError> {
    cache.folders.take_note();
    cache.list_starts(root)?;
    glance_at(root, now, cache)
}

/// Returns `true` if all reservations of a reading are still valid, provided that only time and
/// processes changed since.
pub(crate) fn all_count(root: &HostFs, now: SystemTime, reading: &Reading) -> bool {
    let mut voids = Voids::at(root, now);
    let mut all = reading.reservations.iter();
    all.all(|reservation| voids.why(reservation, &reading.running).is_none())
}

/// Judge of reservations at one moment.
struct Voids<'r> {
    root: &'r HostFs,
    since: u64,
    boot_id: Option<String>,
    /// libvirt daemons by process id; mostly one daemon ran all hooks.
    daemons: BTreeMap<u32, Daemon>,
}

impl<'r> Voids<'r> {
    fn at(root: &'r HostFs, now: SystemTime) -> Self {
        Self {
            root,
            since: seconds(now),
            boot_id: libvirt_process::boot_id(root),
            daemons: BTreeMap::new(),
        }
    }

    /// Returns the reason for which a reservation is void, as [`Reservation::void`].
    fn why(&mut self, reservation: &Reservation, running: &BTreeSet<String>) -> Option<&'static str> {
        let has_status = running.contains(&reservation.name);
        let pid = reservation.pid;
        // The daemon of a guest that runs does not matter.
        let daemon = match has_status {
            true => Daemon::Unknown,
            false => *self
                .daemons
                .entry(pid)
                .or_insert_with(|| libvirt_process::daemon(self.root, pid)),
        };
        reservation.void(self.since, self.boot_id.as_deref(), daemon, has_status)
    }
}

/// Reads the listed reservations and judges them.
pub(crate) fn glance_at(root: &HostFs, now: SystemTime, cache: &mut Cache) -> Result<Promises, LedgerError> {
    let mut glance = Promises {
        running: cache.status.listing.names(),
        ..Promises::default()
    };
    let mut voids = Voids::at(root, now);
    let parse = |stem: &str, text: &str| records::parse::<Reservation>(stem, text).map_err(Unread::from);
    let path = |stem: &str| shown(root, reservation::FOLDER, stem, "json");
    for file in files(
        root,
        reservation::FOLDER,
        "json",
        now,
        &mut cache.reservations,
        AtOnce::HOLDERS,
        parse,
    )? {
        let reservation = match file.said {
            Ok(reservation) => reservation,
            Err(error) => {
                glance.warnings.push(format!("{}: {error}", path(file.stem)));
                continue;
            }
        };
        if let Some(why) = voids.why(&reservation, &glance.running) {
            log::debug!("{}: void: {why}", path(file.stem));
            glance.void.push(file.stem.to_string());
            continue;
        }
        glance.reservations.push(reservation);
    }
    Ok(glance)
}
