//! Running guests: the CPUs each holds, and where the kernel runs its threads.

use std::sync::Arc;

use crate::domain::Domain;
use crate::engine::leftover::revert_transient;
use crate::host::devices::device_nodes;
use crate::host::memory::default_huge_page;
use crate::host::threads::ProcThread;
use crate::ledger::Holder;
use crate::ledger::guest_xml;
use crate::ledger::live_pins;
use crate::ledger::live_pins::Records;
use crate::ledger::running::Running;
use crate::ledger::taken::same_guest;
use crate::policy::select::Selection;
use crate::policy::{Profile, cpu_sets, select};
use crate::rewrite::Provenance;
use crate::snapshot::Snapshot;
use crate::status::exclusive;
use crate::status::exclusive::Held;
use crate::status::note::{Code, Note};
use crate::status::place;
use crate::status::place::Place;
use crate::status::threads;
use crate::status::{Device, Guest, Thread, pending, too_much_memory};
use crate::types::guest_thread::vcpu_of_role;
use crate::types::guest_word::guest_word;
use crate::types::ids::NodeId;
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::reason::Reason;

/// Data shared by the entries of all running guests.
pub(crate) struct Look<'a> {
    /// Policy, host and ledger.
    pub view: &'a Snapshot,
    /// Live records of all guests.
    pub records: &'a Records,
    /// Kernel threads that serve guests, each with the process it serves.
    pub vhost: &'a [(u32, ProcThread)],
    /// Guests with the CPUs they hold.
    pub holders: &'a [Held<'a>],
}

/// Makes the entry of a running guest. `status`: the text of its status file; `definition`: that of
/// its definition.
pub(crate) fn guest(look_at: &Look<'_>, status: &str, running: &Running, definition: Option<&str>) -> Guest {
    // The ledger says what the guest holds; a guest it does not know holds nothing.
    let view = look_at.view;
    let domain = running.domain();
    let autostart = view.reading.autostart.contains(&domain.name);
    let selected = select::select(&view.policy, domain, autostart);
    let own = |holder: &&crate::ledger::Holder| {
        same_guest((&holder.uuid, &holder.name), (&domain.uuid, &domain.name))
    };
    let holder = view.reading.ledger.holders.iter().map(AsRef::as_ref).find(own);
    let held = holder.map_or_else(CpuSet::new, |holder| crate::status::held::cpus(view, holder));
    // Threads show what the kernel does, the XML what it should do.
    let floating = floating(view, running, &held);
    let memory = holder.map_or_else(
        || guest_xml::memory(domain, None, || default_huge_page(&view.root)),
        |holder| holder.memory.clone(),
    );
    let bound = memory
        .iter()
        .fold(NodeSet::new(), |all, uses| all.union(&uses.nodes));
    let threads = match running.pid {
        0 => Vec::new(),
        pid => threads::look(view, running, pid, look_at.vhost),
    };
    let vcpus = || {
        threads
            .iter()
            .filter(|thread| vcpu_of_role(&thread.role).is_some())
    };
    let realtime = vcpus().find(|thread| matches!(thread.scheduler.as_str(), "fifo" | "rr"));
    let mut guest = Guest {
        name: domain.name.clone(),
        uuid: domain.uuid.clone(),
        state: if running.starting {
            "starting".into()
        } else {
            running.state.clone()
        },
        transient: definition.is_none(),
        profile: selected.profile.as_ref().map(|profile| profile.name.clone()),
        nodes: match bound.is_empty() {
            false => bound.iter().collect(),
            true => nodes_of(view, &held.union(&floating)),
        },
        claims: CpuSet::new(),
        realtime: realtime.map(|thread| thread.scheduler.clone()),
        memory_kib: domain.memory,
        page_kib: memory.iter().find_map(|uses| uses.page),
        wait_percent: wait_percent(vcpus()),
        problem: running.guest.unreadable.as_ref().map(ToString::to_string),
        devices: devices(view, domain),
        held,
        floating,
        threads,
        ..Guest::default()
    };
    // Notes compare the two, so they come last.
    guest.notes = notes(look_at, status, running, definition, &guest, &selected);
    guest.notes.extend(too_much_memory::note(&view.host, &memory));
    if is_left_out(view, domain) {
        guest.notes.push(Note::new(Code::Unreadable, LEFT_OUT).wrong());
        guest.problem.get_or_insert_with(|| LEFT_OUT.into());
    }
    guest
}

/// Lists the devices passed through to a guest, each with its node.
pub(crate) fn devices(view: &Snapshot, domain: &Domain) -> Vec<Device> {
    let (found, _) = device_nodes(&view.root, &view.host, domain);
    found
        .into_iter()
        .map(|(name, node)| Device { name, node })
        .collect()
}

/// Note on a guest that the ledger left out.
const LEFT_OUT: &str = "what it holds is not known: its status file is too large to be read for other guests' sake, alone or \
                        with the others, and it has no reservation";

/// Returns whether the ledger left a running guest out. One that came after the ledger was read was
/// not left out.
fn is_left_out(view: &Snapshot, domain: &Domain) -> bool {
    let own = |holder: &Arc<Holder>| same_guest((&holder.uuid, &holder.name), (&domain.uuid, &domain.name));
    let reading = &view.reading;
    reading.running.contains(&domain.name) && !reading.ledger.holders.iter().any(own)
}

/// Returns the notes on a guest, except those that need other guests' entries.
fn notes(
    look_at: &Look<'_>,
    status: &str,
    running: &Running,
    definition: Option<&str>,
    guest: &Guest,
    selected: &Selection,
) -> Vec<Note> {
    let view = look_at.view;
    let profile = selected.profile.as_ref();
    let wrong = guest.threads.iter().filter_map(|thread| thread.wrong.as_ref());
    let mut out: Vec<Note> = wrong.map(|text| Note::new(Code::ThreadElsewhere, text)).collect();
    let waits = pending::running(view, running, definition);
    // A definition that was reverted, or tuned, after the start is not what the guest runs with: it
    // may ask for another profile, too.
    let defined = definition.and_then(|text| crate::domain::parse::from_text(text).ok());
    let autostart = view.reading.autostart.contains(&guest.name);
    let next = defined
        .as_ref()
        .map(|defined| select::select(&view.policy, defined, autostart));
    let selected = next.as_ref().unwrap_or(selected);
    let next = next.as_ref().map(|next| next.profile.as_ref());
    let asks_for_off = next.flatten().is_some_and(|profile| profile.off);
    // The threads of a starting guest are still being moved to their CPUs.
    if !running.starting {
        out.extend(exclusive::notes(&exclusive::Runs {
            view,
            running,
            record: look_at.records.of(&guest.uuid, running.pid),
            guest,
            defined: defined.as_ref(),
            holders: look_at.holders,
        }));
        out.extend(place::notes(&Place {
            waits: !waits.is_empty(),
            view,
            running,
            status,
            definition,
            records: look_at.records,
            held: &guest.held,
            // A place is compared with what the guest holds, unless the guest asks for none by now.
            profile: profile
                .filter(|profile| !profile.off && !asks_for_off && !is_left_out(view, running.domain())),
        }));
    }
    let word = guest_word(&guest.name, &guest.uuid);
    let profile = next.unwrap_or(profile);
    out.extend(match definition.map(pending::record) {
        Some(Ok(defined)) if !carries(defined.as_ref()) => reverted(running.provenance.as_ref(), profile),
        Some(Ok(defined)) => left_over(word, defined.as_ref(), profile),
        Some(Err(_)) => left_over(word, running.provenance.as_ref(), profile),
        None => left_over_until_it_ends(guest, running.provenance.as_ref(), profile),
    });
    let request = defined.as_ref().and_then(|defined| defined.request.as_deref());
    asks(&mut out, word, request, profile);
    out.extend(not_followed(selected));
    let unreadable = guest.problem.iter();
    out.extend(unreadable.map(|text| Note::new(Code::Unreadable, text)));
    if guest.transient {
        out.push(Note::new(Code::Transient, "transient"));
    }
    out.extend(waits);
    out
}

/// Returns a note on virtfit's settings in a guest that has no profile.
pub(crate) fn left_over(
    guest: &str,
    provenance: Option<&Provenance>,
    profile: Option<&Profile>,
) -> Option<Note> {
    let why = why_left(profile)?;
    let said = format!("carries virtfit's settings though {why}");
    carries(provenance).then(|| Note::with_command(Code::LeftOver, said, format!("virtfit revert {guest}")))
}

/// Adds a note on a guest that asks in its own XML to be left alone, as `virtfit revert` makes it
/// do. `request`: the name of the profile that it asks for. Beside a note on settings that are left
/// over, each of both says what its command is for.
pub(crate) fn asks(out: &mut Vec<Note>, guest: &str, request: Option<&str>, profile: Option<&Profile>) {
    if request.is_none() || !profile.is_some_and(|profile| profile.off) {
        return;
    }
    let mut said = "off by its own request".to_string();
    let left = out.iter_mut().find(|note| note.code == Code::LeftOver);
    if let Some((left, revert)) = left.and_then(|left| left.command.clone().map(|revert| (left, revert))) {
        let what = format!("{} (revert takes them out)", left.said());
        *left = Note::with_command(Code::LeftOver, what, revert);
        said.push_str(" (profile unset lets the rules decide)");
    }
    let command = format!("virtfit profile unset {guest}");
    out.push(Note::with_command(Code::AskedToBeLeftAlone, said, command));
}

/// Returns a note on a guest's request that is not followed.
pub(crate) fn not_followed(selected: &Selection) -> Option<Note> {
    let ignored = selected
        .notes
        .iter()
        .find(|reason| matches!(reason, Reason::Request { .. }))?;
    Some(Note::new(Code::RequestNotFollowed, ignored.to_string()))
}

/// Returns a note as [`left_over`] does, on a guest without a definition that could be reverted.
fn left_over_until_it_ends(
    guest: &Guest,
    provenance: Option<&Provenance>,
    profile: Option<&Profile>,
) -> Option<Note> {
    let why = why_left(profile)?;
    let said = format!(
        "carries virtfit's settings though {why}, until it ends; XML without them, to create it anew with"
    );
    let command = revert_transient(&guest.name, &guest.uuid);
    carries(provenance).then(|| Note::with_command(Code::LeftOver, said, command))
}

/// Returns a note on virtfit's settings that only the running guest has: its definition is reverted
/// already.
fn reverted(running: Option<&Provenance>, profile: Option<&Profile>) -> Option<Note> {
    why_left(profile)?;
    let text = "reverted: runs with virtfit's settings until its next start";
    carries(running).then(|| Note::new(Code::LeftOver, text))
}

fn carries(provenance: Option<&Provenance>) -> bool {
    provenance.is_some_and(|provenance| !provenance.owned.is_empty())
}

/// Returns the reason why a guest is to have none of virtfit's settings; `None`: it is to have
/// some.
fn why_left(profile: Option<&Profile>) -> Option<String> {
    match profile {
        None => Some("no rule matches".into()),
        Some(profile) if profile.off => Some(format!("profile {} leaves it alone", profile.name)),
        Some(_) => None,
    }
}

/// Returns the nodes of these CPUs.
pub(crate) fn nodes_of(view: &Snapshot, cpus: &CpuSet) -> Vec<NodeId> {
    let node = |cpu| Some(view.host.core_of(cpu)?.node);
    cpus.iter().filter_map(node).collect::<NodeSet>().iter().collect()
}

/// Returns the CPUs on which its vCPUs float: masks of several CPUs that hold nothing, or no pin at
/// all.
fn floating(view: &Snapshot, running: &Running, held: &CpuSet) -> CpuSet {
    let vcpus = running.domain().all_vcpus();
    let mut all = CpuSet::new();
    for vcpu in vcpus.iter() {
        let thread = live_pins::Thread::Vcpu(vcpu);
        match running.allowed(thread) {
            None => all.extend_from(&cpu_sets::usable(&view.host)),
            Some(mask) if !mask.is_subset(held) => all.extend_from(mask),
            Some(_) => {}
        }
    }
    all
}

/// Returns how much of the time in which they wanted a CPU the threads waited for one, in per cent.
fn wait_percent<'t>(threads: impl Iterator<Item = &'t Thread>) -> Option<f64> {
    let (mut run, mut wait, mut known) = (0u128, 0u128, false);
    for thread in threads {
        run += u128::from(thread.run_ns?);
        wait += u128::from(thread.wait_ns?);
        known = true;
    }
    let whole = run + wait;
    let tenths = (wait * 1000 + whole / 2).checked_div(whole).unwrap_or(0);
    known.then_some(tenths as f64 / 10.0)
}
