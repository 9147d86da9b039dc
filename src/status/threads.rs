//! Threads of a running guest: where the kernel runs each, and where the guest's XML lets it.

use std::collections::BTreeMap;

use crate::host::thread_names;
use crate::host::threads::{self, ProcThread};
use crate::ledger::guest_xml::is_slot;
use crate::ledger::live_pins;
use crate::ledger::running::Running;
use crate::policy::cpu_sets;
use crate::snapshot::Snapshot;
use crate::status::{Guest, Thread};
use crate::types::ids::{HostCpu, VcpuId};
use crate::types::idset::CpuSet;

/// Lists the guest's threads, each with the CPUs its XML allows.
pub(crate) fn look(view: &Snapshot, running: &Running, pid: u32, vhost: &[(u32, ProcThread)]) -> Vec<Thread> {
    let vcpus = vcpus(running);
    let mut out = Vec::new();
    for found in threads::of(&view.root, pid) {
        let own = thread_names::of_name(&found.name);
        let by_id = vcpus.get(&found.tid).copied();
        if by_id.is_none() && thread_names::is_kernels(&found.name) {
            out.push(kernels(view, running, found));
            continue;
        }
        let own = by_id.map_or(own, live_pins::Thread::Vcpu);
        let expected = expected(running, own, &found);
        let online = expected.intersection(&view.host.online);
        let wrong = (!running.starting && !online.is_empty() && !found.allowed.is_subset(&expected))
            .then(|| elsewhere(&found, &expected));
        out.push(thread(found, own.role(), expected, wrong));
    }
    // Kernel threads outside of QEMU have no pins, so they count by where they ran last.
    let emulator = running.allowed(live_pins::Thread::Emulator);
    for (_, found) in vhost.iter().filter(|(serves, _)| *serves == pid) {
        let expected = emulator.cloned().unwrap_or_default();
        let last = found.last.filter(|last| !expected.contains(*last));
        let holder = last.and_then(|last| who_holds(view, last));
        let wrong = holder
            .and(last)
            .map(|last| format!("{} on CPU {last}", found.name));
        out.push(thread(found.clone(), "vhost".into(), expected, wrong));
    }
    out
}

/// Returns the CPUs on which the guest's own threads may run, by thread: by the kernel, or by the
/// XML where no thread can be read.
pub(crate) fn may_run(
    view: &Snapshot,
    running: &Running,
    guest: &Guest,
) -> BTreeMap<live_pins::Thread, CpuSet> {
    let vcpus = vcpus(running);
    let mut all: BTreeMap<live_pins::Thread, CpuSet> = BTreeMap::new();
    let own = guest.threads.iter().filter(|thread| !is_kernels(&thread.role));
    for thread in own {
        let by_id = vcpus.get(&thread.tid).copied().map(live_pins::Thread::Vcpu);
        let own = by_id.unwrap_or_else(|| thread_names::of_name(&thread.name));
        all.entry(own).or_default().extend_from(&thread.allowed);
    }
    if guest.threads.is_empty() {
        let usable = cpu_sets::usable(&view.host);
        let mask = |thread| running.allowed(thread).unwrap_or(&usable).clone();
        // No thread is behind an empty slot.
        let is_slot = |thread: &live_pins::Thread| is_slot(running.domain(), &thread.target());
        let threads = running.threads().into_iter().filter(|thread| !is_slot(thread));
        all.extend(threads.map(|thread| (thread, mask(thread))));
    }
    all
}

/// Returns the vCPUs by their threads.
fn vcpus(running: &Running) -> BTreeMap<u32, VcpuId> {
    running.tids.iter().map(|(vcpu, tid)| (*tid, *vcpu)).collect()
}

/// Returns whether a thread is the kernel's: no pin moves it, so it counts by where it ran last.
fn is_kernels(role: &str) -> bool {
    matches!(role, "vhost" | "kvm")
}

/// Returns the CPUs that the guest's XML allows a thread of QEMU; empty: any. A thread of QEMU's
/// pool has the mask of the thread that started it: the emulator's, or an iothread's.
fn expected(running: &Running, own: live_pins::Thread, found: &ProcThread) -> CpuSet {
    let allowed = |thread| running.allowed(thread).cloned().unwrap_or_default();
    if thread_names::is_of_pool(&found.name) {
        let iothreads = running.domain().iothread_ids.iter();
        let mut masks = iothreads.map(|id| allowed(live_pins::Thread::Iothread(*id)));
        if let Some(mask) = masks.find(|mask| mask.is_empty() || found.allowed.is_subset(mask)) {
            let emulators = allowed(own);
            return match found.allowed.is_subset(&emulators) {
                true => emulators,
                false => mask,
            };
        }
    }
    allowed(own)
}

/// Makes the entry of a thread that the kernel starts from a vCPU's thread. It may run where any of
/// the guest's own threads may, and is wrong only where it last ran on another guest's CPU.
fn kernels(view: &Snapshot, running: &Running, found: ProcThread) -> Thread {
    let mut expected = CpuSet::new();
    for own in running.threads() {
        expected.extend_from(&running.allowed(own).cloned().unwrap_or_default());
    }
    let last = found.last.filter(|last| !expected.contains(*last));
    let others = last.and_then(|last| who_holds(view, last));
    let wrong = others
        .filter(|holder| *holder != running.domain().name)
        .and(last)
        .map(|last| format!("{} on CPU {last}", found.name));
    thread(found, "kvm".into(), expected, wrong)
}

fn thread(found: ProcThread, role: String, expected: CpuSet, wrong: Option<String>) -> Thread {
    Thread {
        tid: found.tid,
        name: found.name,
        role,
        allowed: found.allowed,
        expected,
        cpu: found.last,
        scheduler: scheduler(found.policy).into(),
        priority: found.priority,
        run_ns: found.run_ns,
        wait_ns: found.wait_ns,
        wrong,
    }
}

/// Words where a thread is, or may run, though it should not.
fn elsewhere(found: &ProcThread, expected: &CpuSet) -> String {
    match found.last.filter(|last| !expected.contains(*last)) {
        Some(last) => format!("{} on CPU {last}", found.name),
        None => format!("{} may run on {}", found.name, found.allowed),
    }
}

/// Returns the guest that holds a CPU.
fn who_holds(view: &Snapshot, cpu: HostCpu) -> Option<&str> {
    let holders = view.reading.ledger.holders.iter();
    holders
        .filter(|holder| crate::status::held::cpus(view, holder).contains(cpu))
        .map(|holder| holder.name.as_str())
        .next()
}

/// Returns the name of a scheduling policy (`sched.h`).
fn scheduler(policy: u32) -> &'static str {
    match policy {
        0 => "other",
        1 => "fifo",
        2 => "rr",
        3 => "batch",
        5 => "idle",
        6 => "deadline",
        _ => "unknown",
    }
}
