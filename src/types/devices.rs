//! What the host tells of one guest's devices and images; gathered by the shell, data for the
//! engine.

use std::collections::BTreeMap;

use crate::types::ids::NodeId;

/// The facts of one guest on one host.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestFacts {
    /// Passed-through devices: what a person calls it, and its node (`None`: on no node, or not
    /// known).
    pub devices: Vec<(String, Option<NodeId>)>,
    /// Disks by target name; those of no local image are absent.
    pub disks: BTreeMap<String, ImageFacts>,
    /// Its definition is started at host boot.
    pub autostart: bool,
    /// It runs now.
    pub running: bool,
}

/// What is known of a disk's image without opening it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ImageFacts {
    /// A block device.
    Block,
    /// A regular file.
    File {
        /// Filesystem type from the mounts (`ext4`, `tmpfs`, …).
        fstype: String,
        /// Whether that type takes `O_DIRECT`.
        direct: bool,
        /// Whether all its blocks are allocated (by `stat`).
        preallocated: bool,
    },
    /// There is nothing at that path yet, or it cannot be looked at.
    Unknown {
        /// Why, for people.
        why: String,
    },
}
