//! Facts of a guest's domain XML that placement and rewriting use.
//!
//! The types are plain data. `parse` reads them from XML text; nothing here depends on files or
//! hosts.

pub mod parse;
pub mod qemu;

pub use crate::types::topology::Topology;
use qemu::{QemuOptions, Ruled};
use std::collections::{BTreeMap, BTreeSet};

use crate::types::ids::{CellId, IothreadId, KiB, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};

/// Facts of one domain XML. Absent elements are `None` or empty; methods fill in libvirt's
/// defaults.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domain {
    /// Guest's name (`<name>`).
    pub name: String,
    /// UUID, lower case with dashes; empty where the XML has none.
    pub uuid: String,
    /// Title (`<title>`); empty where the XML has none.
    pub title: String,
    /// Kind of the hypervisor (`type=`): `kvm`, `qemu`, ….
    pub kind: String,
    /// Architecture (`<os><type arch=>`); empty: the host's.
    pub arch: String,
    /// Program of QEMU (`<devices><emulator>`); empty: the one libvirt takes for the architecture.
    pub emulator: String,
    /// Machine type (`<os><type machine=>`).
    pub machine: String,
    /// libosinfo id from `<metadata>`, e.g. `http://microsoft.com/win/11`.
    pub os_id: String,
    /// True for the XML of a running guest (`id=`).
    pub running: bool,
    /// True if an IOMMU gives the guest extended interrupt mode (`<iommu>` with `eim='on'`), and
    /// with it APIC ids above 254.
    pub eim: bool,
    /// Memory in KiB (`<memory>`; units converted, bytes rounded up). With guest cells it is their
    /// sum.
    pub memory: KiB,
    /// Maximum number of vCPUs (`<vcpu>`).
    pub vcpus: u32,
    /// vCPU slots that are empty until a vCPU is plugged in (`<vcpu current=>`, `<vcpus>`).
    pub empty_slots: VcpuSet,
    /// True if numad places the vCPUs (`<vcpu placement='auto'>`).
    pub vcpu_placement_auto: bool,
    /// CPUs of all vCPUs without a pin (`<vcpu cpuset=>`).
    pub vcpu_cpuset: Option<CpuSet>,
    /// Pins of vCPUs (`<vcpupin>`); those beyond `vcpus` are left out, as libvirt drops them.
    pub vcpupins: BTreeMap<VcpuId, CpuSet>,
    /// Pin of the emulator threads (`<emulatorpin>`).
    pub emulatorpin: Option<CpuSet>,
    /// Number of iothreads; `None` where there is neither `<iothreads>` nor `<iothreadids>`.
    pub iothreads: Option<u32>,
    /// Ids of all iothreads, including those that libvirt fills in.
    pub iothread_ids: Vec<IothreadId>,
    /// Iothreads that `<iothreadids>` lists or an `<iothreadsched>` names: the guest cannot be
    /// without them.
    pub iothreads_named: BTreeSet<IothreadId>,
    /// Pins of iothreads (`<iothreadpin>`).
    pub iothreadpins: BTreeMap<IothreadId, CpuSet>,
    /// Scheduling of vCPUs (`<vcpusched>` elements).
    pub vcpuscheds: Vec<VcpuSched>,
    /// Ids of the host's caches and memory controllers that `<cachetune>` and `<memorytune>` name.
    pub resource_ids: BTreeSet<u32>,
    /// Parts of level 3 caches and of their memory bandwidth that are reserved for vCPUs.
    pub cache_tunes: Vec<CacheTune>,
    /// Memory binding of the guest (`<numatune><memory>`).
    pub numatune: Option<NumaMemory>,
    /// Memory binding of guest cells (`<numatune><memnode>`).
    pub memnodes: BTreeMap<CellId, NumaMemory>,
    /// Guest cells (`<cpu><numa><cell>`). vCPUs in no cell are in cell 0, as in libvirt.
    pub cells: Vec<Cell>,
    /// CPU definition (`<cpu>`).
    pub cpu: Option<Cpu>,
    /// Huge pages (`<memoryBacking><hugepages>`).
    pub hugepages: Option<HugepagesElement>,
    /// True if the memory is locked (`<memoryBacking><locked/>`).
    pub locked: bool,
    /// True if pages are not merged (`<memoryBacking><nosharepages/>`).
    pub nosharepages: bool,
    /// Source of the memory (`<memoryBacking><source type=>`).
    pub memory_source: Option<String>,
    /// Access to the memory (`<memoryBacking><access mode=>`).
    pub memory_access: Option<String>,
    /// Time of allocation (`<memoryBacking><allocation mode=>`).
    pub memory_allocation: Option<String>,
    /// True if there is `<maxMemory>` or any memory device (`dimm`, `nvdimm`, `virtio-mem`, …).
    pub memory_hotplug: bool,
    /// Memory devices that take the guest's pages: `dimm` and `virtio-mem` without a page size of
    /// their own.
    pub memory_devices: Vec<MemoryDevice>,
    /// Virtual PMU (`<features><pmu state=>`).
    pub pmu: Option<bool>,
    /// KVM's hint of dedicated CPUs (`<features><kvm><hint-dedicated state=>`).
    pub hint_dedicated: Option<bool>,
    /// KVM's control of polling (`<features><kvm><poll-control state=>`).
    pub poll_control: Option<bool>,
    /// States of the enlightenments of Hyper-V, by name (`<features><hyperv>`).
    pub hyperv: BTreeMap<String, bool>,
    /// True if the guest has all enlightenments that KVM offers (`<hyperv mode='passthrough'>`).
    pub hyperv_passthrough: bool,
    /// Hyper-V's clock (`<clock><timer name='hypervclock' present=>`).
    pub hypervclock: Option<bool>,
    /// True if there is `<launchSecurity>`.
    pub launch_security: bool,
    /// Model of the memory balloon (`<memballoon model=>`).
    pub memballoon: Option<String>,
    /// Disks in document order.
    pub disks: Vec<Disk>,
    /// SCSI controllers with a virtio-scsi model, in document order.
    pub scsi_controllers: Vec<ScsiController>,
    /// Network interfaces in document order.
    pub interfaces: Vec<Interface>,
    /// Devices passed through to the guest.
    pub passthrough: Vec<Passthrough>,
    /// Guest cells that passed-through devices are shown in, by their position in `passthrough`:
    /// that of the expander bus they are below, else that of `<acpi nodeset=>`.
    pub device_cells: BTreeMap<usize, CellId>,
    /// Expander buses in the order of their indices.
    pub expanders: Vec<Expander>,
    /// True if a vhost-user device (interface, disk, filesystem, video) needs shared guest memory.
    pub vhost_user: bool,
    /// Options that are passed to QEMU past libvirt.
    pub qemu: QemuOptions,
    /// Profile that the guest asks for: `<request>` in virtfit's request namespace.
    pub request: Option<String>,
}

/// Reservation for some vCPUs: `<cachetune>` of level 3 caches, or `<memorytune>`, whose nodes have
/// the ids of these caches on x86.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CacheTune {
    /// vCPUs that have it (`vcpus=`).
    pub vcpus: VcpuSet,
    /// Ids of the caches; the reservation holds on them alone.
    pub ids: BTreeSet<u32>,
}

/// Scheduling of some vCPUs (`<vcpusched>`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcpuSched {
    /// vCPUs with this scheduling (`vcpus=`).
    pub vcpus: VcpuSet,
    /// Scheduler: `fifo`, `rr`, `batch` or `idle`.
    pub scheduler: String,
    /// Priority; only with `fifo` and `rr`.
    pub priority: Option<u32>,
}

/// Memory binding: `<memory>` or `<memnode>` of `<numatune>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaMemory {
    /// Mode (`mode=`); libvirt's default is `strict`.
    pub mode: String,
    /// Host nodes (`nodeset=`).
    pub nodeset: Option<NodeSet>,
    /// True if numad chooses the nodes (`placement='auto'`).
    pub auto: bool,
}

/// Guest cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// Cell's id (`id=`), or its position.
    pub id: CellId,
    /// Cell's vCPUs (`cpus=`); may be empty.
    pub vcpus: VcpuSet,
    /// Cell's memory (`memory=`), in KiB.
    pub memory: KiB,
}

/// Memory device: memory beside that of the cells, in pages of the same size.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryDevice {
    /// Guest cell of the device (`<target><node>`).
    pub cell: CellId,
    /// Size of the device (`<target><size>`); for `virtio-mem` the size it has at start,
    /// `<requested>`.
    pub amount: KiB,
    /// Amount that has to be a whole number of pages: the size, or a `virtio-mem`'s `<block>`.
    pub unit: KiB,
}

/// CPU definition (`<cpu>`).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// Mode (`mode=`); empty where absent (libvirt: custom).
    pub mode: String,
    /// Check of the CPU at start (`check=`).
    pub check: Option<String>,
    /// Restriction to migratable features (`migratable=`).
    pub migratable: Option<String>,
    /// CPU model (text of `<model>`).
    pub model: Option<String>,
    /// Topology that the guest sees.
    pub topology: Option<Topology>,
    /// Policies of CPU features, by name (`<feature>`).
    pub features: BTreeMap<String, String>,
    /// CPU caches that the guest sees: mode and level (`<cache mode= level=>`).
    pub cache: Option<(String, Option<u32>)>,
}

/// Huge pages (`<memoryBacking><hugepages>`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugepagesElement {
    /// Page sizes, each with its guest cells (`<page size= nodeset=>`). Empty: the host's default
    /// size for all memory.
    pub pages: Vec<(KiB, Option<NodeSet>)>,
}

/// Disk of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// Target name (`<target dev=>`), the disk's name in plans and paths.
    pub target: String,
    /// Kind of the source (`type=`): file, block, network, volume, nvme, vhostuser, vhostvdpa, dir.
    pub kind: String,
    /// Kind of the device (`device=`): disk, lun, cdrom, floppy.
    pub device: String,
    /// Bus (`<target bus=>`): virtio, scsi, sata, ….
    pub bus: String,
    /// Path of the image (`<source file=>` or `<source dev=>`).
    pub source: Option<String>,
    /// Image format (`<driver type=>`): raw, qcow2, ….
    pub format: Option<String>,
    /// Cache mode (`<driver cache=>`).
    pub cache: Option<String>,
    /// I/O mode (`<driver io=>`).
    pub io: Option<String>,
    /// Discard mode (`<driver discard=>`).
    pub discard: Option<String>,
    /// Name of the device in QEMU: that of `<alias>`, else the one libvirt gives it.
    pub alias: String,
    /// Number of queues (`<driver queues=>`).
    pub queues: Option<String>,
    /// Iothread of the disk (`<driver iothread=>`), or the ids of an `<iothreads>` mapping below
    /// the driver (libvirt 10+), which counts as an administrator's.
    pub iothread: Option<String>,
    /// True for such a mapping; libvirt refuses `iothread=` beside a mapping.
    pub iothread_mapping: bool,
    /// True if libvirt can give the device an iothread: it is on PCI or CCW.
    pub iothreads_possible: bool,
    /// Controller of a SCSI disk (`<address type='drive' controller=>`).
    pub controller: Option<u32>,
    /// True for a read-only, shareable or transient disk, whose cache mode must not change in
    /// meaning.
    pub shareable: bool,
}

/// virtio-scsi controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiController {
    /// Index of the controller (`index=`).
    pub index: u32,
    /// Name of the device in QEMU: that of `<alias>`, else the one libvirt gives it.
    pub alias: String,
    /// Number of queues (`<driver queues=>`).
    pub queues: Option<String>,
    /// Iothread of the controller (`<driver iothread=>`), or the ids of an `<iothreads>` mapping.
    pub iothread: Option<String>,
    /// True for such a mapping; libvirt refuses `iothread=` beside a mapping.
    pub iothread_mapping: bool,
    /// True if libvirt can give the device an iothread: it is on PCI or CCW.
    pub iothreads_possible: bool,
}

/// Network interface of the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Interface {
    /// MAC address in lower case, the interface's name in plans and paths; `None` where it has none
    /// yet, or another interface has the same.
    pub mac: Option<String>,
    /// Kind of the source (`type=`): network, bridge, direct, user, ….
    pub kind: String,
    /// Network of one of `type='network'` (`<source network=>`).
    pub network: Option<String>,
    /// Model (`<model type=>`): virtio, e1000e, ….
    pub model: String,
    /// Backend (`<driver name=>`): vhost or qemu.
    pub driver: Option<String>,
    /// Number of queues (`<driver queues=>`).
    pub queues: Option<String>,
    /// Name of the device in QEMU: that of `<alias>`, else the one libvirt gives it.
    pub alias: String,
}

/// PCI expander bus: a root bus of its own, which can be shown in a guest cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expander {
    /// Index of the controller (`index=`).
    pub index: u32,
    /// Guest cell (`<target><node>`).
    pub cell: Option<CellId>,
    /// Passed-through devices below the bus, by their position in `passthrough`.
    pub devices: Vec<usize>,
}

/// Host device passed through to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passthrough {
    /// PCI device of a `<hostdev>` or `<interface type='hostdev'>`, by address (`0000:3b:00.0`).
    Pci(String),
    /// Mediated device (mdev), by UUID.
    Mdev(String),
    /// Interface of a network, by the network's name; a passed-through device where the network is
    /// a pool of host devices.
    Network(String),
}

impl Domain {
    /// Returns true if the guest has NUMA cells.
    pub(crate) fn has_cells(&self) -> bool {
        !self.cells.is_empty()
    }

    /// Returns the network interface with this MAC address.
    pub(crate) fn interface(&self, mac: &str) -> Option<&Interface> {
        let mut interfaces = self.interfaces.iter();
        interfaces.find(|interface| interface.mac.as_deref() == Some(mac))
    }

    /// Lists the virtio-scsi controllers that an iothread can serve.
    pub fn iothread_controllers(&self) -> impl Iterator<Item = &ScsiController> {
        self.scsi_controllers
            .iter()
            .filter(|controller| controller.iothreads_possible)
    }

    /// Returns the virtio-scsi controller of this index.
    pub fn scsi_controller(&self, index: u32) -> Option<&ScsiController> {
        let mut controllers = self.scsi_controllers.iter();
        controllers.find(|controller| controller.index == index)
    }

    /// Returns the memory of the devices that belong to a cell.
    fn device_memory(&self, cell: CellId) -> KiB {
        let devices = self.memory_devices.iter().filter(|device| device.cell == cell);
        KiB(devices.fold(0, |sum, device| sum.saturating_add(device.amount.0)))
    }

    /// Returns a cell's memory, with that of its devices.
    pub(crate) fn memory_of(&self, cell: &Cell) -> KiB {
        KiB(cell.memory.0.saturating_add(self.device_memory(cell.id).0))
    }

    /// Returns the guest's memory, with that of all devices.
    pub(crate) fn all_memory(&self) -> KiB {
        let devices = self.memory_devices.iter();
        KiB(devices.fold(self.memory.0, |sum, device| sum.saturating_add(device.amount.0)))
    }

    /// Returns the name of the guest's Windows by libosinfo (`11`, `2k22`); `None` for others.
    pub(crate) fn windows(&self) -> Option<&str> {
        self.os_id.strip_prefix("http://microsoft.com/win/")
    }

    /// Returns true if the guest's operating system is a Windows.
    pub(crate) fn is_windows(&self) -> bool {
        self.windows().is_some()
    }

    /// Returns true if TCG emulates the guest's CPUs, rather than KVM running them.
    pub(crate) fn is_tcg(&self) -> bool {
        self.kind == "qemu"
    }

    /// Returns the topology that the guest sees by its XML: that of `-smp`, else that of `<cpu>`;
    /// `None` where there is neither, or `-smp` cannot be read.
    pub fn shown_topology(&self) -> Option<Topology> {
        match self.qemu.rules(&Ruled::Topology) {
            Some(_) => self.qemu.topology,
            None => self.cpu.as_ref().and_then(|cpu| cpu.topology),
        }
    }

    /// Returns all vCPUs, including those that are offline until they are plugged in.
    pub(crate) fn all_vcpus(&self) -> VcpuSet {
        VcpuSet::first_n(self.vcpus)
    }

    /// Returns the CPUs that a vCPU may use by the XML: its pin, else `vcpu@cpuset`.
    pub(crate) fn pin_of(&self, vcpu: VcpuId) -> Option<&CpuSet> {
        self.vcpupins.get(&vcpu).or(self.vcpu_cpuset.as_ref())
    }
}
