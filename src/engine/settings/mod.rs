//! Settings: every value to write into a domain, with its reason; and what is kept or cannot be
//! done, with the reason too.

mod disks;
mod guest;
mod memory;
mod pages;
mod pins;
mod ruled;

use std::collections::BTreeSet;

use crate::domain::{Domain, Topology};
use crate::engine::demand::Demanded;
use crate::engine::effective::EffectiveProfile;
use crate::engine::support::Support;
use crate::host::Host;
use crate::placement::{Placed, Supply};
use crate::rewrite::{Provenance, Shape};
use crate::types::devices::GuestFacts;
use crate::types::idset::CpuSet;
use crate::types::plan::{Note, Scope};
use crate::types::reason::{Basis, LeftOut};
use crate::types::setting::{Setting, Target, Value};
use crate::types::subject::Subject;

/// Input: everything known when the values are decided.
pub(crate) struct Context<'a> {
    /// Profile as far as it applies.
    pub wishes: &'a EffectiveProfile,
    /// Domain as an administrator wrote it.
    pub domain: &'a Domain,
    /// Domain as it was given, with virtfit's settings.
    pub current: &'a Domain,
    /// Host the guest runs on.
    pub host: &'a Host,
    /// Devices and images of the guest.
    pub facts: &'a GuestFacts,
    /// CPUs and memory there are.
    pub supply: &'a Supply,
    /// Dedicated CPUs of the policy.
    pub dedicated: &'a CpuSet,
    /// Placement of vCPUs and memory.
    pub placed: &'a Placed,
    /// Demand the placement satisfies.
    pub demanded: &'a Demanded,
    /// CPUs of emulator threads and iothreads.
    pub support: &'a Support,
    /// The placement is what the profile asks for, not the `run-shared` fallback.
    pub fits: bool,
    /// Scope: what the plan may change.
    pub scope: Scope,
    /// Provenance: what virtfit wrote before.
    pub provenance: Option<&'a Provenance>,
    /// Settings virtfit wrote that were changed by hand since.
    pub changed: &'a BTreeSet<Target>,
    /// The guest has its shape: what it can see stays as virtfit wrote it.
    pub shaped: bool,
}

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
pub(crate) fn list(context: &Context<'_>) -> List {
    let mut list = List::default();
    pins::vcpus(context, &mut list);
    pins::emulator(context, &mut list);
    pins::iothreads(context, &mut list);
    pins::realtime(context, &mut list);
    memory::numatune(context, &mut list);
    memory::backing(context, &mut list);
    disks::all(context, &mut list);
    if context.shaped || context.scope == Scope::Incoming {
        guest::as_before(context, &mut list);
    } else {
        guest::shape(context, &mut list);
    }
    ruled::leave(context, &mut list);
    let before = context
        .provenance
        .map_or(0, |provenance| provenance.head.shape.threads);
    let chosen = context.fits && !context.wishes.dedicated.is_empty() && context.scope == Scope::Boot;
    // An incoming guest was given its shape where it was started, or not at all.
    list.shape.threads = if chosen { context.placed.threads } else { before };
    list
}
