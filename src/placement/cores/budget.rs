//! Steps that a search may take: how many are left, and what was not tried for want of them.

use crate::placement::cores::Site;

/// Limit of a search.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Effort {
    /// See [`Site::first`].
    pub first: bool,
    /// Steps (some tens of nanoseconds each) after which the search is cut short.
    pub steps: usize,
}

impl Effort {
    /// Finds the best placement.
    pub(crate) const BEST: Self = Self {
        first: false,
        steps: 1_200_000,
    };
    /// Finds out if there is a placement at all.
    pub(crate) const ANY: Self = Self {
        first: true,
        steps: 300_000,
    };
}

impl Site<'_> {
    /// Takes steps off the present ration; false when it is used up.
    pub(crate) fn spend(&self, steps: usize) -> bool {
        let left = self.steps.get().saturating_sub(steps).max(self.reserve.get());
        self.steps.set(left);
        let enough = left > self.reserve.get();
        if !enough {
            self.cut_short.set(true);
        }
        enough
    }

    /// Takes steps as [`Self::spend`] does, for work that must be finished once begun: it may use
    /// later rations too. False when no step is left at all.
    pub(crate) fn overspend(&self, steps: usize) -> bool {
        let left = self.steps.get().saturating_sub(steps);
        self.steps.set(left);
        self.reserve.set(self.reserve.get().min(left));
        if left == 0 {
            self.cut_short.set(true);
        }
        left > 0
    }

    /// Divides the remaining steps into `rations` equal rations and begins the first.
    pub(crate) fn ration(&self, rations: usize) {
        let left = self.steps.get();
        self.reserve.set(left - left / rations.max(1));
    }

    /// Notes that a placement failed for want of CPUs beside the chosen ones: another choice of
    /// CPUs might have been possible.
    pub(crate) fn give_up(&self) {
        if self.can_be_thrifty() {
            self.cut_short.set(true);
        }
    }

    /// Returns whether some possibilities were not tried.
    pub(crate) fn is_cut_short(&self) -> bool {
        self.cut_short.get()
    }
}
