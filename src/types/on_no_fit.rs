//! The fate of a guest for which there is no place.

/// `on_no_fit`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum OnNoFit {
    /// The guest floats on the shared set.
    RunShared,
    /// The guest does not start.
    Refuse,
    /// The guest runs as it is.
    RunUntuned,
}

impl OnNoFit {
    /// As the policy spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::RunShared => "run-shared",
            Self::Refuse => "refuse",
            Self::RunUntuned => "run-untuned",
        }
    }
}
