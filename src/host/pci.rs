//! Nodes of PCI devices: `/sys/bus/pci/devices/*/numa_node`.

use std::collections::BTreeMap;

use crate::hostfs::HostFs;
use crate::types::ids::NodeId;

use crate::host::error::HostError;
use crate::host::kernel;

const DIR: &str = "/sys/bus/pci/devices";

/// Reads each device's node by address; devices on no node (−1) are not listed.
pub(super) fn read(root: &HostFs) -> Result<BTreeMap<String, NodeId>, HostError> {
    let mut nodes = BTreeMap::new();
    for address in root.list(DIR)? {
        if let Some(node) = numa_node(root, &format!("{DIR}/{address}")) {
            nodes.insert(address, node);
        }
    }
    Ok(nodes)
}

/// Reads the node of the device in this folder of sysfs. A device that vanishes or reports no node
/// is on none.
pub(super) fn numa_node(root: &HostFs, device: &str) -> Option<NodeId> {
    let node: i64 = kernel::number(root, &format!("{device}/numa_node")).ok()??;
    u32::try_from(node)
        .ok()
        .filter(|node| *node <= crate::types::cpulist::MAX_ID)
        .map(NodeId)
}

/// Reads the node of the device at an address.
pub(super) fn node_of(root: &HostFs, address: &str) -> Option<NodeId> {
    is_address(address)
        .then(|| numa_node(root, &format!("{DIR}/{address}")))
        .flatten()
}

/// Returns whether a name is a PCI address as sysfs writes it: `0000:3b:00.0`, domain of four
/// digits or more.
pub(super) fn is_address(name: &str) -> bool {
    let hex = |text: &str, digits: std::ops::RangeInclusive<usize>| {
        digits.contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_hexdigit())
    };
    let mut parts = name.split([':', '.']);
    let ok = parts.next().is_some_and(|domain| hex(domain, 4..=8))
        && parts.next().is_some_and(|bus| hex(bus, 2..=2))
        && parts.next().is_some_and(|slot| hex(slot, 2..=2))
        && parts.next().is_some_and(|function| hex(function, 1..=1));
    ok && parts.next().is_none() && name.as_bytes().get(name.len() - 2) == Some(&b'.')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn addresses() {
        let table = [
            ("0000:3b:00.0", true),
            ("10000:e1:00.7", true),
            ("0000:3b:00", false),
            ("0000.3b.00:0", false),
            ("../0000:3b:00.0", false),
            ("", false),
            ("é", false),
        ];
        for (name, want) in table {
            assert_eq!(is_address(name), want, "{name}");
        }
    }

    #[test]
    fn no_node_is_not_listed() {
        let dir = tempfile::tempdir().unwrap();
        for (address, text) in [
            ("0000:00:01.0", "1\n"),
            ("0000:00:02.0", "-1\n"),
            ("0000:00:03.0", "x\n"),
        ] {
            let device = dir.path().join("sys/bus/pci/devices").join(address);
            std::fs::create_dir_all(&device).unwrap();
            std::fs::write(device.join("numa_node"), text).unwrap();
        }
        let nodes = read(&HostFs::new(dir.path())).unwrap();
        assert_eq!(nodes, BTreeMap::from([("0000:00:01.0".to_string(), NodeId(1))]));
    }
}
