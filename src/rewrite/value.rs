//! Values as text: for plans, for the provenance and for comparison.
//!
//! Each kind of value has one canonical text, so two values are equal when their texts are.

use crate::domain::Topology;
use crate::domain::parse::{MAX_CELLS, MAX_MEMORY_KIB};
use crate::types::cpulist;
use crate::types::ids::{IothreadId, KiB};
use crate::types::idset::{CellSet, VcpuSet};
use crate::types::setting::{DiskAttribute, Distances, Target, Value};

/// Writes a value as text; `None` for [`Value::Absent`].
pub fn show(value: &Value) -> Option<String> {
    Some(match value {
        Value::Absent => return None,
        Value::Present => "present".into(),
        Value::Cpus(cpus) => cpus.to_string(),
        Value::Number(number) => number.to_string(),
        Value::Text(text) => text.clone(),
        Value::Iothreads(ids) => ids
            .iter()
            .map(IothreadId::to_string)
            .collect::<Vec<_>>()
            .join(","),
        Value::Numa { mode, nodes } => format!("{mode} {nodes}"),
        Value::PageSize(size) => format!("{} KiB", size.0),
        Value::PageSizes(sizes) => show_pages(sizes),
        Value::CpuMode(mode) => (*mode).to_string(),
        Value::Topology(topology) => show_topology(topology),
        Value::Cells(cells, distances) => {
            let mut text = show_cells(cells);
            if let Some(distances) = show_distances(distances) {
                text.push_str("; ");
                text.push_str(&distances);
            }
            text
        }
        Value::Sched {
            vcpus,
            scheduler,
            priority,
        } => show_sched(vcpus, scheduler, Some(*priority)),
        Value::Cache { mode, level } => show_cache(mode, *level),
    })
}

/// Writes `sockets=1 dies=1 cores=2 threads=2`, with clusters only where there are several.
pub(super) fn show_topology(topology: &Topology) -> String {
    let clusters = match topology.clusters {
        1 => String::new(),
        n => format!("clusters={n} "),
    };
    format!(
        "sockets={} dies={} {clusters}cores={} threads={}",
        topology.sockets, topology.dies, topology.cores, topology.threads
    )
}

/// Writes `1048576 KiB for cells 0, 2048 KiB`.
fn show_pages(sizes: &[(KiB, Option<CellSet>)]) -> String {
    let sizes: Vec<String> = sizes
        .iter()
        .map(|(size, cells)| match cells {
            Some(cells) => format!("{} KiB for cells {cells}", size.0),
            None => format!("{} KiB", size.0),
        })
        .collect();
    sizes.join(", ")
}

/// Writes `0-1: 1048576 KiB; 2-3: 1048576 KiB`.
pub(super) fn show_cells(cells: &[(VcpuSet, KiB)]) -> String {
    let cells: Vec<String> = cells
        .iter()
        .map(|(vcpus, memory)| format!("{vcpus}: {} KiB", memory.0))
        .collect();
    cells.join("; ")
}

/// Writes `distances 10 21, 21 10`; `None`: there are none.
pub(crate) fn show_distances(distances: &Distances) -> Option<String> {
    let row = |row: &Vec<u32>| row.iter().map(u32::to_string).collect::<Vec<_>>().join(" ");
    let rows: Vec<String> = distances.iter().map(row).collect();
    (!rows.is_empty()).then(|| format!("distances {}", rows.join(", ")))
}

/// Reads the text of [`show_distances`], without its first word.
fn distances(text: &str) -> Option<Distances> {
    let number = |word: &str| word.parse().ok().filter(|far| *far <= u32::from(u8::MAX));
    let row = |row: &str| row.split(' ').map(number).collect::<Option<Vec<u32>>>();
    text.split(", ").map(row).collect()
}

/// Writes `fifo 1: 0-3`.
pub(super) fn show_sched(vcpus: &VcpuSet, scheduler: &str, priority: Option<u32>) -> String {
    match priority {
        Some(priority) => format!("{scheduler} {priority}: {vcpus}"),
        None => format!("{scheduler}: {vcpus}"),
    }
}

/// Writes `emulate level 3`.
pub(super) fn show_cache(mode: &str, level: Option<u32>) -> String {
    match level {
        Some(level) => format!("{mode} level {level}"),
        None => mode.to_string(),
    }
}

/// Reads the value of a target from its text; `None` where virtfit writes no such text there.
pub(super) fn parse(target: &Target, text: &str) -> Option<Value> {
    let attribute_text = || Some(Value::Text(text.to_string()));
    // The text comes from the domain and may be forged, so only values that virtfit could have
    // written are accepted.
    match target {
        Target::VcpuCpuset | Target::VcpuPin(_) | Target::EmulatorPin | Target::IothreadPin(_) => {
            cpulist::parse_plain(text).ok().map(Value::Cpus)
        }
        Target::Iothreads | Target::ExpanderNode(_) => text.parse().ok().map(Value::Number),
        Target::Disk(_, DiskAttribute::Queues | DiskAttribute::Iothread)
        | Target::ScsiIothread(_)
        | Target::NetQueues(_) => text.parse().ok().map(Value::Number).or_else(attribute_text),
        Target::DiskIothreads(_) => {
            let id = |id: &str| id.parse().ok().map(IothreadId);
            text.split(',')
                .map(id)
                .collect::<Option<_>>()
                .map(Value::Iothreads)
        }
        Target::VcpuSched => sched(text),
        Target::NumaMemory | Target::MemNode(_) => {
            let (mode, nodes) = text.split_once(' ')?;
            Some(Value::Numa {
                mode: known(mode, &MODES)?,
                nodes: cpulist::parse_plain(nodes).ok()?,
            })
        }
        Target::Hugepages => {
            let size = text.strip_suffix(" KiB")?.parse().ok()?;
            Some(Value::PageSize(KiB(size)))
        }
        Target::Locked | Target::NoSharePages => (text == "present").then_some(Value::Present),
        Target::CpuMode => Some(Value::CpuMode(known(text, &CPU_MODES)?)),
        Target::Topology => topology(text),
        Target::Cells => cells(text),
        Target::CpuCache => {
            let (mode, level) = match text.split_once(" level ") {
                Some((mode, level)) => (mode, Some(level.parse().ok()?)),
                None => (text, None),
            };
            Some(Value::Cache {
                mode: known(mode, &CACHE_MODES)?,
                level,
            })
        }
        Target::VcpuPlacement
        | Target::MemoryAccess
        | Target::CpuFeature(_)
        | Target::Pmu
        | Target::HintDedicated
        | Target::PollControl
        | Target::Hyperv(_)
        | Target::HypervClock
        | Target::Memballoon
        | Target::Disk(_, DiskAttribute::Cache | DiskAttribute::Io | DiskAttribute::Discard) => {
            attribute_text()
        }
    }
}

/// Memory modes that libvirt knows.
pub(super) const MODES: [&str; 4] = ["strict", "preferred", "restrictive", "interleave"];
/// CPU modes without a model of their own.
pub(super) const CPU_MODES: [&str; 3] = ["host-passthrough", "host-model", "maximum"];
/// Modes of the CPU cache.
pub(super) const CACHE_MODES: [&str; 3] = ["passthrough", "emulate", "disable"];
/// Schedulers of real-time vCPUs.
pub(super) const SCHEDULERS: [&str; 2] = ["fifo", "rr"];

/// Finds a text among the known ones.
pub(super) fn known(text: &str, names: &[&'static str]) -> Option<&'static str> {
    names.iter().copied().find(|name| *name == text)
}

fn sched(text: &str) -> Option<Value> {
    let (head, vcpus) = text.split_once(": ")?;
    let (scheduler, priority) = head.split_once(' ')?;
    Some(Value::Sched {
        vcpus: cpulist::parse_plain(vcpus).ok()?,
        scheduler: known(scheduler, &SCHEDULERS)?,
        priority: priority.parse().ok()?,
    })
}

/// Reads the text of [`show_topology`].
pub(super) fn topology(text: &str) -> Option<Value> {
    let mut topology = Topology::of_sockets(1);
    for part in text.split_ascii_whitespace() {
        let (name, count) = part.split_once('=')?;
        let count = count.parse().ok().filter(|count| *count > 0)?;
        match name {
            "sockets" => topology.sockets = count,
            "dies" => topology.dies = count,
            "clusters" => topology.clusters = count,
            "cores" => topology.cores = count,
            "threads" => topology.threads = count,
            _ => return None,
        }
    }
    Some(Value::Topology(topology))
}

/// Reads the text of [`show_cells`]. No vCPU may be in two cells, and cells and memory have the
/// limits of a guest.
pub(super) fn cells(text: &str) -> Option<Value> {
    let mut cells = Vec::new();
    let mut all = VcpuSet::new();
    let mut between = Distances::new();
    for cell in text.split("; ").filter(|cell| !cell.is_empty()) {
        if let Some(text) = cell.strip_prefix("distances ") {
            between = distances(text)?;
            continue;
        }
        let (vcpus, memory) = cell.strip_suffix(" KiB")?.split_once(": ")?;
        let vcpus: VcpuSet = cpulist::parse_plain(vcpus).ok()?;
        let memory = KiB(memory.parse().ok().filter(|kib| *kib <= MAX_MEMORY_KIB)?);
        if cells.len() == MAX_CELLS || !all.is_disjoint(&vcpus) {
            return None;
        }
        all.extend_from(&vcpus);
        cells.push((vcpus, memory));
    }
    let square = between.is_empty()
        || (between.len() == cells.len() && between.iter().all(|row| row.len() == cells.len()));
    square.then_some(Value::Cells(cells, between))
}

/// Returns true if the value found at a target is the one written there. libvirt rounds the memory
/// of cells up to MiB, and puts vCPUs the guest was given later into cell 0
/// (`qemuDomainDefNumaCPUsRectify`).
pub(super) fn same(target: &Target, found: Option<&str>, written: Option<&str>) -> bool {
    if found == written {
        return true;
    }
    let (Target::Cells, Some(found), Some(written)) = (target, found, written) else {
        return false;
    };
    let (Some(Value::Cells(found, far)), Some(Value::Cells(written, wrote_far))) =
        (cells(found), cells(written))
    else {
        return false;
    };
    let last = written.iter().filter_map(|(vcpus, _)| vcpus.last()).max();
    found.len() == written.len()
        && far == wrote_far
        && found
            .iter()
            .zip(&written)
            .enumerate()
            .all(|(number, (found, written))| {
                let added = found.0.difference(&written.0);
                let new = number == 0 && added.iter().all(|vcpu| Some(vcpu) > last);
                written.0.is_subset(&found.0)
                    && (added.is_empty() || new)
                    && (found.1 == written.1 || found.1.0 == written.1.0.div_ceil(1024).saturating_mul(1024))
            })
}
