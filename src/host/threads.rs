//! Threads of a process as the kernel runs them: `/proc/PID/task/TID/{comm,status,stat,schedstat}`
//! (`proc(5)`; schedstat: kernel `Documentation/scheduler/sched-stats.rst`).

use crate::hostfs::HostFs;
use crate::types::cpulist;
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;

/// Thread of a process.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct ProcThread {
    /// Thread id.
    pub tid: u32,
    /// Thread's name: `CPU 0/KVM`, `IO iothread1`, `qemu-system-x86`, `vhost-4711`.
    pub name: String,
    /// CPUs that the thread may run on.
    pub allowed: CpuSet,
    /// CPU that the thread ran on last.
    pub last: Option<HostCpu>,
    /// Scheduling policy (`sched.h`): 0 other, 1 fifo, 2 rr.
    pub policy: u32,
    /// Real-time priority; 0 if the thread has none.
    pub priority: u32,
    /// Nanoseconds that the thread has run since its start; `None` if the kernel does not count
    /// them (no `CONFIG_SCHED_INFO`).
    pub run_ns: Option<u64>,
    /// Nanoseconds since its start that the thread was ready to run and waited for a CPU.
    pub wait_ns: Option<u64>,
}

/// Lists all threads of a process, by id; none if the process is gone.
pub(crate) fn of(root: &HostFs, pid: u32) -> Vec<ProcThread> {
    let mut tids = ids(root, &format!("/proc/{pid}/task"));
    tids.sort_unstable();
    // A thread that ends before it is read is left out.
    tids.iter().filter_map(|tid| one(root, pid, *tid)).collect()
}

/// Reads one thread of a process; `None` if the process has no such thread (any more).
pub(crate) fn one(root: &HostFs, pid: u32, tid: u32) -> Option<ProcThread> {
    read(root, &folder(pid, tid), tid)
}

/// Names the folder of a thread. Kernel threads that serve a guest are processes of their own.
pub(crate) fn folder(pid: u32, tid: u32) -> String {
    format!("/proc/{pid}/task/{tid}")
}

/// Lists the processes in `/proc`, or the threads in a folder `task`, in no order.
pub(crate) fn ids(root: &HostFs, folder: &str) -> Vec<u32> {
    let names = root.list(folder).unwrap_or_default();
    names.iter().filter_map(|name| name.parse().ok()).collect()
}

/// Returns the nanoseconds that a thread ran, and those that it was ready to run and waited for a
/// CPU; `None` if the thread is gone, or the kernel does not count them (no `CONFIG_SCHED_INFO`).
pub(crate) fn schedstat(root: &HostFs, folder: &str) -> (Option<u64>, Option<u64>) {
    let text = root.read(format!("{folder}/schedstat")).unwrap_or_default();
    let mut words = text.split_ascii_whitespace().map(|word| word.parse().ok());
    (words.next().flatten(), words.next().flatten())
}

/// Lists the kernel threads `vhost-PID`, which serve guests' network and disk queues, each with the
/// process that it serves. On old kernels they are not threads of QEMU.
pub(crate) fn vhost(root: &HostFs) -> Vec<(u32, ProcThread)> {
    let mut out = Vec::new();
    for pid in ids(root, "/proc") {
        let folder = format!("/proc/{pid}");
        let Ok(comm) = root.read(format!("{folder}/comm")) else {
            continue;
        };
        let serves = comm
            .trim_end()
            .strip_prefix("vhost-")
            .and_then(|rest| rest.parse().ok());
        if let (Some(serves), Some(thread)) = (serves, serves.and_then(|_: u32| read(root, &folder, pid))) {
            out.push((serves, thread));
        }
    }
    out.sort_by_key(|(serves, thread)| (*serves, thread.tid));
    out
}

/// Returns fields 2 and 40 of `/proc/PID/stat`: the name, and the real-time priority (0: none).
pub(crate) fn name_and_priority(stat: &str) -> Option<(&str, u32)> {
    let (before, rest) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1;
    // State is field 3.
    let priority = rest.split_ascii_whitespace().nth(40 - 3)?;
    Some((name, priority.parse().ok()?))
}

fn read(root: &HostFs, folder: &str, tid: u32) -> Option<ProcThread> {
    let status = root.read(format!("{folder}/status")).ok()?;
    let stat = root.read(format!("{folder}/stat")).ok()?;
    let (run_ns, wait_ns) = schedstat(root, folder);
    let comm = root.read(format!("{folder}/comm")).ok();
    // The name in brackets may contain any text. After it come state (field 3) and so on: processor
    // is 39, rt_priority 40, policy 41.
    let rest: Vec<&str> = stat.rsplit_once(')')?.1.split_ascii_whitespace().collect();
    let number = |field: usize| rest.get(field - 3).and_then(|word| word.parse::<u32>().ok());
    let name = comm.map(|comm| comm.trim_end_matches('\n').to_string());
    Some(ProcThread {
        tid,
        name: name.unwrap_or_else(|| field(&status, "Name").unwrap_or_default().to_string()),
        allowed: cpulist::parse(field(&status, "Cpus_allowed_list")?).ok()?,
        last: last_cpu(&stat),
        priority: number(40).unwrap_or(0),
        policy: number(41).unwrap_or(0),
        run_ns,
        wait_ns,
    })
}

/// Returns field 39 of `/proc/PID/stat`: the CPU that the thread ran on last.
pub(crate) fn last_cpu(stat: &str) -> Option<HostCpu> {
    let rest = stat.rsplit_once(')')?.1;
    // State is field 3.
    let cpu = rest.split_ascii_whitespace().nth(39 - 3)?;
    cpu.parse().ok().map(HostCpu)
}

/// Returns the value of a line of `/proc/PID/status`.
pub(crate) fn field<'t>(status: &'t str, name: &str) -> Option<&'t str> {
    status
        .lines()
        .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
        .map(str::trim)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn this_process_has_threads() {
        let own = std::process::id();
        let all = of(&HostFs::default(), own);
        let main = all.iter().find(|thread| thread.tid == own).unwrap();
        assert!(!main.allowed.is_empty() && main.last.is_some(), "{main:?}");
        assert_eq!(one(&HostFs::default(), own, own).unwrap().name, main.name);
        assert_eq!(one(&HostFs::default(), own, 1), None, "another process's thread");
    }

    #[test]
    fn reads_what_the_kernel_writes() {
        let folder = tempfile::tempdir().unwrap();
        let thread = folder.path().join("proc/7/task/9");
        std::fs::create_dir_all(&thread).unwrap();
        std::fs::write(thread.join("comm"), "CPU 0) KVM\n").unwrap();
        std::fs::write(
            thread.join("status"),
            "Name:\tx\nCpus_allowed:\tf\nCpus_allowed_list:\t0-3\n",
        )
        .unwrap();
        let rest: Vec<String> = (4..=52)
            .map(|n| match n {
                39 => "5".into(),
                40 => "3".into(),
                41 => "1".into(),
                n => n.to_string(),
            })
            .collect();
        std::fs::write(
            thread.join("stat"),
            format!("9 (CPU 0) KVM) S {}", rest.join(" ")),
        )
        .unwrap();
        std::fs::write(thread.join("schedstat"), "1000 20 3\n").unwrap();
        let expected = ProcThread {
            tid: 9,
            name: "CPU 0) KVM".into(),
            allowed: cpulist::parse("0-3").unwrap(),
            last: Some(HostCpu(5)),
            policy: 1,
            priority: 3,
            run_ns: Some(1000),
            wait_ns: Some(20),
        };
        assert_eq!(of(&HostFs::new(folder.path()), 7), [expected]);
    }
}
