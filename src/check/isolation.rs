//! Checks of who else may run on, or rules over, CPUs that guests have to themselves.

use crate::check::facts::Facts;
use crate::check::finding::{Finding, Mend};
use crate::check::mend::word;
use crate::host::kernel;
use crate::policy::{Profile, SetRule};
use crate::types::plural::{cpus, join, list};

const CGROUP: &str = "/sys/fs/cgroup";
/// Units that have all of systemd's tasks but guests.
const SLICES: [&str; 3] = ["system.slice", "user.slice", "init.scope"];

pub(super) fn cgroup(facts: &Facts<'_>, _: &Profile) -> Finding {
    let controllers = facts.text(&format!("{CGROUP}/cgroup.controllers"));
    match controllers {
        Some(all) if all.split(' ').any(|name| name == "cpuset") => Finding::pass(
            "cgroup v2 with cpuset",
            "systemd can keep services off CPUs (AllowedCPUs=)",
        ),
        Some(_) => Finding::info(
            "cgroup v2 without cpuset",
            "systemd cannot keep services off guests' CPUs",
        ),
        None if facts.exists(CGROUP) => Finding::info(
            "cgroup v1 or hybrid",
            "systemd cannot keep services off guests' CPUs (AllowedCPUs= needs cgroup v2)",
        )
        .mend(Mend {
            text: "only where you want to keep services off guests' CPUs by hand: boot with cgroup v2".into(),
            ..facts.family.boot_with("systemd.unified_cgroup_hierarchy=1")
        }),
        None => Finding::absent(CGROUP),
    }
}

pub(super) fn machine_slice(facts: &Facts<'_>, _: &Profile) -> Finding {
    let view = facts.view;
    let Some(allowed) = &view.host.guest_cpus else {
        return Finding::unknown("no cpuset of machine.slice is there");
    };
    let read = format!("cpuset of machine.slice: {allowed}");
    let partition = facts.text(&format!("{CGROUP}/machine.slice/cpuset.cpus.partition"));
    let kept = match &view.policy.host.dedicated {
        SetRule::Cpus(wanted) => wanted.intersection(&view.host.online).difference(allowed),
        _ => view.host.online.difference(allowed),
    };
    if !kept.is_empty() {
        let explicit = matches!(view.policy.host.dedicated, SetRule::Cpus(_));
        let means = format!(
            "guests cannot have {}: systemd's unit machine.slice keeps them off",
            cpus(&kept)
        );
        let possible = facts.text("/sys/devices/system/cpu/possible");
        let all = possible.unwrap_or_else(|| view.host.online.to_string());
        let mend = Mend {
            text: "find and remove the AllowedCPUs= of machine.slice; until the next boot give it all CPUs"
                .into(),
            commands: vec![
                "systemctl cat machine.slice".into(),
                format!("systemctl set-property --runtime machine.slice AllowedCPUs={all}"),
            ],
        };
        return match explicit {
            true => Finding::fail(read, means).mend(mend),
            false => Finding::info(read, means),
        };
    }
    match partition.as_deref() {
        None | Some("member") => Finding::pass(read, "guests may have every CPU that the policy gives them"),
        Some(kind) => Finding::info(
            format!("{read}; partition: {kind}"),
            "another program made a partition of guests' CPUs",
        ),
    }
}

/// Lists files of systemd that limit the CPUs of services, with the line that does.
fn limits(facts: &Facts<'_>) -> Vec<(String, String)> {
    let folders = [
        "/etc/systemd/system.control",
        "/run/systemd/system.control",
        "/run/systemd/transient",
        "/etc/systemd/system",
    ];
    let mut files: Vec<String> = vec!["/etc/systemd/system.conf".into()];
    files.extend(
        facts
            .list("/etc/systemd/system.conf.d")
            .iter()
            .map(|name| format!("/etc/systemd/system.conf.d/{name}")),
    );
    for folder in folders {
        for unit in SLICES {
            let parts = format!("{folder}/{unit}.d");
            files.extend(facts.list(&parts).iter().map(|name| format!("{parts}/{name}")));
        }
    }
    let limiting = |path: String| {
        let text = facts.text(&path)?;
        let mut lines = text.lines().map(str::trim);
        let line = lines.find(|line| {
            let value = line
                .strip_prefix("AllowedCPUs=")
                .or_else(|| line.strip_prefix("CPUAffinity="));
            value.is_some_and(|value| !value.trim().is_empty())
        })?;
        let line = line.to_string();
        Some((path, line))
    };
    files.into_iter().filter_map(limiting).collect()
}

pub(super) fn systemd_limits(facts: &Facts<'_>, _: &Profile) -> Finding {
    if !facts.exists("/etc/systemd") {
        return Finding::unknown("/etc/systemd is absent");
    }
    let all: Vec<String> = limits(facts)
        .into_iter()
        .map(|(path, line)| format!("{path}: {line}"))
        .collect();
    match all.is_empty() {
        true => Finding::pass(
            "/etc/systemd, /run/systemd",
            "no unit of systemd limits the CPUs of the host's tasks",
        ),
        false => Finding::info(
            join(&all),
            "an administrator or another program keeps the host's tasks on these CPUs",
        ),
    }
}

pub(super) fn own_affinities(facts: &Facts<'_>, _: &Profile) -> Finding {
    let slice = format!("{CGROUP}/system.slice");
    let units = facts.list(&slice);
    if units.is_empty() {
        return Finding::absent(&slice);
    }
    let dedicated = &facts.view.sets.dedicated;
    let mut pinned = Vec::new();
    let mut looked = 0;
    for unit in units.iter().filter(|unit| unit.ends_with(".service")) {
        let processes = facts
            .text(&format!("{slice}/{unit}/cgroup.procs"))
            .unwrap_or_default();
        for pid in processes.lines() {
            let Some(status) = facts.text(&format!("/proc/{pid}/status")) else {
                continue;
            };
            looked += 1;
            let list = status
                .lines()
                .find_map(|line| line.strip_prefix("Cpus_allowed_list:"));
            let allowed = list.and_then(|list| kernel::cpulist(list.trim()));
            if let Some(allowed) =
                allowed.filter(|allowed| !allowed.is_empty() && allowed.is_subset(dedicated))
            {
                pinned.push(format!(
                    "{} {pid} ({})",
                    unit.trim_end_matches(".service"),
                    cpus(&allowed)
                ));
            }
        }
    }
    if looked == 0 {
        return Finding::unknown(format!("{slice} has no process"));
    }
    let read = format!("Cpus_allowed_list of processes in system.slice: {looked} read");
    match pinned.is_empty() {
        true => Finding::pass(read, "no service is pinned to guests' own CPUs alone"),
        false => Finding::info(
            read,
            format!("services are pinned to guests' own CPUs: {}", join(&pinned)),
        )
        .advise("pin them elsewhere, or take their CPUs out of dedicated in [host]"),
    }
}

pub(super) fn other_managers(facts: &Facts<'_>, _: &Profile) -> Finding {
    const KUBELET: &str = "/var/lib/kubelet/cpu_manager_state";
    let state = facts.text(KUBELET).unwrap_or_default().replace(' ', "");
    if state.contains("\"policyName\":\"static\"") {
        return Finding::warn(KUBELET, "kubelet gives CPUs of this host to its containers alone, as virtfit does to guests: both may give the same CPU")
            .advise("give each its part: reservedSystemCPUs in kubelet's configuration, dedicated in [host]");
    }
    let top = facts.list(CGROUP);
    let mut groups = top.clone();
    groups.extend(facts.list(&format!("{CGROUP}/machine.slice")));
    let is_other = |name: &&String| {
        let starts = ["kubepods", "libpod-", "lxc", "docker", "slurm"];
        starts.iter().any(|start| name.starts_with(start))
    };
    let others: Vec<String> = groups.iter().filter(is_other).cloned().collect();
    let services = ["slurmd.service", "docker.service", "kubelet.service"];
    let running = services
        .iter()
        .filter(|unit| facts.runs(unit))
        .map(|unit| (*unit).to_string());
    let others: Vec<String> = others.into_iter().chain(running).collect();
    if top.is_empty() {
        return Finding::absent(CGROUP);
    }
    match others.is_empty() {
        true => Finding::pass(CGROUP, "no other program manages containers or jobs here"),
        false => Finding::info(
            list(&others),
            "containers or jobs of other programs may run on guests' own CPUs",
        ),
    }
}

pub(super) fn tuners(facts: &Facts<'_>, _: &Profile) -> Finding {
    let stop = |unit: &str| format!("systemctl disable --now {unit}");
    if facts.runs("numad.service") {
        return Finding::warn(
            "numad.service runs",
            "numad moves guests between nodes while they run, against their profiles",
        )
        .run("stop it", [stop("numad")]);
    }
    let profile = facts
        .text("/etc/tuned/active_profile")
        .filter(|_| facts.runs("tuned.service"));
    if let Some(profile) = &profile {
        let read = format!("tuned runs, profile {profile}");
        if ["powersave", "balanced"]
            .iter()
            .any(|slow| profile.contains(slow))
        {
            return Finding::warn(read, "tuned lets clocks go down and CPUs sleep deeply").run(
                "a profile for hosts of guests",
                ["tuned-adm profile virtual-host".into()],
            );
        }
    }
    let others = ["power-profiles-daemon", "intel_lpmd", "tlp"];
    let running: Vec<String> = others
        .iter()
        .filter(|name| facts.runs(&format!("{name}.service")))
        .map(|name| (*name).to_string())
        .collect();
    if let Some(first) = running.first() {
        return Finding::info(
            format!("runs: {}", list(&running)),
            "it changes clocks, idle states or the CPUs of services by itself",
        )
        .run("where guests come first, stop it", [stop(first)]);
    }
    match profile {
        Some(profile) => Finding::pass(
            format!("tuned runs, profile {profile}"),
            "no program works against guests",
        ),
        None if facts.exists(CGROUP) => {
            Finding::pass("neither tuned nor numad runs", "no program works against guests")
        }
        None => Finding::absent(CGROUP),
    }
}

pub(super) fn narrow_slices(facts: &Facts<'_>, _: &Profile) -> Finding {
    let effective = |group: &str| facts.cpus(&format!("{CGROUP}/{group}cpuset.cpus.effective"));
    let Some(all) = effective("") else {
        return Finding::unknown(format!("{CGROUP}/cpuset.cpus.effective is absent"));
    };
    let mut narrow = Vec::new();
    for slice in SLICES {
        let Some(has) = effective(&format!("{slice}/")) else {
            continue;
        };
        // A limit that a file asks for is meant (systemd-limits).
        let meant = limits(facts)
            .iter()
            .any(|(path, _)| path.contains(&format!("/{slice}.d/")));
        if !meant && !all.is_subset(&has) {
            narrow.push((slice, has));
        }
    }
    if narrow.is_empty() {
        return Finding::pass(
            format!("cpuset of {}", join(&SLICES)),
            "the host's tasks have the CPUs that systemd gives them",
        );
    }
    let words: Vec<String> = narrow
        .iter()
        .map(|(slice, has)| format!("{slice}: {has}"))
        .collect();
    let possible = facts
        .text("/sys/devices/system/cpu/possible")
        .unwrap_or_else(|| all.to_string());
    let commands = narrow.iter().map(|(slice, _)| {
        format!(
            "systemctl set-property --runtime {} AllowedCPUs={possible}",
            word(slice)
        )
    });
    Finding::warn(
        join(&words),
        "the host's tasks are kept on few CPUs though no file asks for it: kernels before 7.0 do not undo AllowedCPUs= that is set back to empty",
    )
    .mend(Mend {
        text: "give them all CPUs again".into(),
        commands: commands.collect(),
    })
}
