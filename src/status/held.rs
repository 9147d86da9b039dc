//! CPUs that a guest holds, as its status shows them.

use crate::ledger::{Holder, taken};
use crate::snapshot::Snapshot;
use crate::types::idset::CpuSet;

/// Returns the CPUs a holder of the ledger holds under the policy's sets.
pub(crate) fn cpus(view: &Snapshot, holder: &Holder) -> CpuSet {
    taken::held(
        holder,
        &view.host,
        &view.sets.dedicated,
        view.policy.host.share_cores,
    )
}
