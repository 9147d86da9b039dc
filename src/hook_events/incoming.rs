//! Answer to `migrate begin` and `restore begin`: the text on stdout becomes the domain's XML. The
//! CPUs and memory the guest will hold are reserved until its `prepare`, which gets this XML on
//! stdin and makes the reservation firm.

use crate::engine::{Decision, EngineError, Question};
use crate::hook_events::claims::OwnClaims;
use crate::hook_events::leftover;
use crate::hook_events::lines::Mood;
use crate::hook_events::reserve;
use crate::hook_events::reserve::{Reserved, Want};
use crate::hook_events::{Answer, Call, Context, NO, Outcome, give_up, lines};
use crate::ledger::guest_xml::GuestXml;
use crate::snapshot::Snapshot;
use crate::types::idset::CpuSet;
use crate::types::plan::Scope;
use crate::types::plural;

/// Answers `migrate begin` or `restore begin`.
pub(crate) fn answer(call: &Call, context: &Context<'_>) -> Outcome {
    let give_up = |guest: Option<&GuestXml>, why: &str| give_up(call, context, guest, why);
    let guest = match context.source.guest(&call.xml) {
        Ok(guest) => guest,
        Err(error) => return give_up(None, &format!("stdin: {error}")),
    };
    // The lock, held from the second decision on, or from the first where many guests start.
    let mut held = match reserve::ahead(context) {
        Ok(held) => held,
        Err(error) => return give_up(Some(&guest), &error.to_string()),
    };
    loop {
        let view = match context.source.current() {
            Ok(view) => view,
            Err(error) => return give_up(Some(&guest), &error.to_string()),
        };
        let decision = match context
            .source
            .decide(&view, &call.xml, Question::of(Scope::Incoming))
        {
            Ok(decision) => decision,
            Err(error) => return give_up(Some(&guest), &format!("stdin: {error}")),
        };
        let plan = decision.plan();
        let verdict = Some(plan.verdict);
        // In mode observe the guest comes in as it is, and nothing is reserved.
        if view.policy.host.observe {
            let would = lines::summary(plan, Mood::Would);
            log::info!("{would}; mode = observe: it comes in as it is");
            return Outcome {
                verdict,
                ..Outcome::default()
            };
        }
        let summary = lines::summary(plan, Mood::Done);
        // A refusal must come now: after this operation the guest arrives.
        if let Decision::Refused(plan) = &*decision {
            log::info!("{summary}");
            let line = format!("virtfit: {}", lines::veto(&plan.guest, &plan.reasons));
            return Outcome {
                verdict,
                ..Outcome::veto(line, NO)
            };
        }
        // Another guest may have taken the CPUs since the view was read; then decide again under
        // the lock.
        let want = match want(&view, context, &guest, &decision) {
            Ok(want) => want,
            Err(error) => return give_up(Some(&guest), &error.to_string()),
        };
        let written = match reserve::reserve(call, context, &view, &guest, &want, true, held.take()) {
            Ok(Reserved::Again(locked)) if !context.is_over() => {
                held = Some(locked);
                continue;
            }
            Ok(Reserved::Again(_)) => return give_up(Some(&guest), reserve::OUTRUN),
            Err(error) => return give_up(Some(&guest), &error.to_string()),
            Ok(Reserved::Done) => !want.is_empty(),
            Ok(Reserved::Left) => false,
        };
        match want.cpus.is_empty() || !written {
            true => log::info!("{summary}"),
            false => log::info!("{summary}; {} reserved until it starts", plural::cpus(&want.cpus)),
        }
        return Outcome {
            answer: Answer {
                stdout: decision.xml().unwrap_or_default().to_string(),
                ..Answer::default()
            },
            reserved: written.then(|| want.cpus.clone()),
            verdict,
            ..Outcome::default()
        };
    }
}

/// Returns the CPUs and memory to reserve: those decided, or those the guest's XML names, virtfit's
/// leftover pins aside, and no other guest holds.
fn want(
    view: &Snapshot,
    context: &Context<'_>,
    guest: &GuestXml,
    decision: &Decision,
) -> Result<Want, EngineError> {
    let tuned = decision.xml().map(|xml| context.source.guest(xml)).transpose()?;
    let guest = tuned.as_deref().unwrap_or(guest);
    let taken = view.taken(&guest.domain);
    let own = OwnClaims::of(view, guest);
    let held: CpuSet = taken.cpus.keys().copied().collect();
    let (cpus, withheld) = match &decision.plan().placement {
        Some(place) => {
            let alone = place.dedicated.intersection(&view.sets.dedicated);
            (alone, place.withheld.clone())
        }
        // As at a start, virtfit's pins in a guest that no rule matches give no right to a CPU.
        None if decision.plan().notes.leftover => {
            let others = OwnClaims::of(view, &leftover::without_ours(guest));
            (others.cpus, CpuSet::new())
        }
        None => (own.cpus.clone(), own.withheld.clone()),
    };
    Ok(Want {
        cpus: cpus.difference(&held),
        withheld: withheld.difference(&held),
        memory: own.reserved_memory(),
        pins: None,
    })
}
