//! Facts of every target: one row each, in one table.
//!
//! A new target does not compile without a row. All else that is known of a target (its XPath, its
//! label in the provenance, its words in a plan) is made from the row.

use std::fmt;

use serde::Serialize;

use crate::types::ids::Id;
use crate::types::setting::{DiskAttribute, Target};

/// Facts of a target.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Row {
    /// Element around the target's.
    pub within: Within,
    /// Element that has the value.
    pub element: &'static str,
    /// Attribute that has the value; `None`: the element as a whole.
    pub attribute: Option<&'static str>,
    /// Attribute that distinguishes elements of one name.
    pub key: Option<&'static str>,
    /// Label in the provenance, without the key.
    pub label: &'static str,
    /// Words in a plan, without the key.
    pub words: &'static str,
    /// Kind of change, as failed starts tell it.
    pub family: Family,
    /// The guest can see the value.
    pub guest_visible: bool,
    /// The value is decided at the first fit and stays, as it is part of what the guest is.
    pub is_of_shape: bool,
    /// The moment at which a change takes effect.
    pub effect: Effect,
}

/// Element around a target's.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Within {
    /// `<domain>`.
    Domain,
    /// `<memoryBacking>`.
    MemoryBacking,
    /// `<cputune>`.
    Cputune,
    /// `<numatune>`.
    Numatune,
    /// `<features>`.
    Features,
    /// `<kvm>` in `<features>`.
    Kvm,
    /// `<hyperv>` in `<features>`.
    Hyperv,
    /// `<clock>`.
    Clock,
    /// `<cpu>`.
    Cpu,
    /// `<devices>`.
    Devices,
    /// `<disk>` whose target is the key.
    Disk,
    /// SCSI `<controller>` whose index is the key.
    Scsi,
    /// PCI `<controller>` whose index is the key.
    Pci,
    /// `<interface>` whose MAC address is the key.
    Interface,
}

/// Kind of change, in the order in which a failed start is blamed on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(into = "&'static str")]
pub(crate) enum Family {
    /// CPU mode.
    CpuMode,
    /// CPU features.
    CpuFeatures,
    /// CPU cache.
    CpuCache,
    /// Page size, locking and sharing of memory.
    MemoryBacking,
    /// Topology.
    Topology,
    /// Guest cells.
    Cells,
    /// Nodes of the memory.
    MemoryNodes,
    /// Features of the machine and of KVM.
    KvmFeatures,
    /// Number of iothreads.
    Iothreads,
    /// Devices.
    Devices,
    /// Pins and scheduling.
    Pins,
}

/// Moment at which a change takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// At once: libvirt's API makes the change to a running guest.
    AtOnce,
    /// At the next start.
    NextStart,
}

/// Part of a target that distinguishes it from others of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Key<'a> {
    /// Number of a vCPU, an iothread, a cell or a controller.
    Number(u32),
    /// Name of a CPU feature or an enlightenment, a disk's target, or an interface's MAC address.
    Name(&'a str),
}

impl fmt::Display for Key<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Number(number) => fmt::Display::fmt(number, f),
            Self::Name(name) => f.write_str(name),
        }
    }
}

impl From<Family> for &'static str {
    fn from(family: Family) -> Self {
        family.words()
    }
}

impl Family {
    const ALL: [Self; 11] = [
        Self::CpuMode,
        Self::CpuFeatures,
        Self::CpuCache,
        Self::MemoryBacking,
        Self::Topology,
        Self::Cells,
        Self::MemoryNodes,
        Self::KvmFeatures,
        Self::Iothreads,
        Self::Devices,
        Self::Pins,
    ];

    /// Returns the words, which records of starts use too.
    pub(crate) fn words(self) -> &'static str {
        match self {
            Self::CpuMode => "cpu mode",
            Self::CpuFeatures => "cpu features",
            Self::CpuCache => "cpu cache",
            Self::MemoryBacking => "memory backing",
            Self::Topology => "topology",
            Self::Cells => "guest cells",
            Self::MemoryNodes => "memory nodes",
            Self::KvmFeatures => "KVM features",
            Self::Iothreads => "iothreads",
            Self::Devices => "devices",
            Self::Pins => "pins",
        }
    }

    /// Returns the family of these words.
    pub(crate) fn named(words: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|family| family.words() == words)
    }

    /// Returns whether the change is to the guest's CPU model.
    pub(crate) fn is_cpu(self) -> bool {
        matches!(self, Self::CpuMode | Self::CpuFeatures | Self::CpuCache)
    }
}

impl Row {
    /// Makes the row of a value that only the host sees, and that waits for a start.
    const fn new(within: Within, element: &'static str, words: &'static str, family: Family) -> Self {
        Self {
            within,
            element,
            attribute: None,
            key: None,
            label: element,
            words,
            family,
            guest_visible: false,
            is_of_shape: false,
            effect: Effect::NextStart,
        }
    }

    /// Returns whether the value is an attribute of a device's `<driver>`.
    pub(crate) const fn is_of_device(&self) -> bool {
        matches!(self.within, Within::Disk | Within::Scsi | Within::Interface)
    }

    const fn attribute(self, name: &'static str) -> Self {
        Self {
            attribute: Some(name),
            ..self
        }
    }

    const fn key(self, name: &'static str) -> Self {
        Self {
            key: Some(name),
            ..self
        }
    }

    const fn label(self, label: &'static str) -> Self {
        Self { label, ..self }
    }

    /// The guest sees the value.
    const fn visible(self) -> Self {
        Self {
            guest_visible: true,
            ..self
        }
    }

    /// The guest sees the value, and keeps it.
    const fn shape(self) -> Self {
        Self {
            guest_visible: true,
            is_of_shape: true,
            ..self
        }
    }

    const fn at_once(self) -> Self {
        Self {
            effect: Effect::AtOnce,
            ..self
        }
    }
}

/// Returns the row of a target.
#[rustfmt::skip]
const fn row(target: &Target) -> Row {
    use DiskAttribute as A;
    use Family as F;
    use Target as T;
    use Within as W;
    const DISK: Row = Row::new(W::Disk, "driver", "disk", F::Devices).label("disk");
    const SCSI: Row = Row::new(W::Scsi, "driver", "scsi controller", F::Devices).label("controller");
    match target {
        T::VcpuCpuset => Row::new(W::Domain, "vcpu", "vcpu cpuset", F::Pins).attribute("cpuset").label("vcpu/cpuset").at_once(),
        T::VcpuPlacement => Row::new(W::Domain, "vcpu", "vcpu placement", F::Pins).attribute("placement").label("vcpu/placement").at_once(),
        T::Iothreads => Row::new(W::Domain, "iothreads", "iothreads", F::Iothreads),
        T::VcpuPin(_) => Row::new(W::Cputune, "vcpupin", "vcpupin", F::Pins).attribute("cpuset").key("vcpu").at_once(),
        T::EmulatorPin => Row::new(W::Cputune, "emulatorpin", "emulatorpin", F::Pins).attribute("cpuset").at_once(),
        T::IothreadPin(_) => Row::new(W::Cputune, "iothreadpin", "iothreadpin", F::Pins).attribute("cpuset").key("iothread").at_once(),
        T::VcpuSched => Row::new(W::Cputune, "vcpusched", "vcpusched", F::Pins).at_once(),
        T::NumaMemory => Row::new(W::Numatune, "memory", "numatune memory", F::MemoryNodes).label("numatune"),
        T::MemNode(_) => Row::new(W::Numatune, "memnode", "memnode", F::MemoryNodes).key("cellid"),
        T::Hugepages => Row::new(W::MemoryBacking, "hugepages", "huge pages", F::MemoryBacking),
        T::Locked => Row::new(W::MemoryBacking, "locked", "memory locked", F::MemoryBacking),
        T::NoSharePages => Row::new(W::MemoryBacking, "nosharepages", "memory not shared", F::MemoryBacking),
        T::MemoryAccess => Row::new(W::MemoryBacking, "access", "memory access", F::MemoryBacking).attribute("mode"),
        T::CpuMode => Row::new(W::Domain, "cpu", "CPU mode", F::CpuMode).attribute("mode").shape(),
        T::Topology => Row::new(W::Cpu, "topology", "topology", F::Topology).shape(),
        T::Cells => Row::new(W::Cpu, "numa", "guest cells", F::Cells).shape(),
        T::CpuFeature(_) => Row::new(W::Cpu, "feature", "CPU feature", F::CpuFeatures).attribute("policy").key("name").shape(),
        T::CpuCache => Row::new(W::Cpu, "cache", "CPU cache", F::CpuCache).shape(),
        T::Pmu => Row::new(W::Features, "pmu", "pmu", F::KvmFeatures).attribute("state").shape(),
        T::HintDedicated => Row::new(W::Kvm, "hint-dedicated", "kvm hint-dedicated", F::KvmFeatures).attribute("state").shape(),
        T::PollControl => Row::new(W::Kvm, "poll-control", "kvm poll-control", F::KvmFeatures).attribute("state").shape(),
        T::Hyperv(one) => Row::new(W::Hyperv, one.as_str(), "hyperv", F::KvmFeatures).label("hyperv").attribute("state").shape(),
        T::HypervClock => Row::new(W::Clock, "timer", "hypervclock", F::KvmFeatures).label("hypervclock").attribute("present").shape(),
        T::Memballoon => Row::new(W::Devices, "memballoon", "memballoon", F::Devices).shape(),
        T::Disk(_, A::Cache) => DISK.attribute(A::Cache.as_str()),
        T::Disk(_, A::Io) => DISK.attribute(A::Io.as_str()),
        // The device offers the guest to discard blocks, but no guest depends on that.
        T::Disk(_, A::Discard) => DISK.attribute(A::Discard.as_str()).visible(),
        T::Disk(_, A::Queues) => DISK.attribute(A::Queues.as_str()).shape(),
        T::Disk(_, A::Iothread) => DISK.attribute(A::Iothread.as_str()),
        T::DiskIothreads(_) => Row::new(W::Disk, "iothreads", "iothreads of disk", F::Devices).label("disk-iothreads"),
        T::ScsiIothread(_) => SCSI.attribute("iothread"),
        T::ExpanderNode(_) => Row::new(W::Pci, "node", "cell of expander bus", F::Devices).label("expander").shape(),
        T::NetQueues(_) => Row::new(W::Interface, "driver", "interface", F::Devices).label("interface").attribute("queues").shape(),
    }
}

impl Target {
    /// Returns the facts of the target.
    pub(crate) const fn row(&self) -> Row {
        row(self)
    }

    /// Returns whether the guest can see the value.
    pub fn is_guest_visible(&self) -> bool {
        self.row().guest_visible
    }

    /// Returns the part that distinguishes the target from others of its kind.
    pub(crate) fn key(&self) -> Option<Key<'_>> {
        match self {
            Self::VcpuPin(id) => Some(Key::Number(id.get())),
            Self::IothreadPin(id) => Some(Key::Number(id.get())),
            Self::MemNode(id) => Some(Key::Number(id.get())),
            Self::ScsiIothread(index) | Self::ExpanderNode(index) => Some(Key::Number(*index)),
            Self::Hyperv(one) => Some(Key::Name(one.as_str())),
            Self::CpuFeature(name)
            | Self::Disk(name, _)
            | Self::DiskIothreads(name)
            | Self::NetQueues(name) => Some(Key::Name(name)),
            Self::VcpuCpuset
            | Self::VcpuPlacement
            | Self::Iothreads
            | Self::EmulatorPin
            | Self::VcpuSched
            | Self::NumaMemory
            | Self::Hugepages
            | Self::Locked
            | Self::NoSharePages
            | Self::MemoryAccess
            | Self::CpuMode
            | Self::Topology
            | Self::Cells
            | Self::CpuCache
            | Self::Pmu
            | Self::HintDedicated
            | Self::PollControl
            | Self::HypervClock
            | Self::Memballoon => None,
        }
    }
}
