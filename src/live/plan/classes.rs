//! Scheduling classes of a running guest's vCPUs.

use crate::domain::Domain;
use crate::ledger::live_pins::{Pinned, Thread};
use crate::ledger::running::Running;
use crate::snapshot::Snapshot;
use crate::types::ids::{HostCpu, VcpuId};
use crate::types::plan::Placement;

/// Scheduling class that a vCPU thread is to get.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ThreadClass {
    /// Number of the vCPU.
    pub vcpu: VcpuId,
    /// Thread id of the vCPU.
    pub tid: u32,
    /// Class to set.
    pub class: Class,
    /// CPU that the vCPU has for itself; `None`: it has none and must not be real-time.
    pub cpu: Option<HostCpu>,
}

/// A scheduling class (`sched(7)`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Class {
    /// `SCHED_OTHER`.
    Other,
    /// `SCHED_FIFO` with this priority, 1 to 99.
    Fifo(u32),
    /// `SCHED_RR` with this priority, 1 to 99.
    Rr(u32),
}

/// Returns the scheduling classes to set: real-time for vCPUs on CPUs of their own, and none for
/// vCPUs without one.
pub(super) fn classes(
    running: &Running,
    after: &Domain,
    pinned: Option<&Pinned>,
    placement: Option<&Placement>,
    view: &Snapshot,
) -> Vec<ThreadClass> {
    // A vCPU's pin is the recorded mask, else the one in the XML.
    let final_pin = |vcpu: VcpuId| {
        let noted = pinned.and_then(|pinned| pinned.mask(Thread::Vcpu(vcpu)));
        noted.map(|mask| &mask.cpus).or_else(|| after.vcpupins.get(&vcpu))
    };
    // A vCPU is alone where that pin is one dedicated CPU on which it does not float.
    let alone = |vcpu: VcpuId| {
        let pin = final_pin(vcpu).filter(|pin| pin.len() == 1 && pin.is_subset(&view.sets.dedicated))?;
        let floats =
            pinned.is_some_and(|pinned| pinned.mask(Thread::Vcpu(vcpu)).is_some_and(|mask| mask.floats));
        pin.first().filter(|_| !floats)
    };
    // For each vCPU, the class in the live XML is compared with the one in the decision.
    let fits = placement.is_some_and(|placement| placement.fits);
    let mut out = Vec::new();
    for (vcpu, tid) in &running.tids {
        let of = |domain: &Domain| {
            let sched = domain
                .vcpuscheds
                .iter()
                .find(|sched| sched.vcpus.contains(*vcpu))?;
            let priority = sched.priority.filter(|priority| (1..=99).contains(priority))?;
            match sched.scheduler.as_str() {
                "fifo" => Some(Class::Fifo(priority)),
                "rr" => Some(Class::Rr(priority)),
                _ => None,
            }
        };
        let (now, wanted) = (of(running.domain()), of(after));
        let class = match (now, wanted, alone(*vcpu)) {
            // libvirt has set the class that the live XML names.
            (Some(_), _, Some(_)) => None,
            (None, Some(class), Some(cpu)) if fits => Some((class, Some(cpu))),
            // Only virtfit's own setting is taken back, as it was made for a CPU that the vCPU does
            // not have now; an administrator may want real-time there.
            (Some(_), _, None) if owns_class(running) && final_pin(*vcpu).is_some() => {
                Some((Class::Other, None))
            }
            _ => None,
        };
        out.extend(class.map(|(class, cpu)| ThreadClass {
            vcpu: *vcpu,
            tid: *tid,
            class,
            cpu,
        }));
    }
    out
}

/// Returns whether virtfit wrote the `<vcpusched>`.
fn owns_class(running: &Running) -> bool {
    running.provenance.iter().any(|provenance| {
        provenance
            .owned
            .iter()
            .any(|owned| owned.target == crate::types::setting::Target::VcpuSched)
    })
}
