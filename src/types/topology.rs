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

impl Topology {
    /// Returns the topology of so many sockets with one core of one thread each: libvirt's default.
    pub(crate) fn of_sockets(sockets: u32) -> Self {
        Self {
            sockets,
            dies: 1,
            clusters: 1,
            cores: 1,
            threads: 1,
        }
    }

    /// Returns the guest cores of one die, in all its clusters; `u32::MAX` where they are more.
    pub(crate) fn cores_of_die(&self) -> u32 {
        self.cores.saturating_mul(self.clusters)
    }

    /// Returns the vCPUs of one die; `u32::MAX` where they are more.
    pub(crate) fn vcpus_of_die(&self) -> u32 {
        self.cores_of_die().saturating_mul(self.threads)
    }

    /// Returns the number of vCPUs that the topology shows; `None` where it is beyond `u32`.
    /// libvirt and QEMU take no topology for another number than the guest has.
    pub(crate) fn vcpus(&self) -> Option<u32> {
        let parts = [self.sockets, self.dies, self.clusters, self.cores, self.threads];
        parts
            .iter()
            .try_fold(1_u32, |product, part| product.checked_mul(*part))
    }
}
