//! The CPU modes that a profile may ask for.

/// `cpu_mode`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum CpuMode {
    /// `host-passthrough`.
    HostPassthrough,
    /// `host-model`.
    HostModel,
    /// Left alone.
    Keep,
}
