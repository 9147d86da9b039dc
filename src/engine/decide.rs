//! One decision, step by step: the demand, the placement, the settings, the XML.

use std::collections::BTreeSet;

use crate::domain::Domain;
use crate::engine::demand::Demanded;
use crate::engine::effective::EffectiveProfile;
use crate::engine::{
    Decision, EngineError, Inputs, demand, incoming, obsolete, settings, shown, supply, support, untrue,
};
use crate::host::Host;
use crate::ledger;
use crate::placement::CoreKind;
use crate::policy::profile::{Cpus, OnNoFit};
use crate::policy::{Profile, cpu_sets};
use crate::rewrite::{self, Head, Provenance};
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::plan::{Plan, Scope, Verdict};
use crate::types::reason::{Given, NoPlace, Outcome, Reason, Untrue};
use crate::types::setting::{Setting, Target, Value};
use crate::types::target::Effect;
use crate::xml::Document;

/// Decision while it is made.
pub(crate) struct DecisionMaker<'a> {
    pub inputs: &'a Inputs<'a>,
    /// XML as it was given.
    pub document: &'a Document<'a>,
    pub current: &'a Domain,
    /// XML as it was before virtfit changed it: an administrator's.
    pub base: &'a Document<'a>,
    /// Domain that `base` describes.
    pub came: &'a Domain,
    /// Domain of `came` without what belongs to another host.
    pub domain: &'a Domain,
    pub provenance: Option<Provenance>,
    /// Record of another guest, from which the definition was copied: the values it names are
    /// virtfit's to replace.
    pub inherited: Option<Provenance>,
    /// Guest whose definition claims the same CPUs, where the record names no guest.
    pub twin: Option<&'a str>,
    /// Settings that virtfit wrote and that were changed by hand since: an administrator's.
    pub changed: BTreeSet<Target>,
    /// The recorded shape was for another number of vCPUs, so everything is decided afresh.
    pub reshaped: bool,
    pub profile: Profile,
}

impl DecisionMaker<'_> {
    /// Makes the decision.
    ///
    /// # Errors
    /// The policy contradicts itself for this guest.
    pub(crate) fn decide(self, mut plan: Plan) -> Result<Decision, EngineError> {
        let Inputs {
            host,
            policy,
            ledger,
            facts,
            scope,
            ..
        } = *self.inputs;
        // What the host can give: its CPU sets, less what other guests hold.
        let sets = cpu_sets::resolve(&policy.host, host);
        let taken = ledger::taken::taken(
            ledger,
            &self.current.uuid,
            &self.current.name,
            host,
            &sets.dedicated,
            &policy.host,
        );
        // What the guest asks for, as far as this guest, scope and host allow.
        let given = self.provenance.iter().flat_map(|provenance| &provenance.owned);
        let given = given.into_iter().any(|owned| owned.target == Target::CpuMode);
        let wishes = EffectiveProfile::new(&self.profile, self.domain, host, scope, given);
        plan.notes.not_done.extend(wishes.left_out.iter().cloned());
        plan.notes.kept.extend(wishes.ruled.iter().cloned());
        let supplies = supply::Supplies::new(host, &sets, &taken, &policy.host);
        let previous = self.previous_pins();
        let demanded = demand::demand(&demand::Context {
            wishes: &wishes,
            domain: self.domain,
            current: self.current,
            host,
            facts,
            policy: &policy.host,
            shape: self.shape(),
            supplies: &supplies,
            scope,
            bound: self.inputs.bound,
        });
        plan.notes.on_no_fit = Some(wishes.on_no_fit);
        // Floating vCPUs stay within a `vcpu@cpuset` that is kept, which the demand knows.
        plan.notes.dedicated_vcpus = wishes.dedicated.clone();
        let supplies = supplies.floating_within(demanded.demand.within.as_ref());
        // A demand that is broken from the start needs no search.
        plan.reasons.extend(demanded.broken.iter().cloned());
        let placed = match demanded.broken.is_empty() {
            true if wishes.profile.cpus == Cpus::Keep => self.as_it_is(&demanded, &supplies),
            true => self.place(&wishes, &demanded, &supplies, &previous),
            false => Err(Vec::new()),
        };
        let placed = placed.map(|mut placed| {
            self.keep_pins(&mut placed, &demanded);
            placed
        });
        // What the host does not allow is a refusal under `refuse`; otherwise that part is left
        // out.
        let not_allowed = wishes.not_allowed(host, self.domain)?;
        let (placed, fits) = match placed {
            Ok(placed) if not_allowed.is_empty() || wishes.on_no_fit != OnNoFit::Refuse => {
                plan.notes.not_done.extend(not_allowed);
                (placed, true)
            }
            placed => {
                plan.reasons.extend(placed.err().unwrap_or_default());
                plan.reasons.extend(not_allowed.into_iter().map(|note| note.why));
                match wishes.on_no_fit {
                    OnNoFit::Refuse => {
                        plan.verdict = Verdict::Refused;
                        return Ok(Decision::Refused(plan));
                    }
                    OnNoFit::RunUntuned => {
                        plan.reasons.push(Outcome::RunsUntuned.into());
                        return self.untuned(plan);
                    }
                    OnNoFit::RunShared => match demanded.floating(host, &supplies) {
                        Some(mut placed) => {
                            plan.reasons.push(Outcome::RunsShared.into());
                            self.keep_pins(&mut placed, &demanded);
                            (placed, false)
                        }
                        None => {
                            plan.reasons.push(Outcome::RunsUntunedWithoutShared.into());
                            return self.untuned(plan);
                        }
                    },
                }
            }
        };
        // A placement that is not the best, or not what one would expect, says so.
        if placed.bounded {
            plan.reasons.push(Outcome::SearchCutShort.into());
        }
        if fits && !placed.own_cores && demanded.demand.kept.is_empty() {
            plan.reasons.push(Outcome::CoresShared.into());
        }
        let chosen = demanded.demand.kept.is_empty() && demanded.demand.core_kind == CoreKind::Auto;
        if fits && chosen && placed.key.kind > 0 {
            plan.reasons.push(Outcome::SlowCores.into());
        }
        plan.reasons.extend(self.whose_place());
        // Emulator threads and iothreads go beside vCPUs that are placed, and settings follow from
        // both.
        let support = support::place(&support::Context {
            wishes: &wishes,
            domain: self.domain,
            host,
            sets: &sets,
            occupied: &taken.occupied,
            provenance: self.provenance.as_ref(),
            placed: &placed,
            fits,
        })?;
        let mut list = settings::list(&settings::Context {
            wishes: &wishes,
            domain: self.domain,
            current: self.current,
            host,
            facts,
            supply: &supplies.now,
            dedicated: &sets.dedicated,
            placed: &placed,
            demanded: &demanded,
            support: &support,
            fits,
            scope,
            provenance: self.provenance.as_ref(),
            changed: &self.changed,
            shaped: self.shape().is_some(),
        });
        // A shape that is not true of its place is told, where showing the place is asked for.
        let shown = list
            .shown
            .filter(|_| fits && wishes.mirrors && !wishes.dedicated.is_empty());
        if let Some(shown) = shown {
            let told = plan.reasons.contains(&Outcome::CoresShared.into());
            let untrue = untrue::parts(host, &placed, shown, demanded.demand.mirror);
            let new = |part: &Untrue| !(told && matches!(part, Untrue::CoresTogether { .. }));
            plan.reasons
                .extend(untrue.into_iter().filter(new).map(Reason::from));
        }
        // Pins of another host that no setting replaces are removed; those of an administrator that
        // this host cannot honour are named.
        let removals = incoming::removals(self.came, self.domain, &list.settings);
        list.settings.extend(removals);
        let stale = obsolete::reasons(self.domain, host, &list.settings);
        let said = plan.reasons.iter().any(names_a_pin);
        let fresh = |reason: &Given| !(said && reason.is_of_vcpu_pin());
        plan.reasons
            .extend(stale.into_iter().filter(fresh).map(Reason::from));
        if fits {
            plan.notes.pinned_away = without_own(&demanded, &wishes, &sets.dedicated);
            plan.reasons
                .extend(plan.notes.pinned_away.clone().map(Reason::from));
        }
        if fits {
            let apart = demanded.kept_memory.apart(host, &placed);
            plan.reasons.extend(apart.into_iter().map(Reason::from));
        }
        plan.reasons
            .extend(throttled(self.domain, host, &list.settings).map(Reason::from));
        plan.notes.kept.extend(list.kept);
        plan.notes.not_done.extend(list.not_done);
        // The plan shows the placement, and the provenance records it.
        let mut placement = shown::show(&placed, &support, list.shown, fits, self.domain);
        demanded.kept_memory.show(&mut placement.cells);
        placement.dedicated = shown::dedicated(&placed, &demanded, fits);
        plan.placement = Some(placement);
        let head = Head {
            uuid: Some(self.current.uuid.clone()).filter(|uuid| !uuid.is_empty()),
            profile: self.profile.name.clone(),
            policy_digest: policy.digest.clone(),
            shape: list.shape,
            withheld: if fits {
                placed.withheld.clone()
            } else {
                CpuSet::new()
            },
            on_no_fit: wishes.on_no_fit,
        };
        self.write(plan, &list.settings, &head)
    }

    /// Says that a place is not the one the definition names, as its record is not of this guest.
    fn whose_place(&self) -> Option<Reason> {
        if self.inherited.is_some() {
            return Some(Outcome::CopiedRecord.into());
        }
        let guest = self.twin.map(str::to_string)?;
        Some(Outcome::SameClaim { guest }.into())
    }

    /// Leaves the guest as an administrator wrote it: values of another guest's record go.
    fn untuned(self, mut plan: Plan) -> Result<Decision, EngineError> {
        let Some(inherited) = &self.inherited else {
            return Ok(Decision::Unchanged(plan));
        };
        plan.changes = rewrite::changes(self.document, self.base, &[], Some(inherited))?;
        plan.reasons.extend(self.whose_place());
        plan.verdict = Verdict::Tuned;
        Ok(Decision::Tuned {
            xml: self.base.text().to_string(),
            plan,
        })
    }

    fn write(self, mut plan: Plan, settings: &[Setting], head: &Head) -> Result<Decision, EngineError> {
        let settled = match &self.provenance {
            Some(provenance) => {
                // Another policy that asks for equal settings is no difference. A record without
                // the guest's UUID is one, except on the way in, where every answer taints.
                let recorded = &provenance.head;
                let wanted = Head {
                    uuid: recorded.uuid.clone(),
                    policy_digest: recorded.policy_digest.clone(),
                    ..head.clone()
                };
                let named = recorded.uuid == head.uuid || self.inputs.scope == Scope::Incoming;
                let same = rewrite::in_force(self.document, provenance, settings, &wanted)?;
                plan.notes.only_named = same && !named;
                same && named
            }
            None => settings.is_empty() && self.inherited.is_none(),
        };
        if settled {
            // A reason that is there already is enough; this one would only contradict it.
            if plan.reasons.is_empty() {
                let pinned = plan.kept_pins().next().is_some();
                let why = match self.provenance.is_some() {
                    _ if pinned => Outcome::PinsStay,
                    true => Outcome::TunedAlready,
                    false => Outcome::NothingToChange,
                };
                plan.reasons.push(why.into());
            }
            return Ok(Decision::Unchanged(plan));
        }
        let xml = match settings.is_empty() {
            true => self.base.text().to_string(),
            false => rewrite::apply(self.base, settings, head)?,
        };
        let after = Document::parse(&xml)?;
        let before = self.provenance.as_ref().or(self.inherited.as_ref());
        plan.changes = rewrite::changes(self.document, &after, settings, before)?;
        if plan.notes.only_named {
            plan.reasons.push(Outcome::RecordNamed.into());
        }
        if self.inputs.scope == Scope::Incoming {
            plan.changes
                .iter_mut()
                .for_each(|change| change.effect = Effect::AtOnce);
        }
        plan.verdict = Verdict::Tuned;
        Ok(Decision::Tuned { xml, plan })
    }
}

/// Returns whether a reason names a vCPU pin that is in the way.
fn names_a_pin(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::NoPlace(NoPlace::PinHeld { .. } | NoPlace::PinOffline { .. } | NoPlace::PinNotAllowed { .. })
    )
}

/// Says that the kernel throttles the real-time vCPUs that a guest has.
fn throttled(domain: &Domain, host: &Host, settings: &[Setting]) -> Option<Outcome> {
    let written = settings
        .iter()
        .find(|setting| setting.target == Target::VcpuSched);
    let by_hand = || {
        let mut all = domain.vcpuscheds.iter();
        all.any(|sched| matches!(sched.scheduler.as_str(), "fifo" | "rr"))
    };
    let realtime = written.map_or_else(by_hand, |setting| setting.value != Value::Absent);
    let runtime_us = host.rt_runtime_us.filter(|runtime| *runtime > 0)?;
    realtime.then_some(Outcome::RealtimeThrottled { runtime_us })
}

/// Names the vCPUs that have no CPU of their own, though the profile asks for one, because an
/// administrator pinned them elsewhere.
fn without_own(demanded: &Demanded, wishes: &EffectiveProfile, dedicated: &CpuSet) -> Option<Given> {
    let (mut vcpus, mut cpus) = (VcpuSet::new(), CpuSet::new());
    for (vcpu, pin) in &demanded.kept_pins {
        if wishes.dedicated.contains(*vcpu) && !pin.is_subset(dedicated) {
            vcpus.insert(*vcpu);
            cpus.extend_from(pin);
        }
    }
    (!vcpus.is_empty()).then_some(Given::PinnedAway { vcpus, cpus })
}
