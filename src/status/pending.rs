//! What is not in force yet, and until when.

use std::collections::BTreeSet;

use crate::engine::{Decision, EngineError};
use crate::idset::CpuSet;
use crate::ledger::guest::GuestXml;
use crate::ledger::running::Running;
use crate::plan::Scope;
use crate::rewrite;
use crate::view::{Ask, View};
use crate::xml::Document;

/// A running guest: its definition has what it does not run with, or would get it.
///
/// # Errors
/// virtfit itself fails on the definition.
pub fn running(view: &View, running: &Running, definition: Option<&str>) -> Result<Vec<String>, EngineError> {
    let Some(text) = definition.filter(|_| !running.starting) else {
        return Ok(Vec::new());
    };
    // What virtfit wrote there and here, pins as they were written.
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
        return Ok(vec!["shut down, start".into()]);
    }
    match view.decide(text, Ask::of(Scope::Boot)) {
        Ok(Decision::Tuned { .. }) if !view.policy.host.observe => {
            Ok(vec!["virtfit apply, shut down, start".into()])
        }
        Err(bug) if bug.is_bug() => Err(bug),
        _ => Ok(Vec::new()),
    }
}

/// A guest that does not run: it would be refused, would not get what its profile wants, or would be moved.
///
/// # Errors
/// virtfit itself fails on the definition.
pub fn inactive(
    view: &View,
    text: &str,
    guest: &GuestXml,
    claims: &CpuSet,
) -> Result<Vec<String>, EngineError> {
    let mut out = Vec::new();
    let taken = view.taken(&guest.domain);
    let lost: CpuSet = claims.iter().filter(|cpu| taken.cpus.contains_key(cpu)).collect();
    if !lost.is_empty() {
        out.push(taken.holders_of(&lost));
    }
    let decision = match view.decide(text, Ask::of(Scope::Boot)) {
        Ok(decision) => decision,
        Err(bug) if bug.is_bug() => return Err(bug),
        Err(error) => {
            out.push(error.to_string());
            return Ok(out);
        }
    };
    let plan = decision.plan();
    let reason = plan.reasons.first().cloned().unwrap_or_default();
    let degraded = plan.placement.as_ref().is_some_and(|placement| !placement.fits);
    match &decision {
        Decision::Refused(_) => out.push(format!("refused: {reason}")),
        _ if degraded => out.push(format!("no place now: {reason}")),
        Decision::Tuned { .. } if lost.is_empty() => out.push("virtfit apply".into()),
        Decision::Tuned { .. } | Decision::Unchanged(_) => {}
    }
    Ok(out)
}
