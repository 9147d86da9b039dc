//! One decision, step by step: the demand, the placement, the settings, the XML.

use std::collections::BTreeSet;

use crate::domain::Domain;
use crate::engine::case::Case;
use crate::engine::demand::Demanded;
use crate::engine::effective::EffectiveProfile;
use crate::engine::fit::Fit;
use crate::engine::settings::List;
use crate::engine::supply::Supplies;
use crate::engine::{
    Decision, EngineError, Inputs, demand, floats, incoming, remarks, settings, shown, supply, support,
};
use crate::ledger;
use crate::placement::Placed;
use crate::policy::profile::{Cpus, Hotplug, OnNoFit};
use crate::policy::{Profile, cpu_sets};
use crate::rewrite::{self, Head, Provenance};
use crate::types::idset::CpuSet;
use crate::types::plan::{Plan, Scope, Verdict};
use crate::types::reason::{Outcome, Reason};
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

/// Search for a place, with what was asked for.
struct Attempt<'c> {
    case: Case<'c>,
    demanded: Demanded,
    /// CPUs and memory that the host can give in this case.
    supplies: Supplies,
    /// Place, or the reasons for which there is none.
    found: Result<Placed, Vec<Reason>>,
    /// Remark on a place with huge pages that other definitions ask for, too.
    contested: Option<Outcome>,
}

/// Outcome for a guest that finds no place.
enum Fallback {
    /// The guest floats on the shared CPUs, here.
    Shared(Box<Placed>),
    Untuned,
    Refused,
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
            question,
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
        let supplies = supply::Supplies::new(host, &sets, &taken, &policy.host);
        // What the guest asks for, as far as this guest, scope and host allow.
        let all = self.wishes(&mut plan);
        let fewer = all.without_slots(self.domain);
        let case = Case {
            wishes: &all,
            domain: self.domain,
            current: self.current,
            host,
            facts,
            policy: &policy.host,
            sets: &sets,
            occupied: &taken.occupied,
            scope: question.scope,
            bound: question.bound,
            provenance: self.provenance.as_ref(),
            changed: &self.changed,
            shape: self.shape(),
        };
        // The place, or what `on_no_fit` says where there is none.
        let own = (self.current.uuid.as_str(), self.current.name.as_str());
        let beside = supplies.beside_claims(&taken, ledger, own, facts.autostart);
        let Attempt {
            case,
            demanded,
            supplies,
            found,
            contested,
        } = self.attempt_beside_claims(case, fewer.as_ref(), beside, supplies);
        let wishes = case.wishes;
        plan.notes.dedicated_vcpus = wishes.dedicated.clone();
        plan.reasons.extend(demanded.broken.iter().cloned());
        let not_allowed = wishes.not_allowed(host, self.domain)?;
        let (placed, fits) = match found {
            Ok(placed) if not_allowed.is_empty() || wishes.on_no_fit != OnNoFit::Refuse => {
                plan.notes.not_done.extend(not_allowed);
                (placed, true)
            }
            found => {
                plan.reasons.extend(found.err().unwrap_or_default());
                plan.reasons.extend(not_allowed.into_iter().map(|note| note.why));
                match self.without_place(&case, &demanded, &supplies, &mut plan) {
                    Fallback::Shared(placed) => (*placed, false),
                    Fallback::Untuned => return self.untuned(plan),
                    Fallback::Refused => {
                        plan.verdict = Verdict::Refused;
                        return Ok(Decision::Refused(plan));
                    }
                }
            }
        };
        let fit = Fit {
            case: &case,
            supply: &supplies.now,
            demanded: &demanded,
            placed: &placed,
            fits,
        };
        plan.reasons.extend(remarks::of_place(&fit));
        plan.reasons.extend(contested.map(Reason::from));
        plan.reasons.extend(self.whose_place());
        // Emulator threads and iothreads go beside vCPUs that are placed, and settings follow from
        // both.
        let support = support::place(&fit)?;
        let mut list = settings::list(&fit, &support);
        // Pins of another host that no setting replaces are removed.
        let removals = incoming::removals(self.came, self.domain, &list.settings);
        list.settings.extend(removals);
        remarks::of_values(&fit, &list, &mut plan);
        plan.notes.kept.append(&mut list.kept);
        plan.notes.not_done.append(&mut list.not_done);
        // The plan shows the placement, and the provenance records it.
        plan.placement = Some(shown::placement(&fit, &support, list.shown));
        let head = self.head(&fit, &list);
        let as_recorded = floats::as_recorded(&fit, &list.settings, &supplies.empty, &policy.digest);
        self.write(plan, &list.settings, as_recorded.as_deref(), &head)
    }

    /// Returns what the guest asks for, and notes what it does not get.
    fn wishes(&self, plan: &mut Plan) -> EffectiveProfile {
        let mut given = self.provenance.iter().flat_map(|provenance| &provenance.owned);
        let given = given.any(|owned| owned.target == Target::CpuMode);
        let Inputs { host, question, .. } = *self.inputs;
        let wishes = EffectiveProfile::new(&self.profile, self.domain, host, question.scope, given);
        plan.notes.not_done.extend(wishes.left_out.iter().cloned());
        plan.notes.kept.extend(wishes.ruled.iter().cloned());
        plan.notes.on_no_fit = Some(wishes.on_no_fit);
        plan.notes.dedicated_vcpus = wishes.dedicated.clone();
        wishes
    }

    /// Searches a place with the huge pages that no other definition claims (`beside`), and where
    /// there is none with all that are free (`supplies`).
    fn attempt_beside_claims<'c>(
        &self,
        case: Case<'c>,
        fewer: Option<&'c EffectiveProfile>,
        beside: Option<Supplies>,
        supplies: Supplies,
    ) -> Attempt<'c> {
        let Some(beside) = beside else {
            return self.attempt_with_slots(case, fewer, supplies);
        };
        let left = beside.now.clone();
        let first = self.attempt_with_slots(case, fewer, beside);
        if first.found.is_ok() {
            return first;
        }
        let all = self.attempt_with_slots(case, fewer, supplies);
        let contested = all.found.as_ref().ok().and_then(|placed| {
            let nodes = &placed.memory_nodes;
            let is_there = |node| nodes.is_empty() || nodes.contains(&node);
            let asking = left.asking(&[placed.page], is_there);
            let page = placed.page.filter(|_| !asking.is_empty())?;
            Some(Outcome::PagesContested { page, asking })
        });
        Attempt { contested, ..all }
    }

    /// Searches a place with CPUs for empty vCPU slots where all vCPUs find one, unless the profile
    /// says otherwise. `fewer`: the wishes without them.
    fn attempt_with_slots<'c>(
        &self,
        case: Case<'c>,
        fewer: Option<&'c EffectiveProfile>,
        supplies: Supplies,
    ) -> Attempt<'c> {
        let Some(fewer) = fewer else {
            return self.attempt(case, supplies);
        };
        let less = Case {
            wishes: fewer,
            ..case
        };
        match case.wishes.profile.hotplug {
            Hotplug::Float => self.attempt(less, supplies),
            Hotplug::Hold => self.attempt(case, supplies),
            Hotplug::Auto => {
                let all = self.attempt(case, supplies.clone());
                if all.found.is_ok() {
                    return all;
                }
                // Where fewer CPUs do not do either, the reasons are those for the fewer.
                let less = self.attempt(less, supplies);
                match less.found {
                    Ok(_) => less,
                    Err(why) => Attempt {
                        found: Err(why),
                        ..all
                    },
                }
            }
        }
    }

    /// Searches a place for one case.
    fn attempt<'c>(&self, case: Case<'c>, supplies: Supplies) -> Attempt<'c> {
        let demanded = demand::demand(&case, &supplies);
        // Floating vCPUs stay within a `vcpu@cpuset` that is kept, which the demand knows.
        let supplies = supplies.floating_within(demanded.demand.within.as_ref());
        let found = self.search(&case, &demanded, &supplies);
        Attempt {
            case,
            demanded,
            supplies,
            found,
            contested: None,
        }
    }

    /// Searches a place. A demand that is broken from the start needs no search.
    fn search(
        &self,
        case: &Case<'_>,
        demanded: &Demanded,
        supplies: &Supplies,
    ) -> Result<Placed, Vec<Reason>> {
        let mut placed = match demanded.broken.is_empty() {
            true if case.wishes.profile.cpus == Cpus::Keep => self.as_it_is(demanded, supplies)?,
            true => {
                let previous = self.previous_pins();
                let found = self.place(case.wishes, demanded, supplies, &previous);
                found.or_else(|why| self.as_it_holds(case, demanded, supplies, &previous).ok_or(why))?
            }
            false => return Err(Vec::new()),
        };
        case.wishes.float_slots(&mut placed, case.host, supplies)?;
        self.keep_pins(&mut placed, demanded);
        Ok(placed)
    }

    /// Decides, as `on_no_fit` says, about a guest that finds no place, and says so.
    fn without_place(
        &self,
        case: &Case<'_>,
        demanded: &Demanded,
        supplies: &Supplies,
        plan: &mut Plan,
    ) -> Fallback {
        match case.wishes.on_no_fit {
            OnNoFit::Refuse => Fallback::Refused,
            OnNoFit::RunUntuned => {
                plan.reasons.push(match self.has_own_pins() {
                    true => Outcome::FloatsUntuned { wished: true }.into(),
                    false => Outcome::RunsUntuned.into(),
                });
                Fallback::Untuned
            }
            OnNoFit::RunShared => match demanded.floating(case.host, supplies) {
                Some(mut placed) => {
                    plan.reasons.push(Outcome::RunsShared.into());
                    self.keep_pins(&mut placed, demanded);
                    Fallback::Shared(Box::new(placed))
                }
                None => {
                    plan.reasons.push(match self.has_own_pins() {
                        true => Outcome::FloatsUntuned { wished: false }.into(),
                        false => Outcome::RunsUntunedWithoutShared.into(),
                    });
                    Fallback::Untuned
                }
            },
        }
    }

    /// Returns whether virtfit pinned a vCPU to one CPU, in the definition as it is: the guest is
    /// moved off such pins where it runs untuned.
    fn has_own_pins(&self) -> bool {
        let mut owned = self.provenance.iter().flat_map(|provenance| &provenance.owned);
        owned.any(|owned| match (&owned.target, &owned.wrote) {
            (Target::VcpuPin(vcpu), Value::Cpus(wrote)) => {
                wrote.len() == 1 && self.current.vcpupins.get(vcpu) == Some(wrote)
            }
            _ => false,
        })
    }

    /// Returns the head of the record of this fit.
    fn head(&self, fit: &Fit<'_>, list: &List) -> Head {
        let withheld = match fit.fits {
            true => fit.placed.withheld.clone(),
            false => CpuSet::new(),
        };
        Head {
            uuid: Some(self.current.uuid.clone()).filter(|uuid| !uuid.is_empty()),
            profile: self.profile.name.clone(),
            policy_digest: self.inputs.policy.digest.clone(),
            shape: list.shape.clone(),
            withheld,
            on_no_fit: fit.case.wishes.on_no_fit,
        }
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

    /// Ends the decision with the XML, where it is to change. `as_recorded`: the settings with the
    /// masks of floating threads that are written already.
    fn write(
        self,
        mut plan: Plan,
        settings: &[Setting],
        as_recorded: Option<&[Setting]>,
        head: &Head,
    ) -> Result<Decision, EngineError> {
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
                let named = recorded.uuid == head.uuid || self.inputs.question.scope == Scope::Incoming;
                let in_force = |settings| rewrite::in_force(self.document, provenance, settings, &wanted);
                let same = in_force(settings)? || as_recorded.map_or(Ok(false), in_force)?;
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
        if self.inputs.question.scope == Scope::Incoming {
            plan.changes
                .iter_mut()
                .for_each(|change| change.effect = Effect::AtOnce);
        }
        plan.verdict = Verdict::Tuned;
        Ok(Decision::Tuned { xml, plan })
    }
}
