//! Guests on which virtfit itself failed: each is left alone until the guest's text changes, and
//! the others go on.

use std::collections::BTreeMap;

use crate::engine::EngineError;
use crate::panics::guarded;
use crate::types::digest;

/// Digests of the texts that virtfit failed on, by guest. Kept in memory: a daemon that was
/// restarted, perhaps as a mended version, tries each text once more.
#[derive(Debug, Default)]
pub(crate) struct Bugs(BTreeMap<String, String>);

impl Bugs {
    /// Returns whether virtfit failed on this guest with a text of this digest.
    pub(crate) fn has(&self, name: &str, digest: &str) -> bool {
        self.0.get(name).is_some_and(|failed| failed == digest)
    }

    /// Remembers a guest with its text, and logs the bug.
    pub(crate) fn note(&mut self, name: &str, digest: &str, bug: &EngineError) {
        log::error!("{name}: {bug}: left alone until its XML changes");
        self.0.insert(name.into(), digest.into());
    }

    /// Forgets the text of a guest, so that it may be tried again.
    pub(crate) fn forget(&mut self, name: &str) {
        self.0.remove(name);
    }

    /// Does the work for one guest that has this text; `None`: virtfit failed on the guest, now or
    /// before. Every error of the work counts as a bug.
    pub(crate) fn without<T>(
        &mut self,
        name: &str,
        text: &str,
        work: impl FnOnce() -> Result<T, EngineError>,
    ) -> Option<T> {
        let digest = digest::of(text);
        if self.has(name, &digest) {
            return None;
        }
        guarded(work)
            .unwrap_or_else(|bug| Err(bug.into()))
            .inspect_err(|bug| self.note(name, &digest, bug))
            .ok()
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn a_text_is_tried_once_until_it_is_another() {
        let mut bugs = Bugs::default();
        let mut tried = 0;
        for (text, expected) in [("a", 1), ("a", 1), ("b", 2), ("b", 2), ("a", 3)] {
            let done = bugs.without("db", text, || {
                tried += 1;
                panic!("as asked");
            });
            assert_eq!((done, tried), (None::<()>, expected), "{text}");
        }
        assert_eq!(bugs.without("web", "a", || Ok(1)), Some(1));
        bugs.forget("db");
        assert_eq!(bugs.without("db", "a", || Ok(1)), Some(1));
    }
}
