//! Counters of threads, for measurements: `/proc/PID/task/TID/{stat,schedstat,sched,status}`
//! (`proc(5)`; kernel `Documentation/scheduler/sched-stats.rst`, `kernel/sched/debug.c`).

use std::collections::BTreeMap;

use crate::host::threads::{self, field, folder, ids, schedstat};
use crate::hostfs::HostFs;
use crate::types::ids::HostCpu;

/// Folder of the kernel with the counters of each virtual machine (`Documentation/virt/kvm`): only
/// root reads it, and only where debugfs is mounted.
const KVM: &str = "/sys/kernel/debug/kvm";

/// Times of a thread since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Times {
    /// CPU that the thread ran on last.
    pub cpu: Option<HostCpu>,
    /// Nanoseconds that it has run.
    pub run_ns: u64,
    /// Nanoseconds that it was ready to run and waited for a CPU.
    pub wait_ns: u64,
}

/// Events of a thread since its start.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Counts {
    /// Moves to another CPU; `None` if the kernel does not say (no `CONFIG_SCHED_DEBUG`).
    pub migrations: Option<u64>,
    /// Switches to another thread that it did not ask for.
    pub preempted: Option<u64>,
}

/// Task that ran since the last look at all tasks.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Task {
    /// Process of the task.
    pub pid: u32,
    /// Thread id.
    pub tid: u32,
    /// Name of the process.
    pub name: String,
    /// CPU that it ran on last.
    pub cpu: Option<HostCpu>,
    /// Nanoseconds that it ran since the last look.
    pub ran_ns: u64,
}

/// Returns the process of a thread; `None` if there is no such thread.
pub(crate) fn process_of(root: &HostFs, tid: u32) -> Option<u32> {
    let status = root.read(format!("{}/status", folder(tid, tid))).ok()?;
    Some(
        field(&status, "Tgid")
            .and_then(|id| id.parse().ok())
            .unwrap_or(tid),
    )
}

/// Reads a thread's times; `None` if the thread is gone, or the kernel does not count them.
pub(crate) fn times(root: &HostFs, folder: &str) -> Option<Times> {
    let stat = root.read(format!("{folder}/stat")).ok()?;
    let (run_ns, wait_ns) = schedstat(root, folder);
    Some(Times {
        cpu: threads::last_cpu(&stat),
        run_ns: run_ns?,
        wait_ns: wait_ns?,
    })
}

/// Reads a thread's events.
pub(crate) fn counts(root: &HostFs, folder: &str) -> Counts {
    let status = root.read(format!("{folder}/status")).unwrap_or_default();
    let sched = root.read(format!("{folder}/sched")).unwrap_or_default();
    let migrations = sched.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        (name.trim() == "se.nr_migrations").then_some(value)
    });
    Counts {
        migrations: migrations.and_then(|value| value.trim().parse().ok()),
        preempted: field(&status, "nonvoluntary_ctxt_switches").and_then(|value| value.parse().ok()),
    }
}

/// Reads how often each process's virtual machines left the guest, by process; empty where that may
/// not be read.
pub(crate) fn kvm_exits(root: &HostFs) -> BTreeMap<u32, u64> {
    let mut out = BTreeMap::new();
    for name in root.list(KVM).unwrap_or_default() {
        let pid = name.split_once('-').and_then(|(pid, _)| pid.parse().ok());
        let exits = root.read(format!("{KVM}/{name}/exits")).ok();
        let exits: Option<u64> = exits.and_then(|text| text.trim().parse().ok());
        if let (Some(pid), Some(exits)) = (pid, exits) {
            let all: &mut u64 = out.entry(pid).or_default();
            *all = all.saturating_add(exits);
        }
    }
    out
}

/// All tasks of the host, with their times at the last look.
#[derive(Debug, Default)]
pub(crate) struct Tasks {
    /// Nanoseconds run, by thread id; `None` before the first look.
    before: Option<BTreeMap<u32, u64>>,
}

impl Tasks {
    /// Lists the tasks that ran since the last look; none at the first one.
    pub(crate) fn look(&mut self, root: &HostFs) -> Vec<Task> {
        let mut now = BTreeMap::new();
        let mut out = Vec::new();
        for pid in ids(root, "/proc") {
            for tid in ids(root, &format!("/proc/{pid}/task")) {
                let folder = folder(pid, tid);
                let (Some(run_ns), Some(_)) = schedstat(root, &folder) else {
                    continue;
                };
                now.insert(tid, run_ns);
                let Some(before) = &self.before else {
                    continue;
                };
                // A task that was not there has run for all of its time since.
                let ran_ns = run_ns.saturating_sub(before.get(&tid).copied().unwrap_or(0));
                if ran_ns > 0 {
                    let stat = root.read(format!("{folder}/stat")).unwrap_or_default();
                    let name = root.read(format!("/proc/{pid}/comm")).unwrap_or_default();
                    out.push(Task {
                        pid,
                        tid,
                        name: name.trim_end().to_string(),
                        cpu: threads::last_cpu(&stat),
                        ran_ns,
                    });
                }
            }
        }
        self.before = Some(now);
        out
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn this_thread_is_counted() {
        let root = HostFs::default();
        let pid = std::process::id();
        let folder = folder(pid, pid);
        assert_eq!(process_of(&root, pid), Some(pid));
        assert!(times(&root, &folder).unwrap().cpu.is_some());
        assert!(counts(&root, &folder).preempted.is_some());
        let mut tasks = Tasks::default();
        assert_eq!(tasks.look(&root), [], "nothing to compare with");
        // Other tests run at the same time, and the machine may do much else.
        let begin = std::time::Instant::now();
        let ran = |task: &&Task| task.pid == pid && task.ran_ns > 1_000_000 && task.cpu.is_some();
        let mut seen = Vec::new();
        while !seen.iter().any(|task| ran(&task)) {
            assert!(begin.elapsed().as_secs() < 10, "{seen:?}");
            let look = std::time::Instant::now();
            while look.elapsed().as_millis() < 20 {}
            seen = tasks.look(&root);
        }
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let host = tempfile::tempdir().unwrap();
        let root = HostFs::new(host.path());
        let thread = host.path().join("proc/7/task/9");
        fs::create_dir_all(&thread).unwrap();
        assert_eq!(
            (times(&root, "/proc/7/task/9"), process_of(&root, 9)),
            (None, None)
        );
        let rest: Vec<String> = (4..=52).map(|n| n.to_string()).collect();
        fs::write(
            thread.join("stat"),
            format!("9 (CPU 0) KVM) S {}", rest.join(" ")),
        )
        .unwrap();
        fs::write(thread.join("schedstat"), "1000 20 3\n").unwrap();
        fs::write(thread.join("status"), "nonvoluntary_ctxt_switches:\t17\n").unwrap();
        fs::write(
            thread.join("sched"),
            "x (9, #threads: 2)\n---\nse.nr_migrations    :   12\n",
        )
        .unwrap();
        let expected = Times {
            cpu: Some(HostCpu(39)),
            run_ns: 1000,
            wait_ns: 20,
        };
        assert_eq!(times(&root, "/proc/7/task/9"), Some(expected));
        let expected = Counts {
            migrations: Some(12),
            preempted: Some(17),
        };
        assert_eq!(counts(&root, "/proc/7/task/9"), expected);
        assert_eq!(counts(&root, "/proc/7/task/10"), Counts::default());
        for (machine, exits) in [("7-11", "5\n"), ("7-12", "6\n"), ("8-11", "x"), ("y", "1")] {
            let machine = host.path().join(&KVM[1..]).join(machine);
            fs::create_dir_all(&machine).unwrap();
            fs::write(machine.join("exits"), exits).unwrap();
        }
        assert_eq!(kvm_exits(&root), BTreeMap::from([(7, 11)]));
    }
}
