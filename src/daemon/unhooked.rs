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
    /// Guests that run, and whose start no hook reported.
    missed: BTreeSet<String>,
    /// Guests whose status was written since the last [`Unhooked::take`].
    written: BTreeSet<String>,
    /// A warning was given, and no hook came since.
    said: bool,
}

/// Guests that were started without a hook.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Missed {
    /// Names of the guests.
    pub guests: Vec<String>,
    /// Guest to warn of, where a warning is due.
    pub news: Option<String>,
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
        self.missed.remove(name);
        self.written.remove(name);
    }

    /// Takes the guests that were started without a hook and whose status was written since: their
    /// start may be over. `is_starting` returns whether a hook runs for a guest.
    pub(crate) fn take(&mut self, is_starting: impl Fn(&str) -> bool) -> Missed {
        let mut out = Missed::default();
        for name in std::mem::take(&mut self.written) {
            if self.told.contains(&name) || is_starting(&name) {
                continue;
            }
            let is_new = self.missed.insert(name.clone());
            if is_new && !std::mem::replace(&mut self.said, true) {
                out.news = Some(name.clone());
            }
            out.guests.push(name);
        }
        out
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
        assert_eq!(unhooked.take(|name| name == "starting"), Missed::default());
        for name in ["a", "b"] {
            unhooked.written(name);
        }
        let missed = unhooked.take(nobody);
        assert_eq!(missed.guests, ["a", "b"], "all of them are visited");
        assert_eq!(missed.news.as_deref(), Some("a"));
        unhooked.ended("a");
        unhooked.written("a");
        let missed = unhooked.take(nobody);
        assert_eq!((missed.guests.len(), missed.news), (1, None), "said already");
        // libvirt writes the status several times until the start is over.
        unhooked.written("a");
        assert_eq!(
            unhooked.take(nobody).guests,
            ["a"],
            "visited until it has started"
        );
        unhooked.told("hooked");
        unhooked.ended("a");
        unhooked.written("a");
        assert_eq!(
            unhooked.take(nobody).news.as_deref(),
            Some("a"),
            "hooks came, and fail again"
        );
    }
}
