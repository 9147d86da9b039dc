//! Iothreads that the XML itself asks for, and the devices that they can serve.

use std::collections::BTreeSet;

use crate::domain::{Disk, Domain};
use crate::types::ids::IothreadId;

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

/// Returns the number of disks and controllers that an iothread can serve.
pub(crate) fn iothread_devices(domain: &Domain) -> u32 {
    let disks = domain.disks.iter().filter(|disk| takes_iothread(disk));
    (disks.count() + domain.iothread_controllers().count()) as u32
}

/// Returns whether an iothread can serve a disk: virtio-blk disks that QEMU itself serves;
/// vhost-user and vdpa disks are served elsewhere.
pub(crate) fn takes_iothread(disk: &Disk) -> bool {
    disk.bus == "virtio"
        && disk.iothreads_possible
        && !matches!(disk.kind.as_str(), "vhostuser" | "vhostvdpa")
        && matches!(disk.device.as_str(), "disk" | "lun" | "")
}
