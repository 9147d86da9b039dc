//! Checks of the policy's CPU sets against the kernel's.

use crate::check::facts::Facts;
use crate::check::finding::{Finding, Mend};
use crate::policy::{Profile, SetRule};
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;
use crate::types::plural::{cpus, is_or_are};
use crate::types::reason::SetWarning;

pub(super) fn online(facts: &Facts<'_>, _: &Profile) -> Finding {
    let view = facts.view;
    let read = format!("online: {}", view.host.online);
    for note in &view.sets.notes {
        match note {
            SetWarning::CpusOffline { cpus, .. } => {
                let commands = cpus
                    .iter()
                    .map(|cpu| format!("echo 1 > /sys/devices/system/cpu/cpu{cpu}/online"));
                return Finding::fail(read, note.to_string()).mend(Mend {
                    text: "switch them on until the next boot, and take out what switched them off".into(),
                    commands: commands.collect(),
                });
            }
            SetWarning::CpusMissing { .. } | SetWarning::FewCores { .. } | SetWarning::OneCore => {
                return Finding::warn(read, note.to_string())
                    .advise("give other CPUs in [host] (virtfit-policy(5))");
            }
            SetWarning::CpusKeptOut { .. } | SetWarning::CpusIsolated { .. } => {}
        }
    }
    if !view.host.offline.is_empty() {
        return Finding::info(
            format!("{read}; offline: {}", view.host.offline),
            "CPUs that are offline are given to no guest",
        );
    }
    Finding::pass(read, "all CPUs of the policy are online")
}

pub(super) fn isolcpus(facts: &Facts<'_>, _: &Profile) -> Finding {
    let view = facts.view;
    let isolated = &view.host.isolated;
    if isolated.is_empty() {
        return Finding::pass("isolated CPUs: none", "the kernel balances all CPUs");
    }
    let read = format!("isolated CPUs: {isolated}");
    let policy = &view.policy.host;
    // CPUs of a list, which may be wrong; automatic sets keep off isolated CPUs by themselves.
    let listed = |rule: &SetRule| match rule {
        SetRule::Cpus(cpus) => cpus.clone(),
        _ => CpuSet::new(),
    };
    for (name, rule) in [("housekeeping", &policy.housekeeping), ("shared", &policy.shared)] {
        let within = listed(rule).intersection(isolated);
        if !within.is_empty() {
            return Finding::fail(
                format!("{read}; {name} = {}", listed(rule)),
                format!("{name} has isolated CPUs ({within}): the kernel would leave all threads on one of them, so they are left out"),
            )
            .advise(format!("take {within} out of {name} in [host] (virtfit-policy(5)), or out of isolcpus= at boot"));
        }
    }
    let beyond = listed(&policy.dedicated).difference(isolated);
    match beyond.is_empty() {
        true => Finding::pass(read, "guests' own CPUs are isolated ones"),
        false => Finding::warn(
            format!("{read}; dedicated = {}", listed(&policy.dedicated)),
            format!(
                "dedicated {} not isolated: the kernel runs other tasks there, too",
                are(&beyond)
            ),
        )
        .advise("make dedicated in [host] and isolcpus= at boot the same CPUs"),
    }
}

pub(super) fn nohz_full(facts: &Facts<'_>, _: &Profile) -> Finding {
    let view = facts.view;
    let (dedicated, housekeeping) = (&view.sets.dedicated, &view.sets.housekeeping);
    if !facts.exists("/sys/devices/system/cpu") {
        return Finding::unknown("/sys/devices/system/cpu is absent");
    }
    // The kernel keeps time on the CPU that it boots on, whatever its command line says.
    let boot = CpuSet::one(HostCpu(0));
    let ticks = dedicated.difference(&view.host.nohz_full);
    let read = match view.host.nohz_full.is_empty() {
        true => "nohz_full: none".to_string(),
        false => format!("nohz_full: {}", view.host.nohz_full),
    };
    if !housekeeping.is_empty() && housekeeping.is_subset(&view.host.nohz_full) {
        return Finding::fail(read, format!("all housekeeping CPUs ({housekeeping}) are without a tick: none is left to do the others' work"))
            .advise("take housekeeping CPUs out of nohz_full= at boot");
    }
    if ticks.is_empty() {
        return Finding::pass(read, "no tick interrupts a vCPU");
    }
    let means = format!(
        "the kernel's tick and its RCU work interrupt vCPUs on {}",
        cpus(&ticks)
    );
    let quiet = dedicated.difference(&boot);
    if ticks == boot || quiet.is_empty() {
        return Finding::warn(
            read,
            format!("{means}: the kernel boots on it and keeps time there"),
        )
        .advise("in the policy, take CPU 0 out of dedicated = \"...\" in [host]");
    }
    let options = format!("nohz_full={quiet} rcu_nocbs={quiet}");
    Finding::warn(read, means).mend(facts.family.boot_with(&options))
}

/// Returns CPUs with the verb that agrees with them.
fn are(all: &CpuSet) -> String {
    format!("{} {}", cpus(all), is_or_are(all.len()))
}
