//! Guests of a host: those that run, those that have a reservation, and those that are only
//! defined.

use std::collections::BTreeMap;

use crate::host::failed_starts::FailedStart;
use crate::host::memory::default_huge_page;
use crate::hostfs::records::RecordFolder;
use crate::hostfs::stems::stems;
use crate::ledger::claims::Written;
use crate::ledger::guest_xml::{self, GuestText};
use crate::ledger::live_pins::Records;
use crate::ledger::running::Running;
use crate::ledger::undecided::Undecided;
use crate::ledger::{claims, status, taken};
use crate::libvirt::overwritten;
use crate::panics::guarded;
use crate::policy::select;
use crate::snapshot::Snapshot;
use crate::status::note::{Code, Note};
use crate::status::running::Look;
use crate::status::{Guest, by_hand, exclusive, held, held_twice, overlaps, pending, running};
use crate::types::digest;
use crate::types::guest_word::guest_word;
use crate::types::ids::KiB;
use crate::types::idset::CpuSet;

/// Returns all guests by name, and those of them that run with a readable status file.
pub(crate) fn all(view: &Snapshot, warnings: &mut Vec<String>) -> (Vec<Guest>, Vec<Running>) {
    // Running guests first: a definition is only shown for a guest that does not run.
    let mut pinned_warnings = Vec::new();
    let records = Records::read(&view.root, &mut pinned_warnings);
    let mut guests: BTreeMap<String, Guest> = BTreeMap::new();
    let vhost = crate::host::threads::vhost(&view.root);
    let holders = exclusive::holders(view);
    let look_at = Look {
        view,
        records: &records,
        vhost: &vhost,
        holders: &holders,
    };
    let mut all_running = Vec::new();
    let definitions = texts(view, claims::FOLDER, warnings);
    for (name, text) in texts(view, status::FOLDER, &mut Vec::new()) {
        let definition = definitions.get(&name);
        let guest = match Running::parse(&text, &records) {
            Ok(found) => {
                let definition = definition.map(String::as_str);
                let guest = guarded(|| running::guest(&look_at, &text, &found, definition))
                    .unwrap_or_else(|bug| failed(&name, "unknown", format!("failed: {bug}")));
                all_running.push(found);
                guest
            }
            Err(error) if error.is_bug() => failed(&name, "unknown", error.to_string()),
            // The snapshot's own warning says what is wrong with the file.
            Err(error) => {
                let mut guest = Guest {
                    state: "unknown".into(),
                    ..blank(&name)
                };
                problem(
                    &mut guest,
                    format!("its status file cannot be read: {error}"),
                    true,
                );
                guest
            }
        };
        guests.insert(name, guest);
    }
    for (name, text) in &definitions {
        if !guests.contains_key(name) {
            let guest = guarded(|| defined(view, name, text))
                .unwrap_or_else(|bug| Some(failed(name, "shut off", format!("failed: {bug}"))));
            guests.extend(guest.map(|guest| (name.clone(), guest)));
        }
    }
    // A guest with a reservation is promised its CPUs though libvirt may not show it yet.
    for holder in view
        .reading
        .ledger
        .holders
        .iter()
        .filter(|holder| holder.reservation)
    {
        // One that comes in may have the name of another that runs.
        let known = guests
            .get(&holder.name)
            .is_none_or(|guest| is_of(guest, &holder.uuid));
        let key = match known {
            true => holder.name.clone(),
            false => format!("{} {}", holder.name, holder.uuid),
        };
        let guest = guests.entry(key).or_insert_with(|| blank(&holder.name));
        if guest.state == "shut off" || guest.state.is_empty() {
            guest.state = "reserved".into();
        }
        guest.uuid.clone_from(&holder.uuid);
        guest.held = held::cpus(view, holder);
        guest.claims = CpuSet::new();
        guest.memory_kib = holder
            .memory
            .iter()
            .fold(KiB(0), |sum, uses| KiB(sum.0.saturating_add(uses.amount.0)));
        guest.page_kib = holder.memory.iter().find_map(|uses| uses.page);
        guest.nodes = running::nodes_of(view, &guest.held);
    }
    // Marks and failed starts are notes on guests that are known by now.
    for mark in RecordFolder::<Undecided>::new(&view.root).valid() {
        if let Some(guest) = guests
            .get_mut(&mark.name)
            .filter(|guest| is_of(guest, &mark.uuid))
        {
            let text = format!("undecided, its CPUs may not be its own: {}", mark.why);
            guest.notes.push(Note::new(Code::Undecided, text));
            guest.undecided = Some(mark.why);
        }
    }
    for (uuid, failed) in view.host.failed.guests.iter().filter(|(_, failed)| failed.open) {
        if let Some(guest) = guests.get_mut(&failed.name).filter(|guest| is_of(guest, uuid)) {
            guest.notes.push(failed_start(failed, uuid));
            guest.failed_start = Some(failed.said.clone());
        }
    }
    // Overlaps and the order of notes need all guests and all their notes.
    let mut guests: Vec<Guest> = guests.into_values().collect();
    held_twice::name_intruders(view, &records, &all_running, &definitions, &mut guests);
    overlaps::note(view, &mut guests);
    for guest in &mut guests {
        let failed = guest.notes.iter().find(|note| note.code == Code::Failed);
        guest.problem = guest.problem.take().or(failed.map(|note| note.text.clone()));
        guest
            .notes
            .sort_by_key(|note| (!note.wrong, note.code.is_pending()));
        let pending = guest.notes.iter().filter(|note| note.code.is_pending());
        guest.pending = pending.map(|note| note.text.clone()).collect();
    }
    (guests, all_running)
}

/// Returns whether an entry is of the guest with this UUID; one whose XML cannot be read has none.
fn is_of(guest: &Guest, uuid: &str) -> bool {
    guest.uuid.is_empty() || guest.uuid.eq_ignore_ascii_case(uuid)
}

/// Notes on a guest that something of it cannot be read.
fn problem(guest: &mut Guest, text: String, runs: bool) {
    let note = Note::new(Code::Unreadable, text.clone());
    guest.notes.push(if runs { note.wrong() } else { note });
    guest.problem = Some(text);
}

fn blank(name: &str) -> Guest {
    Guest {
        name: name.into(),
        ..Guest::default()
    }
}

/// Returns the note on a start that failed; the way back is at its end.
fn failed_start(failed: &FailedStart, uuid: &str) -> Note {
    let back = format!("virtfit revert {}", guest_word(&failed.name, uuid));
    let note = Note::new(Code::FailedStart, failed.said.as_str());
    Note {
        command: note.text.ends_with(&format!(": {back}")).then_some(back),
        ..note
    }
}

/// Makes the entry of a guest for which virtfit itself fails.
fn failed(name: &str, state: &str, problem: String) -> Guest {
    Guest {
        state: state.into(),
        notes: vec![Note::new(Code::Failed, problem)],
        ..blank(name)
    }
}

/// Makes the entry of a guest that does not run; `None` for a file that libvirt does not load, as
/// it is called otherwise than its guest.
fn defined(view: &Snapshot, name: &str, text: &str) -> Option<Guest> {
    let mut guest = Guest {
        state: "shut off".into(),
        ..blank(name)
    };
    let read = match GuestText::read(text.into()) {
        Ok(read) => read,
        Err(error) if error.is_bug() => return Some(failed(name, "shut off", error.to_string())),
        Err(error) => {
            problem(
                &mut guest,
                format!("its definition cannot be read: {error}"),
                false,
            );
            return Some(guest);
        }
    };
    if read.guest.domain.name != name {
        return None;
    }
    // A definition claims what virtfit wrote into it, as far as its profile gives it that.
    let parsed = &read.guest;
    let provenance = read.provenance.as_ref().ok().and_then(Option::as_ref);
    guest.uuid.clone_from(&parsed.domain.uuid);
    guest.memory_kib = parsed.domain.memory;
    guest.page_kib = guest_xml::memory(&parsed.domain, None, || default_huge_page(&view.root))
        .iter()
        .find_map(|uses| uses.page);
    let autostart = view.reading.autostart.contains(name);
    let selected = select::select(&view.policy, &parsed.domain, autostart);
    let profile = selected.profile.as_ref();
    guest.profile = profile.map(|profile| profile.name.clone());
    let claim = select::tuning(&view.policy, &parsed.domain, autostart)
        .and_then(|profile| Written::of(parsed).claim_by(Some(profile), &view.policy.host, autostart));
    guest.claims = claim.map_or_else(CpuSet::new, |claim| {
        taken::claimed(&claim, &view.host, &view.sets.dedicated)
    });
    guest.nodes = running::nodes_of(view, &guest.claims);
    guest.devices = running::devices(view, &parsed.domain);
    // Notes: what cannot be read, what is set by hand or left over, and what waits for a start.
    if let Some(error) = &parsed.unreadable {
        problem(&mut guest, error.to_string(), false);
    }
    if profile.is_some_and(|profile| !profile.off) {
        guest
            .notes
            .extend(by_hand::note(&by_hand::of_definition(&parsed.domain, provenance)));
        if parsed.copied {
            let text = "copied from another guest, whose place it names";
            guest.notes.push(Note::new(Code::Copied, text));
        }
    }
    guest.notes.extend(running::left_over(
        guest_word(name, &parsed.domain.uuid),
        provenance,
        profile,
    ));
    let word = guest_word(name, &parsed.domain.uuid);
    let request = parsed.domain.request.as_deref();
    running::asks(&mut guest.notes, word, request, profile);
    guest.notes.extend(running::not_followed(&selected));
    if overwritten::is_noted(&view.root, &parsed.domain.uuid, || digest::of(text)) {
        let text =
            "changed in the moment in which virtfit defined it, look whether that change is still there";
        let command = format!("virsh dumpxml --inactive {word}");
        guest
            .notes
            .push(Note::with_command(Code::ChangeLost, text, command));
    }
    let pending = pending::inactive(view, text, parsed, &guest.claims);
    guest.notes.extend(pending);
    Some(guest)
}

/// Reads the XML files of a folder, by guest.
fn texts(view: &Snapshot, folder: &str, warnings: &mut Vec<String>) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    for stem in stems(&view.root, folder, "xml").unwrap_or_default() {
        match view.root.read_opt(format!("{folder}/{stem}.xml")) {
            Ok(Some(text)) => {
                out.insert(stem, text);
            }
            Ok(None) => {}
            Err(error) if error.kind() == std::io::ErrorKind::InvalidInput => {}
            Err(error) => warnings.push(error.to_string()),
        }
    }
    out
}
