//! Checks of clocks, idle states and threads of cores.

use std::collections::BTreeMap;

use crate::check::facts::{Facts, is_realtime};
use crate::check::finding::{Finding, Mend};
use crate::check::mend::{module_option, write_at_boot};
use crate::policy::Profile;
use crate::policy::profile::Smt;
use crate::types::idset::CpuSet;
use crate::types::plural::{self, join};

const CPUS: &str = "/sys/devices/system/cpu";

/// Returns the CPUs of each value of a file of theirs; CPUs without the file are left out.
fn by_value(facts: &Facts<'_>, cpus: &CpuSet, file: &str) -> BTreeMap<String, CpuSet> {
    let mut values: BTreeMap<String, CpuSet> = BTreeMap::new();
    for cpu in cpus.iter() {
        if let Some(value) = facts.of_cpu(cpu, file) {
            values.entry(value).or_default().insert(cpu);
        }
    }
    values
}

/// Words values with their CPUs: `powersave (2-7)`.
fn words(values: &BTreeMap<String, CpuSet>) -> String {
    let words: Vec<String> = values
        .iter()
        .map(|(value, cpus)| format!("{value} ({})", plural::cpus(cpus)))
        .collect();
    join(&words)
}

/// Returns the cure for clocks that do not stay up.
fn full_speed() -> Mend {
    let path = format!("{CPUS}/cpu*/cpufreq/scaling_governor");
    Mend {
        text:
            "keep clocks up, now and at each boot; where tuned runs: tuned-adm profile virtual-host instead"
                .into(),
        ..write_at_boot("governor", &[(&path, "performance")])
    }
}

pub(super) fn governor(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let values = by_value(facts, &facts.cpus_of(profile), "cpufreq/scaling_governor");
    if values.is_empty() {
        return Finding::unknown("no cpufreq: firmware or a hypervisor sets the clocks");
    }
    let read = format!("scaling_governor: {}", words(&values));
    match values.keys().all(|value| value == "performance") {
        true => Finding::pass(read, "clocks stay up while guests run"),
        false => Finding::warn(
            read,
            "clocks of guests' CPUs go down when these are idle for a moment, and come up late",
        )
        .mend(full_speed()),
    }
}

pub(super) fn energy_preference(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let cpus = facts.cpus_of(profile);
    let values = by_value(facts, &cpus, "cpufreq/energy_performance_preference");
    if values.is_empty() {
        return Finding::unknown("no energy_performance_preference: this driver of clocks has none");
    }
    let read = format!("energy_performance_preference: {}", words(&values));
    let governors = by_value(facts, &cpus, "cpufreq/scaling_governor");
    if governors.len() == 1 && governors.contains_key("performance") {
        return Finding::pass(read, "the governor performance sets it");
    }
    match values.keys().all(|value| value == "performance") {
        true => Finding::pass(read, "processors prefer speed"),
        false => Finding::warn(read, "processors save energy where they could be fast")
            .advise("the governor performance sets it, too (governor)"),
    }
}

pub(super) fn turbo(facts: &Facts<'_>, profile: &Profile) -> Finding {
    let intel = facts.number(&format!("{CPUS}/intel_pstate/no_turbo"));
    let other = facts.number(&format!("{CPUS}/cpufreq/boost"));
    let (read, on) = match (intel, other) {
        (Some(off), _) => (format!("intel_pstate/no_turbo: {off}"), off == 0),
        (None, Some(on)) => (format!("cpufreq/boost: {on}"), on != 0),
        (None, None) => return Finding::unknown("neither intel_pstate/no_turbo nor cpufreq/boost is there"),
    };
    match (on, is_realtime(profile)) {
        (false, false) => Finding::info(read, "turbo is off: guests run at the base clock"),
        (true, true) => Finding::info(
            read,
            "turbo is on: clocks change with load and heat, which real-time guests see as jitter",
        ),
        _ => Finding::pass(read, "turbo is as this profile wants it"),
    }
}

pub(super) fn idle_states(facts: &Facts<'_>, profile: &Profile) -> Finding {
    /// Time in µs that waking up may take.
    const LONGEST: i64 = 100;
    let cpus = facts.cpus_of(profile);
    let Some(cpu) = cpus.first() else {
        return Finding::unknown("no CPU is dedicated");
    };
    let folder = format!("{CPUS}/cpu{cpu}/cpuidle");
    let states = facts.list(&folder);
    let value = |state: &String, file: &str| facts.number(&format!("{folder}/{state}/{file}"));
    let used = states
        .iter()
        .filter(|state| value(state, "disable").unwrap_or(0) == 0);
    let mut latencies: Vec<i64> = used.filter_map(|state| value(state, "latency")).collect();
    latencies.sort_unstable();
    let Some(deepest) = latencies.last() else {
        return Finding::unknown(format!("{folder} is absent: no idle states here"));
    };
    // 0 is no limit, `n/a` allows no state at all.
    let limits = by_value(facts, &cpus, "power/pm_qos_resume_latency_us");
    let is_limited = |value: &String| {
        value == "n/a"
            || value
                .parse()
                .is_ok_and(|limit: i64| limit > 0 && limit <= LONGEST)
    };
    let limited = !limits.is_empty() && limits.keys().all(is_limited);
    let read = format!(
        "deepest state: {deepest} us; pm_qos_resume_latency_us: {}",
        words(&limits)
    );
    if *deepest <= LONGEST || limited {
        return Finding::pass(read, "CPUs wake up in time");
    }
    let shallow = latencies
        .iter()
        .find(|latency| **latency > 0)
        .copied()
        .unwrap_or(1)
        .to_string();
    let path = format!("{CPUS}/cpu*/power/pm_qos_resume_latency_us");
    Finding::warn(read, format!("an idle CPU takes up to {deepest} us to wake up")).mend(Mend {
        text: "keep all CPUs in shallow states (they use more power), now and at each boot".into(),
        ..write_at_boot("idle-states", &[(&path, &shallow)])
    })
}

pub(super) fn smt(facts: &Facts<'_>, profile: &Profile) -> Finding {
    const FILE: &str = "/sys/devices/system/cpu/smt/active";
    let threads = facts.view.host.cores.iter().any(|core| core.cpus.len() > 1);
    let read = match facts.number(FILE) {
        Some(active) => format!("{FILE}: {active}"),
        None => format!("threads of a core: {}", if threads { "several" } else { "one" }),
    };
    match (threads, profile.smt) {
        (false, _) => Finding::pass(read, "each CPU is a core of its own"),
        (true, Smt::Isolate) => {
            Finding::pass(format!("{read}; smt = isolate"), "each vCPU is alone on its core")
        }
        (true, _) => Finding::warn(
            read,
            "another thread of the core slows a real-time vCPU at any time",
        )
        .advise(format!(
            "set smt = \"isolate\" in profile {} (virtfit-policy(5))",
            profile.name
        )),
    }
}

pub(super) fn smt_leak(facts: &Facts<'_>, profile: &Profile) -> Finding {
    const FOLDER: &str = "/sys/devices/system/cpu/vulnerabilities";
    let all = facts.list(FOLDER);
    if all.is_empty() {
        return Finding::absent(FOLDER);
    }
    let leaks = |name: &&String| {
        facts
            .text(&format!("{FOLDER}/{name}"))
            .is_some_and(|text| text.contains("SMT vulnerable"))
    };
    let leaks: Vec<&String> = all.iter().filter(leaks).collect();
    if leaks.is_empty() {
        return Finding::pass(FOLDER, "no known leak between the threads of a core");
    }
    let read = format!("SMT vulnerable: {}", join(&leaks));
    if !facts.view.policy.host.share_cores && profile.dedicates() {
        return Finding::pass(
            format!("{read}; share_cores = false"),
            "dedicated cores are never shared by two guests",
        );
    }
    let finding = Finding::warn(read, "a guest may read what another one on the same core does");
    match profile.dedicates() {
        true => finding.advise("set share_cores = false in [host] (virtfit-policy(5)): dedicated cores then have one guest each"),
        false => finding.advise("guests that do not trust each other: a profile with CPUs of their own and share_cores = false, or SMT off (nosmt)"),
    }
}

pub(super) fn l1d_flush(facts: &Facts<'_>, _: &Profile) -> Finding {
    let Some(mode) = facts.parameter("kvm_intel", "vmentry_l1d_flush") else {
        return Finding::unknown("kvm_intel is not loaded");
    };
    let read = format!("kvm_intel vmentry_l1d_flush: {mode}");
    match mode.as_str() {
        "not required" | "never" => Finding::pass(read, "entering a guest costs no flush of the cache"),
        _ => Finding::info(
            read,
            "the first-level cache may be flushed when a guest is entered: that costs time, and protects against a leak",
        ),
    }
}

pub(super) fn halt_polling(facts: &Facts<'_>, profile: &Profile) -> Finding {
    const FILE: &str = "/sys/module/kvm/parameters/halt_poll_ns";
    let Some(value) = facts.number(FILE) else {
        return Finding::unknown("kvm is not loaded");
    };
    let read = format!("{FILE}: {value}");
    // kvm may be loaded later than files of sysfs are written at boot.
    let option = module_option("kvm", "halt_poll_ns=200000");
    match (value, is_realtime(profile)) {
        (0, false) => Finding::warn(
            read,
            "a vCPU that halts gives its CPU back at once, and wakes up late on a CPU that is its own anyway",
        )
        .mend(Mend {
            text: "set it now, and when kvm is loaded".into(),
            commands: [format!("echo 200000 > {FILE}")]
                .into_iter()
                .chain(option.commands)
                .collect(),
        }),
        _ => Finding::pass(read, "a vCPU that halts waits a moment on its CPU"),
    }
}
