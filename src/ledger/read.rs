//! Reads the whole ledger below a root: status files, reservations, definitions.

use std::collections::{BTreeMap, BTreeSet};
use std::io::{self, ErrorKind};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use crate::idset::CpuSet;
use crate::ledger::cache::{self, Cache, Folder, Listed};
use crate::ledger::pinned::{self, Records};
use crate::ledger::reservation::{self, Reservation};
use crate::ledger::undecided::{self, Undecided};
use crate::ledger::{Claim, Holder, Ledger, claims, process, status};
use crate::root::Root;
use crate::units::KiB;

/// The huge page size `<hugepages/>` means where `/proc/meminfo` does not tell: that of x86 and most arm64 hosts.
const USUAL_PAGE: KiB = KiB(2048);

/// The ledger as read, and what came up.
#[derive(serde::Serialize, serde::Deserialize, Debug, Clone, Default, PartialEq, Eq)]
pub struct Reading {
    /// Who holds and claims what.
    pub ledger: Ledger,
    /// What could not be taken into account, one line each, for people.
    pub warnings: Vec<String>,
    /// Names of the guests that have a status file: they run or start.
    pub running: BTreeSet<String>,
    /// Names of the guests libvirt starts by itself.
    pub autostart: BTreeSet<String>,
    /// The valid reservations, as they are in their files; [`Ledger::holders`] has them too.
    pub reservations: Vec<Reservation>,
    /// Guests that started undecided: whether others hold their CPUs too is not known. For people.
    pub undecided: Vec<Undecided>,
}

/// What can change within moments, read without opening any guest's XML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Glance {
    /// The reservations that count.
    pub reservations: Vec<Reservation>,
    /// Files of those that do not count any more, by stem.
    pub void: Vec<String>,
    /// Names of the guests that have a status file.
    pub running: Arc<BTreeSet<String>>,
    /// What could not be read, for people.
    pub warnings: Vec<String>,
}

/// Why who holds what is not known. The errors name the file or folder.
#[derive(Debug, thiserror::Error)]
pub enum LedgerError {
    /// An ordinary user may not look.
    #[error("cannot read who holds what: {0}: run as root, or --assume-empty")]
    Denied(io::Error),
    /// Anything else the kernel said.
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

/// Reads everything of a host. A folder that does not exist is fine: there is no libvirt, or no reservation yet.
///
/// # Errors
/// A folder cannot be read, or a file may not be. What is there but makes no sense is a warning.
pub fn read(root: &Root, now: SystemTime) -> Result<Reading, LedgerError> {
    read_with(root, now, &mut Cache::default()).map(Arc::unwrap_or_clone)
}

/// As [`read`], with what was read before: only files that changed since are read again, and while none did it is the same reading.
///
/// # Errors
/// As [`read`].
pub fn read_with(root: &Root, now: SystemTime, cache: &mut Cache) -> Result<Arc<Reading>, LedgerError> {
    cache.folders.take_note();
    let default_page = *cache.default_page.get_or_insert_with(|| default_huge_page(root));
    let folders = &mut cache.folders;
    cache.live.look(root, pinned::FOLDER, "json", folders).ok();
    cache.status.listing.look(root, status::FOLDER, "xml", folders)?;
    cache
        .reservations
        .listing
        .look(root, reservation::FOLDER, "json", folders)?;
    cache
        .undecided
        .listing
        .look(root, undecided::FOLDER, "json", folders)?;
    cache
        .definitions
        .listing
        .look(root, claims::FOLDER, "xml", folders)?;
    // A link's name tells, wherever it leads.
    cache
        .autostart
        .look_at_names(root, claims::AUTOSTART_FOLDER, "xml", folders)?;
    let glance = glance_at(root, now, cache)?;
    let times = cache.times();
    if let Some(last) = &cache.last
        && last.times == times
        && last.void == glance.void
    {
        return Ok(Arc::clone(&last.reading));
    }
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
    let parse = |text: &str| {
        let holder = status::parse_with(text, default_page, pinned);
        holder.map(Arc::new).map_err(|error| error.to_string())
    };
    for file in files(root, status::FOLDER, "xml", now, &mut cache.status, parse)? {
        match file.said {
            Ok(holder) => reading.ledger.holders.push(holder),
            Err(error) => reading.warnings.push(format!(
                "{}: {error}: what this guest holds is known only from its reservation, if it has one",
                shown(root, status::FOLDER, file.stem, "xml")
            )),
        }
    }
    for reservation in &glance.reservations {
        let moves = reservation.pins.is_some();
        merge(reservation.holder(), moves, &mut reading.ledger.holders);
    }
    reading.warnings.extend(glance.warnings);
    reading.reservations = glance.reservations;
    add_undecided(root, now, &mut cache.undecided, &mut reading)?;
    reading.autostart = BTreeSet::clone(&cache.autostart.names());
    add_claims(root, now, &mut cache.definitions, &mut reading)?;
    let reading = Arc::new(reading);
    cache.last = Some(cache::Last {
        times,
        void: glance.void,
        reading: Arc::clone(&reading),
    });
    Ok(reading)
}

/// Reservations and the names of the guests that run: what has to be looked at again under the lock.
///
/// # Errors
/// As [`read`].
pub fn glance(root: &Root, now: SystemTime) -> Result<Glance, LedgerError> {
    glance_with(root, now, &mut Cache::default())
}

/// As [`glance`], with what was read before.
///
/// # Errors
/// As [`read`].
pub fn glance_with(root: &Root, now: SystemTime, cache: &mut Cache) -> Result<Glance, LedgerError> {
    cache.folders.take_note();
    let folders = &mut cache.folders;
    cache.status.listing.look(root, status::FOLDER, "xml", folders)?;
    cache
        .reservations
        .listing
        .look(root, reservation::FOLDER, "json", folders)?;
    glance_at(root, now, cache)
}

/// A glance at what is listed.
fn glance_at(root: &Root, now: SystemTime, cache: &mut Cache) -> Result<Glance, LedgerError> {
    let mut glance = Glance {
        running: cache.status.listing.names(),
        ..Glance::default()
    };
    let since = seconds(now);
    let boot_id = process::boot_id(root);
    // Mostly one daemon ran all hooks.
    let mut daemons = BTreeMap::new();
    let parse = |text: &str| Reservation::from_json(text).map_err(|error| error.to_string());
    let path = |stem: &str| shown(root, reservation::FOLDER, stem, "json");
    for file in files(
        root,
        reservation::FOLDER,
        "json",
        now,
        &mut cache.reservations,
        parse,
    )? {
        let reservation = match file.said {
            Ok(reservation) => reservation,
            Err(error) => {
                glance.warnings.push(format!("{}: {error}", path(file.stem)));
                continue;
            }
        };
        let has_status = glance.running.contains(&reservation.name);
        let pid = reservation.pid;
        let daemon = *daemons.entry(pid).or_insert_with(|| process::daemon(root, pid));
        if let Some(why) = reservation.void(since, boot_id.as_deref(), daemon, has_status) {
            log::debug!("{}: void: {why}", path(file.stem));
            glance.void.push(file.stem.to_string());
            continue;
        }
        glance.reservations.push(reservation);
    }
    Ok(glance)
}

fn add_undecided(
    root: &Root,
    now: SystemTime,
    known: &mut Folder<Undecided>,
    reading: &mut Reading,
) -> Result<(), LedgerError> {
    let parse = |text: &str| Undecided::from_json(text).map_err(|error| error.to_string());
    for file in files(root, undecided::FOLDER, "json", now, known, parse)? {
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

/// Seconds since the epoch; 0 before it.
pub(crate) fn seconds(now: SystemTime) -> u64 {
    now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}

/// One entry a guest: a guest that runs keeps what it was promised until its release, as pins that are not in its XML
/// are set only after it started. One that `moves` was promised other CPUs than its XML pins it to, or none: until it is
/// moved, the CPUs of its XML are not its own, but those of whoever was promised them. Where its memory is, its status file
/// knows better.
fn merge(reserved: Holder, moves: bool, holders: &mut Vec<Arc<Holder>>) {
    let running = holders.iter_mut().find(|holder| {
        super::taken::same_guest((&holder.uuid, &holder.name), (&reserved.uuid, &reserved.name))
    });
    match running {
        None => holders.push(Arc::new(reserved)),
        Some(holder) => {
            let holder = Arc::make_mut(holder);
            if moves && !holder.set_live {
                holder.pins.clear();
            }
            let pinned = |pin: &CpuSet| holder.pins.contains(pin);
            let more: Vec<CpuSet> = reserved.pins.into_iter().filter(|pin| !pinned(pin)).collect();
            holder.pins.extend(more);
            holder.withheld.extend_from(&reserved.withheld);
        }
    }
}

fn add_claims(
    root: &Root,
    now: SystemTime,
    known: &mut Folder<Arc<Claim>>,
    reading: &mut Reading,
) -> Result<(), LedgerError> {
    let running: BTreeSet<&str> = reading
        .ledger
        .holders
        .iter()
        .map(|holder| holder.uuid.as_str())
        .collect();
    let mut found: Vec<Claim> = Vec::new();
    let parse = |text: &str| {
        let claim = claims::parse(text, false);
        claim.map(Arc::new).map_err(|error| error.to_string())
    };
    for file in files(root, claims::FOLDER, "xml", now, known, parse)? {
        match file.said {
            Ok(claim) if claim.cpus.is_empty() || running.contains(claim.uuid.as_str()) => {}
            Ok(claim) => found.push(Claim {
                autostart: reading.autostart.contains(file.stem),
                ..Claim::clone(&claim)
            }),
            Err(error) => {
                let path = shown(root, claims::FOLDER, file.stem, "xml");
                reading
                    .warnings
                    .push(format!("{path}: {error}: what it claims does not count"));
            }
        }
    }
    reading.ledger.claims = found;
    Ok(())
}

/// `Hugepagesize:` of `/proc/meminfo`.
pub(crate) fn default_huge_page(root: &Root) -> KiB {
    let meminfo = root.read("/proc/meminfo").unwrap_or_default();
    let size = meminfo
        .lines()
        .find_map(|line| line.strip_prefix("Hugepagesize:"))
        .and_then(|rest| rest.split_ascii_whitespace().next()?.parse().ok());
    size.filter(|size| *size > 0).map_or(USUAL_PAGE, KiB)
}

/// One file of a folder.
struct Found<'l, T> {
    /// Its name without `.xml` or `.json`: libvirt names files after guests.
    stem: &'l str,
    /// What it says, or why that is not known.
    said: Result<T, String>,
}

/// Where a file is, for messages.
fn shown(root: &Root, folder: &str, stem: &str, extension: &str) -> String {
    let path = root.path(folder).join(format!("{stem}.{extension}"));
    path.display().to_string()
}

/// All files `*.EXTENSION` of a folder that were listed, by name. Those that vanish meanwhile never were; folders are not meant.
fn files<'l, T: Clone>(
    root: &Root,
    folder: &str,
    extension: &str,
    now: SystemTime,
    known: &'l mut Folder<T>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<Found<'l, T>>, LedgerError> {
    known.keep_listed();
    let Folder { listing, known } = known;
    let mut found = Vec::with_capacity(listing.files().len());
    for Listed { stem, stamp } in listing.files() {
        // The stamp is older than what is read: what is written between the two has another one, and is read next time.
        let before = stamp.and_then(|stamp| known.get(stem, stamp));
        let said = match before {
            Some(said) => said.clone(),
            None => match root.read(format!("{folder}/{stem}.{extension}")) {
                Ok(text) => {
                    let said = parse(&text);
                    if let Some(stamp) = stamp {
                        known.put(stem, *stamp, now, said.clone());
                    }
                    said
                }
                Err(error) => match error.kind() {
                    ErrorKind::NotFound | ErrorKind::InvalidInput => continue,
                    ErrorKind::PermissionDenied => return Err(error.into()),
                    _ => Err(error
                        .to_string()
                        .trim_start_matches(&format!("{}: ", shown(root, folder, stem, extension)))
                        .to_string()),
                },
            },
        };
        found.push(Found { stem, said });
    }
    Ok(found)
}

/// The stems of `*.EXTENSION` in a folder, sorted. Files being written end otherwise (`.xml.new`).
pub fn stems(root: &Root, folder: &str, extension: &str) -> io::Result<Vec<String>> {
    let names = root.list(folder)?;
    Ok(names
        .iter()
        .filter_map(|name| stem(name, extension))
        .map(str::to_string)
        .collect())
}

/// A name without its extension; `None` for other names.
pub(super) fn stem<'n>(name: &'n str, extension: &str) -> Option<&'n str> {
    let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
    Some(stem).filter(|stem| !stem.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;
    use std::time::Duration;

    use super::*;
    use crate::cpulist;
    use crate::ledger::reservation::{ReservedMemory, VERSION};

    const NOW: u64 = 1_000_000;

    /// A host root that goes when it is dropped.
    struct Host(tempfile::TempDir);

    impl Host {
        fn new() -> Self {
            let root = Self(tempfile::tempdir().unwrap());
            root.write("proc/sys/kernel/random/boot_id", "b0\n");
            root
        }

        fn write(&self, path: &str, text: &str) -> &Self {
            let path = self.0.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
            self
        }

        fn status(&self, name: &str, pins: &[&str]) -> &Self {
            let text = format!(
                "<domstatus state='running' reason='booted' pid='1'>{}</domstatus>",
                domain(name, pins, "")
            );
            self.write(&format!("run/libvirt/qemu/{name}.xml"), &text)
        }

        fn reserve(&self, name: &str, cpus: &str, change: impl FnOnce(&mut Reservation)) -> &Self {
            let mut reservation = Reservation {
                version: VERSION,
                uuid: uuid(name),
                name: name.into(),
                cpus: cpulist::parse(cpus).unwrap(),
                withheld: CpuSet::new(),
                memory: vec![ReservedMemory {
                    node: None,
                    page_kib: None,
                    kib: KiB(7),
                }],
                boot_id: "b0".into(),
                pid: 77,
                start_time: 5,
                tentative_until: None,
                written_at: NOW,
                pins: None,
            };
            change(&mut reservation);
            let text = reservation.to_json().unwrap();
            self.write(&format!("run/virtfit/reservations/{}.json", uuid(name)), &text)
        }

        fn daemon(&self, pid: u32, start: u64) -> &Self {
            let text = format!("{pid} (libvirtd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0");
            self.write(&format!("proc/{pid}/stat"), &text)
        }

        fn read(&self) -> Reading {
            read(&Root::new(self.0.path()), UNIX_EPOCH + Duration::from_secs(NOW)).unwrap()
        }
    }

    /// A UUID that is the name's alone; names of up to six letters.
    fn uuid(name: &str) -> String {
        let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
        format!("8c1f6f0e-0000-4000-8000-{digits:0>12}")
    }

    fn domain(name: &str, pins: &[&str], metadata: &str) -> String {
        let pins: String = pins
            .iter()
            .enumerate()
            .map(|(vcpu, cpus)| format!("<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>"))
            .collect();
        format!(
            "<domain type='kvm'><name>{name}</name><uuid>{}</uuid><memory>1024</memory><vcpu>4</vcpu>{metadata}<cputune>{pins}</cputune></domain>",
            uuid(name)
        )
    }

    fn pins(holder: &Holder) -> String {
        holder
            .pins
            .iter()
            .map(CpuSet::to_string)
            .collect::<Vec<_>>()
            .join(" ")
    }

    #[test]
    fn no_libvirt_is_an_empty_ledger() {
        assert_eq!(Host::new().read(), Reading::default());
        let nowhere = read(&Root::new("/nonexistent-root"), UNIX_EPOCH).unwrap();
        assert_eq!(nowhere, Reading::default());
    }

    #[test]
    fn running_guests_and_reservations_are_one_entry_a_guest() {
        let root = Host::new();
        root.status("db", &["2", "3"])
            .status("web", &["0-7"])
            .daemon(77, 5);
        root.reserve("db", "2,9", |_| {}).reserve("new", "4-5", |_| {});
        let reading = root.read();
        let shown: Vec<_> = reading
            .ledger
            .holders
            .iter()
            .map(|holder| (holder.name.as_str(), pins(holder), holder.reservation))
            .collect();
        let expected = [
            ("db", "2 3 9".to_string(), false),
            ("web", "0-7".to_string(), false),
            ("new", "4 5".to_string(), true),
        ];
        assert_eq!(shown, expected);
        assert_eq!(reading.ledger.holders[0].memory[0].amount, KiB(1024));
        assert_eq!(reading.warnings, Vec::<String>::new());
    }

    #[test]
    fn what_was_read_before_changes_nothing() {
        let root = Host::new();
        let at = Root::new(root.0.path());
        let path = |path: &str| root.0.path().join(path);
        // The huge page size a kernel was started with stays.
        root.write("proc/meminfo", "Hugepagesize: 1048576 kB\n");
        let mut caches = [Cache::default(), Cache::watching()];
        let steps: [(&str, &dyn Fn()); 16] = [
            ("a guest runs", &|| {
                root.status("db", &["2"]).daemon(77, 5);
            }),
            ("one is promised", &|| {
                root.reserve("new", "4-5", |_| {});
            }),
            ("another pin", &|| {
                root.status("db", &["3"]);
            }),
            ("a broken definition", &|| {
                root.write("etc/libvirt/qemu/db.xml", "<domain>");
            }),
            ("a definition", &|| {
                root.write("etc/libvirt/qemu/web.xml", &domain("web", &["6"], ""));
            }),
            ("autostart", &|| {
                fs::create_dir_all(path("etc/libvirt/qemu/autostart")).unwrap();
                symlink("../web.xml", path("etc/libvirt/qemu/autostart/web.xml")).unwrap();
            }),
            ("a broken status file", &|| {
                root.write("run/libvirt/qemu/db.xml", "<domstatus");
            }),
            ("the libvirt daemon ends", &|| {
                root.daemon(77, 6);
            }),
            ("and is there", &|| {
                root.daemon(77, 5);
            }),
            ("another boot", &|| {
                root.reserve("new", "6", |reservation| reservation.boot_id = "b1".into());
            }),
            ("undecided", &|| {
                let mark = format!(
                    "{{\"uuid\":\"{}\",\"name\":\"x\",\"why\":\"y\",\"written_at\":1}}",
                    uuid("x")
                );
                root.write(&format!("run/virtfit/undecided/{}.json", uuid("x")), &mark);
            }),
            ("a broken live mask", &|| {
                root.write(&format!("run/virtfit/live/{}.json", uuid("db")), "{");
            }),
            ("a status file that is a link", &|| {
                root.write("elsewhere.xml", "<domstatus");
                symlink(path("elsewhere.xml"), path("run/libvirt/qemu/l.xml")).unwrap();
                fs::hard_link(path("elsewhere.xml"), path("run/libvirt/qemu/h.xml")).unwrap();
            }),
            ("what it leads to", &|| {
                root.write(
                    "elsewhere.xml",
                    &format!("<domstatus>{}</domstatus>", domain("l", &["9"], "")),
                );
            }),
            ("a guest ends", &|| {
                fs::remove_file(path("run/libvirt/qemu/db.xml")).unwrap()
            }),
            ("all is gone", &|| fs::remove_dir_all(path("run")).unwrap()),
        ];
        for (what, step) in steps {
            step();
            // Now, when the files are young, and much later, when they have rested.
            for now in [SystemTime::now(), UNIX_EPOCH + Duration::from_secs(NOW)] {
                for cache in &mut caches {
                    for _ in 0..2 {
                        assert_eq!(
                            glance_with(&at, now, cache).unwrap(),
                            glance(&at, now).unwrap(),
                            "{what}"
                        );
                        let cached = read_with(&at, now, cache).unwrap();
                        assert_eq!(*cached, read(&at, now).unwrap(), "{what}");
                    }
                }
            }
        }
    }

    #[test]
    fn a_ledger_in_which_nothing_happened_is_the_same() {
        let root = Host::new();
        root.status("db", &["2"])
            .reserve("new", "4", |_| {})
            .daemon(77, 5);
        let at = Root::new(root.0.path());
        let now = UNIX_EPOCH + Duration::from_secs(NOW);
        let mut cache = Cache::watching();
        let mut read = || read_with(&at, now, &mut cache).unwrap();
        read();
        let first = read();
        assert!(Arc::ptr_eq(&first, &read()));
        root.reserve("new", "5", |_| {});
        assert!(!Arc::ptr_eq(&first, &read()));
    }

    #[test]
    fn void_reservations_do_not_count() {
        type Change = fn(&mut Reservation);
        // what, change, daemon's start, status file, counts
        let rows: &[(&str, Change, Option<u64>, bool, bool)] = &[
            ("valid", |_| {}, Some(5), false, true),
            ("other boot", |r| r.boot_id = "b1".into(), Some(5), false, false),
            ("daemon gone", |_| {}, None, false, false),
            ("daemon gone, guest runs", |_| {}, None, true, true),
            ("pid reused", |_| {}, Some(6), false, false),
            (
                "tentative",
                |r| r.tentative_until = Some(NOW + 30),
                Some(5),
                false,
                true,
            ),
            (
                "tentative, over",
                |r| r.tentative_until = Some(NOW),
                Some(5),
                false,
                false,
            ),
        ];
        for (what, change, start, runs, counts) in rows {
            let root = Host::new();
            root.reserve("g", "9", change);
            if let Some(start) = start {
                root.daemon(77, *start);
            }
            if *runs {
                root.status("g", &["2"]);
            }
            let holders = root.read().ledger.holders;
            assert_eq!(
                holders.iter().any(|holder| pins(holder).contains('9')),
                *counts,
                "{what}"
            );
        }
    }

    #[test]
    fn a_truncated_status_file_falls_back_to_the_reservation() {
        let root = Host::new();
        root.status("g", &["2"]).reserve("g", "2", |_| {});
        let path = root.0.path().join("run/libvirt/qemu/g.xml");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, &text[..text.len() / 2]).unwrap();
        let reading = root.read();
        assert_eq!(reading.ledger.holders.len(), 1);
        assert_eq!(pins(&reading.ledger.holders[0]), "2");
        assert!(reading.ledger.holders[0].reservation);
        assert_eq!(reading.warnings.len(), 1, "{:?}", reading.warnings);
        assert!(reading.running.contains("g"));
    }

    #[test]
    fn what_makes_no_sense_is_a_warning() {
        let root = Host::new();
        root.write("run/libvirt/qemu/a.xml", "<domstatus>")
            .write("run/libvirt/qemu/a.pid", "1")
            .write("run/libvirt/qemu/autostarted", "")
            .write("run/virtfit/reservations/x.json", "{")
            .write("run/virtfit/reservations/.x.json.1", "{")
            .write("etc/libvirt/qemu/b.xml", "<domain>")
            .write("etc/libvirt/qemu/b.xml.new", "<domain>")
            .write("etc/libvirt/qemu/networks/default.xml", "<network/>");
        fs::create_dir(root.0.path().join("run/libvirt/qemu/folder.xml")).unwrap();
        let reading = root.read();
        assert_eq!(reading.ledger, Ledger::default());
        assert_eq!(reading.warnings.len(), 3, "{:#?}", reading.warnings);
    }

    #[test]
    fn five_hundred_guests_are_quick() {
        let root = Host::new();
        for n in 0..500 {
            let name = format!("g{n}");
            root.status(&name, &["2", "3"]);
            root.write(
                &format!("etc/libvirt/qemu/{name}.xml"),
                &domain(&name, &["2", "3"], ""),
            );
        }
        let start = std::time::Instant::now();
        assert_eq!(root.read().ledger.holders.len(), 500);
        assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
    }
}
