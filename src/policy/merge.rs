//! Merger of several policy files into one policy: settings key by key, later files over earlier
//! ones, and the checks that need all files.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use crate::policy::builtin::{ALIASES, BASE, BUILTINS, OFF};
use crate::policy::checks;
use crate::policy::fragment::{Fragment, ProfileFragment};
use crate::policy::keys;
use crate::policy::keys::{HOST, PROFILE};
use crate::policy::rule::Rule;
use crate::policy::source::{Place, Problem, printable};
use crate::policy::suggest::did_you_mean;
use crate::policy::value::{Scalar, quoted, size_text};
use crate::policy::{HostPolicy, Policy, Profile, Requests};
use crate::types::cpulist;
use crate::types::digest;
use crate::types::ids::{KiB, VcpuId};
use crate::types::idset::VcpuSet;

/// Position of a file in the order of precedence.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Tier {
    /// File of `/usr/lib/virtfit/policy.d`: settings first, rules last.
    Vendor,
    /// `/etc/virtfit/policy.toml`, or a file of `--policy`.
    Main,
    /// File of `/etc/virtfit/policy.d`.
    DropIn,
}

/// Source of a value.
#[derive(Debug, Clone)]
pub enum Origin {
    /// Built-in value that no file gives.
    BuiltIn,
    /// Place in a file.
    File(Place),
}

impl fmt::Display for Origin {
    /// Writes `built-in` or `file:line`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::BuiltIn => f.write_str("built-in"),
            Self::File(place) => fmt::Display::fmt(place, f),
        }
    }
}

/// Profile before inheritance: the keys that files, or the built-in table, give it directly.
#[derive(Debug, Clone)]
pub struct Draft {
    /// Place of the first file that names the profile, or built-in.
    pub origin: Origin,
    /// Headers of all sections that files have for the profile.
    pub sections: Vec<Place>,
    /// Canonical name of the profile that the other keys come from; `None` for `fit` alone.
    pub inherits: Option<(String, Origin)>,
    /// Keys given directly, each with its source.
    pub keys: BTreeMap<&'static str, (Scalar, Origin)>,
}

/// Sources of all values of a policy.
#[derive(Debug, Clone, Default)]
pub struct Origins {
    /// Places of the `[host]` keys that a file gives.
    pub host: BTreeMap<&'static str, Place>,
    /// Places of the page sizes in `reserved_hugepages`.
    pub reserved_hugepages: BTreeMap<KiB, Place>,
    /// All profiles before inheritance, by name.
    pub profiles: BTreeMap<String, Draft>,
}

/// Merges files given in the order in which their settings are applied (vendor, main, drop-ins,
/// each by name).
///
/// # Errors
/// All problems that only several files together show, after `problems`, those of the files
/// themselves. A `problems` that is not empty fails the merge by itself.
pub(crate) fn merge(files: &[(Tier, Fragment)], mut problems: Vec<Problem>) -> Result<Policy, Vec<Problem>> {
    // A file that could not be read may define profiles, so a missing profile is not reported then.
    let all_known = !files.iter().any(|(_, fragment)| fragment.broken);
    let (host, mut origins) = merge_host(files);
    checks::overlaps(&host, &origins, &mut problems);

    origins.profiles = drafts(files);
    let unknown = parents(&mut origins.profiles);
    checks::cycles(&origins.profiles, &mut problems);
    if all_known {
        problems.extend(unknown);
    }
    let profiles = resolve_all(&origins.profiles);
    checks::contradictions(&profiles, &origins.profiles, &mut problems);
    if all_known {
        unknown_requests(&host, &origins, &mut problems);
    }
    let rules = rules(files, &origins.profiles, all_known, &mut problems);
    if !problems.is_empty() {
        return Err(problems);
    }
    let digest = digest::of(&meaning(&host, &profiles, &rules));
    Ok(Policy {
        warnings: Vec::new(),
        host,
        profiles,
        rules,
        digest,
        origins,
        changed_at: None,
    })
}

/// Returns the profile a name stands for: the profile of that name, or else the target of the
/// alias.
pub(crate) fn canonical<'a, T>(name: &'a str, profiles: &BTreeMap<String, T>) -> Option<&'a str> {
    if profiles.contains_key(name) {
        return Some(name);
    }
    let target = ALIASES
        .iter()
        .find(|(alias, _)| *alias == name)
        .map(|(_, target)| *target);
    target.filter(|target| profiles.contains_key(*target))
}

/// Lists all names and aliases by which a profile can be given.
pub(crate) fn names<T>(profiles: &BTreeMap<String, T>) -> impl Iterator<Item = &str> {
    profiles
        .keys()
        .map(String::as_str)
        .chain(ALIASES.iter().map(|(alias, _)| *alias))
}

fn merge_host(files: &[(Tier, Fragment)]) -> (HostPolicy, Origins) {
    let mut host = HostPolicy::default();
    let mut origins = Origins::default();
    for (_, fragment) in files {
        for (path, given) in &fragment.host {
            let set = keys::find(HOST, path).map(|key| (key.set)(&mut host, &given.value));
            if set.is_some_and(|set| set.is_ok()) {
                origins.host.insert(path, given.place.clone());
            }
        }
        for (size, (count, place)) in &fragment.reserved_hugepages {
            host.reserved_hugepages.insert(*size, *count);
            origins.reserved_hugepages.insert(*size, place.clone());
        }
    }
    // `"2M" = 0` takes back the reservation of an earlier file.
    host.reserved_hugepages.retain(|_, count| *count > 0);
    (host, origins)
}

fn drafts(files: &[(Tier, Fragment)]) -> BTreeMap<String, Draft> {
    let mut drafts: BTreeMap<String, Draft> = BUILTINS
        .iter()
        .map(|builtin| {
            let description = std::iter::once(("description", Scalar::text(builtin.description)));
            let own = builtin
                .keys
                .iter()
                .map(|(path, value)| (*path, Scalar::from(*value)));
            let keys = description
                .chain(own)
                .map(|(path, value)| (path, (value, Origin::BuiltIn)))
                .collect();
            let draft = Draft {
                origin: Origin::BuiltIn,
                sections: Vec::new(),
                inherits: (builtin.name != BASE).then(|| (BASE.to_string(), Origin::BuiltIn)),
                keys,
            };
            (builtin.name.to_string(), draft)
        })
        .collect();
    for (_, fragment) in files {
        for (name, given) in &fragment.profiles {
            let draft = drafts.entry(name.clone()).or_insert_with(|| Draft {
                origin: Origin::File(given.place.clone()),
                sections: Vec::new(),
                inherits: Some((BASE.to_string(), Origin::BuiltIn)),
                keys: BTreeMap::new(),
            });
            amend(draft, given);
        }
    }
    drafts
}

fn amend(draft: &mut Draft, given: &ProfileFragment) {
    draft.sections.push(given.place.clone());
    if let Some((parent, place)) = &given.inherits {
        draft.inherits = Some((parent.clone(), Origin::File(place.clone())));
    }
    for (path, value) in &given.keys {
        draft
            .keys
            .insert(path, (value.value.clone(), Origin::File(value.place.clone())));
    }
}

/// Resolves every `inherits` to its canonical name. An unknown parent becomes a problem, and the
/// profile inherits the base.
fn parents(drafts: &mut BTreeMap<String, Draft>) -> Vec<Problem> {
    let mut problems = Vec::new();
    let known: BTreeMap<String, ()> = drafts.keys().map(|name| (name.clone(), ())).collect();
    for (name, draft) in drafts.iter_mut() {
        let Some((parent, origin)) = &mut draft.inherits else {
            continue;
        };
        if let Some(canonical) = canonical(parent, &known) {
            *parent = canonical.to_string();
            continue;
        }
        if let Origin::File(place) = origin {
            problems.push(no_profile(
                place.clone(),
                &format!("inherits = {}", quoted(&printable(parent))),
                parent,
                &known,
            ));
        }
        draft.inherits = (name != BASE).then(|| (BASE.to_string(), Origin::BuiltIn));
    }
    problems
}

/// Reports profiles that `requests` names and no file defines.
fn unknown_requests(host: &HostPolicy, origins: &Origins, problems: &mut Vec<Problem>) {
    let (Requests::Named(names), Some(place)) = (&host.requests, origins.host.get("requests")) else {
        return;
    };
    for name in names {
        if canonical(name, &origins.profiles).is_none() {
            let said = format!("requests names {}", quoted(&printable(name)));
            problems.push(no_profile(place.clone(), &said, name, &origins.profiles));
        }
    }
}

fn no_profile<T>(place: Place, said: &str, name: &str, profiles: &BTreeMap<String, T>) -> Problem {
    let hint = did_you_mean(name, names(profiles));
    let problem = Problem::at(place, format!("{said}: there is no such profile{hint}"));
    if hint.is_empty() {
        let names: Vec<&str> = profiles.keys().map(String::as_str).collect();
        return problem.next(crate::policy::text::wrapped(
            &format!("there are {}", printable(&names.join(", "))),
            2,
        ));
    }
    problem
}

/// Returns a profile and the profiles it inherits from, itself first. The list ends at the base, or
/// where a circle closes.
pub(crate) fn chain<'a>(name: &'a str, drafts: &'a BTreeMap<String, Draft>) -> Vec<(&'a str, &'a Draft)> {
    let mut out = Vec::new();
    let mut next = Some(name);
    while let Some((name, draft)) = next.and_then(|name| drafts.get(name).map(|draft| (name, draft))) {
        if out.len() > drafts.len() {
            break;
        }
        out.push((name, draft));
        next = draft.inherits.as_ref().map(|(parent, _)| parent.as_str());
    }
    out
}

/// Resolves all profiles to complete settings; profiles that inherit in a circle are left out.
fn resolve_all(drafts: &BTreeMap<String, Draft>) -> BTreeMap<String, Profile> {
    let mut done: BTreeMap<String, Profile> = BTreeMap::new();
    let mut endless: BTreeSet<&str> = BTreeSet::new();
    for start in drafts.keys() {
        let mut path: Vec<(&str, &Draft)> = Vec::new();
        let mut on_path: BTreeSet<&str> = BTreeSet::new();
        let mut next = Some(start.as_str());
        let mut closed = false;
        while let Some(name) = next.filter(|name| !done.contains_key(*name)) {
            closed = endless.contains(name) || !on_path.insert(name);
            let Some(draft) = drafts.get(name).filter(|_| !closed) else {
                break;
            };
            path.push((name, draft));
            next = draft.inherits.as_ref().map(|(parent, _)| parent.as_str());
        }
        if closed {
            endless.extend(on_path);
            continue;
        }
        // The walk went from child to parent; profiles are resolved from parent to child.
        for (name, draft) in path.into_iter().rev() {
            let parent = draft.inherits.as_ref().and_then(|(parent, _)| done.get(parent));
            let profile = resolve(name, draft, parent.cloned().unwrap_or_default());
            done.insert(name.to_string(), profile);
        }
    }
    done
}

/// Resolves one profile from its parent and its own keys. A description is not inherited, since the
/// parent's does not describe the child. A profile that leaves the guest alone has the defaults, as
/// none of its keys has an effect.
fn resolve(name: &str, draft: &Draft, parent: Profile) -> Profile {
    let off = parent.off || name == OFF;
    let mut profile = Profile {
        name: name.to_string(),
        off,
        description: String::new(),
        ..if off { Profile::default() } else { parent }
    };
    for (path, (value, _)) in &draft.keys {
        if let Some(key) = keys::find(PROFILE, path).filter(|_| !off || *path == "description") {
            // All values passed this function when they were read, so none can fail here.
            let _ = (key.set)(&mut profile, value);
        }
    }
    profile
}

fn rules(
    files: &[(Tier, Fragment)],
    drafts: &BTreeMap<String, Draft>,
    all_known: bool,
    problems: &mut Vec<Problem>,
) -> Vec<Rule> {
    let own = files.iter().filter(|(tier, _)| *tier != Tier::Vendor);
    let vendor = files.iter().filter(|(tier, _)| *tier == Tier::Vendor);
    let mut out = Vec::new();
    for rule in own.chain(vendor).flat_map(|(_, fragment)| &fragment.rules) {
        let Some((name, place)) = &rule.profile else {
            continue;
        };
        match canonical(name, drafts) {
            Some(profile) => out.push(Rule {
                matches: rule.matches.clone(),
                profile: profile.to_string(),
                place: rule.place.clone(),
            }),
            None if all_known => {
                let said = format!("profile = {}", quoted(&printable(name)));
                problems.push(no_profile(place.clone(), &said, name, drafts));
            }
            None => {}
        }
    }
    out
}

/// Writes a policy in canonical form, for its digest. Comments, files, the order of keys,
/// descriptions and spellings of a value have no part in it; the order of rules has.
fn meaning(host: &HostPolicy, profiles: &BTreeMap<String, Profile>, rules: &[Rule]) -> String {
    let mut out = String::new();
    for key in HOST {
        out.push_str(&format!("{} = {}\n", key.path, (key.get)(host)));
    }
    for (size, count) in &host.reserved_hugepages {
        out.push_str(&format!("{} = {count}\n", size_text(*size)));
    }
    for (name, profile) in profiles {
        out.push_str(&format!("[{}] {}\n", quoted(name), profile.off));
        for key in PROFILE.iter().filter(|key| key.path != "description") {
            if keys::is_as_before(key.path, &(key.get)(profile)) {
                continue;
            }
            let value = match ((key.get)(profile), key.path) {
                (Scalar::Text(list), "dedicated_vcpus" | "realtime.vcpus") => Scalar::Text(whole(&list)),
                (value, _) => value,
            };
            out.push_str(&format!("{} = {value}\n", key.path));
        }
    }
    for rule in rules {
        out.push_str(&format!(
            "rule {} {}\n",
            rule.matches.to_toml(),
            quoted(&rule.profile)
        ));
    }
    out
}

/// Writes a vCPU list out for the largest guest there can be: `^0` and `1-16383` mean the same.
fn whole(list: &str) -> String {
    if list == "all" || list.starts_with('^') {
        let all = VcpuSet::first_n(cpulist::MAX_ID + 1);
        return match list {
            "all" => all.to_string(),
            _ => cpulist::parse_within::<VcpuId>(list, &all)
                .map_or_else(|_| list.into(), |set| set.to_string()),
        };
    }
    list.to_string()
}
