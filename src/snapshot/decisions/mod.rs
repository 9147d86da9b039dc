//! Cache of the last decisions, so that a decision is not made twice from equal inputs.
//!
//! At each of a guest's starts libvirt passes equal XML, except for the number of the start
//! (`<domain type='kvm' id='7'>`). A decision is a pure function of that XML, the policy, the host,
//! the CPUs and memory that other guests hold, and the guest's devices and images
//! ([`crate::engine`]); a cached one is returned only where all of these are equal. The number
//! itself does not matter: each guest is decided on as if it were the first that starts.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::Domain;
use crate::engine::{Decision, EngineError, Question};
use crate::host::{Host, gather};
use crate::hostfs::ReadSet;
use crate::ledger::Taken;
use crate::ledger::guest_xml::{GuestText, GuestXml};
use crate::policy::Policy;
use crate::snapshot::Snapshot;
use crate::types::devices::GuestFacts;
use crate::types::plan::Scope;
use crate::xml::XmlError;

/// Number of cached guests; the one that was worked out longest ago is forgotten first.
const MOST: usize = 16;
/// Longest XML that is cached, in bytes.
const LONGEST: usize = 64 << 10;

/// Cached guests, the latest first.
#[derive(Debug, Default)]
pub(crate) struct DecisionCache(Mutex<VecDeque<Known>>);

/// Cached decisions on one guest.
#[derive(Debug)]
struct Known {
    /// XML of the guest with its first number, as text and parsed.
    text: Arc<GuestText<'static>>,
    /// Decisions, one for each way of asking.
    made: Vec<Arc<Made>>,
}

/// Cached decision with its inputs.
#[derive(Debug)]
struct Made {
    from: Basis,
    /// Facts about the guest's devices and images; `looked` has the files they were read from.
    facts: GuestFacts,
    looked: ReadSet,
    decision: Arc<Decision>,
}

/// Inputs of a decision besides the XML and the guest's devices and images.
#[derive(Debug)]
struct Basis {
    scope: Scope,
    bound: bool,
    policy: Arc<Policy>,
    host: Arc<Host>,
    taken: Taken,
}

impl DecisionCache {
    /// Returns the guest that a domain's XML describes.
    ///
    /// # Errors
    /// The text is not XML, or not a domain.
    pub(crate) fn guest(&self, xml: &str) -> Result<Arc<GuestXml>, XmlError> {
        let text = self.first_text(&as_first(xml).0)?;
        Ok(Arc::clone(&text.guest))
    }

    /// Parses XML that has the first number, or returns it from the cache.
    fn first_text(&self, xml: &str) -> Result<Arc<GuestText<'static>>, XmlError> {
        if let Some(known) = self.known().iter().find(|known| known.is(xml)) {
            return Ok(Arc::clone(&known.text));
        }
        let text = Arc::new(GuestText::read(xml.to_string().into())?);
        self.keep(&text, None);
        Ok(text)
    }

    /// Decides as [`Snapshot::decide`] does, or returns the cached decision.
    ///
    /// # Errors
    /// Errors of [`Snapshot::decide`].
    pub(crate) fn decide(
        &self,
        view: &Snapshot,
        xml: &str,
        ask: Question<'_>,
    ) -> Result<Arc<Decision>, EngineError> {
        let usual = Question {
            bound: ask.bound,
            ..Question::of(ask.scope)
        };
        if ask != usual {
            return view.decide(xml, ask).map(Arc::new);
        }
        let (xml, number) = as_first(xml);
        let decision = self.decide_first(view, &xml, ask)?;
        Ok(match (number, &*decision) {
            (Some(number), Decision::Tuned { xml, plan }) => Arc::new(Decision::Tuned {
                xml: numbered(xml, number),
                plan: plan.clone(),
            }),
            _ => decision,
        })
    }

    /// Decides on XML that has the first number, for a question of the usual kind.
    fn decide_first(
        &self,
        view: &Snapshot,
        xml: &str,
        ask: Question<'_>,
    ) -> Result<Arc<Decision>, EngineError> {
        // A cached decision counts while the files of devices and images read as before.
        let text = self.first_text(xml)?;
        let domain = &text.guest.domain;
        let from = Basis::of(view, domain, ask);
        let made = {
            let known = self.known();
            let made = known
                .iter()
                .find(|known| known.is(xml))
                .and_then(|known| known.made.iter().find(|made| made.from == from));
            made.cloned()
        };
        if let Some(made) = &made
            && made.looked.is_same(&view.root)
        {
            return Ok(Arc::clone(&made.decision));
        }
        // Otherwise these facts are gathered again: where they are equal, so is the decision.
        let (facts, looked) = view.root.trace(|root| gather::gather(root, &view.host, domain));
        let decision = match made {
            // Writing to a disk image does not make it another image.
            Some(made) if made.facts == facts => Arc::clone(&made.decision),
            _ => Arc::new(view.decide_from(&text, &facts, ask)?),
        };
        let made = Arc::new(Made {
            from,
            facts,
            looked,
            decision: Arc::clone(&decision),
        });
        self.keep(&text, Some(made));
        Ok(decision)
    }

    fn keep(&self, text: &Arc<GuestText<'static>>, made: Option<Arc<Made>>) {
        let xml = text.document.text();
        if xml.len() > LONGEST {
            return;
        }
        let mut all = self.known();
        let at = all.iter().position(|known| known.is(xml));
        let mut known = at.and_then(|at| all.remove(at)).unwrap_or_else(|| Known {
            text: Arc::clone(text),
            made: Vec::new(),
        });
        if let Some(made) = made {
            known.made.retain(|other| other.from.asked() != made.from.asked());
            known.made.push(made);
        }
        all.push_front(known);
        all.truncate(MOST);
    }

    fn known(&self) -> MutexGuard<'_, VecDeque<Known>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Known {
    fn is(&self, xml: &str) -> bool {
        self.text.document.text() == xml
    }
}

impl Basis {
    /// Returns the inputs that a decision would have now.
    fn of(view: &Snapshot, domain: &Domain, ask: Question<'_>) -> Self {
        Self {
            scope: ask.scope,
            bound: ask.bound,
            policy: Arc::clone(&view.policy),
            host: Arc::clone(&view.host),
            taken: view.taken(domain),
        }
    }

    fn asked(&self) -> (Scope, bool) {
        (self.scope, self.bound)
    }
}

impl PartialEq for Basis {
    fn eq(&self, other: &Self) -> bool {
        self.asked() == other.asked()
            && Arc::ptr_eq(&self.policy, &other.policy)
            && (Arc::ptr_eq(&self.host, &other.host) || self.host == other.host)
            && self.taken == other.taken
    }
}

/// Number with which every guest is decided on.
const FIRST: &str = "1";

/// Returns XML as if the guest were the first that starts, and its own number where that is another
/// one.
fn as_first(xml: &str) -> (Cow<'_, str>, Option<&str>) {
    match number(xml) {
        Some(at) if xml.get(at.clone()) != Some(FIRST) => {
            let own = xml.get(at).unwrap_or_default();
            (Cow::Owned(numbered(xml, FIRST)), Some(own))
        }
        _ => (Cow::Borrowed(xml), None),
    }
}

/// Returns XML with `number_now` in the place of its number.
fn numbered(xml: &str, number_now: &str) -> String {
    let mut out = xml.to_string();
    if let Some(at) = number(xml) {
        out.replace_range(at, number_now);
    }
    out
}

/// Returns the position of a running guest's number in XML as libvirt writes it.
fn number(xml: &str) -> Option<Range<usize>> {
    const BEFORE: &str = " id='";
    let tag = xml
        .get(..xml.find('>')?)
        .filter(|tag| tag.starts_with("<domain "))?;
    let from = tag.find(BEFORE)? + BEFORE.len();
    let length = tag.get(from..)?.find('\'')?;
    let digits = tag.get(from..from + length)?;
    let is_number = !digits.is_empty() && digits.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then_some(from..from + length)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
