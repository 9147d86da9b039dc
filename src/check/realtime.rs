//! Checks for real-time guests.

use std::collections::BTreeSet;

use crate::check::facts::{Facts, is_realtime};
use crate::check::finding::{Finding, Mend, Verdict};
use crate::check::mend::{Family, Package, module_option, sysctl};
use crate::host::{kernel, threads};
use crate::policy::Profile;
use crate::types::ids::HostCpu;
use crate::types::plural::{counted, join};

/// Value of `sched_rt_runtime_us` that lets real-time tasks run without a limit.
const UNLIMITED: i64 = -1;

pub(super) fn throttling(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let Some(runtime) = facts.view.host.rt_runtime_us else {
        return Finding::unknown("/proc/sys/kernel/sched_rt_runtime_us is absent");
    };
    // Since Linux 6.12 a fair server of each CPU gives other tasks their share.
    let has_server = facts.kernel().is_some_and(|version| version >= (6, 12));
    let read = format!("kernel.sched_rt_runtime_us = {runtime}");
    if runtime == UNLIMITED && !has_server && kthreads(facts, profile).verdict > Verdict::Info {
        return Finding::warn(
            read,
            "nothing stops a real-time vCPU that spins: the kernel's own threads of its CPU wait for ever",
        )
        .mend(sysctl("kernel.sched_rt_runtime_us", "950000"));
    }
    match (runtime, has_server) {
        (_, true) => Finding::info(
            read,
            "since Linux 6.12 a fair server gives other tasks 5 % of each CPU that spins in real time",
        ),
        (UNLIMITED, false) => Finding::info(read, "real-time vCPUs are never throttled"),
        _ => Finding::info(
            read,
            "a real-time vCPU that never sleeps is stopped for the rest of each second: leave it",
        ),
    }
}

pub(super) fn kthreads(facts: &Facts<'_>, profile: &Profile) -> Finding {
    /// Kernel threads of each CPU whose work a vCPU above them keeps from being done.
    const NAMES: [&str; 3] = ["ksoftirqd/", "rcuc/", "ktimers/"];
    let dedicated = &facts.view.sets.dedicated;
    let mut pids: Vec<u32> = facts
        .list("/proc")
        .iter()
        .filter_map(|name| name.parse().ok())
        .collect();
    pids.sort_unstable();
    let mut found = 0;
    let mut below: BTreeSet<String> = BTreeSet::new();
    let mut seen: BTreeSet<HostCpu> = BTreeSet::new();
    for pid in pids {
        // Threads of a CPU are made when it comes up, so they have the lowest numbers.
        if seen.len() == dedicated.len() && found > 0 {
            break;
        }
        let Some(stat) = facts.text(&format!("/proc/{pid}/stat")) else {
            continue;
        };
        let Some((comm, priority)) = threads::name_and_priority(&stat) else {
            continue;
        };
        let Some((name, cpu)) = NAMES
            .iter()
            .find_map(|name| Some((*name, comm.strip_prefix(name)?)))
        else {
            continue;
        };
        let Some(cpu) = cpu
            .parse()
            .ok()
            .map(HostCpu)
            .filter(|cpu| dedicated.contains(*cpu))
        else {
            continue;
        };
        found += 1;
        // ksoftirqd is the last that every kernel has.
        if name == "ksoftirqd/" {
            seen.insert(cpu);
        }
        if priority <= profile.realtime.priority {
            below.insert(name.trim_end_matches('/').to_string());
        }
    }
    if found == 0 {
        return Finding::unknown("no ksoftirqd of a dedicated CPU in /proc");
    }
    let names: Vec<&String> = below.iter().collect();
    let vcpus = profile.realtime.priority;
    if names.is_empty() {
        return Finding::pass(
            counted(found, "thread"),
            "the kernel's threads of a CPU come before a vCPU",
        );
    }
    let above = vcpus.saturating_add(1).clamp(2, 99);
    Finding::warn(
        format!("priority of {}: not above {vcpus}, that of vCPUs", join(&names)),
        "a busy real-time vCPU keeps the kernel's threads of its CPU from their work: timers, network and RCU of the host may stall",
    )
    .run(
        "put them above until the next boot; at each boot: tuned's profile realtime-virtual-host does",
        [format!("for pid in $(pgrep '^(ksoftirqd|rcuc|ktimers)/'); do chrt -f -p {above} $pid; done")],
    )
}

pub(super) fn group_time(facts: &Facts<'_>, _: &Profile) -> Finding {
    const BASE: &str = "/sys/fs/cgroup";
    let groups = ["cpu,cpuacct", "cpu"].map(|name| format!("{BASE}/{name}"));
    let Some(group) = groups.iter().find(|group| facts.exists(group)) else {
        return match facts.exists(&format!("{BASE}/cgroup.controllers")) {
            true => Finding::pass("cgroup v2", "no group limits real-time tasks"),
            false => Finding::absent(BASE),
        };
    };
    let file = format!("{group}/machine.slice/cpu.rt_runtime_us");
    if facts.view.host.rt_allowed {
        return Finding::pass(group.as_str(), "guests' group has real-time time, or needs none");
    }
    Finding::fail(
        file.as_str(),
        "guests' group has no real-time time: guests with real-time vCPUs do not start",
    )
    .run(
        "give it some until the next boot; for good: boot with systemd.unified_cgroup_hierarchy=1",
        [
            format!("mkdir -p {group}/machine.slice"),
            format!("echo 900000 > {file}"),
        ],
    )
}

pub(super) fn kernel(facts: &Facts<'_>, _: &Profile) -> Finding {
    const FILE: &str = kernel::REALTIME;
    let version = facts.text("/proc/version");
    if kernel::is_realtime(facts.root()) {
        return Finding::pass(FILE, "the kernel is one for real time");
    }
    if version.is_none() && !facts.exists("/sys/kernel") {
        return Finding::unknown("neither /proc/version nor /sys/kernel is there");
    }
    let finding = Finding::warn(
        format!("{FILE} is absent"),
        "the kernel is not PREEMPT_RT: it may not be interrupted for a long time",
    );
    let debian = match facts.view.host.arch.as_str() {
        "aarch64" => "linux-image-rt-arm64",
        _ => "linux-image-rt-amd64",
    };
    let package = Package {
        debian,
        fedora: "kernel-rt",
        suse: "kernel-rt",
    };
    let text = match facts.family {
        Family::Fedora => "install a kernel for real time (RHEL: repository for Real Time), then reboot",
        _ => "install a kernel for real time, then reboot",
    };
    match facts.family.install(package) {
        Some(command) => finding.run(text, [command]),
        None => finding.advise(text),
    }
}

pub(super) fn clocksource(facts: &Facts<'_>, profile: &Profile) -> Finding {
    const FILE: &str = "/sys/devices/system/clocksource/clocksource0/current_clocksource";
    let Some(source) = facts.text(FILE) else {
        return Finding::absent(FILE);
    };
    let read = format!("{FILE}: {source}");
    let x86 = matches!(facts.view.host.arch.as_str(), "x86_64" | "i686");
    // A host that is a guest itself has its hypervisor's clock.
    if !x86
        || matches!(
            source.as_str(),
            "tsc" | "kvm-clock" | "hyperv_clocksource_tsc_page"
        )
    {
        return Finding::pass(read, "reading the time is fast");
    }
    let means = "the kernel does not trust the processor's time stamp counter: reading the time is slow, in guests, too";
    let finding = match is_realtime(profile) {
        true => Finding::fail(read, means),
        false => Finding::warn(read, means),
    };
    let boot = facts.family.boot_with("tsc=reliable");
    let mut commands = vec!["dmesg | grep -i -e tsc -e clocksource".to_string()];
    commands.extend(boot.commands);
    finding.mend(Mend {
        text: "see why, update the firmware; only where the counter is sound after all, trust it from the next boot on".into(),
        commands,
    })
}

pub(super) fn nx_huge_pages(facts: &Facts<'_>, _: &Profile) -> Finding {
    const FILE: &str = "/sys/module/kvm/parameters/nx_huge_pages";
    let Some(value) = facts.text(FILE) else {
        return Finding::unknown("kvm is not loaded, or has no nx_huge_pages");
    };
    let affected = facts.text("/sys/devices/system/cpu/vulnerabilities/itlb_multihit");
    let read = format!(
        "{FILE}: {value}; itlb_multihit: {}",
        affected.as_deref().unwrap_or("unknown")
    );
    let on = !matches!(value.as_str(), "N" | "off" | "never");
    match (on, affected.as_deref()) {
        (false, _) => Finding::pass(read, "KVM does not split guests' huge pages"),
        (true, Some("Not affected")) => Finding::warn(
            read,
            "KVM splits huge pages on which guests run code, though this processor does not need it",
        )
        .mend(module_option("kvm", "nx_huge_pages=off")),
        (true, _) => Finding::info(
            read,
            "KVM splits huge pages on which guests run code: latency, and the protection of a processor with that fault",
        ),
    }
}

pub(super) fn kvm_parameters(facts: &Facts<'_>, _: &Profile) -> Finding {
    // Module, parameter, value that is wanted; RHEL's profile for real-time hosts has them.
    const WANTED: [(&str, &str, &str); 3] = [
        ("kvm_intel", "ple_gap", "0"),
        ("kvm_intel", "preemption_timer", "Y"),
        ("kvm", "kvmclock_periodic_sync", "N"),
    ];
    let mut read = Vec::new();
    let mut wrong = Vec::new();
    for (module, name, wanted) in WANTED {
        let Some(value) = facts.parameter(module, name) else {
            continue;
        };
        read.push(format!("{module} {name}: {value}"));
        if value != wanted {
            wrong.push(module_option(module, &format!("{name}={wanted}")));
        }
    }
    if read.is_empty() {
        return Finding::unknown("neither kvm_intel's parameters nor kvm's clock are there");
    }
    let Some(first) = wrong.first() else {
        return Finding::pass(join(&read), "KVM does not leave a real-time vCPU without need");
    };
    Finding::warn(
        join(&read),
        "KVM leaves a real-time vCPU more often than it has to",
    )
    .mend(Mend {
        text: first.text.clone(),
        commands: wrong.iter().flat_map(|mend| mend.commands.clone()).collect(),
    })
}
