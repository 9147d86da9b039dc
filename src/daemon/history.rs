//! Outcome of each definition's last examination, with digests of its inputs: they show whether the
//! definition is new or changed, or only the policy or the host is.

use serde::{Deserialize, Serialize};

use crate::daemon::records::Records;
use crate::host::Host;
use crate::host::failed_starts::FailedStarts;
use crate::hostfs::records::Record;
use crate::snapshot::Snapshot;
use crate::types::digest;
use crate::types::plan::{Plan, Verdict};
use crate::types::reason::{LeftOut, Reason};

/// Folder of these records on the host.
pub(crate) const FOLDER: &str = "/var/lib/virtfit/seen";

/// Outcomes of all definitions, by UUID.
pub(crate) type LastOutcomes = Records<LastOutcome>;

/// Last examination of a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct LastOutcome {
    /// Guest's name.
    pub name: String,
    /// Digest of the file's text; after a define by virtfit, of the text as libvirt stored it.
    pub text: String,
    /// [`Policy::digest`](crate::policy::Policy::digest) of the policy at that time.
    pub policy: String,
    /// Digest of the host at that time ([`HostDigest`]).
    pub host: String,
    /// Outcome of the examination.
    pub outcome: Outcome,
}

impl Record for LastOutcome {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o700;
}

/// Outcome of a definition's examination.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum Outcome {
    /// The definition is as policy and host ask, or virtfit has nothing to do with it.
    Settled,
    /// The definition is as policy and host ask, but in small pages: too few huge ones are there.
    SmallPages,
    /// The guest runs on shared CPUs, as no placement fits (`on_no_fit = "run-shared"`).
    Degraded,
    /// No placement fits, and the guest does not float (`refuse`, `run-untuned`, or `run-shared`
    /// on a host without shared CPUs).
    Refused,
    /// virtfit could not decide, libvirt did not take the tuned definition, or redefining settled
    /// nothing.
    Failed,
    /// The change was only logged (`mode = "observe"`, `on_policy_change = "report"`).
    Told,
}

impl Outcome {
    /// Returns the outcome of a plan that is carried out.
    pub(crate) fn of(plan: &Plan) -> Self {
        let placed = plan.placement.as_ref();
        match plan.verdict {
            Verdict::Refused => Self::Refused,
            _ if placed.is_some_and(|placement| !placement.fits) => Self::Degraded,
            _ if plan.is_without_place() => Self::Refused,
            _ if plan.notes.not_done.iter().any(|note| lacks_pages(&note.why)) => Self::SmallPages,
            Verdict::Unchanged | Verdict::Tuned => Self::Settled,
        }
    }

    /// Returns whether another try is worth while when CPUs or pages become free.
    pub(crate) fn is_poor(self) -> bool {
        matches!(self, Self::SmallPages | Self::Degraded | Self::Refused)
    }
}

/// Returns whether a part of a profile is left out as too few huge pages are there, or were when
/// the guest was started.
fn lacks_pages(why: &Reason) -> bool {
    matches!(
        why,
        Reason::LeftOut(LeftOut::FewPages { .. } | LeftOut::PagesLeft { .. } | LeftOut::RunsWithItsPages)
    )
}

/// Digests of the host as far as it matters for a guest: without its free pages, which change all
/// the time, and without the failed starts of other guests.
#[derive(Debug)]
pub(crate) struct HostDigest<'v> {
    /// Digest of everything that is equal for all guests.
    common: String,
    failed: &'v FailedStarts,
}

impl<'v> HostDigest<'v> {
    /// Makes the digest of a snapshot's host.
    pub(crate) fn of(view: &'v Snapshot) -> Self {
        let mut host = Host::clone(&view.host);
        for pool in host.nodes.iter_mut().flat_map(|node| &mut node.pools) {
            pool.free = 0;
        }
        let failed = std::mem::take(&mut host.failed);
        let host_cpu = (failed.host_cpu, failed.host_cpu_of);
        Self {
            common: digest::of(&format!("{host:?} {host_cpu:?}")),
            failed: &view.host.failed,
        }
    }

    /// Returns the digest for the guest of this UUID.
    pub(crate) fn for_guest(&self, uuid: &str) -> String {
        let own = self.failed.guests.get(&uuid.to_ascii_lowercase());
        match own.and_then(|failed| failed.cpu.as_ref()) {
            Some(why) => digest::of(&format!("{} {why}", self.common)),
            None => self.common.clone(),
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Arc;
    use std::time::SystemTime;

    use super::*;
    use crate::host::failed_starts::FailedStart;
    use crate::hostfs::HostFs;
    use crate::snapshot::Sources;
    use crate::types::on_no_fit::OnNoFit;
    use crate::types::plan::{Note, Notes, Scope};
    use crate::types::setting::Target;
    use crate::types::subject::Subject;

    #[test]
    fn a_failed_start_makes_the_host_another_one_for_its_guest_alone() {
        let dir = tempfile::tempdir().unwrap();
        let place = Sources {
            root: HostFs::new(dir.path()),
            topology: Some("node:1 core:2 pu:1".into()),
            ..Sources::default()
        };
        let mut view = Snapshot::read(&place, SystemTime::now()).unwrap();
        let digests = |view: &Snapshot| ["a", "b"].map(|uuid| HostDigest::of(view).for_guest(uuid));
        let before = digests(&view);
        let fail = |view: &mut Snapshot, cpu: Option<&str>| {
            let failed = FailedStart {
                name: "a".into(),
                cpu: cpu.map(str::to_string),
                ..FailedStart::default()
            };
            Arc::make_mut(&mut view.host)
                .failed
                .guests
                .insert("a".into(), failed);
        };
        // A failure that takes nothing back decides nothing.
        fail(&mut view, None);
        assert_eq!(digests(&view), before);
        fail(&mut view, Some("MSR"));
        let [a, b] = digests(&view);
        assert!(a != before[0] && b == before[1]);
        // The host's own reason concerns all guests.
        Arc::make_mut(&mut view.host).failed.host_cpu = Some("MSR".into());
        let [a_now, b_now] = digests(&view);
        assert!(a_now != a && b_now != b);
    }

    #[test]
    fn a_guest_without_a_place_is_tried_again() {
        let mut plan = Plan {
            version: 1,
            guest: "db".into(),
            uuid: None,
            profile: Some("fit".into()),
            scope: Scope::Boot,
            verdict: Verdict::Unchanged,
            reasons: Vec::new(),
            placement: None,
            changes: Vec::new(),
            notes: Notes::default(),
        };
        assert_eq!(
            Outcome::of(&plan),
            Outcome::Settled,
            "its profile leaves it alone"
        );
        let what = Subject::Value(Target::Hugepages);
        let runs = Note::new(what.clone(), LeftOut::RunsWithItsPages);
        plan.notes.not_done = vec![runs];
        assert_eq!(Outcome::of(&plan), Outcome::SmallPages);
        plan.notes.not_done = vec![Note::new(what, LeftOut::NoHugetlbfs)];
        assert_eq!(Outcome::of(&plan), Outcome::Settled);
        for on_no_fit in [OnNoFit::RunUntuned, OnNoFit::RunShared] {
            plan.notes.on_no_fit = Some(on_no_fit);
            assert!(Outcome::of(&plan).is_poor(), "{on_no_fit:?}");
        }
    }
}
