//! Distances between memory nodes.

use std::collections::BTreeMap;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::distance::DistancesKind;
use hwlocality::object::types::ObjectType;

use crate::host::MOST_DISTANCE;
use crate::host::hwloc::text;
use crate::host::structure::Distances;
use crate::types::ids::NodeId;

/// Returns the latencies between nodes, scaled so that a node is 10 from itself, as ACPI's SLIT has
/// it.
pub(super) fn distances(topology: &Topology) -> Distances {
    let from_os = DistancesKind::FROM_OS | DistancesKind::MEANS_LATENCY;
    let Ok(found) = topology.distances(Some(from_os)) else {
        return BTreeMap::new();
    };
    // XML may hold several matrices: the kernel's is named NUMALatency since hwloc 2.1 and has no
    // name before.
    let rank = |name: &str| ["NUMALatency", ""].iter().position(|wanted| *wanted == name);
    let mut best: Option<(usize, Distances)> = None;
    for matrix in &found {
        let Some(rank) = rank(&text(matrix.name())) else {
            continue;
        };
        let nodes: Option<Vec<NodeId>> = matrix.objects().map(node_id).collect();
        let Some(nodes) = nodes.filter(|nodes| !nodes.is_empty()) else {
            continue;
        };
        let Some(rows) = scaled(&nodes, matrix.distances()) else {
            continue;
        };
        if best.as_ref().is_none_or(|(known, _)| rank < *known) {
            best = Some((rank, rows));
        }
    }
    best.map(|(_, rows)| rows).unwrap_or_default()
}

fn node_id(object: Option<&TopologyObject>) -> Option<NodeId> {
    let object = object.filter(|object| object.object_type() == ObjectType::NUMANode)?;
    u32::try_from(object.os_index()?).ok().map(NodeId)
}

fn scaled(nodes: &[NodeId], values: &[u64]) -> Option<Distances> {
    let mut rows = BTreeMap::new();
    for ((order, from), row) in nodes.iter().enumerate().zip(values.chunks(nodes.len())) {
        let own = row.get(order).copied().filter(|own| *own > 0)?;
        let scale = |value: u64| {
            let scaled = u128::from(value) * 10 / u128::from(own);
            u32::try_from(scaled).unwrap_or(MOST_DISTANCE).min(MOST_DISTANCE)
        };
        let row = nodes.iter().zip(row).map(|(to, value)| (*to, scale(*value)));
        rows.insert(*from, row.collect());
    }
    Some(rows)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn scaled_to_ten() {
        let nodes = [NodeId(0), NodeId(8)];
        let table = [
            (vec![10, 21, 21, 10], Some(21)),
            (vec![1000, 2100, 2100, 1000], Some(21)),
            (vec![1, u64::MAX, 1, 1], Some(MOST_DISTANCE)),
            (vec![0, 21, 21, 0], None),
        ];
        for (values, want) in table {
            let far = scaled(&nodes, &values).map(|rows| rows[&NodeId(0)][&NodeId(8)]);
            assert_eq!(far, want, "{values:?}");
        }
    }
}
