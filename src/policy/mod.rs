//! The policy: what an administrator asks for, checked and merged. `engine.md` section 1 is its contract.

use std::collections::BTreeMap;

use crate::idset::CpuSet;

pub mod profile;

pub use profile::Profile;

/// `housekeeping` and `shared`: a list, whole cores a node, or decided by virtfit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetRule {
    /// Decided from the host.
    Auto,
    /// So many whole cores of each node.
    CoresPerNode(u32),
    /// These CPUs; empty for `"none"`.
    Cpus(CpuSet),
}

/// `reserved_memory`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservedMemory {
    /// max(1 GiB, 5 %) of each node.
    Auto,
    /// So much of each node.
    At(crate::units::KiB),
}

/// `strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Fill a node before the next.
    Pack,
    /// Spread over nodes.
    Spread,
}

/// `requests`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Requests {
    /// Profiles without real time only.
    Safe,
    /// Any profile.
    All,
    /// Only `off`.
    None,
}

/// `[host]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPolicy {
    /// `housekeeping`.
    pub housekeeping: SetRule,
    /// `dedicated`: `Auto` or `Cpus`, never `CoresPerNode`.
    pub dedicated: SetRule,
    /// `shared`.
    pub shared: SetRule,
    /// `share_cores`.
    pub share_cores: bool,
    /// `reserved_memory`.
    pub reserved_memory: ReservedMemory,
    /// `reserved_hugepages`: pages a node, by page size.
    pub reserved_hugepages: BTreeMap<crate::units::KiB, u64>,
    /// `strategy`.
    pub strategy: Strategy,
    /// `unmanaged = "confine"`.
    pub confine_unmanaged: bool,
    /// `requests`.
    pub requests: Requests,
    /// `mode = "observe"`.
    pub observe: bool,
    /// `on_policy_change = "apply"`.
    pub apply_policy_change: bool,
}

impl Default for HostPolicy {
    fn default() -> Self {
        Self {
            housekeeping: SetRule::Auto,
            dedicated: SetRule::Auto,
            shared: SetRule::Auto,
            share_cores: true,
            reserved_memory: ReservedMemory::Auto,
            reserved_hugepages: BTreeMap::new(),
            strategy: Strategy::Pack,
            confine_unmanaged: false,
            requests: Requests::Safe,
            observe: false,
            apply_policy_change: false,
        }
    }
}
