//! Checks of the whole policy: errors that no single key shows.

use std::collections::{BTreeMap, BTreeSet};

use crate::policy::builtin::BASE;
use crate::policy::merge::{Draft, Origin, Origins};
use crate::policy::profile::Cpus;
use crate::policy::source::{Place, Problem, printable};
use crate::policy::{HostPolicy, Profile, SetRule};
use crate::types::idset::CpuSet;

/// Reports CPUs that stand in two of the three sets of `[host]`. Only sets given as lists are
/// compared; the other forms are chosen so that they do not overlap.
pub(crate) fn overlaps(host: &HostPolicy, origins: &Origins, problems: &mut Vec<Problem>) {
    let explicit = [
        ("housekeeping", &host.housekeeping),
        ("dedicated", &host.dedicated),
        ("shared", &host.shared),
    ]
    .map(|(name, rule)| match (rule, origins.host.get(name)) {
        (SetRule::Cpus(cpus), Some(place)) => Some((name, cpus, place)),
        _ => None,
    });
    let explicit: Vec<(&str, &CpuSet, &Place)> = explicit.into_iter().flatten().collect();
    for (index, (name, cpus, place)) in explicit.iter().enumerate() {
        for (other, theirs, their_place) in explicit.iter().skip(index + 1) {
            let both = cpus.intersection(theirs);
            if !both.is_empty() {
                let noun = if both.len() == 1 { "CPU" } else { "CPUs" };
                let message = format!("{other} = \"{theirs}\": {noun} {both} also in {name}");
                problems.push(
                    Problem::at((*their_place).clone(), message)
                        .also(format!("{name} is given"), (*place).clone())
                        .next("a CPU is in one of the sets; take it out of the other"),
                );
            }
        }
    }
}

/// Reports profiles that inherit each other in a circle, one problem for each circle.
pub(crate) fn cycles(drafts: &BTreeMap<String, Draft>, problems: &mut Vec<Problem>) {
    let mut done: BTreeSet<&str> = BTreeSet::new();
    for start in drafts.keys() {
        let mut path: Vec<&str> = Vec::new();
        let mut on_path: BTreeSet<&str> = BTreeSet::new();
        let mut next = Some(start.as_str());
        while let Some(name) = next.filter(|name| !done.contains(name)) {
            if !on_path.insert(name) {
                let begin = path.iter().position(|seen| *seen == name).unwrap_or(0);
                problems.extend(circle(path.get(begin..).unwrap_or(&[]), drafts));
                break;
            }
            path.push(name);
            next = drafts
                .get(name)
                .and_then(|draft| draft.inherits.as_ref())
                .map(|(parent, _)| parent.as_str());
        }
        done.extend(path);
    }
}

fn circle(members: &[&str], drafts: &BTreeMap<String, Draft>) -> Option<Problem> {
    let place_of = |name: &&str| match drafts.get(*name).and_then(|draft| draft.inherits.as_ref()) {
        Some((_, Origin::File(place))) => Some(place.clone()),
        _ => None,
    };
    let first = members.iter().position(|name| place_of(name).is_some())?;
    let place = place_of(members.get(first)?)?;
    let mut order: Vec<&str> = members
        .iter()
        .cycle()
        .skip(first)
        .take(members.len())
        .copied()
        .collect();
    order.push(order.first()?);
    let next = if members.contains(&BASE) {
        "every profile comes from fit in the end; fit inherits nothing"
    } else {
        "let one of them inherit a profile outside the circle"
    };
    let message = format!(
        "profiles inherit each other in a circle: {}",
        printable(&order.join(" -> "))
    );
    Some(Problem::at(place, message).next(next))
}

/// Reports keys of a profile that contradict each other or have no effect. Each is reported once,
/// in the profile whose file gives it.
pub(crate) fn contradictions(
    profiles: &BTreeMap<String, Profile>,
    drafts: &BTreeMap<String, Draft>,
    problems: &mut Vec<Problem>,
) {
    for (name, profile) in profiles {
        let Some(draft) = drafts.get(name) else {
            continue;
        };
        // Only keys that a file gives are reported: a key of a built-in profile has no place to
        // point at.
        let own = |path: &str| match draft.keys.get(path) {
            Some((_, Origin::File(place))) => Some(place.clone()),
            _ => None,
        };
        let shown = printable(name);
        // Under `off` no key but the description has an effect.
        if profile.off {
            for path in draft.keys.keys().filter(|path| **path != "description") {
                if let Some(place) = own(path) {
                    let message =
                        format!("'{path}' has no effect: '{shown}' leaves the guest alone, as 'off' does");
                    problems.push(
                        Problem::at(place, message)
                            .next("take the key out, or inherit another profile than 'off'"),
                    );
                }
            }
            continue;
        }
        // `cpus = "mixed"` and `dedicated_vcpus` have no meaning without each other.
        let mixed = profile.cpus == Cpus::Mixed;
        let none = profile.dedicated_vcpus.0.is_empty();
        if mixed && none {
            if let Some(place) = own("cpus").or_else(|| own("dedicated_vcpus")) {
                problems.push(
                    Problem::at(
                        place,
                        format!("profile '{shown}': cpus = \"mixed\" needs dedicated_vcpus"),
                    )
                    .next("say which vCPUs are dedicated, for example dedicated_vcpus = \"^0\""),
                );
            }
        } else if !mixed
            && !none
            && let Some(place) = own("dedicated_vcpus")
        {
            problems.push(
                Problem::at(
                    place,
                    format!("profile '{shown}': dedicated_vcpus needs cpus = \"mixed\""),
                )
                .next("add cpus = \"mixed\", or take dedicated_vcpus out"),
            );
        }
    }
}
