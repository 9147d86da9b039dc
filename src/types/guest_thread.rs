//! The threads of a guest that can be pinned.

use serde::{Deserialize, Serialize};

use crate::types::ids::{IothreadId, VcpuId};

/// A thread of a guest, or its emulator threads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thread {
    /// A vCPU's.
    Vcpu(VcpuId),
    /// All that are neither a vCPU's nor an iothread's.
    Emulator,
    /// An iothread's.
    Iothread(IothreadId),
}
