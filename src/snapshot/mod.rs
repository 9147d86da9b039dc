//! Policy, host and ledger, read once: everything decisions are made from but the guest itself.

pub mod cache;
pub mod decisions;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::domain::Domain;
use crate::engine::{self, Decision, EngineError, Inputs, Keep};
use crate::host::cached::load_and_keep;
use crate::host::{Host, HostError, gather, load};
use crate::hostfs::HostFs;
use crate::ledger::guest_xml::GuestText;
use crate::ledger::reader;
use crate::ledger::reader::{LedgerError, Reading};
use crate::ledger::{Taken, taken};
use crate::panics::guarded;
use crate::policy::{Files, Policy, PolicyErrors, Sets, cpu_sets};
use crate::types::devices::GuestFacts;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;
use crate::types::plan::Scope;

/// Where a view is read.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// The host.
    pub root: HostFs,
    /// A policy file instead of the host's folders.
    pub policy: Option<PathBuf>,
    /// An hwloc XML file or a synthetic line instead of the host's own topology.
    pub topology: Option<String>,
    /// Nobody holds anything.
    pub assume_empty: bool,
}

/// Everything decisions share.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Where the host is read.
    pub root: HostFs,
    /// The policy.
    pub policy: Arc<Policy>,
    /// The host.
    pub host: Arc<Host>,
    /// The policy's sets on it.
    pub sets: Arc<Sets>,
    /// Who holds what.
    pub reading: Arc<Reading>,
}

/// Why there is no view.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// Everything wrong in the policy.
    #[error(transparent)]
    Policy(#[from] PolicyErrors),
    /// The host.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The ledger.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// How a decision is meant.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Question<'a> {
    /// The door.
    pub scope: Scope,
    /// A profile that beats rules and requests.
    pub profile: Option<&'a str>,
    /// What of the guest's earlier place stays.
    pub keep: Keep,
    /// Pins it had before it was redefined without them.
    pub earlier: Option<&'a BTreeMap<VcpuId, CpuSet>>,
    /// It is starting from this very XML: strict memory in it binds its CPUs to the same nodes.
    pub bound: bool,
}

impl Question<'_> {
    /// By rules and requests, keeping what is valid.
    pub fn of(scope: Scope) -> Self {
        Self {
            scope,
            profile: None,
            keep: Keep::Place,
            earlier: None,
            bound: false,
        }
    }
}

impl Sources {
    /// The policy's files. A topology alone has none.
    pub fn policy_files(&self) -> Files {
        match (&self.policy, self.root.base()) {
            (Some(file), _) => Files::named(&[file]),
            (None, Some(base)) => Files::below(base),
            (None, None) => Files::default(),
        }
    }

    /// Who holds what.
    ///
    /// # Errors
    /// It cannot be read.
    pub fn ledger(&self, now: SystemTime) -> Result<Reading, LedgerError> {
        if self.root.is_none() || self.assume_empty {
            Ok(Reading::default())
        } else {
            reader::read(&self.root, now)
        }
    }
}

impl Snapshot {
    /// Reads policy, host and ledger.
    ///
    /// # Errors
    /// Any of them cannot be read.
    pub fn read(place: &Sources, now: SystemTime) -> Result<Self, SnapshotError> {
        let policy = place.policy_files().policy()?;
        Self::read_with(place, policy, now)
    }

    /// As [`Snapshot::read`], with this policy.
    ///
    /// # Errors
    /// Host or ledger cannot be read.
    pub fn read_with(place: &Sources, policy: Policy, now: SystemTime) -> Result<Self, SnapshotError> {
        // For hooks, should no daemon run. A folder that stands for a host is left as it is.
        let keeps = place.topology.is_none() && place.root.is_real() && nix::unistd::geteuid().is_root();
        let host = match keeps {
            true => load_and_keep(&place.root)?,
            false => load::load(&place.root, place.topology.as_deref())?,
        };
        let reading = place.ledger(now)?;
        Ok(Self::new(place.root.clone(), policy, host, reading))
    }

    /// Puts what was read together.
    pub fn new(root: HostFs, policy: Policy, host: Host, reading: Reading) -> Self {
        let sets = cpu_sets::resolve(&policy.host, &host);
        Self {
            root,
            policy: Arc::new(policy),
            host: Arc::new(host),
            sets: Arc::new(sets),
            reading: Arc::new(reading),
        }
    }

    /// Decides for one guest.
    ///
    /// # Errors
    /// The text is no domain, or the policy cannot be followed for it.
    pub fn decide(&self, xml: &str, ask: Question<'_>) -> Result<Decision, EngineError> {
        let text = GuestText::read(xml.into())?;
        let facts = guarded(|| gather::gather(&self.root, &self.host, &text.guest.domain))?;
        self.decide_from(&text, &facts, ask)
    }

    /// As [`Snapshot::decide`], where the guest's XML was read, and its devices and images are
    /// known.
    ///
    /// # Errors
    /// As there.
    pub fn decide_from(
        &self,
        text: &GuestText<'_>,
        facts: &GuestFacts,
        ask: Question<'_>,
    ) -> Result<Decision, EngineError> {
        let inputs = Inputs {
            host: &self.host,
            policy: &self.policy,
            ledger: &self.reading.ledger,
            facts,
            scope: ask.scope,
            profile: ask.profile,
            keep: ask.keep,
            earlier: ask.earlier,
            bound: ask.bound,
        };
        guarded(|| engine::decide_read(text, &inputs))?
    }

    /// What others than this guest hold of the host.
    pub fn taken(&self, domain: &Domain) -> Taken {
        taken(
            &self.reading.ledger,
            &domain.uuid,
            &domain.name,
            &self.host,
            &self.sets.dedicated,
            &self.policy.host,
        )
    }
}
