//! Warnings of CPU sets that the policy asks for and the host does not allow.

use std::fmt;

use crate::types::ids::NodeId;
use crate::types::idset::CpuSet;

reasons! {
    /// Warning of the policy's CPU sets on a host.
    SetWarning {
        /// CPUs that `machine.slice`'s cpuset keeps from all guests.
        CpusKeptOut { cpus: CpuSet } = "cpus-kept-from-guests",
        /// CPUs of a list that the host does not have.
        CpusMissing { set: &'static str, cpus: CpuSet } = "set-names-missing-cpus",
        /// CPUs of a list that are offline.
        CpusOffline { set: &'static str, cpus: CpuSet } = "set-names-offline-cpus",
        /// Isolated CPUs of a list for threads that float.
        CpusIsolated { set: &'static str, cpus: CpuSet } = "set-names-isolated-cpus",
        /// A node has fewer whole cores than asked for.
        FewCores { set: &'static str, count: u32, node: NodeId, has: usize } = "set-lacks-cores",
        /// The host has one core, of which nothing is handed out.
        OneCore = "host-has-one-core",
    }
}

impl fmt::Display for SetWarning {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CpusKeptOut { cpus } => write!(
                f,
                "CPUs {cpus} are outside machine.slice's cpuset: no guest can use them"
            ),
            Self::CpusMissing { set, cpus } => {
                write!(f, "{set}: CPUs {cpus}, which this host does not have; left out")
            }
            Self::CpusOffline { set, cpus } => write!(f, "{set}: CPUs {cpus} are offline; left out"),
            Self::CpusIsolated { set, cpus } => write!(
                f,
                "{set}: CPUs {cpus} are isolated; the kernel would not balance threads there; left out"
            ),
            Self::FewCores {
                set,
                count,
                node,
                has,
            } => write!(f, "{set} = {count}: node {node} has {has} whole cores for it"),
            Self::OneCore => {
                f.write_str("dedicated: this host has one core; nothing is handed out exclusively")
            }
        }
    }
}
