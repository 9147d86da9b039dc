//! Sentences about a guest for which no decision was made, for the hook and for the process that
//! decides in its place.

use crate::operation::HookAction;

/// Says why a guest whose provenance has `on_no_fit = "refuse"` may not start: no decision was made
/// for it.
pub fn refused_undecided(guest: &str, why: &str) -> String {
    format!("virtfit: {guest} may not run without its placement (on_no_fit = refuse), and {why}")
}

/// Says that a guest goes on as it is defined, because no decision was made at this operation; for
/// a guest that comes to run here, also that its CPUs were not reserved.
pub fn nothing_changed(guest: &str, operation: &str, action: HookAction, why: &str) -> String {
    let unreserved = match action {
        HookAction::Prepare | HookAction::Filter => "; other guests may run on its CPUs",
        HookAction::Started | HookAction::Release | HookAction::Reconnect | HookAction::Nothing => "",
    };
    format!("virtfit: {guest}: {operation}: nothing was changed: {why}{unreserved}")
}
