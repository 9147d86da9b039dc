//! Roles of watched folders, and the meaning of their events.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};

use inotify::{EventMask, WatchMask};

use crate::daemon::watch::Change;
use crate::host::libvirt_daemon;
use virtfit_hook::wire::DISABLED;

/// Role of a watched folder.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Role {
    Definitions,
    Autostart,
    Status,
    DriverFile,
    /// Any file, or only the file of this name.
    Policy(Option<PathBuf>),
    /// `/run/virtfit`.
    Runtime,
    Reservations,
    /// Live records, or undecided marks.
    Records,
    /// `/var/lib/virtfit`.
    State,
    /// A folder above a watched one: only its own removal or move counts.
    Above,
    /// A folder in which the folder of this name is awaited.
    Awaits(PathBuf),
}

/// Meaning of an event for a role.
pub(super) enum News {
    Change(Change),
    /// A folder that was awaited is there.
    Appeared,
    /// A watched folder is no longer the one that its path names.
    Broken,
    Nothing,
}

impl Role {
    pub(super) fn mask(&self) -> WatchMask {
        let own = WatchMask::ONLYDIR | WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
        let names = WatchMask::MOVED_TO | WatchMask::MOVED_FROM | WatchMask::DELETE;
        match self {
            Self::Definitions | Self::Reservations | Self::Records | Self::State => own | names,
            Self::Autostart | Self::Status | Self::Runtime => own | names | WatchMask::CREATE,
            Self::Policy(_) => own | names | WatchMask::CREATE | WatchMask::CLOSE_WRITE,
            Self::DriverFile => WatchMask::MODIFY,
            Self::Above => own,
            Self::Awaits(_) => own | WatchMask::CREATE | WatchMask::MOVED_TO,
        }
    }

    pub(super) fn change(&self, mask: EventMask, name: Option<&OsStr>) -> News {
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
            Self::Status if Path::new(libvirt_daemon::DRIVER_PID_FILE).file_name() == Some(name) => {
                Some(Change::Driver)
            }
            Self::Status if mask.contains(EventMask::CREATE) => None,
            Self::Status if came => guest().map(Change::Status),
            Self::Status => guest().map(Change::StatusGone),
            Self::Policy(Some(file)) => (file.as_os_str() == name).then_some(Change::Policy),
            Self::Policy(None) => Some(Change::Policy),
            Self::Runtime if Path::new(DISABLED).file_name() == Some(name) => Some(Change::Switch),
            Self::Runtime => (!came && !is_temporary(name)).then_some(Change::Swept),
            Self::State => (!came && !is_temporary(name)).then_some(Change::State),
            Self::Reservations | Self::Records if !is_record(name) => None,
            Self::Records if came => Some(Change::Record),
            Self::Records => Some(Change::Swept),
            Self::Reservations if came => Some(Change::Reservation),
            Self::Reservations => Some(Change::ReservationGone),
            Self::Awaits(awaited) if came && awaited.as_os_str() == name => return News::Appeared,
            Self::Awaits(_) | Self::Above | Self::DriverFile => None,
        };
        change.map_or(News::Nothing, News::Change)
    }
}

/// Returns whether a file is a reservation or another record, and not one that is still being
/// written.
fn is_record(file: &OsStr) -> bool {
    file.as_encoded_bytes().ends_with(b".json") && !is_temporary(file)
}

/// Returns whether a file is one that is still being written: it goes away by its rename.
fn is_temporary(file: &OsStr) -> bool {
    file.as_encoded_bytes().starts_with(b".")
}

/// Returns `NAME` of `NAME.xml`.
fn guest(file: &OsStr) -> Option<String> {
    let name = file.to_str()?.strip_suffix(".xml")?;
    (!name.is_empty()).then(|| name.to_string())
}
