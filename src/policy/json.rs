//! Policy as JSON: `virtfit policy check|show --json` and `virtfit profile list|show --json`
//! (`docs/policy.md`, section "As JSON"). Keys are added and never changed.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::policy::keys::{HOST, PROFILE};
use crate::policy::load::{Files, PolicyFile, State};
use crate::policy::merge::{Draft, Origin, chain};
use crate::policy::select::{UnknownProfile, unknown};
use crate::policy::show::{alias_of, host_origin, is_changed};
use crate::policy::source::{Place, PolicyErrors, Problem};
use crate::policy::value::{Scalar, size_text};
use crate::policy::{Policy, Profile};

/// Version of the form of all these objects.
const VERSION: u32 = 1;

/// Result of `policy check`.
#[derive(Debug, Serialize)]
pub(crate) struct Check {
    version: u32,
    /// Digest of the policy; `None` where it has errors.
    digest: Option<String>,
    files: Vec<File>,
    errors: Vec<Error>,
    warnings: Vec<String>,
}

#[derive(Debug, Serialize)]
struct File {
    path: String,
    state: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    masked_by: Option<String>,
}

#[derive(Debug, Serialize)]
struct Error {
    file: String,
    /// Line and column in characters, both from 1; none where the whole file is the problem.
    line: Option<usize>,
    column: Option<usize>,
    message: String,
    next: Option<String>,
    also: Option<Also>,
}

#[derive(Debug, Serialize)]
struct Also {
    what: String,
    file: String,
    line: usize,
    column: usize,
}

impl From<&PolicyFile> for File {
    fn from(file: &PolicyFile) -> Self {
        let (state, masked_by) = match &file.state {
            State::Used(_) => ("used", None),
            State::Masked(by) => ("masked", Some(by.clone())),
            State::Removed => ("off", None),
            State::Unreadable(_) => ("unreadable", None),
        };
        Self {
            path: file.path.clone(),
            state,
            masked_by,
        }
    }
}

impl From<&Problem> for Error {
    fn from(problem: &Problem) -> Self {
        let also = problem.also.as_deref().map(|(what, place)| Also {
            what: what.clone(),
            file: place.path().into(),
            line: place.line(),
            column: place.column(),
        });
        Self {
            file: problem.path.clone(),
            line: problem.place.as_ref().map(Place::line),
            column: problem.place.as_ref().map(Place::column),
            message: problem.message.clone(),
            next: problem.next.clone(),
            also,
        }
    }
}

impl Check {
    /// Returns what a check of these files found.
    pub(crate) fn of(files: &Files, policy: Result<&Policy, &PolicyErrors>, warnings: Vec<String>) -> Self {
        let errors = policy.err().map(|errors| errors.0.iter().map(Error::from));
        Self {
            version: VERSION,
            digest: policy.ok().map(|policy| policy.digest.clone()),
            files: files.files.iter().map(File::from).collect(),
            errors: errors.map(Iterator::collect).unwrap_or_default(),
            warnings,
        }
    }
}

/// Merged policy.
#[derive(Debug, Serialize)]
pub(crate) struct Shown<'a> {
    version: u32,
    digest: &'a str,
    host: BTreeMap<&'static str, Value>,
    reserved_hugepages: BTreeMap<String, u64>,
    profiles: Vec<Listed<'a>>,
    rules: Vec<Rule<'a>>,
}

/// Value of a key, and the place it is from: `built-in` or `file:line`.
#[derive(Debug, Serialize)]
struct Value {
    value: Scalar,
    from: String,
}

#[derive(Debug, Serialize)]
struct Rule<'a> {
    r#match: BTreeMap<&'static str, Scalar>,
    profile: &'a str,
    from: String,
}

/// Profile with every key, those it inherits included.
#[derive(Debug, Serialize)]
pub(crate) struct Listed<'a> {
    name: &'a str,
    alias: Option<&'static str>,
    inherits: Option<&'a str>,
    description: &'a str,
    /// The guest is left alone; no key has an effect.
    off: bool,
    /// A policy file gives the profile, or changes a key of it.
    changed: bool,
    /// Places of its sections in policy files.
    sections: Vec<String>,
    keys: BTreeMap<&'static str, Value>,
}

/// All profiles.
#[derive(Debug, Serialize)]
pub(crate) struct Profiles<'a> {
    version: u32,
    profiles: Vec<Listed<'a>>,
}

/// One profile.
#[derive(Debug, Serialize)]
pub(crate) struct One<'a> {
    version: u32,
    #[serde(flatten)]
    profile: Listed<'a>,
}

impl<'a> Shown<'a> {
    /// Returns the merged policy.
    pub(crate) fn of(policy: &'a Policy) -> Self {
        let host = HOST.iter().map(|key| {
            let value = Value {
                value: (key.get)(&policy.host),
                from: host_origin(policy, key.path),
            };
            (key.path, value)
        });
        let pages = policy.host.reserved_hugepages.iter();
        let rules = policy.rules.iter().map(|rule| Rule {
            r#match: rule.matches.given().into_iter().collect(),
            profile: &rule.profile,
            from: rule.place.to_string(),
        });
        Self {
            version: VERSION,
            digest: &policy.digest,
            host: host.collect(),
            reserved_hugepages: pages.map(|(size, count)| (size_text(*size), *count)).collect(),
            profiles: all(policy),
            rules: rules.collect(),
        }
    }
}

impl<'a> Profiles<'a> {
    /// Returns all profiles of a policy.
    pub(crate) fn of(policy: &'a Policy) -> Self {
        Self {
            version: VERSION,
            profiles: all(policy),
        }
    }
}

impl<'a> One<'a> {
    /// Returns the profile of this name or alias.
    ///
    /// # Errors
    /// No profile or alias has that name.
    pub(crate) fn of(policy: &'a Policy, name: &str) -> Result<Self, UnknownProfile> {
        let profile = policy.profile(name).ok_or_else(|| unknown(policy, name))?;
        let draft = policy.origins.profiles.get(&profile.name);
        let draft = draft.ok_or_else(|| unknown(policy, name))?;
        Ok(Self {
            version: VERSION,
            profile: listed(policy, profile, draft),
        })
    }
}

fn all(policy: &Policy) -> Vec<Listed<'_>> {
    let drafts = policy.origins.profiles.iter();
    let profiles = drafts.filter_map(|(name, draft)| Some((policy.profiles.get(name)?, draft)));
    profiles
        .map(|(profile, draft)| listed(policy, profile, draft))
        .collect()
}

fn listed<'a>(policy: &'a Policy, profile: &'a Profile, draft: &'a Draft) -> Listed<'a> {
    let chain = chain(&profile.name, &policy.origins.profiles);
    let keys = PROFILE.iter().filter(|key| key.path != "description").map(|key| {
        let given = chain.iter().find_map(|(_, draft)| draft.keys.get(key.path));
        let value = Value {
            value: (key.get)(profile),
            from: given.map_or_else(|| Origin::BuiltIn.to_string(), |(_, origin)| origin.to_string()),
        };
        (key.path, value)
    });
    Listed {
        name: &profile.name,
        alias: alias_of(policy, &profile.name),
        inherits: draft.inherits.as_ref().map(|(parent, _)| parent.as_str()),
        description: &profile.description,
        off: profile.off,
        changed: is_changed(draft),
        sections: match is_changed(draft) {
            true => draft.sections.iter().map(ToString::to_string).collect(),
            false => Vec::new(),
        },
        keys: keys.collect(),
    }
}
