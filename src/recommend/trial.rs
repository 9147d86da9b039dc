//! Trial of a draft: it is planned, and no guest may be worse off than without a policy.

use crate::apply::read_guests::Patience;
use crate::apply::together::Joint;
use crate::engine::Question;
use crate::libvirt::definitions::Definition;
use crate::recommend::draft::{Draft, Guest, Level};
use crate::snapshot::Snapshot;
use crate::types::idset::CpuSet;
use crate::types::plan::{Scope, Verdict};

/// Result of a trial; guests by their positions in the draft.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Judgement {
    /// No guest is worse off.
    Good,
    /// These guests have to have less, so that no guest is worse off.
    Bad(Vec<usize>),
}

/// Plans all guests of a draft together, and judges the plans. `view` has the draft's policy.
pub(crate) fn judge(view: &Snapshot, draft: &Draft) -> Judgement {
    let guests = &draft.guests;
    let definitions: Vec<Definition> = guests.iter().map(|guest| guest.definition.clone()).collect();
    let ask = Question::of(Scope::Boot);
    let joint = Joint::new(view, &definitions, ask, Patience::unlimited());
    let decided = joint.decide();
    let plan = |index: usize| decided.get(index)?.as_ref().ok().map(|decision| decision.plan());
    // A guest that is refused, or has no place, is worse off at once.
    let without = |index: &usize| {
        plan(*index).is_none_or(|plan| plan.verdict == Verdict::Refused || plan.is_without_place())
    };
    let is_tuned = |index: &usize| guests[*index].level != Level::Alone;
    let all = || 0..guests.len();
    let bad: Vec<usize> = all().filter(is_tuned).filter(without).collect();
    if !bad.is_empty() {
        return Judgement::Bad(bad);
    }
    let place = |index: usize| plan(index)?.placement.as_ref();
    let counting = |wanted: &dyn Fn(&Guest) -> bool| -> usize {
        guests.iter().filter(|guest| wanted(guest)).map(counted).sum()
    };
    // A plan may overlap with another one: the guest that starts last would get no CPUs.
    let is_fit = |index: &usize| guests[*index].level == Level::Fit;
    let mut held = CpuSet::new();
    let mut late = Vec::new();
    for (index, placement) in all().filter_map(|index| Some((index, place(index)?))) {
        let own = placement.dedicated.union(&placement.withheld);
        if is_fit(&index) && !own.intersection(&held).is_empty() {
            late.push(index);
        }
        held.extend_from(&own);
    }
    let together = joint.together(&decided);
    if late.is_empty() && together.is_some_and(|together| together.fit < together.of) {
        late.extend(all().rev().find(is_fit));
    }
    if !late.is_empty() {
        return Judgement::Bad(late);
    }
    // CPUs that no guest has for itself, and the vCPUs that share them.
    let online = &view.host.online;
    let before = Crowd(counting(&|_| true), online.len());
    let mut after = Crowd(
        counting(&|guest| guest.level != Level::Fit),
        online.difference(&held).len(),
    );
    // Those that come last in the draft are the first to have less.
    let mut less = Vec::new();
    for index in all().rev().filter(is_fit) {
        if !after.is_worse_than(before) {
            break;
        }
        after.0 += counted(&guests[index]);
        after.1 += place(index).map_or(0, |placement| placement.dedicated.len());
        less.push(index);
    }
    if !less.is_empty() {
        return Judgement::Bad(less);
    }
    // The same on each node, for those that are bound to it.
    for node in &view.host.nodes {
        let here = |index: &usize| place(*index).is_some_and(|placement| placement.nodes == [node.id]);
        let mut on: Vec<usize> = all()
            .filter(|index| guests[*index].level == Level::Local)
            .filter(here)
            .collect();
        let cpus = view.host.cpus_of(node.id).difference(&held).len();
        let vcpus = |on: &[usize]| on.iter().map(|index| counted(&guests[*index])).sum();
        while Crowd(vcpus(&on), cpus).is_worse_than(before) {
            less.extend(on.pop());
        }
    }
    match less.is_empty() {
        true => Judgement::Good,
        false => Judgement::Bad(less),
    }
}

/// Returns the vCPUs by which a guest counts.
fn counted(guest: &Guest) -> usize {
    if guest.counts { guest.vcpus() } else { 0 }
}

/// vCPUs that share CPUs.
#[derive(Debug, Clone, Copy)]
struct Crowd(usize, usize);

impl Crowd {
    /// Returns whether a vCPU has less of a CPU than in another crowd, and less than a whole one.
    fn is_worse_than(self, other: Self) -> bool {
        let crowded = self.0 > self.1;
        crowded && self.0.saturating_mul(other.1) > other.0.saturating_mul(self.1)
    }
}
