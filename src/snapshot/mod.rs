//! Snapshots: policy, host and ledger as read at one moment. Decisions are made from a snapshot and
//! from the guest itself.
//!
//! A process that decides often has a [`cache::SnapshotCache`], with three verbs: `current()`,
//! `under_lock()` and `unchanged(&snapshot)`. `docs/design.md`, section 8, says what is cached, by
//! what it is invalidated, and why that is safe.

pub mod cache;
pub(crate) mod decisions;

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::domain::Domain;
use crate::engine::{self, Decision, EngineError, Inputs, Question};
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

/// Sources of a snapshot.
#[derive(Debug, Clone, Default)]
pub struct Sources {
    /// Root below which the host is read.
    pub root: HostFs,
    /// Policy file instead of those in the host's folders.
    pub policy: Option<PathBuf>,
    /// hwloc XML file or synthetic line instead of the host's own topology.
    pub topology: Option<String>,
    /// The ledger is taken as empty.
    pub assume_empty: bool,
}

/// Everything that decisions have in common.
#[derive(Debug, Clone)]
pub struct Snapshot {
    /// Root below which the host is read.
    pub root: HostFs,
    /// Policy at that moment.
    pub policy: Arc<Policy>,
    /// Host at that moment.
    pub host: Arc<Host>,
    /// CPU sets of the policy on this host.
    pub sets: Arc<Sets>,
    /// Ledger at that moment, with the guests that run or are on autostart.
    pub reading: Arc<Reading>,
}

/// Reason why there is no snapshot.
#[derive(Debug, thiserror::Error)]
pub enum SnapshotError {
    /// All errors of the policy.
    #[error(transparent)]
    Policy(#[from] PolicyErrors),
    /// The host cannot be read.
    #[error(transparent)]
    Host(#[from] HostError),
    /// The ledger cannot be read.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
}

/// Guest's XML as it was read, with the facts about its devices and images.
#[derive(Debug)]
pub(crate) struct GuestRead<'t> {
    text: GuestText<'t>,
    facts: GuestFacts,
}

impl Sources {
    /// Returns the files of the policy. A topology alone has none.
    pub(crate) fn policy_files(&self) -> Files {
        match &self.policy {
            Some(file) => Files::named(&[file]),
            None if self.root.is_none() => Files::default(),
            None => Files::of(&self.root),
        }
    }

    /// Reads the ledger; the policy judges what definitions claim.
    ///
    /// # Errors
    /// The ledger cannot be read.
    fn ledger(&self, now: SystemTime, policy: &Policy) -> Result<Reading, LedgerError> {
        if self.root.is_none() || self.assume_empty {
            Ok(Reading::default())
        } else {
            reader::read(&self.root, now, policy)
        }
    }
}

impl Snapshot {
    /// Reads policy, host and ledger.
    ///
    /// # Errors
    /// One of them cannot be read.
    pub fn read(place: &Sources, now: SystemTime) -> Result<Self, SnapshotError> {
        let policy = place.policy_files().policy()?;
        Self::read_with(place, policy, now)
    }

    /// Reads host and ledger for a given policy.
    ///
    /// # Errors
    /// Host or ledger cannot be read.
    pub(crate) fn read_with(place: &Sources, policy: Policy, now: SystemTime) -> Result<Self, SnapshotError> {
        // Kept for hooks that find no daemon. A folder that stands for a host is left as it is.
        let keeps = place.topology.is_none() && place.root.is_real() && nix::unistd::geteuid().is_root();
        let host = match keeps {
            true => load_and_keep(&place.root)?,
            false => load::load(&place.root, place.topology.as_deref())?,
        };
        let reading = place.ledger(now, &policy)?;
        Ok(Self::new(place.root.clone(), policy, host, reading))
    }

    /// Builds a snapshot from its parts.
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

    /// Reads a guest's XML and what the host has of its devices and images.
    ///
    /// # Errors
    /// The text is no domain.
    pub(crate) fn read_guest<'t>(&self, xml: &'t str) -> Result<GuestRead<'t>, EngineError> {
        let text = GuestText::read(xml.into())?;
        let facts = guarded(|| gather::gather(&self.root, &self.host, &text.guest.domain))?;
        Ok(GuestRead { text, facts })
    }

    /// Decides for one guest, given its XML.
    ///
    /// # Errors
    /// The text is no domain, or the policy cannot be followed for it.
    pub fn decide(&self, xml: &str, ask: Question<'_>) -> Result<Decision, EngineError> {
        self.decide_read(&self.read_guest(xml)?, ask)
    }

    /// Decides for one guest that was read before.
    ///
    /// # Errors
    /// The policy cannot be followed for the guest.
    pub(crate) fn decide_read(
        &self,
        guest: &GuestRead<'_>,
        ask: Question<'_>,
    ) -> Result<Decision, EngineError> {
        self.decide_from(&guest.text, &guest.facts, ask)
    }

    /// Decides for one guest, given its parsed XML and the facts about its devices and images.
    ///
    /// # Errors
    /// The policy cannot be followed for the guest.
    fn decide_from(
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
            question: ask,
        };
        guarded(|| engine::decide_read(text, &inputs))?
    }

    /// Returns the part of the host that guests other than this one hold.
    pub(crate) fn taken(&self, domain: &Domain) -> Taken {
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
