//! Decisions for many definitions, made one after the other so that each takes the earlier ones
//! into account.
//!
//! Guests on autostart come first and treat each other's CPUs and pages as held, since all of them
//! will run at once. Where that leaves no placement for one, other orders are tried: the biggest
//! first, then guests without a placement before all others. In the end such a guest may overlap,
//! which only means that the policy decides at its start. All other guests only claim: they may
//! never run together.

use std::cmp::Reverse;
use std::sync::Arc;

use crate::engine::{Decision, EngineError, Keep};
use crate::hook_events::claims::is_there;
use crate::ledger::claims::Written;
use crate::ledger::guest_xml;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::taken::same_guest;
use crate::ledger::{Claim, Holder};
use crate::libvirt::definitions::Definition;
use crate::snapshot::{Question, Snapshot};
use crate::types::plan::Plan;

/// Largest number of orders of the autostart guests that are tried.
const ORDERS: usize = 12;

/// Huge page size a bare `<hugepages/>` stands for. The host's is not looked up: what virtfit
/// writes names its size.
const DEFAULT_PAGE: crate::types::ids::KiB = crate::types::ids::KiB(2048);

/// Decision for one definition.
type Decided = Result<Decision, EngineError>;

/// Decides for all definitions, in the order given; `ask` is the question for each.
pub(crate) fn decide(view: &Snapshot, definitions: &[Definition], ask: Question<'_>) -> Vec<Decided> {
    let (together, others): (Vec<usize>, Vec<usize>) =
        (0..definitions.len()).partition(|index| is_together(&definitions[*index]));
    let mut best = Attempt::new(view, definitions);
    best.run(&together, ask);
    let mut order = together.clone();
    order.sort_by_key(|index| Reverse(definitions[*index].domain.vcpus));
    for _ in 0..ORDERS {
        if best.without.is_empty() {
            break;
        }
        let mut attempt = Attempt::new(view, definitions);
        // All of them may move: one that stayed in place was in another's way.
        attempt.run(&order, movable(ask));
        let without = attempt.without.clone();
        if without.len() < best.without.len() {
            best = attempt;
        }
        let before = order.clone();
        order.sort_by_key(|index| !without.contains(index));
        if order == before {
            break;
        }
    }
    best.beside(&others, ask);
    best.decided
        .into_iter()
        .map(|decided| decided.unwrap_or_else(|| Err(EngineError::Policy("not decided (a bug)".into()))))
        .collect()
}

/// Number of guests that can run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Together {
    /// Guests that find a placement beside each other and beside those that run.
    pub fit: usize,
    /// Guests that should have CPUs of their own.
    pub of: usize,
}

/// Counts how many of the guests find a placement at once, the running ones first. It is the best
/// of a few orders, so the count can be reached. `None` where fewer than two guests should have
/// CPUs of their own.
pub(crate) fn together(view: &Snapshot, definitions: &[Definition], ask: Question<'_>) -> Option<Together> {
    let wants_cpus = |definition: &Definition| {
        let decided = view.decide(&definition.text, ask);
        decided.is_ok_and(|decision| !decision.plan().notes.dedicated_vcpus.is_empty())
    };
    let mut order: Vec<usize> = (0..definitions.len())
        .filter(|index| wants_cpus(&definitions[*index]))
        .collect();
    let of = order.len();
    if of < 2 {
        return None;
    }
    let rank = |index: &usize| {
        let definition = &definitions[*index];
        (!definition.running, !definition.autostart)
    };
    order.sort_by_key(rank);
    let mut fit = 0;
    for attempt in 0..2 {
        if attempt == 1 {
            // With small guests first, more of them fit.
            order.sort_by_key(|index| (rank(index), definitions[*index].domain.vcpus));
        }
        let mut run = Attempt::new(view, definitions);
        run.run(&order, movable(ask));
        fit = fit.max(of - run.without.len());
        if fit == of {
            break;
        }
    }
    Some(Together { fit, of })
}

/// Returns the question without the wish that the guest keeps its CPUs.
fn movable(ask: Question<'_>) -> Question<'_> {
    Question {
        keep: if ask.keep == Keep::Place {
            Keep::Shape
        } else {
            ask.keep
        },
        ..ask
    }
}

/// Returns whether the guest is started by libvirt itself, together with all others like it.
fn is_together(definition: &Definition) -> bool {
    definition.autostart && !definition.running
}

/// Attempt to decide in one order.
struct Attempt<'a> {
    definitions: &'a [Definition],
    view: Snapshot,
    decided: Vec<Option<Decided>>,
    /// Holdings of the autostart guests decided up to now.
    given: Vec<Arc<Holder>>,
    /// Autostart guests that found no placement.
    without: Vec<usize>,
}

impl<'a> Attempt<'a> {
    fn new(view: &Snapshot, definitions: &'a [Definition]) -> Self {
        Self {
            definitions,
            view: view.clone(),
            decided: definitions.iter().map(|_| None).collect(),
            given: Vec::new(),
            without: Vec::new(),
        }
    }

    /// Decides for autostart guests, in this order.
    fn run(&mut self, order: &[usize], ask: Question<'_>) {
        for index in order {
            let apart = self.ask(*index, ask, true);
            let decided = match &apart {
                Ok(decision) if !has_place(decision.plan()) => {
                    self.without.push(*index);
                    self.ask(*index, ask, false)
                }
                _ => apart,
            };
            self.take(*index, decided, true);
        }
    }

    /// Decides for the other guests, one after the other.
    fn beside(&mut self, order: &[usize], ask: Question<'_>) {
        for index in order {
            let decided = self.ask(*index, ask, false);
            self.take(*index, decided, false);
        }
    }

    fn ask(&mut self, index: usize, ask: Question<'_>, apart: bool) -> Decided {
        if !apart {
            return self.view.decide(&self.definitions[index].text, ask);
        }
        let holders = &mut Arc::make_mut(&mut self.view.reading).ledger.holders;
        let before = holders.len();
        holders.extend(self.given.iter().cloned());
        let decided = self.view.decide(&self.definitions[index].text, ask);
        Arc::make_mut(&mut self.view.reading)
            .ledger
            .holders
            .truncate(before);
        decided
    }

    /// Records a decision, so that the later ones take it into account.
    fn take(&mut self, index: usize, decided: Decided, together: bool) {
        let definition = &self.definitions[index];
        if let Ok(decision) = &decided {
            let text = decision.xml().unwrap_or(&definition.text);
            self.claim(definition, text, decision.plan());
            let placement = decision.plan().placement.as_ref();
            if together && let (Some(placement), Ok(guest)) = (placement, GuestXml::parse(text)) {
                let memory = guest_xml::memory(&guest.domain, None, || DEFAULT_PAGE);
                let taken = self.view.taken(&guest.domain);
                self.given.push(Arc::new(Holder {
                    uuid: definition.domain.uuid.clone(),
                    name: definition.name.clone(),
                    pins: placement
                        .dedicated
                        .iter()
                        .map(crate::types::idset::CpuSet::one)
                        .collect(),
                    withheld: placement.withheld.clone(),
                    // The memory of a guest that runs is in the ledger; its CPUs are only if it
                    // runs as its definition says. A guest whose memory this host does not have
                    // cannot start, and takes none from the others.
                    memory: match definition.running || !is_there(&memory, &taken) {
                        true => Vec::new(),
                        false => memory,
                    },
                    starting: true,
                    reservation: true,
                    ..Holder::default()
                }));
            }
        }
        self.decided[index] = Some(decided);
    }

    fn claim(&mut self, definition: &Definition, text: &str, plan: &Plan) {
        let own = (definition.domain.uuid.as_str(), definition.name.as_str());
        let all = &mut Arc::make_mut(&mut self.view.reading).ledger.claims;
        all.retain(|claim: &Claim| !same_guest((&claim.uuid, &claim.name), own));
        // Also of a guest that runs: it may run without what its definition is given now.
        let policy = &self.view.policy;
        let profile = plan.profile.as_deref().and_then(|name| policy.profile(name));
        if let (Some(profile), Ok(written)) = (profile.filter(|profile| !profile.off), Written::parse(text)) {
            all.extend(written.claim_by(profile, &policy.host, definition.autostart));
        }
    }
}

/// Returns whether a guest got what its profile asks for; one that is left alone lacks nothing.
fn has_place(plan: &Plan) -> bool {
    match (&plan.placement, &plan.profile) {
        (Some(placement), _) => placement.fits,
        (None, Some(_)) => plan.verdict == crate::types::plan::Verdict::Unchanged,
        (None, None) => true,
    }
}
