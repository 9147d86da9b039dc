//! The host, policy and ledger of one run, read once, and decisions made with them.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use crate::cli::args::Global;
use crate::cli::input::Input;
use crate::cli::outcome::without_errno;
use crate::cli::{Failure, daemon_client};
use crate::domain::{self, Domain};
use crate::engine::Decision;
use crate::hook_events::lines::summary;
use crate::host::FailedStarts;
use crate::hostfs::HostFs;
use crate::ledger::reader::Reading;
use crate::policy::{Policy, PolicyErrors, last_good};
use crate::snapshot::{Question, Snapshot, SnapshotError, Sources};
use crate::status::PolicyRead;
use crate::types::plan::{Plan, Scope};

/// Where the host is read; [`HostFs::none`] where only a topology is given: an empty host without
/// folders.
pub fn root(global: &Global) -> HostFs {
    match named_root(global) {
        Some(root) => HostFs::new(root),
        None if global.topology.is_some() => HostFs::none(),
        None => HostFs::default(),
    }
}

/// As [`root`], for commands about the guests of a host.
///
/// # Errors
/// There is no host, only a topology.
pub fn host(global: &Global) -> Result<HostFs, Failure> {
    let root = root(global);
    if root.is_none() {
        return Err(Failure::Usage(
            "--topology alone is a host without guests: give --root".into(),
        ));
    }
    Ok(root)
}

/// The root that was asked for, by `--root` or `VIRTFIT_ROOT`.
pub fn named_root(global: &Global) -> Option<PathBuf> {
    let from_environment = || std::env::var_os("VIRTFIT_ROOT").map(PathBuf::from);
    global
        .root
        .clone()
        .or_else(from_environment)
        .filter(|root| !root.as_os_str().is_empty())
}

/// Everything decisions of one run share.
#[derive(Debug)]
pub struct Session {
    /// Policy, host and ledger.
    pub view: Snapshot,
    /// How the policy was read.
    pub policy: PolicyRead,
    /// What is wrong with its files, as a failure says it; empty: nothing.
    pub policy_errors: Vec<String>,
}

/// A decision, and what it was made from.
#[derive(Debug)]
pub struct Decided {
    /// The guest's facts.
    pub domain: Domain,
    /// What came of it.
    pub decision: Decision,
}

impl Decided {
    /// The plan.
    pub fn plan(&self) -> &Plan {
        self.decision.plan()
    }

    /// The new text, where there is one.
    pub fn xml(&self) -> Option<&str> {
        self.decision.xml()
    }
}

impl Session {
    /// Reads policy, host and ledger.
    ///
    /// # Errors
    /// Any of them cannot be read.
    pub fn open(global: &Global) -> Result<Self, Failure> {
        let place = place(global);
        let policy = place.policy_files().policy();
        let policy = policy.map_err(|errors| Failure::Broken(policy_errors(&errors)))?;
        Self::with(&place, policy)
    }

    /// As [`Session::open`], to show and not to change something: where the policy of the host has
    /// errors, the last one without is used, else, where `without` lets it, none.
    ///
    /// # Errors
    /// As there, but for the policy of the host.
    pub fn open_to_show(global: &Global, without: bool) -> Result<Self, Failure> {
        let place = place(global);
        let errors = match place.policy_files().policy() {
            Ok(policy) => return Self::with(&place, policy),
            Err(errors) => errors,
        };
        // A policy that was named is the one that is asked about.
        let last_good = match place.policy {
            Some(_) => None,
            None => last_good::load(&place.root),
        };
        let (policy, read) = match last_good {
            Some(policy) => (policy, PolicyRead::LastGood),
            None if without && place.policy.is_none() => (Policy::builtin(), PolicyRead::None),
            None => return Err(Failure::Broken(policy_errors(&errors))),
        };
        Ok(Self {
            policy: read,
            policy_errors: vec![format!("virtfit: {}", policy_errors(&errors).trim_end())],
            ..Self::with(&place, policy)?
        })
    }

    fn with(place: &Sources, policy: Policy) -> Result<Self, Failure> {
        let asked = daemon_client::has_to(&place.root) && !place.assume_empty;
        let read = Sources {
            assume_empty: place.assume_empty || asked,
            ..place.clone()
        };
        let broken = |error: SnapshotError| Failure::Broken(without_errno(&error.to_string()));
        let mut view = Snapshot::read_with(&read, policy, SystemTime::now()).map_err(broken)?;
        if asked {
            view.reading = Arc::new(ledger(&place.root)?);
            Arc::make_mut(&mut view.host).failed = failed_starts(&place.root);
        }
        for warning in &view.reading.warnings {
            log::warn!("{warning}");
        }
        Ok(Self {
            view,
            policy: PolicyRead::Whole,
            policy_errors: Vec::new(),
        })
    }

    /// Decides for one guest.
    ///
    /// # Errors
    /// The text is no domain, or the policy cannot be followed for it.
    pub fn decide(&self, input: &Input, scope: Scope, profile: Option<&str>) -> Result<Decided, Failure> {
        let ask = Question {
            profile,
            ..Question::of(scope)
        };
        let domain = parse(input)?;
        let decision = self
            .view
            .decide(&input.text, ask)
            .map_err(|error| Failure::at(&input.label, error))?;
        let decided = Decided { domain, decision };
        log::info!("{}", summary(decided.plan()));
        Ok(decided)
    }
}

/// Who holds what, from the daemon.
fn ledger(root: &HostFs) -> Result<Reading, Failure> {
    let said = daemon_client::ask(root, &["ledger"]).map_err(|error| {
        Failure::Broken(format!(
            "{}; --assume-empty plans as if no guest held anything",
            error.message()
        ))
    })?;
    serde_json::from_slice(&said).map_err(|error| Failure::at("virtfitd", format!("not a ledger: {error}")))
}

/// Starts that failed, from the daemon; none where it does not tell.
fn failed_starts(root: &HostFs) -> FailedStarts {
    let said = daemon_client::ask(root, &["failed-starts"]).ok();
    said.and_then(|said| serde_json::from_slice(&said).ok())
        .unwrap_or_default()
}

/// Where a run reads its host and policy.
pub fn place(global: &Global) -> Sources {
    Sources {
        root: root(global),
        policy: global.policy.clone(),
        topology: global.topology.clone(),
        assume_empty: global.assume_empty,
    }
}

/// The policy of a run. A topology alone has no policy folders.
///
/// # Errors
/// Everything wrong in any file.
pub fn load_policy(global: &Global) -> Result<Policy, Failure> {
    place(global)
        .policy_files()
        .policy()
        .map_err(|errors| Failure::Broken(policy_errors(&errors)))
}

/// Every error with the program's name before it (the first gets it when it is written).
pub fn policy_errors(errors: &PolicyErrors) -> String {
    let all: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    all.join("\nvirtfit: ")
}

/// The guest's facts.
///
/// # Errors
/// The text is no domain.
pub fn parse(input: &Input) -> Result<Domain, Failure> {
    domain::parse::from_text(&input.text).map_err(|error| Failure::at(&input.label, error))
}
