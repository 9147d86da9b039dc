//! Readiness of a host: what keeps its guests from what their profiles promise, and what mends it.
//!
//! ```text
//!  table (one row a check: id, group, who, source) ─┐
//!  facts (files through the one root path) ─────────┼─► Finding a profile ─► Report ─► render, JSON
//!  policy's profiles ───────────────────────────────┘
//! ```
//! A check is a pure function of the facts and of one profile. It passes only if it has read
//! something; what this host does not have is not known, never a pass. `docs/checks.md` lists all
//! checks.

mod cpus;
mod devices;
mod facts;
mod finding;
mod interrupts;
mod isolation;
mod kernel_memory;
mod libvirt;
mod mend;
mod pages;
mod pages_at_start;
mod power;
mod realtime;
mod table;
mod versions;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use serde::Serialize;

use crate::policy::{Policy, Profile, builtin};
use crate::snapshot::Snapshot;
use crate::status::Found;

use facts::Facts;
pub(crate) use finding::{Finding, Verdict};
pub(crate) use table::Group;
use table::{CHECKS, Check, Who};

/// Version of the format; there is only one.
const VERSION: u32 = 1;

/// Answer of all checks on one host.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Report {
    /// Version of the format, [`VERSION`].
    pub version: u32,
    /// No check fails.
    pub ok: bool,
    /// Profiles that the checks below are for: those of the policy's rules, or the one asked for.
    pub profiles: Vec<String>,
    /// Every profile that does something, with the checks that are against it.
    pub ready: Vec<Readiness>,
    /// Checks that matter to `profiles`, by group.
    pub checks: Vec<Checked>,
}

/// Readiness of the host for one profile.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Readiness {
    /// Profile's name.
    pub profile: String,
    /// Checks that fail.
    pub fails: Vec<&'static str>,
    /// Checks that warn.
    pub warns: Vec<&'static str>,
}

/// Check with its finding.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct Checked {
    /// Name that does not change.
    pub id: &'static str,
    /// Part of the host.
    pub group: Group,
    /// Worst finding for the profiles it matters to.
    #[serde(flatten)]
    pub finding: Finding,
    /// Profiles for which the finding holds.
    pub profiles: Vec<String>,
    /// Source of the rule.
    pub source: &'static str,
}

/// Checks the host of a snapshot for one profile, or for those in use. `knows_guests`: definitions
/// can be read.
pub(crate) fn report(view: &Snapshot, found: Found, knows_guests: bool, asked: Option<&Profile>) -> Report {
    let facts = Facts::gather(view, found, knows_guests);
    let shown = match asked {
        Some(profile) => BTreeSet::from([profile.name.clone()]),
        None => in_use(&facts),
    };
    let mut ready = Vec::new();
    // Findings of each check, by its place in the table: several profiles mostly have one.
    let mut findings: BTreeMap<usize, Vec<(Finding, Vec<String>)>> = BTreeMap::new();
    for profile in view.policy.profiles.values().filter(|profile| !profile.off) {
        let mut readiness = Readiness {
            profile: profile.name.clone(),
            fails: Vec::new(),
            warns: Vec::new(),
        };
        for (index, check) in CHECKS.iter().enumerate() {
            if !matters(check, &facts, profile) {
                continue;
            }
            let finding = (check.run)(&facts, profile);
            match finding.verdict {
                Verdict::Fail => readiness.fails.push(check.id),
                Verdict::Warn => readiness.warns.push(check.id),
                Verdict::Pass | Verdict::Info => {}
            }
            if !shown.contains(&profile.name) {
                continue;
            }
            let all = findings.entry(index).or_default();
            match all.iter_mut().find(|(known, _)| *known == finding) {
                Some((_, profiles)) => profiles.push(profile.name.clone()),
                None => all.push((finding, vec![profile.name.clone()])),
            }
        }
        ready.push(readiness);
    }
    let checks: Vec<Checked> = findings
        .into_iter()
        .filter_map(|(index, all)| {
            let check = CHECKS.get(index)?;
            let (finding, profiles) = all.into_iter().max_by_key(|(finding, _)| finding.weight())?;
            Some(Checked {
                id: check.id,
                group: check.group,
                finding,
                profiles,
                source: check.source,
            })
        })
        .collect();
    Report {
        version: VERSION,
        ok: checks.iter().all(|check| check.finding.verdict != Verdict::Fail),
        profiles: shown.into_iter().collect(),
        ready,
        checks,
    }
}

/// Returns the profiles that rules or guests name; the base profile where there are none.
fn in_use(facts: &Facts<'_>) -> BTreeSet<String> {
    let policy: &Policy = &facts.view.policy;
    let ruled = policy
        .rules
        .iter()
        .filter_map(|rule| policy.profile(&rule.profile));
    let guests = facts
        .guests
        .iter()
        .filter_map(|guest| policy.profile(guest.profile.as_deref()?));
    let mut names: BTreeSet<String> = ruled
        .chain(guests)
        .filter(|profile| !profile.off)
        .map(|profile| profile.name.clone())
        .collect();
    if names.is_empty() {
        names.insert(builtin::BASE.into());
    }
    names
}

/// Returns whether a check says something about a profile.
fn matters(check: &Check, facts: &Facts<'_>, profile: &Profile) -> bool {
    check.who.iter().any(|who| match who {
        Who::All => true,
        Who::HugePages => facts::wants_pages(profile),
        Who::RealTime => facts::is_realtime(profile),
        Who::OwnCpus => profile.dedicates(),
        Who::Devices => facts.has_passthrough(),
    })
}
