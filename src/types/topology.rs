//! CPU topology that a guest sees.

/// Guest CPU topology; absent levels are 1, libvirt's default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Topology {
    /// Number of sockets.
    pub sockets: u32,
    /// Dies in each socket.
    pub dies: u32,
    /// Clusters in each die.
    pub clusters: u32,
    /// Cores in each cluster.
    pub cores: u32,
    /// Threads in each core.
    pub threads: u32,
}
