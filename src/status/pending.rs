//! Changes that are not in force yet, and what they wait for.

use std::collections::BTreeSet;

use crate::engine::Decision;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::running::Running;
use crate::rewrite;
use crate::snapshot::{Question, Snapshot};
use crate::status::note::{Code, Note};
use crate::types::idset::CpuSet;
use crate::types::plan::{Plan, Scope};
use crate::types::plural::cpus;
use crate::types::reason::Reason;
use crate::xml::Document;

/// Returns what is pending for a running guest: its definition differs from what it runs with, or
/// `virtfit apply` would change it.
pub(crate) fn running(view: &Snapshot, running: &Running, definition: Option<&str>) -> Vec<Note> {
    let Some(text) = definition.filter(|_| !running.starting) else {
        return Vec::new();
    };
    // Settings virtfit wrote into the definition and into the running XML, pins as they were
    // written.
    let written = |provenance: Option<&rewrite::Provenance>| -> BTreeSet<String> {
        let owned = provenance.iter().flat_map(|provenance| &provenance.owned);
        owned
            .map(|owned| format!("{:?} {:?}", owned.target, owned.wrote))
            .collect()
    };
    let document = Document::parse(text);
    let defined = document
        .as_ref()
        .ok()
        .and_then(|document| rewrite::provenance(document).ok().flatten());
    if written(defined.as_ref()) != written(running.provenance.as_ref()) {
        return vec![Note::new(Code::Restart, "shut down, start")];
    }
    match view.decide(text, Question::of(Scope::Boot)) {
        Ok(Decision::Tuned { plan, .. }) if plan.notes.only_named => Vec::new(),
        Ok(Decision::Tuned { .. }) if !view.policy.host.observe => {
            vec![Note::new(Code::Apply, "virtfit apply, shut down, start")]
        }
        Ok(_) => Vec::new(),
        Err(bug) if bug.is_bug() => vec![Note::new(Code::Failed, bug.to_string())],
        Err(error) => vec![Note::new(
            Code::Undecidable,
            format!("cannot be decided: {error}"),
        )],
    }
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
            out.push(Note::new(Code::NoPlaceNow, format!("no place now: {reason}")))
        }
        Decision::Tuned { .. } if plan.notes.only_named => {}
        Decision::Tuned { .. } if view.policy.host.observe => {
            out.push(Note::new(Code::Observe, observed(plan)))
        }
        Decision::Tuned { .. } if lost.is_empty() => out.push(Note::new(Code::Apply, "virtfit apply")),
        Decision::Tuned { .. } | Decision::Unchanged(_) => {}
    }
    out
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
