//! A guest as virtfit sees it: the facts of its domain XML that placement and rewriting look at.
//!
//! Plain data. `parse` makes it from XML text; nothing here knows of files or hosts.

pub mod parse;

pub use crate::types::topology::Topology;
use std::collections::{BTreeMap, BTreeSet};

use crate::types::ids::{CellId, IothreadId, KiB, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};

/// The facts of one domain XML. Absent elements are `None` or empty; libvirt's defaults are filled
/// in by the methods.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Domain {
    /// `<name>`.
    pub name: String,
    /// `<uuid>`, lower case with dashes; empty where the XML has none.
    pub uuid: String,
    /// `<title>`.
    pub title: String,
    /// `type=`: `kvm`, `qemu`, ….
    pub kind: String,
    /// `<os><type arch=>`; empty: the host's.
    pub arch: String,
    /// `<os><type machine=>`.
    pub machine: String,
    /// libosinfo id from `<metadata>`, e.g. `http://microsoft.com/win/11`.
    pub os_id: String,
    /// `id=`: the XML of a running guest.
    pub running: bool,
    /// `<memory>` in KiB (units converted; bytes rounded up). With cells their sum.
    pub memory: KiB,
    /// `<vcpu>`: the maximum.
    pub vcpus: u32,
    /// `<vcpu placement='auto'>`.
    pub vcpu_placement_auto: bool,
    /// `<vcpu cpuset=>`.
    pub vcpu_cpuset: Option<CpuSet>,
    /// `<vcpupin>`; those beyond `vcpus` are left out (libvirt drops them).
    pub vcpupins: BTreeMap<VcpuId, CpuSet>,
    /// `<emulatorpin>`.
    pub emulatorpin: Option<CpuSet>,
    /// `<iothreads>`; `None` where absent and no `<iothreadids>` either.
    pub iothreads: Option<u32>,
    /// All iothread ids the guest has once libvirt filled in the missing ones.
    pub iothread_ids: Vec<IothreadId>,
    /// Those that `<iothreadids>` lists or an `<iothreadsched>` names: the guest cannot be without
    /// them.
    pub iothreads_named: BTreeSet<IothreadId>,
    /// `<iothreadpin>`.
    pub iothreadpins: BTreeMap<IothreadId, CpuSet>,
    /// `<vcpusched>` elements.
    pub vcpuscheds: Vec<VcpuSched>,
    /// `<numatune><memory>`.
    pub numatune: Option<NumaMemory>,
    /// `<numatune><memnode>`.
    pub memnodes: BTreeMap<CellId, NumaMemory>,
    /// `<cpu><numa><cell>`; vCPUs in no cell are in cell 0, as libvirt does it.
    pub cells: Vec<Cell>,
    /// `<cpu>`.
    pub cpu: Option<Cpu>,
    /// `<memoryBacking><hugepages>`.
    pub hugepages: Option<HugepagesElement>,
    /// `<memoryBacking><locked/>`.
    pub locked: bool,
    /// `<memoryBacking><nosharepages/>`.
    pub nosharepages: bool,
    /// `<memoryBacking><source type=>`.
    pub memory_source: Option<String>,
    /// `<memoryBacking><access mode=>`.
    pub memory_access: Option<String>,
    /// `<memoryBacking><allocation mode=>`.
    pub memory_allocation: Option<String>,
    /// `<maxMemory>` or memory devices (`dimm`, `nvdimm`, `virtio-mem`) exist.
    pub memory_hotplug: bool,
    /// Memory devices that take the guest's pages: `dimm` and `virtio-mem` without a page size of
    /// their own.
    pub memory_devices: Vec<MemoryDevice>,
    /// `<features><pmu state=>`.
    pub pmu: Option<bool>,
    /// `<features><kvm><hint-dedicated state=>`.
    pub hint_dedicated: Option<bool>,
    /// `<features><kvm><poll-control state=>`.
    pub poll_control: Option<bool>,
    /// `<launchSecurity>` exists.
    pub launch_security: bool,
    /// `<memballoon model=>`.
    pub memballoon: Option<String>,
    /// `<disk>`s in document order.
    pub disks: Vec<Disk>,
    /// `<controller type='scsi'>` with a virtio-scsi model, in document order.
    pub scsi_controllers: Vec<ScsiController>,
    /// Passed-through devices, for locality.
    pub passthrough: Vec<Passthrough>,
    /// A vhost-user device (interface, disk, filesystem) exists: guest memory has to be shared.
    pub vhost_user: bool,
    /// `<request>` in virtfit's request namespace: the profile asked for.
    pub request: Option<String>,
}

/// `<vcpusched>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct VcpuSched {
    /// `vcpus=`.
    pub vcpus: VcpuSet,
    /// `scheduler=`: fifo, rr, batch, idle.
    pub scheduler: String,
    /// `priority=`.
    pub priority: Option<u32>,
}

/// `<numatune>`'s `<memory>` or `<memnode>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NumaMemory {
    /// `mode=`; libvirt's default is strict.
    pub mode: String,
    /// `nodeset=`.
    pub nodeset: Option<NodeSet>,
    /// `placement='auto'`.
    pub auto: bool,
}

/// A guest NUMA cell.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Cell {
    /// `id=`, or its position.
    pub id: CellId,
    /// `cpus=`; may be empty.
    pub vcpus: VcpuSet,
    /// `memory=`.
    pub memory: KiB,
}

/// `<memory>` among the devices: memory beside that of the cells, in the same pages.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct MemoryDevice {
    /// `<target><node>`: its cell.
    pub cell: CellId,
    /// `<target><size>`; of a `virtio-mem` what it is to have at start, `<requested>`.
    pub amount: KiB,
    /// What has to be a whole number of pages: the size, or a `virtio-mem`'s `<block>`.
    pub unit: KiB,
}

/// `<cpu>`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Cpu {
    /// `mode=`; empty where absent (libvirt: custom).
    pub mode: String,
    /// `check=`.
    pub check: Option<String>,
    /// `migratable=`.
    pub migratable: Option<String>,
    /// Text of `<model>`.
    pub model: Option<String>,
    /// `<topology>`.
    pub topology: Option<Topology>,
    /// `<feature>`: name to policy.
    pub features: BTreeMap<String, String>,
    /// `<cache mode= level=>`.
    pub cache: Option<(String, Option<u32>)>,
}

/// `<memoryBacking><hugepages>`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HugepagesElement {
    /// `<page size= nodeset=>`; empty: the host's default size for all.
    pub pages: Vec<(KiB, Option<NodeSet>)>,
}

/// A disk.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Disk {
    /// `<target dev=>`: its name in plans and paths.
    pub target: String,
    /// `type=`: file, block, network, volume, nvme, vhostuser, vhostvdpa, dir.
    pub kind: String,
    /// `device=`: disk, lun, cdrom, floppy.
    pub device: String,
    /// `<target bus=>`: virtio, scsi, sata, ….
    pub bus: String,
    /// `<source file=|dev=>`.
    pub source: Option<String>,
    /// `<driver type=>`: raw, qcow2, ….
    pub format: Option<String>,
    /// `<driver cache=>`.
    pub cache: Option<String>,
    /// `<driver io=>`.
    pub io: Option<String>,
    /// `<driver discard=>`.
    pub discard: Option<String>,
    /// `<driver queues=>`.
    pub queues: Option<String>,
    /// `<driver iothread=>`, or a `<iothreads>` mapping below it (libvirt 10+) which counts as
    /// written by hand.
    pub iothread: Option<String>,
    /// It is such a mapping; an `iothread=` beside it is an error.
    pub iothread_mapping: bool,
    /// `<address type='drive' controller=>` for SCSI disks.
    pub controller: Option<u32>,
    /// Read-only, shareable or transient: not for cache changes that alter semantics.
    pub shareable: bool,
}

/// A virtio-scsi controller.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScsiController {
    /// `index=`.
    pub index: u32,
    /// `<driver queues=>`.
    pub queues: Option<String>,
    /// `<driver iothread=>` (or an `<iothreads>` mapping).
    pub iothread: Option<String>,
    /// It is such a mapping; an `iothread=` beside it is an error.
    pub iothread_mapping: bool,
}

/// A device of the host given to the guest.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Passthrough {
    /// hostdev or interface hostdev, by PCI address `0000:3b:00.0`.
    Pci(String),
    /// mdev, by UUID.
    Mdev(String),
    /// `<interface type='network'>`, by network name: counts where the network is a hostdev pool.
    Network(String),
}

impl Domain {
    /// The guest's cells, or none where it has no guest NUMA.
    pub fn has_cells(&self) -> bool {
        !self.cells.is_empty()
    }

    /// Memory of the devices that belong to a cell.
    pub fn device_memory(&self, cell: CellId) -> KiB {
        let devices = self.memory_devices.iter().filter(|device| device.cell == cell);
        KiB(devices.fold(0, |sum, device| sum.saturating_add(device.amount.0)))
    }

    /// A cell's memory with that of its devices.
    pub fn memory_of(&self, cell: &Cell) -> KiB {
        KiB(cell.memory.0.saturating_add(self.device_memory(cell.id).0))
    }

    /// All memory, with that of the devices.
    pub fn all_memory(&self) -> KiB {
        let devices = self.memory_devices.iter();
        KiB(devices.fold(self.memory.0, |sum, device| sum.saturating_add(device.amount.0)))
    }

    /// Emulated by TCG rather than run by KVM.
    pub fn is_tcg(&self) -> bool {
        self.kind == "qemu"
    }

    /// All vCPUs, also those that are offline until plugged.
    pub fn all_vcpus(&self) -> VcpuSet {
        VcpuSet::first_n(self.vcpus)
    }

    /// The CPUs a vCPU may use by the XML: its pin, else `vcpu@cpuset`.
    pub fn pin_of(&self, vcpu: VcpuId) -> Option<&CpuSet> {
        self.vcpupins.get(&vcpu).or(self.vcpu_cpuset.as_ref())
    }
}
