//! CPUs that one guest holds and another may run on, by virtfit's pins or an administrator's.

use crate::domain::Domain;
use crate::ledger::live_pins::{Pinned, Thread};
use crate::ledger::running::Running;
use crate::ledger::taken::same_guest;
use crate::live::floating::can_be_confined;
use crate::snapshot::Snapshot;
use crate::status::note::{Code, Note, names};
use crate::status::{Guest, by_hand, held, threads};
use crate::types::guest_word::guest_word;
use crate::types::idset::CpuSet;
use crate::types::plural::cpus;

/// Guest with the CPUs it holds.
pub(crate) struct Held<'v> {
    /// Guest's UUID.
    pub uuid: &'v str,
    /// Guest's name.
    pub name: &'v str,
    /// CPUs the guest holds under the policy's sets.
    pub cpus: CpuSet,
}

/// Returns all guests of the ledger that hold at least one CPU.
pub(crate) fn holders(view: &Snapshot) -> Vec<Held<'_>> {
    let holders = view.reading.ledger.holders.iter();
    holders
        .map(|holder| Held {
            uuid: &holder.uuid,
            name: &holder.name,
            cpus: held::cpus(view, holder),
        })
        .filter(|held| !held.cpus.is_empty())
        .collect()
}

/// Running guest whose CPUs are compared with those that other guests hold.
pub(crate) struct Runs<'a> {
    /// Policy, host and ledger.
    pub view: &'a Snapshot,
    /// Status file, parsed.
    pub running: &'a Running,
    /// Live record.
    pub record: Option<&'a Pinned>,
    /// Entry of the guest, with its threads.
    pub guest: &'a Guest,
    /// Facts of its definition.
    pub defined: Option<&'a Domain>,
    /// Guests that hold CPUs.
    pub holders: &'a [Held<'a>],
}

/// Returns a note for each kind of overlap with CPUs that other guests hold. No thread of the guest
/// runs on a CPU that is withheld for it, but the guest holds that, too.
pub(crate) fn notes(runs: &Runs<'_>) -> Vec<Note> {
    let guest = runs.guest;
    let by_thread = threads::may_run(runs.view, runs.running, guest);
    let mut may_run = CpuSet::new();
    by_thread.values().for_each(|mask| may_run.extend_from(mask));
    let (mut twice, mut twice_with) = (CpuSet::new(), Vec::new());
    let (mut shared, mut shared_with) = (CpuSet::new(), Vec::new());
    for holder in runs.holders {
        if same_guest((holder.uuid, holder.name), (&guest.uuid, &guest.name)) {
            continue;
        }
        let both = may_run.union(&guest.held).intersection(&holder.cpus);
        let held = both.intersection(&guest.held);
        let only_theirs = both.difference(&held);
        if !held.is_empty() {
            twice.extend_from(&held);
            twice_with.push(holder.name);
        }
        if !only_theirs.is_empty() {
            shared.extend_from(&only_theirs);
            shared_with.push(holder.name);
        }
    }
    let mut out = Vec::new();
    if !twice.is_empty() {
        let verb = if twice_with.len() == 1 { "does" } else { "do" };
        let text = format!("holds {}, as {verb} {}", cpus(&twice), names(twice_with));
        out.push(Note::new(Code::CpuHeldTwice, text));
    }
    if !shared.is_empty() {
        let verb = if shared_with.len() == 1 { "holds" } else { "hold" };
        let there = by_thread.iter().filter(|(_, mask)| !mask.is_disjoint(&shared));
        let there: Vec<Thread> = there.map(|(thread, _)| *thread).collect();
        let said = format!(
            "{}may run on {}, which {} {verb}",
            who(&there),
            cpus(&shared),
            names(shared_with)
        );
        out.push(match remedy(runs, &there) {
            Some(Remedy::Confine) => {
                let confine = "unmanaged = \"confine\" in the policy's [host] keeps it off";
                Note::new(Code::OnHeldCpu, format!("{said} ({confine})"))
            }
            Some(Remedy::Pin(command)) => Note::with_command(Code::OnHeldCpu, said, command),
            None => Note::new(Code::OnHeldCpu, said),
        });
    }
    out
}

/// Names threads where no vCPU is among them: `its emulator and its iothread 1 `.
fn who(threads: &[Thread]) -> String {
    if threads.iter().any(|thread| matches!(thread, Thread::Vcpu(_))) {
        return String::new();
    }
    let all: Vec<String> = threads.iter().map(|thread| format!("its {thread}")).collect();
    format!("{} ", all.join(" and "))
}

/// Way to take the threads of a guest off CPUs that others hold.
enum Remedy {
    /// The policy's `unmanaged = "confine"`, which moves all of them.
    Confine,
    /// The command that pins the first of them that the policy does not move.
    Pin(String),
}

/// Finds a remedy for a guest that no rule matches; `None`: a profile says where the threads
/// belong, virtfit moves them, or there is no other CPU.
fn remedy(runs: &Runs<'_>, there: &[Thread]) -> Option<Remedy> {
    let (guest, running) = (runs.guest, runs.running);
    if guest.profile.is_some() {
        return None;
    }
    let confines = |thread: &Thread| can_be_confined(running, runs.record, *thread);
    let Some(stays) = there.iter().find(|thread| !confines(thread)) else {
        return (!runs.view.policy.host.confine_unmanaged).then_some(Remedy::Confine);
    };
    // virtfit's own pin goes with `virtfit revert`, which another note names.
    if running.guest.ours.contains(&stays.target()) {
        return None;
    }
    let mut held = guest.held.clone();
    runs.holders
        .iter()
        .for_each(|holder| held.extend_from(&holder.cpus));
    let free = runs.view.sets.shared_now(&runs.view.host, &held);
    let word = guest_word(&guest.name, &guest.uuid);
    let command = || by_hand::command(word, runs.defined, *stays, &free);
    (!free.is_empty()).then(|| Remedy::Pin(command()))
}
