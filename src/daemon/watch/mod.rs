//! Changes in the folders that concern the daemon, from one inotify, on which the worker sleeps.
//! Hooks read the ledger's folders by another one, see `hostfs::changed_folders`.
//!
//! ```text
//! /etc/libvirt/qemu             NAME.xml renamed in or gone      a definition
//! /etc/libvirt/qemu/autostart   NAME.xml                         its autostart link
//! /run/libvirt/qemu             NAME.xml, driver.pid             a guest's status; libvirt's driver
//! policy files and folders      anything                         the policy
//! /run/virtfit                  disabled                         the switch
//!                               anything gone                    virtfit's own files, removed by others
//! /run/virtfit/reservations     UUID.json                        reservations
//! /run/virtfit/live, undecided  UUID.json                        records and marks
//! /var/lib/virtfit, and below   anything gone                    what the daemon remembers, removed by others
//! ```
//! libvirt writes definitions and status as `NAME.xml.new` and renames them (`virFileRewrite`), so
//! a file is complete when its rename is seen. A folder that does not exist is waited for in its
//! nearest parent. When a folder is moved or removed, or any folder above it, all watches are set
//! up again; then, as after an overflow of the kernel's queue, [`Change::Lost`] says that anything
//! may have changed.

mod role;

use std::collections::HashMap;
use std::io::{self, ErrorKind};
use std::os::fd::{AsFd, BorrowedFd};
use std::path::{Component, Path};

use inotify::{EventMask, Inotify, WatchDescriptor, WatchMask};
use log::Level;

use crate::daemon::{earlier_pins, history, untried};
use crate::host::{failed_starts, libvirt_daemon};
use crate::hostfs::at_path::{at_path, io_words};
use crate::ledger::{claims, live_pins, reservation, status, store, undecided};
use crate::logging::repeats::Repeats;
use crate::policy::load::{DROP_IN_DIR, MAIN_FILE, VENDOR_DIR};
use crate::snapshot::Sources;
use role::{News, Role};

/// Log lines that would come with each event while the kernel has no room for watches.
static BROKEN: Repeats = Repeats::new();
static UNWATCHED: Repeats = Repeats::new();

/// Room for the events of one read, in bytes.
const BUFFER: usize = 16 << 10;

/// Change in a watched folder; names are guests'. Changes come in the order in which they happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Change {
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
    /// A live record or an undecided mark was written.
    Record,
    /// A file or folder went away from `/run/virtfit`, or a live record or an undecided mark.
    Swept,
    /// A file or folder went away from `/var/lib/virtfit`, or that folder came.
    State,
    /// Anything may have changed.
    Lost,
}

/// Watches of the daemon.
pub(crate) struct Watch {
    place: Sources,
    inotify: Inotify,
    roles: HashMap<WatchDescriptor, Vec<Role>>,
    buffer: Vec<u8>,
}

impl Watch {
    /// Watches all folders that exist.
    ///
    /// # Errors
    /// The kernel gives no inotify (`fs.inotify.max_user_instances`).
    pub(crate) fn new(place: &Sources) -> io::Result<Self> {
        let mut watch = Self {
            place: place.clone(),
            inotify: Inotify::init().map_err(|error| at_path("inotify", error))?,
            roles: HashMap::new(),
            buffer: vec![0; BUFFER],
        };
        watch.arm();
        Ok(watch)
    }

    /// Returns a descriptor that is readable while there are events to [`drain`](Self::drain).
    pub(crate) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Returns the changes since the last call, without waiting.
    pub(crate) fn drain(&mut self) -> Vec<Change> {
        let mut changes = Vec::new();
        let mut appeared = false;
        let mut broken = false;
        // The kernel's queue is read until it is empty, and each event is given to the roles of its
        // watch.
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
        // Watches follow what happened: all are set up again after a loss, and a folder or file
        // that appeared gets its own.
        let driver_came = changes.contains(&Change::Driver);
        if broken {
            self.renew();
            changes.push(Change::Lost);
        } else if appeared {
            // A folder that came and went again before it was watched reported nothing of that.
            changes.push(Change::Swept);
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

    /// Watches all folders and files that are not watched yet. Returns the changes that may have
    /// been missed in these.
    fn arm(&mut self) -> Vec<Change> {
        let root = self.place.root.clone();
        let base = root.base().unwrap_or(Path::new("/")).to_path_buf();
        // Each folder has a role, and a change to report when its watch begins.
        let mut targets = vec![
            (root.path(claims::FOLDER), Role::Definitions, Change::Lost),
            (root.path(claims::AUTOSTART_FOLDER), Role::Autostart, Change::Lost),
            (root.path(status::FOLDER), Role::Status, Change::Lost),
            (root.path(store::FOLDER), Role::Runtime, Change::Switch),
            (root.path(live_pins::FOLDER), Role::Records, Change::Record),
            (root.path(undecided::FOLDER), Role::Records, Change::Record),
            (root.path(failed_starts::FOLDER), Role::State, Change::State),
            (root.path(history::FOLDER), Role::State, Change::State),
            (root.path(earlier_pins::FOLDER), Role::State, Change::State),
            (root.path(untried::FOLDER), Role::State, Change::State),
            (
                root.path(reservation::FOLDER),
                Role::Reservations,
                Change::Reservation,
            ),
        ];
        // The policy is one named file, or the main file and all files of two folders.
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
        // The way from the root to each folder is watched too, as far as it exists.
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

    /// Watches a folder and those above it, as far as they exist. Returns whether the folder is
    /// watched now and was not before.
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
                // Tried again, as the folder may have come before its parent was watched.
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
                        &format!("{}: cannot be watched: {}", path.display(), io_words(&error)),
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
