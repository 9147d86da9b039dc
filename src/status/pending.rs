//! Changes that are not in force yet, and what they wait for.

use std::collections::BTreeSet;
use std::fmt;

use crate::domain::Domain;
use crate::engine::{Decision, Question};
use crate::hook_events::claims::{self, OwnClaims};
use crate::ledger::Taken;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::running::Running;
use crate::rewrite::{self, Provenance};
use crate::snapshot::Snapshot;
use crate::status::note::{Code, Note};
use crate::types::guest_word::guest_word;
use crate::types::idset::CpuSet;
use crate::types::plan::{Plan, Scope};
use crate::types::plural::cpus;
use crate::types::reason::{Reason, Start};
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
    let own = &view.sets.dedicated;
    let runs_with = running.provenance.as_ref();
    let decided = view.decide(text, Question::of(Scope::Boot));
    if differs(defined.as_ref(), runs_with, Masks::OwnCpus(own)) {
        // The definition has what goes with a place. Without one, a new start may give nothing that
        // the guest does not run with.
        let nothing = match &decided {
            Ok(Decision::Tuned { xml, plan }) if plan.is_without_place() => {
                let tuned = record(xml).ok().flatten();
                !differs(tuned.as_ref(), runs_with, Masks::OwnCpus(own))
            }
            _ => false,
        };
        return match nothing {
            true => Vec::new(),
            false => vec![Note::new(Code::Restart, RESTART)],
        };
    }
    match decided {
        Ok(Decision::Tuned { plan, .. }) if plan.notes.only_named || view.policy.host.observe => Vec::new(),
        Ok(Decision::Tuned { xml, plan }) => {
            let tuned = record(&xml).ok().flatten();
            // Without a place, a definition without its pins is worth less than the one there is.
            let gains = match plan.is_without_place() {
                true => gains_beside_pins(defined.as_ref(), tuned.as_ref()),
                false => !only_floats(defined.as_ref(), tuned.as_ref(), own),
            };
            let said = match differs(tuned.as_ref(), runs_with, Masks::OwnCpus(own)) {
                true => format!("apply, {RESTART}"),
                // Only the record changes: the guest runs with all of it already.
                false => "apply".to_string(),
            };
            gains.then(|| apply(said, running.domain())).into_iter().collect()
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

/// Masks of threads that count in a comparison of two records.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Masks<'a> {
    /// CPUs of a thread's own, of the dedicated set: floating threads are moved while a guest runs.
    OwnCpus(&'a CpuSet),
    /// All masks, by their CPUs.
    All,
    /// None.
    No,
}

/// Returns what virtfit wrote, as far as it counts.
fn written(provenance: Option<&Provenance>, masks: Masks<'_>) -> BTreeSet<String> {
    let owned = provenance.iter().flat_map(|provenance| &provenance.owned);
    let counts = |value: &Value| match (value, masks) {
        (Value::Cpus(cpus), Masks::OwnCpus(own)) => cpus.len() == 1 && cpus.is_subset(own),
        (Value::Cpus(_), Masks::No) => false,
        _ => true,
    };
    owned
        .filter(|owned| counts(&owned.wrote))
        .map(|owned| format!("{:?} {:?}", owned.target, owned.wrote))
        .collect()
}

/// Returns whether two records differ in what virtfit wrote.
fn differs(one: Option<&Provenance>, other: Option<&Provenance>, masks: Masks<'_>) -> bool {
    written(one, masks) != written(other, masks)
}

/// Returns whether two records differ in masks of floating threads alone; `own` is the dedicated
/// set.
fn only_floats(one: Option<&Provenance>, other: Option<&Provenance>, own: &CpuSet) -> bool {
    differs(one, other, Masks::All) && !differs(one, other, Masks::OwnCpus(own))
}

/// Returns whether a definition gets a value that is no pin and that it does not have.
fn gains_beside_pins(defined: Option<&Provenance>, tuned: Option<&Provenance>) -> bool {
    !written(tuned, Masks::No).is_subset(&written(defined, Masks::No))
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
        Decision::Refused(_) => {
            let text = format!("refused: {}", plan.reasons_line());
            out.push(Note::new(Code::RefusedNow, text));
        }
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
        Decision::Tuned { xml, .. } => match cannot_start(view, xml, guest, &taken) {
            Some(why) => {
                out.push(apply(format!("apply, or libvirt cannot start it: {why}"), &guest.domain).wrong())
            }
            None if lost.is_empty() => out.push(apply("apply", &guest.domain)),
            None => {}
        },
        Decision::Unchanged(_) => {}
    }
    out
}

/// Returns the reason for which a guest does not start until it has the pins and the memory of the
/// `tuned` XML.
fn cannot_start(view: &Snapshot, tuned: &str, guest: &GuestXml, taken: &Taken) -> Option<Start> {
    let lacks_pages = |guest: &GuestXml| {
        let own = OwnClaims::of(view, guest);
        !claims::pages_are_there(guest, &own, taken)
    };
    let dead = claims::dead_pins(&view.host, &guest.domain);
    let lacks = guest.own_pages && lacks_pages(guest);
    if dead.is_empty() && !lacks {
        return None;
    }
    let tuned = GuestXml::parse(tuned).ok()?;
    if !dead.is_empty() && claims::dead_pins(&view.host, &tuned.domain).is_empty() {
        return Some(Start::CpusUnusable { cpus: dead });
    }
    (lacks && !lacks_pages(&tuned)).then_some(Start::PagesNotFree)
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
