//! CPU modes that a profile may ask for.

/// CPU mode that a profile asks for (`cpu_mode`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuMode {
    /// libvirt's mode `host-passthrough`.
    HostPassthrough,
    /// libvirt's mode `host-model`.
    HostModel,
    /// Mode that the XML has.
    Keep,
}
