//! Truth of a shape: whether a guest's sockets, dies and cells can show the packages, caches and
//! nodes that its cores are on.

use crate::host::Core;
use crate::types::ids::{NodeId, VcpuId};
use crate::types::idset::VcpuSet;

/// Levels of a guest's topology that show where its cores are.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mirror {
    /// Sockets are packages, and dies are last-level caches, as QEMU shows them to x86 guests.
    #[default]
    Caches,
    /// Sockets are packages, or the nodes of a package: other guests see no caches, and no socket
    /// of theirs can span nodes.
    Nodes,
}

/// Place of a guest core, as far as a topology can show it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Spot {
    /// Package of the host core.
    pub package: u32,
    /// Node of the host core.
    pub node: NodeId,
    /// Number of its last-level cache; 0 where caches are not shown.
    pub llc: usize,
    /// Guest cell that it is shown in, though the cells have nothing to do with nodes; 0 otherwise.
    pub cell: usize,
}

impl Spot {
    /// Returns the place as one of the cell, among the guest's `shown` cells, that a vCPU is in.
    pub(crate) fn in_cell_of(self, vcpu: VcpuId, shown: &[VcpuSet]) -> Self {
        let cell = shown.iter().position(|cell| cell.contains(vcpu));
        Self {
            cell: cell.unwrap_or(0),
            ..self
        }
    }
}

/// Sockets and dies that show the guest's cores as they are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Exact {
    /// Number of sockets.
    pub sockets: u32,
    /// Dies in each socket.
    pub dies: u32,
    /// Guest cores in each die.
    pub cores: u32,
}

impl Mirror {
    /// Returns the place of a guest core on a host core.
    pub(crate) fn spot(self, core: &Core) -> Spot {
        self.spot_at(core.package, core.node, core.llc)
    }

    /// Returns the place of a guest core on a host core in this package, node and cache.
    pub(crate) fn spot_at(self, package: u32, node: NodeId, llc: usize) -> Spot {
        let llc = match self {
            Self::Caches => llc,
            Self::Nodes => 0,
        };
        Spot {
            package,
            node,
            llc,
            cell: 0,
        }
    }

    /// Returns the sockets and dies that show guest cores in these places exactly: each die or
    /// socket a run of equally many cores with a place of its own. `None` where none can.
    pub(crate) fn exact(self, spots: &[Spot], max_sockets: Option<u32>) -> Option<Exact> {
        let runs = equal_runs(spots)?;
        let packages: Vec<u32> = spots.iter().map(|spot| spot.package).collect();
        let sockets = match self {
            Self::Caches => equal_runs(&packages)?,
            Self::Nodes => runs,
        };
        let allowed = max_sockets.is_none_or(|most| sockets <= most);
        (allowed && runs.is_multiple_of(sockets)).then_some(Exact {
            sockets,
            dies: runs / sockets,
            cores: spots.len() as u32 / runs,
        })
    }
}

/// Returns the number of runs of equal length in a sequence, each with a value of its own; `None`
/// where runs differ in length, a value comes back, or there is none.
pub(crate) fn equal_runs<T: Ord + Copy>(sequence: &[T]) -> Option<u32> {
    let runs: Vec<&[T]> = sequence.chunk_by(|a, b| a == b).collect();
    let mut values: Vec<T> = runs.iter().map(|run| run[0]).collect();
    values.sort_unstable();
    values.dedup();
    let equal = runs.windows(2).all(|pair| pair[0].len() == pair[1].len());
    (equal && values.len() == runs.len() && !runs.is_empty()).then_some(runs.len() as u32)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Makes places from words such as `a0x`: package a, node 0, cache x.
    fn spots(words: &str) -> Vec<Spot> {
        let place = |word: &str| {
            let part = |at: usize| word.as_bytes().get(at).copied().unwrap_or_default();
            Spot {
                package: part(0).into(),
                node: NodeId(part(1).into()),
                llc: part(2).into(),
                cell: 0,
            }
        };
        words.split(' ').map(place).collect()
    }

    #[test]
    fn exact_shapes() {
        let table = [
            ("a0x a0x a0x", Some((1, 1, 3))),
            ("a0x a0x a0y a0y", Some((1, 2, 2))),
            ("a0x a0y b1z b1w", Some((2, 2, 1))),
            ("a0x a1x", Some((1, 2, 1))),
            // unequal caches, a cache that comes back, packages by turns, unequal packages
            ("a0x a0x a0y", None),
            ("a0x a0y a0x a0y", None),
            ("a0x b1y a0z b1w", None),
            ("a0x a0y b1z", None),
        ];
        for (words, want) in table {
            let found = Mirror::Caches.exact(&spots(words), None);
            let found = found.map(|exact| (exact.sockets, exact.dies, exact.cores));
            assert_eq!(found, want, "{words}");
        }
    }

    #[test]
    fn without_caches_a_socket_is_a_package_on_a_node() {
        let shape = |words: &str| {
            let spots: Vec<Spot> = spots(words)
                .into_iter()
                .map(|spot| Spot { llc: 0, ..spot })
                .collect();
            let found = Mirror::Nodes.exact(&spots, None);
            found.map(|exact| (exact.sockets, exact.dies, exact.cores))
        };
        assert_eq!(shape("a0 a0 b1 b1"), Some((2, 1, 2)));
        assert_eq!(shape("a0 a0 a1 a1"), Some((2, 1, 2)));
        assert_eq!(shape("a0 a0 a1"), None);
    }

    #[test]
    fn the_number_of_sockets_has_a_limit() {
        let two = spots("a0x b1y");
        assert!(Mirror::Caches.exact(&two, Some(2)).is_some());
        assert_eq!(Mirror::Caches.exact(&two, Some(1)), None);
    }
}
