//! Checks of what interrupts CPUs that guests have to themselves.

use std::collections::BTreeMap;

use crate::check::facts::{Facts, is_realtime};
use crate::check::finding::Finding;
use crate::check::mend::write_at_boot;
use crate::host::kernel;
use crate::policy::Profile;
use crate::types::idset::CpuSet;
use crate::types::plural::{self, counted, join};

const IRQ: &str = "/proc/irq";
/// Files of an interrupt (`kernel/irq/proc.c`).
const FILES: [&str; 7] = [
    "affinity_hint",
    "effective_affinity",
    "effective_affinity_list",
    "node",
    "smp_affinity",
    "smp_affinity_list",
    "spurious",
];
/// Most names of interrupts that a finding lists.
const NAMED: usize = 5;

/// Returns the CPUs that are left to the host: all that are possible but the dedicated ones.
fn rest(facts: &Facts<'_>) -> CpuSet {
    let host = &facts.view.host;
    let possible = facts.cpus("/sys/devices/system/cpu/possible");
    let all = possible.unwrap_or_else(|| host.online.union(&host.offline));
    all.difference(&facts.view.sets.dedicated)
}

pub(super) fn default_mask(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let file = format!("{IRQ}/default_smp_affinity");
    let Some(cpus) = facts.mask(&file) else {
        return Finding::absent(&file);
    };
    let dedicated = &facts.view.sets.dedicated;
    let both = cpus.intersection(dedicated);
    let read = format!("{file}: {}", plural::cpus(&cpus));
    if both.is_empty() {
        return Finding::pass(read, "new interrupts stay off guests' own CPUs");
    }
    let means = format!("interrupts of new devices may come to guests' own CPUs ({both})");
    let finding = Finding::warn_if(is_realtime(profile), read, means);
    match is_realtime(profile) {
        true => finding.mend(facts.family.boot_with(&format!("irqaffinity={}", rest(facts)))),
        false => finding,
    }
}

pub(super) fn irqbalance(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let view = facts.view;
    let sockets = facts.list("/run/irqbalance");
    if !facts.runs("irqbalance.service") && sockets.is_empty() {
        return match facts.exists("/proc") {
            true => Finding::pass("irqbalance does not run", "interrupts stay where they are put"),
            false => Finding::unknown("/proc is absent"),
        };
    }
    let file = facts.family.irqbalance_file();
    let text = facts.text(file).unwrap_or_default();
    let mut lines = text
        .lines()
        .filter_map(|line| line.trim().strip_prefix("IRQBALANCE_BANNED_CPULIST="));
    let banned = lines.next_back().map(|value| value.trim_matches(['"', '\'']));
    let cpus: CpuSet = banned.and_then(kernel::cpulist).unwrap_or_default();
    // Without a list of its own it keeps off CPUs that are isolated or without a tick at boot.
    let by_itself = match cpus.is_empty() {
        true => view.host.isolated.union(&view.host.nohz_full),
        false => CpuSet::new(),
    };
    let reached = view.sets.dedicated.difference(&cpus).difference(&by_itself);
    let read = format!(
        "irqbalance runs; {file}: banned CPUs {}",
        banned.filter(|list| !list.is_empty()).unwrap_or("none")
    );
    if reached.is_empty() {
        return Finding::pass(read, "irqbalance keeps off guests' own CPUs");
    }
    let means = format!("irqbalance may move interrupts to guests' own CPUs ({reached})");
    let finding = Finding::warn_if(is_realtime(profile), read, means);
    match is_realtime(profile) {
        true => finding.run(
            "keep it off them",
            [
                format!(
                    "echo 'IRQBALANCE_BANNED_CPULIST={}' >> {file}",
                    view.sets.dedicated
                ),
                "systemctl restart irqbalance".into(),
            ],
        ),
        false => finding,
    }
}

pub(super) fn irqs(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let dedicated = &facts.view.sets.dedicated;
    let numbers: Vec<String> = facts
        .list(IRQ)
        .into_iter()
        .filter(|name| name.parse::<u32>().is_ok())
        .collect();
    if numbers.is_empty() {
        return Finding::unknown(format!("{IRQ} has no interrupt"));
    }
    let mut meets: BTreeMap<String, CpuSet> = BTreeMap::new();
    let mut known = false;
    for number in &numbers {
        let folder = format!("{IRQ}/{number}");
        let fires = facts
            .cpus(&format!("{folder}/effective_affinity_list"))
            .or_else(|| facts.cpus(&format!("{folder}/smp_affinity_list")));
        let Some(fires) = fires else {
            continue;
        };
        known = true;
        let both = fires.intersection(dedicated);
        if both.is_empty() {
            continue;
        }
        // Beside its files an interrupt has a folder named after who asked for it; without one it
        // never comes.
        let names = facts.list(&folder);
        if let Some(name) = names.iter().find(|name| !FILES.contains(&name.as_str())) {
            meets.insert(format!("{number} {name}"), both);
        }
    }
    if !known {
        return Finding::unknown(format!("{IRQ}/*/effective_affinity_list cannot be read"));
    }
    let read = format!("{IRQ}: {}", counted(numbers.len(), "interrupt"));
    if meets.is_empty() {
        return Finding::pass(read, "no interrupt comes to guests' own CPUs");
    }
    let count = meets.len();
    let named: Vec<String> = meets
        .iter()
        .take(NAMED)
        .map(|(name, cpus)| format!("{name} ({})", plural::cpus(cpus)))
        .collect();
    let more = match count.saturating_sub(NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let means = format!(
        "{} of devices may come to guests' own CPUs: {}{more}",
        counted(count, "interrupt"),
        join(&named)
    );
    let finding = Finding::warn_if(is_realtime(profile), read, means);
    if !is_realtime(profile) {
        return finding;
    }
    let rest = rest(facts);
    finding.run(
        "move them until the next boot; those that their driver manages stay (isolcpus=managed_irq, at boot)",
        [format!(
            "for irq in {IRQ}/[0-9]*; do echo {rest} > $irq/smp_affinity_list; done 2> /dev/null"
        )],
    )
}

pub(super) fn workqueues(facts: &Facts<'_>, profile: &Profile) -> Finding {
    const FILE: &str = "/sys/devices/virtual/workqueue/cpumask";
    const NET: &str = "/sys/class/net";
    let Some(cpus) = facts.mask(FILE) else {
        return Finding::absent(FILE);
    };
    let dedicated = &facts.view.sets.dedicated;
    let both = cpus.intersection(dedicated);
    // Receive packet steering has a mask a queue.
    let mut steered = Vec::new();
    for interface in facts.list(NET) {
        let queues = facts.list(&format!("{NET}/{interface}/queues"));
        let meets = |queue: &String| {
            let mask = facts.mask(&format!("{NET}/{interface}/queues/{queue}/rps_cpus"));
            mask.is_some_and(|mask| !mask.is_disjoint(dedicated))
        };
        if queues.iter().any(meets) {
            steered.push(interface);
        }
    }
    let read = format!("{FILE}: {}", plural::cpus(&cpus));
    if !steered.is_empty() {
        return Finding::warn_if(
            is_realtime(profile),
            format!("{read}; rps_cpus of {}", join(&steered)),
            "packets of these interfaces are worked on by guests' own CPUs",
        )
        .advise("write 0 to their rps_cpus (/sys/class/net/*/queues/rx-*), or a mask of housekeeping CPUs");
    }
    if both.is_empty() {
        return Finding::pass(read, "the kernel's unbound work stays off guests' own CPUs");
    }
    let means = format!("unbound work of the kernel may run on guests' own CPUs ({both})");
    let finding = Finding::warn_if(is_realtime(profile), read, means);
    match is_realtime(profile) {
        true => finding.mend(write_at_boot(
            "workqueues",
            &[(FILE, &kernel::mask(&rest(facts)))],
        )),
        false => finding,
    }
}
