//! Placement: which CPU, node and page each part of a guest gets. `docs/placement.md` section 2 has
//! the rules.
//!
//! Exact: if a placement that satisfies the demand exists, one is found, and of all that do the
//! best by [`Key`]'s order. Deterministic and pure: a [`Demand`] and a [`Supply`] in, a [`Placed`]
//! out. The way through the files:
//!
//! ```text
//! cores   what a node has left, core by core            memory   does the memory fit, in which pages
//! level   threads a guest core, and what a core costs   table    the best x guest cores of one node
//! one     a guest without cells: one node, or several   sets     which several nodes
//! division the vCPUs in order over several nodes        cells    guest cells onto nodes of their own
//! distance how far nodes are apart                      twins    nodes that are alike
//! shape   extra CPUs, floating vCPUs, the finished place kept    pins that are given
//! explain why nothing fits
//! ```

pub mod cores;
pub mod distance;
pub mod division;
pub mod explain;
pub mod finish;
pub mod given_pins;
pub mod guest_cells;
pub mod memory;
pub mod node_sets;
pub mod node_table;
pub mod one_node;
pub mod rank;
pub mod threading;
pub mod twins;

use std::collections::BTreeMap;

use crate::host::Host;
use crate::policy::Strategy;
use crate::policy::profile::Smt;
use crate::types::ids::{CellId, HostCpu, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};

use cores::{Effort, Site};
pub use rank::Key;
pub use threading::Level;

/// What a guest needs, with every policy word resolved to data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// How many vCPUs, offline ones included.
    pub vcpus: u32,
    /// Those that get a CPU of their own; the others float.
    pub dedicated: VcpuSet,
    /// What siblings are for.
    pub smt: SmtRule,
    /// Guest cells that exist: each goes to a host node of its own. Empty: the guest is placed as
    /// one.
    pub cells: Vec<CellDemand>,
    /// Cells the guest shows though it is placed as one: a guest core does not reach over two.
    pub shown_cells: Vec<VcpuSet>,
    /// All of the guest's memory.
    pub memory: KiB,
    /// Over several nodes, one cell a node is made, with memory of its own.
    pub make_cells: bool,
    /// Memory is bound to the guest's nodes, so it has to be there.
    pub bind: bool,
    /// At most so many nodes; `None`: as few as an empty host allows.
    pub max_nodes: Option<u32>,
    /// At most so many last-level caches; 0: any.
    pub max_llcs: u32,
    /// Page sizes that will do, best first; `None` in it stands for small pages.
    pub pages: Vec<Option<KiB>>,
    /// Only these nodes.
    pub nodes: Option<NodeSet>,
    /// Dedicated vCPUs only on these CPUs (a `vcpu@cpuset` that is kept).
    pub within: Option<CpuSet>,
    /// Pins that are given and stay.
    pub kept: BTreeMap<VcpuId, CpuSet>,
    /// vCPUs that have their place already and neither float nor need a CPU.
    pub settled: VcpuSet,
    /// Threads a guest core must have: the shape the guest was given before, or one that is kept.
    pub threads: Option<u32>,
    /// Extra dedicated CPUs on the node of cell 0 without which nothing fits: isolated emulator and
    /// iothreads.
    pub extra_min: u32,
    /// As many of them as are wanted.
    pub extra_max: u32,
    /// Node of each passed-through device that is on one.
    pub devices: Vec<NodeId>,
    /// All devices have to be local.
    pub devices_required: bool,
    /// Siblings are withheld from other guests even without `smt = isolate`.
    pub withhold_siblings: bool,
    /// Which of equal places.
    pub spread: bool,
}

/// [`Smt`] with a default, so that demands are easy to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SmtRule {
    /// Whole cores where the shape allows.
    #[default]
    Prefer,
    /// Whole cores or no fit.
    Require,
    /// One vCPU a core, siblings withheld.
    Isolate,
}

impl From<Smt> for SmtRule {
    fn from(smt: Smt) -> Self {
        match smt {
            Smt::Prefer => Self::Prefer,
            Smt::Require => Self::Require,
            Smt::Isolate => Self::Isolate,
        }
    }
}

impl Demand {
    /// Whether equal places are spread over nodes.
    pub fn set_strategy(&mut self, strategy: Strategy) {
        self.spread = strategy == Strategy::Spread;
    }

    /// vCPUs that float.
    pub fn floating(&self) -> VcpuSet {
        VcpuSet::first_n(self.vcpus)
            .difference(&self.dedicated)
            .difference(&self.settled)
    }
}

/// A guest cell to be put on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellDemand {
    /// Its number.
    pub id: CellId,
    /// Its vCPUs.
    pub vcpus: VcpuSet,
    /// Its memory.
    pub memory: KiB,
    /// Only these nodes (a `memnode` that is kept).
    pub nodes: Option<NodeSet>,
}

/// What the host has to give.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supply {
    /// All dedicated CPUs, held or not.
    pub dedicated: CpuSet,
    /// Dedicated CPUs nobody holds.
    pub free: CpuSet,
    /// CPUs floating vCPUs may use.
    pub shared: CpuSet,
    /// CPUs that may be withheld from other guests: nobody holds them and they keep no house.
    pub isolable: CpuSet,
    /// CPUs that somebody else holds, with the name; for messages and kept pins.
    pub held: BTreeMap<HostCpu, String>,
    /// CPUs autostart definitions claim.
    pub claimed_autostart: CpuSet,
    /// CPUs other definitions claim.
    pub claimed_other: CpuSet,
    /// Huge pages by node and size.
    pub pages: BTreeMap<(NodeId, KiB), u64>,
    /// Small-page memory by node; a node that is absent is not checked.
    pub memory: BTreeMap<NodeId, KiB>,
}

/// A place for every vCPU and page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// CPUs of each vCPU: one, or all a floating one may use.
    pub vcpus: BTreeMap<VcpuId, CpuSet>,
    /// Cells with their nodes, by cell number; one for a guest placed as one (its node: that of its
    /// first vCPU).
    pub cells: Vec<CellPlace>,
    /// Host nodes in cell order; several for a guest without cells that spans them. Empty: bound to
    /// none.
    pub nodes: Vec<NodeId>,
    /// Page size; `None`: small pages.
    pub page: Option<KiB>,
    /// Threads of a guest core.
    pub threads: u32,
    /// Whether each guest core has a host core of its own; false only by `prefer`, as the last
    /// resort.
    pub own_cores: bool,
    /// The extra dedicated CPUs, in the order they were found best.
    pub extra: Vec<HostCpu>,
    /// Siblings withheld from every other guest.
    pub withheld: CpuSet,
    /// The search was cut short: a better place may exist.
    pub bounded: bool,
    /// How good it is.
    pub key: Key,
}

/// One cell on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellPlace {
    /// Its number.
    pub id: CellId,
    /// Its vCPUs.
    pub vcpus: VcpuSet,
    /// Its memory.
    pub memory: KiB,
    /// Its node.
    pub node: NodeId,
}

/// Places a guest.
///
/// `empty` is the same host with no other guest on it: it decides how many nodes `max_nodes =
/// "auto"` allows.
///
/// # Errors
/// Nothing fits: the reasons, for people, most telling first.
pub fn place(host: &Host, demand: &Demand, now: &Supply, empty: &Supply) -> Result<Placed, Vec<String>> {
    search(host, demand, now, empty, Effort::BEST).ok_or_else(|| explain::reasons(host, demand, now, empty))
}

/// As [`place`] without the reasons.
pub(crate) fn search(
    host: &Host,
    demand: &Demand,
    now: &Supply,
    empty: &Supply,
    effort: Effort,
) -> Option<Placed> {
    if !demand.kept.is_empty() {
        return given_pins::place(host, demand, now, effort);
    }
    let fewest = || {
        let plain = Site::new(host, demand, empty, Effort::ANY);
        let thrifty = plain
            .can_be_thrifty()
            .then(|| Site::new(host, demand, empty, Effort::ANY).thrifty());
        let sites = [Some(plain), thrifty];
        sites.iter().flatten().filter_map(one_node::fewest_nodes).min()
    };
    let attempt = |site: &Site<'_>| match demand.cells.is_empty() {
        true => one_node::place(site, fewest),
        false => guest_cells::place(site),
    };
    let plain = Site::new(host, demand, now, effort);
    let found = attempt(&plain);
    if !plain.can_be_thrifty() || (found.is_some() && (plain.first || demand.extra_max > 0)) {
        return found;
    }
    // The CPUs chosen first may be those that floating vCPUs or extra CPUs need: choose again with
    // that in mind. As that can take other extra CPUs than the rule has it, with them only where
    // nothing else fits.
    let thrifty = attempt(&Site::new(host, demand, now, effort).thrifty());
    match (found, thrifty) {
        (Some(found), Some(thrifty)) if found.key <= thrifty.key => Some(found),
        (found, thrifty) => thrifty
            .map(|placed| Placed {
                bounded: true,
                ..placed
            })
            .or(found),
    }
}
