//! CPUs that two guests hold because an administrator pinned one of them there: its name, and the
//! way back.

use std::collections::BTreeMap;

use crate::domain;
use crate::ledger::live_pins::{Records, Thread};
use crate::ledger::running::Running;
use crate::ledger::taken::same_guest;
use crate::snapshot::Snapshot;
use crate::status::note::{Code, Note};
use crate::status::{Guest, by_hand};
use crate::types::guest_word::guest_word;
use crate::types::idset::CpuSet;

/// Thread that an administrator pinned to CPUs which its guest holds.
struct ByHand {
    name: String,
    uuid: String,
    thread: Thread,
    /// CPUs of the pin that the guest holds.
    cpus: CpuSet,
    /// A profile says where the thread belongs, so that the shared CPUs may be no place for it.
    has_profile: bool,
}

/// Names, in each note on CPUs that are held twice, the guest that was pinned there by hand.
/// `running` are the guests that run.
/// `definitions` are the texts of all definitions.
pub(crate) fn name_intruders(
    view: &Snapshot,
    records: &Records,
    running: &[Running],
    definitions: &BTreeMap<String, String>,
    guests: &mut [Guest],
) {
    let (mut held, mut twice) = (CpuSet::new(), CpuSet::new());
    for guest in guests.iter() {
        twice.extend_from(&held.intersection(&guest.held));
        held.extend_from(&guest.held);
    }
    if twice.is_empty() {
        return;
    }
    let mut intruders = by_hand(records, running, guests, &twice);
    intruders.sort_by_key(|intruder| intruder.has_profile);
    let shared = view.sets.shared_now(&view.host, &held);
    for guest in guests {
        let both = guest.held.intersection(&twice);
        let found = intruders.iter().find(|one| !one.cpus.is_disjoint(&both));
        let note = guest
            .notes
            .iter_mut()
            .find(|note| note.code == Code::CpuHeldTwice);
        if let (Some(note), Some(one)) = (note, found) {
            let said = format!("{}; {} was pinned there by hand", note.text, one.name);
            *note = match one.has_profile || shared.is_empty() {
                true => Note::new(Code::CpuHeldTwice, said),
                false => {
                    let word = guest_word(&one.name, &one.uuid);
                    let text = definitions.get(&one.name);
                    let defined = text.and_then(|text| domain::parse::from_text(text).ok());
                    let command = by_hand::command(word, defined.as_ref(), one.thread, &shared);
                    Note::with_command(Code::CpuHeldTwice, said, command)
                }
            };
        }
    }
}

/// Lists the threads that were pinned by hand to some of these CPUs.
fn by_hand(records: &Records, running: &[Running], guests: &[Guest], twice: &CpuSet) -> Vec<ByHand> {
    let mut out = Vec::new();
    for running in running {
        let domain = running.domain();
        let own = |guest: &&Guest| same_guest((&guest.uuid, &guest.name), (&domain.uuid, &domain.name));
        let Some(guest) = guests.iter().find(own) else {
            continue;
        };
        let shared = guest.held.intersection(twice);
        let record = records.of(&domain.uuid, running.pid);
        for (thread, pin) in by_hand::of_running(running, record) {
            let cpus = pin.intersection(&shared);
            if !cpus.is_empty() {
                out.push(ByHand {
                    name: guest.name.clone(),
                    uuid: guest.uuid.clone(),
                    thread,
                    cpus,
                    has_profile: guest.profile.is_some(),
                });
            }
        }
    }
    out
}
