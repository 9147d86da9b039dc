//! Definitions that virtfit wrote and with which their guests have not started since: only a failed
//! start of these can be virtfit's doing.
//!
//! The daemon writes a record after it has defined a guest. `virtfit apply` announces its record
//! before it does, as it cannot know how libvirt will store the text: the daemon finds the
//! definition by virtfit's own record in it ([`Untried::record`]).

use serde::{Deserialize, Deserializer, Serialize};

use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::hostfs::records::{Record, RecordError, RecordFolder};
use crate::panics::guarded;
use crate::rewrite;
use crate::types::digest;
use crate::types::plan::{Note, Plan};
use crate::types::reason::{LeftOut, Reason};
use crate::types::target::Family;
use crate::xml::Document;

/// Folder of the records on the host.
pub(crate) const FOLDER: &str = "/var/lib/virtfit/untried";

/// Definition that virtfit wrote and with which the guest has not started since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Untried {
    /// Guest's name.
    pub name: String,
    /// Digest of the definition as libvirt stored it; empty while it is only announced.
    pub text: String,
    /// Kinds of virtfit's changes since the guest's last start.
    #[serde(deserialize_with = "known")]
    pub kinds: Vec<Family>,
    /// The guest's own XML lists no CPU features, and no QEMU options of its own rule anything: its
    /// failure may be the host's.
    pub plain: bool,
    /// Digest of virtfit's record in a definition that was announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

impl Record for Untried {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o700;
}

impl Untried {
    /// Makes the record of a plan that is carried out, after the changes `before` that were not
    /// tried either. `domain` is the guest as it was.
    pub(crate) fn of(before: Option<&Self>, domain: &Domain, plan: &Plan) -> Self {
        let mut kinds = before.map(|untried| untried.kinds.clone()).unwrap_or_default();
        kinds.extend(plan.changes.iter().map(|change| change.target.row().family));
        // Taking a change back is a change, too, but not one that can make a start fail.
        let failed = |note: &Note| {
            matches!(
                note.why,
                Reason::LeftOut(LeftOut::CpuModeFailed { .. } | LeftOut::HostCpuFails { .. })
            )
        };
        let taken_back = plan.notes.not_done.iter().any(failed);
        kinds.retain(|kind| !(taken_back && kind.is_cpu()));
        kinds.sort();
        kinds.dedup();
        Self {
            name: domain.name.clone(),
            kinds,
            plain: domain.qemu.ruled.is_empty()
                && domain.cpu.as_ref().is_none_or(|cpu| cpu.features.is_empty()),
            ..Self::default()
        }
    }
}

/// Reads the kinds of a record by their words; a kind that this version does not know is left out.
fn known<'de, D: Deserializer<'de>>(from: D) -> Result<Vec<Family>, D::Error> {
    let words = Vec::<String>::deserialize(from)?;
    let known = words.iter().filter_map(|words| Family::named(words));
    Ok(known.collect())
}

/// Returns a digest of virtfit's record in a definition; `None` where there is none.
pub(crate) fn record_of(definition: &str) -> Option<String> {
    let read = || {
        let document = Document::parse(definition).ok()?;
        rewrite::provenance(&document).ok()?
    };
    let provenance = guarded(read).ok()??;
    Some(digest::of(&format!("{provenance:?}")))
}

/// Record that `virtfit apply` announced.
#[derive(Debug)]
pub(crate) struct Announced {
    folder: RecordFolder<Untried>,
    uuid: String,
    before: Option<Untried>,
}

/// Removes the files that killed processes left half written among the records.
pub(crate) fn sweep(root: &HostFs) {
    RecordFolder::<Untried>::new(root).sweep();
}

/// Announces that a guest is about to be defined as `xml`, which virtfit made from `domain`.
///
/// # Errors
/// The guest has no UUID, or the record cannot be read or written.
pub(crate) fn announce(
    root: &HostFs,
    domain: &Domain,
    plan: &Plan,
    xml: &str,
) -> Result<Announced, RecordError> {
    let folder = RecordFolder::new(root);
    let before = match folder.read(&domain.uuid) {
        // A record that cannot be parsed does not count.
        Err(RecordError::Json { .. }) => None,
        read => read?,
    };
    let untried = Untried {
        record: record_of(xml),
        ..Untried::of(before.as_ref(), domain, plan)
    };
    folder.write(&domain.uuid, &untried, None)?;
    Ok(Announced {
        folder,
        uuid: domain.uuid.clone(),
        before,
    })
}

impl Announced {
    /// Takes the announcement back, as the guest was not defined.
    pub(crate) fn take_back(&self) {
        let done = match &self.before {
            Some(before) => self.folder.write(&self.uuid, before, None),
            None => self.folder.remove(&self.uuid).map(drop),
        };
        if let Err(error) = done {
            log::debug!("{error}");
        }
    }
}
