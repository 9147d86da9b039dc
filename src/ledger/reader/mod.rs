//! The reader of the ledger: status files, reservations, marks, live records and definitions below
//! a root, read once and then only where something changed.
//!
//! A [`Reader`] answers three questions, which are those of [`crate::snapshot`]:
//! [`Reader::current`], [`Reader::under_lock`] and [`Reader::unchanged`]. What it keeps between two
//! of them, by what that is invalidated and why that is safe is in `docs/design.md`, section 8.

pub(crate) mod at_once;
mod folder;
mod holders;
mod judged;
pub(crate) mod listing;
pub(crate) mod promises;
mod reading;
pub mod unread;

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::sync::Arc;
use std::time::SystemTime;

use crate::host::memory;
use crate::hostfs::changed_folders::Folders;
use crate::hostfs::{HostFs, records};
use crate::ledger::claims::{self, Written};
use crate::ledger::live_pins::{self, Records};
use crate::ledger::reader::at_once::AtOnce;
use crate::ledger::reader::folder::Folder;
use crate::ledger::reader::holders::Holders;
use crate::ledger::reader::judged::Judged;
use crate::ledger::reader::listing::{List, Listing};
use crate::ledger::reader::promises::Promises;
use crate::ledger::reader::unread::Unread;
use crate::ledger::reservation::{self, Reservation};
use crate::ledger::status::{self, Status};
use crate::ledger::undecided::{self, Undecided};
use crate::ledger::{Claim, Holder};
use crate::policy::Policy;
use crate::types::ids::KiB;

pub(crate) use reading::seconds;
pub use reading::{LedgerError, Reading};

/// Reader of one host's ledger, with what its last readings found.
#[derive(Debug)]
pub(crate) struct Reader {
    /// Status files, as parsed with `default_page` and `pinned`.
    status: Folder<Arc<Status>>,
    /// Holders that follow from these by the last policy.
    holders: Judged<Status, Arc<Holder>>,
    /// Reservations, void ones included.
    reservations: Folder<Reservation>,
    /// Marks of guests that started undecided.
    undecided: Folder<Undecided>,
    /// Pins that virtfit wrote into definitions.
    definitions: Folder<Arc<Written>>,
    /// Claims that follow from these by the last policy.
    claims: Judged<Written, Option<Claim>>,
    /// Links to the definitions that libvirt starts by itself.
    autostart: Listing,
    /// Files of live records.
    live: Listing,
    /// Huge page size of `<hugepages/>` without a size: a parameter of the kernel's start.
    default_page: Option<KiB>,
    /// Live records, as read from the files of `live`.
    pinned: Pinned,
    /// Last reading of the whole ledger.
    last: Option<Last>,
}

/// [`Listing::times`] of all folders: equal while no file changed.
type Times = [u64; 6];

/// Live records as read.
#[derive(Debug, Default)]
struct Pinned {
    /// [`Listing::times`] at the reading.
    times: Option<u64>,
    records: Records,
    /// Warnings about malformed files.
    warnings: Vec<String>,
}

/// Last reading of the ledger.
#[derive(Debug)]
struct Last {
    times: Times,
    /// Void reservations, by stem. A reservation becomes void without a change of its file.
    void: Vec<String>,
    /// Digest of the policy that judged the claims.
    policy: String,
    reading: Arc<Reading>,
}

impl Default for Reader {
    fn default() -> Self {
        Self {
            status: Folder::new(status::FOLDER, "xml"),
            holders: Judged::default(),
            reservations: Folder::new(reservation::FOLDER, "json"),
            undecided: Folder::new(undecided::FOLDER, "json"),
            definitions: Folder::new(claims::FOLDER, "xml"),
            claims: Judged::default(),
            // A link's name says enough, whatever its target.
            autostart: Listing::new(claims::AUTOSTART_FOLDER, "xml", List::Named),
            live: Listing::new(live_pins::FOLDER, "json", List::Stamped),
            default_page: None,
            pinned: Pinned::default(),
            last: None,
        }
    }
}

/// Reads the ledger of a host; claims count as far as the policy gives them. A missing folder is no
/// error: there is no libvirt, or no reservation yet.
///
/// # Errors
/// A folder cannot be read, or access to a file is denied. A malformed file is a warning.
pub fn read(root: &HostFs, now: SystemTime, policy: &Policy) -> Result<Reading, LedgerError> {
    let claims = AtOnce::CLAIMS_OF_ALL;
    let read = Reader::default().current(root, now, policy, claims, &mut Folders::default());
    read.map(Arc::unwrap_or_clone)
}

/// Reads reservations and the names of running guests of a host: the second look under the lock.
///
/// # Errors
/// The errors of [`read`].
pub(crate) fn promises(root: &HostFs, now: SystemTime) -> Result<Promises, LedgerError> {
    Reader::default().under_lock(root, now, &mut Folders::default())
}

impl Reader {
    /// Reads the ledger as [`read`] does, but only files that changed since the last reading; if
    /// none did and the policy is the same, the last reading is returned. Of definitions this
    /// reading parses no more than `claims`; [`Reader::is_whole`] tells if any are left.
    ///
    /// # Errors
    /// The errors of [`read`].
    pub(crate) fn current(
        &mut self,
        root: &HostFs,
        now: SystemTime,
        policy: &Policy,
        claims: AtOnce,
        folders: &mut Folders,
    ) -> Result<Arc<Reading>, LedgerError> {
        // Another policy gives other claims.
        self.last.take_if(|last| last.policy != policy.digest);
        self.claims.under(policy);
        self.holders.under(policy);
        // All folders are listed before any file is read, so a later change shows in the next
        // listing.
        let times = self.look_all(root, folders)?;
        // No file changed, and no reservation became void: the last reading is valid.
        if let Some(last) = &self.last
            && last.times == times
            && last.void.is_empty()
            && promises::all_count(root, now, &last.reading)
        {
            return Ok(Arc::clone(&last.reading));
        }
        // Reservations become void with time and processes, so they are judged at each reading.
        let promises = self.judge(root, now)?;
        if let Some(last) = &self.last
            && last.times == times
            && last.void == promises.void
        {
            return Ok(Arc::clone(&last.reading));
        }
        let (void, policy_digest) = (promises.void.clone(), policy.digest.clone());
        let (reading, left_over) = self.put_together(root, now, policy, claims, promises)?;
        let reading = Arc::new(reading);
        // Files left over are read the next time, even if nothing changes until then.
        self.last = (!left_over).then(|| Last {
            times,
            void,
            policy: policy_digest,
            reading: Arc::clone(&reading),
        });
        Ok(reading)
    }

    /// Reads what can change within moments: reservations, and the names of running guests.
    ///
    /// # Errors
    /// The errors of [`read`].
    pub(crate) fn under_lock(
        &mut self,
        root: &HostFs,
        now: SystemTime,
        folders: &mut Folders,
    ) -> Result<Promises, LedgerError> {
        self.look_starts(root, folders)?;
        Ok(self.judge(root, now)?)
    }

    /// Returns `true` if `reading` was the last one and no status file or reservation changed
    /// since.
    pub(crate) fn unchanged(&mut self, root: &HostFs, folders: &mut Folders, reading: &Arc<Reading>) -> bool {
        let last = self.last.as_ref();
        let Some(last) = last.filter(|last| Arc::ptr_eq(&last.reading, reading)) else {
            return false;
        };
        let times = last.times;
        self.look_starts(root, folders).is_ok() && self.times() == times
    }

    /// Returns `true` if the last reading left no file to the next one.
    pub(crate) fn is_whole(&self) -> bool {
        self.last.is_some()
    }

    /// Lists all folders again and returns their [`Times`].
    ///
    /// # Errors
    /// A folder cannot be read.
    fn look_all(&mut self, root: &HostFs, folders: &mut Folders) -> io::Result<Times> {
        self.look_starts(root, folders)?;
        // A folder of live records that cannot be read counts as an empty one.
        self.live.look(root, folders).ok();
        self.undecided.look(root, folders)?;
        self.definitions.look(root, folders)?;
        self.autostart.look(root, folders)?;
        Ok(self.times())
    }

    /// Lists the folders again that each start changes: status files and reservations.
    ///
    /// # Errors
    /// A folder cannot be read.
    fn look_starts(&mut self, root: &HostFs, folders: &mut Folders) -> io::Result<()> {
        folders.take_note();
        self.status.look(root, folders)?;
        self.reservations.look(root, folders)
    }

    fn times(&self) -> Times {
        [
            self.status.times(),
            self.reservations.times(),
            self.undecided.times(),
            self.definitions.times(),
            self.autostart.times(),
            self.live.times(),
        ]
    }

    fn judge(&mut self, root: &HostFs, now: SystemTime) -> io::Result<Promises> {
        let running = self.status.names();
        promises::judge(root, now, &mut self.reservations, running)
    }

    /// Makes a reading of the listed files; the second value is `true` if files were left to the
    /// next one.
    fn put_together(
        &mut self,
        root: &HostFs,
        now: SystemTime,
        policy: &Policy,
        claims: AtOnce,
        promises: Promises,
    ) -> Result<(Reading, bool), LedgerError> {
        self.read_live_records(root);
        let mut reading = Reading {
            warnings: self.pinned.warnings.clone(),
            running: BTreeSet::clone(&promises.running),
            autostart: BTreeSet::clone(&self.autostart.names()),
            ..Reading::default()
        };
        // Status files come first, as reservations are merged into the guests that run.
        let mut left_over = self.add_running(root, now, policy, &mut reading)?;
        // A reservation adds to its running guest, or stands for a guest that does not run yet.
        let mut holders = Holders::of(std::mem::take(&mut reading.ledger.holders));
        for reservation in &promises.reservations {
            let moves = reservation.pins.is_some();
            holders.merge(reservation.holder(), moves);
        }
        reading.ledger.holders = holders.all();
        reading.warnings.extend(promises.warnings);
        reading.reservations = promises.reservations;
        // Claims come last: a guest that holds CPUs claims none.
        self.add_undecided(root, now, &mut reading)?;
        left_over |= self.add_claims(root, now, policy, claims, &mut reading)?;
        Ok((reading, left_over))
    }

    /// Reads the live records again if their files changed. A status file is parsed with its
    /// guest's record, so another record makes it another holder. The other guests' files stay as
    /// they are: live pins change with each start, and reading all files for one would make the
    /// next start late.
    fn read_live_records(&mut self, root: &HostFs) {
        let times = Some(self.live.times());
        if self.pinned.times == times {
            return;
        }
        let mut warnings = Vec::new();
        let records = Records::read(root, &mut warnings);
        let changed = records.differing(&self.pinned.records);
        let is_of = |status: &Arc<Status>| changed.contains(status.holder.uuid.to_ascii_lowercase().as_str());
        self.status.forget(is_of);
        self.pinned = Pinned {
            times,
            records,
            warnings,
        };
    }

    fn default_page(&mut self, root: &HostFs) -> KiB {
        *self
            .default_page
            .get_or_insert_with(|| memory::default_huge_page(root))
    }

    /// Adds the guests that run; `true` if files were left to the next reading.
    fn add_running(
        &mut self,
        root: &HostFs,
        now: SystemTime,
        policy: &Policy,
        reading: &mut Reading,
    ) -> io::Result<bool> {
        let default_page = self.default_page(root);
        let pinned = &self.pinned.records;
        let parse = |_: &str, text: &str| {
            let read = status::parse(text, default_page, pinned);
            read.map(Arc::new).map_err(Unread::from)
        };
        let mut left_over = false;
        for file in self.status.read(root, now, AtOnce::HOLDERS, parse)? {
            left_over |= file.is_left_over();
            match &file.said {
                Ok(status) => {
                    let autostart = reading.autostart.contains(file.stem);
                    let judge = |status: &Status| status.holder(policy, autostart);
                    let holder = self.holders.of(file.stem, status, autostart, judge);
                    reading.ledger.holders.push(holder);
                }
                Err(error) => reading.warnings.push(format!(
                    "{}: {error}: what this guest holds is known only from its reservation, if it has one",
                    file.path(root)
                )),
            }
        }
        self.holders.keep(|stem| self.status.has(stem));
        Ok(left_over)
    }

    fn add_undecided(&mut self, root: &HostFs, now: SystemTime, reading: &mut Reading) -> io::Result<()> {
        let parse = |stem: &str, text: &str| records::parse::<Undecided>(stem, text).map_err(Unread::from);
        for file in self.undecided.read(root, now, AtOnce::HOLDERS, parse)? {
            match file.said {
                Ok(mark) => reading.undecided.push(mark),
                Err(ref error) => reading.warnings.push(format!("{}: {error}", file.path(root))),
            }
        }
        Ok(())
    }

    /// Adds the claims of definitions; `true` if files were left to the next reading.
    fn add_claims(
        &mut self,
        root: &HostFs,
        now: SystemTime,
        policy: &Policy,
        claims: AtOnce,
        reading: &mut Reading,
    ) -> io::Result<bool> {
        let holders = reading.ledger.holders.iter();
        let running: BTreeMap<&str, &Holder> = holders
            .map(|holder| (holder.uuid.as_str(), holder.as_ref()))
            .collect();
        let mut found: Vec<Claim> = Vec::new();
        let default_page = self.default_page(root);
        let parse = |_: &str, text: &str| {
            let written = Written::parse(text, default_page);
            written.map(Arc::new).map_err(Unread::from)
        };
        let mut left = Vec::new();
        for file in self.definitions.read(root, now, claims, parse)? {
            match &file.said {
                Ok(written) => {
                    let autostart = reading.autostart.contains(file.stem);
                    let judge = |written: &Written| written.claim(policy, autostart);
                    let claim = self.claims.of(file.stem, written, autostart, judge);
                    // libvirt loads no file that is called otherwise than its guest.
                    let claim = claim.filter(|claim| claim.name == file.stem);
                    let left = |claim: Claim| match running.get(claim.uuid.as_str()) {
                        Some(holder) => claim.of_running(holder),
                        None => Some(claim),
                    };
                    found.extend(claim.and_then(left));
                }
                Err(Unread::LeftOver(_)) => left.push(file),
                Err(error) => reading.warnings.push(format!(
                    "{}: {error}: what it claims does not count",
                    file.path(root)
                )),
            }
        }
        // There may be hundreds of these: one line for all of them.
        if let Some((first, more)) = left.split_first() {
            let path = first.path(root);
            reading.warnings.push(match more.len() {
                0 => format!("{path}: not read: all definitions together are too large: what it claims does not count"),
                more => format!(
                    "{path} and {more} more: not read: all definitions together are too large: what they claim does not count"
                ),
            });
        }
        let left_over = !left.is_empty();
        self.claims.keep(|stem| self.definitions.has(stem));
        reading.ledger.claims = found;
        Ok(left_over)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
