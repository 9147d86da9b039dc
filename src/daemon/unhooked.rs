//! Detection of guests that start without libvirt's hook: its link is missing, or libvirt was not
//! reloaded since the link was made.
//!
//! At every start the hook's `prepare` comes before libvirt writes the guest's status, so a daemon
//! that answers hooks knows of the start by then.

use std::collections::BTreeSet;

/// Starts as reported by hooks, and as seen in the status files.
#[derive(Debug, Default)]
pub(crate) struct Unhooked {
    /// Guests whose start a hook reported, and those that ran when the daemon started.
    told: BTreeSet<String>,
    /// Guests whose status was written since the last [`Unhooked::take`].
    written: BTreeSet<String>,
    /// A warning was given, and no hook came since.
    said: bool,
}

impl Unhooked {
    /// Creates the state; for guests that run already it cannot be found out any more.
    pub(crate) fn new(running: Vec<String>) -> Self {
        Self {
            told: running.into_iter().collect(),
            ..Self::default()
        }
    }

    /// Notes that a hook reported a guest.
    pub(crate) fn told(&mut self, name: &str) {
        self.told.insert(name.into());
        self.said = false;
    }

    /// Notes that a guest's status was written.
    pub(crate) fn written(&mut self, name: &str) {
        self.written.insert(name.into());
    }

    /// Forgets a guest that ended.
    pub(crate) fn ended(&mut self, name: &str) {
        self.told.remove(name);
        self.written.remove(name);
    }

    /// Takes the guest that was started without a hook, where a warning is due. `is_starting`
    /// returns whether a hook runs for a guest.
    pub(crate) fn take(&mut self, is_starting: impl Fn(&str) -> bool) -> Option<String> {
        let mut first = None;
        for name in std::mem::take(&mut self.written) {
            if self.told.contains(&name) || is_starting(&name) {
                continue;
            }
            self.told.insert(name.clone());
            if !std::mem::replace(&mut self.said, true) {
                first = Some(name);
            }
        }
        first
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_start_that_no_hook_told_of_is_said_and_only_once() {
        let mut unhooked = Unhooked::new(vec!["ran".into()]);
        let nobody = |_: &str| false;
        for name in ["ran", "hooked", "starting"] {
            unhooked.written(name);
        }
        unhooked.told("hooked");
        assert_eq!(unhooked.take(|name| name == "starting"), None);
        for name in ["a", "b"] {
            unhooked.written(name);
        }
        assert_eq!(unhooked.take(nobody).as_deref(), Some("a"));
        unhooked.ended("a");
        unhooked.written("a");
        assert_eq!(unhooked.take(nobody), None, "said already");
        unhooked.told("hooked");
        unhooked.ended("a");
        unhooked.written("a");
        assert_eq!(
            unhooked.take(nobody).as_deref(),
            Some("a"),
            "hooks came, and fail again"
        );
    }
}
