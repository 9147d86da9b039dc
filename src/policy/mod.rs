//! The policy: what an administrator asks for, checked and merged. `docs/placement.md` section 1
//! explains its terms, `docs/policy.md` has every key.

mod access;
pub mod advice;
pub mod builtin;
mod checks;
mod conditions;
pub mod cpu_sets;
pub mod fragment;
pub mod glob;
pub mod keys;
pub mod last_good;
pub mod load;
pub mod merge;
pub mod names;
pub mod profile;
pub mod range;
pub mod reader;
pub mod requests;
pub mod rule;
pub mod select;
pub mod show;
pub mod source;
pub mod suggest;
mod text;
pub mod value;

use std::collections::BTreeMap;
use std::path::Path;
use std::time::SystemTime;

use crate::types::idset::CpuSet;

pub use cpu_sets::Sets;
pub use load::Files;
pub use profile::Profile;
pub use requests::Requests;
pub use rule::Rule;
pub use select::{Selection, UnknownProfile};
pub use source::PolicyErrors;

/// A checked and merged policy.
#[derive(Debug, Clone)]
pub struct Policy {
    /// `[host]`.
    pub host: HostPolicy,
    /// Every profile with all its keys, by canonical name; the built-in ones, too.
    pub profiles: BTreeMap<String, Profile>,
    /// In the order in which they are tried.
    pub rules: Vec<Rule>,
    /// 12 hex digits; equal for policies that mean the same.
    pub digest: String,
    /// Where each value comes from.
    pub origins: merge::Origins,
    /// Last change of the policy's files or their folders; `None`: there are none.
    pub changed_at: Option<SystemTime>,
    /// Files and folders it was read from that others than root may write, for people.
    pub warnings: Vec<String>,
}

impl Policy {
    /// The policy of a host without any policy file: the built-in profiles, no rule.
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

    /// The policy below a root path (`/` on a live host).
    ///
    /// # Errors
    /// Everything wrong in any of its files.
    pub fn load(root: &Path) -> Result<Self, PolicyErrors> {
        Files::below(root).policy()
    }

    /// The policy of one file, as `--policy FILE` has it: it takes the place of all folders,
    /// built-ins stay.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn load_file(path: &Path) -> Result<Self, PolicyErrors> {
        Files::named(&[path]).policy()
    }

    /// The policy of one text; `path` is what messages call it.
    ///
    /// # Errors
    /// As [`Policy::load`].
    pub fn parse(text: &str, path: &str) -> Result<Self, PolicyErrors> {
        Files::text(path, text).policy()
    }

    /// Returns whether the policy's last change came before `moment`. Definitions written and
    /// guests started later follow the policy at once; `on_policy_change` rules the older ones. An
    /// unknown moment counts as one before the change.
    pub fn is_older_than(&self, moment: Option<SystemTime>) -> bool {
        match (self.changed_at, moment) {
            (None, _) => true,
            (Some(_), None) => false,
            (Some(changed), Some(moment)) => changed <= moment,
        }
    }

    /// A profile by its name or alias.
    pub fn profile(&self, name: &str) -> Option<&Profile> {
        merge::canonical(name, &self.profiles).and_then(|name| self.profiles.get(name))
    }
}

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
    At(crate::types::ids::KiB),
}

/// `strategy`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Strategy {
    /// Fill a node before the next.
    Pack,
    /// Spread over nodes.
    Spread,
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
    pub reserved_hugepages: BTreeMap<crate::types::ids::KiB, u64>,
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
