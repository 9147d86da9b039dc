//! Guests that were decided on lately, and what came of it: the same again is not worked out again.
//!
//! libvirt tells the same XML of a guest at each of its starts, but for the start's number
//! (`<domain type='kvm' id='7'>`). A decision is a pure function of that XML, the policy, the host,
//! what others hold and the guest's devices and images ([`crate::engine`]); one is given again only
//! where all of these are equal. The number itself means nothing to it: each guest is decided on as
//! if it were the first that starts.

use std::borrow::Cow;
use std::collections::VecDeque;
use std::ops::Range;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::domain::Domain;
use crate::engine::{Decision, EngineError};
use crate::host::{Host, gather};
use crate::hostfs::ReadSet;
use crate::ledger::Taken;
use crate::ledger::guest_xml::{GuestText, GuestXml};
use crate::policy::Policy;
use crate::snapshot::{Question, Snapshot};
use crate::types::devices::GuestFacts;
use crate::types::plan::Scope;
use crate::xml::XmlError;

/// How many guests are remembered; the one that was worked out longest ago is forgotten first.
const MOST: usize = 16;
/// XML longer than this is not remembered, in bytes.
const LONGEST: usize = 64 << 10;

/// What is remembered, the latest first.
#[derive(Debug, Default)]
pub struct DecisionCache(Mutex<VecDeque<Known>>);

/// One guest.
#[derive(Debug)]
struct Known {
    /// Its XML, and what that says.
    text: Arc<GuestText<'static>>,
    /// One a way of asking.
    made: Vec<Arc<Made>>,
}

/// One decision.
#[derive(Debug)]
struct Made {
    from: Basis,
    /// What was known of the guest's devices and images, and by which look at them.
    facts: GuestFacts,
    looked: ReadSet,
    decision: Arc<Decision>,
}

/// All that a decision is made from beside the XML and the guest's devices and images.
#[derive(Debug)]
struct Basis {
    scope: Scope,
    bound: bool,
    policy: Arc<Policy>,
    host: Arc<Host>,
    taken: Taken,
}

impl DecisionCache {
    /// What a domain's XML says.
    ///
    /// # Errors
    /// It is not XML, or not a domain.
    pub fn guest(&self, xml: &str) -> Result<Arc<GuestXml>, XmlError> {
        let text = self.first_text(&as_first(xml).0)?;
        Ok(Arc::clone(&text.guest))
    }

    /// XML with the first number, read.
    fn first_text(&self, xml: &str) -> Result<Arc<GuestText<'static>>, XmlError> {
        if let Some(known) = self.known().iter().find(|known| known.is(xml)) {
            return Ok(Arc::clone(&known.text));
        }
        let text = Arc::new(GuestText::read(xml.to_string().into())?);
        self.keep(&text, None);
        Ok(text)
    }

    /// As [`Snapshot::decide`].
    ///
    /// # Errors
    /// As there.
    pub fn decide(
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

    /// As [`DecisionCache::decide`], of XML with the first number and asked in the usual way.
    fn decide_first(
        &self,
        view: &Snapshot,
        xml: &str,
        ask: Question<'_>,
    ) -> Result<Arc<Decision>, EngineError> {
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
        let (facts, looked) = view.root.trace(|root| gather::gather(root, &view.host, domain));
        let decision = match made {
            // A disk that was written to is no other disk.
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
    /// What a decision would be made from now.
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

/// The number each guest is decided on with.
const FIRST: &str = "1";

/// XML as if the guest were the first that starts; and its own number, where it has another one.
fn as_first(xml: &str) -> (Cow<'_, str>, Option<&str>) {
    match number(xml) {
        Some(at) if xml.get(at.clone()) != Some(FIRST) => {
            let own = xml.get(at).unwrap_or_default();
            (Cow::Owned(numbered(xml, FIRST)), Some(own))
        }
        _ => (Cow::Borrowed(xml), None),
    }
}

/// XML with this number in the place of the one it has.
fn numbered(xml: &str, number_now: &str) -> String {
    let mut out = xml.to_string();
    if let Some(at) = number(xml) {
        out.replace_range(at, number_now);
    }
    out
}

/// Where the number of a running guest stands, in XML as libvirt writes it.
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
