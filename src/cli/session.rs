//! Host, policy and ledger of one run, read once, and decisions made with them.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::SystemTime;

use crate::cli::args::Global;
use crate::cli::input::{Input, Source};
use crate::cli::{Failure, daemon_client};
use crate::domain::{self, Domain};
use crate::engine::{Decision, Question};
use crate::hook_events::lines::{Mood, summary};
use crate::host::FailedStarts;
use crate::hostfs::HostFs;
use crate::ledger::reader::Reading;
use crate::policy::{Policy, PolicyErrors, last_good};
use crate::snapshot::{Snapshot, SnapshotError, Sources};
use crate::status::PolicyRead;
use crate::types::plan::{Plan, Scope};
use crate::types::plural::counted;
use crate::types::shell_word::{file_word, shell_word};

/// Returns the root the host is read through; [`HostFs::none`] where only a topology is given: an
/// empty host without folders.
pub(crate) fn root(global: &Global) -> HostFs {
    match named_root(global) {
        Some(root) => HostFs::new(root),
        None if global.topology.is_some() => HostFs::none(),
        None => HostFs::default(),
    }
}

/// Returns the root as [`root`] does, for commands about the guests of a host.
///
/// # Errors
/// There is no host, only a topology.
pub(crate) fn host(global: &Global) -> Result<HostFs, Failure> {
    let root = root(global);
    if root.is_none() {
        return Err(Failure::Usage(
            "--topology alone is a host without guests: give --root".into(),
        ));
    }
    Ok(root)
}

/// Returns the root that was asked for, by `--root` or `VIRTFIT_ROOT`.
pub(crate) fn named_root(global: &Global) -> Option<PathBuf> {
    let from_environment = || std::env::var_os("VIRTFIT_ROOT").map(PathBuf::from);
    global
        .root
        .clone()
        .or_else(from_environment)
        .filter(|root| !root.as_os_str().is_empty())
}

/// Data that all decisions of one run share.
#[derive(Debug)]
pub(crate) struct Session {
    /// Policy, host and ledger.
    pub view: Snapshot,
    /// Result of reading the policy.
    pub policy: PolicyRead,
    /// First error of the policy's files, as a failure words it; empty: none.
    pub policy_errors: Vec<String>,
}

/// Decision, with the domain it was made for.
#[derive(Debug)]
pub(crate) struct Decided {
    /// Domain of the guest.
    pub domain: Domain,
    /// Decision of the engine.
    pub decision: Decision,
}

impl Decided {
    /// Names the input in the advice to revert it: a file or stdin is no guest's definition.
    pub(crate) fn of(mut self, source: &Source) -> Self {
        match source {
            Source::Guest(_) => {}
            Source::Stdin => self.decision.revert_by("virtfit revert -"),
            Source::File(path) => {
                let file = file_word(&path.to_string_lossy());
                self.decision.revert_by(&format!("virtfit revert {file}"));
            }
        }
        self
    }

    /// Returns the plan.
    pub(crate) fn plan(&self) -> &Plan {
        self.decision.plan()
    }

    /// Returns the new text, where there is one.
    pub(crate) fn xml(&self) -> Option<&str> {
        self.decision.xml()
    }
}

impl Session {
    /// Reads policy, host and ledger.
    ///
    /// # Errors
    /// Any of them cannot be read.
    pub(crate) fn open(global: &Global) -> Result<Self, Failure> {
        let place = place(global);
        let policy = place.policy_files().policy();
        let policy = policy.map_err(|errors| Failure::Broken(first_error(&errors, &place)))?;
        Self::with(&place, policy)
    }

    /// Reads as [`Session::open`] does, for commands that only show. Where the host's policy has
    /// errors, the last one without errors is used, otherwise, where `without` allows it, none.
    ///
    /// # Errors
    /// As of [`Session::open`], except errors of the host's policy where another one is used.
    pub(crate) fn open_to_show(global: &Global, without: bool) -> Result<Self, Failure> {
        let place = place(global);
        let PolicyToShow { policy, read, errors } = policy_to_show(&place);
        if read == PolicyRead::None && !(without && place.policy.is_none()) {
            return Err(Failure::Broken(errors));
        }
        let errors = Some(errors).filter(|errors| !errors.is_empty());
        Ok(Self {
            policy: read,
            policy_errors: errors
                .map(|errors| format!("virtfit: {}", errors.trim_end()))
                .into_iter()
                .collect(),
            ..Self::with(&place, policy)?
        })
    }

    fn with(place: &Sources, policy: Policy) -> Result<Self, Failure> {
        let asked = daemon_client::has_to(&place.root) && !place.assume_empty;
        let read = Sources {
            assume_empty: place.assume_empty || asked,
            ..place.clone()
        };
        let broken = |error: SnapshotError| Failure::Broken(error.to_string());
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
    pub(crate) fn decide(
        &self,
        input: &Input,
        scope: Scope,
        profile: Option<&str>,
    ) -> Result<Decided, Failure> {
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
        log::info!("{}", summary(decided.plan(), Mood::Would));
        Ok(decided)
    }
}

/// Asks the daemon for the ledger.
fn ledger(root: &HostFs) -> Result<Reading, Failure> {
    let said = daemon_client::ask(root, &["ledger"]).map_err(|error| {
        Failure::Broken(format!(
            "{}; --assume-empty plans as if no guest held anything",
            error.message()
        ))
    })?;
    serde_json::from_slice(&said).map_err(|error| Failure::at("virtfitd", format!("not a ledger: {error}")))
}

/// Asks the daemon for failed starts; none where it does not answer.
fn failed_starts(root: &HostFs) -> FailedStarts {
    let said = daemon_client::ask(root, &["failed-starts"]).ok();
    said.and_then(|said| serde_json::from_slice(&said).ok())
        .unwrap_or_default()
}

/// Returns the sources from which a run reads its host and policy.
pub(crate) fn place(global: &Global) -> Sources {
    Sources {
        root: root(global),
        policy: global.policy.clone(),
        topology: global.topology.clone(),
        assume_empty: global.assume_empty,
    }
}

/// Loads the policy of a run. A topology alone has no policy folders.
///
/// # Errors
/// Every error in any file.
pub(crate) fn load_policy(global: &Global) -> Result<Policy, Failure> {
    place(global)
        .policy_files()
        .policy()
        .map_err(|errors| Failure::Broken(policy_errors(&errors)))
}

/// Policy for commands that only show, whether or not its files have errors.
#[derive(Debug)]
pub(crate) struct PolicyToShow {
    /// Policy of the files; where they have errors, the last one without, otherwise the built-in
    /// one.
    pub policy: Policy,
    /// Result of reading the files.
    pub read: PolicyRead,
    /// First error of the files, as of [`first_error`]; empty: none.
    pub errors: String,
}

/// Reads the policy for commands that only show.
pub(crate) fn policy_to_show(place: &Sources) -> PolicyToShow {
    let errors = match place.policy_files().policy() {
        Ok(policy) => {
            return PolicyToShow {
                policy,
                read: PolicyRead::Whole,
                errors: String::new(),
            };
        }
        Err(errors) => first_error(&errors, place),
    };
    // A policy that was named is the one the user asks about.
    let last_good = match place.policy {
        Some(_) => None,
        None => last_good::load(&place.root).map(|(_, policy)| policy),
    };
    let (policy, read) = match last_good {
        Some(policy) => (policy, PolicyRead::LastGood),
        None => (Policy::builtin(), PolicyRead::None),
    };
    PolicyToShow { policy, read, errors }
}

/// Joins all errors with the program's name before each (the first gets it when it is written).
pub(crate) fn policy_errors(errors: &PolicyErrors) -> String {
    let all: Vec<String> = errors.0.iter().map(ToString::to_string).collect();
    all.join("\nvirtfit: ")
}

/// Words the first error, and how many more there are: all of them are long, and a command that is
/// not about the policy says them again each time.
fn first_error(errors: &PolicyErrors, place: &Sources) -> String {
    let first = errors.0.first().map(ToString::to_string).unwrap_or_default();
    let file = place.policy.as_deref().and_then(Path::to_str);
    let file = file.and_then(|file| shell_word(file, true));
    let file = file.map(|file| format!(" {file}")).unwrap_or_default();
    match errors.0.len().saturating_sub(1) {
        0 => first,
        more => format!(
            "{first}\nvirtfit: {}: virtfit policy check{file}",
            counted(more, "more error")
        ),
    }
}

/// Parses the domain of an input.
///
/// # Errors
/// The text is no domain.
pub(crate) fn parse(input: &Input) -> Result<Domain, Failure> {
    domain::parse::from_text(&input.text).map_err(|error| Failure::at(&input.label, error))
}
