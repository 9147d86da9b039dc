//! Changes that are not in force yet, and what they wait for.

use std::collections::BTreeSet;
use std::fmt;

use crate::domain::Domain;
use crate::engine::Decision;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::running::Running;
use crate::rewrite::{self, Provenance};
use crate::snapshot::{Question, Snapshot};
use crate::status::note::{Code, Note};
use crate::types::guest_word::guest_word;
use crate::types::idset::CpuSet;
use crate::types::plan::{Plan, Scope};
use crate::types::plural::cpus;
use crate::types::reason::Reason;
use crate::types::setting::Value;
use crate::xml::{Document, XmlError};

/// Way in which a definition takes effect.
pub(crate) const RESTART: &str = "shut down, start";

/// Returns what is pending for a running guest: its definition differs from what it runs with, or
/// `virtfit apply` would change it. Masks of floating threads wait for nothing: virtfitd moves
/// these threads while the guest runs.
pub(crate) fn running(view: &Snapshot, running: &Running, definition: Option<&str>) -> Vec<Note> {
    let Some(text) = definition.filter(|_| !running.starting) else {
        return Vec::new();
    };
    let defined = record(text).ok().flatten();
    if differs(defined.as_ref(), running.provenance.as_ref(), Floats::Alike) {
        return vec![Note::new(Code::Restart, RESTART)];
    }
    match view.decide(text, Question::of(Scope::Boot)) {
        Ok(Decision::Tuned { plan, .. }) if plan.notes.only_named => Vec::new(),
        Ok(Decision::Tuned { xml, .. })
            if only_floats(defined.as_ref(), record(&xml).ok().flatten().as_ref()) =>
        {
            Vec::new()
        }
        Ok(Decision::Tuned { .. }) if !view.policy.host.observe => {
            vec![apply(format!("apply, {RESTART}"), running.domain())]
        }
        Ok(_) => Vec::new(),
        Err(bug) if bug.is_bug() => vec![Note::new(Code::Failed, bug.to_string())],
        Err(error) => vec![Note::new(
            Code::Undecidable,
            format!("cannot be decided: {error}"),
        )],
    }
}

/// Reads virtfit's record in a domain's XML.
///
/// # Errors
/// The XML, or the record in it, cannot be read.
pub(crate) fn record(text: &str) -> Result<Option<Provenance>, XmlError> {
    rewrite::provenance(&Document::parse(text)?)
}

/// Comparison of masks of floating threads.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Floats {
    /// One is as good as another.
    Alike,
    /// Their CPUs count.
    ByCpus,
}

/// Returns whether two records differ in what virtfit wrote.
fn differs(one: Option<&Provenance>, other: Option<&Provenance>, floats: Floats) -> bool {
    let written = |provenance: Option<&Provenance>| -> BTreeSet<String> {
        let owned = provenance.iter().flat_map(|provenance| &provenance.owned);
        owned
            .map(|owned| match &owned.wrote {
                Value::Cpus(cpus) if floats == Floats::Alike && cpus.len() > 1 => {
                    format!("{:?} floats", owned.target)
                }
                wrote => format!("{:?} {wrote:?}", owned.target),
            })
            .collect()
    };
    written(one) != written(other)
}

/// Returns whether two records differ in masks of floating threads alone.
fn only_floats(one: Option<&Provenance>, other: Option<&Provenance>) -> bool {
    differs(one, other, Floats::ByCpus) && !differs(one, other, Floats::Alike)
}

/// Returns what would happen to a guest that does not run: a refusal, no placement, or a new one.
pub(crate) fn inactive(view: &Snapshot, text: &str, guest: &GuestXml, claims: &CpuSet) -> Vec<Note> {
    let mut out = Vec::new();
    let taken = view.taken(&guest.domain);
    let lost: CpuSet = claims.iter().filter(|cpu| taken.cpus.contains_key(cpu)).collect();
    if !lost.is_empty() {
        out.push(Note::new(Code::ClaimHeld, taken.holders_of(&lost).to_string()));
    }
    let decision = match view.decide(text, Question::of(Scope::Boot)) {
        Ok(decision) => decision,
        Err(bug) if bug.is_bug() => {
            out.push(Note::new(Code::Failed, bug.to_string()));
            return out;
        }
        Err(error) => {
            out.push(Note::new(Code::RefusedNow, error.to_string()));
            return out;
        }
    };
    let plan = decision.plan();
    let reason = plan.reasons.first().map(Reason::to_string).unwrap_or_default();
    match &decision {
        Decision::Refused(_) => out.push(Note::new(Code::RefusedNow, format!("refused: {reason}"))),
        _ if plan.is_without_place() => {
            // What the host never has is not missing now alone.
            let now = match plan.causes().next().is_some_and(Reason::is_lasting) {
                true => "",
                false => " now",
            };
            out.push(Note::new(Code::NoPlaceNow, format!("no place{now}: {reason}")))
        }
        Decision::Tuned { .. } if plan.notes.only_named => {}
        Decision::Tuned { .. } if view.policy.host.observe => {
            out.push(Note::new(Code::Observe, observed(plan)))
        }
        Decision::Tuned { .. } if lost.is_empty() => out.push(apply("apply", &guest.domain)),
        Decision::Tuned { .. } | Decision::Unchanged(_) => {}
    }
    out
}

/// Returns the note that `virtfit apply` would change a definition.
fn apply(said: impl fmt::Display, domain: &Domain) -> Note {
    let guest = guest_word(&domain.name, &domain.uuid);
    Note::with_command(Code::Apply, said, format!("virtfit apply {guest}"))
}

/// Words what a definition would be given if virtfit did not only observe.
fn observed(plan: &Plan) -> String {
    let profile = plan.profile.as_deref().unwrap_or_default();
    let dedicated = plan.placement.as_ref().map(|placement| &placement.dedicated);
    match dedicated.filter(|dedicated| !dedicated.is_empty()) {
        Some(dedicated) => format!("observe: {profile} would give it {}", cpus(dedicated)),
        None => format!("observe: would be tuned by {profile}"),
    }
}
