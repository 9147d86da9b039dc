//! Every value to write into a domain, each with its reason; and what is kept or cannot be done,
//! each with its own.

mod disks;
mod guest;
mod memory;
mod pins;

use std::collections::BTreeSet;

use crate::domain::{Domain, Topology};
use crate::engine::demand::Demanded;
use crate::engine::effective::EffectiveProfile;
use crate::engine::support::Support;
use crate::host::Host;
use crate::placement::Placed;
use crate::rewrite::{Provenance, Shape};
use crate::types::devices::GuestFacts;
use crate::types::idset::CpuSet;
use crate::types::plan::Scope;
use crate::types::setting::{Setting, Target, Value};

/// All that is known when the values are decided.
pub struct Context<'a> {
    /// What is asked for.
    pub wishes: &'a EffectiveProfile,
    /// What an administrator wrote.
    pub domain: &'a Domain,
    /// The XML as it came.
    pub current: &'a Domain,
    /// The host.
    pub host: &'a Host,
    /// Images.
    pub facts: &'a GuestFacts,
    /// The policy's dedicated CPUs.
    pub dedicated: &'a CpuSet,
    /// Where vCPUs and memory go.
    pub placed: &'a Placed,
    /// What that rests on.
    pub demanded: &'a Demanded,
    /// Where the other threads go.
    pub support: &'a Support,
    /// It is the place asked for, not the shared set as a way out.
    pub fits: bool,
    /// The door.
    pub scope: Scope,
    /// What virtfit wrote before.
    pub provenance: Option<&'a Provenance>,
    /// What virtfit wrote and somebody changed since.
    pub changed: &'a BTreeSet<Target>,
    /// The guest has its shape: what it can see stays as virtfit wrote it.
    pub shaped: bool,
}

/// What came of it.
#[derive(Default)]
pub struct List {
    /// In no particular order.
    pub settings: Vec<Setting>,
    /// Left as an administrator wrote it: (what, why).
    pub kept: Vec<(String, String)>,
    /// Asked for and not done: (what, why).
    pub not_done: Vec<(String, String)>,
    /// The topology the guest sees.
    pub shown: Option<Topology>,
    /// The shape to record.
    pub shape: Shape,
}

impl List {
    fn host(&mut self, target: Target, value: Value, why: impl Into<String>) {
        self.settings.push(Setting {
            target,
            value,
            why: why.into(),
            guest_visible: false,
        });
    }

    fn guest(&mut self, target: Target, value: Value, why: impl Into<String>) {
        self.settings.push(Setting {
            target,
            value,
            why: why.into(),
            guest_visible: true,
        });
    }

    fn keep(&mut self, what: impl Into<String>) {
        self.kept
            .push((what.into(), "yours, kept (on_existing = keep)".into()));
    }

    fn not_done(&mut self, what: impl Into<String>, why: impl Into<String>) {
        self.not_done.push((what.into(), why.into()));
    }
}

/// Decides all values.
pub fn list(context: &Context<'_>) -> List {
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
    let before = context
        .provenance
        .map_or(0, |provenance| provenance.head.shape.threads);
    let chosen = context.fits && !context.wishes.dedicated.is_empty() && context.scope == Scope::Boot;
    // What comes in was given its shape where it was started, or not at all.
    list.shape.threads = if chosen { context.placed.threads } else { before };
    list
}
