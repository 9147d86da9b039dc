//! Leftover settings of virtfit in a guest that has no profile.

use crate::engine::{Decision, EngineError, incoming};
use crate::host::Host;
use crate::ledger::guest_xml::GuestText;
use crate::rewrite;
use crate::types::guest_word::guest_word;
use crate::types::plan::{Plan, Verdict};
use crate::types::reason::Choice;
use crate::types::setting::Target;
use crate::types::target::Effect;
use crate::xml::Document;

/// Returns the reason that names the leftover and the command that takes it out of the definition.
pub(crate) fn reason(name: &str, uuid: &str) -> Choice {
    Choice::Leftover {
        revert: format!("virtfit revert {}", guest_word(name, uuid)),
    }
}

/// Returns the command that prints the XML of a guest without definition as it was before virtfit.
pub(crate) fn revert_transient(name: &str, uuid: &str) -> String {
    format!(
        "virsh dumpxml --inactive {} | virtfit revert -",
        guest_word(name, uuid)
    )
}

/// Takes pins, scheduling and memory binding out of incoming XML that names CPUs or nodes this host
/// does not have: the guest would not start. Where all are valid they stay, and `prepare` moves the
/// guest off them; everything the guest sees stays too.
pub(super) fn without_foreign(
    text: &GuestText<'_>,
    host: &Host,
    mut plan: Plan,
) -> Result<Decision, EngineError> {
    let domain = &text.guest.domain;
    if incoming::without_foreign(domain.clone(), host) == *domain {
        return Ok(Decision::Unchanged(plan));
    }
    let provenance = text.provenance.clone()?;
    let stays = |target: &Target| !is_place(target);
    let reverted = rewrite::revert_but(&text.document, stays)?;
    if reverted.xml == text.document.text() {
        return Ok(Decision::Unchanged(plan));
    }
    let after = Document::parse(&reverted.xml)?;
    plan.changes = rewrite::changes(&text.document, &after, &[], provenance.as_ref())?;
    plan.changes
        .iter_mut()
        .for_each(|change| change.effect = Effect::AtOnce);
    plan.verdict = Verdict::Tuned;
    Ok(Decision::Tuned {
        xml: reverted.xml,
        plan,
    })
}

/// Returns whether a setting is about the guest's place on the host.
fn is_place(target: &Target) -> bool {
    matches!(
        target,
        Target::VcpuPin(_)
            | Target::EmulatorPin
            | Target::IothreadPin(_)
            | Target::VcpuSched
            | Target::NumaMemory
            | Target::MemNode(_)
    )
}
