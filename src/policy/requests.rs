//! Permission for the profile that a guest asks for in its own XML (`requests`).
//!
//! The writer of a guest's XML is not trusted. So the default, `"safe"`, grants a request only if
//! the profile takes no more from the host and from other guests than the profile that the rules
//! give this guest. Where no rule matches, the rules give nothing: the guest may ask for a profile
//! that takes nothing (`local` is one, `fit` is not).

use std::collections::BTreeSet;

use crate::policy::Policy;
use crate::policy::profile::{
    CoreKind, Cpus, Emulator, Hotplug, Hugepages, IothreadCount, IothreadCpus, MaxNodes, MemoryMode, Numa,
    OnNoFit, Profile, Smt, VcpuList,
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

/// Names the first resource of which `asked` takes more than `ruled`; `None` for `ruled`: the guest
/// is left alone. A guest that is left alone still has what its XML says, one CPU for each thread
/// that is pinned by hand: `off` may always be asked for, so this much is never denied.
fn more_than(asked: &Profile, ruled: Option<&Profile>) -> Option<&'static str> {
    // Each key is named here, so that a new one does not compile before it is decided on.
    let Profile {
        name: _,
        off: _,
        description: _,
        cpus,
        dedicated_vcpus,
        smt,
        core_kind,
        hotplug,
        // The guest's own sight.
        topology: _,
        max_sockets: _,
        // Cells and bindings keep nothing from others, but by `memory_mode`.
        numa,
        max_nodes,
        max_llcs,
        cpu_mode: _,
        hugepages,
        memory_mode,
        locked,
        emulator,
        iothread_count,
        iothreads_per_disk,
        iothread_cpus,
        // Devices and features are what the author of the XML can write without virtfit, too.
        disk: _,
        net_queues: _,
        realtime,
        hint_dedicated: _,
        poll_control: _,
        hyperv: _,
        pmu: _,
        tsc_deadline: _,
        cache: _,
        no_memballoon: _,
        // Chooses nodes, and takes no more of them.
        pci_numa: _,
        keep_guest_visible: _,
        on_no_fit,
        override_existing,
    } = asked;
    let by = |takes: fn(&Profile) -> bool| ruled.is_some_and(takes);
    let dedicates = asked.dedicates();
    let isolates = *iothread_cpus == IothreadCpus::Isolate;
    let huge = takes_huge_pages(asked);
    let strict = binds_strictly(*numa, *memory_mode);
    // Pins by hand of a guest with CPUs of its own hold all their CPUs, however many, and iothreads
    // by hand are as many as there are.
    let keeps_pins = (dedicates || isolates) && !override_existing;
    let keeps_emulator = dedicates && (!override_existing || *emulator == Emulator::Keep);
    // Each row: `asked` takes more of this than `ruled`, and the words for it. The rows on
    // amounts follow those on kinds: there, `ruled` takes of the same kind.
    let table: [(bool, &'static str); 18] = [
        // Real-time threads can starve the host. Only the rule's own profile may give them, which
        // `safe` has let pass already.
        (!realtime.vcpus.0.is_empty(), "gives real-time scheduling"),
        (dedicates && !by(Profile::dedicates), "gives CPUs of its own"),
        (
            dedicates && *smt == Smt::Isolate && !by(|ruled| ruled.dedicates() && ruled.smt == Smt::Isolate),
            "withholds CPUs from others",
        ),
        (
            *emulator == Emulator::Isolate && !by(|ruled| ruled.emulator == Emulator::Isolate),
            "gives its emulator a CPU of its own",
        ),
        (
            isolates && !by(|ruled| ruled.iothread_cpus == IothreadCpus::Isolate),
            "gives its iothreads CPUs of their own",
        ),
        (huge && !by(takes_huge_pages), "takes huge pages"),
        (*locked && !by(|ruled| ruled.locked), "locks its memory"),
        (
            *on_no_fit == OnNoFit::Refuse && !by(|ruled| ruled.on_no_fit == OnNoFit::Refuse),
            "may refuse to start",
        ),
        (
            strict && !by(|ruled| binds_strictly(ruled.numa, ruled.memory_mode)),
            "binds its memory strictly",
        ),
        (
            ruled.is_some_and(|ruled| more_vcpus((*cpus, dedicated_vcpus), ruled)),
            "gives more of its vCPUs a CPU of their own",
        ),
        (
            dedicates && *hotplug != Hotplug::Float && by(|ruled| ruled.hotplug == Hotplug::Float),
            "may give empty vCPU slots CPUs of their own",
        ),
        (
            keeps_pins && by(|ruled| ruled.override_existing),
            "keeps pins and iothreads written by hand",
        ),
        (
            keeps_emulator && by(|ruled| ruled.override_existing && ruled.emulator != Emulator::Keep),
            "keeps the emulator's pin written by hand",
        ),
        (
            dedicates && by(|ruled| ruled.core_kind == CoreKind::Slow) && *core_kind != CoreKind::Slow,
            "may give fast cores",
        ),
        (
            dedicates && *core_kind == CoreKind::Any && !by(|ruled| ruled.core_kind == CoreKind::Any),
            "may give cores of both kinds at once",
        ),
        (
            (dedicates || huge || strict)
                && ruled.is_some_and(|ruled| !spans_no_more(*max_nodes, ruled.max_nodes)),
            "may span more nodes",
        ),
        (
            dedicates && ruled.is_some_and(|ruled| !fewer_caches(*max_llcs, ruled.max_llcs)),
            "may span more last-level caches",
        ),
        (
            ruled.is_some_and(|ruled| !within(*hugepages, ruled.hugepages)),
            "may take huge pages of another size",
        ),
    ];
    let first = table.into_iter().find(|(more, _)| *more);
    let more_iothreads = isolates
        && ruled.is_some_and(|ruled| {
            !fewer(*iothread_count, ruled.iothread_count) || *iothreads_per_disk > ruled.iothreads_per_disk
        });
    first
        .map(|(_, what)| what)
        .or(more_iothreads.then_some("may give more iothreads a CPU of their own"))
}

/// Returns true if the profile may take huge pages.
fn takes_huge_pages(profile: &Profile) -> bool {
    !matches!(profile.hugepages, Hugepages::Off | Hugepages::Small)
}

/// Returns true if small pages are bound so that no other node can give them. With `auto` only huge
/// pages are, which are counted by themselves.
fn binds_strictly(numa: Numa, mode: MemoryMode) -> bool {
    numa != Numa::Off && matches!(mode, MemoryMode::Strict | MemoryMode::Restrictive)
}

/// Returns true if `cpus` and `dedicated_vcpus` of a profile may dedicate vCPUs that `ruled` lets
/// float; both dedicate some.
fn more_vcpus((cpus, vcpus): (Cpus, &VcpuList), ruled: &Profile) -> bool {
    match (cpus, ruled.cpus) {
        (Cpus::Dedicated, Cpus::Mixed) => true,
        (Cpus::Mixed, Cpus::Mixed) => *vcpus != ruled.dedicated_vcpus,
        _ => false,
    }
}

/// Returns true if a guest can never span more nodes by `asked` than by `ruled`. `auto` is one node
/// for a guest that one node can hold, and any number for a larger one.
fn spans_no_more(asked: MaxNodes, ruled: MaxNodes) -> bool {
    match (asked, ruled) {
        (MaxNodes::At(asked), MaxNodes::At(ruled)) => asked <= ruled,
        (MaxNodes::At(asked), MaxNodes::Auto) => asked <= 1,
        (MaxNodes::Auto, MaxNodes::At(_)) => false,
        (MaxNodes::Auto, MaxNodes::Auto) => true,
    }
}

/// Returns true if `asked` allows no more last-level caches than `ruled`; 0 is any number.
fn fewer_caches(asked: u32, ruled: u32) -> bool {
    ruled == 0 || (asked != 0 && asked <= ruled)
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
        [profile.slow]\ncore_kind = \"slow\"\n[profile.fast]\ncore_kind = \"fast\"\n[profile.both]\ncore_kind = \"any\"\n\
        [profile.slots]\nhotplug = \"float\"\n[profile.hold]\nhotplug = \"hold\"\n[profile.over]\non_existing = \"override\"\n\
        [profile.over-keep]\ninherits = \"over\"\nemulator = \"keep\"\n[profile.over-io]\ninherits = \"local\"\non_existing = \"override\"\niothreads.cpus = \"isolate\"\n\
        [profile.keep-io]\ninherits = \"over-io\"\non_existing = \"keep\"\n[profile.strict]\nmemory_mode = \"strict\"\n\
        [profile.unbound]\nmemory_mode = \"off\"\n[profile.strict-local]\ninherits = \"local\"\nmemory_mode = \"restrictive\"\n\
        [profile.node]\nmax_nodes = 1\n[profile.nodes]\nmax_nodes = 2\n[profile.cache]\nmax_llcs = 1\n[profile.caches]\nmax_llcs = 2\n";

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
            ("both", "fit", "both kinds at once"),
            ("fit", "both", ""),
            ("fit", "slots", "empty vCPU slots"),
            ("hold", "slots", "empty vCPU slots"),
            ("hold", "fit", ""),
            ("slots", "hold", ""),
            ("fit", "over", "pins and iothreads written by hand"),
            ("over-keep", "over", "the emulator's pin"),
            ("keep-io", "over-io", "pins and iothreads written by hand"),
            ("over", "over-keep", ""),
            ("over", "fit", ""),
            ("local", "over", ""),
            ("strict", "unbound", "binds its memory strictly"),
            ("strict", "fit", "binds its memory strictly"),
            ("strict-local", "", "binds its memory strictly"),
            ("unbound", "strict", ""),
            ("fit", "strict", ""),
            ("nodes", "node", "more nodes"),
            ("fit", "nodes", "more nodes"),
            ("nodes", "fit", "more nodes"),
            ("node", "nodes", ""),
            ("node", "fit", ""),
            ("caches", "cache", "last-level caches"),
            ("fit", "caches", "last-level caches"),
            ("cache", "caches", ""),
            ("local", "cache", ""),
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
