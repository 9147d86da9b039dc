//! Subjects of a plan's notes: the part of a guest or a profile that stays as it is, or is left
//! out.

use std::fmt;

use crate::types::enlightenment::Enlightenment;
use crate::types::ids::IothreadId;
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::setting::{DiskAttribute, Target};
use crate::types::target::Within;

/// Part of a guest or a profile that a note is about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Subject {
    /// Pins of vCPUs.
    VcpuPins(VcpuSet, CpuSet),
    /// Pin of the emulator threads.
    EmulatorPin(CpuSet),
    /// Pin of an iothread.
    IothreadPin(IothreadId, CpuSet),
    /// `<numatune>` as a whole.
    Numatune,
    /// Memory preferred on several nodes.
    PreferredNodes(NodeSet),
    /// Memory on the node of its vCPUs.
    MemoryWithVcpus,
    /// Disk as the profile's `cache` and `io` see it.
    DiskCacheAndIo(String),
    /// Value of a disk's attribute: `vda cache=none`.
    DiskValue(String, DiskAttribute, String),
    /// Queues of an interface without a MAC address of its own, by its position.
    InterfaceQueues(usize),
    /// Enlightenments of Hyper-V; empty: all of them.
    Hyperv(Vec<Enlightenment>),
    /// CPU mode of this name.
    CpuMode(&'static str),
    /// CPU cache of the mode `passthrough`.
    CachePassthrough,
    /// Feature `tsc-deadline`.
    TscDeadline,
    /// Real-time vCPUs, as a wish of the profile.
    RealtimeVcpus,
    /// Real time for these vCPUs.
    RealtimeFor(VcpuSet),
    /// vCPU pins as a whole.
    AllPins,
    /// Settings that the guest sees.
    GuestVisible,
    /// Settings that the guest sees, huge pages and real time.
    ForeignGuest,
    /// Settings that only KVM knows.
    KvmSettings,
    /// CPU model with its features.
    CpuModel,
    /// Memory: amount, source and nodes.
    Memory,
    /// Value of a target.
    Value(Target),
    /// Part of the guest that a target belongs to: a device as a whole, all cells.
    Part(Target),
}

impl Subject {
    /// Returns whether the subject is a pin.
    pub(crate) fn is_pin(&self) -> bool {
        matches!(
            self,
            Self::VcpuPins(..)
                | Self::EmulatorPin(_)
                | Self::IothreadPin(..)
                | Self::Value(Target::VcpuCpuset)
        )
    }
}

impl fmt::Display for Subject {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::VcpuPins(vcpus, cpus) => return write!(f, "vcpupin {vcpus}: {cpus}"),
            Self::EmulatorPin(cpus) => return write!(f, "emulatorpin: {cpus}"),
            Self::IothreadPin(id, cpus) => return write!(f, "iothreadpin {id}: {cpus}"),
            Self::Numatune => "numatune",
            Self::PreferredNodes(nodes) => return write!(f, "memory preferred on nodes {nodes}"),
            Self::MemoryWithVcpus => "memory on their node",
            Self::DiskCacheAndIo(disk) => return write!(f, "{disk} cache and io"),
            Self::DiskValue(disk, attribute, value) => {
                return write!(f, "{disk} {}={value}", attribute.as_str());
            }
            Self::InterfaceQueues(number) => return write!(f, "queues of interface {}", number + 1),
            Self::Hyperv(all) if all.is_empty() => "hyperv",
            Self::Hyperv(all) => {
                let names: Vec<&str> = all.iter().map(|one| one.as_str()).collect();
                return write!(f, "hyperv {}", names.join(","));
            }
            Self::CpuMode(mode) => return write!(f, "CPU mode {mode}"),
            Self::CachePassthrough => "cache passthrough",
            Self::TscDeadline => "tsc-deadline",
            Self::RealtimeVcpus => "real-time vCPUs",
            Self::RealtimeFor(vcpus) => return write!(f, "real time for vCPUs {vcpus}"),
            Self::AllPins => "vCPU pins",
            Self::GuestVisible => "what the guest sees",
            Self::ForeignGuest => "what the guest sees, huge pages, real time",
            Self::KvmSettings => "CPU mode, kvm and pmu settings",
            Self::CpuModel => "CPU mode and features",
            Self::Memory => "memory",
            Self::Value(Target::Disk(disk, attribute)) => return write!(f, "{disk} {}", attribute.as_str()),
            Self::Value(target) => return target.write_words(f, true),
            Self::Part(target) => return target.write_words(f, false),
        })
    }
}

impl Target {
    /// Writes the words of the target; without `detail` those of the device or of all cells.
    fn write_words(&self, f: &mut fmt::Formatter<'_>, detail: bool) -> fmt::Result {
        let row = self.row();
        f.write_str(row.words)?;
        if let Some(key) = self.key().filter(|_| detail || row.within != Within::Numatune) {
            write!(f, " {key}")?;
        }
        match row.attribute {
            Some(attribute) if detail && row.is_of_device() => write!(f, " {attribute}"),
            _ => Ok(()),
        }
    }
}
