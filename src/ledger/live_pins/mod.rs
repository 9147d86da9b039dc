//! Records of the masks virtfit set on running guests: no provenance distinguishes these masks in
//! the live XML from an administrator's.
//!
//! ```text
//! /run/virtfit/live/                   0755 root
//!   UUID.json                          one guest; complete or absent
//! ```
//! - **Written** by the daemon before it pins, by write and rename. A record has both the present
//!   mask and the next one, so that either is recognised in the live XML, at whatever moment that
//!   is read.
//! - **Used** to find threads that float: they hold nothing, though their pins look like an
//!   administrator's. Planning the guest again neither moves such a thread nor takes its pin for a
//!   wish of the administrator.
//! - **Void** if its QEMU process is not the one of the status file. The daemon removes the record
//!   when the guest ends; a record that stays behind has no effect.

pub(crate) use crate::types::guest_thread::Thread;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::hostfs::records::{Record, RecordError, RecordFolder};
use crate::ledger::guest_xml::GuestXml;
use crate::types::idset::CpuSet;
use crate::types::live_change::LiveChange;
use crate::types::setting::Target;

/// Folder of the records on the host.
pub(crate) const FOLDER: &str = "/run/virtfit/live";
/// Version of the records' format; only this one is read.
const VERSION: u32 = 1;

/// Live record of one running guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// Always [`VERSION`].
    pub version: u32,
    /// Guest's UUID, lower case with dashes; also the file's name.
    pub uuid: String,
    /// Guest's name.
    pub name: String,
    /// Process id of QEMU, as in the status file.
    pub pid: u32,
    /// `true` if no rule matches the guest: it is only kept off held CPUs (`unmanaged =
    /// "confine"`).
    #[serde(default)]
    pub confined: bool,
    /// Masks of the pinned threads, sorted by thread.
    pub threads: Vec<Mask>,
}

/// Masks of one thread.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// Pinned thread.
    pub thread: Thread,
    /// CPUs the thread was first put on, by the definition or live.
    pub first: CpuSet,
    /// Present mask, or the mask that the thread is about to get.
    pub cpus: CpuSet,
    /// Mask before that; null: none.
    pub before: Option<CpuSet>,
    /// `true` if the thread floats: it holds nothing.
    pub floats: bool,
}

/// Live records of a host, by UUID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records(BTreeMap<String, Pinned>);

impl Thread {
    /// Returns the place of the thread's pin in the XML.
    pub(crate) fn target(self) -> Target {
        match self {
            Self::Vcpu(id) => Target::VcpuPin(id),
            Self::Emulator => Target::EmulatorPin,
            Self::Iothread(id) => Target::IothreadPin(id),
        }
    }

    /// Returns the thread's own pin in the XML.
    pub(crate) fn pin(self, domain: &Domain) -> Option<&CpuSet> {
        match self {
            Self::Vcpu(id) => domain.vcpupins.get(&id),
            Self::Emulator => domain.emulatorpin.as_ref(),
            Self::Iothread(id) => domain.iothreadpins.get(&id),
        }
    }

    /// Returns the call that pins the thread.
    pub(crate) fn change(self, cpus: CpuSet) -> LiveChange {
        match self {
            Self::Vcpu(id) => LiveChange::PinVcpu(id, cpus),
            Self::Emulator => LiveChange::PinEmulator(cpus),
            Self::Iothread(id) => LiveChange::PinIothread(id, cpus),
        }
    }
}

impl fmt::Display for Thread {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Vcpu(id) => write!(f, "vCPU {id}"),
            Self::Emulator => write!(f, "emulator"),
            Self::Iothread(id) => write!(f, "iothread {id}"),
        }
    }
}

impl Record for Pinned {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o755;
    const NOT_ONE: &'static str = "not a record of live pins: ";
    const FORMAT: Option<(&'static str, u32)> = Some(("format", VERSION));

    fn uuid(&self) -> Option<&str> {
        Some(&self.uuid)
    }
}

impl Mask {
    /// Returns whether virtfit set the thread to these CPUs, last or before that.
    pub(crate) fn is_or_was(&self, pin: &CpuSet) -> bool {
        self.cpus == *pin || self.before.as_ref() == Some(pin)
    }
}

impl Pinned {
    /// Makes a record without threads.
    pub(crate) fn new(uuid: &str, name: &str, pid: u32) -> Self {
        Self {
            version: VERSION,
            uuid: uuid.to_ascii_lowercase(),
            name: name.into(),
            pid,
            ..Self::default()
        }
    }

    /// Returns the masks of a thread.
    pub(crate) fn mask(&self, thread: Thread) -> Option<&Mask> {
        let at = self.threads.binary_search_by_key(&thread, |mask| mask.thread);
        at.ok().map(|at| &self.threads[at])
    }

    /// Returns whether this pin of the thread is one that virtfit set.
    pub(crate) fn wrote(&self, thread: Thread, pin: &CpuSet) -> bool {
        self.mask(thread).is_some_and(|mask| mask.is_or_was(pin))
    }

    /// Records that the thread gets the mask `cpus` while its live XML says `now`; `first` is kept
    /// as the thread's first mask if the record has none yet.
    pub(crate) fn set(
        &mut self,
        thread: Thread,
        first: &CpuSet,
        now: Option<&CpuSet>,
        cpus: CpuSet,
        floats: bool,
    ) {
        let mask = |first: CpuSet| Mask {
            thread,
            first,
            cpus,
            before: now.cloned(),
            floats,
        };
        match self.threads.binary_search_by_key(&thread, |mask| mask.thread) {
            Ok(at) => self.threads[at] = mask(self.threads[at].first.clone()),
            Err(at) => self.threads.insert(at, mask(first.clone())),
        }
    }

    /// Adds the threads that float by this record to the guest's floating threads.
    pub(crate) fn mark(&self, guest: &mut GuestXml) {
        for mask in self.threads.iter().filter(|mask| mask.floats) {
            let ours = mask
                .thread
                .pin(&guest.domain)
                .is_some_and(|pin| self.wrote(mask.thread, pin));
            if ours {
                guest.floating.insert(mask.thread.target());
            }
        }
    }
}

impl Records {
    /// Reads all live records; a malformed one is a warning. A missing or unreadable folder counts
    /// as an empty one.
    pub(crate) fn read(root: &HostFs, warnings: &mut Vec<String>) -> Self {
        let mut all = BTreeMap::new();
        for (stem, read) in folder(root).all() {
            match read {
                Ok(mut record) => {
                    record.threads.sort_by_key(|mask| mask.thread);
                    all.insert(record.uuid.clone(), record);
                }
                Err(error) if error.is_io() => warnings.push(error.to_string()),
                Err(error) => {
                    let path = root.path(format!("{FOLDER}/{stem}.json"));
                    warnings.push(format!("{}: {error}", path.display()));
                }
            }
        }
        Self(all)
    }

    /// Returns all records.
    pub fn iter(&self) -> impl Iterator<Item = &Pinned> {
        self.0.values()
    }

    /// Returns the UUIDs of the guests whose record is another one in `other`, or is in one of them
    /// only.
    pub(crate) fn differing<'r>(&'r self, other: &'r Self) -> BTreeSet<&'r str> {
        let uuids = self.0.keys().chain(other.0.keys());
        let differs = |uuid: &&String| self.0.get(*uuid) != other.0.get(*uuid);
        uuids.filter(differs).map(String::as_str).collect()
    }

    /// Adds or replaces a guest's record.
    pub fn insert(&mut self, record: Pinned) {
        self.0.insert(record.uuid.clone(), record);
    }

    /// Returns the record of this guest's QEMU process.
    pub(crate) fn of(&self, uuid: &str, pid: u32) -> Option<&Pinned> {
        self.0
            .get(&uuid.to_ascii_lowercase())
            .filter(|record| record.pid == pid && pid != 0)
    }

    /// Returns the record of another QEMU process of this guest's, which has ended.
    pub(crate) fn earlier(&self, uuid: &str, pid: u32) -> Option<&Pinned> {
        let record = self.0.get(&uuid.to_ascii_lowercase());
        record.filter(|record| record.pid != pid)
    }
}

/// Returns the folder of all records.
pub(crate) fn folder(root: &HostFs) -> RecordFolder<Pinned> {
    RecordFolder::new(root)
}

/// Writes a record, completely or not at all.
///
/// # Errors
/// The UUID is malformed, or the operating system's error.
pub(crate) fn write(root: &HostFs, record: &Pinned) -> Result<(), RecordError> {
    folder(root).write(&record.uuid, record, None)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
