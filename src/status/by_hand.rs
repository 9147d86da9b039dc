//! Pins that an administrator wrote in a guest that has a profile: with `on_existing = "keep"` they
//! stay and limit its placement.

use crate::domain::Domain;
use crate::ledger::live_pins::{Pinned, Thread};
use crate::ledger::running::Running;
use crate::rewrite::Provenance;
use crate::status::note::{Code, Note};
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::plural::cpus;
use crate::types::setting::Value;

/// Returns whether virtfit wrote a pin of a running guest's thread, in the definition or live.
pub(crate) fn is_ours(running: &Running, record: Option<&Pinned>, thread: Thread, pin: &CpuSet) -> bool {
    running.wrote(thread) == Some(pin)
        || running.guest.floating.contains(&thread.target())
        || record.is_some_and(|record| record.wrote(thread, pin))
}

/// Returns the pins of a running guest that virtfit did not write.
pub(crate) fn of_running(running: &Running, record: Option<&Pinned>) -> Vec<(Thread, CpuSet)> {
    let pinned = |thread: Thread| Some((thread, thread.pin(running.domain())?.clone()));
    let all = running.threads().into_iter().filter_map(pinned);
    all.filter(|(thread, pin)| !is_ours(running, record, *thread, pin))
        .collect()
}

/// Returns the pins of a definition that virtfit did not write.
pub(crate) fn of_definition(domain: &Domain, provenance: Option<&Provenance>) -> Vec<(Thread, CpuSet)> {
    let wrote = |thread: Thread, pin: &CpuSet| {
        let mut owned = provenance.iter().flat_map(|provenance| &provenance.owned);
        let target = thread.target();
        owned.any(|owned| owned.target == target && matches!(&owned.wrote, Value::Cpus(cpus) if cpus == pin))
    };
    let vcpus = domain.vcpupins.iter().map(|(id, pin)| (Thread::Vcpu(*id), pin));
    let emulator = domain.emulatorpin.iter().map(|pin| (Thread::Emulator, pin));
    let iothreads = &domain.iothreadpins;
    let iothreads = iothreads.iter().map(|(id, pin)| (Thread::Iothread(*id), pin));
    vcpus
        .chain(emulator)
        .chain(iothreads)
        .filter(|(thread, pin)| !wrote(*thread, pin))
        .map(|(thread, pin)| (thread, pin.clone()))
        .collect()
}

/// Returns the command that pins a thread of a running guest to these CPUs: in the definition, too,
/// where that has a pin for the thread. `guest`: as a command takes it; `defined`: the definition's
/// facts.
pub(crate) fn command(guest: &str, defined: Option<&Domain>, thread: Thread, cpus: &CpuSet) -> String {
    let call = match thread {
        Thread::Vcpu(id) => format!("vcpupin {guest} {id}"),
        Thread::Emulator => format!("emulatorpin {guest}"),
        Thread::Iothread(id) => format!("iothreadpin {guest} {id}"),
    };
    let config = match defined.and_then(|defined| thread.pin(defined)) {
        Some(_) => " --config",
        None => "",
    };
    format!("virsh {call} {cpus} --live{config}")
}

/// Makes one note of all of them: `set by hand: vCPUs 0-1 on CPUs 4-5, emulator on CPU 0`.
pub(crate) fn note(pins: &[(Thread, CpuSet)]) -> Option<Note> {
    let mut vcpus = (VcpuSet::new(), CpuSet::new());
    let mut parts = Vec::new();
    for (thread, pin) in pins {
        match thread {
            Thread::Vcpu(id) => {
                vcpus.0.insert(*id);
                vcpus.1.extend_from(pin);
            }
            other => parts.push(format!("{other} on {}", cpus(pin))),
        }
    }
    if !vcpus.0.is_empty() {
        let one = if vcpus.0.len() == 1 { "vCPU" } else { "vCPUs" };
        parts.insert(0, format!("{one} {} on {}", vcpus.0, cpus(&vcpus.1)));
    }
    let text = format!("set by hand: {}", parts.join(", "));
    (!parts.is_empty()).then(|| Note::new(Code::SetByHand, text))
}
