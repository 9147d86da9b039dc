//! Carries out the plan that [`crate::live::plan`] made for a running guest: records the masks,
//! calls libvirt, sets scheduling classes, and checks in `/proc` that the threads follow.

use std::io;

use crate::host::thread_names::{is_kernels, of_name};
use crate::host::threads;
use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use crate::ledger::live_pins;
use crate::ledger::live_pins::{Pinned, Thread};
use crate::libvirt::{Hypervisor, HypervisorError, LiveChange};
use crate::live::plan::{Class, Live, ThreadClass};
use crate::live::scheduling;
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;
use crate::types::reason::{Basis, Reason};
use virtfit_hook::wire;

/// Result of carrying out a live plan.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Applied {
    /// Calls that libvirt carried out.
    pub done: Vec<LiveChange>,
    /// Scheduling classes that were set.
    pub classes: Vec<ThreadClass>,
    /// Errors, as texts for the log.
    pub failed: Vec<String>,
    /// libvirt went away between two calls: the rest is tried when libvirt is back.
    pub gone: bool,
}

/// Carries out a live plan. Does nothing in observe mode, for a guest that waits for an
/// administrator, or while virtfit is disabled.
pub(crate) fn apply(root: &HostFs, hypervisor: &mut dyn Hypervisor, live: &Live) -> Applied {
    if !live.changes_something() || root.exists(wire::DISABLED) {
        return Applied::default();
    }
    let mut applied = calls(root, hypervisor, &live.uuid, live.record.as_ref(), &live.changes);
    applied.failed.extend(unlike(root, live.pid, &applied.done));
    for wanted in &live.classes {
        match set_class(root, live.pid, wanted) {
            Ok(true) => applied.classes.push(*wanted),
            Ok(false) => {}
            Err(why) => applied
                .failed
                .push(format!("scheduling class of vCPU {}: {why}", wanted.vcpu)),
        }
    }
    applied
}

/// Records the masks, then makes the calls. Without the record a floating mask would look like an
/// administrator's pin, which holds all its CPUs: where the record cannot be written, calls that
/// set floating masks are left out.
pub(crate) fn calls(
    root: &HostFs,
    hypervisor: &mut dyn Hypervisor,
    uuid: &str,
    record: Option<&Pinned>,
    changes: &[LiveChange],
) -> Applied {
    let mut applied = Applied::default();
    let noted = match record.map(|record| live_pins::write(root, record)) {
        None | Some(Ok(())) => true,
        Some(Err(error)) => {
            applied
                .failed
                .push(format!("{}: {error}", root.path(live_pins::FOLDER).display()));
            false
        }
    };
    for change in changes {
        let floats = |thread| {
            let noted = record.and_then(|record| record.mask(thread));
            noted.is_some_and(|mask| mask.floats)
        };
        if !noted && mask(change).is_some_and(|(thread, _)| floats(thread)) {
            continue;
        }
        match hypervisor.live(uuid, change) {
            Ok(()) => applied.done.push(change.clone()),
            Err(error @ HypervisorError::Gone(_)) => {
                applied.failed.push(error.to_string());
                applied.gone = true;
                return applied;
            }
            Err(error) => applied.failed.push(format!("{}: {error}", show(change))),
        }
    }
    applied
}

/// Returns the thread and the CPUs of a pin; `None` for a memory binding.
fn mask(change: &LiveChange) -> Option<(Thread, &crate::types::idset::CpuSet)> {
    match change {
        LiveChange::PinVcpu(id, cpus) => Some((Thread::Vcpu(*id), cpus)),
        LiveChange::PinEmulator(cpus) => Some((Thread::Emulator, cpus)),
        LiveChange::PinIothread(id, cpus) => Some((Thread::Iothread(*id), cpus)),
        LiveChange::Numa(_) => None,
    }
}

/// Returns a line for each thread that may run on other CPUs than libvirt was asked for.
fn unlike(root: &HostFs, pid: u32, done: &[LiveChange]) -> Vec<String> {
    if done.is_empty() {
        return Vec::new();
    }
    let all = threads::of(root, pid);
    let mut out = Vec::new();
    for (thread, cpus) in done.iter().filter_map(mask) {
        let its = |found: &&threads::ProcThread| !is_kernels(&found.name) && of_name(&found.name) == thread;
        for found in all.iter().filter(its) {
            // The emulator's other threads keep the mask they began with: libvirt lets only the
            // first of them run on more CPUs.
            let narrower = thread == Thread::Emulator && found.allowed.is_subset(cpus);
            if found.allowed != *cpus && !narrower {
                out.push(format!(
                    "thread {} ({}) may run on {} after it was pinned to {cpus}",
                    found.tid, found.name, found.allowed
                ));
            }
        }
    }
    out
}

/// Reason why a thread keeps its scheduling class.
#[derive(Debug, thiserror::Error)]
enum ClassError {
    #[error("thread {tid} of process {pid} is gone")]
    Gone { tid: u32, pid: u32 },
    #[error("thread {tid} is called '{name}': not that vCPU's")]
    OtherThread { tid: u32, name: String },
    #[error("it may run on {allowed}, not on CPU {cpu} alone: left as it is")]
    MoreCpus { allowed: CpuSet, cpu: HostCpu },
    #[error("only on the host itself")]
    NoHost,
    #[error("{}", io_words(.0))]
    Kernel(#[from] io::Error),
    #[error("the kernel shows another one after it was set")]
    NotTaken,
}

/// Sets a thread's scheduling class; false: the thread has that class already. Only a thread of
/// this QEMU process that is named as that vCPU's thread is changed, and a real-time class is set
/// only where the thread may run on nothing but its own CPU.
fn set_class(root: &HostFs, pid: u32, wanted: &ThreadClass) -> Result<bool, ClassError> {
    let tid = wanted.tid;
    let found = threads::one(root, pid, tid).ok_or(ClassError::Gone { tid, pid })?;
    if of_name(&found.name) != Thread::Vcpu(wanted.vcpu) {
        let name = found.name;
        return Err(ClassError::OtherThread { tid, name });
    }
    let now = |found: &threads::ProcThread| match found.policy {
        1 => Class::Fifo(found.priority),
        2 => Class::Rr(found.priority),
        _ => Class::Other,
    };
    if now(&found) == wanted.class {
        return Ok(false);
    }
    if let Some(cpu) = wanted.cpu
        && found.allowed != CpuSet::one(cpu)
    {
        let allowed = found.allowed;
        return Err(ClassError::MoreCpus { allowed, cpu });
    }
    if !root.is_real() {
        return Err(ClassError::NoHost);
    }
    scheduling::set(tid, wanted.class)?;
    match threads::one(root, pid, wanted.tid) {
        Some(found) if now(&found) == wanted.class => Ok(true),
        _ => Err(ClassError::NotTaken),
    }
}

/// Describes a change for the log.
pub fn show(change: &LiveChange) -> String {
    match change {
        LiveChange::PinVcpu(id, cpus) => format!("vCPU {id} on {cpus}"),
        LiveChange::PinEmulator(cpus) => format!("emulator on {cpus}"),
        LiveChange::PinIothread(id, cpus) => format!("iothread {id} on {cpus}"),
        LiveChange::Numa(nodes) => format!("memory from node {nodes}"),
    }
}

/// Builds the one line for the log: what was done or would be, why, and what waits for the next
/// start. `None`: there is nothing to report.
pub(crate) fn line(live: &Live, applied: &Applied) -> Option<String> {
    if live.is_done() {
        return None;
    }
    let list = |changes: &[LiveChange]| changes.iter().map(show).collect::<Vec<_>>().join(", ");
    // A guest with a reason has no place of its own: its threads float.
    let floats = !live.reasons.is_empty();
    let mut parts = Vec::new();
    match (live.changes_something(), floats) {
        (true, _) if applied.done.is_empty() => {}
        (true, false) => parts.push(format!("pinned live: {}", list(&applied.done))),
        (true, true) => parts.push(format!("floats live: {}", list(&applied.done))),
        (false, _) if live.changes.is_empty() => {}
        (false, false) => parts.push(format!("would be pinned live: {}", list(&live.changes))),
        (false, true) => parts.push(format!("would float live: {}", list(&live.changes))),
    }
    for set in &applied.classes {
        let class = match set.class {
            Class::Other => "no longer real-time".to_string(),
            Class::Fifo(priority) => format!("FIFO {priority}"),
            Class::Rr(priority) => format!("RR {priority}"),
        };
        parts.push(format!("vCPU {} {class}", set.vcpu));
    }
    if !applied.failed.is_empty() {
        parts.push(format!("failed: {}", applied.failed.join(", ")));
    }
    // A reason, and what waits for the next start, complete a line, but are not worth one.
    if parts.is_empty() {
        return None;
    }
    let reason = live.reasons.first().map(|reason| match live.profile {
        Some(_) => format!("no place of its own: {reason}"),
        None => reason.to_string(),
    });
    parts.extend(reason);
    if !live.waits.is_empty() {
        let waits: Vec<String> = live
            .waits
            .iter()
            .map(|note| match &note.why {
                Reason::Basis(Basis::NoLongerSet) => format!("without {}", note.what),
                why => format!("{} ({why})", note.what),
            })
            .collect();
        parts.push(format!("not before the next start: {}", waits.join(", ")));
    }
    if live.observe {
        parts.push("mode = observe: it runs on as it is".into());
    } else if live.waits_for_start {
        parts.push("it runs on as it was started (on_policy_change = report)".into());
    }
    Some(format!("{}: {}", live.name, parts.join("; ")))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
