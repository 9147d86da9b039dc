//! Iothreads that the XML itself asks for, and the devices that they can serve.

use std::collections::BTreeSet;

use crate::domain::{Disk, Domain};
use crate::host::Host;
use crate::policy::profile::{DiskRule, Profile};
use crate::types::ids::IothreadId;
use crate::types::reason::LeftOut;

/// Returns the fewest iothreads a guest can have: all that are listed, scheduled or in a mapping,
/// none of which virtfit takes out.
pub(crate) fn least_iothreads(domain: &Domain) -> u32 {
    let disks = domain
        .disks
        .iter()
        .map(|disk| (disk.iothread_mapping, &disk.iothread));
    let controllers = domain
        .scsi_controllers
        .iter()
        .map(|controller| (controller.iothread_mapping, &controller.iothread));
    let mapped: BTreeSet<IothreadId> = disks
        .chain(controllers)
        .filter(|(mapping, _)| *mapping)
        .flat_map(|(_, ids)| ids.iter().flat_map(|ids| ids.split(',')))
        .filter_map(|id| id.trim().parse().ok().map(IothreadId))
        .collect();
    let last = domain
        .iothread_ids
        .iter()
        .rposition(|id| domain.iothreads_named.contains(id) || mapped.contains(id));
    last.map_or(0, |index| index as u32 + 1)
}

/// Versions of libvirt and QEMU from which a disk can have several iothreads.
const FIRST_LIBVIRT: u32 = 10_000_000;
const FIRST_QEMU: u32 = 9_000_000;

/// Iothreads that disks are to have.
#[derive(Debug, Clone)]
pub(crate) struct PerDisk {
    /// Number for each disk.
    most: u32,
    /// Queues of disks whose XML does not say.
    queues: u32,
    /// Reason why a disk has one, though the profile asks for several.
    pub left_out: Option<LeftOut>,
}

impl PerDisk {
    /// Works out what a profile asks for and this host can do.
    pub(crate) fn new(profile: &Profile, domain: &Domain, host: &Host) -> Self {
        let emulator = host.emulator(&domain.emulator, &domain.arch);
        let left_out = match emulator {
            _ if profile.iothreads_per_disk == 1 => None,
            None => Some(LeftOut::EmulatorUnknown),
            Some(emulator) if emulator.libvirt < FIRST_LIBVIRT || emulator.qemu < FIRST_QEMU => {
                Some(LeftOut::EmulatorOld)
            }
            Some(_) => None,
        };
        let written = match &profile.disk.queues {
            DiskRule::Value(queues) => queues.parse().ok(),
            _ => None,
        };
        Self {
            most: if left_out.is_some() {
                1
            } else {
                profile.iothreads_per_disk
            },
            // QEMU gives a disk a queue for each vCPU.
            queues: written.unwrap_or(domain.vcpus),
            left_out,
        }
    }

    /// Returns the number for a disk: no more than it has queues.
    pub(crate) fn of(&self, disk: &Disk) -> u32 {
        let queues = disk.queues.as_ref().and_then(|queues| queues.trim().parse().ok());
        self.most.min(queues.unwrap_or(self.queues)).max(1)
    }

    /// Returns how many iothreads all disks and controllers would have, and the most of one.
    pub(crate) fn devices(&self, domain: &Domain) -> (u32, u32) {
        let disks = domain.disks.iter().filter(|disk| takes_iothread(disk));
        let each: Vec<u32> = disks.map(|disk| self.of(disk)).collect();
        let controllers = domain.iothread_controllers().count() as u32;
        let most = each.iter().copied().max().unwrap_or(0);
        (
            each.iter().sum::<u32>() + controllers,
            most.max(controllers.min(1)),
        )
    }
}

/// Returns whether an iothread can serve a disk: virtio-blk disks that QEMU itself serves;
/// vhost-user and vdpa disks are served elsewhere.
pub(crate) fn takes_iothread(disk: &Disk) -> bool {
    disk.bus == "virtio"
        && disk.iothreads_possible
        && !matches!(disk.kind.as_str(), "vhostuser" | "vhostvdpa")
        && matches!(disk.device.as_str(), "disk" | "lun" | "")
}
