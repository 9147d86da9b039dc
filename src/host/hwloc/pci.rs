//! PCI devices of an XML topology; for a root they are read from sysfs.

use std::collections::BTreeMap;

use hwlocality::Topology;
use hwlocality::object::TopologyObject;
use hwlocality::object::attributes::ObjectAttributes;

use crate::host::structure::Thread;
use crate::types::ids::NodeId;

/// Returns the PCI devices whose locality is CPUs of one node only.
pub(super) fn pci_nodes(topology: &Topology, threads: &[Thread]) -> BTreeMap<String, NodeId> {
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
