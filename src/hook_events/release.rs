//! Answer to `release end`: a guest is gone, or its start came to nothing. It works with a broken
//! policy and while the lock is held, because removing files only frees.

use crate::hook_events::{Call, Context, Outcome};
use crate::ledger::store::{Store, StoreError};

/// Answers `release end`.
pub(crate) fn answer(call: &Call, context: &Context<'_>) -> Outcome {
    if context.is_over() {
        // The asker has released the guest by another process, and the guest may be starting again.
        return Outcome::default();
    }
    match free(call, context) {
        Ok(freed) => {
            if freed {
                log::info!("{}: released", call.guest);
            }
            Outcome::default()
        }
        Err(error) => {
            let line = format!("virtfit: {}: release: its reservation stays: {error}", call.guest);
            Outcome::failed(line, error.to_string())
        }
    }
}

/// Frees the guest by the UUID in its XML; if the XML cannot be read, by its name.
fn free(call: &Call, context: &Context<'_>) -> Result<bool, StoreError> {
    let store = context.store;
    let guest = context.source.guest(&call.xml);
    let uuid = guest.map(|guest| guest.domain.uuid.clone());
    match uuid.ok().filter(|uuid| !uuid.is_empty()) {
        Some(uuid) => both(store, &uuid),
        None => {
            let mut freed = false;
            for uuid in store.uuids_of(&call.guest)? {
                freed |= both(store, &uuid)?;
            }
            Ok(freed)
        }
    }
}

fn both(store: &Store, uuid: &str) -> Result<bool, StoreError> {
    let freed = store.remove(uuid);
    let unmarked = store.unmark(uuid);
    Ok(freed? | unmarked?)
}
