//! Facts that the later steps of one decision look at, known after the search for a place.

use crate::engine::case::Case;
use crate::engine::demand::Demanded;
use crate::placement::{Placed, Supply};

/// Case with the place that was found.
#[derive(Clone, Copy)]
pub(crate) struct Fit<'a> {
    /// Case that was decided.
    pub case: &'a Case<'a>,
    /// CPUs and memory the place was searched in.
    pub supply: &'a Supply,
    /// Demand the placement satisfies.
    pub demanded: &'a Demanded,
    /// Placement of vCPUs and memory.
    pub placed: &'a Placed,
    /// The placement is what the profile asks for, not the `run-shared` fallback.
    pub fits: bool,
}
