//! Order of preference among placements: `docs/placement.md` section 3, one field a criterion.

use std::cmp::Reverse;
use std::ops::{Add, AddAssign};

use crate::types::ids::HostCpu;

/// First fields of a [`Key`]: those that are known, or bounded, before CPUs are chosen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Bar {
    /// See [`Key::autostart`].
    pub autostart: u32,
    /// See [`Key::nodes`].
    pub nodes: u32,
    /// See [`Key::far_devices`].
    pub far_devices: u32,
    /// Fields that a round of the search has in common.
    pub round: Rank,
    /// See [`Key::bare_nodes`].
    pub bare_nodes: u32,
    /// See [`Key::uneven`].
    pub uneven: u32,
    /// See [`Key::distance`].
    pub distance: u64,
}

/// Fields of a [`Key`] that one round of the search has in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub(crate) struct Rank {
    /// See [`Key::kind`].
    pub kind: u32,
    /// See [`Key::untrue`].
    pub untrue: bool,
    /// See [`Key::threads`].
    pub threads: Reverse<u32>,
    /// See [`Key::page`].
    pub page: Reverse<u64>,
}

/// Rank of a placement; the smaller is better. Fields are compared in this order.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct Key {
    /// CPUs claimed by definitions on autostart.
    pub autostart: u32,
    /// Nodes with vCPUs of the guest.
    pub nodes: u32,
    /// Passed-through devices that are off the guest's nodes, or off the node of their cell.
    pub far_devices: u32,
    /// Kind of core; 0 is the fastest.
    pub kind: u32,
    /// The guest's topology cannot show packages, caches and nodes as they are.
    pub untrue: bool,
    /// Rank of the threads of a guest core; see [`crate::placement::threading::Level::rank`].
    pub threads: Reverse<u32>,
    /// Page size in KiB; 0: small pages.
    pub page: Reverse<u64>,
    /// Cells without vCPUs on nodes without CPUs that the XML does not name.
    pub bare_nodes: u32,
    /// Difference between the most and the fewest vCPUs on a node, where virtfit divides them.
    pub uneven: u32,
    /// Sum of the distances between each two of the nodes, and from each node with vCPUs to the
    /// nearest memory, both ways.
    pub distance: u64,
    /// Last-level caches used.
    pub llcs: u32,
    /// Difference between the most and the fewest dedicated vCPUs on a cache.
    pub llc_uneven: u32,
    /// Cache of the guest cores: for each the size of its cache in KiB, divided by the host cores
    /// that share the cache; the sum, negative.
    pub cache: i64,
    /// CPUs claimed by other definitions.
    pub other: u32,
    /// With more than one thread: free siblings left over. With one: under `pack` the used cores
    /// that were not broken, under `spread` those that were.
    pub siblings: i32,
    /// Free dedicated CPUs left on the nodes; under `spread` their negative.
    pub left: i64,
    /// CPUs in vCPU order.
    pub cpus: Vec<HostCpu>,
}

impl Key {
    /// Returns the first fields, down to the distance.
    pub(crate) fn bar(&self) -> Bar {
        Bar {
            autostart: self.autostart,
            nodes: self.nodes,
            far_devices: self.far_devices,
            round: Rank {
                kind: self.kind,
                untrue: self.untrue,
                threads: self.threads,
                page: self.page,
            },
            bare_nodes: self.bare_nodes,
            uneven: self.uneven,
            distance: self.distance,
        }
    }

    /// Returns the fields after the [`Bar`] that are also in a [`Cost`], with the one between them.
    pub(crate) fn tail(&self) -> Tail {
        (self.llcs, self.llc_uneven, self.cache, self.other, self.siblings)
    }
}

/// Fields of a [`Key`] between the [`Bar`] and [`Key::left`].
pub(crate) type Tail = (u32, u32, i64, u32, i32);

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
    /// See [`Key::cache`].
    pub cache: i64,
    /// See [`Key::other`].
    pub other: u32,
    /// See [`Key::siblings`].
    pub siblings: i32,
    /// Difference in [`Key::left`] against other choices of as many CPUs: free siblings that are
    /// withheld.
    pub left: i32,
}

impl Cost {
    /// Returns the fields that come after the [`Bar`] in a key, with the least unevenness.
    pub(crate) fn tail(&self) -> Tail {
        (self.llcs, 0, self.cache, self.other, self.siblings)
    }
}

impl Add for Cost {
    type Output = Self;

    fn add(self, more: Self) -> Self {
        Self {
            scarce: self.scarce.saturating_add(more.scarce),
            autostart: self.autostart.saturating_add(more.autostart),
            llcs: self.llcs.saturating_add(more.llcs),
            cache: self.cache.saturating_add(more.cache),
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
