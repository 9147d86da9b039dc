//! Reasons that a plan gives for a place that is not the best or not what one would expect, and for
//! values that do not do what they seem to.

use crate::domain::Domain;
use crate::engine::case::Case;
use crate::engine::demand::WINDOWS_CLIENT_SOCKETS;
use crate::engine::fit::Fit;
use crate::engine::settings::List;
use crate::engine::{obsolete, untrue};
use crate::host::Host;
use crate::placement::CoreKind;
use crate::policy::profile::{Hotplug, MaxSockets};
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::plan::Plan;
use crate::types::reason::{Given, NoPlace, Outcome, Reason, Untrue};
use crate::types::setting::{Setting, Target, Value};

/// Says that the place is not the best, or not what one would expect.
pub(super) fn of_place(fit: &Fit<'_>) -> Vec<Reason> {
    let Fit {
        placed,
        demanded,
        fits,
        ..
    } = *fit;
    let demand = &demanded.demand;
    let pinned = !demand.kept.is_empty();
    let chosen = !pinned && demand.core_kind == CoreKind::Auto;
    let wishes = fit.case.wishes;
    let slots = Outcome::SlotsFloat {
        slots: wishes.floating_slots.clone(),
        wished: wishes.profile.hotplug == Hotplug::Float,
    };
    let all = [
        placed.bounded.then_some(Outcome::SearchCutShort),
        (fits && !placed.own_cores && !pinned).then_some(Outcome::CoresShared),
        (fits && chosen && placed.key.kind > 0).then_some(Outcome::SlowCores),
        (fits && !wishes.floating_slots.is_empty()).then_some(slots),
    ];
    all.into_iter().flatten().map(Reason::from).collect()
}

/// Names what the values of the plan do not do.
pub(super) fn of_values(fit: &Fit<'_>, list: &List, plan: &mut Plan) {
    let case = fit.case;
    let (host, wishes) = (case.host, case.wishes);
    // A shape that is not true of its place is told, where showing the place is asked for.
    let shown = list
        .shown
        .filter(|_| fit.fits && wishes.mirrors && !wishes.dedicated.is_empty());
    if let Some(shown) = shown {
        let told = plan.reasons.contains(&Outcome::CoresShared.into());
        let untrue = untrue::parts(host, fit.placed, shown, fit.demanded.demand.mirror);
        let new = |part: &Untrue| !(told && matches!(part, Untrue::CoresTogether { .. }));
        plan.reasons
            .extend(untrue.into_iter().filter(new).map(Reason::from));
    }
    plan.reasons.extend(many_sockets(fit, list).map(Reason::from));
    // Pins of an administrator that this host cannot honour.
    let stale = obsolete::reasons(case.domain, host, &list.settings);
    let said = plan.reasons.iter().any(names_a_pin);
    let fresh = |reason: &Given| !(said && reason.is_of_vcpu_pin());
    plan.reasons
        .extend(stale.into_iter().filter(fresh).map(Reason::from));
    if fit.fits {
        plan.notes.pinned_away = without_own(fit);
        plan.reasons
            .extend(plan.notes.pinned_away.clone().map(Reason::from));
        let apart = fit.demanded.kept_memory.apart(host, fit.placed);
        plan.reasons.extend(apart.into_iter().map(Reason::from));
    }
    plan.reasons
        .extend(throttled(case.domain, host, &list.settings).map(Reason::from));
}

/// Says that a system that the XML does not name may use fewer sockets than it is shown.
fn many_sockets(fit: &Fit<'_>, list: &List) -> Option<Outcome> {
    let Case { wishes, domain, .. } = *fit.case;
    let unknown = wishes.x86 && domain.os_id.is_empty() && wishes.profile.max_sockets == MaxSockets::Auto;
    let sockets = list.shape.topology?.sockets;
    (unknown && sockets > WINDOWS_CLIENT_SOCKETS).then_some(Outcome::ManySockets { sockets })
}

/// Returns whether a reason names a vCPU pin that is in the way.
fn names_a_pin(reason: &Reason) -> bool {
    matches!(
        reason,
        Reason::NoPlace(NoPlace::PinHeld { .. } | NoPlace::PinOffline { .. } | NoPlace::PinNotAllowed { .. })
    )
}

/// Says that the kernel throttles the real-time vCPUs that a guest has.
fn throttled(domain: &Domain, host: &Host, settings: &[Setting]) -> Option<Outcome> {
    let written = settings
        .iter()
        .find(|setting| setting.target == Target::VcpuSched);
    let by_hand = || {
        let mut all = domain.vcpuscheds.iter();
        all.any(|sched| matches!(sched.scheduler.as_str(), "fifo" | "rr"))
    };
    let realtime = written.map_or_else(by_hand, |setting| setting.value != Value::Absent);
    let runtime_us = host.rt_runtime_us.filter(|runtime| *runtime > 0)?;
    realtime.then_some(Outcome::RealtimeThrottled { runtime_us })
}

/// Names the vCPUs that have no CPU of their own, though the profile asks for one, because an
/// administrator pinned them elsewhere.
fn without_own(fit: &Fit<'_>) -> Option<Given> {
    let (mut vcpus, mut cpus) = (VcpuSet::new(), CpuSet::new());
    for (vcpu, pin) in &fit.demanded.kept_pins {
        if fit.case.wishes.dedicated.contains(*vcpu) && !pin.is_subset(&fit.case.sets.dedicated) {
            vcpus.insert(*vcpu);
            cpus.extend_from(pin);
        }
    }
    (!vcpus.is_empty()).then_some(Given::PinnedAway { vcpus, cpus })
}
