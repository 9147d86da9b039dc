//! Targets as labels, as XPath, and in document order: all of it made from the rows of
//! `types/target.rs`.

use crate::rewrite::order::Container;
use crate::types::enlightenment::Enlightenment;
use crate::types::ids::{CellId, IothreadId, VcpuId};
use crate::types::setting::{DiskAttribute, Target};
use crate::types::target::{Key, Within};

/// Form of a target in the XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Form {
    /// Attribute of an element that exists for other reasons, too.
    Attribute(Holder, &'static str),
    /// One attribute of an element that exists for its sake.
    Keyed(Container, &'static str, &'static str),
    /// Whole element.
    Whole(Container, &'static str),
    /// `<cpu mode=>` with the attributes and children that belong to the mode.
    CpuMode,
    /// All `<vcpusched>` elements.
    Sched,
}

/// Element whose attributes are targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Holder {
    /// `<vcpu>`, which must exist.
    Vcpu,
    /// `<driver>` of a device, which is made where it is missing.
    Driver(Container),
}

/// Returns the form of a target in the XML.
pub(super) fn form(target: &Target) -> Form {
    let row = target.row();
    let name = row.element;
    match (target, row.within, row.attribute) {
        (Target::CpuMode, ..) => Form::CpuMode,
        (Target::VcpuSched, ..) => Form::Sched,
        (_, Within::Domain, Some(attribute)) => Form::Attribute(Holder::Vcpu, attribute),
        (_, Within::Disk | Within::Scsi | Within::Interface, Some(attribute)) => {
            Form::Attribute(Holder::Driver(container(target)), attribute)
        }
        (_, _, Some(attribute)) => Form::Keyed(container(target), name, attribute),
        (_, _, None) => Form::Whole(container(target), name),
    }
}

/// Returns the container around a target's element; of a device, its `<driver>`.
fn container(target: &Target) -> Container {
    match (target.row().within, target.key()) {
        (Within::MemoryBacking, _) => Container::MemoryBacking,
        (Within::Cputune, _) => Container::Cputune,
        (Within::Numatune, _) => Container::Numatune,
        (Within::Features, _) => Container::Features,
        (Within::Kvm, _) => Container::Kvm,
        (Within::Hyperv, _) => Container::Hyperv,
        (Within::Clock, _) => Container::Clock,
        (Within::Cpu, _) => Container::Cpu,
        (Within::Devices, _) => Container::Devices,
        (Within::Disk, Some(Key::Name(disk))) => Container::DiskDriver(disk.to_string()),
        (Within::Scsi, Some(Key::Number(index))) => Container::ScsiDriver(index),
        (Within::Pci, Some(Key::Number(index))) => Container::PciTarget(index),
        (Within::Interface, Some(Key::Name(mac))) => Container::InterfaceDriver(mac.to_string()),
        (Within::Domain | Within::Disk | Within::Scsi | Within::Pci | Within::Interface, _) => {
            Container::Root
        }
    }
}

/// Returns the attribute that distinguishes elements of one name, with its value.
pub(super) fn key(target: &Target) -> Option<(&'static str, String)> {
    if *target == Target::HypervClock {
        return Some(("name", "hypervclock".into()));
    }
    Some((target.row().key?, target.key()?.to_string()))
}

/// Returns the number that orders elements of one name.
pub(super) fn number(target: &Target) -> u32 {
    match target.key() {
        Some(Key::Number(number)) => number,
        Some(Key::Name(_)) | None => 0,
    }
}

/// Returns the target's label in the provenance.
pub(super) fn label(target: &Target) -> String {
    let row = target.row();
    let mut label = row.label.to_string();
    if let Some(key) = target.key() {
        label.push_str(&format!("/{key}"));
    }
    if let Some(attribute) = row.attribute.filter(|_| row.is_of_device()) {
        label.push_str(&format!("/{attribute}"));
    }
    label
}

/// Finds the target with this label in the provenance.
pub(super) fn from_label(text: &str) -> Option<Target> {
    const PLAIN: [Target; 19] = [
        Target::VcpuCpuset,
        Target::VcpuPlacement,
        Target::Iothreads,
        Target::EmulatorPin,
        Target::VcpuSched,
        Target::NumaMemory,
        Target::Hugepages,
        Target::Locked,
        Target::NoSharePages,
        Target::MemoryAccess,
        Target::CpuMode,
        Target::Topology,
        Target::Cells,
        Target::CpuCache,
        Target::Pmu,
        Target::HintDedicated,
        Target::PollControl,
        Target::HypervClock,
        Target::Memballoon,
    ];
    if let Some(plain) = PLAIN.iter().find(|target| target.row().label == text) {
        return Some(plain.clone());
    }
    // A label with a key: the target that each kind would be is the one if its label is this text.
    let (_, rest) = text.split_once('/')?;
    let number = || rest.split('/').next()?.parse().ok();
    let disk = |attribute: DiskAttribute| {
        let (disk, _) = rest.rsplit_once('/')?;
        Some(Target::Disk(disk.to_string(), attribute))
    };
    let keyed = [
        number().map(|id| Target::VcpuPin(VcpuId(id))),
        number().map(|id| Target::IothreadPin(IothreadId(id))),
        number().map(|id| Target::MemNode(CellId(id))),
        number().map(Target::ScsiIothread),
        number().map(Target::ExpanderNode),
        Some(Target::DiskIothreads(rest.to_string())),
        Some(Target::CpuFeature(rest.to_string())),
        rest.strip_suffix("/queues")
            .map(|mac| Target::NetQueues(mac.to_string())),
    ];
    let disks = DiskAttribute::ALL.map(disk);
    let hyperv = Enlightenment::ALL.map(|one| Some(Target::Hyperv(one)));
    let mut all = keyed.into_iter().chain(disks).chain(hyperv).flatten();
    all.find(|target| label(target) == text)
}

/// Returns the XPath that a plan shows.
pub fn path(target: &Target) -> String {
    let row = target.row();
    let key = target.key().map(|key| key.to_string()).unwrap_or_default();
    let mut path = match row.within {
        Within::Domain => "/domain".to_string(),
        Within::Kvm => "/domain/features/kvm".to_string(),
        Within::Hyperv => "/domain/features/hyperv".to_string(),
        Within::Disk => format!("/domain/devices/disk[target/@dev={}]", literal(&key)),
        Within::Scsi => format!("/domain/devices/controller[@type='scsi'][@index='{key}']"),
        Within::Pci => format!("/domain/devices/controller[@type='pci'][@index='{key}']/target"),
        Within::Interface => format!("/domain/devices/interface[mac/@address={}]", literal(&key)),
        _ => format!("/domain/{}", container(target).name()),
    };
    path.push('/');
    if matches!(target, Target::DiskIothreads(_)) {
        path.push_str("driver/");
    }
    path.push_str(row.element);
    if let Some((name, key)) = self::key(target) {
        path.push_str(&format!("[@{name}={}]", literal(&key)));
    }
    // An element that stands for its one attribute is shown as the element, except <access>.
    let is_element = matches!(form(target), Form::Keyed(..)) && *target != Target::MemoryAccess;
    if let Some(attribute) = row.attribute.filter(|_| !is_element) {
        path.push_str(&format!("/@{attribute}"));
    }
    path
}

/// Writes an XPath string literal. XPath has no escapes, so the kind of quotes depends on the text.
fn literal(text: &str) -> String {
    if text.contains('\'') {
        format!("\"{text}\"")
    } else {
        format!("'{text}'")
    }
}

/// Returns a sort key that puts targets in the order of libvirt's document. `device` numbers
/// disks and interfaces in document order.
pub(super) fn document_order(target: &Target, device: impl Fn(&str) -> usize) -> (u16, u16, usize, u16) {
    let root = |name: &str| Container::Root.place(name).unwrap_or(u16::MAX);
    match target {
        Target::VcpuPlacement => (root("vcpu"), 0, 0, 0),
        Target::VcpuCpuset => (root("vcpu"), 1, 0, 0),
        Target::Iothreads => (root("iothreads"), 0, 0, 0),
        Target::CpuMode => (root("cpu"), 0, 0, 0),
        Target::VcpuSched => (
            root("cputune"),
            Container::Cputune.place("vcpusched").unwrap_or(0),
            0,
            0,
        ),
        Target::Disk(disk, attribute) => (root("devices"), 1, device(disk), *attribute as u16),
        Target::DiskIothreads(disk) => (root("devices"), 1, device(disk), u16::MAX),
        Target::ScsiIothread(index) => (root("devices"), 2, *index as usize, 0),
        Target::ExpanderNode(index) => (root("devices"), 2, *index as usize, 1),
        Target::NetQueues(mac) => (root("devices"), 3, device(mac), 0),
        other => match form(other) {
            Form::Keyed(container, name, _) | Form::Whole(container, name) => {
                let place = container.place(name).unwrap_or(0) + 1;
                match container {
                    Container::Kvm | Container::Hyperv => (
                        root("features"),
                        Container::Features.place(container.name()).unwrap_or(0) + 1,
                        0,
                        place,
                    ),
                    container => (root(container.name()), place, number(other) as usize, 0),
                }
            }
            _ => (u16::MAX, 0, 0, 0),
        },
    }
}

#[cfg(test)]
mod tests;
