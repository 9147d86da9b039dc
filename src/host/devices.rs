//! NUMA nodes of a guest's passed-through devices.

use std::collections::BTreeMap;
use std::collections::BTreeSet;
use std::path::Path;

use crate::domain::{Domain, Passthrough};
use crate::hostfs::HostFs;
use crate::types::ids::{CellId, NodeId};
use crate::xml::tree::{Document, Element};

use crate::host::{Host, pci};

/// Devices, named for people, with their nodes.
type Named = Vec<(String, Option<NodeId>)>;

/// Lists the passed-through devices, named for people, with their nodes; `None`: on no node, or not
/// known; and the guest cells they are shown in, by their position. Interfaces of networks that
/// hand out no host devices are not listed.
pub(crate) fn device_nodes(root: &HostFs, host: &Host, domain: &Domain) -> (Named, BTreeMap<usize, CellId>) {
    let mut nodes = Vec::new();
    let mut cells = BTreeMap::new();
    for (position, device) in domain.passthrough.iter().enumerate() {
        let before = nodes.len();
        match device {
            Passthrough::Pci(address) => {
                nodes.push((format!("PCI device {address}"), pci_node(root, host, address)));
            }
            Passthrough::Mdev(uuid) => nodes.push((format!("mdev {uuid}"), mdev_node(root, host, uuid))),
            Passthrough::Network(name) => {
                if let Some(node) = network_node(root, host, name) {
                    nodes.push((format!("network {name}"), node));
                }
            }
        }
        if let Some(cell) = domain
            .device_cells
            .get(&position)
            .filter(|_| nodes.len() > before)
        {
            cells.insert(before, *cell);
        }
    }
    (nodes, cells)
}

/// Returns the node of a PCI device. A device that was plugged in since the host was read is looked
/// up in sysfs.
fn pci_node(root: &HostFs, host: &Host, address: &str) -> Option<NodeId> {
    let address = address.to_ascii_lowercase();
    let known = host.pci_nodes.get(&address).copied();
    known.or_else(|| pci::node_of(root, &address).filter(|node| host.node(*node).is_some()))
}

/// Returns the node of an mdev. Its place in sysfs is below its parent device:
/// `…/0000:3b:00.0/<uuid>`.
fn mdev_node(root: &HostFs, host: &Host, uuid: &str) -> Option<NodeId> {
    if !file_name(uuid) {
        return None;
    }
    let link = format!("/sys/bus/mdev/devices/{uuid}");
    // The link's own text comes first: in a small fixture its target may not exist.
    let place = root.read_link(&link).or_else(|_| root.resolve(&link)).ok()?;
    let parent = place
        .iter()
        .filter_map(|name| name.to_str())
        .rfind(|name| pci::is_address(name))
        .and_then(|address| pci_node(root, host, address));
    parent.or_else(|| {
        let place = root.resolve(&link).ok()?;
        pci::numa_node(root, place.parent()?.to_str()?)
    })
}

/// Returns the node of a network's host devices; the outer `None` is a network without host
/// devices. A pool over several nodes has no node: the device that the guest gets is known only at
/// its start.
fn network_node(root: &HostFs, host: &Host, name: &str) -> Option<Option<NodeId>> {
    let bytes = definition(root, name)?;
    let document = parse(&bytes, name)?;
    let forward = document.root().child("forward")?;
    if forward.attr("mode").as_deref() != Some("hostdev") {
        return None;
    }
    let mut devices = forward
        .children_named("pf")
        .map(|pf| interface_node(root, pf))
        .chain(
            forward
                .children_named("address")
                .map(|address| pci_node(root, host, &address_of(address)?)),
        );
    let first = devices.next().flatten();
    Some(first.filter(|_| devices.all(|node| node == first)))
}

/// Reads the definition of a network.
fn definition(root: &HostFs, name: &str) -> Option<Vec<u8>> {
    if !file_name(name) {
        return None;
    }
    root.read_bytes(format!("/etc/libvirt/qemu/networks/{name}.xml"))
        .ok()
}

fn parse<'t>(definition: &'t [u8], name: &str) -> Option<Document<'t>> {
    Document::parse_bytes(definition)
        .inspect_err(|error| log::debug!("network {name}: {error}"))
        .ok()
}

/// Lists those of the guest's networks whose interfaces are taps or macvtaps. A network without a
/// definition may be of any kind.
pub(crate) fn tap_networks(root: &HostFs, domain: &Domain) -> BTreeSet<String> {
    let names = domain.interfaces.iter().filter_map(|it| it.network.as_deref());
    let names: BTreeSet<&str> = names.collect();
    names
        .into_iter()
        .filter(|name| gives_taps(root, name).unwrap_or(false))
        .map(str::to_string)
        .collect()
}

/// Returns whether the interfaces of a network are taps or macvtaps; `None`: its definition cannot
/// be read.
fn gives_taps(root: &HostFs, name: &str) -> Option<bool> {
    let bytes = definition(root, name)?;
    let document = parse(&bytes, name)?;
    let network = document.root();
    // libvirt loads no file that is called otherwise than its network.
    if network.child("name")?.text() != name {
        return None;
    }
    let Some(forward) = network.child("forward") else {
        return Some(true);
    };
    let mode = forward.attr("mode");
    Some(matches!(
        mode.as_deref().unwrap_or("nat"),
        "nat" | "route" | "open" | "bridge" | "private" | "vepa" | "passthrough"
    ))
}

fn interface_node(root: &HostFs, pf: Element<'_>) -> Option<NodeId> {
    let name = pf.attr("dev").filter(|name| file_name(name))?;
    pci::numa_node(root, &format!("/sys/class/net/{name}/device"))
}

/// Returns the address of `<address type='pci' domain='0x0000' bus='0x3b' slot='0x00'
/// function='0x0'/>` in sysfs's form.
fn address_of(address: Element<'_>) -> Option<String> {
    let part = |name: &str| {
        let value = address.attr(name)?;
        match value.strip_prefix("0x") {
            Some(digits) => u32::from_str_radix(digits, 16).ok(),
            None => value.parse().ok(),
        }
    };
    let domain = part("domain").unwrap_or(0);
    Some(format!(
        "{domain:04x}:{:02x}:{:02x}.{:x}",
        part("bus")?,
        part("slot")?,
        part("function")?
    ))
}

/// Returns whether a name from a guest's XML may become part of a path: one plain component.
pub(super) fn file_name(name: &str) -> bool {
    let mut parts = Path::new(name).components();
    let plain = matches!(parts.next(), Some(std::path::Component::Normal(part)) if part == name);
    plain && parts.next().is_none() && !name.contains('\0')
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;
    use std::os::unix::fs::symlink;

    use super::*;
    use crate::types::ids::KiB;

    const MDEV: &str = "4b20d080-1b54-4048-85b3-a6a62d165c01";

    fn root() -> (tempfile::TempDir, HostFs) {
        let dir = tempfile::tempdir().unwrap();
        let write = |path: &str, text: &str| {
            let path = dir.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        };
        let network = |name: &str, inner: &str| {
            let text = format!("<!-- generated -->\n<network><name>{name}</name>{inner}</network>");
            write(&format!("etc/libvirt/qemu/networks/{name}.xml"), &text);
        };
        network("nat", "<forward mode='nat'/>");
        network("lone", "<bridge name='virbr1'/>");
        network(
            "pf",
            "<forward mode='hostdev' managed='yes'><pf dev='eth3'/></forward>",
        );
        network(
            "evil",
            "<forward mode='hostdev'><pf dev='../../../etc'/></forward>",
        );
        let vf = |bus: &str| {
            format!("<address type='pci' domain='0x0000' bus='{bus}' slot='0x00' function='0x1'/>")
        };
        network(
            "vfs",
            &format!("<forward mode='hostdev'>{}{}</forward>", vf("0x3b"), vf("0x3b")),
        );
        network(
            "two",
            &format!("<forward mode='hostdev'>{}{}</forward>", vf("0x3b"), vf("0x86")),
        );
        network("broken", "<forward mode='hostdev'>");
        write("sys/class/net/eth3/device/numa_node", "1\n");
        write(
            "etc/libvirt/secret.xml",
            "<network><forward mode='hostdev'/></network>",
        );
        std::fs::create_dir_all(dir.path().join("sys/bus/mdev/devices")).unwrap();
        let link = dir.path().join("sys/bus/mdev/devices").join(MDEV);
        symlink(
            format!("../../../devices/pci0000:3a/0000:3a:00.0/0000:3b:00.1/{MDEV}"),
            link,
        )
        .unwrap();
        let parent = dir.path().join("sys/devices/css0/0.0.0001");
        std::fs::create_dir_all(parent.join("mdev-css")).unwrap();
        std::fs::write(parent.join("numa_node"), "1\n").unwrap();
        symlink(
            "../../../devices/css0/0.0.0001/mdev-css",
            dir.path().join("sys/bus/mdev/devices/mdev-css"),
        )
        .unwrap();
        let root = HostFs::new(dir.path());
        (dir, root)
    }

    #[test]
    fn each_device_by_its_own_way() {
        let (_dir, root) = root();
        let host = Host {
            pci_nodes: [("0000:3b:00.1", 1), ("0000:86:00.1", 0)]
                .map(|(address, node)| (address.to_string(), NodeId(node)))
                .into(),
            ..Host::default()
        };
        let pci = |address: &str| Passthrough::Pci(address.into());
        let mdev = |uuid: &str| Passthrough::Mdev(uuid.into());
        let network = |name: &str| Passthrough::Network(name.into());
        let table = [
            (pci("0000:3b:00.1"), Some(Some(1))),
            (pci("0000:3B:00.1"), Some(Some(1))),
            (pci("0000:ff:00.0"), Some(None)),
            (mdev(MDEV), Some(Some(1))),
            (mdev("mdev-css"), Some(Some(1))),
            (mdev("../../x"), Some(None)),
            (mdev("absent"), Some(None)),
            (network("pf"), Some(Some(1))),
            (network("vfs"), Some(Some(1))),
            (network("two"), Some(None)),
            (network("evil"), Some(None)),
            (network("nat"), None),
            (network("lone"), None),
            (network("absent"), None),
            (network("broken"), None),
            (network("../../secret"), None),
            (network(""), None),
            (network(".."), None),
            (network("a\0b"), None),
        ];
        for (device, want) in table {
            let domain = Domain {
                passthrough: vec![device.clone()],
                ..Domain::default()
            };
            let (found, _) = device_nodes(&root, &host, &domain);
            let found = found.first().map(|(_, node)| node.map(|node| node.0));
            assert_eq!(found, want, "{device:?}");
        }
    }

    #[test]
    fn networks_of_taps_by_their_definitions() {
        let (dir, root) = root();
        let path = dir.path().join("etc/libvirt/qemu/networks");
        std::fs::write(path.join("other.xml"), "<network><name>nat</name></network>").unwrap();
        let macvtap =
            "<network><name>macvtap</name><forward mode='bridge'><interface dev='e'/></forward></network>";
        std::fs::write(path.join("macvtap.xml"), macvtap).unwrap();
        let of = |name: Option<&str>| crate::domain::Interface {
            mac: None,
            kind: "network".into(),
            network: name.map(str::to_string),
            model: "virtio".into(),
            driver: None,
            queues: None,
            alias: "net0".into(),
        };
        let names = [
            "nat",
            "lone",
            "macvtap",
            "pf",
            "vfs",
            "broken",
            "absent",
            "other",
            "../../secret",
            "",
        ];
        let domain = Domain {
            interfaces: names.map(Some).into_iter().chain([None]).map(of).collect(),
            ..Domain::default()
        };
        let found: Vec<String> = tap_networks(&root, &domain).into_iter().collect();
        assert_eq!(found, ["lone", "macvtap", "nat"]);
    }

    #[test]
    fn a_device_that_came_after_the_host_was_read() {
        let (dir, root) = root();
        let device = dir.path().join("sys/bus/pci/devices/0000:5e:00.0");
        std::fs::create_dir_all(&device).unwrap();
        let node = |id: u32| crate::host::Node {
            id: NodeId(id),
            memory: KiB(1 << 20),
            pools: Vec::new(),
            distances: BTreeMap::new(),
        };
        let host = Host {
            nodes: vec![node(0), node(1)],
            ..Host::default()
        };
        for (text, want) in [("1\n", Some(1)), ("-1\n", None), ("7\n", None)] {
            std::fs::write(device.join("numa_node"), text).unwrap();
            let found = pci_node(&root, &host, "0000:5E:00.0").map(|node| node.0);
            assert_eq!(found, want, "{text:?}");
        }
        assert_eq!(pci_node(&root, &host, "../0000:5e:00.0"), None);
    }
}
