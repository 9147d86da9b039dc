//! Policy: what an administrator asks for, checked and merged. `docs/placement.md`, section 1,
//! explains its terms, `docs/policy.md` has every key.

mod access;
pub(crate) mod advice;
pub(crate) mod builtin;
mod checks;
mod conditions;
pub mod cpu_sets;
pub(crate) mod fragment;
pub(crate) mod glob;
pub(crate) mod json;
pub mod keys;
pub(crate) mod last_good;
pub(crate) mod load;
pub(crate) mod merge;
pub(crate) mod names;
pub mod profile;
pub(crate) mod range;
pub(crate) mod reader;
pub(crate) mod requests;
pub(crate) mod rule;
pub mod select;
pub mod show;
pub(crate) mod source;
pub(crate) mod suggest;
mod text;
pub(crate) mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use crate::hostfs::HostFs;
use crate::types::ids::KiB;
use crate::types::idset::CpuSet;

pub(crate) use cpu_sets::Sets;
pub use load::Files;
pub(crate) use profile::Profile;
pub use requests::Requests;
pub(crate) use rule::Rule;
pub(crate) use source::PolicyErrors;

/// Policy of a host, checked and merged.
#[derive(Debug, Clone)]
pub struct Policy {
    /// Settings of `[host]`.
    pub host: HostPolicy,
    /// All profiles with all their keys, by canonical name, including the built-in ones.
    pub profiles: BTreeMap<String, Profile>,
    /// Rules in the order in which they are tried.
    pub rules: Vec<Rule>,
    /// Digest of 12 hex digits; equal for policies that mean the same.
    pub digest: String,
    /// Sources of all values.
    pub origins: merge::Origins,
    /// Time of the last change of the policy's files or their folders; `None`: there are none.
    pub changed_at: Option<SystemTime>,
    /// Warnings, for people, about files and folders of the policy that other users than root may
    /// write.
    pub warnings: Vec<String>,
}

impl Policy {
    /// Returns the policy of a host without policy files: the built-in profiles and no rule.
    pub fn builtin() -> Self {
        merge::merge(&[], Vec::new()).unwrap_or_else(|_| Self {
            host: HostPolicy::default(),
            profiles: BTreeMap::new(),
            rules: Vec::new(),
            digest: String::new(),
            origins: merge::Origins::default(),
            changed_at: None,
            warnings: Vec::new(),
        })
    }

    /// Reads the policy below a root path (`/` on a live host).
    ///
    /// # Errors
    /// All problems in its files.
    pub fn load(root: &Path) -> Result<Self, PolicyErrors> {
        Files::of(&HostFs::new(root)).policy()
    }

    /// Reads the policy from one text; `path` is the name in messages.
    ///
    /// # Errors
    /// All problems in the text, as for [`Policy::load`].
    pub fn parse(text: &str, path: &str) -> Result<Self, PolicyErrors> {
        Files::text(path, text).policy()
    }

    /// Returns true if the policy last changed before `moment`. Definitions written and guests
    /// started after the change follow the policy at once; `on_policy_change` governs the older
    /// ones. An unknown moment, and one within the same tick of the file system's clock, count as
    /// before the change; a policy without files is older than any moment.
    pub fn is_older_than(&self, moment: Option<SystemTime>) -> bool {
        match (self.changed_at, moment) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(changed), Some(moment)) => changed < moment,
        }
    }

    /// Finds a profile by its name or alias.
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        merge::canonical(name, &self.profiles).and_then(|name| self.profiles.get(name))
    }
}

/// Form of a CPU set in `[host]`: decided by virtfit, whole cores of each node, or a list.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SetRule {
    /// Decided from the host (`"auto"`).
    Auto,
    /// Number of whole cores of each node.
    CoresPerNode(u32),
    /// List of CPUs; empty for `"none"`.
    Cpus(CpuSet),
}

/// Memory of each node that guests do not get (`reserved_memory`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ReservedMemory {
    /// max(1 GiB, 5 %) of each node.
    Auto,
    /// Fixed size on each node.
    At(KiB),
}

impl ReservedMemory {
    /// Returns the memory that guests do not get on a node of this size.
    pub(crate) fn on_node(self, memory: KiB) -> KiB {
        match self {
            Self::Auto => KiB::GIB.max(KiB(memory.0 / 20)),
            Self::At(amount) => amount,
        }
    }
}

/// Order in which nodes are filled (`strategy`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// One node is filled before the next.
    Pack,
    /// Guests are spread over the nodes.
    Spread,
}

/// Settings of `[host]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPolicy {
    /// CPUs for the host, emulator threads and iothreads (`housekeeping`).
    pub housekeeping: SetRule,
    /// CPUs handed out to one vCPU alone (`dedicated`): `Auto` or `Cpus`, never `CoresPerNode`.
    pub dedicated: SetRule,
    /// CPUs for floating threads (`shared`).
    pub shared: SetRule,
    /// True if two guests may have CPUs of one core (`share_cores`).
    pub share_cores: bool,
    /// Memory of each node that guests do not get (`reserved_memory`).
    pub reserved_memory: ReservedMemory,
    /// Huge pages of each node that guests do not get, by page size (`reserved_hugepages`).
    pub reserved_hugepages: BTreeMap<crate::types::ids::KiB, u64>,
    /// Order in which nodes are filled (`strategy`).
    pub strategy: Strategy,
    /// True if guests that no rule matches are kept off held CPUs (`unmanaged = "confine"`).
    pub confine_unmanaged: bool,
    /// Profiles a guest may ask for in its own XML (`requests`).
    pub requests: Requests,
    /// True if decisions are only logged (`mode = "observe"`).
    pub observe: bool,
    /// True if a changed policy applies to what was there before it (`on_policy_change = "apply"`).
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
