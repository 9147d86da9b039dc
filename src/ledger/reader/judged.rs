//! Judgements of a policy on guests' files: what a definition claims, what a running guest holds.

use std::collections::HashMap;
use std::sync::Arc;

use crate::policy::Policy;

/// Judgements under one policy. Each is made again only if the file, the guest's autostart or the
/// policy has changed.
#[derive(Debug)]
pub(crate) struct Judged<F, J> {
    /// Digest of the policy.
    policy: String,
    /// Parsed file, autostart and judgement, by the file's stem.
    known: HashMap<String, (Arc<F>, bool, J)>,
}

impl<F, J> Default for Judged<F, J> {
    fn default() -> Self {
        Self {
            policy: String::new(),
            known: HashMap::new(),
        }
    }
}

impl<F, J: Clone> Judged<F, J> {
    /// Forgets the judgements of other policies than this one.
    pub(crate) fn under(&mut self, policy: &Policy) {
        if self.policy != policy.digest {
            self.policy.clone_from(&policy.digest);
            self.known.clear();
        }
    }

    /// Returns the judgement on a file by the policy of [`Judged::under`].
    pub(crate) fn of(
        &mut self,
        stem: &str,
        file: &Arc<F>,
        autostart: bool,
        judge: impl FnOnce(&F) -> J,
    ) -> J {
        if let Some((known, then, judged)) = self.known.get(stem)
            && Arc::ptr_eq(known, file)
            && *then == autostart
        {
            return judged.clone();
        }
        let judged = judge(file);
        let known = (Arc::clone(file), autostart, judged.clone());
        self.known.insert(stem.to_string(), known);
        judged
    }

    /// Forgets the files that `is_there` does not have.
    pub(crate) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        self.known.retain(|stem, _| is_there(stem));
    }
}
