//! Policy's decision for a guest where nothing fits.

/// Decision where nothing fits (`on_no_fit`).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoFit {
    /// The guest floats on the shared CPUs.
    RunShared,
    /// The guest is refused and does not start.
    Refuse,
    /// The guest runs as it is.
    RunUntuned,
}

impl OnNoFit {
    /// Returns the word of the policy.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::RunShared => "run-shared",
            Self::Refuse => "refuse",
            Self::RunUntuned => "run-untuned",
        }
    }
}
