//! Distances between nodes, a lower bound for sets of nodes that are not complete yet, and the
//! nearest memory.

use crate::host::{Host, Node};
use crate::types::ids::{KiB, NodeId};

/// Distances between nodes, by their position in a list. Both directions are added, because some
/// hosts' tables are not symmetric.
#[derive(Debug, Clone, Default)]
pub(crate) struct Distances {
    between: Vec<Vec<u64>>,
    /// `nearest[a][n]`: the sum of the distances of node `a` to its `n` nearest others.
    nearest: Vec<Vec<u64>>,
    /// `to_memory[a]`: the distance of node `a` to the nearest memory for its vCPUs; 0 where the
    /// node has memory itself.
    to_memory: Vec<u64>,
}

impl Distances {
    /// Works out the distances between each two of these nodes, and from each to the memory that is
    /// given in `homes`.
    pub(crate) fn new(host: &Host, nodes: &[NodeId], homes: &[NodeId]) -> Self {
        let one_way: Vec<Vec<u64>> = nodes
            .iter()
            .map(|from| {
                let node = host.node(*from);
                let told = |to: &NodeId| node.and_then(|node| node.distances.get(to)).copied();
                let or = |to: &NodeId| told(to).unwrap_or_else(|| host.distance(*from, *to));
                nodes.iter().map(|to| u64::from(or(to))).collect()
            })
            .collect();
        let count = nodes.len();
        let between: Vec<Vec<u64>> = (0..count)
            .map(|a| (0..count).map(|b| one_way[a][b] + one_way[b][a]).collect())
            .collect();
        let nearest = (0..count)
            .map(|a| {
                let mut others: Vec<u64> = (0..count).filter(|b| *b != a).map(|b| between[a][b]).collect();
                others.sort_unstable();
                let mut sum = 0;
                let sums = others.into_iter().map(|distance| {
                    sum += distance;
                    sum
                });
                std::iter::once(0).chain(sums.collect::<Vec<_>>()).collect()
            })
            .collect();
        let to_memory = nodes.iter().zip(homes);
        let to_memory = to_memory.map(|(node, home)| to_memory_from(host, *node, *home));
        Self {
            between,
            nearest,
            to_memory: to_memory.collect(),
        }
    }

    /// Returns the distance between two nodes, both directions added.
    pub(crate) fn between(&self, a: usize, b: usize) -> u64 {
        self.between[a][b]
    }

    /// Returns the distance of a node to the nearest memory for its vCPUs, both directions added; 0
    /// where the node has memory itself.
    pub(crate) fn to_memory(&self, node: usize) -> u64 {
        self.to_memory[node]
    }

    /// Returns the least that `more` further nodes can add to a set's distance. `open` lists the
    /// nodes to choose from with their distance to the set.
    ///
    /// Each pair among the new nodes is half of what both ends count, and a node's own part is at
    /// least the sum of the distances to its nearest others.
    pub(crate) fn least_more(&self, open: impl Iterator<Item = (usize, u64)>, more: usize) -> u64 {
        if more == 0 {
            return 0;
        }
        let twice = |(node, to_set): (usize, u64)| {
            let sums = &self.nearest[node];
            2 * (to_set + self.to_memory[node]) + sums[(more - 1).min(sums.len() - 1)]
        };
        let mut costs: Vec<u64> = open.map(twice).collect();
        if more < costs.len() {
            costs.select_nth_unstable(more - 1);
        }
        costs.iter().take(more).sum::<u64>().div_ceil(2)
    }
}

/// Returns the distance of a node to the memory of its vCPUs, both directions added.
fn to_memory_from(host: &Host, node: NodeId, home: NodeId) -> u64 {
    match node == home {
        true => 0,
        false => u64::from(host.distance(node, home)) + u64::from(host.distance(home, node)),
    }
}

/// Lists the nodes that hold the memory of vCPUs on a node, nearest first: the node itself, or
/// where it has no memory those that have both memory and CPUs. Memory of nodes without CPUs (HBM,
/// CXL, persistent memory) is only given where the XML names it.
pub(crate) fn homes(host: &Host, node: &Node) -> Vec<NodeId> {
    let has_memory = |node: &&Node| !host.memory_known || node.memory > KiB(0);
    if has_memory(&node) {
        return vec![node.id];
    }
    let has_cpus = |node: &&Node| host.cores.iter().any(|core| core.node == node.id);
    let mut homes: Vec<NodeId> = host
        .nodes
        .iter()
        .filter(has_memory)
        .filter(has_cpus)
        .map(|node| node.id)
        .collect();
    homes.sort_by_key(|home| (host.distance(node.id, *home), *home));
    match homes.is_empty() {
        true => vec![node.id],
        false => homes,
    }
}
