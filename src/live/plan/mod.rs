//! Live plan after `started`: the settings that a running guest lacks and can still get.
//!
//! libvirt's API moves threads, binds memory where no mode is set yet, and nothing else
//! (`docs/libvirt.md` section 5); scheduling classes are set on the threads themselves. Everything
//! else waits for the next start. The plan is pure: a status file's text and a reservation in,
//! changes out. A guest is planned once: the pins it then has, by its XML or by [`Pinned`], stay.

mod classes;
mod own_cpus;

use std::collections::BTreeSet;
use std::sync::Arc;

use crate::domain::{self, Domain};
use crate::engine::{Decision, EngineError, Question};
use crate::hook_events::leftover;
use crate::ledger::Holder;
use crate::ledger::live_pins::{Pinned, Records, Thread};
use crate::ledger::reservation::{Reservation, ReservedPins};
use crate::ledger::running::Running;
use crate::libvirt::LiveChange;
use crate::panics;
use crate::policy::profile::MemoryMode;
use crate::snapshot::Snapshot;
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::plan::{Note, Scope};
use crate::types::reason::{Basis, LeftOut, Reason};
use crate::types::subject::Subject;
use crate::types::target::Effect;

pub use classes::{Class, ThreadClass};
pub(crate) use own_cpus::held_by;

use classes::classes;
use own_cpus::{collides, is_to_be_confined, own_cpus};

/// Inputs of a live plan, beside the snapshot.
#[derive(Debug, Clone, Copy)]
pub struct Case<'a> {
    /// Text of the guest's status file.
    pub status: &'a str,
    /// Reservations of all guests, among them the one that `prepare` made for this guest.
    pub reservations: &'a [Reservation],
    /// Live records of running guests.
    pub pinned: &'a Records,
    /// The guest follows the present policy. A guest that does not gets the pins it was promised at
    /// its start, leaves CPUs that other guests hold, and otherwise runs on as it was started.
    pub follows: bool,
}

/// Plan for one running guest.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Live {
    /// Guest's UUID.
    pub uuid: String,
    /// Guest's name.
    pub name: String,
    /// Process id of QEMU.
    pub pid: u32,
    /// Name of the profile; `None`: no rule matches the guest, or its profile leaves it alone.
    pub profile: Option<String>,
    /// Calls to make, vCPUs first.
    pub changes: Vec<LiveChange>,
    /// Scheduling classes to set.
    pub classes: Vec<ThreadClass>,
    /// Live record to write before the first call; `None`: no mask is set.
    pub record: Option<Pinned>,
    /// CPUs, withheld ones included, that become the guest's own and that no reservation covers
    /// yet: to be reserved under the ledger's lock before they are pinned.
    pub unreserved: CpuSet,
    /// Withheld CPUs among [`Live::unreserved`].
    pub withheld: CpuSet,
    /// Changes that only the next start brings.
    pub waits: Vec<Note>,
    /// Reasons why the guest is not where its profile wants it.
    pub reasons: Vec<Reason>,
    /// `mode = "observe"`: changes are logged, not made.
    pub observe: bool,
    /// The guest started before the policy changed (`on_policy_change = "report"`): changes are
    /// logged, not made.
    pub waits_for_start: bool,
    /// The guest leaves CPUs that another guest holds too: the next guest needs a new snapshot.
    pub frees: bool,
}

/// Plans the changes to a running guest.
///
/// # Errors
/// The status file is truncated, or the policy cannot be followed for this guest.
pub fn plan(case: Case<'_>, view: &Snapshot) -> Result<Live, EngineError> {
    // A guest that still starts, or that is confined, gets nothing here: confined guests belong to
    // `crate::live::floating`.
    let running = Running::parse(case.status, case.pinned)?;
    let domain = running.domain();
    panics::fault_point("run", &domain.name);
    let mut live = Live {
        uuid: domain.uuid.clone(),
        name: domain.name.clone(),
        pid: running.pid,
        observe: view.policy.host.observe,
        ..Live::default()
    };
    let pinned = case.pinned.of(&domain.uuid, running.pid);
    if running.starting || running.pid == 0 || pinned.is_some_and(|pinned| pinned.confined) {
        return Ok(live);
    }
    // The decision says what the guest would get as one that comes in. Without a profile, only pins
    // that virtfit left in its XML are moved.
    let reservation = Reservation::of(case.reservations, &domain.uuid);
    let decided = decide(&running, reservation, view)?;
    let plan = decided.decision.plan();
    let profile = plan.profile.as_deref().and_then(|name| view.policy.profile(name));
    let profile = match profile.filter(|profile| !profile.off) {
        Some(profile) => profile,
        None if plan.notes.leftover => {
            leave_held(&mut live, &running, &case, view);
            return Ok(live);
        }
        None => return Ok(live),
    };
    live.profile = Some(profile.name.clone());
    let placement = plan.placement.as_ref();
    if !placement.is_some_and(|placement| placement.fits) {
        live.reasons.extend(plan.reasons.iter().cloned());
    }
    // Pins: those of an earlier plan are completed as recorded; a promise of `prepare` is carried
    // out as it is; otherwise the placement of the decision counts, for threads that virtfit may
    // move.
    let mut after = after(&decided, domain)?;
    let promised = reservation.and_then(|promised| Some((promised, promised.pins.as_ref()?)));
    match (pinned, promised, placement) {
        (Some(pinned), ..) => live.changes = unfinished(pinned, &running),
        (None, Some((promised, pins)), _) => {
            promise(&mut after, pins);
            threads(&mut live, &running, &after, &promised.cpus, view, |_| true);
            is_where_promised(&mut live);
        }
        (None, None, Some(placement)) => {
            let kept = reservation.map(|promised| &promised.cpus);
            // Pins that virtfit wrote stay on CPUs that are reserved; pins by hand stay unless the
            // profile replaces them.
            let may_move = |thread: Thread| {
                let own = thread
                    .pin(domain)
                    .is_some_and(|pin| kept.is_some_and(|kept| !pin.is_empty() && pin.is_subset(kept)));
                match is_ours(&running, thread) {
                    true => !own,
                    false => profile.override_existing,
                }
            };
            threads(&mut live, &running, &after, &placement.dedicated, view, may_move);
            own_cpus(&mut live, &running, placement, reservation, view);
        }
        // Without a place, pins that virtfit wrote are no reason to stay on another guest's CPUs.
        (None, None, None) if collides(&running, view) => {
            let pins = leftover::untuned(view, &running.guest, &view.taken(domain));
            promise(&mut after, &pins.unwrap_or_default());
            threads(&mut live, &running, &after, &CpuSet::new(), view, |_| true);
        }
        (None, None, None) => {}
    }
    // Memory and scheduling classes follow the threads. Memory is bound once, together with the
    // first pins, and only where it was placed with the vCPUs.
    if pinned.is_none() && decided.bound && placement.is_some_and(|placement| placement.fits) {
        live.changes.extend(numa(domain, &after, &running));
    }
    live.classes = classes(&running, &after, pinned, placement, view);
    // The policy's age does not matter for promises, and for guests on CPUs that others hold.
    let collides = pinned.is_none() && promised.is_none() && collides(&running, view);
    live.waits_for_start = !case.follows && pinned.is_none() && promised.is_none() && !collides;
    live.frees = collides;
    // Changes that no call can make are listed for the log and for `virtfit status`.
    live.waits = waits(&running, view);
    if !decided.bound {
        live.waits
            .push(Note::new(Subject::MemoryWithVcpus, LeftOut::MemoryStays));
    }
    Ok(live)
}

/// Moves a guest that no rule matches off CPUs that virtfit's pins put it on: to the CPUs that
/// `prepare` promised, or away from CPUs that another guest holds too. A guest whose rule went
/// while it ran keeps the CPUs that it alone holds.
fn leave_held(live: &mut Live, running: &Running, case: &Case<'_>, view: &Snapshot) {
    let domain = running.domain();
    let mut after = domain.clone();
    let pinned = case.pinned.of(&domain.uuid, running.pid);
    let reservation = Reservation::of(case.reservations, &domain.uuid);
    let promised = reservation.and_then(|promised| promised.pins.as_ref());
    match (pinned, promised) {
        (Some(pinned), _) => live.changes = unfinished(pinned, running),
        (None, Some(pins)) => promise(&mut after, pins),
        (None, None) if collides(running, view) || is_to_be_confined(running, view) => {
            let pins = leftover::pins(view, &running.guest, &view.taken(domain));
            promise(&mut after, &pins);
            live.frees = true;
        }
        (None, None) => return,
    }
    if pinned.is_none() {
        // Every mask floats, also one of a single CPU: the guest holds none of them.
        threads(live, running, &after, &CpuSet::new(), view, |_| true);
        if promised.is_some() {
            is_where_promised(live);
        }
    }
    live.reasons.push(leftover::reason(view, domain).into());
    let record = pinned.or(live.record.as_ref());
    live.classes = classes(running, &after, record, None, view);
}

/// Decision about a running guest.
struct Decided {
    decision: Decision,
    /// Memory was placed together with the vCPUs; otherwise it stays where it is.
    bound: bool,
}

/// Decides as for a guest that comes in, so that nothing the guest can see changes. A guest with
/// reserved CPUs gets exactly these, wherever its memory is, as it was admitted on this promise.
fn decide(
    running: &Running,
    reservation: Option<&Reservation>,
    view: &Snapshot,
) -> Result<Decided, EngineError> {
    let domain = running.domain();
    let ask = Question {
        earlier: Some(&domain.vcpupins),
        ..Question::of(Scope::Incoming)
    };
    let usual = |view: &Snapshot| view.decide(&running.xml, ask);
    let fits = |decision: &Decision| decision.plan().placement.as_ref().is_some_and(|place| place.fits);
    // Without reserved CPUs, the ordinary decision counts.
    let promised = reservation.filter(|promised| !promised.cpus.is_empty());
    let Some(promised) = promised else {
        return Ok(Decided {
            decision: usual(view)?,
            bound: true,
        });
    };
    // First attempt: only the reserved CPUs are left to give out.
    let mut only = view.clone();
    Arc::make_mut(&mut only.reading)
        .ledger
        .holders
        .push(Arc::new(all_but(promised, view)));
    let first = usual(&only)?;
    if fits(&first) || first.plan().profile.is_none() {
        return Ok(Decided {
            decision: first,
            bound: true,
        });
    }
    // Second attempt: the reserved CPUs, with the memory left where it is.
    for profile in Arc::make_mut(&mut only.policy).profiles.values_mut() {
        profile.memory_mode = MemoryMode::Off;
    }
    let second = usual(&only)?;
    if fits(&second) {
        return Ok(Decided {
            decision: second,
            bound: false,
        });
    }
    // The reservation fits the profile no more, for example after a change of policy.
    Ok(Decided {
        decision: usual(view)?,
        bound: true,
    })
}

/// Returns a made-up guest that holds every dedicated CPU but the reserved ones.
fn all_but(promised: &Reservation, view: &Snapshot) -> Holder {
    let own = promised.cpus.union(&promised.withheld);
    Holder {
        uuid: "00000000-0000-0000-0000-000000000000".into(),
        name: "others".into(),
        pins: view
            .sets
            .dedicated
            .difference(&own)
            .iter()
            .map(CpuSet::one)
            .collect(),
        ..Holder::default()
    }
}

/// Parses the domain as the decision would have it; an unchanged or refused one stays.
fn after(decided: &Decided, now: &Domain) -> Result<Domain, EngineError> {
    match &decided.decision {
        Decision::Tuned { xml, .. } => Ok(domain::parse::from_text(xml)?),
        Decision::Unchanged(_) | Decision::Refused(_) => Ok(now.clone()),
    }
}

/// Puts the pins that `prepare` chose into a domain.
fn promise(after: &mut Domain, pins: &ReservedPins) {
    after.vcpupins.extend(pins.vcpus.clone());
    if !pins.emulator.is_empty() {
        after.emulatorpin = Some(pins.emulator.clone());
    }
    after.iothreadpins.extend(pins.iothreads.clone());
}

/// Returns whether virtfit may move a thread: it has no pin, or a pin that virtfit wrote.
fn is_ours(running: &Running, thread: Thread) -> bool {
    let Some(pin) = thread.pin(running.domain()) else {
        return true;
    };
    running
        .wrote(thread)
        .is_some_and(|wrote| wrote == pin || running.guest.floating.contains(&thread.target()))
}

/// Collects the pins that differ from those of `after`. A pin to one CPU of `dedicated` is the
/// thread's own; any other mask floats.
fn threads(
    live: &mut Live,
    running: &Running,
    after: &Domain,
    dedicated: &CpuSet,
    view: &Snapshot,
    may_move: impl Fn(Thread) -> bool,
) {
    let mut record = Pinned::new(&live.uuid, &live.name, running.pid);
    for thread in running.threads() {
        let (Some(wanted), now) = (thread.pin(after), thread.pin(running.domain())) else {
            continue;
        };
        let wanted = view.host.balanced(wanted);
        if wanted.is_empty() || now == Some(&wanted) || !may_move(thread) {
            continue;
        }
        let holds = wanted.len() == 1 && wanted.is_subset(dedicated);
        live.changes.push(thread.change(wanted.clone()));
        record.set(thread, &wanted.clone(), now, wanted, !holds);
    }
    live.record = Some(record).filter(|record| !record.threads.is_empty());
}

/// Notes, if nothing is to be pinned, that the guest has been moved to what `prepare` promised:
/// from then on its pins are its own, also those that an administrator sets by hand.
fn is_where_promised(live: &mut Live) {
    let record = Pinned::new(&live.uuid, &live.name, live.pid);
    live.record.get_or_insert(record);
}

/// Returns recorded pins that are not set: the daemon ended between writing the record and the
/// calls. Pins that were changed by others since then stay.
fn unfinished(pinned: &Pinned, running: &Running) -> Vec<LiveChange> {
    let missing = pinned.threads.iter().filter(|mask| {
        let now = mask.thread.pin(running.domain());
        now.is_none() || (now != Some(&mask.cpus) && now == mask.before.as_ref())
    });
    let exists: BTreeSet<Thread> = running.threads().into_iter().collect();
    missing
        .filter(|mask| exists.contains(&mask.thread))
        .map(|mask| mask.thread.change(mask.cpus.clone()))
        .collect()
}

/// Returns the memory binding to set: restrictive, and only where no mode is set yet or the mode is
/// restrictive already. Any other mode cannot be changed on a running guest, and a first call
/// without a mode would make the binding strict for good.
fn numa(domain: &Domain, after: &Domain, running: &Running) -> Option<LiveChange> {
    let wanted: NodeSet = match &after.numatune {
        Some(memory) => memory.nodeset.clone()?,
        None => after
            .memnodes
            .values()
            .filter_map(|memory| memory.nodeset.clone())
            .fold(NodeSet::new(), |all, nodes| all.union(&nodes)),
    };
    let open = match &domain.numatune {
        None => domain.memnodes.is_empty() && running.numad.is_none() && !domain.vcpu_placement_auto,
        Some(memory) => {
            memory.mode == "restrictive" && !memory.auto && memory.nodeset.as_ref() != Some(&wanted)
        }
    };
    (open && !wanted.is_empty()).then_some(LiveChange::Numa(wanted))
}

/// Lists the changes that only a start can bring, each with its reason: those a decision for a cold
/// start would make.
fn waits(running: &Running, view: &Snapshot) -> Vec<Note> {
    let ask = Question {
        earlier: Some(&running.domain().vcpupins),
        ..Question::of(Scope::Boot)
    };
    let Ok(Decision::Tuned { plan, .. }) = view.decide(&running.xml, ask) else {
        return Vec::new();
    };
    let mut out: Vec<Note> = Vec::new();
    for change in &plan.changes {
        let target = &change.target;
        let what = Subject::Part(target.clone());
        // A guest without a place would lose what belongs to one, and has it again with the next.
        let lost = change.why == Basis::NoLongerSet;
        let waits = target.row().effect == Effect::NextStart && !(lost && plan.is_without_place());
        if waits && !out.iter().any(|note| note.what == what) {
            out.push(Note::new(what, change.why.clone()));
        }
    }
    out
}

impl Live {
    /// Returns whether no change is left.
    pub fn is_done(&self) -> bool {
        self.changes.is_empty() && self.classes.is_empty()
    }

    /// Returns whether changes are made, not only logged.
    pub(crate) fn changes_something(&self) -> bool {
        !self.observe && !self.waits_for_start
    }
}
