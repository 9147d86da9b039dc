//! Values of changes in words, and their consequences.

use crate::rewrite;
use crate::types::ids::KiB;
use crate::types::idset::VcpuSet;
use crate::types::plural::counted;
use crate::types::setting::{Target, Value};
use crate::types::topology::Topology;

/// Words a value for people, with amounts of memory in their largest unit; `None`: absent.
pub(crate) fn words(value: &Value) -> Option<String> {
    match value {
        Value::Topology(topology) => Some(parts(topology)),
        Value::PageSize(size) => Some(size.to_string()),
        Value::PageSizes(sizes) => {
            let sizes = sizes.iter().map(|(size, cells)| match cells {
                Some(cells) => format!("{size} for cells {cells}"),
                None => size.to_string(),
            });
            Some(sizes.collect::<Vec<_>>().join(", "))
        }
        Value::Cells(cells, distances) => {
            let cell = |(vcpus, memory): &(VcpuSet, KiB)| format!("{vcpus}: {memory}");
            let mut parts: Vec<String> = cells.iter().map(cell).collect();
            parts.extend(rewrite::show_distances(distances));
            Some(parts.join("; "))
        }
        other => rewrite::show(other),
    }
}

/// Words a topology: `1 socket, 2 cores, 2 threads`. Every guest without dies or clusters is shown
/// with one.
fn parts(topology: &Topology) -> String {
    let all = [
        (topology.sockets, "socket", true),
        (topology.dies, "die", topology.dies != 1),
        (topology.clusters, "cluster", topology.clusters != 1),
        (topology.cores, "core", true),
        (topology.threads, "thread", true),
    ];
    let shown = all.iter().filter(|(_, _, shown)| *shown);
    let parts: Vec<String> = shown
        .map(|(count, noun, _)| counted(*count as usize, noun))
        .collect();
    parts.join(", ")
}

/// Returns the topology libvirt gives a guest that asks for none: a socket per vCPU.
pub(crate) fn default_topology(vcpus: usize) -> String {
    counted(vcpus, "socket")
}

/// Returns a consequence of a change that an administrator should know of.
pub(crate) fn consequence(target: &Target, to: &Value) -> Option<&'static str> {
    let is = |text: &str| matches!(to, Value::Text(value) if value == text);
    match target {
        Target::CpuMode if *to == Value::CpuMode("host-passthrough") => {
            Some("migrates only to hosts with this CPU model")
        }
        Target::Locked if *to != Value::Absent => {
            Some("all its memory stays in RAM; it cannot be swapped or ballooned away")
        }
        Target::Memballoon if is("none") => Some("its memory cannot be changed while it runs"),
        Target::Pmu if is("off") => Some("no hardware performance counters (perf) inside the guest"),
        Target::Cells if *to != Value::Absent => {
            Some("the guest sees NUMA nodes; its memory cannot be split again while it runs")
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::CellId;
    use crate::types::idset::CellSet;

    #[test]
    fn values_become_words() {
        let topology = |sockets, dies, cores, threads| {
            Value::Topology(Topology {
                sockets,
                dies,
                clusters: 1,
                cores,
                threads,
            })
        };
        let cells = vec![
            (VcpuSet::first_n(14), KiB(8 << 20)),
            (VcpuSet::first_n(2), KiB(5_032_961)),
        ];
        let pages = vec![(KiB::GIB, Some(CellSet::one(CellId(1)))), (KiB(2048), None)];
        for (value, want) in [
            (topology(1, 1, 2, 2), Some("1 socket, 2 cores, 2 threads")),
            (topology(2, 4, 1, 1), Some("2 sockets, 4 dies, 1 core, 1 thread")),
            (Value::Text("host-model".into()), Some("host-model")),
            (Value::PageSize(KiB(2048)), Some("2 MiB")),
            (Value::PageSizes(pages), Some("1 GiB for cells 1, 2 MiB")),
            (
                Value::Cells(cells, Vec::new()),
                Some("0-13: 8 GiB; 0-1: 5032961 KiB"),
            ),
            (Value::Present, Some("present")),
            (Value::Absent, None),
        ] {
            assert_eq!(words(&value).as_deref(), want, "{value:?}");
        }
    }
}
