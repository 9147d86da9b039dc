//! Places of all targets in a document.

use std::collections::{BTreeMap, HashMap};

use crate::domain::parse::{is_plain, mac_of, nested, plain_child, plain_children, scsi_indices};
use crate::rewrite::order::Container;
use crate::rewrite::target::{Form, Holder, form};
use crate::types::ids::Id;
use crate::types::setting::Target;
use crate::xml::{Document, Element, ElementId, XmlError};

/// Index of one document, built once.
pub(super) struct Places<'d> {
    pub(super) text: &'d str,
    pub(super) root: Element<'d>,
    document: &'d Document<'d>,
    vcpupins: BTreeMap<u32, Element<'d>>,
    iothreadpins: BTreeMap<u32, Element<'d>>,
    memnodes: BTreeMap<u32, Element<'d>>,
    features: HashMap<String, Element<'d>>,
    disks: HashMap<String, (usize, Element<'d>)>,
    scsi: BTreeMap<u32, Element<'d>>,
    /// PCI controllers by index.
    pci: BTreeMap<u32, Element<'d>>,
    /// Interfaces by MAC address, each with its position.
    interfaces: HashMap<String, (usize, Element<'d>)>,
    /// Children of the root by name; `kvms` and `hypervs` have the elements in `<features>`.
    containers: HashMap<&'d str, Vec<Element<'d>>>,
    kvms: Vec<Element<'d>>,
    hypervs: Vec<Element<'d>>,
    /// For each container: the number of containers of its name before it.
    ordinals: HashMap<ElementId, usize>,
}

/// Returns the root element.
///
/// # Errors
/// The root is not `<domain>`.
pub(super) fn domain<'d>(document: &'d Document<'_>) -> Result<Element<'d>, XmlError> {
    let root = document.root();
    if root.name() != "domain" || !is_plain(&root) {
        return Err(root.error(format!("this is <{}>, not a domain", root.name())));
    }
    Ok(root)
}

impl<'d> Places<'d> {
    /// Builds the index of a document.
    ///
    /// # Errors
    /// The root is not `<domain>`, or the index of a SCSI controller is malformed.
    pub(super) fn new(document: &'d Document<'_>) -> Result<Self, XmlError> {
        let root = domain(document)?;
        // Where an element is repeated, the first one counts, as in libvirt.
        let numbered = |path: &[&'static str], attribute: &str| -> BTreeMap<u32, Element<'d>> {
            let mut map = BTreeMap::new();
            for element in nested(&root, path) {
                let number = element.attr(attribute).and_then(|text| text.trim().parse().ok());
                if let Some(number) = number {
                    map.entry(number).or_insert(element);
                }
            }
            map
        };
        let mut disks = HashMap::new();
        for (position, disk) in nested(&root, &["devices", "disk"]).enumerate() {
            let target = plain_child(&disk, "target").and_then(|target| target.attr("dev"));
            if let Some(target) = target {
                disks.entry(target.into_owned()).or_insert((position, disk));
            }
        }
        let mut pci = BTreeMap::new();
        for controller in nested(&root, &["devices", "controller"]) {
            let index = controller.attr("index").and_then(|text| text.trim().parse().ok());
            if let (Some("pci"), Some(index)) = (controller.attr("type").as_deref(), index) {
                pci.entry(index).or_insert(controller);
            }
        }
        let mut interfaces = HashMap::new();
        for (position, interface) in nested(&root, &["devices", "interface"]).enumerate() {
            if let Some(mac) = mac_of(&interface) {
                interfaces.entry(mac).or_insert((position, interface));
            }
        }
        let features = plain_child(&root, "cpu")
            .into_iter()
            .flat_map(|cpu| plain_children(&cpu, "feature"))
            .filter_map(|feature| Some((feature.attr("name")?.into_owned(), feature)))
            .collect();
        // Containers may be repeated: the provenance counts them to find the one it means.
        let mut containers: HashMap<&str, Vec<Element<'d>>> = HashMap::new();
        for child in root.children().filter(is_plain) {
            containers.entry(child.name()).or_default().push(child);
        }
        let kvms: Vec<Element<'d>> = nested(&root, &["features", "kvm"]).collect();
        let hypervs: Vec<Element<'d>> = nested(&root, &["features", "hyperv"]).collect();
        let mut ordinals = HashMap::new();
        for alike in containers.values().chain([&kvms, &hypervs]) {
            ordinals.extend(alike.iter().enumerate().map(|(nth, element)| (element.id(), nth)));
        }
        Ok(Self {
            document,
            containers,
            kvms,
            hypervs,
            ordinals,
            text: document.text(),
            vcpupins: numbered(&["cputune", "vcpupin"], "vcpu"),
            iothreadpins: numbered(&["cputune", "iothreadpin"], "iothread"),
            memnodes: numbered(&["numatune", "memnode"], "cellid"),
            features,
            disks,
            scsi: scsi_indices(&root)?
                .into_iter()
                .map(|(element, index)| (index, element))
                .collect(),
            pci,
            interfaces,
            root,
        })
    }

    /// Returns the element with this id.
    pub(super) fn document_element(&self, id: ElementId) -> Element<'d> {
        self.document.element(id)
    }

    /// Returns a container's element; the first one where it is repeated.
    pub(super) fn container(&self, container: &Container) -> Option<Element<'d>> {
        self.container_at(container, 0)
    }

    /// Returns the nth element of a repeated container.
    pub(super) fn container_at(&self, container: &Container, nth: usize) -> Option<Element<'d>> {
        match container {
            Container::Root => Some(self.root).filter(|_| nth == 0),
            Container::Kvm => self.kvms.get(nth).copied(),
            Container::Hyperv => self.hypervs.get(nth).copied(),
            Container::Disk(target) => self.disks.get(target).map(|(_, disk)| *disk),
            Container::Scsi(index) => self.scsi.get(index).copied(),
            Container::Pci(index) => self.pci.get(index).copied(),
            Container::PciTarget(_) => {
                plain_children(&self.container(&container.parent()?)?, "target").nth(nth)
            }
            Container::Interface(mac) => self.interfaces.get(mac).map(|(_, interface)| *interface),
            Container::DiskDriver(_) | Container::ScsiDriver(_) | Container::InterfaceDriver(_) => {
                plain_children(&self.container(&container.parent()?)?, "driver").nth(nth)
            }
            other => self.containers.get(other.name())?.get(nth).copied(),
        }
    }

    /// Returns the index of an element among those of its container's name.
    pub(super) fn container_number(&self, element: &Element<'d>) -> usize {
        self.ordinals.get(&element.id()).copied().unwrap_or(0)
    }

    /// Returns the position of a disk, by its target, or of an interface, by its MAC address, among
    /// all devices of its kind.
    pub(super) fn device_position(&self, name: &str) -> usize {
        let device = self.disks.get(name).or_else(|| self.interfaces.get(name));
        device.map_or(usize::MAX, |(position, _)| *position)
    }

    /// Returns an element that holds attribute targets.
    pub(super) fn holder(&self, holder: &Holder) -> Option<Element<'d>> {
        match holder {
            Holder::Vcpu => plain_child(&self.root, "vcpu"),
            Holder::Driver(container) => self.container(container),
        }
    }

    /// Returns the element of a target that has one of its own.
    pub(super) fn element(&self, target: &Target) -> Option<Element<'d>> {
        match target {
            Target::VcpuPin(vcpu) => self.vcpupins.get(&vcpu.get()).copied(),
            Target::IothreadPin(thread) => self.iothreadpins.get(&thread.get()).copied(),
            Target::MemNode(cell) => self.memnodes.get(&cell.get()).copied(),
            Target::ExpanderNode(index) => {
                let target = self.container(&Container::PciTarget(*index))?;
                plain_child(&target, "node")
            }
            Target::DiskIothreads(disk) => {
                let driver = self.container(&Container::DiskDriver(disk.clone()))?;
                plain_child(&driver, "iothreads")
            }
            Target::CpuFeature(name) => self.features.get(name).copied(),
            Target::HypervClock => nested(&self.root, &["clock", "timer"])
                .find(|timer| timer.attr("name").as_deref() == Some("hypervclock")),
            other => match form(other) {
                Form::Whole(Container::Root, name) => plain_child(&self.root, name),
                Form::Keyed(within @ (Container::Kvm | Container::Hyperv), name, _) => {
                    nested(&self.root, &["features", within.name(), name]).next()
                }
                // libvirt reads the first `<cpu>` only.
                Form::Whole(Container::Cpu, name) => {
                    plain_child(&self.root, "cpu").and_then(|cpu| plain_child(&cpu, name))
                }
                Form::Keyed(container, name, _) | Form::Whole(container, name) => {
                    nested(&self.root, &[container.name(), name]).next()
                }
                _ => None,
            },
        }
    }

    /// Returns all `<vcpusched>` elements.
    pub(super) fn scheds(&self) -> Vec<Element<'d>> {
        nested(&self.root, &["cputune", "vcpusched"]).collect()
    }
}
