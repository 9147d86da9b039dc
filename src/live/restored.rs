//! Guests that were saved while `unmanaged = "confine"` kept their threads off held CPUs: libvirt
//! saves the masks with the guest, and its next life begins with them as if an administrator had
//! pinned it.
//!
//! ```text
//! a confined guest ends      its live record is kept in /var/lib/virtfit/confined/UUID.json while it is defined
//! its next life is visited   masks that are those of the record, and that its definition does not have, go on as virtfit's
//!                            in either case the kept record is removed
//! ```

use serde::{Deserialize, Serialize};

use crate::domain;
use crate::hostfs::HostFs;
use crate::hostfs::records::{Record, RecordFolder};
use crate::ledger::claims;
use crate::ledger::live_pins::{self, Pinned, Records};
use crate::ledger::running::Running;

/// Folder of the kept records on the host.
const FOLDER: &str = "/var/lib/virtfit/confined";

/// Live record of a confined guest's last life.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(transparent)]
struct Saved(Pinned);

impl Record for Saved {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o700;

    fn uuid(&self) -> Option<&str> {
        Some(&self.0.uuid)
    }
}

/// Keeps the live record of a guest that ended, if it was confined and may have been saved.
pub(crate) fn keep(root: &HostFs, record: &Pinned) {
    if !record.confined || !root.exists(claims::path(&record.name)) {
        return;
    }
    if let Err(error) = RecordFolder::new(root).write(&record.uuid, &Saved(record.clone()), None) {
        log::warn!("{}: {error}: restored, it keeps its masks", record.name);
    }
}

/// Forgets the kept records of guests that are defined no more.
pub(crate) fn sweep(root: &HostFs) {
    let folder = RecordFolder::<Saved>::new(root);
    for Saved(record) in folder.valid() {
        if !root.exists(claims::path(&record.name)) {
            forget(&folder, &record.uuid);
        }
    }
}

/// Makes the masks of a guest's last life, with which it was restored, those of its present life.
/// `text` is its status file.
pub(crate) fn take_over(root: &HostFs, name: &str, text: &str, pinned: &Records) {
    let folder = RecordFolder::<Saved>::new(root);
    let is_of_it = |record: &Pinned| record.confined && record.name == name;
    let none_kept = folder.stems().is_ok_and(|stems| stems.is_empty());
    if none_kept && !pinned.iter().any(is_of_it) {
        return;
    }
    let Ok(running) = Running::parse(text, pinned) else {
        return;
    };
    let (domain, pid) = (running.domain(), running.pid);
    if running.starting || pid == 0 {
        return;
    }
    // Without the daemon at the guest's end, the record is still among the live ones.
    let kept = folder
        .read(&domain.uuid)
        .ok()
        .flatten()
        .map(|Saved(record)| record);
    let kept = kept.or_else(|| pinned.earlier(&domain.uuid, pid).cloned());
    let Some(mut record) = kept.filter(|record| record.confined) else {
        return;
    };
    let definition = root.read(claims::path(name)).ok();
    let definition = definition.and_then(|text| domain::parse::from_text(&text).ok());
    if let (Some(definition), None) = (definition, pinned.of(&domain.uuid, pid)) {
        // A pin that the definition has, too, is an administrator's.
        record.threads.retain(|mask| {
            let pin = mask.thread.pin(domain);
            mask.thread.pin(&definition).is_none() && pin.is_some_and(|pin| mask.is_or_was(pin))
        });
        record.pid = pid;
        record.name = name.into();
        let written = match record.threads.is_empty() {
            true => Ok(()),
            false => live_pins::write(root, &record),
        };
        if let Err(error) = written {
            log::warn!("{name}: {error}: restored, it keeps its masks");
        }
    }
    forget(&folder, &domain.uuid);
}

fn forget(folder: &RecordFolder<Saved>, uuid: &str) {
    if let Err(error) = folder.remove(uuid) {
        log::debug!("{error}");
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::ledger::live_pins::Thread;
    use crate::ledger::status;
    use crate::types::ids::VcpuId;
    use crate::types::idset::CpuSet;

    const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";

    fn cpus(list: &str) -> CpuSet {
        crate::types::cpulist::parse_plain(list).unwrap()
    }

    fn xml(pin: Option<&str>) -> String {
        let pin = pin.map(|pin| format!("<cputune><vcpupin vcpu='0' cpuset='{pin}'/></cputune>"));
        format!(
            "<domain type='kvm'><name>web</name><uuid>{UUID}</uuid><memory unit='MiB'>64</memory>\
             <vcpu>1</vcpu>{}</domain>",
            pin.unwrap_or_default()
        )
    }

    #[test]
    fn masks_that_were_saved_with_a_confined_guest_stay_virtfits() {
        let pinned = |pid: u32, confined: bool| {
            let mut record = Pinned::new(UUID, "web", pid);
            record.set(Thread::Vcpu(VcpuId(0)), &cpus("0-3"), None, cpus("0"), true);
            Pinned { confined, ..record }
        };
        // was it confined, did the daemon see its end, pin in the definition (None: no definition),
        // pin in the next life, are the masks virtfit's then
        for (confined, seen, defined, now, ours) in [
            (true, true, Some(None), Some("0"), true),
            (true, false, Some(None), Some("0"), true),
            (false, true, Some(None), Some("0"), false),
            // Booted, pinned otherwise, pinned by its definition, transient.
            (true, true, Some(None), None, false),
            (true, true, Some(None), Some("1"), false),
            (true, true, Some(Some("0")), Some("0"), false),
            (true, true, None, Some("0"), false),
        ] {
            let what = format!("{confined} {seen} {defined:?} {now:?}");
            let folder = tempfile::tempdir().unwrap();
            let root = HostFs::new(folder.path());
            let put = |path: String, text: &str| {
                let path = root.path(path);
                std::fs::create_dir_all(path.parent().unwrap()).unwrap();
                std::fs::write(path, text).unwrap();
            };
            if let Some(pin) = defined {
                put(claims::path("web"), &xml(pin));
            }
            std::fs::create_dir_all(root.path(status::FOLDER)).unwrap();
            live_pins::write(&root, &pinned(100, confined)).unwrap();
            if seen {
                crate::live::forget_ended(&root).unwrap();
                assert!(!live_pins::folder(&root).is_there(UUID), "{what}");
            }
            let live = xml(now).replacen("<domain ", "<domain id='2' ", 1);
            let status = format!(
                "<domstatus state='running' reason='restored' pid='200'><vcpus><vcpu id='0' pid='200'/></vcpus>{live}</domstatus>"
            );
            let records = Records::read(&root, &mut Vec::new());
            take_over(&root, "web", &status, &records);
            let records = Records::read(&root, &mut Vec::new());
            let record = records.of(UUID, 200);
            assert_eq!(record.is_some(), ours, "{what}");
            assert!(record.is_none_or(|record| record.confined), "{what}");
            // A pin by hand in the life after it is not taken for virtfit's.
            assert!(!RecordFolder::<Saved>::new(&root).is_there(UUID), "{what}");
        }
    }

    #[test]
    fn records_of_guests_that_are_defined_no_more_go() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
        let definition = root.path(claims::path("web"));
        std::fs::create_dir_all(definition.parent().unwrap()).unwrap();
        std::fs::write(&definition, xml(None)).unwrap();
        let record = Pinned {
            confined: true,
            ..Pinned::new(UUID, "web", 100)
        };
        keep(&root, &record);
        sweep(&root);
        assert!(RecordFolder::<Saved>::new(&root).is_there(UUID));
        std::fs::remove_file(&definition).unwrap();
        sweep(&root);
        assert!(!RecordFolder::<Saved>::new(&root).is_there(UUID));
    }
}
