//! A tuned definition given to libvirt, with a last look before and one after.

use std::time::Instant;

use super::{Around, Definitions, Next, RETRY, is_busy};
use crate::daemon::definition::Definition;
use crate::daemon::earlier::Earlier;
use crate::daemon::hooked;
use crate::daemon::pending::Waits;
use crate::daemon::seen::Outcome;
use crate::daemon::watch::Change;
use crate::domain::Domain;
use crate::doors::words::summary_with_causes;
use crate::hypervisor::HypervisorError;
use crate::plan::Plan;

impl Definitions {
    /// Defines it, with a last look before and one after.
    pub(super) fn define(
        &mut self,
        definition: &Definition,
        domain: &Domain,
        xml: &str,
        plan: &Plan,
        host: &str,
        around: &mut Around<'_>,
    ) -> Next {
        let name = &definition.name;
        let view = around.view;
        let root = &view.root;
        // The last look comes right before the call: no connection is made in between.
        if let Err(error) = around.hypervisor.open() {
            log::debug!("{name}: {error}");
            return Next::Wait(Waits::Libvirt(Some(Instant::now() + RETRY)));
        }
        if hooked::guests(root).contains(name) {
            log::debug!("{name}: another program's hook runs for it: later");
            return Next::Wait(Waits::Until(Instant::now() + hooked::AGAIN));
        }
        // What happened up to here is in the file that is compared now.
        (around.drain)();
        if !definition.is_current(root) {
            return Next::Wait(Waits::No);
        }
        if is_busy(around, domain) {
            return Next::Wait(Waits::Hook);
        }
        let result = around.hypervisor.redefine(&definition.text, xml);
        let events = of_file((around.drain)(), name);
        match result {
            Err(HypervisorError::Gone(why)) => {
                log::debug!("{name}: libvirt does not answer: {why}");
                return Next::Wait(Waits::Libvirt(Some(Instant::now() + RETRY)));
            }
            Err(HypervisorError::Said(why)) => {
                if !definition.is_current(root) {
                    return Next::Wait(Waits::No);
                }
                let line = format!("{name}: libvirt does not take the tuned definition: {why}");
                self.say(name, log::Level::Error, &line);
                self.remember(definition, domain, view, host, Outcome::Failed);
                return Next::Done;
            }
            Ok(()) => {}
        }
        if went_away(&events) {
            return self.undo(name, domain, around);
        }
        if events.iter().filter(|written| **written).count() > 1 {
            log::warn!(
                "{name}: its definition was changed at the same moment as virtfit defined it: look whether that change is still there"
            );
        }
        let track = self.tracks.entry(name.clone()).or_default();
        track.written_by_us(Instant::now());
        // Each time it is done it is told, also with the same words.
        let line = summary_with_causes(plan);
        track.is_news(&line);
        log::info!("{line}");
        if let Some(earlier) = plan.placement.as_ref().and_then(|p| Earlier::of(name, p)) {
            self.earlier.put(&domain.uuid, earlier);
        }
        if let Ok(Some(stored)) = Definition::read(root, name) {
            self.starts.defined(&stored, domain, plan);
            self.remember(&stored, domain, view, host, Outcome::of(plan));
        }
        Next::Done
    }

    /// The definition was taken away between the last look and ours: that is what shall be.
    fn undo(&mut self, name: &str, domain: &Domain, around: &mut Around<'_>) -> Next {
        match around.hypervisor.undefine(&domain.uuid) {
            Ok(()) => log::info!("{name}: undefined while it was tuned: it stays undefined"),
            // It was undefined again.
            Err(_) if matches!(Definition::read(&around.view.root, name), Ok(None)) => {}
            Err(error) => log::error!(
                "{name}: undefined while it was tuned, and the tuned definition cannot be taken back: {error}: virsh undefine {name}"
            ),
        }
        self.forget(name);
        Next::Done
    }
}

/// What happened to one definition's file, in order: written (true) or gone (false). Lost events tell nothing.
fn of_file(changes: Vec<Change>, guest: &str) -> Vec<bool> {
    let of = |change| match change {
        Change::Defined(name) if name == guest => Some(true),
        Change::Undefined(name) if name == guest => Some(false),
        _ => None,
    };
    changes.into_iter().filter_map(of).collect()
}

/// Gone, and then written once: by us.
fn went_away(events: &[bool]) -> bool {
    events == [false, true]
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_gone_and_then_written_once_is_taken_back() {
        let defined = |name: &str| Change::Defined(name.into());
        let gone = |name: &str| Change::Undefined(name.into());
        for (changes, expected) in [
            (vec![], false),
            (vec![defined("a")], false),
            (vec![gone("a"), defined("a")], true),
            (vec![gone("a"), gone("b"), Change::Lost, defined("a")], true),
            (vec![gone("b"), defined("a")], false),
            (vec![defined("a"), gone("a")], false),
            // Somebody defined it again: it shall be.
            (vec![gone("a"), defined("a"), defined("a")], false),
        ] {
            let what = format!("{changes:?}");
            assert_eq!(went_away(&of_file(changes, "a")), expected, "{what}");
        }
    }
}
