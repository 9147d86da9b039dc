//! Reader of `<devices>`: disks, virtio-scsi controllers, the balloon, and devices passed through
//! from the host.

use std::collections::{BTreeMap, BTreeSet};

use crate::domain::parse::scalar::{c_number_attr, number_attr, short};
use crate::domain::parse::{nested, plain_child, plain_children, scalar};
use crate::domain::{Disk, Domain, Expander, Interface, MemoryDevice, Passthrough, ScsiController};
use crate::types::ids::CellId;
use crate::xml::{Element, XmlError};

/// Reads a memory device that takes pages as the guest's cells do. libvirt gives it the page size
/// of its cell where it has none of its own (`qemuBuildMemoryBackendProps` in qemu/qemu_command.c).
/// `nvdimm` and `virtio-pmem` are files.
pub(super) fn memory_device(element: &Element<'_>) -> Option<MemoryDevice> {
    let model = element.attr("model")?;
    let own_pages = nested(element, &["source", "pagesize"]).next().is_some();
    if own_pages || !matches!(&*model, "dimm" | "virtio-mem") {
        return None;
    }
    let target = plain_child(element, "target")?;
    let size = |name: &'static str| {
        let child = plain_child(&target, name)?;
        scalar::amount(&child.text(), child.attr("unit").as_deref())
    };
    let all = size("size")?;
    let (amount, unit) = match &*model {
        "virtio-mem" => (size("requested").unwrap_or(all), size("block").unwrap_or(all)),
        _ => (all, all),
    };
    let cell = plain_child(&target, "node").and_then(|node| node.text().trim().parse().ok());
    Some(MemoryDevice {
        cell: CellId(cell.unwrap_or(0)),
        amount,
        unit,
    })
}

pub(super) fn read(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    // Disks with a target name each: settings address a disk by its target.
    let mut targets = BTreeSet::new();
    for element in nested(root, &["devices", "disk"]) {
        let disk = disk(&element)?;
        if !targets.insert(disk.target.clone()) {
            return Err(element.error(format!("a second disk with target '{}'", short(&disk.target))));
        }
        domain.vhost_user |= disk.kind == "vhostuser";
        // QEMU drives the NVMe controller itself: it is passed through like any PCI device.
        if disk.kind == "nvme"
            && let Some(address) =
                plain_child(&element, "source").and_then(|source| plain_child(&source, "address"))
        {
            domain.passthrough.push(Passthrough::Pci(pci(&address)?));
        }
        domain.disks.push(disk);
    }
    for driver in nested(root, &["devices", "iommu", "driver"]) {
        domain.eim |= driver.attr("eim").as_deref() == Some("on");
    }
    // Only virtio-scsi controllers have iothreads and queues.
    for (element, index) in scsi_indices(root)? {
        let model = element.attr("model").unwrap_or_default();
        if !matches!(
            &*model,
            "virtio-scsi" | "virtio-transitional" | "virtio-non-transitional"
        ) {
            continue;
        }
        let driver = plain_child(&element, "driver");
        domain.scsi_controllers.push(ScsiController {
            index,
            alias: alias(&element).unwrap_or_else(|| format!("scsi{index}")),
            queues: driver
                .and_then(|driver| driver.attr("queues"))
                .map(|q| q.into_owned()),
            iothread: driver.as_ref().and_then(iothread),
            iothread_mapping: driver.as_ref().is_some_and(is_mapping),
            iothreads_possible: is_on_pci_or_ccw(&element),
        });
    }
    // libvirt allows one balloon.
    let mut balloons = nested(root, &["devices", "memballoon"]);
    if let Some(balloon) = balloons.next() {
        domain.memballoon = Some(balloon.attr("model").unwrap_or_default().into_owned());
    }
    if let Some(second) = balloons.next() {
        return Err(second.error("a second <memballoon>"));
    }
    let buses = PciBuses::read(root);
    let expanders = buses.expanders.iter().map(|(index, cell)| Expander {
        index: *index,
        cell: *cell,
        devices: Vec::new(),
    });
    domain.expanders = expanders.collect();
    // Passed-through devices, for their nodes, and vhost-user devices, for shared memory.
    for element in nested(root, &["devices", "hostdev"]) {
        let before = domain.passthrough.len();
        hostdev(&element, domain)?;
        if domain.passthrough.len() > before {
            place(&element, &buses, before, domain);
        }
    }
    for (number, element) in nested(root, &["devices", "interface"]).enumerate() {
        let before = domain.passthrough.len();
        interface(&element, domain)?;
        if domain.passthrough.len() > before {
            place(&element, &buses, before, domain);
        }
        domain.interfaces.push(network_interface(&element, number));
    }
    without_shared_names(&mut domain.interfaces);
    for element in nested(root, &["devices", "filesystem"]) {
        let driver = plain_child(&element, "driver");
        domain.vhost_user |= driver
            .and_then(|driver| driver.attr("type"))
            .is_some_and(|t| t == "virtiofs");
    }
    for element in nested(root, &["devices", "video"]) {
        let driver = plain_child(&element, "driver");
        domain.vhost_user |= driver
            .and_then(|driver| driver.attr("name"))
            .is_some_and(|n| n == "vhostuser");
    }
    Ok(())
}

fn disk(element: &Element<'_>) -> Result<Disk, XmlError> {
    let target = plain_child(element, "target");
    let dev = target.and_then(|target| target.attr("dev")).unwrap_or_default();
    if dev.is_empty() {
        return Err(element.error("a disk without <target dev=>"));
    }
    let text =
        |from: Option<Element<'_>>, name: &str| from.and_then(|e| e.attr(name)).map(|v| v.into_owned());
    let device = text(Some(*element), "device").unwrap_or_else(|| "disk".into());
    let driver = plain_child(element, "driver");
    let source = plain_child(element, "source");
    let address = plain_child(element, "address");
    let controller = match address {
        Some(address) if address.attr("type").is_some_and(|kind| kind == "drive") => {
            number_attr(&address, "controller")?
        }
        _ => None,
    };
    Ok(Disk {
        alias: alias(element).unwrap_or_else(|| virtio_alias(&dev)),
        bus: text(target, "bus").unwrap_or_else(|| bus_of(&dev, &device).into()),
        target: dev.into_owned(),
        kind: text(Some(*element), "type").unwrap_or_else(|| "file".into()),
        device,
        source: text(source, "file").or_else(|| text(source, "dev")),
        format: text(driver, "type"),
        cache: text(driver, "cache"),
        io: text(driver, "io"),
        discard: text(driver, "discard"),
        queues: text(driver, "queues"),
        iothread: driver.as_ref().and_then(iothread),
        iothread_mapping: driver.as_ref().is_some_and(is_mapping),
        controller,
        iothreads_possible: is_on_pci_or_ccw(element),
        shareable: ["readonly", "shareable", "transient"]
            .iter()
            .any(|name| plain_child(element, name).is_some()),
    })
}

/// Reads the name a device has in QEMU, where its XML has one.
fn alias(element: &Element<'_>) -> Option<String> {
    let alias = plain_child(element, "alias")?.attr("name")?;
    Some(alias.into_owned())
}

/// Returns the name libvirt gives a virtio disk: `virtio-disk0` for `vda` (`virDiskNameToIndex`,
/// `qemuAssignDeviceDiskAlias`).
fn virtio_alias(target: &str) -> String {
    let letters = target.get(2..).unwrap_or_default().bytes();
    let letters = letters.take_while(u8::is_ascii_lowercase);
    let number = letters.fold(0usize, |number, letter| {
        number
            .saturating_mul(26)
            .saturating_add(usize::from(letter - b'a') + 1)
    });
    format!("virtio-disk{}", number.saturating_sub(1))
}

/// Returns the bus that libvirt assumes from a disk's target name (`virDomainDiskDefParseXML` and
/// its post-parse step).
fn bus_of(target: &str, device: &str) -> &'static str {
    if device == "floppy" {
        return "fdc";
    }
    match target.get(..2) {
        Some("fd") => "fdc",
        Some("sd") => "scsi",
        Some("vd") => "virtio",
        Some("xv") => "xen",
        Some("ub") => "uml",
        _ => "ide",
    }
}

/// Returns whether a virtio device is on a bus on which libvirt gives it an iothread: PCI or CCW,
/// also where libvirt has yet to choose an address (`qemuDomainValidateIothreads`).
fn is_on_pci_or_ccw(element: &Element<'_>) -> bool {
    let address = plain_child(element, "address").and_then(|address| address.attr("type"));
    address.is_none_or(|kind| matches!(&*kind, "pci" | "ccw" | "none"))
}

fn is_mapping(driver: &Element<'_>) -> bool {
    driver.attr("iothread").is_none() && plain_child(driver, "iothreads").is_some()
}

/// Reads `iothread=`, or the ids of an `<iothreads>` mapping (libvirt 10).
fn iothread(driver: &Element<'_>) -> Option<String> {
    if let Some(id) = driver.attr("iothread") {
        return Some(id.into_owned());
    }
    let mapping = plain_child(driver, "iothreads")?;
    let ids: Vec<String> = plain_children(&mapping, "iothread")
        .filter_map(|thread| thread.attr("id").map(|id| id.into_owned()))
        .collect();
    Some(ids.join(","))
}

/// Returns the SCSI controllers with their indices; a controller without an index gets the lowest
/// free one, as in libvirt.
pub(crate) fn scsi_indices<'d>(root: &Element<'d>) -> Result<Vec<(Element<'d>, u32)>, XmlError> {
    let mut given = Vec::new();
    let mut used = BTreeSet::new();
    for element in nested(root, &["devices", "controller"]) {
        if element.attr("type").is_some_and(|kind| kind == "scsi") {
            // libvirt treats index -1 as absent.
            let negative = element.attr("index").is_some_and(|text| text.trim() == "-1");
            let index = if negative {
                None
            } else {
                number_attr(&element, "index")?
            };
            used.extend(index);
            given.push((element, index));
        }
    }
    let mut next = 0;
    let mut out = Vec::new();
    for (element, index) in given {
        let index = index.unwrap_or_else(|| {
            while !used.insert(next) {
                next += 1;
            }
            next
        });
        out.push((element, index));
    }
    Ok(out)
}

/// Most buses of a guest: their numbers are bytes.
const MOST_BUSES: u32 = 255;

/// PCI controllers: expander buses, and for each index the bus it is on.
struct PciBuses {
    expanders: BTreeMap<u32, Option<CellId>>,
    above: BTreeMap<u32, u32>,
}

impl PciBuses {
    fn read(root: &Element<'_>) -> Self {
        let mut buses = Self {
            expanders: BTreeMap::new(),
            above: BTreeMap::new(),
        };
        for element in nested(root, &["devices", "controller"]) {
            let index = element.attr("index").and_then(|index| index.trim().parse().ok());
            let (Some("pci"), Some(index)) = (element.attr("type").as_deref(), index) else {
                continue;
            };
            if matches!(
                element.attr("model").as_deref(),
                Some("pcie-expander-bus" | "pci-expander-bus")
            ) {
                let node = nested(&element, &["target", "node"]).next();
                let cell = node.and_then(|node| node.text().trim().parse().ok().map(CellId));
                buses.expanders.insert(index, cell);
            } else if let Some(above) = bus_of_address(&element) {
                buses.above.insert(index, above);
            }
        }
        buses
    }

    /// Returns the index of the expander bus that a device is below.
    fn expander_of(&self, device: &Element<'_>) -> Option<u32> {
        let mut bus = bus_of_address(device)?;
        // Each step goes one controller up. There are no more buses, so a circle ends.
        for _ in 0..=MOST_BUSES {
            if self.expanders.contains_key(&bus) {
                return Some(bus);
            }
            bus = *self.above.get(&bus)?;
        }
        None
    }
}

/// Notes the expander bus and the guest cell of a device that was passed through.
fn place(element: &Element<'_>, buses: &PciBuses, position: usize, domain: &mut Domain) {
    // Expanders are in the order of their indices.
    let expanders = &mut domain.expanders;
    let found = buses.expander_of(element);
    let found = found.and_then(|index| expanders.binary_search_by_key(&index, |bus| bus.index).ok());
    let cell = found.and_then(|at| expanders.get_mut(at)).and_then(|expander| {
        expander.devices.push(position);
        expander.cell
    });
    if let Some(cell) = cell.or_else(|| acpi_cell(element)) {
        domain.device_cells.insert(position, cell);
    }
}

/// Returns the bus of a device's PCI address in the guest.
fn bus_of_address(device: &Element<'_>) -> Option<u32> {
    let address = plain_child(device, "address")?;
    let is_pci = address.attr("type").as_deref() == Some("pci");
    c_number_attr(&address, "bus").ok().flatten().filter(|_| is_pci)
}

/// Returns the cell of a device's `<acpi nodeset=>` that names one.
fn acpi_cell(device: &Element<'_>) -> Option<CellId> {
    let nodeset = plain_child(device, "acpi")?.attr("nodeset")?;
    nodeset.trim().parse().ok().map(CellId)
}

fn hostdev(element: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let address = plain_child(element, "source").and_then(|source| plain_child(&source, "address"));
    match (element.attr("type").as_deref(), address) {
        (Some("pci"), Some(address)) => domain.passthrough.push(Passthrough::Pci(pci(&address)?)),
        (Some("mdev"), Some(address)) => {
            if let Some(uuid) = address.attr("uuid") {
                domain
                    .passthrough
                    .push(Passthrough::Mdev(uuid.to_ascii_lowercase()));
            }
        }
        _ => {}
    }
    Ok(())
}

fn interface(element: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let source = plain_child(element, "source");
    match element.attr("type").as_deref() {
        Some("vhostuser") => domain.vhost_user = true,
        Some("hostdev") => {
            if let Some(address) = source.and_then(|source| plain_child(&source, "address"))
                && address.attr("type").is_none_or(|kind| kind == "pci")
            {
                domain.passthrough.push(Passthrough::Pci(pci(&address)?));
            }
        }
        Some("network") => {
            // A status file also names the device of the pool that the guest got.
            let actual = plain_child(element, "actual");
            let device = actual.filter(|actual| actual.attr("type").is_some_and(|kind| kind == "hostdev"));
            if let Some(address) = device
                .and_then(|device| plain_child(&device, "source"))
                .and_then(|source| plain_child(&source, "address"))
            {
                domain.passthrough.push(Passthrough::Pci(pci(&address)?));
            } else if let Some(network) = source.and_then(|source| source.attr("network")) {
                domain
                    .passthrough
                    .push(Passthrough::Network(network.into_owned()));
            }
        }
        _ => {}
    }
    Ok(())
}

fn network_interface(element: &Element<'_>, number: usize) -> Interface {
    let text = |child: &'static str, name: &str| {
        let child = plain_child(element, child)?;
        child.attr(name).map(|text| text.into_owned())
    };
    Interface {
        mac: mac_of(element),
        kind: element.attr("type").unwrap_or_default().into_owned(),
        network: text("source", "network"),
        model: text("model", "type").unwrap_or_default(),
        driver: text("driver", "name"),
        queues: text("driver", "queues"),
        alias: alias(element).unwrap_or_else(|| format!("net{number}")),
    }
}

/// Takes the MAC address from all interfaces that have one in common: it names none of them.
fn without_shared_names(interfaces: &mut [Interface]) {
    let mut seen = BTreeSet::new();
    let macs = interfaces.iter().filter_map(|interface| interface.mac.clone());
    let shared: BTreeSet<String> = macs.filter(|mac| !seen.insert(mac.clone())).collect();
    for interface in interfaces {
        interface.mac.take_if(|mac| shared.contains(mac));
    }
}

/// Returns the MAC address of an interface as libvirt writes it: six bytes of two digits in lower
/// case (`virMacAddrParse` also reads single digits).
pub(crate) fn mac_of(interface: &Element<'_>) -> Option<String> {
    let text = plain_child(interface, "mac")?.attr("address")?;
    let byte = |part: &str| match part.len() {
        1 | 2 => u8::from_str_radix(part, 16)
            .ok()
            .map(|byte| format!("{byte:02x}")),
        _ => None,
    };
    let bytes: Vec<String> = text.split(':').map(byte).collect::<Option<_>>()?;
    (bytes.len() == 6).then(|| bytes.join(":"))
}

/// Returns an address as `0000:3b:00.0`.
fn pci(address: &Element<'_>) -> Result<String, XmlError> {
    let part = |name: &str, max: u32| -> Result<u32, XmlError> {
        match c_number_attr(address, name)?.unwrap_or(0) {
            value if value <= max => Ok(value),
            value => Err(address.error(format!("{name}={value:#x} is no part of a PCI address"))),
        }
    };
    // Linux has PCI domains beyond 16 bits (VMD); libvirt accepts 32 bits.
    Ok(format!(
        "{:04x}:{:02x}:{:02x}.{:x}",
        part("domain", u32::MAX)?,
        part("bus", 0xff)?,
        part("slot", 0x1f)?,
        part("function", 7)?
    ))
}
