//! Options that an administrator passes to QEMU past libvirt (`<qemu:commandline>`,
//! `<qemu:override>`). They come after libvirt's own options, and QEMU lets the last one rule.

use std::collections::BTreeMap;

use crate::domain::Topology;
use crate::types::idset::VcpuSet;

/// Part of a guest that an option of QEMU can rule.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Ruled {
    /// Topology and number of vCPUs.
    Topology,
    /// CPU model with all its features, KVM's among them.
    CpuModel,
    /// CPU feature of this name; QEMU's property, such as `pmu`.
    CpuFeature(String),
    /// Guest cells.
    Cells,
    /// Memory: its amount, its source and its nodes.
    Memory,
    /// Locking of the memory.
    Locked,
    /// Merging of equal pages.
    Merging,
    /// Property of a device or drive, by alias.
    Device(String, String),
    /// Property of all devices of a kind, by the name of QEMU's driver.
    Driver(String, String),
}

/// Options of QEMU in a guest's XML.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct QemuOptions {
    /// Parts that are ruled, each with the option (`-smp`) or element (`qemu:override`).
    pub ruled: BTreeMap<Ruled, &'static str>,
    /// Topology that the guest sees by `-smp`; `None` where none of the options names it, or one
    /// cannot be read.
    pub topology: Option<Topology>,
    /// vCPUs of each guest cell that `-numa` makes.
    pub cells: Vec<VcpuSet>,
}

impl QemuOptions {
    /// Returns the option that rules a part.
    pub(crate) fn rules(&self, part: &Ruled) -> Option<&'static str> {
        self.ruled.get(part).copied()
    }

    /// Returns the option that sets a property of the CPU, alone or with the whole CPU.
    pub(crate) fn rules_feature(&self, property: &str) -> Option<&'static str> {
        let feature = || self.rules(&Ruled::CpuFeature(property.into()));
        self.rules(&Ruled::CpuModel).or_else(feature)
    }

    /// Returns the option that sets a property of a device: for its alias, or for all devices of a
    /// driver whose name begins with `driver`.
    pub(crate) fn rules_device(&self, alias: &str, driver: &str, property: &str) -> Option<&'static str> {
        let same = |other: &String| other.replace('_', "-") == property;
        let mut all = self.ruled.iter();
        let found = all.find(|(part, _)| match part {
            Ruled::Device(id, other) => id == alias && same(other),
            Ruled::Driver(name, other) => name.starts_with(driver) && same(other),
            _ => false,
        });
        found.map(|(_, option)| *option)
    }
}
