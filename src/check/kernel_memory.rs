//! Checks of the kernel's memory management.

use std::collections::BTreeSet;

use crate::check::facts::{Facts, is_realtime};
use crate::check::finding::Finding;
use crate::check::mend::{sysctl, write_at_boot};
use crate::check::pages::free_memory;
use crate::policy::Profile;
use crate::policy::profile::{Hugepages, MemoryMode, Numa};
use crate::types::ids::NodeId;
use crate::types::plural::{counted, join};

const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const KSM: &str = "/sys/kernel/mm/ksm";

/// Returns the word in brackets: the choice of a file like `always [madvise] never`.
pub(super) fn chosen(text: &str) -> Option<&str> {
    Some(text.split_once('[')?.1.split_once(']')?.0)
}

pub(super) fn thp(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let text = facts.text(THP);
    let Some(choice) = text.as_deref().and_then(chosen) else {
        return Finding::absent(THP);
    };
    let read = format!("{THP}: {choice}");
    let mend = || write_at_boot("thp", &[(THP, "madvise")]);
    // A size that is required leaves no guest on small pages.
    let small = !matches!(profile.hugepages, Hugepages::Large | Hugepages::Size(_));
    match choice {
        "never" if small => Finding::warn(
            read,
            "guests on small pages get none of the kernel's transparent huge pages",
        )
        .mend(mend()),
        "always" if is_realtime(profile) => {
            Finding::warn(read, "the kernel may stop any process to put its memory together").mend(mend())
        }
        _ => Finding::pass(
            read,
            "guests without huge pages of their own get transparent ones",
        ),
    }
}

pub(super) fn ksm(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let Some(run) = facts.number(&format!("{KSM}/run")) else {
        return Finding::unknown(format!("{KSM}/run is absent"));
    };
    let across = facts.number(&format!("{KSM}/merge_across_nodes")) == Some(1);
    let read = format!("{KSM}/run: {run}");
    if run != 1 {
        return Finding::pass(read, "pages of guests are not merged");
    }
    let nodes = facts.view.host.nodes.len();
    if is_realtime(profile) {
        return Finding::warn(read, "merged pages cost a fault at the next write: latency")
            .mend(write_at_boot("ksm", &[(&format!("{KSM}/run"), "2")]));
    }
    if across && nodes > 1 {
        let (run, across) = (format!("{KSM}/run"), format!("{KSM}/merge_across_nodes"));
        return Finding::warn(
            format!("{read}, merge_across_nodes: 1"),
            "pages are merged across nodes: a guest's memory may become remote",
        )
        .mend(write_at_boot("ksm", &[(&run, "2"), (&across, "0"), (&run, "1")]));
    }
    Finding::info(
        read,
        "pages of guests are merged, which costs time; guests with huge or locked pages are left out",
    )
}

pub(super) fn numa_balancing(facts: &Facts<'_>, profile: &Profile) -> Finding {
    const FILE: &str = "/proc/sys/kernel/numa_balancing";
    let Some(value) = facts.number(FILE) else {
        return Finding::absent(FILE);
    };
    let read = format!("kernel.numa_balancing = {value}");
    let bound = !matches!(profile.numa, Numa::Off) && !matches!(profile.memory_mode, MemoryMode::Off);
    let one_node = facts.view.host.nodes.len() <= 1;
    if value == 0 || one_node || !bound {
        return Finding::pass(
            read,
            "the kernel does not unmap guests' memory to see where it is used",
        );
    }
    Finding::warn(read, "the kernel unmaps memory again and again to see who uses it, also that of guests which are where they belong")
        .mend(sysctl("kernel.numa_balancing", "0"))
}

pub(super) fn zone_reclaim(facts: &Facts<'_>, _: &Profile) -> Finding {
    const FILE: &str = "/proc/sys/vm/zone_reclaim_mode";
    match facts.number(FILE) {
        None => Finding::absent(FILE),
        Some(0) => Finding::pass(
            "vm.zone_reclaim_mode = 0",
            "a full node takes memory from the next",
        ),
        Some(value) => Finding::warn(
            format!("vm.zone_reclaim_mode = {value}"),
            "a full node drops its file cache and swaps before it takes memory from the next",
        )
        .mend(sysctl("vm.zone_reclaim_mode", "0")),
    }
}

pub(super) fn swap(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let Some(text) = facts.text("/proc/swaps") else {
        return Finding::unknown("/proc/swaps is absent");
    };
    let devices: Vec<&str> = text
        .lines()
        .skip(1)
        .filter_map(|line| line.split_whitespace().next())
        .collect();
    let read = match devices.is_empty() {
        true => "/proc/swaps: none".to_string(),
        false => format!("/proc/swaps: {}; locked = {}", join(&devices), profile.locked),
    };
    if devices.is_empty() || profile.locked {
        return Finding::pass(read, "no page of a real-time guest is swapped out");
    }
    Finding::warn(
        read,
        "pages of real-time guests may be swapped out: a vCPU then waits for a disk",
    )
    .advise(format!(
        "set locked = true in profile {} (virtfit-policy(5)), or run without swap",
        profile.name
    ))
}

pub(super) fn overcommit(facts: &Facts<'_>, _: &Profile) -> Finding {
    const FILE: &str = "/proc/sys/vm/overcommit_memory";
    match facts.number(FILE) {
        None => Finding::absent(FILE),
        Some(2) => Finding::warn(
            "vm.overcommit_memory = 2",
            "the kernel counts all of a guest's memory at its start: guests may be refused while memory is free",
        )
        .mend(sysctl("vm.overcommit_memory", "0")),
        Some(value) => Finding::pass(format!("vm.overcommit_memory = {value}"), "guests get memory as they use it"),
    }
}

pub(super) fn memlock(facts: &Facts<'_>, profile: &Profile) -> Finding {
    if !profile.locked {
        return Finding::pass("locked = false", "no memory is locked");
    }
    let daemons = crate::host::libvirt_daemon::running(facts.root());
    let Some(daemon) = daemons.first() else {
        return Finding::unknown("no daemon of libvirt runs, whose limit could be read");
    };
    let read = format!("/proc/{}/limits, status", daemon.pid);
    if !facts.view.host.memlock_limited {
        return Finding::pass(read, "libvirt may lift the limit of locked memory for its guests");
    }
    let folder = format!("/etc/systemd/system/{}.service.d", daemon.name);
    Finding::fail(
        read,
        "libvirt may not lift the limit of locked memory: guests with locked memory do not start",
    )
    .run(
        "lift the daemon's limit",
        [
            format!(
                "mkdir -p {folder} && printf '[Service]\\nLimitMEMLOCK=infinity\\n' > {folder}/memlock.conf"
            ),
            format!("systemctl daemon-reload && systemctl restart {}", daemon.name),
        ],
    )
}

pub(super) fn numa_shape(facts: &Facts<'_>, _: &Profile) -> Finding {
    let host = &facts.view.host;
    if !host.memory_known {
        return Finding::unknown("the memory of nodes is not known");
    }
    let nodes = host.nodes.len();
    let packages: BTreeSet<u32> = host.cores.iter().map(|core| core.package).collect();
    let packages = packages.len();
    let read = format!("{}, {}", counted(nodes, "node"), counted(packages, "package"));
    let bare = host
        .nodes
        .iter()
        .filter(|node| node.memory.0 == 0)
        .map(|node| node.id);
    let bare: Vec<NodeId> = bare.filter(|id| !host.cpus_of(*id).is_empty()).collect();
    if !bare.is_empty() {
        return Finding::warn(
            format!("{read}; without memory: {}", join(&bare)),
            "CPUs of a node without memory have all of theirs far away",
        )
        .advise(
            "put memory into the slots of these nodes, or merge nodes in the firmware's setup (NPS, SNC)",
        );
    }
    match nodes > packages {
        true => Finding::info(
            read,
            "processors are divided into several nodes (SNC, NPS): near memory is nearer, and a node smaller",
        )
        .advise("guests that are larger than a node: fewer nodes in the firmware's setup (NPS1, SNC off)"),
        false => Finding::pass(read, "each processor is a node with memory"),
    }
}

pub(super) fn distances(facts: &Facts<'_>, _: &Profile) -> Finding {
    let host = &facts.view.host;
    let ids: Vec<NodeId> = host.nodes.iter().map(|node| node.id).collect();
    if ids.len() < 2 {
        return Finding::pass("one node", "all memory is equally far");
    }
    if host.nodes.iter().any(|node| node.distances.is_empty()) {
        return Finding::unknown("/sys/devices/system/node/node*/distance is absent");
    }
    let mut remote: Vec<u32> = Vec::new();
    for one in &ids {
        remote.extend(
            ids.iter()
                .filter(|other| *other != one)
                .map(|other| host.distance(*one, *other)),
        );
    }
    remote.sort_unstable();
    remote.dedup();
    let read = format!("distances between nodes: {}", join(&remote));
    let bios = "ask the firmware's vendor for an update; the tables are ACPI's SLIT";
    if remote.first() == Some(&10) {
        return Finding::warn(
            read,
            "the firmware says that memory of another node is as near as a node's own",
        )
        .advise(bios);
    }
    let packages: BTreeSet<u32> = host.cores.iter().map(|core| core.package).collect();
    // Several nodes of one processor are nearer to each other than to those of another.
    let told_apart = remote.len() > 1 || ids.len() == 2 || ids.len() <= packages.len();
    match told_apart {
        true => Finding::pass(read, "the firmware says how far nodes are from each other"),
        false => Finding::warn(
            read,
            "the firmware says that all nodes are equally far, also those of one processor",
        )
        .advise(bios),
    }
}

/// File of the time in which programs wait for memory.
pub(super) const PRESSURE: &str = "/proc/pressure/memory";
/// Share of time in which programs wait for memory, in percent, that is too much: `systemd-oomd`
/// kills for less.
pub(super) const MOST_WAITING: f64 = 10.0;

/// Returns the share of time in which some program waits, in percent, of an average such as
/// `avg60=`.
pub(super) fn waiting(text: &str, average: &str) -> Option<f64> {
    let some = text.lines().find_map(|line| line.strip_prefix("some "))?;
    let mut words = some.split_whitespace();
    words.find_map(|word| word.strip_prefix(average))?.parse().ok()
}

pub(super) fn pressure(facts: &Facts<'_>, _: &Profile) -> Finding {
    let Some(text) = facts.text(PRESSURE) else {
        return Finding::unknown(format!(
            "{PRESSURE} is absent (psi=1 on the kernel's command line)"
        ));
    };
    let Some(share) = waiting(&text, "avg60=") else {
        return Finding::unknown(format!("{PRESSURE} has no avg60"));
    };
    let nodes = facts.view.host.nodes.iter();
    let free = nodes.filter_map(|node| {
        Some(format!(
            "{} on node {}",
            free_memory(facts, node)?.in_gib(),
            node.id
        ))
    });
    let free: Vec<String> = free.collect();
    let read = match free.is_empty() {
        true => format!("{PRESSURE}: some avg60={share}"),
        false => format!("{PRESSURE}: some avg60={share}; free: {}", join(&free)),
    };
    match share > MOST_WAITING {
        true => Finding::warn(
            read,
            "programs wait for memory: huge pages for more guests would make it worse",
        )
        .advise("stop a guest, or give guests less memory"),
        false => Finding::pass(read, "programs do not wait for memory"),
    }
}
