//! The host, policy and ledger of one run, read once, and decisions made with them.

use std::path::PathBuf;
use std::time::SystemTime;

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::cli::input::Input;
use crate::cli::outcome::without_errno;
use crate::domain::{self, Domain};
use crate::engine::{self, Decision, Inputs};
use crate::host::{Host, gather, load};
use crate::ledger::read::{self, Reading};
use crate::ledger::{Taken, taken};
use crate::plan::{Plan, Scope, Verdict};
use crate::policy::{Files, Policy, PolicyErrors, Sets, sets};
use crate::root::Root;
use crate::xml::Document;

/// Where the host is read; [`Root::none`] where only a topology is given: an empty host without folders.
pub fn root(global: &Global) -> Root {
    match named_root(global) {
        Some(root) => Root::new(root),
        None if global.topology.is_some() => Root::none(),
        None => Root::default(),
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
    /// Where the host is read.
    pub root: Root,
    /// The policy.
    pub policy: Policy,
    /// The host.
    pub host: Host,
    /// The policy's sets on it.
    pub sets: Sets,
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
        self.decision.plan()
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
        let policy = load_policy(global, &root)?;
        let broken = |error: &dyn std::fmt::Display| Failure::Broken(without_errno(&error.to_string()));
        let host = load::load(&root, global.topology.as_deref()).map_err(|error| broken(&error))?;
        let sets = sets::resolve(&policy.host, &host);
        let reading = if root.is_none() || global.assume_empty {
            Reading::default()
        } else {
            read::read(&root, SystemTime::now()).map_err(|error| broken(&error))?
        };
        for warning in &reading.warnings {
            log::warn!("{warning}");
        }
        Ok(Self {
            root,
            policy,
            host,
            sets,
            reading,
        })
    }

    /// Decides for one guest.
    ///
    /// # Errors
    /// The text is no domain, or the policy cannot be followed for it.
    pub fn decide(&self, input: &Input, scope: Scope, profile: Option<&str>) -> Result<Decided, Failure> {
        let domain = parse(input)?;
        let facts = gather::gather(&self.root, &self.host, &domain);
        let inputs = Inputs {
            host: &self.host,
            policy: &self.policy,
            ledger: &self.reading.ledger,
            facts: &facts,
            scope,
            profile,
        };
        let decision =
            engine::decide(&input.text, &inputs).map_err(|error| Failure::at(&input.label, error))?;
        let decided = Decided { domain, decision };
        log::info!("{}", summary(decided.plan()));
        Ok(decided)
    }

    /// What others hold of the host, as a plan shows it.
    pub fn taken(&self, domain: &Domain) -> Taken {
        let (ledger, dedicated) = (&self.reading.ledger, &self.sets.dedicated);
        taken(
            ledger,
            &domain.uuid,
            &domain.name,
            &self.host,
            dedicated,
            &self.policy.host,
        )
    }
}

/// The policy of a run. A topology alone has no policy folders.
///
/// # Errors
/// Everything wrong in any file.
pub fn load_policy(global: &Global, root: &Root) -> Result<Policy, Failure> {
    policy_files(global, root)
        .policy()
        .map_err(|errors| Failure::Broken(policy_errors(&errors)))
}

/// Every error with the program's name before it (the first gets it when it is written).
pub fn policy_errors(errors: &PolicyErrors) -> String {
    let all: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    all.join("\nvirtfit: ")
}

/// The files of the policy of a run.
pub fn policy_files(global: &Global, root: &Root) -> Files {
    match (&global.policy, root.base()) {
        (Some(file), _) => Files::named(&[file]),
        (None, Some(base)) => Files::below(base),
        (None, None) => Files::default(),
    }
}

/// The guest's facts.
///
/// # Errors
/// The text is no domain.
pub fn parse(input: &Input) -> Result<Domain, Failure> {
    Document::parse(&input.text)
        .and_then(|document| domain::parse::parse(&document))
        .map_err(|error| Failure::at(&input.label, error))
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
