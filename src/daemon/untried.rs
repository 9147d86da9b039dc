//! Definitions that virtfit wrote and with which their guests have not started since: only a failed
//! start of these can be virtfit's doing.
//!
//! The daemon writes a record after it has defined a guest. `virtfit apply` announces its record
//! before it does, as it cannot know how libvirt will store the text: the daemon finds the
//! definition by virtfit's own record in it ([`Untried::record`]).

use std::io;

use serde::{Deserialize, Serialize};

use crate::domain::Domain;
use crate::hostfs::HostFs;
use crate::hostfs::atomic::AtomicDir;
use crate::panics::guarded;
use crate::rewrite;
use crate::types::digest;
use crate::types::plan::{Note, Plan};
use crate::types::reason::{LeftOut, Reason};
use crate::types::uuid;
use crate::xml::Document;

/// Folder of the records on the host.
pub(crate) const FOLDER: &str = "/var/lib/virtfit/untried";
/// Kinds of changes by the beginning of their paths, where the first that fits counts, in the order
/// in which they are suspected.
const KINDS: [(&str, &str); 11] = [
    ("/domain/cpu/@mode", CPU_MODE),
    ("/domain/cpu/feature", CPU_FEATURES),
    ("/domain/cpu/cache", CPU_CACHE),
    ("/domain/memoryBacking", MEMORY_BACKING),
    ("/domain/cpu/topology", TOPOLOGY),
    ("/domain/cpu/numa", GUEST_CELLS),
    ("/domain/numatune", MEMORY_NODES),
    ("/domain/features", KVM_FEATURES),
    ("/domain/iothreads", IOTHREADS),
    ("/domain/devices", DEVICES),
    ("/domain/", PINS),
];
/// Kind that is suspected first, and the kinds that go with it.
pub(crate) const CPU_MODE: &str = "cpu mode";
/// Features of the guest's CPU.
pub(crate) const CPU_FEATURES: &str = "cpu features";
/// Caches of the guest's CPU.
pub(crate) const CPU_CACHE: &str = "cpu cache";
/// Huge pages and the source of the memory.
pub(crate) const MEMORY_BACKING: &str = "memory backing";
/// Topology of the guest's CPUs.
pub(crate) const TOPOLOGY: &str = "topology";
/// Guest's own NUMA cells.
pub(crate) const GUEST_CELLS: &str = "guest cells";
/// Nodes of the memory.
pub(crate) const MEMORY_NODES: &str = "memory nodes";
/// Features of KVM and the PMU.
pub(crate) const KVM_FEATURES: &str = "KVM features";
/// Iothreads.
pub(crate) const IOTHREADS: &str = "iothreads";
/// Drivers of disks and controllers, and the balloon.
pub(crate) const DEVICES: &str = "devices";
/// Pins and scheduling of threads.
pub(crate) const PINS: &str = "pins";

/// Definition that virtfit wrote and with which the guest has not started since.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Untried {
    /// Guest's name.
    pub name: String,
    /// Digest of the definition as libvirt stored it; empty while it is only announced.
    pub text: String,
    /// Kinds of virtfit's changes since the guest's last start.
    pub kinds: Vec<String>,
    /// The guest's own XML lists no CPU features.
    pub plain: bool,
    /// Digest of virtfit's record in a definition that was announced.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub record: Option<String>,
}

impl Untried {
    /// Makes the record of a plan that is carried out, after the changes `before` that were not
    /// tried either. `domain` is the guest as it was.
    pub(crate) fn of(before: Option<&Self>, domain: &Domain, plan: &Plan) -> Self {
        let mut kinds = before.map(|untried| untried.kinds.clone()).unwrap_or_default();
        kinds.extend(plan.changes.iter().map(|change| kind(&change.path).to_string()));
        // Taking a change back is a change, too, but not one that can make a start fail.
        let failed = |note: &Note| {
            matches!(
                note.why,
                Reason::LeftOut(LeftOut::CpuModeFailed { .. } | LeftOut::HostCpuFails { .. })
            )
        };
        let taken_back = plan.notes.not_done.iter().any(failed);
        let of_cpu = |kind: &String| [CPU_MODE, CPU_FEATURES, CPU_CACHE].contains(&kind.as_str());
        kinds.retain(|kind| !(taken_back && of_cpu(kind)));
        kinds.sort_by_key(|kind| KINDS.iter().position(|(_, name)| name == kind));
        kinds.dedup();
        Self {
            name: domain.name.clone(),
            kinds,
            plain: domain.cpu.as_ref().is_none_or(|cpu| cpu.features.is_empty()),
            ..Self::default()
        }
    }
}

/// Names the kind of a change by its path.
fn kind(path: &str) -> &'static str {
    let found = KINDS.iter().find(|(prefix, _)| path.starts_with(prefix));
    found.map_or("settings", |(_, kind)| kind)
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
    folder: AtomicDir,
    file: String,
    before: Option<String>,
}

/// Announces that a guest is about to be defined as `xml`, which virtfit made from `domain`.
///
/// # Errors
/// The guest has no UUID, or the record cannot be written.
pub(crate) fn announce(root: &HostFs, domain: &Domain, plan: &Plan, xml: &str) -> io::Result<Announced> {
    let uuid = uuid::normal(&domain.uuid).ok_or(io::ErrorKind::InvalidInput)?;
    let file = format!("{uuid}.json");
    let before = root.read_opt(format!("{FOLDER}/{file}"))?;
    let known = before.as_ref().and_then(|text| serde_json::from_str(text).ok());
    let untried = Untried {
        record: record_of(xml),
        ..Untried::of(known.as_ref(), domain, plan)
    };
    let folder = AtomicDir::new(root.path(FOLDER), 0o700);
    folder.write(&file, &(serde_json::to_string(&untried)? + "\n"))?;
    Ok(Announced { folder, file, before })
}

impl Announced {
    /// Takes the announcement back, as the guest was not defined.
    pub(crate) fn take_back(&self) {
        let done = match &self.before {
            Some(before) => self.folder.write(&self.file, before),
            None => self.folder.remove(&self.file).map(drop),
        };
        if let Err(error) = done {
            log::debug!("{}/{}: {error}", self.folder.path().display(), self.file);
        }
    }
}
