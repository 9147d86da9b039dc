//! Changes that libvirt can make to a running guest.

use crate::types::ids::{IothreadId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet};

/// Change that libvirt's API can make to a running guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveChange {
    /// vCPU pin (`virDomainPinVcpuFlags`).
    PinVcpu(VcpuId, CpuSet),
    /// Pin of the emulator threads (`virDomainPinEmulator`).
    PinEmulator(CpuSet),
    /// Iothread pin (`virDomainPinIOThread`).
    PinIothread(IothreadId, CpuSet),
    /// Memory binding (`virDomainSetNumaParameters` with mode `restrictive`).
    Numa(NodeSet),
}
