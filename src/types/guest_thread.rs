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

impl Thread {
    /// Returns the role of the thread in answers of commands: `vcpu 0`, `emulator`, `iothread 1`.
    pub(crate) fn role(self) -> String {
        match self {
            Self::Vcpu(id) => format!("{VCPU}{id}"),
            Self::Emulator => "emulator".into(),
            Self::Iothread(id) => format!("iothread {id}"),
        }
    }
}

/// Role of a vCPU's thread, before the vCPU's number.
const VCPU: &str = "vcpu ";

/// Returns the number of the vCPU behind a role, as text; `None`: another thread's role.
pub(crate) fn vcpu_of_role(role: &str) -> Option<&str> {
    role.strip_prefix(VCPU)
}
