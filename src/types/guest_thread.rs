//! Threads of a guest that can be pinned.

use serde::{Deserialize, Serialize};

use crate::types::ids::{IothreadId, VcpuId};

/// One thread of a guest, or all its emulator threads together.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Thread {
    /// Thread of one vCPU.
    Vcpu(VcpuId),
    /// Emulator threads: all threads that are neither a vCPU's nor an iothread's.
    Emulator,
    /// One iothread.
    Iothread(IothreadId),
}
