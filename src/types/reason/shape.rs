//! Reasons about the topology a guest is shown: parts of it that are not real, and why it does not
//! mirror the host.

use std::fmt;

use crate::types::idset::VcpuSet;
use crate::types::plural::counted;

reasons! {
    /// Part of the topology that the guest is shown and does not have.
    Untrue {
        /// Threads of one core are on several cores.
        ThreadsApart { vcpus: VcpuSet } = "threads-apart",
        /// Cores share a host core.
        CoresTogether { vcpus: VcpuSet, cores: usize } = "cores-together",
        /// Cores with one last-level cache are on several caches.
        CacheApart { vcpus: VcpuSet, caches: usize } = "cache-apart",
        /// A socket is on several nodes.
        SocketOverNodes { vcpus: VcpuSet, nodes: usize } = "socket-over-nodes",
        /// A socket is on several packages.
        SocketOverPackages { vcpus: VcpuSet, packages: usize } = "socket-over-packages",
    }
}

/// Reason why no topology mirrors the place of a guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unmirrored {
    /// A vCPU floats over several caches or nodes.
    Floating,
    /// Caches, or nodes, have unequal numbers of cores, or take turns.
    Caches,
    /// The guest's own cells divide its cores otherwise than caches or nodes do.
    Cells,
    /// Packages have unequal numbers of caches, or take turns.
    Packages,
    /// The guest cannot use as many sockets.
    Sockets,
    /// The guest cannot use the APIC ids.
    ApicIds,
}

impl fmt::Display for Unmirrored {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Floating => "some vCPUs float over several caches",
            Self::Caches => "its caches do not have equally many of its cores, in a row",
            Self::Cells => "its cells are not of whole caches",
            Self::Packages => "its packages do not have equally many of its caches, in a row",
            Self::Sockets => "it can use no more (max_sockets)",
            Self::ApicIds => "dies would need APIC ids above 254, for which it has no eim",
        })
    }
}

impl fmt::Display for Untrue {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ThreadsApart { vcpus } => {
                write!(
                    f,
                    "vCPUs {vcpus} are shown as threads of one core and are on several"
                )
            }
            Self::CoresTogether { vcpus, cores: 1 } => {
                write!(f, "vCPUs {vcpus} are shown as cores and share one")
            }
            Self::CoresTogether { vcpus, cores } => {
                write!(f, "vCPUs {vcpus} are shown as cores and share {cores}")
            }
            Self::CacheApart { vcpus, caches } => {
                write!(
                    f,
                    "vCPUs {vcpus} are shown one last-level cache and are on {caches}"
                )
            }
            Self::SocketOverNodes { vcpus, nodes } => {
                let nodes = counted(*nodes, "node");
                write!(f, "vCPUs {vcpus} are shown as one socket and are on {nodes}")
            }
            Self::SocketOverPackages { vcpus, packages } => {
                let packages = counted(*packages, "package");
                write!(f, "vCPUs {vcpus} are shown as one socket and are on {packages}")
            }
        }
    }
}
