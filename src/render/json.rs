//! Plan as JSON, as `virtfit plan --json` prints it (`docs/placement.md`, section 5).
//!
//! Keys are added and never changed. What the text of a plan says is here too, each reason, note
//! and warning with its stable code.

use serde::Serialize;

use crate::rewrite;
use crate::types::plan::{Change, Note, Placement, Plan, Scope, Verdict};
use crate::types::reason::Reason;
use crate::types::target::Effect;

/// Plan in the form of its JSON.
#[derive(Debug, Serialize)]
pub(crate) struct PlanJson<'a> {
    version: u32,
    guest: &'a str,
    uuid: Option<&'a str>,
    profile: Option<&'a str>,
    scope: Scope,
    verdict: Verdict,
    reasons: Vec<String>,
    placement: Option<&'a Placement>,
    changes: Vec<ChangeJson>,
    chosen_by: Option<&'a str>,
    because: Vec<ReasonJson>,
    kept: Vec<NoteJson>,
    not_done: Vec<NoteJson>,
    warnings: Vec<ReasonJson>,
}

#[derive(Debug, Serialize)]
struct ChangeJson {
    path: String,
    from: Option<String>,
    to: Option<String>,
    why: String,
    guest_visible: bool,
    takes_effect: &'static str,
    code: &'static str,
}

#[derive(Debug, Serialize)]
struct ReasonJson {
    code: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

#[derive(Debug, Serialize)]
struct NoteJson {
    what: String,
    code: &'static str,
    text: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    command: Option<String>,
}

impl<'a> PlanJson<'a> {
    /// Puts a plan into the form of its JSON. `warnings` are those of the host and the policy.
    pub(crate) fn new(plan: &'a Plan, warnings: &[Reason]) -> Self {
        Self {
            version: plan.version,
            guest: &plan.guest,
            uuid: plan.uuid.as_deref(),
            profile: plan.profile.as_deref(),
            scope: plan.scope,
            verdict: plan.verdict,
            reasons: plan.reasons.iter().map(Reason::to_string).collect(),
            placement: plan.placement.as_ref(),
            changes: plan.changes.iter().map(ChangeJson::new).collect(),
            chosen_by: Some(plan.notes.chosen_by.as_str()).filter(|by| !by.is_empty()),
            because: plan.reasons.iter().map(ReasonJson::new).collect(),
            kept: plan.notes.kept.iter().map(NoteJson::new).collect(),
            not_done: plan.notes.not_done.iter().map(NoteJson::new).collect(),
            warnings: warnings.iter().map(ReasonJson::new).collect(),
        }
    }
}

impl ChangeJson {
    fn new(change: &Change) -> Self {
        Self {
            path: rewrite::path(&change.target),
            from: rewrite::show(&change.from),
            to: rewrite::show(&change.to),
            why: change.why.to_string(),
            guest_visible: change.target.is_guest_visible(),
            takes_effect: match change.effect {
                Effect::AtOnce => "now",
                Effect::NextStart => "next start",
            },
            code: change.why.code(),
        }
    }
}

impl ReasonJson {
    fn new(reason: &Reason) -> Self {
        Self {
            code: reason.code(),
            text: reason.to_string(),
            command: reason.command(),
        }
    }
}

impl NoteJson {
    fn new(note: &Note) -> Self {
        Self {
            what: note.what.to_string(),
            code: note.why.code(),
            text: note.why.to_string(),
            command: note.why.command(),
        }
    }
}
