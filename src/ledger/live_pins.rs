//! What virtfit pinned on running guests: their live XML then has masks that no provenance tells
//! from an administrator's.
//!
//! ```text
//! /run/virtfit/live/                   0755 root
//!   UUID.json                          one guest; complete or absent
//! ```
//! - **Who writes**: the daemon, before it pins, by write and rename. Both the mask that is and the
//!   one that comes are in it, so that whichever the live XML shows is known, at whatever moment it
//!   is read.
//! - **What it is good for**: a thread that floats by such a mask holds nothing, though its pin
//!   looks like one of an administrator's; and planning the guest again neither moves it nor takes
//!   its pins for wishes.
//! - **When it is void**: it is of another QEMU process than the status file's. The daemon removes
//!   it when the guest ends; one that stays means nothing.

pub use crate::types::guest_thread::Thread;
use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::hostfs::atomic::AtomicDir;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reader::files::stems;
use crate::types::idset::CpuSet;
use crate::types::live_change::LiveChange;
use crate::types::setting::Target;

/// Where they are on the host.
pub const FOLDER: &str = "/run/virtfit/live";
/// The only format there is.
pub const VERSION: u32 = 1;

/// What was pinned on one running guest.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pinned {
    /// [`VERSION`].
    pub version: u32,
    /// The guest's UUID, lower case with dashes; also the file's name.
    pub uuid: String,
    /// Its name.
    pub name: String,
    /// Its QEMU process, as the status file has it.
    pub pid: u32,
    /// No rule matches it: it is only kept off held CPUs (`unmanaged = "confine"`).
    #[serde(default)]
    pub confined: bool,
    /// Each thread that was pinned, in order.
    pub threads: Vec<Mask>,
}

/// One thread's mask.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mask {
    /// Whose.
    pub thread: Thread,
    /// Where it was put first, by the definition or live.
    pub first: CpuSet,
    /// The one it has now, or is about to get.
    pub cpus: CpuSet,
    /// The one it had before that; null: none.
    pub before: Option<CpuSet>,
    /// The thread floats: it holds nothing.
    pub floats: bool,
}

/// The records of a host, by UUID.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Records(BTreeMap<String, Pinned>);

impl Thread {
    /// The place of its pin in the XML.
    pub fn target(self) -> Target {
        match self {
            Self::Vcpu(id) => Target::VcpuPin(id),
            Self::Emulator => Target::EmulatorPin,
            Self::Iothread(id) => Target::IothreadPin(id),
        }
    }

    /// Its own pin in the XML.
    pub fn pin(self, domain: &Domain) -> Option<&CpuSet> {
        match self {
            Self::Vcpu(id) => domain.vcpupins.get(&id),
            Self::Emulator => domain.emulatorpin.as_ref(),
            Self::Iothread(id) => domain.iothreadpins.get(&id),
        }
    }

    /// The call that pins it.
    pub fn change(self, cpus: CpuSet) -> LiveChange {
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

impl Pinned {
    /// Nothing pinned yet.
    pub fn new(uuid: &str, name: &str, pid: u32) -> Self {
        Self {
            version: VERSION,
            uuid: uuid.to_ascii_lowercase(),
            name: name.into(),
            pid,
            ..Self::default()
        }
    }

    /// The mask of a thread.
    pub fn mask(&self, thread: Thread) -> Option<&Mask> {
        let at = self.threads.binary_search_by_key(&thread, |mask| mask.thread);
        at.ok().map(|at| &self.threads[at])
    }

    /// Whether this pin of the thread is one of virtfit's.
    pub fn wrote(&self, thread: Thread, pin: &CpuSet) -> bool {
        self.mask(thread)
            .is_some_and(|mask| mask.cpus == *pin || mask.before.as_ref() == Some(pin))
    }

    /// Notes that the thread gets this mask, and that its live XML says `now`; where it has none
    /// yet, that it was put on `first` before.
    pub fn set(&mut self, thread: Thread, first: &CpuSet, now: Option<&CpuSet>, cpus: CpuSet, floats: bool) {
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

    /// Tells the guest which of its threads float.
    pub fn mark(&self, guest: &mut GuestXml) {
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
    /// Reads all; what makes no sense is a warning. A host without the folder, or one that may not
    /// be looked at, has none.
    pub fn read(root: &HostFs, warnings: &mut Vec<String>) -> Self {
        let mut all = BTreeMap::new();
        for stem in stems(root, FOLDER, "json").unwrap_or_default() {
            let path = format!("{FOLDER}/{stem}.json");
            let text = match root.read_opt(&path) {
                Ok(Some(text)) => text,
                Ok(None) => continue,
                Err(error) => {
                    warnings.push(error.to_string());
                    continue;
                }
            };
            match serde_json::from_str::<Pinned>(&text) {
                Ok(mut record) if record.version == VERSION => {
                    record.threads.sort_by_key(|mask| mask.thread);
                    all.insert(record.uuid.clone(), record);
                }
                Ok(record) => warnings.push(format!(
                    "{}: format {}, but this virtfit knows only {VERSION}",
                    root.path(&path).display(),
                    record.version
                )),
                Err(error) => warnings.push(format!(
                    "{}: not a record of live pins: {error}",
                    root.path(&path).display()
                )),
            }
        }
        Self(all)
    }

    /// Adds one.
    pub fn insert(&mut self, record: Pinned) {
        self.0.insert(record.uuid.clone(), record);
    }

    /// The one of this guest's QEMU process.
    pub fn of(&self, uuid: &str, pid: u32) -> Option<&Pinned> {
        self.0
            .get(&uuid.to_ascii_lowercase())
            .filter(|record| record.pid == pid && pid != 0)
    }
}

/// Writes a record: whole or not at all.
///
/// # Errors
/// The UUID is none, or what the operating system said.
pub fn write(root: &HostFs, record: &Pinned) -> io::Result<()> {
    let text = serde_json::to_string(record).map_err(io::Error::other)? + "\n";
    let (folder, name) = (folder(root), format!("{}.json", named(&record.uuid)?));
    let written = folder.write(&name, &text);
    written.map_err(|error| at(&folder.path().join(name), &error))
}

/// The folder of all records.
pub fn folder(root: &HostFs) -> AtomicDir {
    AtomicDir::new(root.path(FOLDER), 0o755)
}

/// Removes a guest's record; one that is not there is fine.
///
/// # Errors
/// What the operating system said.
pub fn forget(root: &HostFs, uuid: &str) -> io::Result<()> {
    let file = root.path(format!("{FOLDER}/{}.json", named(uuid)?));
    match std::fs::remove_file(&file) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(at(&file, &error)),
        _ => Ok(()),
    }
}

/// An error that names the file it is about.
fn at(path: &Path, error: &io::Error) -> io::Error {
    io::Error::new(error.kind(), format!("{}: {error}", path.display()))
}

/// A UUID as a file's name: nothing else gets into a path.
fn named(uuid: &str) -> io::Result<String> {
    let none = || io::Error::new(io::ErrorKind::InvalidInput, format!("'{uuid}' is no UUID"));
    crate::types::uuid::normal(uuid).ok_or_else(none)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::guest_xml;
    use crate::types::cpulist;
    use crate::types::ids::{IothreadId, VcpuId};

    fn cpus(list: &str) -> CpuSet {
        cpulist::parse(list).unwrap()
    }

    const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";

    #[test]
    fn a_record_comes_back_and_goes() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
        let mut record = Pinned::new(UUID, "web", 77);
        record.set(Thread::Vcpu(VcpuId(0)), &cpus("0-7"), None, cpus("0-7"), true);
        record.set(
            Thread::Vcpu(VcpuId(0)),
            &cpus("0-3"),
            Some(&cpus("0-7")),
            cpus("0-3"),
            true,
        );
        record.set(Thread::Emulator, &cpus("0"), None, cpus("0"), false);
        record.set(
            Thread::Iothread(IothreadId(2)),
            &cpus("0,8"),
            None,
            cpus("0,8"),
            true,
        );
        write(&root, &record).unwrap();
        let mut warnings = Vec::new();
        let all = Records::read(&root, &mut warnings);
        assert_eq!(all.of(UUID, 77), Some(&record));
        assert_eq!(all.of(UUID, 78), None, "another process");
        assert_eq!(record.threads[0].before, Some(cpus("0-7")));
        forget(&root, UUID).unwrap();
        forget(&root, UUID).unwrap();
        assert_eq!(Records::read(&root, &mut warnings), Records::default());
        assert!(forget(&root, "../x").is_err());
        std::fs::write(root.path(format!("{FOLDER}/x.json")), "{").unwrap();
        Records::read(&root, &mut warnings);
        assert_eq!(warnings.len(), 1, "{warnings:?}");
    }

    #[test]
    fn only_masks_of_ours_float() {
        // mask in the XML, floats
        for (pin, floats) in [("0-7", true), ("0-3", true), ("4-5", false)] {
            let text = format!(
                "<domain type='kvm'><name>g</name><memory>1024</memory><vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='{pin}'/></cputune></domain>"
            );
            let mut guest = GuestXml::parse(&text).unwrap();
            let mut record = Pinned::new(UUID, "g", 1);
            record.set(Thread::Vcpu(VcpuId(0)), &cpus("0-7"), None, cpus("0-7"), true);
            record.set(
                Thread::Vcpu(VcpuId(0)),
                &cpus("0-3"),
                Some(&cpus("0-7")),
                cpus("0-3"),
                true,
            );
            record.mark(&mut guest);
            assert_eq!(guest_xml::pins(&guest, None).is_empty(), floats, "{pin}");
        }
    }
}
