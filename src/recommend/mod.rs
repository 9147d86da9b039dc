//! Policy for a host and its guests as they are, each line with its reason.
//!
//! A draft is made from facts alone, planned like any policy, and given up piece by piece until no
//! guest is worse off than without a policy. The text that is printed is the text that was tried.

mod draft;
mod facts;
mod families;
mod text;
mod trial;

pub(crate) use facts::Setting;

use std::time::SystemTime;

use crate::libvirt::definitions::Definition;
use crate::policy::{Policy, PolicyErrors};
use crate::snapshot::{Snapshot, SnapshotError, Sources};
use draft::Draft;
use trial::Judgement;

/// Number of drafts that are tried; then guests are left alone, which is never worse.
const TRIALS: usize = 24;

/// Reason why there is no recommendation.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RecommendError {
    /// Host or ledger cannot be read.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The text is no policy, which is a bug.
    #[error("not a policy (a bug): {0}")]
    Policy(#[from] PolicyErrors),
}

/// Writes a policy for these guests.
///
/// # Errors
/// Host or ledger cannot be read.
pub(crate) fn policy(
    place: &Sources,
    definitions: &[Definition],
    setting: Setting,
) -> Result<String, RecommendError> {
    let empty = Snapshot::read_with(place, Policy::builtin(), SystemTime::now())?;
    let mut draft = Draft::new(&empty, definitions, setting);
    for _ in 0..TRIALS {
        let text = text::text(&draft, &empty);
        let policy = Policy::parse(&text, "recommend")?;
        let view = Snapshot::read_with(place, policy, SystemTime::now())?;
        match trial::judge(&view, &draft) {
            Judgement::Good => return Ok(text),
            Judgement::Bad(guests) => draft.give_up(&guests),
        }
    }
    draft.give_up_all();
    Ok(text::text(&draft, &empty))
}
