//! Floating threads: narrowed off CPUs that become held, and widened again when these are freed.
//! The masks are worked out from the present state after each start and end of a guest; the only
//! memory is the records of [`live_pins`](crate::ledger::live_pins).
//!
//! Threads that virtfit pinned to several CPUs float, whether in the definition or live, and so do
//! those it pinned to the one CPU that others had left when they were to float; with `unmanaged =
//! "confine"` also those threads of guests that no rule matches which have no pins. Pins of anyone
//! else are not touched.

use crate::hook_events::leftover;
use crate::hostfs::HostFs;
use crate::ledger::live_pins::{Pinned, Records, Thread};
use crate::ledger::reservation::Reservation;
use crate::ledger::running::Running;
use crate::libvirt::{Hypervisor, LiveChange};
use crate::live::carry_out::{Applied, calls};
use crate::live::follows;
use crate::live::plan::held_by;
use crate::panics;
use crate::policy::profile::{Cpus, Emulator, IothreadCpus, MaxNodes};
use crate::policy::{Profile, cpu_sets, select};
use crate::snapshot::Snapshot;
use crate::types::idset::{CpuSet, NodeSet};
use virtfit_hook::wire;

/// Changes to the floating threads of one guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Float {
    /// Guest's UUID.
    pub uuid: String,
    /// Guest's name.
    pub name: String,
    /// Calls to make.
    pub changes: Vec<LiveChange>,
    /// Live record to write before the first call.
    pub record: Pinned,
    /// Threads that have no CPU left to float on and stay where they are, as texts for the log.
    pub stuck: Vec<String>,
}

/// Returns the changes for all guests whose floating threads are not where they should be.
/// `statuses` are the texts of all status files; those that cannot be read are left out. `busy`
/// returns true, by UUID, for guests in flight, for which no call may be made.
pub fn plan(
    view: &Snapshot,
    statuses: &[String],
    pinned: &Records,
    busy: impl Fn(&str) -> bool,
) -> Vec<Float> {
    let running = statuses
        .iter()
        .filter_map(|text| Running::parse(text, pinned).ok());
    running
        .filter(|running| !running.starting && running.pid != 0 && !busy(&running.domain().uuid))
        .filter_map(|running| one(view, &running, pinned))
        .collect()
}

/// Makes the calls; makes none in observe mode or while virtfit is disabled.
pub(crate) fn apply(
    root: &HostFs,
    view: &Snapshot,
    hypervisor: &mut dyn Hypervisor,
    float: &Float,
) -> Applied {
    if view.policy.host.observe || root.exists(wire::DISABLED) {
        return Applied::default();
    }
    calls(root, hypervisor, &float.uuid, Some(&float.record), &float.changes)
}

/// Returns the changes for one guest; `None`: no mask has to change.
fn one(view: &Snapshot, running: &Running, pinned: &Records) -> Option<Float> {
    let domain = running.domain();
    panics::fault_point("float", &domain.name);
    // Profile, live record and the CPUs that other guests hold decide where threads may float.
    let record = pinned.of(&domain.uuid, running.pid);
    let autostart = view.reading.autostart.contains(&domain.name);
    let selected = select::select(&view.policy, domain, autostart);
    let by_rule = || select::left_alone(&view.policy, domain, autostart);
    // A guest that asks to be left alone is as good as one that no rule matches.
    let profile = selected.profile.filter(|profile| !profile.off || by_rule());
    let profile = profile.as_ref();
    let taken = view.taken(domain);
    let mut ways = Ways {
        view,
        running,
        record,
        profile,
        others: taken.cpus.keys().copied().collect(),
        occupied: taken.occupied,
        follows: follows(&domain.name, view),
    };
    if ways.is_confined() && !(view.policy.host.confine_unmanaged && profile.is_none()) {
        // A guest that is no longer to be confined gets back the CPUs that were taken from its
        // threads.
        ways.others = CpuSet::new();
        ways.occupied = CpuSet::new();
    }
    // The record starts from the present one, so that earlier masks are kept.
    let mut float = Float {
        uuid: domain.uuid.clone(),
        name: domain.name.clone(),
        record: record
            .cloned()
            .unwrap_or_else(|| Pinned::new(&domain.uuid, &domain.name, running.pid)),
        ..Float::default()
    };
    // Each thread floats on the widest set it may have, without the CPUs that other guests hold.
    for thread in running.threads() {
        let Some(widest) = ways.widest(thread) else {
            continue;
        };
        let now = thread.pin(domain);
        let Some(wanted) = ways.without_held(thread, &widest) else {
            if now.is_none_or(|now| !now.is_disjoint(&ways.others)) {
                float
                    .stuck
                    .push(format!("{thread}: others hold every CPU it could float on"));
            }
            continue;
        };
        // A thread without a pin runs anywhere: no call is needed while that is all it may do.
        let free = now.is_none() && ways.others.is_empty() && ways.occupied.is_empty();
        if free || now == Some(&wanted) {
            continue;
        }
        float.changes.push(thread.change(wanted.clone()));
        let first = ways.first(thread).unwrap_or(&widest);
        float.record.set(thread, first, now, wanted, true);
    }
    float.record.confined = ways.is_confined();
    (!float.changes.is_empty()).then_some(float)
}

/// Inputs for the masks of one guest's floating threads.
struct Ways<'a> {
    view: &'a Snapshot,
    running: &'a Running,
    record: Option<&'a Pinned>,
    profile: Option<&'a Profile>,
    /// CPUs that other guests hold.
    others: CpuSet,
    /// CPUs outside the dedicated set to which other guests' threads are pinned.
    occupied: CpuSet,
    /// The guest follows the present policy; otherwise its threads stay within the CPUs they were
    /// given.
    follows: bool,
}

impl Ways<'_> {
    /// Returns whether the guest is, or is to be, kept off held CPUs though no rule matches it.
    fn is_confined(&self) -> bool {
        may_be_confined(self.running, self.record, self.profile)
    }

    /// Returns all CPUs that a thread could float on if no CPU were held; `None`: the thread does
    /// not float, or virtfit did not make it float.
    fn widest(&self, thread: Thread) -> Option<CpuSet> {
        if self.is_confined() {
            return self.widest_confined(thread);
        }
        let first = self.first(thread)?;
        let shared = self.shared(first);
        // One CPU is what others left, and not all that the policy before gave the guest.
        let was_narrow = first.len() == 1 && first.is_subset(&shared);
        if !self.follows && !was_narrow {
            let now = thread.pin(self.running.domain());
            return Some(now.map_or_else(|| first.clone(), |now| first.union(now)));
        }
        let with_vcpus = match thread {
            Thread::Vcpu(_) => true,
            _ => self.floats_with_vcpus(thread, first),
        };
        Some(if with_vcpus && !shared.is_empty() {
            shared
        } else {
            first.clone()
        })
    }

    /// Returns the first mask of a thread that virtfit made float: the live one, else the one in
    /// the definition.
    fn first(&self, thread: Thread) -> Option<&CpuSet> {
        let noted = self.record.and_then(|record| record.mask(thread));
        if !self.running.guest.floating.contains(&thread.target()) {
            return match noted {
                None => self.on_one(thread).or_else(|| self.added(thread)),
                Some(mask) => {
                    Some(&mask.first).filter(|_| mask.floats && matches!(thread, Thread::Iothread(_)))
                }
            };
        }
        let wrote = self.running.wrote(thread).filter(|wrote| wrote.len() > 1);
        noted.filter(|mask| mask.floats).map(|mask| &mask.first).or(wrote)
    }

    /// Returns the definition's mask of a thread that floats on one CPU: virtfit wrote it, and it
    /// can be no thread's own. `None`: the thread has another pin, or the guest was promised CPUs,
    /// to which it is moved, or which it was given under another profile.
    fn on_one(&self, thread: Thread) -> Option<&CpuSet> {
        let domain = self.running.domain();
        let pin = thread.pin(domain).filter(|pin| pin.len() == 1)?;
        let wrote = self.running.wrote(thread).filter(|wrote| *wrote == pin)?;
        let reservation = Reservation::of(&self.view.reading.reservations, &domain.uuid);
        let promised = reservation.is_some_and(|reservation| !reservation.cpus.is_empty());
        let may_be_own = pin.is_subset(&self.view.sets.dedicated);
        (!promised && !may_be_own).then_some(wrote)
    }

    /// Returns the first mask of an iothread that was added while its guest runs: the emulator's,
    /// or a vCPU's, as far as virtfit gave one. The iothread has no pin of its own, and would run
    /// on CPUs that others hold.
    fn added(&self, thread: Thread) -> Option<&CpuSet> {
        let domain = self.running.domain();
        if !matches!(thread, Thread::Iothread(_)) || thread.pin(domain).is_some() {
            return None;
        }
        let emulator = self
            .first(Thread::Emulator)
            .or_else(|| self.running.wrote(Thread::Emulator));
        let vcpus = domain.all_vcpus();
        emulator.or_else(|| vcpus.iter().find_map(|vcpu| self.first(Thread::Vcpu(vcpu))))
    }

    /// Returns the widest mask of a confined guest's thread: every CPU the kernel balances over.
    /// `None` leaves the thread alone: an administrator pinned it, or the policy no longer
    /// confines. A mask that virtfit narrowed is widened again even then.
    fn widest_confined(&self, thread: Thread) -> Option<CpuSet> {
        let all = cpu_sets::usable(&self.view.host).difference(&self.view.host.isolated);
        let confine = self.view.policy.host.confine_unmanaged && self.profile.is_none();
        reach(self.running, self.record, thread)
            .filter(|reach| confine || *reach == Reach::Narrowed)
            .map(|_| all)
    }

    /// Returns whether a support thread (emulator, iothread) was first put on the mask of a
    /// floating vCPU: such a thread moves with the vCPUs. One CPU may also be the housekeeping one,
    /// so that there the profile decides.
    fn floats_with_vcpus(&self, thread: Thread, first: &CpuSet) -> bool {
        let by_profile = self.profile.is_some_and(|profile| match thread {
            Thread::Iothread(_) => profile.iothread_cpus == IothreadCpus::Guest,
            _ => profile.emulator == Emulator::Guest,
        });
        let vcpus = self.running.domain().all_vcpus();
        let on_theirs = vcpus
            .iter()
            .any(|vcpu| self.first(Thread::Vcpu(vcpu)) == Some(first));
        on_theirs && (first.len() > 1 || by_profile || self.view.sets.housekeeping.is_empty())
    }

    /// Returns the shared set, as far as the guest is kept on nodes or in a `vcpu@cpuset`. `first`
    /// is the thread's first mask.
    fn shared(&self, first: &CpuSet) -> CpuSet {
        let host = &self.view.host;
        let domain = self.running.domain();
        let mut all = self.view.sets.shared_now(host, &CpuSet::new());
        if let Some(nodes) = self.nodes(first) {
            all = all.intersection(&nodes.iter().flat_map(|node| cpus_of(host, node)).collect());
        }
        if let Some(cpuset) = &domain.vcpu_cpuset {
            all = all.intersection(cpuset);
        }
        all
    }

    /// Returns the nodes that the guest stays on; `None`: any. Where the profile keeps the guest
    /// together, these are the nodes of the first mask, as its memory is there.
    fn nodes(&self, first: &CpuSet) -> Option<NodeSet> {
        let Some(profile) = self.profile else {
            // No rule matches: the thread floats near the guest's memory, on the nodes it is bound
            // to.
            return Some(leftover::nodes(&self.running.guest)).filter(|nodes| !nodes.is_empty());
        };
        let together = profile.cpus == Cpus::Mixed || profile.max_nodes != MaxNodes::Auto;
        let node_of = |cpu| Some(self.view.host.core_of(cpu)?.node);
        let nodes: NodeSet = first.iter().filter_map(node_of).collect();
        Some(nodes).filter(|nodes| together && !nodes.is_empty())
    }

    /// Returns the part of `widest` that no other guest holds; `None`: nothing is left. A vCPU also
    /// keeps off CPUs that its own guest holds, as long as there are others, and each thread off
    /// those to which other guests' threads are pinned.
    fn without_held(&self, thread: Thread, widest: &CpuSet) -> Option<CpuSet> {
        let open = self.view.host.balanced(&widest.difference(&self.others));
        let own = match thread {
            Thread::Vcpu(_) => held_by(self.running, self.view),
            _ => CpuSet::new(),
        };
        let apart = open.difference(&own);
        let tries = [apart.difference(&self.occupied), apart, open];
        tries.into_iter().find(|cpus| !cpus.is_empty())
    }
}

/// Returns whether a guest is, or could be, kept off held CPUs though no rule matches it.
fn may_be_confined(running: &Running, record: Option<&Pinned>, profile: Option<&Profile>) -> bool {
    let before = record.is_some_and(|record| record.confined);
    before || (profile.is_none() && record.is_none() && running.guest.ours.is_empty())
}

/// Reason for which virtfit may move a thread of a confined guest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Reach {
    /// virtfit narrowed the thread before.
    Narrowed,
    /// The XML lets the thread run on any CPU.
    Free,
}

/// Returns why virtfit may move a thread of a confined guest; `None`: an administrator pinned it.
fn reach(running: &Running, record: Option<&Pinned>, thread: Thread) -> Option<Reach> {
    let domain = running.domain();
    match thread.pin(domain) {
        Some(pin) => record
            .is_some_and(|record| record.wrote(thread, pin))
            .then_some(Reach::Narrowed),
        None => leftover::is_free(domain, thread).then_some(Reach::Free),
    }
}

/// Returns whether `unmanaged = "confine"` keeps a thread off held CPUs in a guest that no rule
/// matches.
pub(crate) fn can_be_confined(running: &Running, record: Option<&Pinned>, thread: Thread) -> bool {
    may_be_confined(running, record, None) && reach(running, record, thread).is_some()
}

fn cpus_of(host: &crate::host::Host, node: crate::types::ids::NodeId) -> Vec<crate::types::ids::HostCpu> {
    host.cpus_of(node).iter().collect()
}
