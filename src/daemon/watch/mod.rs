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
//! libvirt writes definitions and status as `NAME.xml.new` and renames them (`virFileRewrite`), so
//! a rename is a whole file. A folder that does not exist is waited for in its nearest parent; one
//! that is moved or removed, with any folder above it, is watched anew, and then, as after an
//! overflow of the kernel's queue, [`Change::Lost`] says that anything may have changed.

mod role;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use log::Level;

use crate::host::libvirt_daemon;
use crate::ledger::{claims, reservation, status, store};
use crate::logging::repeats::Repeats;
use crate::policy::load::{DROP_IN_DIR, MAIN_FILE, VENDOR_DIR};
use crate::snapshot::Sources;
use role::{News, Role};

/// What comes again with each event while the kernel has no room for watches.
static BROKEN: Repeats = Repeats::new();
static UNWATCHED: Repeats = Repeats::new();

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
    /// [`DISABLED`](virtfit_hook::wire::DISABLED) came or went.
    Switch,
    /// A reservation was written.
    Reservation,
    /// A reservation went away.
    ReservationGone,
    /// Anything may have changed.
    Lost,
}

/// The watches.
pub struct Watch {
    place: Sources,
    inotify: Inotify,
    roles: HashMap<WatchDescriptor, Vec<Role>>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Watches all there is to watch.
    ///
    /// # Errors
    /// The kernel gives no inotify (`fs.inotify.max_user_instances`).
    pub fn new(place: &Sources) -> io::Result<Self> {
        let mut watch = Self {
            place: place.clone(),
            inotify: Inotify::init()
                .map_err(|error| io::Error::new(error.kind(), format!("inotify: {error}")))?,
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
                    BROKEN.say(
                        Level::Warn,
                        &format!("inotify: {error}: all watches are set up anew"),
                    );
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
            self.add(
                &self.place.root.path(libvirt_daemon::DRIVER_PID_FILE),
                Role::DriverFile,
            );
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
            Err(error) => {
                let line = format!("inotify: {error}: changes are not seen until the daemon is restarted");
                BROKEN.say(Level::Error, &line);
            }
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
        if self.add(&root.path(libvirt_daemon::DRIVER_PID_FILE), Role::DriverFile) == Added::New {
            came.push(Change::Driver);
        }
        came
    }

    /// Watches a folder and those above it, as far as they exist; whether it is watched now and was
    /// not before.
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
                    UNWATCHED.say(
                        Level::Warn,
                        &format!("{}: cannot be watched: {error}", path.display()),
                    );
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

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
