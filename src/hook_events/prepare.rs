//! Answer to `prepare begin`: a guest is about to start with the XML it has. libvirt throws stdout
//! away; the effect is the reservation of the guest's CPUs and memory, and the veto. The cases (a),
//! (b), (c) are those of `docs/design.md` section 2.

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::engine::{Decision, EngineError, Question};
use crate::hook_events::claims;
use crate::hook_events::claims::{OwnClaims, PinState};
use crate::hook_events::leftover;
use crate::hook_events::reserve;
use crate::hook_events::reserve::{Reserved, Want};
use crate::hook_events::start::{OBSERVED, Place, StartLine};
use crate::hook_events::{Answer, Call, Context, NO, Outcome, give_up, lines};
use crate::ledger::Taken;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reservation::ReservedPins;
use crate::panics;
use crate::policy::profile::OnNoFit;
use crate::snapshot::Snapshot;
use crate::types::guest_word::guest_word;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;
use crate::types::plan::{Placement, Plan, Scope, Verdict};
use crate::types::reason::{Choice, Reason, Start};
use crate::types::setting::Target;

/// Outcome of the start.
#[derive(Debug)]
enum Fate {
    /// The guest starts.
    Admit {
        /// CPUs, memory and pins to reserve.
        want: Want,
        /// Statement for the log.
        told: Box<StartLine>,
    },
    /// The guest does not start, for the reason in this line.
    Veto(String),
}

/// Answers `prepare begin`.
pub(crate) fn answer(call: &Call, context: &Context<'_>) -> Outcome {
    let guest = match context.source.guest(&call.xml) {
        Ok(guest) => guest,
        Err(error) => return give_up(call, context, None, &format!("stdin: {error}")),
    };
    // The lock, held from the second decision on, or from the first where many guests start.
    let mut held = match reserve::ahead(context) {
        Ok(held) => held,
        Err(error) => return give_up(call, context, Some(&guest), &error.to_string()),
    };
    loop {
        let view = match context.source.current() {
            Ok(view) => view,
            Err(error) => return give_up(call, context, Some(&guest), &error.to_string()),
        };
        let (decision, fate) = match consider(&view, call, &guest, context) {
            Ok(considered) => considered,
            Err(error) => return give_up(call, context, Some(&guest), &format!("stdin: {error}")),
        };
        let verdict = Some(decision.plan().verdict);
        // In mode observe the guest starts as it is, and nothing is reserved or vetoed.
        if view.policy.host.observe {
            let told = match fate {
                Fate::Admit { told, .. } => {
                    log::info!("{}", told.line(&guest.domain.name, true));
                    Some(told)
                }
                Fate::Veto(reason) => {
                    log::info!("would be refused: {reason}{OBSERVED}");
                    None
                }
            };
            return Outcome {
                verdict,
                told,
                ..Outcome::default()
            };
        }
        match fate {
            Fate::Veto(reason) => {
                // A migration or an earlier run of this hook may have left a reservation.
                forget(context, &guest);
                log::info!("{reason}");
                return Outcome {
                    verdict,
                    ..Outcome::veto(format!("virtfit: {reason}"), NO)
                };
            }
            Fate::Admit { want, told } => {
                // Another guest may have taken the CPUs since the view was read; then decide again
                // under the lock.
                match reserve::reserve(call, context, &view, &guest, &want, false, held.take()) {
                    Ok(Reserved::Again(locked)) if !context.is_over() => {
                        held = Some(locked);
                        continue;
                    }
                    Ok(Reserved::Again(_)) => return give_up(call, context, Some(&guest), reserve::OUTRUN),
                    Err(error) => return give_up(call, context, Some(&guest), &error.to_string()),
                    Ok(Reserved::Done | Reserved::Left) => {}
                }
                // A mark of an earlier undecided start no longer applies.
                let mut marks = view.reading.undecided.iter();
                if marks.any(|mark| mark.uuid.eq_ignore_ascii_case(&guest.domain.uuid)) {
                    let _ = context.store.unmark(&guest.domain.uuid);
                }
                log::info!("{}", told.line(&guest.domain.name, false));
                return Outcome {
                    answer: Answer {
                        stdout: decision.xml().unwrap_or_default().to_string(),
                        ..Answer::default()
                    },
                    reserved: want.holds().then(|| want.cpus.clone()),
                    verdict,
                    moved: want.pins.is_some() && !want.cpus.is_empty(),
                    told: Some(told),
                    ..Outcome::default()
                };
            }
        }
    }
}

fn forget(context: &Context<'_>, guest: &GuestXml) {
    if context.is_over() {
        return;
    }
    if let Err(error) = context.store.remove(&guest.domain.uuid) {
        log::warn!("{}: its reservation stays: {error}", guest.domain.name);
    }
}

/// Decides for the guest's next start by the policy, and then the fate of this start.
fn consider(
    view: &Snapshot,
    call: &Call,
    guest: &GuestXml,
    context: &Context<'_>,
) -> Result<(Arc<Decision>, Fate), EngineError> {
    let decision = context
        .source
        .decide(view, &call.xml, Question::of(Scope::Boot))?;
    let taken = view.taken(&guest.domain);
    let case = Case {
        view,
        call,
        guest,
        taken: &taken,
        own: OwnClaims::of(view, guest),
        plan: decision.plan(),
        context,
    };
    let fate = case.fate()?;
    Ok((decision, fate))
}

/// Start that is decided.
struct Case<'a> {
    view: &'a Snapshot,
    call: &'a Call,
    guest: &'a GuestXml,
    taken: &'a Taken,
    own: OwnClaims,
    plan: &'a Plan,
    context: &'a Context<'a>,
}

/// Returns the pins of a placement.
fn pins_of(place: &Placement) -> ReservedPins {
    ReservedPins {
        vcpus: place.vcpus.clone(),
        emulator: place.emulator.clone(),
        iothreads: place.iothreads.clone(),
    }
}

impl Case<'_> {
    fn fate(&self) -> Result<Fate, EngineError> {
        panics::fault_point("start", &self.guest.domain.name);
        let notes = &self.plan.notes;
        // First the guests without a rule or with an unreadable provenance: no place is decided for
        // them.
        if let Some(error) = &self.guest.unreadable {
            let error = error.to_string();
            return Ok(self.as_it_is(Some(Choice::RecordUnreadable { error }.into())));
        }
        if notes.leftover {
            return Ok(self.leftover());
        }
        let Some(on_no_fit) = notes.on_no_fit else {
            // The name of a profile that leaves the guest alone says it all.
            let no_rule = self.plan.profile.is_none();
            return Ok(self.as_it_is(no_rule.then(|| Choice::NoRuleMatches.into())));
        };
        let refuse = on_no_fit == OnNoFit::Refuse;
        let standing = self
            .own
            .standing(self.view, self.guest, &notes.dedicated_vcpus, self.taken);
        let place = fitting(self.plan);
        // Free CPUs that a copied record names are those of the guest it was copied from, and pins
        // by hand that the profile replaces are none.
        let standing = match standing {
            PinState::Free if self.guest.copied => PinState::Absent,
            PinState::Free if place.is_some_and(|place| self.replaces_pins(place)) => PinState::Absent,
            standing => standing,
        };
        // Case (a): the guest has the pins it needs. Memory can still be missing.
        if standing == PinState::Free {
            let refused = self.plan.verdict == Verdict::Refused;
            if refuse && refused && !claims::memory_is_there(self.guest, &self.own, self.taken) {
                return Ok(self.veto(&self.plan.reasons));
            }
            return Ok(match place.filter(|place| self.agrees(place)) {
                // Its vCPUs are pinned as decided, but an isolated emulator or iothread may still
                // lack its CPU.
                Some(place) if !self.alone(place).is_subset(&self.own.cpus) => {
                    self.place(place, &Start::PinsMissing)
                }
                place => self.in_its_pins(place),
            });
        }
        // Under refuse a guest must not run on another guest's CPUs, not even until it is pinned
        // live.
        if let (PinState::Taken(cpus), true) = (&standing, refuse) {
            let held = self.taken.holders_of(cpus);
            return Ok(match place {
                Some(place) if self.still_on(place, cpus) => self.veto(&[Start::PinsStay {
                    cpus: cpus.clone(),
                    by: self.taken.names_of(cpus),
                }
                .into()]),
                Some(place) => self.veto(&[self.moved(held, place)]),
                None => self.veto(&refusal(self.plan, held)),
            });
        }
        // The guest starts with its memory bound by its XML, so only CPUs of those nodes are of
        // use.
        let ask = Question {
            bound: true,
            ..Question::of(Scope::Boot)
        };
        let bound = self.context.source.decide(self.view, &self.call.xml, ask)?;
        let why = match &standing {
            PinState::Taken(cpus) => self.taken.holders_of(cpus),
            PinState::Invalid(fault) => fault.clone(),
            PinState::Absent | PinState::Free if self.guest.copied => Start::CopiedPins,
            PinState::Absent | PinState::Free => Start::NotPinnedYet,
        };
        // A place on CPUs of another guest is no better than the pins of the XML.
        let admitted = fitting(bound.plan()).filter(|place| match &standing {
            PinState::Taken(cpus) => !self.still_on(place, cpus),
            _ => true,
        });
        self.tell_of_dead_pins();
        // Case (b) with a place; without one a veto under refuse, else case (c).
        Ok(match (admitted, refuse) {
            (Some(place), _) => self.place(place, &why),
            (None, true) => match place {
                Some(place) => {
                    let why = match standing {
                        PinState::Invalid(_) => why,
                        _ => Start::MemoryBound,
                    };
                    self.veto(&[self.moved(why, place)])
                }
                None => self.veto(&refusal(self.plan, why)),
            },
            (None, false) => self.floats(&bound, &why),
        })
    }

    /// Tells in the log that libvirt cannot set the pins of the XML, which a hook cannot change.
    fn tell_of_dead_pins(&self) {
        let domain = &self.guest.domain;
        let dead = claims::dead_pins(&self.view.host, domain);
        if !dead.is_empty() {
            let why = Start::CpusUnusable { cpus: dead };
            let word = guest_word(&domain.name, &domain.uuid);
            log::warn!(
                "{}: libvirt cannot start it: {why}: virtfit apply {word}",
                domain.name
            );
        }
    }

    /// Reserves the CPUs of the guest's own pins that no other guest holds.
    fn as_it_is(&self, why: Option<Reason>) -> Fate {
        let want = Want {
            cpus: self.own.free(self.taken),
            withheld: self.without_taken(&self.own.withheld),
            memory: self.own.reserved_memory(),
            pins: None,
        };
        // These pins are not virtfit's to move.
        let collide = self.own.pinned.difference(&self.without_taken(&self.own.pinned));
        let stay = (!collide.is_empty()).then(|| Start::PinsStay {
            by: self.taken.names_of(&collide),
            cpus: collide,
        });
        let why = why.into_iter().chain(stay.map(Reason::from)).collect();
        let place = Place::OwnPins {
            reserved: want.cpus.clone(),
        };
        self.admit(want, place, why)
    }

    /// Decides for a guest with leftover settings: virtfit's pins hold nothing, an administrator's
    /// do.
    fn leftover(&self) -> Fate {
        let others = OwnClaims::of(self.view, &leftover::without_ours(self.guest));
        let cpus = others.free(self.taken);
        let pins = leftover::pins(self.view, self.guest, self.taken);
        let place = match pins.vcpus.values().next() {
            Some(open) => Place::Floats {
                on: open.clone(),
                reserved: cpus.clone(),
            },
            None => Place::OwnPins {
                reserved: cpus.clone(),
            },
        };
        let want = Want {
            cpus,
            withheld: CpuSet::new(),
            memory: self.own.reserved_memory(),
            pins: (pins != ReservedPins::default()).then_some(pins),
        };
        let why = leftover::reason(self.view, &self.guest.domain);
        self.admit(want, place, vec![why.into()])
    }

    /// Case (a): the pins in the guest's XML are free.
    fn in_its_pins(&self, place: Option<&Placement>) -> Fate {
        let withheld = place.map_or(CpuSet::new(), |place| place.withheld.clone());
        match self.as_it_is(self.plan.notes.pinned_away.clone().map(Reason::from)) {
            Fate::Admit { want, told } => Fate::Admit {
                want: Want {
                    withheld: want.withheld.union(&withheld),
                    ..want
                },
                told,
            },
            veto => veto,
        }
    }

    /// Case (b): the guest is promised another place than its XML says.
    fn place(&self, place: &Placement, why: &Start) -> Fate {
        let want = Want {
            // Pins that stay in the XML may be on CPUs that another guest holds.
            cpus: self.without_taken(&self.alone(place)),
            withheld: self.without_taken(&place.withheld),
            memory: self.own.reserved_memory(),
            pins: Some(pins_of(place)),
        };
        let place = Place::Promised {
            reserved: want.cpus.clone(),
        };
        self.admit(want, place, vec![why.clone().into()])
    }

    /// Case (c): only an administrator's pins and huge pages are reserved, as nothing moves these.
    fn floats(&self, bound: &Decision, why: &Start) -> Fate {
        let plan = bound.plan();
        let mut kept = match &plan.placement {
            Some(placement) if self.replaces_pins(placement) => CpuSet::new(),
            _ => self.own.cpus.difference(&self.guest.wrote),
        };
        if let Some(placement) = &plan.placement {
            kept.extend_from(&self.alone(placement));
        }
        let mut memory = self.own.reserved_memory();
        // QEMU takes huge pages as the XML says, wherever its threads run.
        memory.retain(|piece| piece.page_kib.is_some());
        // Untuned is without virtfit's pins: they may name CPUs of other guests.
        let pins = match &plan.placement {
            Some(placement) => Some(pins_of(placement)),
            None => leftover::untuned(self.view, self.guest, self.taken),
        };
        let want = Want {
            // A pin may name a CPU that is offline.
            cpus: self.without_taken(&kept).intersection(&self.view.host.online),
            memory,
            pins,
            ..Want::default()
        };
        // The plan knows why there is no place; that the pins are taken, too, is part of it.
        let mut causes: Vec<Reason> = plan.causes().cloned().collect();
        if causes.is_empty() {
            causes.push(why.clone().into());
        }
        let reserved = want.cpus.clone();
        let place = match (&plan.placement, &want.pins) {
            (Some(placement), _) => Place::Floats {
                on: floating(&placement.vcpus).difference(&kept),
                reserved,
            },
            (None, Some(pins)) => Place::Floats {
                on: floating(&pins.vcpus),
                reserved,
            },
            (None, None) => Place::Untuned { reserved },
        };
        self.admit(want, place, causes)
    }

    fn admit(&self, want: Want, place: Place, mut why: Vec<Reason>) -> Fate {
        if !claims::pages_are_there(self.guest, &self.own, self.taken) {
            why.push(Start::PagesNotFree.into());
        }
        let told = Box::new(StartLine {
            place,
            profile: self.plan.profile.clone(),
            why,
        });
        Fate::Admit { want, told }
    }

    /// Returns the CPUs of a place that can be held: a pin by hand may be on a CPU for all.
    fn alone(&self, place: &Placement) -> CpuSet {
        place.dedicated.intersection(&self.view.sets.dedicated)
    }

    fn without_taken(&self, cpus: &CpuSet) -> CpuSet {
        cpus.difference(&self.taken.cpus.keys().copied().collect())
    }

    /// Returns `true` if the vCPUs' pins in the XML are those of the place.
    fn agrees(&self, place: &Placement) -> bool {
        self.plan.notes.dedicated_vcpus.iter().all(|vcpu| {
            let pin = self.guest.domain.vcpupins.get(&vcpu);
            pin.is_some() && pin == place.vcpus.get(&vcpu)
        })
    }

    /// Returns `true` if an administrator pinned a thread elsewhere than the place is, and the
    /// profile replaces such pins (`on_existing = "override"`): they are moved once it runs.
    fn replaces_pins(&self, place: &Placement) -> bool {
        let profile = self.plan.profile.as_deref();
        let profile = profile.and_then(|name| self.view.policy.profile(name));
        if !profile.is_some_and(|profile| profile.override_existing) {
            return false;
        }
        let domain = &self.guest.domain;
        let elsewhere = |target: Target, now: Option<&CpuSet>, then: &CpuSet| {
            let by_hand = now.is_some_and(|now| now != then) && !self.guest.ours.contains(&target);
            by_hand && !then.is_empty()
        };
        let mut vcpus = place.vcpus.iter();
        let mut iothreads = place.iothreads.iter();
        vcpus.any(|(id, then)| elsewhere(Target::VcpuPin(*id), domain.pin_of(*id), then))
            || elsewhere(Target::EmulatorPin, domain.emulatorpin.as_ref(), &place.emulator)
            || iothreads
                .any(|(id, then)| elsewhere(Target::IothreadPin(*id), domain.iothreadpins.get(id), then))
    }

    /// Returns `true` if the place is on CPUs in `taken`, as it is if virtfit leaves pins alone.
    fn still_on(&self, place: &Placement, taken: &CpuSet) -> bool {
        let pins = place.vcpus.values().filter(|pin| pin.len() == 1);
        let pins = pins.chain([&place.dedicated]);
        pins.into_iter().any(|pin| !pin.is_disjoint(taken))
    }

    /// Says that the guest cannot start on its pins, and that there is another place.
    fn moved(&self, why: Start, place: &Placement) -> Reason {
        let why = Box::new(why);
        let to = place.dedicated.clone();
        let moved = match self.context.daemon {
            true => Start::Moved { why, to },
            false => Start::CouldMove {
                why,
                to,
                guest: guest_word(&self.guest.domain.name, &self.guest.domain.uuid).to_string(),
            },
        };
        moved.into()
    }

    fn veto(&self, reasons: &[Reason]) -> Fate {
        Fate::Veto(lines::veto(&self.guest.domain.name, reasons))
    }
}

/// Returns the CPUs on which vCPUs float.
fn floating(vcpus: &BTreeMap<VcpuId, CpuSet>) -> CpuSet {
    let masks = vcpus.values();
    masks.fold(CpuSet::new(), |all, mask| all.union(mask))
}

/// Returns the placement of a plan if it fits.
fn fitting(plan: &Plan) -> Option<&Placement> {
    plan.placement.as_ref().filter(|placement| placement.fits)
}

/// Returns the plan's reasons for a refusal, or `otherwise` if it has none.
fn refusal(plan: &Plan, otherwise: Start) -> Vec<Reason> {
    match plan.verdict {
        Verdict::Refused if !plan.reasons.is_empty() => plan.reasons.clone(),
        _ => vec![otherwise.into()],
    }
}
