//! What changes in the folders the daemon cares for, from one inotify.
//!
//! ```text
//! /etc/libvirt/qemu             NAME.xml renamed in or gone      a definition
//! /etc/libvirt/qemu/autostart   NAME.xml                         its autostart link
//! /run/libvirt/qemu             NAME.xml, driver.pid             a guest's status; libvirt's driver
//! policy files and folders      anything                         the policy
//! /run/virtfit                  disabled                         the switch
//! /run/virtfit/reservations     UUID.json                        what was promised
//! ```
//! libvirt writes definitions and status as `NAME.xml.new` and renames them (`virFileRewrite`), so a rename is a whole file. A
//! folder that does not exist is waited for in its nearest parent; one that is moved or removed, with any folder above it,
//! is watched anew, and then, as after an overflow of the kernel's queue, [`Change::Lost`] says that anything may have changed.

use std::collections::HashMap;
use std::ffi::OsStr;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path, PathBuf};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};

use crate::host::libvirtd;
use crate::ledger::{claims, reservation, status, store};
use crate::policy::load::{DROP_IN_DIR, MAIN_FILE, VENDOR_DIR};
use crate::view::Place;
use crate::wire::DISABLED;

/// Room for the events of one read.
const BUFFER: usize = 16 << 10;

/// What happened; names are guests'. In the order in which it happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Change {
    /// A definition was written.
    Defined(String),
    /// A definition went away.
    Undefined(String),
    /// An autostart link came or went.
    Autostart(String),
    /// A guest's status was written.
    Status(String),
    /// A guest's status file went away: it ended.
    StatusGone(String),
    /// libvirt's driver came or went.
    Driver,
    /// A policy file or folder changed.
    Policy,
    /// [`DISABLED`] came or went.
    Switch,
    /// A reservation was written.
    Reservation,
    /// A reservation went away.
    ReservationGone,
    /// Anything may have changed.
    Lost,
}

/// What a folder is watched for.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Role {
    Definitions,
    Autostart,
    Status,
    DriverFile,
    /// Any file, or the one of this name.
    Policy(Option<PathBuf>),
    Switch,
    Reservations,
    /// A folder above: only its own fate counts.
    Above,
    /// The folder of this name is waited for in it.
    Awaits(PathBuf),
}

/// The watches.
pub struct Watch {
    place: Place,
    inotify: Inotify,
    roles: HashMap<WatchDescriptor, Vec<Role>>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Watches all there is to watch.
    ///
    /// # Errors
    /// The kernel gives no inotify (`fs.inotify.max_user_instances`).
    pub fn new(place: &Place) -> io::Result<Self> {
        let mut watch = Self {
            place: place.clone(),
            inotify: Inotify::init()?,
            roles: HashMap::new(),
            buffer: vec![0; BUFFER],
        };
        watch.arm();
        Ok(watch)
    }

    /// Readable while something is there to [`drain`](Self::drain).
    pub fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// What happened since the last time. Never waits.
    pub fn drain(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut appeared = false;
        let mut broken = false;
        loop {
            let mut buffer = std::mem::take(&mut self.buffer);
            let read = self.inotify.read_events(&mut buffer).map(|events| {
                for event in events {
                    match self.roles.get(&event.wd) {
                        _ if event.mask.contains(EventMask::Q_OVERFLOW) => broken = true,
                        Some(roles) => {
                            for role in roles {
                                match role.change(event.mask, event.name) {
                                    News::Change(change) => changes.push(change),
                                    News::Appeared => appeared = true,
                                    News::Broken => broken = true,
                                    News::Nothing => {}
                                }
                            }
                        }
                        None => {}
                    }
                }
            });
            self.buffer = buffer;
            match read {
                Ok(()) => {}
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) => {
                    log::warn!("inotify: {error}: all watches are set up anew");
                    broken = true;
                    break;
                }
            }
        }
        let driver_came = changes.contains(&Change::Driver);
        if broken {
            self.renew();
            changes.push(Change::Lost);
        } else if appeared {
            changes.extend(self.arm());
        } else if driver_came {
            self.add(&self.place.root.path(libvirtd::DRIVER_PID_FILE), Role::DriverFile);
        }
        changes
    }

    fn renew(&mut self) {
        match Inotify::init() {
            Ok(inotify) => {
                self.inotify = inotify;
                self.roles.clear();
                self.arm();
            }
            Err(error) => log::error!("inotify: {error}: changes are not seen until the daemon is restarted"),
        }
    }

    /// Watches what is not watched yet; what came with it.
    fn arm(&mut self) -> Vec<Change> {
        let root = self.place.root.clone();
        let base = root.base().unwrap_or(Path::new("/")).to_path_buf();
        let mut targets = vec![
            (root.path(claims::FOLDER), Role::Definitions, Change::Lost),
            (root.path(claims::AUTOSTART_FOLDER), Role::Autostart, Change::Lost),
            (root.path(status::FOLDER), Role::Status, Change::Lost),
            (root.path(store::FOLDER), Role::Switch, Change::Switch),
            (
                root.path(reservation::FOLDER),
                Role::Reservations,
                Change::Reservation,
            ),
        ];
        match &self.place.policy {
            Some(file) => {
                let file = std::path::absolute(file).unwrap_or_else(|_| file.clone());
                if let (Some(folder), Some(name)) = (file.parent(), file.file_name()) {
                    let role = Role::Policy(Some(name.into()));
                    targets.push((folder.into(), role, Change::Policy));
                }
            }
            None => {
                let main = Path::new(MAIN_FILE);
                if let (Some(folder), Some(name)) = (main.parent(), main.file_name()) {
                    let role = Role::Policy(Some(name.into()));
                    targets.push((root.path(folder), role, Change::Policy));
                }
                for folder in [DROP_IN_DIR, VENDOR_DIR] {
                    targets.push((root.path(folder), Role::Policy(None), Change::Policy));
                }
            }
        }
        let mut came = Vec::new();
        for (folder, role, change) in targets {
            let below = folder.strip_prefix(&base).map(Path::to_path_buf);
            let (start, rest) = match below {
                Ok(rest) => (base.as_path(), rest),
                Err(_) => (Path::new("/"), folder.strip_prefix("/").unwrap_or(&folder).into()),
            };
            if self.arm_one(start, &rest, role) && !came.contains(&change) {
                came.push(change);
            }
        }
        if self.add(&root.path(libvirtd::DRIVER_PID_FILE), Role::DriverFile) == Added::New {
            came.push(Change::Driver);
        }
        came
    }

    /// Watches a folder and those above it, as far as they exist; whether it is watched now and was not before.
    fn arm_one(&mut self, start: &Path, rest: &Path, role: Role) -> bool {
        let names: Vec<_> = rest
            .components()
            .filter_map(|part| match part {
                Component::Normal(name) => Some(name.to_os_string()),
                _ => None,
            })
            .collect();
        let mut at = start.to_path_buf();
        for (index, name) in names.iter().enumerate() {
            let above = at.clone();
            at.push(name);
            let this = if index + 1 == names.len() {
                role.clone()
            } else {
                Role::Above
            };
            let mut added = self.add(&at, this.clone());
            if added == Added::Missing {
                // Again after it is waited for: it may have come in between.
                self.add(&above, Role::Awaits(name.into()));
                added = self.add(&at, this.clone());
            }
            match added {
                Added::Missing => return false,
                Added::New if this == role => return true,
                Added::New | Added::Known => {}
            }
        }
        false
    }

    fn add(&mut self, path: &Path, role: Role) -> Added {
        match self
            .inotify
            .watches()
            .add(path, role.mask() | WatchMask::MASK_ADD)
        {
            Ok(descriptor) => {
                let roles = self.roles.entry(descriptor).or_default();
                if roles.contains(&role) {
                    return Added::Known;
                }
                roles.push(role);
                Added::New
            }
            Err(error) => {
                if !matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) {
                    log::warn!("{}: cannot be watched: {error}", path.display());
                }
                Added::Missing
            }
        }
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Added {
    New,
    Known,
    Missing,
}

/// What an event means to a role.
enum News {
    Change(Change),
    /// A folder that was waited for.
    Appeared,
    /// A watched folder is not what its path names any more.
    Broken,
    Nothing,
}

impl Role {
    fn mask(&self) -> WatchMask {
        let own = WatchMask::ONLYDIR | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let names = WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        match self {
            Self::Definitions | Self::Reservations => own | names,
            Self::Autostart | Self::Status | Self::Switch => own | names | WatchMask::CREATE,
            Self::Policy(_) => own | names | WatchMask::CREATE | WatchMask::CLOSE_WRITE,
            Self::DriverFile => WatchMask::MODIFY,
            Self::Above => own,
            Self::Awaits(_) => own | WatchMask::CREATE | WatchMask::MOVED_TO,
        }
    }

    fn change(&self, mask: EventMask, name: Option<&OsStr>) -> News {
        let gone = EventMask::DELETE_SELF | EventMask::MOVE_SELF | EventMask::IGNORED | EventMask::UNMOUNT;
        if mask.intersects(gone) {
            return match self {
                Self::DriverFile => News::Nothing,
                _ => News::Broken,
            };
        }
        let came = mask.intersects(EventMask::MOVED_TO | EventMask::CREATE);
        let Some(name) = name else {
            return match self {
                Self::DriverFile => News::Change(Change::Driver),
                _ => News::Nothing,
            };
        };
        let guest = || guest(name);
        let change = match self {
            Self::Definitions if came => guest().map(Change::Defined),
            Self::Definitions => guest().map(Change::Undefined),
            Self::Autostart => guest().map(Change::Autostart),
            Self::Status if Path::new(libvirtd::DRIVER_PID_FILE).file_name() == Some(name) => {
                Some(Change::Driver)
            }
            Self::Status if mask.contains(EventMask::CREATE) => None,
            Self::Status if came => guest().map(Change::Status),
            Self::Status => guest().map(Change::StatusGone),
            Self::Policy(Some(file)) => (file.as_os_str() == name).then_some(Change::Policy),
            Self::Policy(None) => Some(Change::Policy),
            Self::Switch => (Path::new(DISABLED).file_name() == Some(name)).then_some(Change::Switch),
            Self::Reservations if !is_reservation(name) => None,
            Self::Reservations if came => Some(Change::Reservation),
            Self::Reservations => Some(Change::ReservationGone),
            Self::Awaits(awaited) if came && awaited.as_os_str() == name => return News::Appeared,
            Self::Awaits(_) | Self::Above | Self::DriverFile => None,
        };
        change.map_or(News::Nothing, News::Change)
    }
}

/// Not one that is being written.
fn is_reservation(file: &OsStr) -> bool {
    let name = file.as_encoded_bytes();
    name.ends_with(b".json") && !name.starts_with(b".")
}

/// `NAME` of `NAME.xml`.
fn guest(file: &OsStr) -> Option<String> {
    let name = file.to_str()?.strip_suffix(".xml")?;
    (!name.is_empty()).then(|| name.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;
    use crate::root::Root;

    struct Host {
        dir: tempfile::TempDir,
        watch: Watch,
    }

    impl Host {
        fn new(folders: &[&str]) -> Self {
            let dir = tempfile::tempdir().unwrap();
            for folder in folders {
                fs::create_dir_all(dir.path().join(folder)).unwrap();
            }
            let place = Place {
                root: Root::new(dir.path()),
                ..Place::default()
            };
            let watch = Watch::new(&place).unwrap();
            Self { dir, watch }
        }

        fn path(&self, path: &str) -> PathBuf {
            self.dir.path().join(path)
        }

        fn mkdir(&self, path: &str) {
            fs::create_dir_all(self.path(path)).unwrap();
        }

        fn put(&self, path: &str) {
            let new = self.path(&format!("{path}.new"));
            fs::write(&new, "x").unwrap();
            fs::rename(new, self.path(path)).unwrap();
        }
    }

    fn defined(name: &str) -> Change {
        Change::Defined(name.into())
    }

    #[test]
    fn tells_what_happened_in_order() {
        let mut host = Host::new(&[
            "etc/libvirt/qemu/autostart",
            "run/libvirt/qemu",
            "etc/virtfit/policy.d",
            "run/virtfit/reservations",
        ]);
        assert_eq!(host.watch.drain(), []);
        host.put("etc/libvirt/qemu/a b.xml");
        fs::remove_file(host.path("etc/libvirt/qemu/a b.xml")).unwrap();
        host.put("etc/libvirt/qemu/a b.xml");
        host.put("etc/libvirt/qemu/notes.txt");
        host.put("run/libvirt/qemu/db.xml");
        fs::remove_file(host.path("run/libvirt/qemu/db.xml")).unwrap();
        std::os::unix::fs::symlink("../db.xml", host.path("etc/libvirt/qemu/autostart/db.xml")).unwrap();
        fs::write(host.path("run/virtfit/disabled"), "").unwrap();
        fs::write(host.path("run/virtfit/lock"), "").unwrap();
        host.put("run/virtfit/reservations/u.json");
        assert_eq!(
            host.watch.drain(),
            [
                defined("a b"),
                Change::Undefined("a b".into()),
                defined("a b"),
                Change::Status("db".into()),
                Change::StatusGone("db".into()),
                Change::Autostart("db".into()),
                Change::Switch,
                Change::Reservation,
            ]
        );
        fs::write(host.path("etc/virtfit/policy.toml"), "").unwrap();
        assert!(host.watch.drain().contains(&Change::Policy));
        host.put("etc/virtfit/policy.d/10-a.toml");
        assert!(host.watch.drain().contains(&Change::Policy));
        fs::write(host.path("etc/virtfit/notes"), "").unwrap();
        assert_eq!(host.watch.drain(), []);
    }

    #[test]
    fn folders_that_come_later_are_watched_and_told_of() {
        let mut host = Host::new(&[]);
        for folder in ["etc/libvirt/qemu", "run/libvirt/qemu", "etc/virtfit"] {
            host.mkdir(folder);
        }
        let mut seen = Vec::new();
        for _ in 0..4 {
            seen.extend(host.watch.drain());
        }
        assert!(
            seen.contains(&Change::Lost) && seen.contains(&Change::Policy),
            "{seen:?}"
        );
        host.put("etc/libvirt/qemu/a.xml");
        assert_eq!(host.watch.drain(), [defined("a")]);
        fs::write(host.path("run/libvirt/qemu/driver.pid"), "").unwrap();
        assert!(host.watch.drain().contains(&Change::Driver));
        fs::write(host.path("run/libvirt/qemu/driver.pid"), "7").unwrap();
        assert!(host.watch.drain().contains(&Change::Driver));
    }

    #[test]
    fn folders_that_are_replaced_are_watched_anew() {
        for moved in ["etc/libvirt/qemu", "etc/libvirt", "etc"] {
            let mut host = Host::new(&["etc/libvirt/qemu"]);
            fs::rename(host.path(moved), host.path("old")).unwrap();
            host.mkdir("etc/libvirt/qemu");
            let seen = host.watch.drain();
            assert!(seen.contains(&Change::Lost), "{moved}: {seen:?}");
            host.watch.drain();
            host.put("etc/libvirt/qemu/a.xml");
            assert_eq!(host.watch.drain(), [defined("a")], "{moved}");
        }
    }

    #[test]
    fn an_overflow_is_told() {
        let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
            .unwrap()
            .trim()
            .parse()
            .unwrap();
        if most > 100_000 {
            return;
        }
        let mut host = Host::new(&["etc/libvirt/qemu"]);
        let (a, b) = (
            host.path("etc/libvirt/qemu/a.xml"),
            host.path("etc/libvirt/qemu/b.xml"),
        );
        fs::write(&a, "").unwrap();
        for _ in 0..most / 4 + 10 {
            fs::rename(&a, &b).unwrap();
            fs::rename(&b, &a).unwrap();
        }
        let seen = host.watch.drain();
        assert!(seen.last() == Some(&Change::Lost), "{}", seen.len());
        host.put("etc/libvirt/qemu/c.xml");
        assert_eq!(host.watch.drain(), [defined("c")]);
    }
}
