//! Attempt to decide for autostart guests in one order, each beside those before it.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Instant;

use crate::apply::read_guests::{Decided, Guests};
use crate::engine::Question;
use crate::hook_events::claims::is_there;
use crate::host::memory::default_huge_page;
use crate::ledger::Holder;
use crate::ledger::claims::Written;
use crate::ledger::guest_xml;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::taken::same_guest;
use crate::libvirt::definitions::Definition;
use crate::snapshot::Snapshot;
use crate::types::plan::{Plan, Verdict};

/// Attempt to decide in one order.
pub(crate) struct Attempt<'g, 'a> {
    guests: &'g Guests<'a>,
    /// Time at which the attempt is given up; `None` for the one that has to be made.
    until: Option<Instant>,
    view: Snapshot,
    /// Decisions, in the order of the definitions.
    pub decided: Vec<Option<Decided>>,
    /// Holdings of the autostart guests decided up to now.
    given: Vec<Arc<Holder>>,
    /// Places of these in the list, by name.
    given_at: HashMap<String, usize>,
    /// Autostart guests that found no placement.
    pub without: Vec<usize>,
}

impl<'g, 'a> Attempt<'g, 'a> {
    /// Starts an attempt with nothing decided.
    pub(crate) fn new(view: &Snapshot, guests: &'g Guests<'a>, until: Option<Instant>) -> Self {
        Self {
            guests,
            until,
            view: view.clone(),
            decided: guests.definitions.iter().map(|_| None).collect(),
            given: Vec::new(),
            given_at: HashMap::new(),
            without: Vec::new(),
        }
    }

    /// Decides for autostart guests, in this order; returns whether there was time for all.
    pub(crate) fn run(&mut self, order: &[usize], ask: Question<'_>) -> bool {
        for index in order {
            if self.until.is_some_and(|until| Instant::now() > until) {
                return false;
            }
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
        true
    }

    /// Decides for the other guests, one after the other.
    pub(crate) fn beside(&mut self, order: &[usize], ask: Question<'_>) {
        for index in order {
            let decided = self.ask(*index, ask, false);
            self.take(*index, decided, false);
        }
    }

    fn ask(&mut self, index: usize, ask: Question<'_>, apart: bool) -> Decided {
        if !apart {
            return self.guests.decide(&self.view, index, ask);
        }
        let ledger = &mut Arc::make_mut(&mut self.view.reading).ledger;
        let before = ledger.holders.len();
        let claims = ledger.claims.clone();
        ledger.holders.extend(self.given.iter().cloned());
        // Pages that they hold now are not claimed by them as well.
        let claiming = ledger.claims.iter_mut().filter(|claim| !claim.pages.is_empty());
        for claim in claiming {
            if let Some(given) = self.given_at.get(&claim.name) {
                claim.without_pages_of(&self.given[*given]);
            }
        }
        let decided = self.guests.decide(&self.view, index, ask);
        let ledger = &mut Arc::make_mut(&mut self.view.reading).ledger;
        ledger.holders.truncate(before);
        ledger.claims = claims;
        decided
    }

    /// Records a decision, so that the later ones take it into account.
    fn take(&mut self, index: usize, decided: Decided, together: bool) {
        let definition = &self.guests.definitions[index];
        if let Ok(decision) = &decided {
            let text = decision.xml().unwrap_or(&definition.file.text);
            let guest = GuestXml::parse(text).ok();
            self.claim(definition, guest.as_ref(), decision.plan());
            let placement = decision.plan().placement.as_ref();
            if together && let (Some(placement), Some(guest)) = (placement, guest) {
                let memory = guest_xml::memory(&guest.domain, None, || default_huge_page(&self.view.root));
                let taken = self.view.taken(&guest.domain);
                self.given_at
                    .insert(definition.file.name.clone(), self.given.len());
                self.given.push(Arc::new(Holder {
                    uuid: definition.domain.uuid.clone(),
                    name: definition.file.name.clone(),
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

    /// Takes in what a guest claims from now on. A definition that cannot be read claims nothing.
    fn claim(&mut self, definition: &Definition, guest: Option<&GuestXml>, plan: &Plan) {
        let own = (definition.domain.uuid.as_str(), definition.file.name.as_str());
        let ledger = &mut Arc::make_mut(&mut self.view.reading).ledger;
        let is_own = |uuid: &str, name: &str| same_guest((uuid, name), own);
        ledger.claims.retain(|claim| !is_own(&claim.uuid, &claim.name));
        let Some(guest) = guest.filter(|guest| guest.unreadable.is_none()) else {
            return;
        };
        // Also of a guest that runs: it may run without what its definition is given now.
        let policy = &self.view.policy;
        let profile = plan.profile.as_deref().and_then(|name| policy.profile(name));
        let profile = profile.filter(|profile| !profile.off);
        let written = Written::of(guest).with_pages(guest, || default_huge_page(&self.view.root));
        let mut claim = written.claim_by(profile, &policy.host, definition.autostart);
        let mut holders = ledger.holders.iter();
        if let Some(claim) = &mut claim
            && let Some(holder) = holders.find(|holder| is_own(&holder.uuid, &holder.name))
        {
            claim.without_pages_of(holder);
        }
        ledger.claims.extend(claim);
    }
}

/// Returns whether a guest got what its profile asks for; one that is left alone lacks nothing.
fn has_place(plan: &Plan) -> bool {
    plan.verdict != Verdict::Refused && !plan.is_without_place()
}
