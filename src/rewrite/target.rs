//! Targets as labels, as XPath, and in document order.

use crate::rewrite::order::Container;
use crate::types::ids::{CellId, IothreadId, VcpuId};
use crate::types::setting::{DiskAttribute, Target};

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
    use Container as C;
    match target {
        Target::VcpuCpuset => Form::Attribute(Holder::Vcpu, "cpuset"),
        Target::VcpuPlacement => Form::Attribute(Holder::Vcpu, "placement"),
        Target::Iothreads => Form::Whole(C::Root, "iothreads"),
        Target::VcpuPin(_) => Form::Keyed(C::Cputune, "vcpupin", "cpuset"),
        Target::EmulatorPin => Form::Keyed(C::Cputune, "emulatorpin", "cpuset"),
        Target::IothreadPin(_) => Form::Keyed(C::Cputune, "iothreadpin", "cpuset"),
        Target::VcpuSched => Form::Sched,
        Target::NumaMemory => Form::Whole(C::Numatune, "memory"),
        Target::MemNode(_) => Form::Whole(C::Numatune, "memnode"),
        Target::Hugepages => Form::Whole(C::MemoryBacking, "hugepages"),
        Target::Locked => Form::Whole(C::MemoryBacking, "locked"),
        Target::NoSharePages => Form::Whole(C::MemoryBacking, "nosharepages"),
        Target::MemoryAccess => Form::Keyed(C::MemoryBacking, "access", "mode"),
        Target::CpuMode => Form::CpuMode,
        Target::Topology => Form::Whole(C::Cpu, "topology"),
        Target::Cells => Form::Whole(C::Cpu, "numa"),
        Target::CpuFeature(_) => Form::Keyed(C::Cpu, "feature", "policy"),
        Target::CpuCache => Form::Whole(C::Cpu, "cache"),
        Target::Pmu => Form::Keyed(C::Features, "pmu", "state"),
        Target::HintDedicated => Form::Keyed(C::Kvm, "hint-dedicated", "state"),
        Target::PollControl => Form::Keyed(C::Kvm, "poll-control", "state"),
        Target::Memballoon => Form::Whole(C::Devices, "memballoon"),
        Target::Disk(disk, attribute) => Form::Attribute(
            Holder::Driver(C::DiskDriver(disk.clone())),
            match attribute {
                DiskAttribute::Cache => "cache",
                DiskAttribute::Io => "io",
                DiskAttribute::Discard => "discard",
                DiskAttribute::Queues => "queues",
                DiskAttribute::Iothread => "iothread",
            },
        ),
        Target::ScsiIothread(index) => Form::Attribute(Holder::Driver(C::ScsiDriver(*index)), "iothread"),
    }
}

/// Returns the attribute that distinguishes elements of one name, with its value.
pub(super) fn key(target: &Target) -> Option<(&'static str, String)> {
    match target {
        Target::VcpuPin(vcpu) => Some(("vcpu", vcpu.to_string())),
        Target::IothreadPin(thread) => Some(("iothread", thread.to_string())),
        Target::MemNode(cell) => Some(("cellid", cell.to_string())),
        Target::CpuFeature(name) => Some(("name", name.clone())),
        _ => None,
    }
}

/// Returns the number that orders elements of one name.
pub(super) fn number(target: &Target) -> u32 {
    match target {
        Target::VcpuPin(VcpuId(n)) | Target::IothreadPin(IothreadId(n)) | Target::MemNode(CellId(n)) => *n,
        _ => 0,
    }
}

/// Returns the target's label in the provenance.
pub(super) fn label(target: &Target) -> String {
    match target {
        Target::VcpuCpuset => "vcpu/cpuset".into(),
        Target::VcpuPlacement => "vcpu/placement".into(),
        Target::NumaMemory => "numatune".into(),
        Target::MemoryAccess => "access".into(),
        Target::CpuMode => "cpu".into(),
        Target::Cells => "numa".into(),
        Target::Disk(disk, attribute) => format!("disk/{disk}/{}", attribute.as_str()),
        Target::ScsiIothread(index) => format!("controller/{index}/iothread"),
        other => {
            let name = match form(other) {
                Form::Keyed(_, name, _) | Form::Whole(_, name) => name,
                _ => "vcpusched",
            };
            match key(other) {
                Some((_, value)) => format!("{name}/{value}"),
                None => name.to_string(),
            }
        }
    }
}

/// Finds the target with this label in the provenance.
pub(super) fn from_label(label: &str) -> Option<Target> {
    let simple = match label {
        "vcpu/cpuset" => Target::VcpuCpuset,
        "vcpu/placement" => Target::VcpuPlacement,
        "iothreads" => Target::Iothreads,
        "emulatorpin" => Target::EmulatorPin,
        "vcpusched" => Target::VcpuSched,
        "numatune" => Target::NumaMemory,
        "hugepages" => Target::Hugepages,
        "locked" => Target::Locked,
        "nosharepages" => Target::NoSharePages,
        "access" => Target::MemoryAccess,
        "cpu" => Target::CpuMode,
        "topology" => Target::Topology,
        "numa" => Target::Cells,
        "cache" => Target::CpuCache,
        "pmu" => Target::Pmu,
        "hint-dedicated" => Target::HintDedicated,
        "poll-control" => Target::PollControl,
        "memballoon" => Target::Memballoon,
        _ => {
            let (kind, rest) = label.split_once('/')?;
            return Some(match kind {
                "vcpupin" => Target::VcpuPin(VcpuId(rest.parse().ok()?)),
                "iothreadpin" => Target::IothreadPin(IothreadId(rest.parse().ok()?)),
                "memnode" => Target::MemNode(CellId(rest.parse().ok()?)),
                "feature" => Target::CpuFeature(rest.to_string()),
                "controller" => Target::ScsiIothread(rest.strip_suffix("/iothread")?.parse().ok()?),
                "disk" => {
                    let (disk, name) = rest.rsplit_once('/')?;
                    let attribute = [
                        DiskAttribute::Cache,
                        DiskAttribute::Io,
                        DiskAttribute::Discard,
                        DiskAttribute::Queues,
                        DiskAttribute::Iothread,
                    ]
                    .into_iter()
                    .find(|attribute| attribute.as_str() == name)?;
                    Target::Disk(disk.to_string(), attribute)
                }
                _ => return None,
            });
        }
    };
    Some(simple)
}

/// Returns the XPath that a plan shows.
pub fn path(target: &Target) -> String {
    match target {
        Target::VcpuCpuset => "/domain/vcpu/@cpuset".into(),
        Target::VcpuPlacement => "/domain/vcpu/@placement".into(),
        Target::CpuMode => "/domain/cpu/@mode".into(),
        Target::MemoryAccess => "/domain/memoryBacking/access/@mode".into(),
        Target::VcpuSched => "/domain/cputune/vcpusched".into(),
        Target::Disk(disk, attribute) => format!(
            "/domain/devices/disk[target/@dev={}]/driver/@{}",
            literal(disk),
            attribute.as_str()
        ),
        Target::ScsiIothread(index) => {
            format!("/domain/devices/controller[@type='scsi'][@index='{index}']/driver/@iothread")
        }
        other => {
            let (container, name) = match form(other) {
                Form::Keyed(container, name, _) | Form::Whole(container, name) => (container, name),
                _ => (Container::Root, ""),
            };
            let mut path = match container {
                Container::Root => "/domain".to_string(),
                Container::Kvm => "/domain/features/kvm".to_string(),
                other => format!("/domain/{}", other.name()),
            };
            path.push('/');
            path.push_str(name);
            if let Some((key, value)) = key(other) {
                path.push_str(&format!("[@{key}={}]", literal(&value)));
            }
            path
        }
    }
}

/// Writes an XPath string literal. XPath has no escapes, so the kind of quotes depends on the text.
fn literal(text: &str) -> String {
    if text.contains('\'') {
        format!("\"{text}\"")
    } else {
        format!("'{text}'")
    }
}

/// Returns a sort key that puts targets in the order of libvirt's document. `device` numbers the
/// disks in document order.
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
        Target::ScsiIothread(index) => (root("devices"), 2, *index as usize, 0),
        other => match form(other) {
            Form::Keyed(container, name, _) | Form::Whole(container, name) => {
                let place = container.place(name).unwrap_or(0) + 1;
                match container {
                    Container::Kvm => (
                        root("features"),
                        Container::Features.place("kvm").unwrap_or(0) + 1,
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
