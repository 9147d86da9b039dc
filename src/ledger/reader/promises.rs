//! Second look under the lock, at the files that can have changed since a decision was made.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use crate::host::libvirt_process;
use crate::hostfs::HostFs;
use crate::hostfs::records;
use crate::ledger::reader::at_once::AtOnce;
use crate::ledger::reader::folder::Folder;
use crate::ledger::reader::reading::{Reading, seconds};
use crate::ledger::reader::unread::Unread;
use crate::ledger::reservation::{Daemon, Reservation};

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

/// Reads the listed reservations and judges them. `running` are the names of the guests that have a
/// status file.
///
/// # Errors
/// Access to a file is denied.
pub(crate) fn judge(
    root: &HostFs,
    now: SystemTime,
    listed: &mut Folder<Reservation>,
    running: Arc<BTreeSet<String>>,
) -> io::Result<Promises> {
    let mut promises = Promises {
        running,
        ..Promises::default()
    };
    let mut voids = Voids::at(root, now);
    let parse = |stem: &str, text: &str| records::parse::<Reservation>(stem, text).map_err(Unread::from);
    for file in listed.read(root, now, AtOnce::HOLDERS, parse)? {
        let path = || file.path(root);
        match &file.said {
            Err(error) => promises.warnings.push(format!("{}: {error}", path())),
            Ok(reservation) => match voids.why(reservation, &promises.running) {
                Some(why) => {
                    log::debug!("{}: void: {why}", path());
                    promises.void.push(file.stem.to_string());
                }
                None => promises.reservations.push(reservation.clone()),
            },
        }
    }
    Ok(promises)
}
