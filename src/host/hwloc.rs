//! The only file that names hwloc: a tree of sysfs, an hwloc XML file or a synthetic line in, [`Structure`] out.
//!
//! Two of hwloc's habits are switched off. Its `x86` component asks the processor itself (cpuid) and to that end moves
//! the calling thread over every CPU: wrong for a root that is another machine's, and on this machine it would wait
//! for CPUs that belong to guests' real-time threads. And what this process may use (its own cgroup) is of no
//! interest: disallowed CPUs are included.

use std::collections::BTreeMap;
use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io::{ErrorKind, Read};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::distance::DistancesKind;
use hwlocality::object::types::{CacheType, ObjectType};
use hwlocality::topology::builder::{BuildFlags, TopologyBuilder, TypeFilter};

use super::error::HostError;
use super::identity;
use super::structure::{Cache, Distances, MemoryNode, Structure, Thread};
use super::{PagePool, index, synthetic};
use crate::cpulist::MAX_ID;
use crate::idset::CpuSet;
use crate::root::{MAX_BYTES, Root};
use crate::units::{HostCpu, KiB, NodeId};

/// Where a topology comes from.
#[derive(Debug, Clone)]
pub enum TopologySource<'a> {
    /// sysfs and procfs below a root.
    Root(&'a Root),
    /// A file that hwloc (`lstopo --of xml`) wrote.
    Xml(&'a Path),
    /// An hwloc synthetic line, e.g. `pack:2 numa:1(memory=16GB) l3:1 core:8 pu:2`.
    Synthetic(&'a str),
}

impl<'a> TopologySource<'a> {
    /// Tells a file from a synthetic line: what exists, or looks like a path, is a file.
    pub fn from_argument(given: &'a str) -> Self {
        let path = Path::new(given);
        let looks_like_path = !given.contains(':') && (given.contains('/') || given.ends_with(".xml"));
        match path.exists() || looks_like_path {
            true => Self::Xml(path),
            false => Self::Synthetic(given),
        }
    }
}

/// Reads a topology.
///
/// # Errors
/// hwloc does not accept the source, or it has CPU or node numbers above [`MAX_ID`].
pub fn discover(source: &TopologySource) -> Result<Structure, HostError> {
    let topology = build(source)?;
    let mut structure = read(&topology)?;
    if let TopologySource::Synthetic(line) = source
        && !synthetic::names_memory(line)
    {
        for node in &mut structure.nodes {
            node.memory = KiB(0);
        }
    }
    Ok(structure)
}

/// hwloc reads its environment while it builds; one build at a time, so that no other sees our `HWLOC_FSROOT`.
static BUILDING: Mutex<()> = Mutex::new(());

fn build(source: &TopologySource) -> Result<Topology, HostError> {
    let _one_at_a_time = BUILDING.lock().unwrap_or_else(PoisonError::into_inner);
    // 2 also hides what hwloc calls critical; it would come before our own first line on a hook's stderr.
    if std::env::var_os("HWLOC_HIDE_ERRORS").is_none() {
        set_environment("HWLOC_HIDE_ERRORS", Some(OsStr::new("2")));
    }
    let wrong = |problem: String| match source {
        TopologySource::Root(root) => HostError::Hwloc {
            root: base_of(root),
            problem,
        },
        TopologySource::Xml(path) => HostError::Topology {
            given: path.display().to_string(),
            problem,
        },
        TopologySource::Synthetic(line) => HostError::Topology {
            given: (*line).to_string(),
            problem,
        },
    };
    let failed = |error: &dyn std::fmt::Display| wrong(format!("hwloc fails: {error}"));
    let mut foreign = None;
    let mut builder = TopologyBuilder::new();
    match source {
        TopologySource::Root(root) if root.is_none() => return Err(HostError::Nothing),
        TopologySource::Root(root) if root.is_real() => {}
        TopologySource::Root(root) => foreign = Some(Scoped::set("HWLOC_FSROOT", base_of(root).as_os_str())),
        TopologySource::Xml(path) => {
            let text = xml_text(path).map_err(wrong)?;
            builder = builder
                .from_xml(&text)
                .map_err(|_| wrong(NO_XML.into()))?
                .with_io_type_filter(TypeFilter::KeepAll)
                .map_err(|error| failed(&error))?;
        }
        TopologySource::Synthetic(line) => {
            synthetic::check_size(line).map_err(wrong)?;
            builder = builder.from_synthetic(line).map_err(|_| {
                wrong("there is no such file, and hwloc does not accept it as a synthetic line".into())
            })?;
        }
    }
    let topology = builder
        .without_component("x86")
        .map_err(|error| failed(&error))?
        .with_flags(BuildFlags::INCLUDE_DISALLOWED)
        .map_err(|error| failed(&error))?
        .build()
        .map_err(|error| match source {
            TopologySource::Xml(_) => wrong(NO_XML.into()),
            _ => failed(&error),
        });
    drop(foreign);
    topology
}

const NO_XML: &str = "hwloc does not accept this file as hwloc XML (lstopo --of xml writes it)";

/// The text of an XML file. hwloc gets it from us: given a path, it takes a folder for a fatal bug.
fn xml_text(path: &Path) -> Result<String, String> {
    let file = File::open(path).map_err(|error| error.to_string())?;
    let mut text = String::new();
    match file.take(MAX_BYTES + 1).read_to_string(&mut text) {
        Ok(_) if text.len() as u64 > MAX_BYTES => Err(format!("is larger than {} MiB", MAX_BYTES >> 20)),
        Ok(_) if !text.contains("<topology") => Err(NO_XML.into()),
        Ok(_) => Ok(text),
        Err(error) if error.kind() == ErrorKind::InvalidData => Err(NO_XML.into()),
        Err(error) => Err(error.to_string()),
    }
}

fn base_of(root: &Root) -> PathBuf {
    root.base().unwrap_or(Path::new("/")).to_path_buf()
}

/// An environment variable that gets its old value back on drop.
struct Scoped {
    name: &'static str,
    was: Option<OsString>,
}

impl Scoped {
    fn set(name: &'static str, value: &OsStr) -> Self {
        let was = std::env::var_os(name);
        set_environment(name, Some(value));
        Self { name, was }
    }
}

impl Drop for Scoped {
    fn drop(&mut self) {
        set_environment(self.name, self.was.as_deref());
    }
}

/// Sets or removes a variable of our own environment; hwloc takes another root no other way.
#[allow(unsafe_code)]
fn set_environment(name: &str, value: Option<&OsStr>) {
    // SAFETY: changing the environment is unsound only while other code reads it around Rust's own lock, which is C
    // code in another thread. Our callers hold BUILDING, so hwloc is not running. For the real root nothing but
    // HWLOC_HIDE_ERRORS is ever set, once, by the first build, which every binary does before it starts threads that
    // run C code (libvirt's); other roots are for trying out, where no such thread exists.
    unsafe {
        match value {
            Some(value) => std::env::set_var(name, value),
            None => std::env::remove_var(name),
        }
    }
}

fn read(topology: &Topology) -> Result<Structure, HostError> {
    let kinds = kinds(topology);
    let packages = packages(topology);
    let mut structure = Structure::default();
    for node in topology.objects_with_type(ObjectType::NUMANode) {
        let Some(id) = node.os_index() else { continue };
        structure
            .nodes
            .push(memory_node(node, NodeId(bounded(id, "node")?)));
    }
    structure.nodes.sort_by_key(|node| node.id);
    structure.nodes.dedup_by_key(|node| node.id);
    let homes = homes(topology);
    for (order, pu) in topology.objects_with_type(ObjectType::PU).enumerate() {
        let cpu = bounded(pu.os_index().unwrap_or(order), "CPU")?;
        structure.threads.push(thread(pu, cpu, &packages, &kinds, &homes));
    }
    structure.threads.sort_by_key(|thread| thread.cpu);
    structure.threads.dedup_by_key(|thread| thread.cpu);
    let here: CpuSet = structure.threads.iter().map(|thread| thread.cpu).collect();
    for index in topology.complete_cpuset().iter_set() {
        // A set without end (no CPU is known) and numbers no list can name are not worth an error here.
        let Some(cpu) = u32::try_from(usize::from(index))
            .ok()
            .filter(|cpu| *cpu <= MAX_ID)
        else {
            break;
        };
        if !here.contains(HostCpu(cpu)) {
            structure.offline.insert(HostCpu(cpu));
        }
    }
    structure.distances = distances(topology);
    structure.pci_nodes = pci_nodes(topology, &structure.threads);
    let machine = topology.root_object();
    structure.arch = info(machine, "Architecture");
    structure.cpu_vendor = topology
        .objects_with_type(ObjectType::Package)
        .chain(std::iter::once(machine))
        .map(vendor)
        .find(|vendor| !vendor.is_empty())
        .unwrap_or_default();
    Ok(structure)
}

fn bounded(number: usize, noun: &'static str) -> Result<u32, HostError> {
    u32::try_from(number)
        .ok()
        .filter(|number| *number <= MAX_ID)
        .ok_or(HostError::TooLarge { noun, number })
}

/// By vendor, arm64's implementer, or the model's name (all that an XML of hwloc before 2.0 may have).
fn vendor(object: &TopologyObject) -> String {
    let told = info(object, "CPUVendor");
    if !told.is_empty() {
        return told;
    }
    let model = info(object, "CPUModel");
    match model.split([' ', '(']).next() {
        Some("Intel") => "GenuineIntel".into(),
        Some("AMD") => "AuthenticAMD".into(),
        _ => identity::arm_vendor(&info(object, "CPUImplementer")),
    }
}

fn info(object: &TopologyObject, key: &str) -> String {
    text(object.info(key))
}

fn text(value: Option<&CStr>) -> String {
    value
        .map(|value| value.to_string_lossy().trim().to_string())
        .unwrap_or_default()
}

fn memory_node(node: &TopologyObject, id: NodeId) -> MemoryNode {
    let mut memory = KiB(0);
    let mut pools = Vec::new();
    if let Some(ObjectAttributes::NUMANode(numa)) = node.attributes() {
        memory = KiB(numa.local_memory().map_or(0, |bytes| bytes.get() / 1024));
        pools = numa
            .page_types()
            .iter()
            .map(|page| (KiB(page.size().get() / 1024), page.count()))
            .filter(|(size, _)| *size > LARGEST_BASE_PAGE)
            .map(|(size, count)| PagePool {
                size,
                total: count,
                free: count,
            })
            .collect();
        index::merge_pools(&mut pools);
    }
    MemoryNode { id, memory, pools }
}

/// Base pages are at most this large on any architecture (arm64 and ppc64: 64 KiB, ia64: up to 64 KiB); huge pages
/// begin above it, but for arm64's 64 KiB contiguous ones, which no one gives to guests.
const LARGEST_BASE_PAGE: KiB = KiB(64);

/// Package numbers by hwloc's own index; the kernel's where each package has one of its own.
fn packages(topology: &Topology) -> BTreeMap<usize, u32> {
    let told: Vec<(usize, Option<u32>)> = topology
        .objects_with_type(ObjectType::Package)
        .map(|package| {
            let number = package.os_index().and_then(|number| u32::try_from(number).ok());
            (package.logical_index(), number)
        })
        .collect();
    let mut numbers: Vec<u32> = told.iter().filter_map(|(_, number)| *number).collect();
    numbers.sort_unstable();
    numbers.dedup();
    let unique = numbers.len() == told.len();
    told.into_iter()
        .zip(0..)
        .map(|((logical, number), order)| (logical, number.filter(|_| unique).unwrap_or(order)))
        .collect()
}

fn thread(
    pu: &TopologyObject,
    cpu: u32,
    packages: &BTreeMap<usize, u32>,
    kinds: &BTreeMap<usize, u32>,
    homes: &BTreeMap<usize, NodeId>,
) -> Thread {
    let above = |wanted: ObjectType| pu.ancestors().find(|object| object.object_type() == wanted);
    let mut caches: Vec<Cache> = pu.ancestors().filter_map(cache).collect();
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.level));
    let package = above(ObjectType::Package).map(TopologyObject::logical_index);
    let os_index = pu.os_index().unwrap_or(cpu as usize);
    Thread {
        cpu: HostCpu(cpu),
        // hwloc has no core object where the kernel tells of none: each thread is then one. Their numbers must not
        // meet those of cores.
        core: match above(ObjectType::Core) {
            Some(core) => core.logical_index() * 2,
            None => pu.logical_index() * 2 + 1,
        },
        package: package
            .and_then(|package| packages.get(&package))
            .copied()
            .unwrap_or(0),
        die: above(ObjectType::Die).map(TopologyObject::logical_index),
        caches,
        kind: kinds.get(&os_index).copied(),
        node: homes.get(&os_index).copied(),
    }
}

fn cache(object: &TopologyObject) -> Option<Cache> {
    let level = match object.object_type() {
        ObjectType::L1Cache => 1,
        ObjectType::L2Cache => 2,
        ObjectType::L3Cache => 3,
        ObjectType::L4Cache => 4,
        ObjectType::L5Cache => 5,
        _ => return None,
    };
    let Some(ObjectAttributes::Cache(cache)) = object.attributes() else {
        return None;
    };
    if cache.cache_type() == CacheType::Instruction {
        return None;
    }
    let size = KiB(cache.size().map_or(0, |bytes| bytes.get() / 1024));
    let id = level as u64 * (1 << 32) + object.logical_index() as u64;
    Some(Cache { id, level, size })
}

/// The node each CPU's memory comes from by default.
///
/// Several nodes can be local to one CPU: DRAM and MCDRAM, HBM, CXL or persistent memory. Linux counts a CPU to the
/// node the firmware put it in, which is the one of ordinary DRAM. XML does not keep that, so: special memory only
/// where there is nothing else (by hwloc's subtype, or a DAX device behind it), then the node that covers the fewest
/// CPUs, then the lowest number (Linux numbers nodes with CPUs before those without). Not the largest: CXL memory
/// may well be larger than DRAM.
fn homes(topology: &Topology) -> BTreeMap<usize, NodeId> {
    let mut nodes: Vec<(bool, usize, u32, &TopologyObject)> = topology
        .objects_with_type(ObjectType::NUMANode)
        .filter_map(|node| {
            let id = node.os_index().and_then(|id| u32::try_from(id).ok())?;
            let cpus = node.cpuset().and_then(|cpus| cpus.weight()).unwrap_or(usize::MAX);
            Some((is_special_memory(node), cpus, id, node))
        })
        .collect();
    nodes.sort_by_key(|(special, cpus, id, _)| (*special, *cpus, *id));
    let mut homes = BTreeMap::new();
    for (_, _, id, node) in nodes {
        let Some(cpus) = node.cpuset().filter(|cpus| cpus.weight().is_some()) else {
            continue;
        };
        for cpu in cpus.iter_set() {
            homes.entry(usize::from(cpu)).or_insert(NodeId(id));
        }
    }
    homes
}

fn is_special_memory(node: &TopologyObject) -> bool {
    let subtype = text(node.subtype());
    let ordinary = subtype.is_empty() || subtype == "DRAM";
    !ordinary || node.info("DAXDevice").is_some()
}

/// Rank of each CPU's kind, by CPU number: 0 the fastest. Empty where hwloc knows of one kind at most.
///
/// Kinds that differ in nothing but frequencies are one: favoured cores (Turbo Boost Max, Speed Select) are the same
/// core, and a guest may well span both.
fn kinds(topology: &Topology) -> BTreeMap<usize, u32> {
    let mut ranks = BTreeMap::new();
    let Ok(kinds) = topology.cpu_kinds() else {
        return ranks;
    };
    let mut signatures: Vec<String> = Vec::new();
    // hwloc lists the most efficient first, which is the slowest.
    for (order, kind) in kinds.enumerate().collect::<Vec<_>>().into_iter().rev() {
        let mut told: Vec<String> = kind
            .infos
            .iter()
            .filter(|info| !info.name().to_string_lossy().starts_with("Frequency"))
            .map(|info| {
                format!(
                    "{}={}",
                    info.name().to_string_lossy(),
                    info.value().to_string_lossy()
                )
            })
            .collect();
        told.sort();
        let signature = match (told.is_empty(), kind.infos.is_empty()) {
            (true, true) => format!("#{}", kind.efficiency.unwrap_or(order)),
            (true, false) => String::new(),
            (false, _) => told.join(","),
        };
        let rank = match signatures.iter().position(|known| *known == signature) {
            Some(rank) => rank,
            None => {
                signatures.push(signature);
                signatures.len() - 1
            }
        };
        for cpu in kind.cpuset.iter_set().map(usize::from) {
            // A set may have no end.
            if cpu > MAX_ID as usize {
                break;
            }
            ranks.insert(cpu, rank as u32);
        }
    }
    if signatures.len() < 2 {
        ranks.clear();
    }
    ranks
}

/// The latencies between nodes, scaled so that a node is 10 from itself, as ACPI's SLIT has it.
fn distances(topology: &Topology) -> Distances {
    let from_os = DistancesKind::FROM_OS | DistancesKind::MEANS_LATENCY;
    let Ok(found) = topology.distances(Some(from_os)) else {
        return BTreeMap::new();
    };
    // XML may hold several: what the kernel told is named NUMALatency since hwloc 2.1 and has no name before.
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
            u32::try_from(scaled).unwrap_or(u32::MAX)
        };
        let row = nodes.iter().zip(row).map(|(to, value)| (*to, scale(*value)));
        rows.insert(*from, row.collect());
    }
    Some(rows)
}

/// PCI devices whose locality is CPUs of one node only.
fn pci_nodes(topology: &Topology, threads: &[Thread]) -> BTreeMap<String, NodeId> {
    let node_of: BTreeMap<usize, Option<NodeId>> = threads
        .iter()
        .map(|thread| (thread.cpu.0 as usize, thread.node))
        .collect();
    let mut found = BTreeMap::new();
    for device in topology.pci_devices() {
        let Some(ObjectAttributes::PCIDevice(pci)) = device.attributes() else {
            continue;
        };
        let Some(cpus) = device.first_non_io_ancestor().and_then(TopologyObject::cpuset) else {
            continue;
        };
        if cpus.weight().is_none() {
            continue;
        }
        let mut nodes = cpus
            .iter_set()
            .filter_map(|cpu| node_of.get(&usize::from(cpu)).copied().flatten());
        let Some(first) = nodes.next() else { continue };
        if nodes.all(|node| node == first) {
            let address = format!(
                "{:04x}:{:02x}:{:02x}.{:x}",
                pci.domain(),
                pci.bus_id(),
                pci.bus_device(),
                pci.function()
            );
            found.insert(address, first);
        }
    }
    found
}
