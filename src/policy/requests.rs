//! Permission for the profile that a guest asks for in its own XML (`requests`).
//!
//! The writer of a guest's XML is not trusted. So the default, `"safe"`, grants a request only if
//! the profile takes no more from the host and from other guests than the profile that the rules
//! give this guest. Where no rule matches, the rules give nothing: the guest may ask for a profile
//! that takes nothing (`local` is one, `fit` is not).

use std::collections::BTreeSet;

use crate::policy::Policy;
use crate::policy::profile::{
    CoreKind, Cpus, Emulator, Hugepages, IothreadCount, IothreadCpus, OnNoFit, Profile, Smt,
};
use crate::policy::source::printable;
use crate::types::reason::Denied;

/// Profiles that guests may ask for (`requests`).
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requests {
    /// Profiles that take no more than the profile the rules give.
    Safe,
    /// Any profile.
    All,
    /// Profiles that leave the guest alone, such as `off`.
    None,
    /// Listed profiles, whatever the rules give; never empty. An alias counts as its profile.
    Named(BTreeSet<String>),
}

/// Decides on a request for the profile `asked` by a guest to which the rules give `ruled` (`None`:
/// no rule matches). A profile that leaves the guest alone is always permitted.
///
/// # Errors
/// The reason why the request is not granted.
pub(crate) fn permit(policy: &Policy, asked: &Profile, ruled: Option<&Profile>) -> Result<(), Denied> {
    if asked.off {
        return Ok(());
    }
    match &policy.host.requests {
        Requests::All => Ok(()),
        Requests::None => Err(Denied::NoRequests),
        Requests::Named(names) => {
            let mut named = names.iter().filter_map(|name| policy.profile(name));
            match named.any(|profile| profile.name == asked.name) {
                true => Ok(()),
                false => Err(Denied::NotListed),
            }
        }
        Requests::Safe => safe(asked, ruled),
    }
}

/// Permits a profile that takes no more than the one the rules give.
fn safe(asked: &Profile, ruled: Option<&Profile>) -> Result<(), Denied> {
    if ruled.is_some_and(|ruled| ruled.name == asked.name) {
        return Ok(());
    }
    // The other keys of a profile that leaves the guest alone have no effect: it gives the guest
    // nothing.
    let gives = ruled.filter(|ruled| !ruled.off);
    let Some(more) = more_than(asked, gives) else {
        return Ok(());
    };
    Err(Denied::TakesMore {
        more,
        ruled: ruled.map(|ruled| printable(&ruled.name)),
    })
}

/// Names the first resource that `asked` takes and `ruled` does not.
fn more_than(asked: &Profile, ruled: Option<&Profile>) -> Option<&'static str> {
    type Takes = fn(&Profile) -> bool;
    let realtime: Takes = |profile| !profile.realtime.vcpus.0.is_empty();
    // Real-time threads can starve the host. Only the rule's own profile may give them, which
    // `safe` has let pass already.
    if realtime(asked) {
        return Some("gives real-time scheduling");
    }
    // Each row: a profile that takes this resource, and the words for it.
    let table: [(Takes, &'static str); 7] = [
        (Profile::dedicates, "gives CPUs of its own"),
        (
            |profile| profile.dedicates() && profile.smt == Smt::Isolate,
            "withholds CPUs from others",
        ),
        (
            |profile| profile.emulator == Emulator::Isolate,
            "gives its emulator a CPU of its own",
        ),
        (
            |profile| profile.iothread_cpus == IothreadCpus::Isolate,
            "gives its iothreads CPUs of their own",
        ),
        (
            |profile| !matches!(profile.hugepages, Hugepages::Off | Hugepages::Small),
            "takes huge pages",
        ),
        (|profile| profile.locked, "locks its memory"),
        (
            |profile| profile.on_no_fit == OnNoFit::Refuse,
            "may refuse to start",
        ),
    ];
    let first = table
        .into_iter()
        .find(|(takes, _)| takes(asked) && !ruled.is_some_and(takes));
    if let Some((_, what)) = first {
        return Some(what);
    }
    // Both take this resource, but `asked` may take more of it.
    let ruled = ruled?;
    let more_vcpus = match (asked.cpus, ruled.cpus) {
        (Cpus::Dedicated, Cpus::Mixed) => true,
        (Cpus::Mixed, Cpus::Mixed) => asked.dedicated_vcpus != ruled.dedicated_vcpus,
        _ => false,
    };
    if more_vcpus {
        return Some("gives more of its vCPUs a CPU of their own");
    }
    let slow = |profile: &Profile| profile.core_kind == CoreKind::Slow;
    if asked.dedicates() && slow(ruled) && !slow(asked) {
        return Some("may give fast cores");
    }
    if !within(asked.hugepages, ruled.hugepages) {
        return Some("may take huge pages of another size");
    }
    let more_iothreads = asked.iothread_cpus == IothreadCpus::Isolate
        && !(fewer(asked.iothread_count, ruled.iothread_count)
            && asked.iothreads_per_disk <= ruled.iothreads_per_disk);
    more_iothreads.then_some("may give more iothreads a CPU of their own")
}

/// Returns true if `asked` can never give more iothreads than `ruled`.
fn fewer(asked: IothreadCount, ruled: IothreadCount) -> bool {
    match (asked, ruled) {
        (IothreadCount::At(asked), IothreadCount::At(ruled)) => asked <= ruled,
        (asked, ruled) => asked == ruled,
    }
}

/// Returns true if `asked` takes huge pages of no size that `ruled` cannot take.
fn within(asked: Hugepages, ruled: Hugepages) -> bool {
    match (asked, ruled) {
        (Hugepages::Off | Hugepages::Small, _) | (_, Hugepages::Any | Hugepages::Large) => true,
        (asked, ruled) => asked == ruled,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const PROFILES: &str = "[profile.huge-shared]\ncpus = \"shared\"\n[profile.locked]\nlocked = true\n\
        [profile.half]\ncpus = \"mixed\"\ndedicated_vcpus = \"0\"\n[profile.most]\ncpus = \"mixed\"\ndedicated_vcpus = \"^0\"\n\
        [profile.io]\niothreads = { count = 2, cpus = \"isolate\" }\n[profile.io9]\niothreads = { count = 9, cpus = \"isolate\" }\n\
        [profile.gib]\nhugepages = \"1G\"\n[profile.mib]\nhugepages = \"2M\"\n[profile.large]\nhugepages = \"large\"\n\
        [profile.small]\nhugepages = \"off\"\n[profile.none]\ninherits = \"off\"\n\
        [profile.slow]\ncore_kind = \"slow\"\n[profile.fast]\ncore_kind = \"fast\"\n";

    #[test]
    fn safe_gives_no_more_than_the_rule() {
        let policy = Policy::parse(PROFILES, "/p.toml").unwrap();
        // asked, of the rule ("": no rule), a piece of the reason ("": granted)
        for (asked, ruled, why) in [
            ("fit", "fit", ""),
            ("fit", "isolated", ""),
            ("pin", "fit", ""),
            ("local", "fit", ""),
            ("local", "shared", ""),
            ("local", "", ""),
            ("off", "", ""),
            ("none", "realtime", ""),
            ("realtime", "realtime", ""),
            ("isolated", "isolated", ""),
            ("half", "fit", ""),
            ("io", "io9", ""),
            (
                "fit",
                "shared",
                "CPUs of its own, which the profile of its rule, 'shared', does not",
            ),
            ("fit", "local", "CPUs of its own"),
            ("fit", "", "CPUs of its own, and no rule gives it a profile"),
            (
                "fit",
                "off",
                "CPUs of its own, which the profile of its rule, 'off'",
            ),
            ("fit", "half", "more of its vCPUs"),
            ("most", "half", "more of its vCPUs"),
            ("half", "shared", "CPUs of its own"),
            ("isolated", "fit", "withholds CPUs"),
            ("isolated", "", "CPUs of its own"),
            ("realtime", "isolated", "real-time"),
            ("realtime", "", "real-time"),
            ("shared", "local", "huge pages"),
            ("huge-shared", "", "huge pages"),
            ("locked", "fit", "locks its memory"),
            ("io", "fit", "its iothreads CPUs"),
            ("io9", "io", "more iothreads"),
            ("gib", "mib", "huge pages of another size"),
            ("mib", "gib", "huge pages of another size"),
            ("large", "mib", "huge pages of another size"),
            ("fit", "mib", "huge pages of another size"),
            ("mib", "small", "takes huge pages"),
            ("gib", "fit", ""),
            ("mib", "large", ""),
            ("large", "fit", ""),
            ("fit", "large", ""),
            ("small", "mib", ""),
            ("fast", "fit", ""),
            ("slow", "fast", ""),
            ("fit", "slow", "may give fast cores"),
            ("fast", "slow", "may give fast cores"),
        ] {
            let ruled = (!ruled.is_empty()).then(|| policy.profile(ruled).unwrap());
            let got = permit(&policy, policy.profile(asked).unwrap(), ruled);
            match got {
                Ok(()) => assert_eq!(why, "", "{asked} by {ruled:?}"),
                Err(got) => assert!(!why.is_empty() && got.to_string().contains(why), "{asked}: {got}"),
            }
        }
    }

    #[test]
    fn a_list_grants_what_it_names_and_aliases_stand_for_themselves() {
        let text = format!("[host]\nrequests = [\"vtune\", \"isolated\"]\n{PROFILES}");
        let policy = Policy::parse(&text, "/p.toml").unwrap();
        for (asked, granted) in [
            ("fit", true),
            ("isolated", true),
            ("off", true),
            ("local", false),
            ("realtime", false),
        ] {
            let got = permit(&policy, policy.profile(asked).unwrap(), None);
            assert_eq!(got.is_ok(), granted, "{asked}: {got:?}");
        }
        let empty = Policy::parse("[host]\nrequests = []\n", "/p.toml").unwrap();
        assert_eq!(empty.host.requests, Requests::None);
    }
}
