//! Settings: every value to write into a domain, with its reason; and what is kept or cannot be
//! done, with the reason too.

mod disks;
mod guest;
mod hyperv;
mod interfaces;
mod memory;
mod pages;
mod pins;
mod ruled;

use crate::domain::Topology;
use crate::engine::fit::Fit;
use crate::engine::support::Support;
use crate::rewrite::Shape;
use crate::types::plan::{Note, Scope};
use crate::types::reason::{Basis, LeftOut};
use crate::types::setting::{Setting, Target, Value};
use crate::types::subject::Subject;

/// Settings, with what is left out of them.
#[derive(Default)]
pub(crate) struct List {
    /// Values to write, in no particular order.
    pub settings: Vec<Setting>,
    /// Values left as an administrator wrote them.
    pub kept: Vec<Note>,
    /// Values asked for and not written.
    pub not_done: Vec<Note>,
    /// Topology the guest sees.
    pub shown: Option<Topology>,
    /// Shape to record.
    pub shape: Shape,
}

impl List {
    fn set(&mut self, target: Target, value: Value, why: Basis) {
        self.settings.push(Setting { target, value, why });
    }

    fn keep(&mut self, what: Subject) {
        self.kept.push(Note::new(what, Basis::ByHand));
    }

    fn not_done(&mut self, what: Subject, why: LeftOut) {
        self.not_done.push(Note::new(what, why));
    }
}

/// Decides all values.
pub(crate) fn list(fit: &Fit<'_>, support: &Support) -> List {
    let mut list = List::default();
    pins::vcpus(fit, &mut list);
    pins::emulator(fit, support, &mut list);
    pins::iothreads(fit, support, &mut list);
    pins::realtime(fit, &mut list);
    memory::numatune(fit, &mut list);
    memory::backing(fit, &mut list);
    disks::all(fit, &mut list);
    interfaces::all(fit, &mut list);
    if fit.case.shape.is_some() || fit.case.scope == Scope::Incoming {
        guest::as_before(fit, &mut list);
    } else {
        guest::shape(fit, &mut list);
    }
    ruled::leave(fit, &mut list);
    let before = fit
        .case
        .provenance
        .map_or(0, |provenance| provenance.head.shape.threads);
    let chosen = fit.fits && !fit.case.wishes.dedicated.is_empty() && fit.case.scope == Scope::Boot;
    // An incoming guest was given its shape where it was started, or not at all.
    list.shape.threads = if chosen { fit.placed.threads } else { before };
    list
}
