//! CPUs that one guest holds and another may run on, by virtfit's pins or an administrator's.

use crate::ledger::taken::same_guest;
use crate::snapshot::Snapshot;
use crate::status::note::{Code, Note, names};
use crate::status::{Guest, guests};
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
            cpus: guests::held(view, holder),
        })
        .filter(|held| !held.cpus.is_empty())
        .collect()
}

/// Returns a note for each kind of overlap with CPUs that other guests hold. `may_run`: the CPUs on
/// which the guest's own threads may run.
/// `unmanaged`: the policy could keep it off them, and does not.
pub(crate) fn notes(guest: &Guest, may_run: &CpuSet, holders: &[Held<'_>], unmanaged: bool) -> Vec<Note> {
    let (mut twice, mut twice_with) = (CpuSet::new(), Vec::new());
    let (mut shared, mut shared_with) = (CpuSet::new(), Vec::new());
    for holder in holders {
        if same_guest((holder.uuid, holder.name), (&guest.uuid, &guest.name)) {
            continue;
        }
        let both = may_run.intersection(&holder.cpus);
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
        let remedy = match unmanaged {
            true => " (unmanaged = \"confine\" in the policy's [host] keeps it off)",
            false => "",
        };
        let text = format!(
            "may run on {}, which {} {verb}{remedy}",
            cpus(&shared),
            names(shared_with)
        );
        out.push(Note::new(Code::OnHeldCpu, text));
    }
    out
}
