//! Facts that all steps of one decision look at, known before the search for a place.

use std::collections::BTreeSet;

use crate::domain::Domain;
use crate::engine::effective::EffectiveProfile;
use crate::host::Host;
use crate::policy::HostPolicy;
use crate::policy::cpu_sets::Sets;
use crate::rewrite::{Provenance, Shape};
use crate::types::devices::GuestFacts;
use crate::types::idset::CpuSet;
use crate::types::plan::Scope;
use crate::types::setting::Target;

/// Case to decide: the guest, its profile and the host, before a place is searched.
#[derive(Clone, Copy)]
pub(crate) struct Case<'a> {
    /// Profile as far as it applies.
    pub wishes: &'a EffectiveProfile,
    /// Domain as an administrator wrote it.
    pub domain: &'a Domain,
    /// Domain as it was given, with virtfit's settings.
    pub current: &'a Domain,
    /// Host the guest runs on.
    pub host: &'a Host,
    /// Devices and images of the guest.
    pub facts: &'a GuestFacts,
    /// Section `[host]` of the policy.
    pub policy: &'a HostPolicy,
    /// CPU sets of the policy.
    pub sets: &'a Sets,
    /// CPUs that threads keep off while there are others: other guests' threads are pinned to
    /// them.
    pub occupied: &'a CpuSet,
    /// Scope: what the plan may change.
    pub scope: Scope,
    /// Strict memory in the XML as it was given stays on its nodes.
    pub bound: bool,
    /// Record of what virtfit wrote before.
    pub provenance: Option<&'a Provenance>,
    /// Settings virtfit wrote that were changed by hand since.
    pub changed: &'a BTreeSet<Target>,
    /// Shape virtfit gave the guest before: what the guest can see stays as virtfit wrote it.
    pub shape: Option<&'a Shape>,
}
