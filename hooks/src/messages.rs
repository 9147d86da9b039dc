//! Sentences about a guest for which nothing could be decided; the hook says them, and so does
//! whoever decides for the hook.

use crate::operation::HookAction;

/// Says why a guest whose provenance holds `on_no_fit = "refuse"` may not start: nothing could be
/// decided for it.
pub fn refused_undecided(guest: &str, why: &str) -> String {
    format!("virtfit: {guest} may not run without its placement (on_no_fit = refuse), and {why}")
}

/// Says that a guest goes on as it is defined, because nothing could be decided at this operation;
/// and, of a guest that comes to run here, that its CPUs were not reserved.
pub fn nothing_changed(guest: &str, operation: &str, action: HookAction, why: &str) -> String {
    let unreserved = match action {
        HookAction::Prepare | HookAction::Filter => "; other guests may run on its CPUs",
        HookAction::Started | HookAction::Release | HookAction::Reconnect | HookAction::Nothing => "",
    };
    format!("virtfit: {guest}: {operation}: nothing was changed: {why}{unreserved}")
}
