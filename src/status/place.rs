//! Comparison of a running guest with what its profile asks for: some vCPUs each have a CPU of
//! their own, the others float.

use std::collections::BTreeMap;

use crate::domain::parse;
use crate::engine::effective::EffectiveProfile;
use crate::engine::{Decision, Question};
use crate::ledger::live_pins::{Pinned, Records, Thread};
use crate::ledger::reservation::Reservation;
use crate::ledger::running::Running;
use crate::libvirt::LiveChange;
use crate::live;
use crate::live::plan;
use crate::live::plan::{Case, Live};
use crate::policy::profile::{Cpus, Hotplug};
use crate::policy::{Profile, cpu_sets};
use crate::snapshot::Snapshot;
use crate::status::by_hand;
use crate::status::note::{Code, Note};
use crate::status::pending::RESTART;
use crate::types::guest_word::guest_word;
use crate::types::ids::VcpuId;
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::plan::Scope;
use crate::types::plural::{cpus, is_or_are};
use crate::types::reason::Reason;

/// Running guest to be compared.
pub(crate) struct Place<'a> {
    /// Policy, host and ledger.
    pub view: &'a Snapshot,
    /// Status file, parsed.
    pub running: &'a Running,
    /// Text of the status file.
    pub status: &'a str,
    /// Text of the definition.
    pub definition: Option<&'a str>,
    /// Live records of all guests.
    pub records: &'a Records,
    /// CPUs the guest holds.
    pub held: &'a CpuSet,
    /// Profile by which the guest runs; `None`: no rule matches, or the guest is left alone.
    pub profile: Option<&'a Profile>,
    /// A pending note of the guest says what to do.
    pub waits: bool,
}

/// vCPUs that are not where they should be.
#[derive(Default)]
struct Lacking {
    /// CPUs on which vCPUs float that should have one CPU each.
    floating: CpuSet,
    /// vCPUs an administrator pinned to CPUs that the guest does not hold.
    away: Vec<(VcpuId, CpuSet)>,
    /// vCPUs that are to have a CPU each, on fewer CPUs than they are, with these CPUs.
    crowded: Vec<(VcpuSet, CpuSet)>,
    /// CPUs that virtfit gave to vCPUs that should float.
    too_much: CpuSet,
}

/// Returns notes on vCPUs that are not where the guest's profile wants them, and on pins that are
/// an administrator's.
pub(crate) fn notes(place: &Place<'_>) -> Vec<Note> {
    let Some(profile) = place.profile else {
        return Vec::new();
    };
    let domain = place.running.domain();
    let record = place.records.of(&domain.uuid, place.running.pid);
    let lacking = lacking(place, profile, record);
    let away = lacking.away.iter().map(|(vcpu, mask)| away(place, *vcpu, mask));
    let crowded = lacking.crowded.iter().map(|(vcpus, mask)| crowded(vcpus, mask));
    let mut out: Vec<Note> = away.chain(crowded).collect();
    // Without a record or provenance the guest was never pinned by virtfit: a profile that lets all
    // vCPUs float still says where.
    let untouched = record.is_none() && place.running.provenance.is_none();
    if !lacking.floating.is_empty() || (untouched && profile.cpus != Cpus::Keep) {
        out.extend(why(place, &lacking.floating));
    }
    if !lacking.too_much.is_empty() {
        let text = format!(
            "holds {}, though profile {} asks for none there{}",
            cpus(&lacking.too_much),
            profile.name,
            restart(place)
        );
        out.push(Note::new(Code::HoldsTooMuch, text));
    }
    // A pin that keeps its vCPU from a CPU of its own is said above.
    let said = |thread: &Thread| {
        let Thread::Vcpu(vcpu) = thread else {
            return false;
        };
        lacking.away.iter().any(|(away, _)| away == vcpu)
            || lacking.crowded.iter().any(|(crowded, _)| crowded.contains(*vcpu))
    };
    let mut by_hand = by_hand::of_running(place.running, record);
    // Nor does one stay that the profile replaces.
    let stays = |pin: &CpuSet| !profile.override_existing || pin.is_subset(place.held);
    by_hand.retain(|(thread, pin)| !said(thread) && stays(pin));
    out.extend(by_hand::note(&by_hand));
    out
}

fn lacking(place: &Place<'_>, profile: &Profile, record: Option<&Pinned>) -> Lacking {
    let running = place.running;
    let domain = running.domain();
    let wishes = EffectiveProfile::new(profile, domain, &place.view.host, Scope::Incoming, true);
    let mut out = Lacking::default();
    // An empty slot may hold a CPU or float, unless the profile says that it holds one.
    let slots = match profile.hotplug {
        Hotplug::Hold => VcpuSet::new(),
        Hotplug::Auto | Hotplug::Float => domain.empty_slots.clone(),
    };
    let plugged_in = plugged_in(place, &wishes);
    // vCPUs on held CPUs, by the CPUs each may run on.
    let mut placed: BTreeMap<CpuSet, VcpuSet> = BTreeMap::new();
    let mut place_on = |mask: &CpuSet, vcpu| {
        placed.entry(mask.clone()).or_default().insert(vcpu);
    };
    for vcpu in domain.all_vcpus().difference(&slots).iter() {
        let thread = Thread::Vcpu(vcpu);
        let mask = running.allowed(thread);
        let own = mask.filter(|mask| mask.len() == 1 && mask.is_subset(place.held));
        let by_hand = thread
            .pin(domain)
            .filter(|pin| !by_hand::is_ours(running, record, thread, pin))
            // Pins that the profile replaces are no reason to be elsewhere.
            .filter(|_| !profile.override_existing);
        match (wishes.dedicated.contains(vcpu), own, by_hand) {
            (true, Some(own), _) => place_on(own, vcpu),
            // Several CPUs, all of which the guest holds: the pin was written by hand, and no other
            // guest runs there.
            (true, None, Some(pin)) if pin.is_subset(place.held) => place_on(pin, vcpu),
            (true, None, Some(pin)) => out.away.push((vcpu, pin.clone())),
            (true, None, None) if plugged_in.contains(vcpu) => {}
            (true, None, None) => match mask {
                Some(mask) => out.floating.extend_from(mask),
                None => out.floating.extend_from(&cpu_sets::usable(&place.view.host)),
            },
            (false, Some(own), None) if wishes.profile.cpus != Cpus::Keep => out.too_much.extend_from(own),
            (false, ..) => {}
        }
    }
    out.crowded = crowds(placed);
    out
}

/// Returns the vCPUs that the definition has as empty slots, and that float by what virtfit wrote
/// for them while it gave others CPUs of their own: they were plugged in since.
fn plugged_in(place: &Place<'_>, wishes: &EffectiveProfile) -> VcpuSet {
    let wrote = |vcpu: VcpuId| place.running.wrote(Thread::Vcpu(vcpu));
    let has_own = |vcpu: VcpuId| wrote(vcpu).is_some_and(|pin| pin.len() == 1 && pin.is_subset(place.held));
    let floats = |vcpu: &VcpuId| wrote(*vcpu).is_some_and(|pin| !pin.is_subset(place.held));
    if wishes.profile.hotplug == Hotplug::Hold || !wishes.dedicated.iter().any(has_own) {
        return VcpuSet::new();
    }
    let definition = place.definition.and_then(|text| parse::from_text(text).ok());
    let slots = definition.map(|domain| wishes.dedicated.intersection(&domain.empty_slots));
    slots.unwrap_or_default().iter().filter(floats).collect()
}

/// Returns the vCPUs that have fewer CPUs together than they are, with these CPUs; each vCPU once.
/// `placed`: vCPUs by the CPUs each may run on.
fn crowds(placed: BTreeMap<CpuSet, VcpuSet>) -> Vec<(VcpuSet, CpuSet)> {
    let mut masks: Vec<(CpuSet, VcpuSet)> = placed.into_iter().collect();
    masks.sort_by_key(|(mask, _)| mask.len());
    let (mut out, mut used, mut said) = (Vec::new(), CpuSet::new(), VcpuSet::new());
    for (mask, _) in &masks {
        let inside = masks.iter().filter(|(other, _)| other.is_subset(mask));
        let vcpus = inside.fold(VcpuSet::new(), |all, (_, vcpus)| all.union(vcpus));
        let vcpus = vcpus.difference(&said);
        // CPUs that others crowd on are none of theirs.
        let left = mask.difference(&used);
        if vcpus.len() > left.len() {
            used.extend_from(mask);
            said.extend_from(&vcpus);
            out.push((vcpus, mask.clone()));
        }
    }
    out
}

/// Returns the note on a vCPU that was pinned away by hand, with the command that gives it back the
/// CPU that virtfit wrote for it, where no other guest holds that.
fn away(place: &Place<'_>, vcpu: VcpuId, mask: &CpuSet) -> Note {
    let text = format!(
        "vCPU {vcpu} was pinned to {} by hand: no CPU of its own",
        cpus(mask)
    );
    let domain = place.running.domain();
    let taken = place.view.taken(domain);
    let wrote = place.running.wrote(Thread::Vcpu(vcpu));
    let own = wrote.filter(|own| own.len() == 1 && own.iter().all(|cpu| !taken.cpus.contains_key(&cpu)));
    match own {
        Some(own) => {
            let word = guest_word(&domain.name, &domain.uuid);
            let command = format!("virsh vcpupin {word} {vcpu} {own} --live");
            Note::with_command(Code::PinnedAway, format!("{text}; to give it back"), command)
        }
        None => Note::new(Code::PinnedAway, text),
    }
}

fn crowded(vcpus: &VcpuSet, mask: &CpuSet) -> Note {
    let text = format!(
        "{} vCPUs ({vcpus}) are pinned to {}: no CPU of its own for each",
        vcpus.len(),
        cpus(mask)
    );
    Note::new(Code::PinnedAway, text)
}

/// Returns a note on why vCPUs are not where the profile wants them. `floating` are the CPUs on
/// which they float though they should have CPUs of their own.
fn why(place: &Place<'_>, floating: &CpuSet) -> Option<Note> {
    // The live plan is what the daemon would do now.
    let case = Case {
        status: place.status,
        reservations: &place.view.reading.reservations,
        pinned: place.records,
        follows: live::follows(&place.running.domain().name, place.view),
    };
    let live = match plan::plan(case, place.view) {
        Ok(live) => live,
        Err(error) => {
            if error.is_bug() {
                return Some(Note::new(Code::Failed, error.to_string()));
            }
            let text = format!("cannot be decided: {error}");
            return Some(Note::new(Code::Undecidable, text));
        }
    };
    // The first of these that applies is the note: no placement, observe mode, not pinned yet, or
    // pins that only a new start can give.
    let Elsewhere { wanted, now } = elsewhere(place, &live);
    let at = on_now(place, floating);
    let reason = || {
        live.reasons
            .first()
            .map(Reason::to_string)
            .or_else(|| cause(place))
    };
    if let Some(reason) = Some(()).filter(|()| !floating.is_empty()).and_then(|()| reason()) {
        let text = format!("no place: {at}: {reason}");
        return Some(Note::new(Code::NoPlace, text));
    }
    if !wanted.is_empty() && live.observe {
        let text = format!(
            "observe: its vCPUs would be on {}, and may run on {}",
            cpus(&wanted),
            cpus(&now)
        );
        return Some(Note::new(Code::Observe, text).wrong());
    }
    if !wanted.is_empty() && live.waits_for_start {
        let runs =
            offline(place, &now).unwrap_or_else(|| format!("floats on {}, as it was started", cpus(&now)));
        let text = format!(
            "not pinned: {runs}, and could be on {}{}",
            cpus(&wanted),
            restart(place)
        );
        return Some(Note::new(Code::NotPinned, text));
    }
    if !wanted.is_empty() {
        // Where CPUs are for one guest alone, the first of several gets what each could have.
        let reservation = Reservation::of(&place.view.reading.reservations, &place.running.domain().uuid);
        let promised = reservation.is_some_and(|promised| wanted.is_subset(&promised.cpus));
        let verb = match promised || floating.is_empty() {
            true => "are to be on",
            false => "could have",
        };
        let runs = offline(place, &now).unwrap_or_else(|| format!("may run on {}", cpus(&now)));
        let text = format!("not pinned: its vCPUs {verb} {}, and {runs}", cpus(&wanted));
        return Some(Note::new(Code::NotPinned, text));
    }
    if floating.is_empty() {
        return None;
    }
    // No live change, and no reason against a place: a start would give it one.
    let decision = place
        .definition
        .and_then(|text| place.view.decide(text, Question::of(Scope::Boot)).ok());
    let placement = decision
        .as_ref()
        .and_then(|decision| decision.plan().placement.as_ref());
    let could = match placement.filter(|placement| placement.fits && !placement.dedicated.is_empty()) {
        Some(placement) => format!(", and could have {}", cpus(&placement.dedicated)),
        None => String::new(),
    };
    let text = format!("not pinned: {at}, as it was started{could}{}", restart(place));
    Some(Note::new(Code::NotPinned, text))
}

/// Returns words for CPUs that vCPUs are pinned to: those that are offline carry none.
fn on_now(place: &Place<'_>, floating: &CpuSet) -> String {
    let alive = floating.intersection(&place.view.host.online);
    match offline(place, floating) {
        None => format!("floats on {}", cpus(floating)),
        Some(dead) if alive.is_empty() => dead,
        Some(dead) => format!("floats on {}, and {dead}", cpus(&alive)),
    }
}

/// Names those of these CPUs that are offline: vCPUs on the others are not what is wrong. `None`
/// where all are online.
fn offline(place: &Place<'_>, all: &CpuSet) -> Option<String> {
    let dead = all.difference(&place.view.host.online);
    (!dead.is_empty()).then(|| format!("its {} {} offline", cpus(&dead), is_or_are(dead.len())))
}

/// Returns the advice to start the guest again, unless a pending note gives it.
fn restart(place: &Place<'_>) -> String {
    match place.waits {
        true => String::new(),
        false => format!(": {RESTART}"),
    }
}

/// Returns the reason why a start would give the guest no placement now, by its definition: live
/// pins look like an administrator's in the running XML.
fn cause(place: &Place<'_>) -> Option<String> {
    let decision = place
        .view
        .decide(place.definition?, Question::of(Scope::Boot))
        .ok()?;
    let plan = decision.plan();
    let without = plan.is_without_place() || matches!(decision, Decision::Refused(_));
    without.then(|| plan.causes().next().map(Reason::to_string))?
}

/// vCPUs that the daemon would pin to other CPUs than those they may run on now.
#[derive(Default)]
struct Elsewhere {
    /// CPUs to which they would be pinned.
    wanted: CpuSet,
    /// CPUs on which they may run now.
    now: CpuSet,
}

fn elsewhere(place: &Place<'_>, live: &Live) -> Elsewhere {
    let usable = cpu_sets::usable(&place.view.host);
    let mut out = Elsewhere::default();
    for change in &live.changes {
        let LiveChange::PinVcpu(vcpu, wanted) = change else {
            continue;
        };
        let now = place.running.allowed(Thread::Vcpu(*vcpu)).unwrap_or(&usable);
        // A pin that changes nothing is not missing.
        if now != wanted {
            out.wanted.extend_from(wanted);
            out.now.extend_from(now);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::types::ids::HostCpu;

    #[test]
    fn vcpus_that_share_too_few_cpus_are_found() {
        let cpus = |list: &[u32]| list.iter().map(|cpu| HostCpu(*cpu)).collect::<CpuSet>();
        // masks of vCPU 0, 1, …; crowds
        for (masks, want) in [
            (&[&[4][..], &[5]][..], &[][..]),
            (&[&[4, 5], &[4, 5]], &[]),
            (&[&[4], &[4]], &["0-1 on 4"]),
            (&[&[4, 5], &[4, 5], &[4, 5]], &["0-2 on 4-5"]),
            (&[&[4, 5], &[4], &[5]], &["0-2 on 4-5"]),
            (&[&[4], &[4], &[4, 5]], &["0-1 on 4"]),
            (&[&[4], &[4], &[4, 5], &[4, 5]], &["0-1 on 4", "2-3 on 4-5"]),
        ] {
            let mut placed: BTreeMap<CpuSet, VcpuSet> = BTreeMap::new();
            for (vcpu, mask) in (0..).zip(masks) {
                placed.entry(cpus(mask)).or_default().insert(VcpuId(vcpu));
            }
            let found = crowds(placed);
            let found: Vec<String> = found
                .iter()
                .map(|(vcpus, mask)| format!("{vcpus} on {mask}"))
                .collect();
            assert_eq!(found, want, "{masks:?}");
        }
    }
}
