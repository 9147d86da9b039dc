//! The host, policy and ledger of one run, read once, and decisions made with them.

use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::input::Input;
use crate::cli::outcome::io_text;
use crate::cli::pending::{self, Policy};
use crate::domain::Domain;
use crate::engine::{Decision, Inputs};
use crate::facts::GuestFacts;
use crate::host::Host;
use crate::ledger::read::{self, LedgerError, Reading};
use crate::plan::{Plan, Scope, Verdict};
use crate::xml::Document;

/// Where the host is read.
///
/// `None` where only a topology is given: an empty host without folders.
pub fn root(global: &Global) -> Option<PathBuf> {
    match named_root(global) {
        Some(root) => Some(root),
        None if global.topology.is_some() => None,
        None => Some(PathBuf::from("/")),
    }
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
    /// Where the host is read; `None`: a topology alone.
    pub root: Option<PathBuf>,
    /// The policy.
    pub policy: Policy,
    /// The host.
    pub host: Host,
    /// Who holds what.
    pub reading: Reading,
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
        match &self.decision {
            Decision::Unchanged(plan) | Decision::Tuned { plan, .. } | Decision::Refused(plan) => plan,
        }
    }

    /// The new text, where there is one.
    pub fn xml(&self) -> Option<&str> {
        match &self.decision {
            Decision::Tuned { xml, .. } => Some(xml),
            Decision::Unchanged(_) | Decision::Refused(_) => None,
        }
    }
}

impl Session {
    /// Reads policy, host and ledger.
    ///
    /// # Errors
    /// Any of them cannot be read.
    pub fn open(global: &Global) -> Result<Self, Failure> {
        let root = root(global);
        let policy =
            pending::load_policy(root.as_deref(), global.policy.as_deref()).map_err(Failure::Broken)?;
        let host_root = root.as_deref().unwrap_or(Path::new("/"));
        let host = pending::load_host(host_root, global.topology.as_deref()).map_err(Failure::Broken)?;
        let reading = match &root {
            Some(root) if !global.assume_empty => read_ledger(root)?,
            _ => Reading::default(),
        };
        for warning in &reading.warnings {
            log::warn!("{warning}");
        }
        Ok(Self {
            root,
            policy,
            host,
            reading,
        })
    }

    /// Decides for one guest.
    ///
    /// # Errors
    /// The text is no domain, or the policy cannot be followed for it.
    pub fn decide(&self, input: &Input, scope: Scope, profile: Option<&str>) -> Result<Decided, Failure> {
        let domain = parse(input)?;
        let facts = self.facts(&domain);
        let inputs = Inputs {
            host: &self.host,
            policy: &crate::policy::Policy::builtin(),
            ledger: &self.reading.ledger,
            facts: &facts,
            scope,
            profile,
        };
        let decision =
            pending::decide(&input.text, &inputs).map_err(|error| Failure::at(&input.label, error))?;
        let decided = Decided { domain, decision };
        log::info!("{}", summary(decided.plan()));
        Ok(decided)
    }

    fn facts(&self, domain: &Domain) -> GuestFacts {
        let Some(root) = &self.root else {
            return GuestFacts::default();
        };
        GuestFacts {
            autostart: self.reading.autostart.contains(&domain.name),
            running: domain.running || self.reading.running.contains(&domain.name),
            ..pending::gather_facts(root, domain, &self.host)
        }
    }
}

/// The guest's facts.
///
/// # Errors
/// The text is no domain.
pub fn parse(input: &Input) -> Result<Domain, Failure> {
    Document::parse(&input.text)
        .and_then(|document| pending::parse_domain(&document))
        .map_err(|error| Failure::at(&input.label, error))
}

fn read_ledger(root: &Path) -> Result<Reading, Failure> {
    read::read(root, SystemTime::now()).map_err(|error| {
        let (path, source, hint) = match &error {
            LedgerError::Denied { path, source } => (path, source, ": run as root, or --assume-empty"),
            LedgerError::Io { path, source } => (path, source, ""),
        };
        Failure::Broken(format!(
            "cannot read who holds what: {}: {}{hint}",
            path.display(),
            io_text(source)
        ))
    })
}

/// One line: `db: tuned by fit, 12 changes`.
pub fn summary(plan: &Plan) -> String {
    let by = match &plan.profile {
        Some(profile) => format!(" by {profile}"),
        None => String::new(),
    };
    let tail = match plan.verdict {
        Verdict::Tuned => format!(", {} changes", plan.changes.len()),
        Verdict::Unchanged if plan.profile.is_none() => ", no rule matches".to_string(),
        Verdict::Unchanged => String::new(),
        Verdict::Refused => format!(": {}", plan.reasons.join("; ")),
    };
    format!("{}: {}{by}{tail}", plan.guest, verdict(plan.verdict))
}

/// As the JSON has it.
pub fn verdict(verdict: Verdict) -> &'static str {
    match verdict {
        Verdict::Tuned => "tuned",
        Verdict::Unchanged => "unchanged",
        Verdict::Refused => "refused",
    }
}
