//! What became of each definition when it was last looked at: whether it is new, changed, or only
//! the policy or the host is.

use serde::{Deserialize, Serialize};

use crate::daemon::records::Records;
use crate::host::Host;
use crate::snapshot::Snapshot;
use crate::types::digest;
use crate::types::plan::{Plan, RUNS_UNTUNED, Verdict};

/// Where it is remembered on the host.
pub const FOLDER: &str = "/var/lib/virtfit/seen";

/// All that was seen.
pub type LastOutcomes = Records<LastOutcome>;

/// A definition as it was seen last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct LastOutcome {
    /// The guest's name.
    pub name: String,
    /// Digest of the file's text, as libvirt stored it after a define of ours.
    pub text: String,
    /// [`Policy::digest`](crate::policy::Policy::digest) it was decided by.
    pub policy: String,
    /// Digest of what the host was.
    pub host: String,
    /// What came of it.
    pub outcome: Outcome,
}

/// What came of a definition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// It is as policy and host ask, or virtfit has nothing to do with it.
    Settled,
    /// It runs on shared CPUs, as there was no place for it (`on_no_fit = "run-shared"`).
    Degraded,
    /// There is no place for it (`refuse` and `run-untuned`).
    Refused,
    /// libvirt did not take the tuned definition.
    Failed,
    /// It was only told what would be done (`mode = "observe"`, `on_policy_change = "report"`).
    Told,
}

impl Outcome {
    /// What a plan comes to, once it is carried out.
    pub fn of(plan: &Plan) -> Self {
        let placed = plan.placement.as_ref();
        match plan.verdict {
            Verdict::Refused => Self::Refused,
            _ if placed.is_some_and(|placement| !placement.fits) => Self::Degraded,
            // run-untuned: there is a profile, and no place.
            Verdict::Unchanged if plan.reasons.iter().any(|reason| reason == RUNS_UNTUNED) => Self::Refused,
            Verdict::Unchanged | Verdict::Tuned => Self::Settled,
        }
    }

    /// It is worth another try when CPUs or pages become free.
    pub fn is_poor(self) -> bool {
        matches!(self, Self::Degraded | Self::Refused)
    }
}

/// What a host is, without what changes all the time: free pages.
pub fn host_digest(view: &Snapshot) -> String {
    let mut host = Host::clone(&view.host);
    for pool in host.nodes.iter_mut().flat_map(|node| &mut node.pools) {
        pool.free = 0;
    }
    digest::of(&format!("{host:?}"))
}
