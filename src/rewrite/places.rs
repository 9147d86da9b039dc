//! Places of all targets in a document, and the values they hold.

use std::collections::{BTreeMap, HashMap};

use crate::domain::parse::{
    cells_of, is_plain, nested, plain_child, plain_children, scsi_indices, topology_of,
};
use crate::rewrite::order::Container;
use crate::rewrite::target::{Form, Holder, form};
use crate::rewrite::value::{show_cache, show_cells, show_sched, show_topology};
use crate::types::ids::{Id, KiB, VcpuId};
use crate::types::idset::{IdSet, VcpuSet};
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
    /// Children of the root by name; `kvms` has the `<kvm>` elements.
    containers: HashMap<&'d str, Vec<Element<'d>>>,
    kvms: Vec<Element<'d>>,
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
        let mut ordinals = HashMap::new();
        for alike in containers.values().chain([&kvms]) {
            ordinals.extend(alike.iter().enumerate().map(|(nth, element)| (element.id(), nth)));
        }
        Ok(Self {
            document,
            containers,
            kvms,
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
            Container::Disk(target) => self.disks.get(target).map(|(_, disk)| *disk),
            Container::Scsi(index) => self.scsi.get(index).copied(),
            Container::DiskDriver(_) | Container::ScsiDriver(_) => {
                plain_children(&self.container(&container.parent()?)?, "driver").nth(nth)
            }
            other => self.containers.get(other.name())?.get(nth).copied(),
        }
    }

    /// Returns the index of an element among those of its container's name.
    pub(super) fn container_number(&self, element: &Element<'d>) -> usize {
        self.ordinals.get(&element.id()).copied().unwrap_or(0)
    }

    /// Returns the position of a disk among all disks.
    pub(super) fn disk_position(&self, target: &str) -> usize {
        self.disks
            .get(target)
            .map_or(usize::MAX, |(position, _)| *position)
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
            Target::CpuFeature(name) => self.features.get(name).copied(),
            other => match form(other) {
                Form::Whole(Container::Root, name) => plain_child(&self.root, name),
                Form::Keyed(Container::Kvm, name, _) => nested(&self.root, &["features", "kvm", name]).next(),
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

    /// Returns the value of a target as canonical text; `None` where it is absent. A value that is
    /// malformed is returned as it stands.
    pub(super) fn read(&self, target: &Target) -> Option<String> {
        // Values are compared as text, so each form resolves libvirt's defaults to what libvirt
        // writes out.
        match form(target) {
            Form::Attribute(holder, name) => {
                let text = self.holder(&holder).and_then(|element| element.attr(name));
                match target {
                    // libvirt writes the default out.
                    Target::VcpuPlacement => Some(text.map_or("static".into(), |text| text.into_owned())),
                    Target::VcpuCpuset => text.map(|text| normal_list(&text)),
                    _ => text.map(|text| text.into_owned()),
                }
            }
            Form::Keyed(_, _, name) => {
                let element = self.element(target)?;
                let text = element.attr(name);
                Some(match target {
                    Target::VcpuPin(_) | Target::EmulatorPin | Target::IothreadPin(_) => {
                        normal_list(&text.unwrap_or_default())
                    }
                    Target::CpuFeature(_) => text.map_or("require".into(), |text| text.into_owned()),
                    Target::Pmu => text.map_or("on".into(), |text| text.into_owned()),
                    _ => text.unwrap_or_default().into_owned(),
                })
            }
            Form::CpuMode => {
                let cpu = self.container(&Container::Cpu)?;
                match cpu.attr("mode") {
                    Some(mode) => Some(mode.into_owned()),
                    None => plain_child(&cpu, "model").map(|_| "custom".into()),
                }
            }
            Form::Sched => read_scheds(&self.scheds()),
            Form::Whole(..) => {
                let element = self.element(target)?;
                Some(match target {
                    Target::Iothreads => element.text().trim().to_string(),
                    Target::NumaMemory | Target::MemNode(_) => read_numa(&element),
                    Target::Hugepages => self.read_hugepages(),
                    Target::Topology => match topology_of(&element) {
                        Ok(topology) => show_topology(&topology),
                        Err(_) => element.raw().to_string(),
                    },
                    Target::Cells => self.read_cells(&element),
                    Target::CpuCache => {
                        let level = element.attr("level").and_then(|text| text.trim().parse().ok());
                        show_cache(&element.attr("mode").unwrap_or_default(), level)
                    }
                    Target::Memballoon => element.attr("model").unwrap_or_default().into_owned(),
                    _ => "present".into(),
                })
            }
        }
    }

    fn read_hugepages(&self) -> String {
        let pages: Vec<(String, Option<String>)> =
            nested(&self.root, &["memoryBacking", "hugepages", "page"])
                .map(|page| {
                    let unit = page.attr("unit");
                    let size = page.attr("size").unwrap_or_default();
                    let amount = crate::domain::parse::amount(&size, unit.as_deref());
                    let size = amount.map_or(size.into_owned(), |size| format!("{} KiB", size.0));
                    (size, page.attr("nodeset").map(|text| normal_list(&text)))
                })
                .collect();
        match pages.as_slice() {
            [] => "default size".into(),
            [(size, nodes)] if nodes.as_ref().is_none_or(|nodes| *nodes == self.all_cells()) => size.clone(),
            pages => {
                let pages: Vec<String> = pages
                    .iter()
                    .map(|(size, nodes)| match nodes {
                        Some(nodes) => format!("{size} for cells {nodes}"),
                        None => size.clone(),
                    })
                    .collect();
                pages.join(", ")
            }
        }
    }

    /// Lists all guest cells; a guest without cells counts as one cell, as it does for pages in
    /// libvirt.
    fn all_cells(&self) -> String {
        let count = self
            .element(&Target::Cells)
            .map_or(0, |numa| plain_children(&numa, "cell").count());
        VcpuSet::first_n(count.max(1) as u32).to_string()
    }

    fn read_cells(&self, numa: &Element<'d>) -> String {
        // The vCPUs are read as listed, whatever the guest's vCPU count is now.
        let last = plain_children(numa, "cell")
            .filter_map(|cell| {
                crate::types::cpulist::parse_plain::<VcpuId>(&cell.attr("cpus")?)
                    .ok()?
                    .last()
            })
            .max();
        match cells_of(numa, last.map_or(0, |last| last.0 + 1)) {
            Ok(cells) => {
                let cells: Vec<(VcpuSet, KiB)> =
                    cells.into_iter().map(|cell| (cell.vcpus, cell.memory)).collect();
                show_cells(&cells)
            }
            Err(_) => numa.raw().to_string(),
        }
    }
}

/// Returns one text for all schedulers: the vCPUs of an equal scheduler and priority are joined,
/// however many elements name them.
fn read_scheds(elements: &[Element<'_>]) -> Option<String> {
    let mut groups: BTreeMap<(String, Option<u32>), VcpuSet> = BTreeMap::new();
    for element in elements {
        let scheduler = element.attr("scheduler").unwrap_or_default().into_owned();
        let priority = element.attr("priority").and_then(|text| text.trim().parse().ok());
        let vcpus = crate::types::cpulist::parse_plain(&element.attr("vcpus").unwrap_or_default())
            .unwrap_or_default();
        groups
            .entry((scheduler, priority))
            .or_default()
            .extend_from(&vcpus);
    }
    let groups: Vec<String> = groups
        .iter()
        .map(|((scheduler, priority), vcpus)| show_sched(vcpus, scheduler, *priority))
        .collect();
    Some(groups.join("; ")).filter(|text| !text.is_empty())
}

fn read_numa(element: &Element<'_>) -> String {
    let mode = element
        .attr("mode")
        .map_or("strict".into(), |mode| mode.into_owned());
    match (element.attr("placement").as_deref(), element.attr("nodeset")) {
        (Some("auto"), _) | (_, None) => format!("{mode} auto"),
        (_, Some(nodes)) => format!("{mode} {}", normal_list(&nodes)),
    }
}

/// Returns a cpulist in canonical form; other text as it stands.
fn normal_list(text: &str) -> String {
    // libvirt lets a comma end a list.
    let body = text.trim().strip_suffix(',').unwrap_or(text);
    match crate::types::cpulist::parse_within::<crate::types::ids::HostCpu>(body, &IdSet::new()) {
        Ok(set) => set.to_string(),
        Err(_) => text.trim().to_string(),
    }
}
