//! Objects of a topology as a [`Structure`].

use std::collections::BTreeMap;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;
use hwlocality::object::types::{CacheType, ObjectType};

use crate::host::error::HostError;
use crate::host::hwloc::{distances, info, kinds, pci, text};
use crate::host::memory::merge_pools;
use crate::host::structure::{Cache, MemoryNode, Structure, Thread};
use crate::host::{PagePool, identity, memory_within};
use crate::types::cpulist::MAX_ID;
use crate::types::ids::{HostCpu, KiB, NodeId};
use crate::types::idset::CpuSet;

pub(super) fn read(topology: &Topology) -> Result<Structure, HostError> {
    let packages = packages(topology);
    let mut structure = Structure::default();
    for node in topology.objects_with_type(ObjectType::NUMANode) {
        let Some(id) = node.os_index() else { continue };
        structure
            .nodes
            .push(memory_node(node, NodeId(bounded(id, "node")?)));
    }
    // Placement finds nodes and CPUs by number, so each number must be there once.
    structure.nodes.sort_by_key(|node| node.id);
    structure.nodes.dedup_by_key(|node| node.id);
    let homes = homes(topology);
    for (order, pu) in topology.objects_with_type(ObjectType::PU).enumerate() {
        let cpu = bounded(pu.os_index().unwrap_or(order), "CPU")?;
        structure.threads.push(thread(pu, cpu, &packages, &homes));
    }
    structure.threads.sort_by_key(|thread| thread.cpu);
    structure.threads.dedup_by_key(|thread| thread.cpu);
    let here: CpuSet = structure.threads.iter().map(|thread| thread.cpu).collect();
    // An infinite set has no weight; then no further CPU is known.
    let complete = topology.complete_cpuset();
    for index in complete.iter_set().take(complete.weight().unwrap_or(0)) {
        let known = u32::try_from(usize::from(index))
            .ok()
            .filter(|cpu| *cpu <= MAX_ID);
        if let Some(cpu) = known.map(HostCpu).filter(|cpu| !here.contains(*cpu)) {
            structure.offline.insert(cpu);
        }
    }
    structure.kinds = kinds::kinds(topology);
    structure.distances = distances::distances(topology);
    structure.pci_nodes = pci::pci_nodes(topology, &structure.threads);
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

/// Returns the CPU vendor by hwloc's vendor, arm64's implementer, or the model's name (which may be
/// all that an XML of hwloc before 2.0 has).
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

fn memory_node(node: &TopologyObject, id: NodeId) -> MemoryNode {
    let mut memory = KiB(0);
    let mut pools = Vec::new();
    if let Some(ObjectAttributes::NUMANode(numa)) = node.attributes() {
        memory = memory_within(KiB(numa.local_memory().map_or(0, |bytes| bytes.get() / 1024)));
        pools = numa
            .page_types()
            .iter()
            .map(|page| (KiB(page.size().get() / 1024), page.count()))
            .filter(|(size, _)| *size > LARGEST_BASE_PAGE)
            .map(|(size, count)| PagePool::new(size, count, count))
            .collect();
        merge_pools(&mut pools);
    }
    MemoryNode { id, memory, pools }
}

/// Largest size of base pages on any architecture (arm64 and ppc64: 64 KiB, ia64: up to 64 KiB).
/// Larger pages are huge pages. arm64's contiguous ones of 64 KiB are lost by this, but guests do
/// not get those.
const LARGEST_BASE_PAGE: KiB = KiB(64);

/// Returns the package numbers by hwloc's own index: the kernel's numbers if they are all
/// different.
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
    homes: &BTreeMap<usize, NodeId>,
) -> Thread {
    let above = |wanted: ObjectType| pu.ancestors().find(|object| object.object_type() == wanted);
    let mut caches: Vec<Cache> = pu.ancestors().filter_map(cache).collect();
    caches.sort_by_key(|cache| std::cmp::Reverse(cache.level));
    let package = above(ObjectType::Package).map(TopologyObject::logical_index);
    let os_index = pu.os_index().unwrap_or(cpu as usize);
    Thread {
        cpu: HostCpu(cpu),
        // If the kernel reports no cores, hwloc has no core object and each thread counts as one.
        // Even and odd numbers keep the two kinds apart.
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

/// Returns the node that each CPU's memory comes from by default.
///
/// Several nodes can be local to one CPU: DRAM and MCDRAM, HBM, CXL or persistent memory. Linux
/// counts a CPU to the node that the firmware put it in, which is the one of ordinary DRAM. XML
/// does not keep that, so special memory (by hwloc's subtype, or with a DAX device behind it)
/// counts only without any other; then comes the node that covers the fewest CPUs, then the lowest
/// number (Linux numbers nodes with CPUs before those without). The size does not decide: CXL
/// memory may well be larger than DRAM.
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
