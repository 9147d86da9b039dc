//! Decisions for many definitions, made one after the other so that each takes the earlier ones
//! into account.
//!
//! Guests on autostart come first and treat each other's CPUs and pages as held, since all of them
//! will run at once. Where that leaves no placement for one, other orders are tried: the biggest
//! first, then guests without a placement before all others. In the end such a guest may overlap,
//! which only means that the policy decides at its start. All other guests only claim: they may
//! never run together.

use std::cmp::Reverse;
use std::time::{Duration, Instant};

use crate::apply::one_order::Attempt;
use crate::apply::read_guests::{Decided, Guests, Patience};
use crate::engine::{EngineError, Keep, Question};
use crate::ledger::claims::size_class;
use crate::libvirt::definitions::Definition;
use crate::snapshot::Snapshot;
use crate::types::reason::{Given, Reason};

/// Largest number of orders of the autostart guests that are tried.
const ORDERS: usize = 12;

/// Time in which orders are tried. The first one is always tried to its end.
const SEARCH: Duration = Duration::from_secs(5);

/// Several definitions that are decided beside each other.
pub(crate) struct Joint<'a> {
    view: &'a Snapshot,
    ask: Question<'a>,
    guests: Guests<'a>,
}

/// Number of guests that can run at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Together {
    /// Guests that find a placement beside each other and beside those that run.
    pub fit: usize,
    /// Guests that should have CPUs of their own; not those that pins by hand keep from them.
    pub of: usize,
}

impl<'a> Joint<'a> {
    /// Reads the definitions for decisions; `ask` is the question for each.
    pub(crate) fn new(
        view: &'a Snapshot,
        definitions: &'a [Definition],
        ask: Question<'a>,
        patience: Patience,
    ) -> Self {
        Self {
            view,
            ask,
            guests: Guests::read(view, definitions, patience),
        }
    }

    /// Decides for all definitions; the decisions are in the order given.
    pub(crate) fn decide(&self) -> Vec<Decided> {
        let started = Instant::now();
        let mut all: Vec<usize> = (0..self.guests.definitions.len()).collect();
        // A definition that is costly to decide makes none but its own kind late.
        all.sort_by_key(|index| size_class(self.guests.definitions[*index].file.text.len() as u64));
        let (together, others): (Vec<usize>, Vec<usize>) = all
            .into_iter()
            .partition(|index| is_together(&self.guests.definitions[*index]));
        let mut best = Attempt::new(self.view, &self.guests, None);
        best.run(&together, self.ask);
        let mut order = together.clone();
        order.sort_by_key(|index| Reverse(self.guests.definitions[*index].domain.vcpus));
        for _ in 0..ORDERS {
            if best.without.is_empty() {
                break;
            }
            let mut attempt = Attempt::new(self.view, &self.guests, Some(started + SEARCH));
            // All of them may move: one that stayed in place was in another's way.
            if !attempt.run(&order, movable(self.ask)) {
                log::info!(
                    "{} definitions: no further order is tried: it takes too long",
                    order.len()
                );
                break;
            }
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
        best.beside(&others, self.ask);
        best.decided
            .into_iter()
            .map(|decided| {
                decided.unwrap_or_else(|| Err(EngineError::Policy("not decided (a bug)".into()).into()))
            })
            .collect()
    }

    /// Counts how many of the guests find a placement at once, the running ones first. It is the
    /// best of a few orders, so the count can be reached. `None` where fewer than two guests should
    /// have CPUs of their own, or where counting takes too long. `decided` are the decisions of
    /// [`Joint::decide()`].
    pub(crate) fn together(&self, decided: &[Decided]) -> Option<Together> {
        let started = Instant::now();
        let wants_cpus = |index: &usize| {
            decided[*index]
                .as_ref()
                .is_ok_and(|decision| !decision.plan().notes.dedicated_vcpus.is_empty())
        };
        let may_have = |index: &usize| {
            let plan = decided[*index].as_ref().map(|decision| decision.plan());
            let away = |reason: &Reason| matches!(reason, Reason::Given(Given::PinnedAway { .. }));
            plan.is_ok_and(|plan| !plan.reasons.iter().any(away))
        };
        // Guests that pins by hand keep from CPUs of their own do not count. Others of their vCPUs
        // may have some, so the guests take part.
        let mut order: Vec<usize> = (0..decided.len()).filter(wants_cpus).collect();
        let of = order.iter().filter(|index| may_have(index)).count();
        if of < 2 {
            return None;
        }
        let rank = |index: &usize| {
            let definition = &self.guests.definitions[*index];
            (!definition.running, !definition.autostart)
        };
        order.sort_by_key(rank);
        let mut fit = 0;
        for attempt in 0..2 {
            if attempt == 1 {
                // With small guests first, more of them fit.
                order.sort_by_key(|index| (rank(index), self.guests.definitions[*index].domain.vcpus));
            }
            let mut run = Attempt::new(self.view, &self.guests, Some(started + SEARCH));
            if !run.run(&order, movable(self.ask)) {
                // A count of part of them would be false, and the better of two is no must.
                return (attempt == 1).then_some(Together { fit, of });
            }
            let without = run.without.iter().filter(|index| may_have(index)).count();
            fit = fit.max(of - without);
            if fit == of {
                break;
            }
        }
        Some(Together { fit, of })
    }
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
