//! Earlier pins of guests: a guest that is defined again without its pins (by Ansible or Terraform)
//! gets back its CPUs.
//!
//! Such tools may undefine the guest first, so the pins of a guest that is gone are kept for a day,
//! those of at most [`MOST_GONE`] guests.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::daemon::records::Records;
use crate::hostfs::HostFs;
use crate::hostfs::records::Record;
use crate::ledger::{claims, status};
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;
use crate::types::plan::Placement;

/// Folder of these records on the host.
pub(crate) const FOLDER: &str = "/var/lib/virtfit/earlier";

/// Earlier pins of all guests, by UUID.
pub(crate) type PreviousPinsRecords = Records<PreviousPins>;

/// Pins that a guest had.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PreviousPins {
    /// Guest's name: a guest that is created again has another UUID.
    pub name: String,
    /// CPUs of each vCPU's pin.
    pub pins: BTreeMap<VcpuId, CpuSet>,
    /// Time at which neither a definition nor a guest of this name was found, in seconds since the
    /// epoch; `None`: there was one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gone_since: Option<u64>,
}

impl Record for PreviousPins {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o700;
}

/// Time for which the pins of a guest that is gone are kept, in seconds.
const KEPT_SECONDS: u64 = 24 * 60 * 60;
/// Largest number of guests that are gone whose pins are kept; the oldest go first.
pub(crate) const MOST_GONE: usize = 256;

impl PreviousPins {
    /// Returns the pins of a placement; `None` where it does not fit or has no CPUs of its own.
    pub(crate) fn of(name: &str, placement: &Placement) -> Option<Self> {
        let own = placement.fits && !placement.dedicated.is_empty();
        own.then(|| Self {
            name: name.into(),
            pins: placement.vcpus.clone(),
            gone_since: None,
        })
    }
}

/// Notes which guests are gone, and removes the pins of those that went long ago, and of those of
/// an earlier UUID. `now` is in seconds since the epoch.
pub(crate) fn sweep(records: &mut PreviousPinsRecords, root: &HostFs, now: u64) {
    let mut gone: Vec<(u64, String)> = Vec::new();
    let mut noted: Vec<(String, PreviousPins)> = Vec::new();
    for (uuid, earlier) in records.iter() {
        let is_there = root.exists(claims::path(&earlier.name)) || root.exists(status::path(&earlier.name));
        // A time in the future means that the clock was set back.
        let since = earlier.gone_since.filter(|since| *since <= now).unwrap_or(now);
        let since = (!is_there).then_some(since);
        gone.extend(since.map(|since| (since, uuid.clone())));
        if earlier.gone_since != since {
            let earlier = PreviousPins {
                gone_since: since,
                ..earlier.clone()
            };
            noted.push((uuid.clone(), earlier));
        }
    }
    gone.sort();
    let too_many = gone.len().saturating_sub(MOST_GONE);
    for (at, (since, uuid)) in gone.iter().enumerate() {
        if at < too_many || now.saturating_sub(*since) >= KEPT_SECONDS {
            noted.retain(|(other, _)| other != uuid);
            records.remove(uuid);
        }
    }
    for (uuid, earlier) in noted {
        records.put(&uuid, earlier);
    }
}

/// Keeps a guest's pins, in the place of those of an earlier guest of its name.
pub(crate) fn keep(records: &mut PreviousPinsRecords, uuid: &str, earlier: PreviousPins) {
    let others = records.iter();
    let others = others.filter(|(other, before)| *other != uuid && before.name == earlier.name);
    let others: Vec<String> = others.map(|(other, _)| other.clone()).collect();
    others.iter().for_each(|other| records.remove(other));
    records.put(uuid, earlier);
}

/// Returns the pins a guest had, found by its UUID, else by its name.
pub(crate) fn pins<'r>(
    records: &'r PreviousPinsRecords,
    uuid: &str,
    name: &str,
) -> Option<&'r BTreeMap<VcpuId, CpuSet>> {
    let by_name = || {
        let mut all = records.iter().map(|(_, earlier)| earlier);
        all.find(|earlier| earlier.name == name)
    };
    records.get(uuid).or_else(by_name).map(|earlier| &earlier.pins)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn uuid(number: usize) -> String {
        format!("8c1f6f0e-0000-4000-8000-{number:012}")
    }

    fn earlier(name: &str) -> PreviousPins {
        PreviousPins {
            name: name.into(),
            ..PreviousPins::default()
        }
    }

    #[test]
    fn pins_of_guests_that_are_gone_go_in_the_end() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let put = |path: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, "").unwrap();
        };
        let left =
            |records: &PreviousPinsRecords| records.iter().map(|(_, it)| it.name.clone()).collect::<Vec<_>>();
        put("etc/libvirt/qemu/defined.xml");
        put("run/libvirt/qemu/runs.xml");
        let mut records = PreviousPinsRecords::load(&root);
        for (number, name) in ["defined", "runs", "gone", "back"].into_iter().enumerate() {
            keep(&mut records, &uuid(number), earlier(name));
        }
        let (day, now) = (KEPT_SECONDS, 10 * KEPT_SECONDS);
        sweep(&mut records, &root, now);
        sweep(&mut records, &root, now + day - 1);
        assert_eq!(left(&records), ["defined", "runs", "gone", "back"]);
        put("etc/libvirt/qemu/back.xml");
        sweep(&mut records, &root, now + day - 1);
        // Another daemon finds what this one noted.
        let mut records = PreviousPinsRecords::load(&root);
        sweep(&mut records, &root, now + day);
        assert_eq!(left(&records), ["defined", "runs", "back"]);
        // The clock was set back, and the guest went.
        std::fs::remove_file(dir.path().join("etc/libvirt/qemu/back.xml")).unwrap();
        sweep(&mut records, &root, now + day);
        sweep(&mut records, &root, 5);
        sweep(&mut records, &root, 4 + day);
        assert_eq!(left(&records), ["defined", "runs", "back"]);
        sweep(&mut records, &root, 5 + day);
        assert_eq!(left(&records), ["defined", "runs"]);
    }

    #[test]
    fn as_many_are_kept_as_were_made_last() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let mut records = PreviousPinsRecords::load(&root);
        for number in 0..MOST_GONE + 3 {
            keep(&mut records, &uuid(number), earlier(&format!("g{number}")));
            sweep(&mut records, &root, 1000 + number as u64);
        }
        let names: Vec<&str> = records.iter().map(|(_, earlier)| earlier.name.as_str()).collect();
        assert_eq!((names.len(), names[0]), (MOST_GONE, "g3"));
        // A guest that is made again under its name has one record.
        keep(&mut records, &uuid(9999), earlier("g3"));
        assert_eq!(
            records.iter().filter(|(_, earlier)| earlier.name == "g3").count(),
            1
        );
    }
}
