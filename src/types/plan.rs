//! Plan: the changes for one guest, with reasons. `docs/placement.md`, section 5, describes its
//! JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::types::ids::{CellId, IothreadId, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::on_no_fit::OnNoFit;
use crate::types::reason::{Basis, Given, Reason};
use crate::types::setting::{Target, Value};
use crate::types::subject::Subject;
use crate::types::target::Effect;
use crate::types::topology::Topology;

/// Scope of a plan: the changes it may make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// Definition or start: everything may change.
    Boot,
    /// Migration or restore: settings of the host side only.
    Incoming,
}

/// Outcome of a plan.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The XML changes.
    Tuned,
    /// The XML stays as it is.
    Unchanged,
    /// Policy or host say no.
    Refused,
}

impl Verdict {
    /// Returns the word of the JSON.
    pub(crate) fn word(self) -> &'static str {
        match self {
            Self::Tuned => "tuned",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// Plan for one guest.
#[derive(Debug, Clone, PartialEq)]
pub struct Plan {
    /// Version of the JSON: always 1.
    pub version: u32,
    /// Guest's name.
    pub guest: String,
    /// UUID; null where the XML has none.
    pub uuid: Option<String>,
    /// Profile; null where no rule matches.
    pub profile: Option<String>,
    /// Scope of the plan.
    pub scope: Scope,
    /// Outcome of the plan.
    pub verdict: Verdict,
    /// Reasons why the guest is refused or floats, and notes on settings that were left out.
    pub reasons: Vec<Reason>,
    /// Placement; null where there is none.
    pub placement: Option<Placement>,
    /// Changes in document order.
    pub changes: Vec<Change>,
    /// Notes beside all that.
    pub notes: Notes,
}

/// Notes of a plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    /// Source of the profile: `rule 1, /etc/virtfit/policy.toml:4`, `its own request` or
    /// `--profile`.
    pub chosen_by: String,
    /// Settings of an administrator's that stay.
    pub kept: Vec<Note>,
    /// Wishes of the profile that could not be carried out.
    pub not_done: Vec<Note>,
    /// Profile's decision where nothing fits; `None`: virtfit leaves the guest alone.
    pub on_no_fit: Option<OnNoFit>,
    /// Dedicated vCPUs of the profile.
    pub dedicated_vcpus: VcpuSet,
    /// Reason why vCPUs have no CPU of their own though there is a place for the guest: an
    /// administrator pinned them.
    pub pinned_away: Option<Given>,
    /// True if the guest carries virtfit's settings though it has no profile.
    pub leftover: bool,
    /// True if nothing changes but virtfit's record, which gets the guest's UUID.
    pub only_named: bool,
}

/// Note on a part of a guest or a profile.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Note {
    /// Part that stays as it is, or is left out.
    pub what: Subject,
    /// Reason for that.
    pub why: Reason,
}

impl Note {
    /// Makes a note.
    pub fn new(what: Subject, why: impl Into<Reason>) -> Self {
        Self {
            what,
            why: why.into(),
        }
    }
}

/// CPUs, nodes and pages for one guest.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// CPUs of each vCPU: one CPU, or all that a floating vCPU may use. The ids are the keys in the
    /// JSON.
    pub vcpus: BTreeMap<VcpuId, CpuSet>,
    /// CPUs of the emulator threads; empty where they are left alone.
    pub emulator: CpuSet,
    /// CPUs of each iothread.
    pub iothreads: BTreeMap<IothreadId, CpuSet>,
    /// Host nodes, in cell order where there are cells.
    pub nodes: Vec<NodeId>,
    /// Guest cells; a guest without cells has one entry.
    pub cells: Vec<PlacedCell>,
    /// Huge page size in KiB; null: small pages.
    pub page_kib: Option<KiB>,
    /// Topology that mirrors the chosen CPUs; null where the vCPUs float.
    pub topology: Option<Topology>,
    /// CPUs withheld from every other guest (`smt = "isolate"`, `share_cores = false`).
    #[serde(skip)]
    pub withheld: CpuSet,
    /// CPUs held for this guest alone: those of dedicated vCPUs, of an isolated emulator thread and
    /// of isolated iothreads (none of these after `run-shared`), and those that kept pins hold.
    #[serde(skip)]
    pub dedicated: CpuSet,
    /// True if the placement is what the profile asks for; false after `run-shared`.
    #[serde(skip)]
    pub fits: bool,
}

impl Placement {
    /// Returns all CPUs on which vCPUs float: a mask of several CPUs, or one CPU that is not the
    /// guest's alone.
    pub(crate) fn floating(&self) -> CpuSet {
        let floats = |cpus: &&CpuSet| cpus.len() > 1 || !cpus.is_subset(&self.dedicated);
        let mut out = CpuSet::new();
        self.vcpus
            .values()
            .filter(floats)
            .for_each(|cpus| out.extend_from(cpus));
        out
    }
}

/// Guest cell of a placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedCell {
    /// Cell's number.
    pub id: CellId,
    /// Cell's vCPUs.
    pub vcpus: VcpuSet,
    /// Cell's memory, in KiB.
    pub memory_kib: KiB,
    /// Host node; null where the memory is on no single node.
    pub node: Option<NodeId>,
}

/// Change of one value in the XML.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Change {
    /// Place of the value.
    pub target: Target,
    /// Value before.
    pub from: Value,
    /// Value after.
    pub to: Value,
    /// Reason for the change.
    pub why: Basis,
    /// Moment at which the change takes effect.
    pub effect: Effect,
}

impl Plan {
    /// Returns true if the guest was to get a place of its own and got none: it floats, or stays as
    /// it is.
    pub(crate) fn is_without_place(&self) -> bool {
        match &self.placement {
            Some(placement) => !placement.fits,
            None => self.verdict != Verdict::Refused && self.notes.on_no_fit.is_some(),
        }
    }

    /// Lists an administrator's pins that stay: `vcpupin 0: 4`.
    pub fn kept_pins(&self) -> impl Iterator<Item = &Note> {
        self.notes.kept.iter().filter(|note| note.what.is_pin())
    }

    /// Lists the reasons, except those that only name the fallback.
    pub(crate) fn causes(&self) -> impl Iterator<Item = &Reason> {
        let fallback = |reason: &&Reason| matches!(reason, Reason::Outcome(outcome) if outcome.is_fallback());
        self.reasons.iter().filter(move |reason| !fallback(reason))
    }

    /// Joins the reasons in one line.
    pub fn reasons_line(&self) -> String {
        let reasons: Vec<String> = self.reasons.iter().map(Reason::to_string).collect();
        reasons.join("; ")
    }
}
