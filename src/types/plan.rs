//! A plan: what would change for one guest and why. `docs/placement.md` section 5 describes its
//! JSON.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::types::ids::{CellId, IothreadId, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::on_no_fit::OnNoFit;
use crate::types::topology::Topology;

/// The door a plan is made for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Scope {
    /// A definition that is started next: everything may change.
    Boot,
    /// Migration or restore: host-side settings only.
    Incoming,
}

/// What came of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Something changes.
    Tuned,
    /// Nothing changes.
    Unchanged,
    /// Policy or host say no.
    Refused,
}

impl Verdict {
    /// The word for it, as in the JSON.
    pub fn word(self) -> &'static str {
        match self {
            Self::Tuned => "tuned",
            Self::Unchanged => "unchanged",
            Self::Refused => "refused",
        }
    }
}

/// One guest's plan.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Plan {
    /// Always 1.
    pub version: u32,
    /// Name.
    pub guest: String,
    /// UUID; null where the XML has none.
    pub uuid: Option<String>,
    /// Profile; null where no rule matches.
    pub profile: Option<String>,
    /// The door.
    pub scope: Scope,
    /// The verdict.
    pub verdict: Verdict,
    /// For people: why refused or degraded, what was not done.
    pub reasons: Vec<String>,
    /// Null when there is none.
    pub placement: Option<Placement>,
    /// In document order of what they touch.
    pub changes: Vec<Change>,
    /// What a person asks for beyond the JSON contract.
    #[serde(skip)]
    pub notes: Notes,
}

/// What the text form of a plan shows beside the JSON.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Notes {
    /// Where the profile comes from: `rule 1, /etc/virtfit/policy.toml:4`, `its own request`,
    /// `--profile`.
    pub chosen_by: String,
    /// Settings left as they are: (what, why).
    pub kept: Vec<(String, String)>,
    /// What the profile asks for and could not be done: (what, why).
    pub not_done: Vec<(String, String)>,
    /// What its profile says where nothing fits; `None`: virtfit leaves the guest alone.
    pub on_no_fit: Option<OnNoFit>,
    /// vCPUs its profile gives a CPU of their own.
    pub dedicated_vcpus: VcpuSet,
    /// Reason why vCPUs have no CPU of their own though there is a place for the guest: an
    /// administrator pinned them.
    pub pinned_away: Option<String>,
    /// The guest carries virtfit's settings though it has no profile.
    pub leftover: bool,
}

/// Where every thread and page of a guest goes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Placement {
    /// CPUs of each vCPU: one, or all a floating one may use. Serialised with the ids as keys.
    pub vcpus: BTreeMap<VcpuId, CpuSet>,
    /// CPUs of the emulator threads; empty where left alone.
    pub emulator: CpuSet,
    /// CPUs of each iothread.
    pub iothreads: BTreeMap<IothreadId, CpuSet>,
    /// Host nodes, in cell order where there are cells.
    pub nodes: Vec<NodeId>,
    /// Guest cells; one for a guest without.
    pub cells: Vec<PlacedCell>,
    /// Huge page size; null: small pages.
    pub page_kib: Option<KiB>,
    /// The topology that mirrors the CPUs chosen; null where nothing is mirrored (floating).
    pub topology: Option<Topology>,
    /// CPUs withheld from every other guest (smt = isolate, `share_cores` = false).
    #[serde(skip)]
    pub withheld: CpuSet,
    /// CPUs held for this guest alone: of dedicated vCPUs, of kept pins, of an isolated emulator
    /// and isolated iothreads. Empty after run-shared.
    #[serde(skip)]
    pub dedicated: CpuSet,
    /// It is what the profile asks for; not so after run-shared.
    #[serde(skip)]
    pub fits: bool,
}

/// One cell of a placement.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PlacedCell {
    /// Its number.
    pub id: CellId,
    /// Its vCPUs.
    pub vcpus: VcpuSet,
    /// Its memory.
    pub memory_kib: KiB,
    /// The host node; null where it is not on one.
    pub node: Option<NodeId>,
}

/// One change of the XML.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Change {
    /// XPath of what changes.
    pub path: String,
    /// What is there; null: nothing.
    pub from: Option<String>,
    /// What comes; null: removed.
    pub to: Option<String>,
    /// Why.
    pub why: String,
    /// Whether the guest can see it.
    pub guest_visible: bool,
    /// `next start` or `now`.
    pub takes_effect: &'static str,
}

/// The reason that ends a plan whose guest floats for want of a place.
pub const RUNS_SHARED: &str = "it runs on the shared CPUs (on_no_fit = run-shared)";
/// The reason that ends a plan whose guest stays as it is for want of a place.
pub const RUNS_UNTUNED: &str = "it runs untuned (on_no_fit = run-untuned)";

impl Plan {
    /// `true` where the guest was to get a place and gets none of its own: it floats, or stays as
    /// it is.
    pub fn is_without_place(&self) -> bool {
        match &self.placement {
            Some(placement) => !placement.fits,
            None => self.verdict == Verdict::Unchanged && self.notes.on_no_fit.is_some(),
        }
    }

    /// Pins of an administrator's that stay: `vcpupin 0: 4`.
    pub fn kept_pins(&self) -> Vec<&str> {
        let kept = self.notes.kept.iter().map(|(what, _)| what.as_str());
        kept.filter(|what| {
            ["vcpupin", "emulatorpin", "iothreadpin"]
                .iter()
                .any(|pin| what.starts_with(pin))
        })
        .collect()
    }

    /// Returns the reasons without those that only say what the guest runs on instead.
    pub fn causes(&self) -> Vec<&str> {
        let reasons = self.reasons.iter().map(String::as_str);
        reasons
            .filter(|reason| ![RUNS_SHARED, RUNS_UNTUNED].contains(reason))
            .collect()
    }
}

/// A reason in a line that names its guest once.
pub fn with_name(guest: &str, reason: &str) -> String {
    let named = reason
        .strip_prefix(guest)
        .is_some_and(|rest| !guest.is_empty() && rest.starts_with([' ', ':', '\'']));
    match reason {
        _ if named => reason.to_string(),
        _ if reason.starts_with("needs ") => format!("{guest} {reason}"),
        _ => format!("{guest}: {reason}"),
    }
}
