//! Order of preference among placements: `docs/placement.md` section 3, one field a criterion.

use std::cmp::Reverse;
use std::ops::{Add, AddAssign};

use crate::types::ids::HostCpu;

/// Fields of a [`Key`] that are known, or bounded, before CPUs are chosen: autostart, nodes, far
/// devices, threads, page, distance.
pub(crate) type Bar = (u32, u32, u32, Reverse<u32>, Reverse<u64>, u64);

/// Rank of a placement; the smaller is better. Fields are compared in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key {
    /// CPUs claimed by definitions on autostart.
    pub autostart: u32,
    /// Nodes used.
    pub nodes: u32,
    /// Passed-through devices that are off the guest's nodes.
    pub far_devices: u32,
    /// Threads of a guest core, times two; 1 where guest cores share host cores (the last resort).
    pub threads: Reverse<u32>,
    /// Page size in KiB; 0: small pages.
    pub page: Reverse<u64>,
    /// Sum of the distances between each two of the nodes, both ways.
    pub distance: u64,
    /// Last-level caches used.
    pub llcs: u32,
    /// CPUs claimed by other definitions.
    pub other: u32,
    /// With more than one thread: free siblings left over. With one: under `pack` the used cores
    /// that were not broken, under `spread` those that were.
    pub siblings: u32,
    /// Free dedicated CPUs left on the nodes; under `spread` their negative.
    pub left: i64,
    /// CPUs in vCPU order.
    pub cpus: Vec<HostCpu>,
}

impl Key {
    /// Returns the first fields, down to the distance.
    pub(crate) fn bar(&self) -> Bar {
        (
            self.autostart,
            self.nodes,
            self.far_devices,
            self.threads,
            self.page,
            self.distance,
        )
    }

    /// Returns the fields after the [`Bar`] that are also in a [`Cost`].
    pub(crate) fn tail(&self) -> (u32, u32, u32) {
        (self.llcs, self.other, self.siblings)
    }
}

/// Cost of some CPUs: the part of a [`Key`] that adds up over cores.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Cost {
    /// Amount of a scarce thing that is used up: in a thrifty search CPUs that floating vCPUs or
    /// extra CPUs need, in a careful division memory that cell 0 needs (negative there: pages that
    /// other cells take off it). 0 otherwise.
    pub scarce: i64,
    /// See [`Key::autostart`].
    pub autostart: u32,
    /// See [`Key::llcs`].
    pub llcs: u32,
    /// See [`Key::other`].
    pub other: u32,
    /// See [`Key::siblings`].
    pub siblings: u32,
    /// Difference in [`Key::left`] against other choices of as many CPUs: free siblings that are
    /// withheld.
    pub left: i32,
}

impl Cost {
    /// Returns the fields that come after the [`Bar`] in a key.
    pub(crate) fn tail(&self) -> (u32, u32, u32) {
        (self.llcs, self.other, self.siblings)
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            scarce: self.scarce.saturating_add(more.scarce),
            autostart: self.autostart.saturating_add(more.autostart),
            llcs: self.llcs.saturating_add(more.llcs),
            other: self.other.saturating_add(more.other),
            siblings: self.siblings.saturating_add(more.siblings),
            left: self.left.saturating_add(more.left),
        }
    }
}

impl AddAssign for Cost {
    fn add_assign(&mut self, more: Self) {
        *self = *self + more;
    }
}
