//! Placements for a topology that a guest has: its shape is decided once, so every later placement
//! has to be one that the shape is true of.

use crate::domain::Topology;
use crate::engine::supply::Supplies;
use crate::engine::untrue;
use crate::host::Host;
use crate::placement::mirror::Exact;
use crate::placement::{self, Demand, Placed, Supply};
use crate::types::reason::Untrue;

/// Returns whether the sockets and dies of a topology are true of a placement.
pub(crate) fn is_true(host: &Host, placed: &Placed, shown: Topology, demand: &Demand) -> bool {
    let place = |part: &Untrue| match part {
        Untrue::ThreadsApart { .. } | Untrue::CoresTogether { .. } => false,
        Untrue::CacheApart { .. } | Untrue::SocketOverNodes { .. } | Untrue::SocketOverPackages { .. } => {
            true
        }
    };
    !untrue::parts(host, placed, shown, demand.mirror)
        .iter()
        .any(place)
}

/// Returns the best placement that the topology mirrors exactly.
pub(crate) fn place(host: &Host, demand: &Demand, supplies: &Supplies, shown: Topology) -> Option<Placed> {
    among(host, demand, &supplies.now, &supplies.empty, shown)
}

/// Returns whether the topology is true of no placement at all, not even on the host without
/// guests: it was given where nothing could be mirrored.
pub(crate) fn is_never_true(host: &Host, demand: &Demand, supplies: &Supplies, shown: Topology) -> bool {
    let empty = &supplies.empty;
    let best = placement::place(host, demand, empty, empty).ok();
    best.is_none_or(|placed| !is_true(host, &placed, shown, demand))
        && among(host, demand, empty, empty, shown).is_none()
}

fn among(host: &Host, demand: &Demand, now: &Supply, empty: &Supply, shown: Topology) -> Option<Placed> {
    let demand = Demand {
        // It has the sockets it has.
        max_sockets: None,
        shape: Some(Exact {
            sockets: shown.sockets,
            dies: shown.dies,
            cores: shown.cores_of_die(),
        }),
        ..demand.clone()
    };
    placement::place(host, &demand, now, empty).ok()
}
