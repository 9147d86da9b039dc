//! What libvirt can change on a running guest.

use crate::types::ids::{IothreadId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet};

/// What the API can change on a running guest.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LiveChange {
    /// `virDomainPinVcpuFlags`.
    PinVcpu(VcpuId, CpuSet),
    /// `virDomainPinEmulator`.
    PinEmulator(CpuSet),
    /// `virDomainPinIOThread`.
    PinIothread(IothreadId, CpuSet),
    /// `virDomainSetNumaParameters` with mode restrictive.
    Numa(NodeSet),
}
