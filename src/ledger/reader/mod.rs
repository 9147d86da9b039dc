//! Reading of the whole ledger below a root: status files, reservations, definitions.

pub(crate) mod cache;
pub mod files;
pub(crate) mod judged;
pub(crate) mod promises;

use std::collections::{BTreeSet, HashMap};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::ledger::reader::cache::{Cache, Folder, List};
use crate::ledger::reader::files::{AtOnce, Unread, files, shown};
use crate::types::idset::CpuSet;

use crate::hostfs::HostFs;
use crate::hostfs::records;
use crate::ledger::claims::Written;
use crate::ledger::live_pins;
use crate::ledger::live_pins::Records;
use crate::ledger::reservation::Reservation;
use crate::ledger::status::Status;
use crate::ledger::taken::same_guest;
use crate::ledger::undecided::{self, Undecided};
use crate::ledger::{Claim, Holder, Ledger, claims, status};
use crate::policy::Policy;
use crate::types::ids::KiB;

/// Huge page size of `<hugepages/>` if `/proc/meminfo` does not have it: that of x86 and most arm64
/// hosts.
const USUAL_PAGE: KiB = KiB(2048);

/// Ledger as read, with warnings.
#[derive(serde::Serialize, serde::Deserialize, Debug, Clone, Default, PartialEq, Eq)]
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

/// Reads the ledger of a host; claims count as far as the policy gives them. A missing folder is no
/// error: there is no libvirt, or no reservation yet.
///
/// # Errors
/// A folder cannot be read, or access to a file is denied. A malformed file is a warning.
pub fn read(root: &HostFs, now: SystemTime, policy: &Policy) -> Result<Reading, LedgerError> {
    read_with(root, now, policy, &mut Cache::default(), AtOnce::CLAIMS_OF_ALL).map(Arc::unwrap_or_clone)
}

/// Reads the ledger as [`read`] does, with a cache: only files that changed since the last reading
/// are read again, and if none did and the policy is the same, the last reading is returned. Of
/// definitions this reading parses no more than `at_once`; [`Cache::is_whole`] tells if any are
/// left.
///
/// # Errors
/// The errors of [`read`].
pub(crate) fn read_with(
    root: &HostFs,
    now: SystemTime,
    policy: &Policy,
    cache: &mut Cache,
    at_once: AtOnce,
) -> Result<Arc<Reading>, LedgerError> {
    cache.folders.take_note();
    // Another policy gives other claims.
    cache.last.take_if(|last| last.policy != policy.digest);
    cache.claims.under(policy);
    cache.holders.under(policy);
    let default_page = *cache.default_page.get_or_insert_with(|| default_huge_page(root));
    // All folders are listed before any file is read, so a later change shows in the next listing.
    let folders = &mut cache.folders;
    cache
        .live
        .look(root, live_pins::FOLDER, "json", folders, List::Stamped)
        .ok();
    cache.list_starts(root)?;
    let folders = &mut cache.folders;
    cache
        .undecided
        .listing
        .look(root, undecided::FOLDER, "json", folders, List::Stamped)?;
    cache
        .definitions
        .listing
        .look(root, claims::FOLDER, "xml", folders, List::Stamped)?;
    // A link's name says enough, whatever its target.
    cache
        .autostart
        .look(root, claims::AUTOSTART_FOLDER, "xml", folders, List::Named)?;
    let times = cache.times();
    // No file changed, and no reservation became void: the last reading is valid.
    if let Some(last) = &cache.last
        && last.times == times
        && last.void.is_empty()
        && promises::all_count(root, now, &last.reading)
    {
        return Ok(Arc::clone(&last.reading));
    }
    // Reservations become void with time and processes, so they are judged at each reading.
    let glance = promises::glance_at(root, now, cache)?;
    if let Some(last) = &cache.last
        && last.times == times
        && last.void == glance.void
    {
        return Ok(Arc::clone(&last.reading));
    }
    // A status file is parsed with the live records, so other records make it another holder.
    if cache.pinned.times != Some(cache.live.times()) {
        let mut warnings = Vec::new();
        let records = Records::read(root, &mut warnings);
        if records != cache.pinned.records {
            cache.status.forget();
        }
        cache.pinned = cache::Pinned {
            times: Some(cache.live.times()),
            records,
            warnings,
        };
    }
    let mut reading = Reading {
        warnings: cache.pinned.warnings.clone(),
        running: BTreeSet::clone(&glance.running),
        ..Reading::default()
    };
    let pinned = &cache.pinned.records;
    let parse = |_: &str, text: &str| {
        let read = status::parse(text, default_page, pinned);
        read.map(Arc::new).map_err(Unread::from)
    };
    reading.autostart = BTreeSet::clone(&cache.autostart.names());
    // Status files come first, as reservations are merged into the guests that run.
    let mut left_over = false;
    let holders = &mut cache.holders;
    for file in files(
        root,
        status::FOLDER,
        "xml",
        now,
        &mut cache.status,
        AtOnce::HOLDERS,
        parse,
    )? {
        left_over |= file.left_over;
        match file.said {
            Ok(status) => {
                let autostart = reading.autostart.contains(file.stem);
                let judge = |status: &Status| status.holder(policy, autostart);
                let holder = holders.of(file.stem, &status, autostart, judge);
                reading.ledger.holders.push(holder);
            }
            Err(error) => reading.warnings.push(format!(
                "{}: {error}: what this guest holds is known only from its reservation, if it has one",
                shown(root, status::FOLDER, file.stem, "xml")
            )),
        }
    }
    holders.keep(|stem| cache.status.known.has(stem));
    // A reservation adds to its running guest, or stands for a guest that does not run yet.
    let mut holders = Holders::of(std::mem::take(&mut reading.ledger.holders));
    for reservation in &glance.reservations {
        let moves = reservation.pins.is_some();
        holders.merge(reservation.holder(), moves);
    }
    reading.ledger.holders = holders.all;
    reading.warnings.extend(glance.warnings);
    reading.reservations = glance.reservations;
    // Claims come last: a guest that holds CPUs claims none.
    add_undecided(root, now, &mut cache.undecided, &mut reading)?;
    left_over |= add_claims(root, now, policy, cache, at_once, &mut reading)?;
    let reading = Arc::new(reading);
    // Files left over are read the next time, even if nothing changes until then.
    cache.last = (!left_over).then(|| cache::Last {
        times,
        void: glance.void,
        policy: policy.digest.clone(),
        reading: Arc::clone(&reading),
    });
    Ok(reading)
}

fn add_undecided(
    root: &HostFs,
    now: SystemTime,
    known: &mut Folder<Undecided>,
    reading: &mut Reading,
) -> Result<(), LedgerError> {
    let parse = |stem: &str, text: &str| records::parse::<Undecided>(stem, text).map_err(Unread::from);
    for file in files(
        root,
        undecided::FOLDER,
        "json",
        now,
        known,
        AtOnce::HOLDERS,
        parse,
    )? {
        match file.said {
            Ok(mark) => reading.undecided.push(mark),
            Err(error) => {
                let path = shown(root, undecided::FOLDER, file.stem, "json");
                reading.warnings.push(format!("{path}: {error}"));
            }
        }
    }
    Ok(())
}

/// Returns the seconds since the epoch; 0 before it.
pub(crate) fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// Holders, one entry for each guest, found by UUID or name.
struct Holders {
    all: Vec<Arc<Holder>>,
    by_uuid: HashMap<String, usize>,
    by_name: HashMap<String, usize>,
}

impl Holders {
    fn of(all: Vec<Arc<Holder>>) -> Self {
        let mut holders = Self {
            all: Vec::with_capacity(all.len()),
            by_uuid: HashMap::new(),
            by_name: HashMap::new(),
        };
        for holder in all {
            holders.push(holder);
        }
        holders
    }

    fn push(&mut self, holder: Arc<Holder>) {
        let at = self.all.len();
        // Of two guests of one name, the first is found.
        self.by_name.entry(holder.name.clone()).or_insert(at);
        if !holder.uuid.is_empty() {
            self.by_uuid.entry(holder.uuid.to_ascii_lowercase()).or_insert(at);
        }
        self.all.push(holder);
    }

    /// Finds the entry of the same guest, as [`same_guest`] defines it.
    fn find(&self, other: &Holder) -> Option<usize> {
        let same = |at: &usize| {
            let holder = self.all.get(*at)?;
            same_guest((&holder.uuid, &holder.name), (&other.uuid, &other.name)).then_some(*at)
        };
        let by_uuid = self.by_uuid.get(&other.uuid.to_ascii_lowercase()).and_then(same);
        by_uuid.or_else(|| self.by_name.get(&other.name).and_then(same))
    }

    /// Adds a guest's reservation. A running guest keeps its reservation until its release, because
    /// pins that are not in its XML are set only after the start. A guest that `moves` was promised
    /// other CPUs than those its XML pins it to, or its XML has no pins: until it is moved, the
    /// CPUs in its XML belong to the guest that they were promised to. Memory is taken from the
    /// status file, which is more exact.
    fn merge(&mut self, reserved: Holder, moves: bool) {
        let running = self.find(&reserved);
        let Some(holder) = running.and_then(|at| self.all.get_mut(at)) else {
            self.push(Arc::new(reserved));
            return;
        };
        let holder = Arc::make_mut(holder);
        if moves && !holder.set_live {
            holder.pins.clear();
            holder.wide.clear();
            holder.occupies = CpuSet::new();
        }
        let pinned = |pin: &CpuSet| holder.pins.contains(pin);
        let more: Vec<CpuSet> = reserved.pins.into_iter().filter(|pin| !pinned(pin)).collect();
        holder.pins.extend(more);
        holder.promised.extend_from(&reserved.withheld);
    }
}

/// Adds the claims of definitions; `true` if files were left to the next reading.
fn add_claims(
    root: &HostFs,
    now: SystemTime,
    policy: &Policy,
    cache: &mut Cache,
    at_once: AtOnce,
    reading: &mut Reading,
) -> Result<bool, LedgerError> {
    let running: BTreeSet<&str> = reading
        .ledger
        .holders
        .iter()
        .map(|holder| holder.uuid.as_str())
        .collect();
    let mut found: Vec<Claim> = Vec::new();
    let parse = |_: &str, text: &str| {
        let written = Written::parse(text);
        written.map(Arc::new).map_err(Unread::from)
    };
    let mut left: Vec<&str> = Vec::new();
    let judged = &mut cache.claims;
    for file in files(
        root,
        claims::FOLDER,
        "xml",
        now,
        &mut cache.definitions,
        at_once,
        parse,
    )? {
        match file.said {
            Ok(written) => {
                let autostart = reading.autostart.contains(file.stem);
                let judge = |written: &Written| written.claim(policy, autostart);
                let claim = judged.of(file.stem, &written, autostart, judge);
                // libvirt loads no file that is called otherwise than its guest.
                let counts =
                    |claim: &Claim| claim.name == file.stem && !running.contains(claim.uuid.as_str());
                found.extend(claim.filter(counts));
            }
            Err(Unread::LeftOver(_)) => left.push(file.stem),
            Err(error) => {
                let path = shown(root, claims::FOLDER, file.stem, "xml");
                reading
                    .warnings
                    .push(format!("{path}: {error}: what it claims does not count"));
            }
        }
    }
    // There may be hundreds of these: one line for all of them.
    if let Some((first, more)) = left.split_first() {
        let path = shown(root, claims::FOLDER, first, "xml");
        reading.warnings.push(match more.len() {
            0 => format!("{path}: not read: all definitions together are too large: what it claims does not count"),
            more => format!(
                "{path} and {more} more: not read: all definitions together are too large: what they claim does not count"
            ),
        });
    }
    let left_over = !left.is_empty();
    judged.keep(|stem| cache.definitions.known.has(stem));
    reading.ledger.claims = found;
    Ok(left_over)
}

/// Reads `Hugepagesize:` of `/proc/meminfo`.
pub(crate) fn default_huge_page(root: &HostFs) -> KiB {
    let meminfo = root.read("/proc/meminfo").unwrap_or_default();
    let size = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("Hugepagesize:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    size.filter(|size| *size > 0).map_or(USUAL_PAGE, KiB)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
