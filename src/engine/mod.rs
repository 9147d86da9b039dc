//! The engine: a domain's XML and plain data in, a decision out. No clock, environment, file or
//! libvirt.
//!
//! The way of a decision, file by file:
//!
//! ```text
//! mod       XML → what an administrator wrote and what virtfit wrote → profile → placement → settings → XML
//! before    what of virtfit's own is not what it was any more
//! incoming  pins of another host do not count
//! leftover  settings of virtfit's in a guest that no rule matches
//! wishes    the profile as far as this guest, door and host can follow it
//! job       from here on, step by step
//! demand    profile and domain → what placement has to find
//! supply    host and ledger → what there is to give
//! place     where it goes: what stays, what is searched
//! support   emulator threads and iothreads
//! mirror    the topology that shows the CPUs chosen
//! same      places that look as it says, for a guest that has its shape
//! settings/ every value to write, each with its reason
//! stale     what stays and libvirt will not start with
//! shown     the place, as plans and reservations have it
//! ```

pub mod before;
mod decide;
pub mod demand;
pub mod effective;
pub mod incoming;
pub mod leftover;
pub mod obsolete;
mod place;
pub mod same;
pub mod settings;
mod shown;
pub mod supply;
pub mod support;
pub mod topology;

use std::collections::BTreeMap;

use crate::domain::{self, Domain};
use crate::host::Host;
use crate::ledger::Ledger;
use crate::ledger::guest_xml::GuestText;
use crate::panics::{self, Bug};
use crate::policy::{Policy, select};
use crate::rewrite;
use crate::types::devices::GuestFacts;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;
use crate::types::plan::{Notes, Plan, Scope, Verdict};
use crate::types::setting::Target;
use crate::xml::{Document, XmlError};

use decide::DecisionMaker;

/// Everything a decision is made from, beside the XML.
pub struct Inputs<'a> {
    /// The host as it is now.
    pub host: &'a Host,
    /// The merged policy.
    pub policy: &'a Policy,
    /// The ledger; the guest itself may be in it.
    pub ledger: &'a Ledger,
    /// The guest's devices and images.
    pub facts: &'a GuestFacts,
    /// The door.
    pub scope: Scope,
    /// `--profile`: beats rules and requests.
    pub profile: Option<&'a str>,
    /// What of its earlier place stays.
    pub keep: Keep,
    /// The pins it had before somebody redefined it without them; they count where it carries none
    /// of ours.
    pub earlier: Option<&'a BTreeMap<VcpuId, CpuSet>>,
    /// It is starting from this very XML: strict memory in it is on its nodes already, and its CPUs
    /// have to be there too.
    pub bound: bool,
}

/// What of a guest's earlier place stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Keep {
    /// Its CPUs while they are valid, and its shape.
    #[default]
    Place,
    /// Its shape (`apply --improve`).
    Shape,
    /// Nothing (`apply --reshape`).
    Nothing,
}

/// What came of it.
#[derive(Debug)]
pub enum Decision {
    /// The XML stays as it is, byte for byte.
    Unchanged(Plan),
    /// The XML to use instead.
    Tuned {
        /// The whole new text.
        xml: String,
        /// Why it looks like that.
        plan: Plan,
    },
    /// Policy or host say no; [`Plan::reasons`] tell why.
    Refused(Plan),
}

impl Decision {
    /// The whole new text, where there is one.
    pub fn xml(&self) -> Option<&str> {
        match self {
            Self::Tuned { xml, .. } => Some(xml),
            Self::Unchanged(_) | Self::Refused(_) => None,
        }
    }

    /// The whole new text, where there is one.
    pub fn into_xml(self) -> Option<String> {
        match self {
            Self::Tuned { xml, .. } => Some(xml),
            Self::Unchanged(_) | Self::Refused(_) => None,
        }
    }

    /// The plan of any decision.
    pub fn plan(&self) -> &Plan {
        match self {
            Self::Unchanged(plan) | Self::Refused(plan) | Self::Tuned { plan, .. } => plan,
        }
    }
}

/// Why there is no decision: the input is broken.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The XML cannot be read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The policy cannot be followed on this host or for this guest.
    #[error("{0}")]
    Policy(String),
    /// Deciding panicked.
    #[error("failed: {0}")]
    Bug(#[from] Bug),
}

impl EngineError {
    /// Returns whether virtfit failed rather than the text or the policy.
    pub fn is_bug(&self) -> bool {
        match self {
            Self::Xml(error) => error.is_bug(),
            Self::Policy(_) => false,
            Self::Bug(_) => true,
        }
    }
}

/// Decides what becomes of a domain.
///
/// # Errors
/// The XML is broken, or the policy asks for what contradicts itself for this guest.
pub fn decide(xml: &str, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    decide_read(&GuestText::read(xml.into())?, inputs)
}

/// As [`decide`], for XML that was read before.
///
/// # Errors
/// As there.
pub fn decide_read(text: &GuestText<'_>, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    let (document, current) = (&text.document, &text.guest.domain);
    panics::fault_point("decide", &current.name);
    // What is virtfit's own cannot be told from an administrator's: the guest stays as it is, and
    // its pins count as theirs.
    let mut provenance = match &text.provenance {
        Ok(provenance) => provenance.clone(),
        Err(error) => return left_alone(error, current, inputs),
    };
    let resolved = before::has_resolved_cpu(provenance.as_ref(), current, inputs.scope);
    let stays = |target: &Target| resolved && matches!(target, Target::CpuMode | Target::CpuFeature(_));
    if let Some(provenance) = &mut provenance {
        provenance.owned.retain(|owned| !stays(&owned.target));
    }
    let reverted = rewrite::revert_but(document, stays)?;
    let changed = before::changed_by_hand(&reverted, inputs.scope);
    let mut reshaped = false;
    if let Some(provenance) = &mut provenance {
        let shape = &mut provenance.head.shape;
        if inputs.scope == Scope::Boot && !before::is_for(shape, current) {
            *shape = rewrite::Shape::default();
            reshaped = true;
        }
        shape.topology = shape.topology.filter(|_| !changed.contains(&Target::Topology));
        if changed.contains(&Target::Cells) {
            shape.cells.clear();
        }
    }
    let base = Document::parse(&reverted.xml)?;
    let came = domain::parse::parse(&base)?;
    let domain = match inputs.scope {
        Scope::Boot => came.clone(),
        Scope::Incoming => incoming::without_foreign(came.clone(), inputs.host),
    };

    let mut plan = blank(current, inputs.scope);
    let selection = selection(&domain, inputs)?;
    plan.notes.chosen_by = selection.chosen_by.clone();
    plan.reasons.extend(selection.notes.iter().cloned());
    let Some(profile) = selection.profile else {
        plan.notes.leftover = text.guest.carries;
        if !text.guest.carries {
            plan.reasons
                .push("no rule matches and it asks for no profile".into());
            return Ok(Decision::Unchanged(plan));
        }
        plan.reasons.push(leftover::reason(&plan.guest));
        return match inputs.scope {
            Scope::Boot => Ok(Decision::Unchanged(plan)),
            Scope::Incoming => leftover::without_foreign(text, inputs.host, plan),
        };
    };
    plan.profile = Some(profile.name.clone());
    if profile.off {
        plan.reasons
            .push(format!("profile {} leaves it alone", profile.name));
        // `virtfit revert` leaves that request behind, also for whoever installs virtfit again.
        if inputs.profile.is_none() && domain.request.is_some() {
            let guest = &plan.guest;
            plan.reasons.push(format!(
                "the guest asks for that itself: virtfit profile unset {guest} lets the rules decide"
            ));
        }
        return Ok(Decision::Unchanged(plan));
    }
    if !matches!(domain.kind.as_str(), "kvm" | "qemu") {
        plan.reasons
            .push(format!("type '{}' is not run by QEMU", domain.kind));
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
        changed,
        reshaped,
        profile,
    };
    job.decide(plan)
}

/// Finds the profile for a guest.
fn selection(domain: &Domain, inputs: &Inputs<'_>) -> Result<select::Selection, EngineError> {
    match inputs.profile {
        Some(name) => {
            select::by_name(inputs.policy, name).map_err(|error| EngineError::Policy(error.to_string()))
        }
        None => Ok(select::select(inputs.policy, domain, inputs.facts.autostart)),
    }
}

/// Decides for a guest whose provenance cannot be read: nothing, with the reason.
fn left_alone(error: &XmlError, current: &Domain, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    let selection = selection(current, inputs)?;
    let mut plan = blank(current, inputs.scope);
    plan.profile = selection.profile.map(|profile| profile.name);
    plan.notes.chosen_by = selection.chosen_by;
    plan.reasons.push(format!("left as it is: {error}"));
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
