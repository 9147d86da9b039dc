//! Answer to `reconnect begin`: libvirt was restarted and has found a running guest. The guest's
//! reservation is written again for the new daemon; otherwise it would be void as soon as the
//! status file cannot be read. The exit code is always 0, as any other kills the guest.

use crate::hook_events::{Call, Context, Outcome};
use crate::host::libvirt_process;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::reservation::Reservation;
use crate::ledger::store::StoreError;

/// Answers `reconnect begin`.
pub(crate) fn answer(call: &Call, context: &Context<'_>) -> Outcome {
    match adopt(call, context) {
        Ok(None) => Outcome::default(),
        Ok(Some(reservation)) => {
            log::info!(
                "{}: libvirt was restarted; its reservation belongs to process {} now",
                call.guest,
                reservation.pid
            );
            Outcome {
                reserved: Some(reservation.cpus),
                ..Outcome::default()
            }
        }
        Err(why) => {
            let line = format!(
                "virtfit: {}: reconnect: its reservation stays as it is: {why}",
                call.guest
            );
            Outcome::failed(line, why.to_string())
        }
    }
}

fn adopt(call: &Call, context: &Context<'_>) -> Result<Option<Reservation>, StoreError> {
    let store = context.store;
    let uuid = GuestXml::parse(&call.xml).map(|guest| guest.domain.uuid);
    let uuids = match uuid.ok().filter(|uuid| !uuid.is_empty()) {
        Some(uuid) => vec![uuid],
        None => store.uuids_of(&call.guest)?,
    };
    for uuid in uuids {
        let Some(found) = store.reservation(&uuid)? else {
            continue;
        };
        // A reservation from before the last boot; the next sweep removes it.
        if libvirt_process::boot_id(store.root()).is_some_and(|boot_id| boot_id != found.boot_id) {
            continue;
        }
        let (pid, start_time) = call.parent.libvirt(store.root());
        let adopted = Reservation {
            pid,
            start_time,
            tentative_until: None,
            ..found
        };
        store.adopt(&adopted, context.deadline)?;
        return Ok(Some(adopted));
    }
    Ok(None)
}
