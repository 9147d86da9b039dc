//! Placement: the choice of a CPU, a node and a page size for each part of a guest. The rules are
//! section 2 of `docs/placement.md`.
//!
//! The search is exact: it finds a placement if one satisfies the demand, and of all that do the
//! best by [`Key`]'s order. It is deterministic and pure: a [`Demand`] and a [`Supply`] go in, a
//! [`Placed`] comes out. The files:
//!
//! ```text
//! rank         the order of preference                spread       rounds: kind, truth, t, page; windows
//! cores        the host's free CPUs, core by core     threading    threads per guest core, cost per core
//! memory       which nodes and pages hold the memory  mirror       truth of sockets, dies and cells
//!
//! one_node     a guest without cells                  node_sets    sets of several nodes for such a guest
//! even         the most even division over a set      division     its vCPUs in order over such a set
//! guest_cells  guest cells, each on its own node      offers       choices of CPUs that nodes have for cells
//! given_pins   vCPUs whose pins are given             pinned       the placement that given pins make
//!
//! node_table   the best x guest cores of one node     exact_table  the same, equally many a die or socket
//! caches       cores of a node, cache by cache        distance     distances between nodes, memory nearby
//! twins        interchangeable nodes                  finish       extra CPUs, floating vCPUs, the key
//! explain      reasons why nothing fits
//! ```

pub(crate) mod caches;
pub(crate) mod cores;
pub(crate) mod distance;
pub(crate) mod division;
pub(crate) mod even;
pub(crate) mod exact_table;
pub(crate) mod explain;
pub(crate) mod finish;
pub(crate) mod given_pins;
pub(crate) mod guest_cells;
pub(crate) mod memory;
pub(crate) mod mirror;
pub(crate) mod node_sets;
pub(crate) mod node_table;
pub(crate) mod offers;
pub(crate) mod one_node;
pub(crate) mod pinned;
pub(crate) mod rank;
pub(crate) mod spread;
pub(crate) mod threading;
pub(crate) mod twins;

use std::collections::BTreeMap;

use crate::host::Host;
use crate::policy::Strategy;
use crate::policy::profile::Smt;
use crate::types::ids::{CellId, HostCpu, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::reason::NoPlace;

use cores::{Effort, Site};
pub use mirror::{Exact, Mirror};
pub use rank::Key;

/// Needs of one guest, with every key of its profile resolved to data.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Demand {
    /// Number of vCPUs, offline ones included.
    pub vcpus: u32,
    /// vCPUs that get a CPU of their own; the others float.
    pub dedicated: VcpuSet,
    /// Use of sibling CPUs.
    pub smt: SmtRule,
    /// Kinds of core on a hybrid host.
    pub core_kind: CoreKind,
    /// Levels of the guest's topology that show where its cores are.
    pub mirror: Mirror,
    /// Largest number of sockets the guest can use; `None`: no limit.
    pub max_sockets: Option<u32>,
    /// Sockets and dies that have to show the guest's cores exactly.
    pub shape: Option<Exact>,
    /// Threads of a guest core are a power of two.
    pub threads_by_two: bool,
    /// Cells of the guest, each to be placed on a host node of its own. Empty: the guest is placed
    /// as one.
    pub cells: Vec<CellDemand>,
    /// vCPUs of each cell that the guest sees although it is placed as one. No guest core spans two
    /// of them.
    pub shown_cells: Vec<VcpuSet>,
    /// Memory of the whole guest.
    pub memory: KiB,
    /// Over several nodes, one guest cell per node is made, with memory of its own.
    pub make_cells: bool,
    /// Memory is bound to the guest's nodes, so it must be free there.
    pub bind: bool,
    /// Largest number of nodes; `None`: as few as an empty host allows.
    pub max_nodes: Option<u32>,
    /// Largest number of last-level caches; 0: no limit.
    pub max_llcs: u32,
    /// Page sizes that are allowed, best first; `None` as an element stands for small pages.
    pub pages: Vec<Option<KiB>>,
    /// Nodes that are allowed; `None`: all.
    pub nodes: Option<NodeSet>,
    /// CPUs to which dedicated vCPUs are limited (a `vcpu@cpuset` that is kept).
    pub within: Option<CpuSet>,
    /// Pins that are given and stay.
    pub kept: BTreeMap<VcpuId, CpuSet>,
    /// vCPUs that are already placed, and empty slots: they neither float nor need a CPU.
    pub settled: VcpuSet,
    /// Threads each guest core must have, from the recorded shape or from a topology that is kept.
    pub threads: Option<u32>,
    /// Fewest extra dedicated CPUs (isolated emulator and iothreads), on the node of cell 0. With
    /// fewer, nothing fits.
    pub extra_min: u32,
    /// Extra dedicated CPUs that are wanted, `extra_min` included.
    pub extra_max: u32,
    /// Passed-through devices that are attached to a node.
    pub devices: Vec<Device>,
    /// Every passed-through device must be on one of the guest's nodes.
    pub devices_required: bool,
    /// Siblings are withheld from other guests even without `smt = "isolate"`.
    pub withhold_siblings: bool,
    /// Equal placements are decided as `strategy = "spread"` says; false: as `pack` says.
    pub spread: bool,
}

/// Use of sibling CPUs: [`Smt`] with a default value, which keeps demands short to write.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum SmtRule {
    /// Whole cores where the shape allows.
    #[default]
    Prefer,
    /// Whole cores or no fit.
    Require,
    /// One vCPU per core, siblings withheld.
    Isolate,
}

/// Kinds of core for dedicated vCPUs on a hybrid host.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum CoreKind {
    /// One kind, the fastest that fits.
    #[default]
    Auto,
    /// The fastest kind of the host.
    Fast,
    /// One kind that is not the fastest.
    Slow,
    /// Any, also several at once.
    Any,
}

impl CoreKind {
    /// Returns whether cores of a kind may be used; 0 is the fastest.
    pub(crate) fn takes(self, kind: u32) -> bool {
        match self {
            Self::Auto | Self::Any => true,
            Self::Fast => kind == 0,
            Self::Slow => kind > 0,
        }
    }

    /// Returns the kind that a core counts as.
    fn seen(self, kind: u32) -> u32 {
        match self {
            Self::Any => 0,
            Self::Auto | Self::Fast | Self::Slow => kind,
        }
    }
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
    /// Sets how equal placements are decided.
    pub(crate) fn set_strategy(&mut self, strategy: Strategy) {
        self.spread = strategy == Strategy::Spread;
    }

    /// Returns the number of devices on a node that may be near any of the guest's vCPUs.
    fn devices_on(&self, node: NodeId) -> u32 {
        let any = |device: &&Device| device.cell.is_none() || self.cells.is_empty();
        let here = self.devices.iter().filter(any);
        here.filter(|device| device.node == node).count() as u32
    }

    /// Returns the vCPUs that float.
    pub fn floating(&self) -> VcpuSet {
        VcpuSet::first_n(self.vcpus)
            .difference(&self.dedicated)
            .difference(&self.settled)
    }
}

/// Passed-through device.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Device {
    /// Node that the device is attached to.
    pub node: NodeId,
    /// Cell that the guest is shown the device in; `None`: in none.
    pub cell: Option<CellId>,
}

impl From<NodeId> for Device {
    fn from(node: NodeId) -> Self {
        Self { node, cell: None }
    }
}

/// Guest cell to be put on a node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellDemand {
    /// Cell number.
    pub id: CellId,
    /// vCPUs of the cell.
    pub vcpus: VcpuSet,
    /// Memory of the cell.
    pub memory: KiB,
    /// Nodes that are allowed (a `memnode` that is kept); `None`: all.
    pub nodes: Option<NodeSet>,
}

/// CPUs and memory of the host that a guest can be given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Supply {
    /// Dedicated CPUs, held or not.
    pub dedicated: CpuSet,
    /// Dedicated CPUs that no guest holds.
    pub free: CpuSet,
    /// CPUs that floating vCPUs may use.
    pub shared: CpuSet,
    /// CPUs that floating vCPUs keep off while there are others: other guests' threads are pinned
    /// to them.
    pub occupied: CpuSet,
    /// CPUs that may be withheld from other guests: no guest holds them and they are not
    /// housekeeping.
    pub isolable: CpuSet,
    /// Name of the holder of each CPU that another guest holds; for messages and for given pins.
    pub held: BTreeMap<HostCpu, String>,
    /// Memory other guests have in huge pages or bound to nodes, the largest first.
    pub memory_held: Vec<(String, KiB)>,
    /// CPUs that definitions on autostart claim.
    pub claimed_autostart: CpuSet,
    /// CPUs that other definitions claim.
    pub claimed_other: CpuSet,
    /// Free huge pages, by node and page size.
    pub pages: BTreeMap<(NodeId, KiB), u64>,
    /// Memory in huge pages that definitions of other guests ask for, by node and page size, where
    /// such pages are left to them.
    pub pages_left: BTreeMap<(NodeId, KiB), Vec<(String, KiB)>>,
    /// Free memory in small pages, by node; the memory of an absent node is not checked.
    pub memory: BTreeMap<NodeId, KiB>,
}

impl Supply {
    /// Lists the guests to which huge pages of one of these sizes are left on these nodes, those
    /// that ask for most first.
    pub(crate) fn asking(
        &self,
        pages: &[Option<KiB>],
        is_there: impl Fn(NodeId) -> bool,
    ) -> Vec<(String, KiB)> {
        let mut asking: BTreeMap<&str, KiB> = BTreeMap::new();
        for ((node, size), guests) in &self.pages_left {
            if !pages.contains(&Some(*size)) || !is_there(*node) {
                continue;
            }
            for (name, amount) in guests {
                let most = asking.entry(name).or_default();
                *most = (*most).max(*amount);
            }
        }
        let mut all: Vec<(String, KiB)> = asking
            .into_iter()
            .map(|(name, amount)| (name.to_string(), amount))
            .collect();
        all.sort_by(|(_, more), (_, less)| less.cmp(more));
        all
    }
}

/// Placement of every vCPU and of the memory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// CPUs of each vCPU: one, or all that a floating vCPU may use.
    pub vcpus: BTreeMap<VcpuId, CpuSet>,
    /// Cells with their nodes, by cell number. A guest placed as one has one.
    pub cells: Vec<CellPlace>,
    /// Host nodes in cell order; several for a guest without cells that spans them. Empty: bound to
    /// no node.
    pub nodes: Vec<NodeId>,
    /// Nodes that hold its memory. Others than [`Self::nodes`] only where those have none, and for
    /// cells without vCPUs.
    pub memory_nodes: Vec<NodeId>,
    /// Huge page size; `None`: small pages.
    pub page: Option<KiB>,
    /// Threads of a guest core; 0 where pins are taken as they are.
    pub threads: u32,
    /// Each guest core has a host core of its own. False only for `smt = "prefer"`, where too few
    /// cores are free.
    pub own_cores: bool,
    /// Extra dedicated CPUs, best first.
    pub extra: Vec<HostCpu>,
    /// Siblings withheld from every other guest.
    pub withheld: CpuSet,
    /// The search was cut short: a better placement may exist.
    pub bounded: bool,
    /// Rank among placements.
    pub key: Key,
}

/// Guest cell on its node.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CellPlace {
    /// Cell number.
    pub id: CellId,
    /// vCPUs of the cell.
    pub vcpus: VcpuSet,
    /// Memory of the cell.
    pub memory: KiB,
    /// Node of the cell; `None` for the one cell of a guest that spans nodes, and for a cell
    /// without vCPUs and memory.
    pub node: Option<NodeId>,
    /// Node of the cell's memory: another one where that node has none.
    pub memory_node: Option<NodeId>,
}

/// Places a guest.
///
/// `empty` is the host without other guests: it decides how many nodes `max_nodes = "auto"` allows.
///
/// # Errors
/// Nothing fits: the reasons, the most informative first.
pub fn place(host: &Host, demand: &Demand, now: &Supply, empty: &Supply) -> Result<Placed, Vec<NoPlace>> {
    search(host, demand, now, empty, Effort::BEST).ok_or_else(|| explain::reasons(host, demand, now, empty))
}

/// Places a guest as [`place`] does, without working out reasons.
fn search(host: &Host, demand: &Demand, now: &Supply, empty: &Supply, effort: Effort) -> Option<Placed> {
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
    // CPUs that the first search chose may be the ones floating vCPUs or extra CPUs need: search
    // again and leave those until last. The second search may choose other extra CPUs than section
    // 2.4 says, so with extra CPUs it counts only where the first found nothing.
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
