//! Notices that guests start without libvirt's hook: the link is missing, or libvirt was not
//! reloaded since it was made.
//!
//! Every start has a hook's `prepare` before libvirt writes the guest's status, and a daemon that
//! answers hooks has been told by then.

use std::collections::BTreeSet;

/// What hooks told of.
#[derive(Debug, Default)]
pub struct Unhooked {
    /// Guests whose start a hook told of, and those that ran when the daemon started.
    told: BTreeSet<String>,
    /// Guests whose status was written lately.
    written: BTreeSet<String>,
    /// It was said, and no hook came since.
    said: bool,
}

impl Unhooked {
    /// Of guests that run already nobody can tell any more.
    pub fn new(running: Vec<String>) -> Self {
        Self {
            told: running.into_iter().collect(),
            ..Self::default()
        }
    }

    /// A hook told of a guest.
    pub fn told(&mut self, name: &str) {
        self.told.insert(name.into());
        self.said = false;
    }

    /// A guest's status was written.
    pub fn written(&mut self, name: &str) {
        self.written.insert(name.into());
    }

    /// A guest ended.
    pub fn ended(&mut self, name: &str) {
        self.told.remove(name);
        self.written.remove(name);
    }

    /// Takes the guest that was started without a hook, where that is to be said. `is_starting`: a
    /// hook runs for it.
    pub fn take(&mut self, is_starting: impl Fn(&str) -> bool) -> Option<String> {
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
