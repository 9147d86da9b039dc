//! Facts about one guest's devices and images, gathered on the host as data for the engine.

use std::collections::{BTreeMap, BTreeSet};

use crate::types::ids::{CellId, NodeId};
use crate::types::reason::LeftOut;

/// Facts about one guest on one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// Devices passed through to the guest: a name for people, and the device's NUMA node (`None`:
    /// on no node, or not known).
    pub devices: Vec<(String, Option<NodeId>)>,
    /// Guest cells that these devices are shown in, by their position.
    pub device_cells: BTreeMap<usize, CellId>,
    /// Networks of the guest's whose interfaces are taps or macvtaps, by name.
    pub tap_networks: BTreeSet<String>,
    /// Disks by target name; disks without a local image are absent.
    pub disks: BTreeMap<String, ImageFacts>,
    /// True if the guest is started at host boot.
    pub autostart: bool,
    /// True if the guest runs now.
    pub running: bool,
}

/// Facts about a disk's image, found without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFacts {
    /// Block device.
    Block,
    /// Regular file.
    File {
        /// Filesystem type from the mounts (`ext4`, `tmpfs`, …).
        fstype: String,
        /// True if that filesystem type accepts `O_DIRECT`.
        direct: bool,
        /// True if all blocks of the file are allocated (by `stat`).
        preallocated: bool,
    },
    /// No image at that path yet, or no access to it.
    Unknown {
        /// Reason for that.
        why: LeftOut,
    },
}
