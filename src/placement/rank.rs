//! The order in which placements are compared: `docs/placement.md` section 3, one field a
//! criterion.

use std::cmp::Reverse;
use std::ops::{Add, AddAssign};

use crate::types::ids::HostCpu;

/// The part of a [`Key`] that is known, or bounded, before CPUs are chosen: autostart, nodes, far
/// devices, threads, page, distance.
pub type Bar = (u32, u32, u32, Reverse<u32>, Reverse<u64>, u64);

/// How good a placement is; smaller is better. Compared field by field in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key {
    /// CPUs claimed by autostart definitions.
    pub autostart: u32,
    /// Nodes used.
    pub nodes: u32,
    /// Passed-through devices that are not local.
    pub far_devices: u32,
    /// Threads of a guest core, times two; 1 where guest cores share host cores (the last resort).
    pub threads: Reverse<u32>,
    /// Page size in KiB; 0: small pages.
    pub page: Reverse<u64>,
    /// Sum of the distances between each two of its nodes.
    pub distance: u64,
    /// Last-level caches used.
    pub llcs: u32,
    /// CPUs claimed by other definitions.
    pub other: u32,
    /// Threads > 1: free siblings left over. Threads = 1: under pack cores used that were not
    /// broken, under spread cores that were.
    pub siblings: u32,
    /// Free dedicated CPUs left on its nodes; under spread their negative.
    pub left: i64,
    /// CPUs in vCPU order.
    pub cpus: Vec<HostCpu>,
}

impl Key {
    /// Its first fields, down to the distance.
    pub fn bar(&self) -> Bar {
        (
            self.autostart,
            self.nodes,
            self.far_devices,
            self.threads,
            self.page,
            self.distance,
        )
    }

    /// Its fields that are a [`Cost`] and come after the [`Bar`].
    pub fn tail(&self) -> (u32, u32, u32) {
        (self.llcs, self.other, self.siblings)
    }
}

/// The part of a [`Key`] that adds up over cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Cost {
    /// What others of the guest's parts may lack then: CPUs for floating vCPUs and extra CPUs in a
    /// thrifty search, memory of cell 0 in a careful division. Not counted otherwise.
    pub scarce: i64,
    /// See [`Key::autostart`].
    pub autostart: u32,
    /// See [`Key::llcs`].
    pub llcs: u32,
    /// See [`Key::other`].
    pub other: u32,
    /// See [`Key::siblings`].
    pub siblings: u32,
    /// What it changes in [`Key::left`] against other choices of as many CPUs: free siblings that
    /// are withheld.
    pub left: i32,
}

impl Cost {
    /// Its fields that come after the [`Bar`] in a key.
    pub fn tail(&self) -> (u32, u32, u32) {
        (self.llcs, self.other, self.siblings)
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            scarce: self.scarce + more.scarce,
            autostart: self.autostart + more.autostart,
            llcs: self.llcs + more.llcs,
            other: self.other + more.other,
            siblings: self.siblings + more.siblings,
            left: self.left + more.left,
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}
