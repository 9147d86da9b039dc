//! Engine: a domain's XML and plain data go in, a decision comes out. It uses no clock, no
//! environment, no file and no libvirt.
//!
//! A decision passes through the files in this order:
//!
//! ```text
//! mod       XML → what an administrator wrote and what virtfit wrote → profile → placement → settings → XML
//! before    what was changed since virtfit wrote it
//! incoming  pins of another host do not count
//! leftover  settings of virtfit in a guest that no rule matches
//! effective the profile as far as this guest, scope and host can follow it
//! decide    from here on, step by step
//! demand    profile and domain → the demand for placement
//! cache_tunes  caches that an administrator reserved: vCPUs go there
//! kept_memory  memory that an administrator bound: it is counted where it is
//! supply    host and ledger → the CPUs and memory there are
//! place     the placement: what stays, what is searched
//! support   emulator threads and iothreads
//! topology  the topology that mirrors the chosen CPUs
//! untrue    parts of the shown topology that are not real
//! same      placements that mirror a topology the guest has already
//! settings/ every value to write, each with its reason
//! floats    masks of floating threads that are written already, and differ by who runs alone
//! obsolete  values that stay and with which libvirt will not start the guest
//! shown     the placement as plans and reservations show it
//! ```

pub mod before;
pub(crate) mod cache_tunes;
mod case;
mod decide;
pub(crate) mod demand;
pub(crate) mod effective;
mod fit;
mod floats;
pub(crate) mod incoming;
mod iothreads;
pub(crate) mod kept_memory;
pub(crate) mod leftover;
pub(crate) mod obsolete;
mod place;
mod remarks;
pub(crate) mod same;
pub(crate) mod settings;
mod shown;
pub mod supply;
pub(crate) mod support;
pub(crate) mod topology;
pub(crate) mod untrue;

use std::collections::BTreeMap;

use crate::domain::qemu::Ruled;
use crate::domain::{self, Domain, Topology};
use crate::host::Host;
use crate::ledger::Ledger;
use crate::ledger::claims::Written;
use crate::ledger::guest_xml::GuestText;
use crate::ledger::taken::same_guest;
use crate::panics::{self, Bug};
use crate::policy::{Policy, Profile, select};
use crate::rewrite;
use crate::types::devices::GuestFacts;
use crate::types::guest_word::guest_word;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;
use crate::types::plan::{Notes, Plan, Scope, Verdict};
use crate::types::reason::{Choice, Reason};
use crate::types::setting::Target;
use crate::xml::{Document, XmlError};

use decide::DecisionMaker;

/// Input of a decision beside the XML.
pub struct Inputs<'a> {
    /// Host as it is now.
    pub host: &'a Host,
    /// Merged policy.
    pub policy: &'a Policy,
    /// Ledger; the guest itself may be in it.
    pub ledger: &'a Ledger,
    /// Devices and images of the guest.
    pub facts: &'a GuestFacts,
    /// Scope and wishes of the caller.
    pub question: Question<'a>,
}

/// Scope and wishes of the caller, for one decision or for several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// Scope: what the plan may change.
    pub scope: Scope,
    /// Profile named with `--profile`: it beats rules and requests.
    pub profile: Option<&'a str>,
    /// Part of the guest's earlier placement that stays.
    pub keep: Keep,
    /// Pins the guest had before it was redefined without them. They count where it carries no
    /// settings of virtfit.
    pub earlier: Option<&'a BTreeMap<VcpuId, CpuSet>>,
    /// The guest is starting from this very XML: strict memory in it is on its nodes already, and
    /// the CPUs must be there too.
    pub bound: bool,
}

impl Question<'_> {
    /// Creates an ordinary question: by rules and requests, keeping the placement where it is
    /// valid.
    pub fn of(scope: Scope) -> Self {
        Self {
            scope,
            profile: None,
            keep: Keep::Place,
            earlier: None,
            bound: false,
        }
    }
}

/// Part of a guest's earlier placement that stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// CPUs, while they are valid, and the shape.
    #[default]
    Place,
    /// Shape only (`apply --improve`).
    Shape,
    /// Nothing (`apply --reshape`).
    Nothing,
}

/// Answer of the engine for one XML.
#[derive(Debug)]
pub enum Decision {
    /// The XML stays as it is, byte for byte.
    Unchanged(Plan),
    /// Another XML takes its place.
    Tuned {
        /// Complete new text.
        xml: String,
        /// Plan that the text carries out.
        plan: Plan,
    },
    /// Policy or host say no; [`Plan::reasons`] has the reasons.
    Refused(Plan),
}

impl Decision {
    /// Returns the complete new text, where there is one.
    pub fn xml(&self) -> Option<&str> {
        match self {
            Self::Tuned { xml, .. } => Some(xml),
            Self::Unchanged(_) | Self::Refused(_) => None,
        }
    }

    /// Returns the plan, which every decision has.
    pub fn plan(&self) -> &Plan {
        match self {
            Self::Unchanged(plan) | Self::Refused(plan) | Self::Tuned { plan, .. } => plan,
        }
    }

    /// Names the command that takes leftover settings out of the XML that was decided on.
    pub(crate) fn revert_by(&mut self, command: &str) {
        let (Self::Unchanged(plan) | Self::Refused(plan) | Self::Tuned { plan, .. }) = self;
        for reason in &mut plan.reasons {
            if let Reason::Choice(Choice::Leftover { revert }) = reason {
                *revert = command.into();
            }
        }
    }
}

/// Failure to decide: the input is broken, or virtfit is.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The XML cannot be read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The policy cannot be followed on this host or for this guest.
    #[error("{0}")]
    Policy(String),
    /// The code that decides panicked.
    #[error("failed: {0}")]
    Bug(#[from] Bug),
}

impl EngineError {
    /// Returns whether virtfit failed rather than the text or the policy.
    pub(crate) fn is_bug(&self) -> bool {
        match self {
            Self::Xml(error) => error.is_bug(),
            Self::Policy(_) => false,
            Self::Bug(_) => true,
        }
    }
}

/// Decides for one XML.
///
/// # Errors
/// The XML is broken, or the policy contradicts itself for this guest.
pub fn decide(xml: &str, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    decide_read(&GuestText::read(xml.into())?, inputs)
}

/// Decides as [`decide()`] does, for XML that was read before.
///
/// # Errors
/// As of [`decide()`].
pub(crate) fn decide_read(text: &GuestText<'_>, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    let (document, current) = (&text.document, &text.guest.domain);
    panics::fault_point("decide", &current.name);
    // Without a readable provenance virtfit's settings cannot be distinguished from an
    // administrator's: the guest stays as it is, and its pins count as an administrator's.
    let mut provenance = match &text.provenance {
        Ok(provenance) => provenance.clone(),
        Err(error) => return left_alone(error, current, inputs),
    };
    // Every decision starts with a revert: it works on what an administrator wrote.
    let resolved = before::has_resolved_cpu(provenance.as_ref(), current, inputs.question.scope);
    let stays = |target: &Target| resolved && matches!(target, Target::CpuMode | Target::CpuFeature(_));
    if let Some(provenance) = &mut provenance {
        provenance.owned.retain(|owned| !stays(&owned.target));
    }
    let reverted = rewrite::revert_but(document, stays)?;
    let changed = before::changed_by_hand(&reverted, inputs.question.scope);
    // A shape is dropped where the number of vCPUs changed, and the parts of it that an
    // administrator changed, or rules by options of QEMU, are theirs.
    let mut reshaped = false;
    if let Some(provenance) = &mut provenance {
        let shape = &mut provenance.head.shape;
        if inputs.question.scope == Scope::Boot && !before::is_for(shape, current) {
            *shape = rewrite::Shape::default();
            reshaped = true;
        }
        let theirs = |target: &Target, part: &Ruled| {
            let ruled = inputs.question.scope == Scope::Boot && current.qemu.rules(part).is_some();
            ruled || changed.contains(target)
        };
        shape.topology = shape
            .topology
            .filter(|_| !theirs(&Target::Topology, &Ruled::Topology));
        if theirs(&Target::Cells, &Ruled::Cells) {
            shape.cells.clear();
        }
    }
    // A record of another guest came with a copied definition. At a start it decides nothing; a
    // guest that comes in sees what it says.
    let (provenance, inherited) = match provenance {
        Some(copied) if inputs.question.scope == Scope::Boot && !copied.is_of(&current.uuid) => {
            (None, Some(copied))
        }
        own => (own, None),
    };
    let base = Document::parse(&reverted.xml)?;
    let came = domain::parse::parse(&base)?;
    let domain = match inputs.question.scope {
        // An editor that changes the number of vCPUs writes each as a socket over the topology.
        Scope::Boot if reshaped && changed.contains(&Target::Topology) => without_default_topology(&came),
        Scope::Boot => came.clone(),
        Scope::Incoming => incoming::without_foreign(came.clone(), inputs.host),
    };

    // A guest without a profile stays as it is, but for leftover pins that would keep an incoming
    // guest from starting.
    let mut plan = blank(current, inputs.question.scope);
    let selection = selection(&domain, inputs)?;
    plan.notes.chosen_by = selection.chosen_by.clone();
    plan.reasons.extend(selection.notes.iter().cloned());
    let Some(profile) = selection.profile else {
        plan.notes.leftover = text.guest.carries;
        if !text.guest.carries {
            let rule = match domain.request {
                Some(_) => Choice::NoRuleMatches,
                None => Choice::NoRule,
            };
            plan.reasons.push(rule.into());
            return Ok(Decision::Unchanged(plan));
        }
        plan.reasons
            .push(leftover::reason(&domain.name, &domain.uuid).into());
        return match inputs.question.scope {
            Scope::Boot => Ok(Decision::Unchanged(plan)),
            Scope::Incoming => leftover::without_foreign(text, inputs.host, plan),
        };
    };
    plan.profile = Some(profile.name.clone());
    if profile.off {
        let profile = profile.name;
        plan.reasons.push(Choice::LeftAlone { profile }.into());
        // `virtfit revert` leaves that request behind, also for an administrator who installs
        // virtfit again.
        if inputs.question.profile.is_none() && domain.request.is_some() {
            let guest = guest_word(&domain.name, &domain.uuid).to_string();
            plan.reasons.push(Choice::AskedForThat { guest }.into());
        }
        return Ok(Decision::Unchanged(plan));
    }
    if !matches!(domain.kind.as_str(), "kvm" | "qemu") {
        let kind = domain.kind;
        plan.reasons.push(Choice::NotQemu { kind }.into());
        return Ok(Decision::Unchanged(plan));
    }
    let job = DecisionMaker {
        inputs,
        document,
        current,
        base: &base,
        came: &came,
        domain: &domain,
        provenance,
        inherited,
        twin: twin(text, &profile, inputs),
        changed,
        reshaped,
        profile,
    };
    job.decide(plan)
}

/// Returns the domain without a topology that only says what libvirt shows without one.
fn without_default_topology(came: &Domain) -> Domain {
    let mut domain = came.clone();
    let is_default = |shown: &Topology| {
        let inner = [shown.dies, shown.clusters, shown.cores, shown.threads];
        shown.sockets == came.vcpus && inner == [1; 4]
    };
    if let Some(cpu) = &mut domain.cpu {
        cpu.topology = cpu.topology.filter(|shown| !is_default(shown));
    }
    domain
}

/// Returns the name of another guest whose definition claims the very CPUs that this one claims, if
/// the record does not name its guest: one of the two was copied from the other.
fn twin<'a>(text: &GuestText<'_>, profile: &Profile, inputs: &Inputs<'a>) -> Option<&'a str> {
    let provenance = text.provenance.as_ref().ok()?.as_ref()?;
    if provenance.head.uuid.is_some() || text.guest.domain.running {
        return None;
    }
    let own = Written::of(&text.guest).claim_by(Some(profile), &inputs.policy.host, false)?;
    let mut others = inputs.ledger.claims.iter();
    let twin = others.find(|claim| {
        claim.cpus == own.cpus && !same_guest((&claim.uuid, &claim.name), (&own.uuid, &own.name))
    });
    twin.map(|claim| claim.name.as_str())
}

/// Finds the profile for a guest.
fn selection(domain: &Domain, inputs: &Inputs<'_>) -> Result<select::Selection, EngineError> {
    match inputs.question.profile {
        Some(name) => {
            select::by_name(inputs.policy, name).map_err(|error| EngineError::Policy(error.to_string()))
        }
        None => Ok(select::select(inputs.policy, domain, inputs.facts.autostart)),
    }
}

/// Decides to change nothing in a guest whose provenance cannot be read, with the reason.
fn left_alone(error: &XmlError, current: &Domain, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    let selection = selection(current, inputs)?;
    let mut plan = blank(current, inputs.question.scope);
    plan.profile = selection.profile.map(|profile| profile.name);
    plan.notes.chosen_by = selection.chosen_by;
    let error = error.to_string();
    plan.reasons.push(Choice::RecordUnreadable { error }.into());
    Ok(Decision::Unchanged(plan))
}

fn blank(domain: &Domain, scope: Scope) -> Plan {
    Plan {
        version: 1,
        guest: domain.name.clone(),
        uuid: Some(domain.uuid.clone()).filter(|uuid| !uuid.is_empty()),
        profile: None,
        scope,
        verdict: Verdict::Unchanged,
        reasons: Vec::new(),
        placement: None,
        changes: Vec::new(),
        notes: Notes::default(),
    }
}
