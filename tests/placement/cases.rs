//! Random questions to placement, on hosts small enough that every answer can be tried.

use proptest::prelude::*;

use crate::common::Plan;
use virtfit::host::{Host, Llc, Node, PagePool};
use virtfit::placement::{CellDemand, CoreKind, Demand, Device, Mirror, SmtRule, Supply};
use virtfit::types::ids::{CellId, HostCpu, KiB, NodeId, VcpuId};
use virtfit::types::idset::{CpuSet, VcpuSet};

/// Most CPUs of a host.
const MOST_CPUS: u32 = 9;

/// Irregular part of a host.
#[derive(Debug, Clone)]
pub(crate) struct Quirks {
    /// Nodes of a package; 0: an only node has two packages.
    pub nodes_per_package: u32,
    /// Caches of a node take turns in the numbers of its cores.
    pub by_turns: bool,
    /// Every so many cores, one is counted to the cache before its own; 0: none.
    pub shifted: u32,
    /// Sizes of the caches in MiB, over and over.
    pub sizes: Vec<u64>,
    /// There is a node with memory and without CPUs.
    pub bare: bool,
    /// The last node, or the first where caches take turns, has CPUs and no memory.
    pub memoryless: bool,
}

/// Random question.
#[derive(Debug, Clone)]
pub(crate) struct Case {
    pub plan: Plan,
    pub quirks: Quirks,
    pub held: Vec<bool>,
    pub autostart: Vec<bool>,
    pub other: Vec<bool>,
    pub house: Vec<bool>,
    /// CPUs floating vCPUs may use; empty: all that no guest holds.
    pub shared: Vec<bool>,
    pub vcpus: u32,
    /// vCPUs that float; empty: none.
    pub floats: Vec<bool>,
    pub smt: SmtRule,
    pub core_kind: CoreKind,
    pub threads: Option<u32>,
    pub cells: Vec<CellCase>,
    pub make_cells: bool,
    pub max_nodes: Option<u32>,
    pub max_llcs: u32,
    pub shown: (Mirror, Option<u32>, bool),
    pub memory: KiB,
    pub spread: bool,
    /// Node of each device, and its cell.
    pub devices: Vec<(u32, Option<u32>)>,
    pub devices_required: bool,
    pub extra: (u32, u32),
    pub withhold_siblings: bool,
}

/// Guest cell: its part of the vCPUs, its memory in GiB, its nodes by number.
#[derive(Debug, Clone)]
pub(crate) struct CellCase {
    pub vcpus: u32,
    pub gib: u64,
    pub nodes: Option<Vec<u32>>,
}

fn plan() -> impl Strategy<Value = Plan> {
    let mut shapes = Vec::new();
    for nodes in 1u32..=3 {
        for caches in 1u32..=3 {
            for cores in 1u32..=4 {
                let few = |threads: &u32| nodes * caches * cores * threads <= MOST_CPUS;
                let all = [1u32, 1, 2, 2, 3, 4].into_iter().filter(few);
                shapes.extend(all.map(|threads| (nodes, caches, cores, threads)));
            }
        }
    }
    let shape = proptest::sample::select(shapes);
    (shape, any::<bool>(), 0u64..4, proptest::bool::weighted(0.3)).prop_map(
        |((nodes, caches_per_node, cores_per_cache, threads), adjacent, pages, hybrid)| Plan {
            nodes,
            caches_per_node,
            cores_per_cache,
            threads,
            adjacent,
            memory: KiB(8 << 20),
            pages: pages * 512,
            hybrid,
        },
    )
}

fn quirks() -> impl Strategy<Value = Quirks> {
    let sizes = prop_oneof![3 => Just(vec![11u64]), 1 => proptest::collection::vec(8u64..=12, 1..4)];
    let seldom = || proptest::bool::weighted(0.15);
    (0u32..=3, seldom(), 0u32..=6, sizes, seldom(), seldom()).prop_map(
        |(nodes_per_package, by_turns, shifted, sizes, bare, memoryless)| Quirks {
            nodes_per_package,
            by_turns,
            shifted: if shifted > 4 { shifted - 3 } else { 0 },
            sizes,
            bare,
            memoryless,
        },
    )
}

fn cells() -> impl Strategy<Value = Vec<CellCase>> {
    let nodes = prop_oneof![5 => Just(None), 1 => proptest::collection::vec(0u32..3, 1..=2).prop_map(Some)];
    let cell = (0u32..=3, 0u64..=3, nodes).prop_map(|(vcpus, gib, nodes)| CellCase { vcpus, gib, nodes });
    let alike = (1usize..=3, 1u32..=2).prop_map(|(count, vcpus)| {
        let cell = CellCase {
            vcpus,
            gib: 1,
            nodes: None,
        };
        vec![cell; count]
    });
    prop_oneof![
        3 => Just(Vec::new()),
        1 => alike,
        1 => proptest::collection::vec(cell, 1..=3),
    ]
    .prop_map(|mut cells| {
        while cells.iter().map(|cell| cell.vcpus).sum::<u32>() > 5 {
            cells.pop();
        }
        if cells.iter().all(|cell| cell.vcpus == 0) {
            cells.clear();
        }
        cells
    })
}

pub(crate) fn case() -> impl Strategy<Value = Case> {
    let mask = |p: f64| proptest::collection::vec(proptest::bool::weighted(p), MOST_CPUS as usize);
    let rarely = |p: f64| prop_oneof![3 => Just(Vec::new()), 1 => mask(p)];
    let sets = (
        mask(0.2),
        prop_oneof![1 => mask(0.0), 1 => mask(0.2)],
        mask(0.2),
        mask(0.1),
        rarely(0.5),
        rarely(0.4),
    );
    let smt = prop_oneof![
        3 => Just(SmtRule::Prefer), 1 => Just(SmtRule::Require), 1 => Just(SmtRule::Isolate)
    ];
    let kind = prop_oneof![
        6 => Just(CoreKind::Auto), 1 => Just(CoreKind::Fast), 1 => Just(CoreKind::Slow), 1 => Just(CoreKind::Any)
    ];
    let threads = prop_oneof![6 => Just(None), 1 => Just(Some(1)), 1 => Just(Some(2)), 1 => Just(Some(4))];
    let mirror = prop_oneof![3 => Just(Mirror::Caches), 1 => Just(Mirror::Nodes)];
    let sockets = prop_oneof![4 => Just(None), 1 => (1u32..=2).prop_map(Some)];
    let shown = (mirror, sockets, proptest::bool::weighted(0.2));
    let shape = (1u32..=6, smt, kind, cells(), any::<bool>(), threads, shown);
    let limits = (proptest::option::of(1u32..=3), 0u32..=3, 1u64..=6, any::<bool>());
    let devices = (
        proptest::collection::vec((0u32..3, proptest::option::of(0u32..2)), 0..3),
        any::<bool>(),
        prop_oneof![3 => Just((0u32, 0u32)), 1 => (0u32..=2, 0u32..=1)],
        proptest::bool::weighted(0.2),
    );
    (plan(), quirks(), sets, shape, limits, devices).prop_map(
        |(plan, quirks, (held, autostart, other, house, shared, floats), shape, limits, devices)| {
            let (vcpus, smt, core_kind, cells, make_cells, threads, shown) = shape;
            let in_cells: u32 = cells.iter().map(|cell| cell.vcpus).sum();
            Case {
                plan,
                quirks,
                held,
                autostart,
                other,
                house,
                shared,
                vcpus: if cells.is_empty() { vcpus } else { in_cells },
                floats,
                smt,
                core_kind,
                threads,
                cells,
                make_cells,
                max_nodes: limits.0,
                max_llcs: limits.1,
                shown,
                memory: KiB(limits.2 << 20),
                spread: limits.3,
                devices: devices.0,
                devices_required: devices.1,
                extra: (devices.2.0, devices.2.0 + devices.2.1),
                withhold_siblings: devices.3,
            }
        },
    )
}

impl Case {
    /// Makes the host.
    pub(crate) fn host(&self) -> Host {
        let Self { plan, quirks, .. } = self;
        let mut host = plan.host();
        let per_node = plan.caches_per_node * plan.cores_per_cache;
        for core in &mut host.cores {
            let smallest = *core.cpus.iter().min().unwrap();
            let number = if plan.adjacent {
                smallest.0 / plan.threads
            } else {
                smallest.0
            };
            let (node, index) = (number / per_node, number % per_node);
            let mut cache = match quirks.by_turns {
                true => index % plan.caches_per_node,
                false => index / plan.cores_per_cache,
            };
            if quirks.shifted > 0 && number % quirks.shifted == quirks.shifted - 1 {
                cache = cache.saturating_sub(1);
            }
            core.llc = (node * plan.caches_per_node + cache) as usize;
            core.package = match quirks.nodes_per_package {
                0 if plan.nodes == 1 => u32::from(cache > 0),
                0 => node,
                many => node / many,
            };
        }
        let sizes = quirks.sizes.iter().cycle();
        for (llc, size) in host.llcs.iter_mut().zip(sizes) {
            *llc = Llc {
                level: 3,
                size: KiB(size << 10),
            };
        }
        if quirks.memoryless && plan.nodes > 1 {
            let without = if quirks.by_turns { 0 } else { host.nodes.len() - 1 };
            let without = &mut host.nodes[without];
            without.memory = KiB(0);
            without
                .pools
                .iter_mut()
                .for_each(|pool| (pool.total, pool.free) = (0, 0));
        }
        if quirks.bare {
            let id = NodeId(plan.nodes);
            for node in &mut host.nodes {
                node.distances.insert(id, 14 + node.id.0);
            }
            let distance = |to: u32| if to == id.0 { 10 } else { 14 + to };
            host.nodes.push(Node {
                id,
                memory: KiB(8 << 20),
                pools: vec![PagePool {
                    size: KiB(2048),
                    total: 1024,
                    free: 1024,
                }],
                distances: (0..=id.0).map(|to| (NodeId(to), distance(to))).collect(),
            });
        }
        host
    }

    fn set(&self, mask: &[bool], host: &Host) -> CpuSet {
        let chosen = host.online.iter().zip(mask).filter(|(_, on)| **on);
        chosen.map(|(cpu, _)| cpu).collect()
    }

    /// Makes the supplies: now, and without other guests.
    pub(crate) fn supplies(&self, host: &Host) -> (Supply, Supply) {
        let house = self.set(&self.house, host);
        let mut held = self.set(&self.held, host).difference(&house);
        if self.withhold_siblings {
            // No guest then holds only a part of a core.
            let has = |core: &&virtfit::host::Core| core.cpus.iter().any(|cpu| held.contains(*cpu));
            let cores = host.cores.iter().filter(has);
            held = cores.flat_map(|core| core.cpus.iter().copied()).collect();
        }
        let dedicated = host.online.difference(&house);
        let shared = match self.shared.is_empty() {
            true => host.online.clone(),
            false => self.set(&self.shared, host),
        };
        let memory = |node: &Node| KiB(if node.memory.0 > 0 { 4 << 20 } else { 0 });
        let pools = |node: &Node| {
            node.pools.clone().into_iter().map({
                let id = node.id;
                move |pool| ((id, pool.size), pool.free)
            })
        };
        let empty = Supply {
            dedicated: dedicated.clone(),
            free: dedicated.clone(),
            shared: shared.clone(),
            isolable: dedicated.clone(),
            pages: host.nodes.iter().flat_map(pools).collect(),
            memory: host.nodes.iter().map(|node| (node.id, memory(node))).collect(),
            ..Supply::default()
        };
        let autostart = self.set(&self.autostart, host);
        let now = Supply {
            free: dedicated.difference(&held),
            shared: shared.difference(&held),
            isolable: dedicated.difference(&held),
            held: held
                .iter()
                .map(|cpu: HostCpu| (cpu, "other".to_string()))
                .collect(),
            claimed_other: self.set(&self.other, host).difference(&autostart),
            claimed_autostart: autostart,
            ..empty.clone()
        };
        (now, empty)
    }

    /// Makes the demand.
    pub(crate) fn demand(&self) -> Demand {
        let mut cells = Vec::new();
        let mut next = 0;
        for (id, cell) in (0..).zip(&self.cells) {
            let nodes = cell.nodes.as_ref();
            cells.push(CellDemand {
                id: CellId(id),
                vcpus: (next..next + cell.vcpus).map(VcpuId).collect(),
                memory: KiB(cell.gib << 20),
                nodes: nodes.map(|nodes| nodes.iter().copied().map(NodeId).collect()),
            });
            next += cell.vcpus;
        }
        let floats: VcpuSet = (0..self.vcpus)
            .zip(&self.floats)
            .filter(|(_, on)| **on)
            .map(|(vcpu, _)| VcpuId(vcpu))
            .collect();
        let devices = self.devices.iter().filter(|(node, _)| *node < self.plan.nodes);
        let device = |(node, cell): &(u32, Option<u32>)| Device {
            node: NodeId(*node),
            cell: cell
                .map(CellId)
                .filter(|cell| (cell.0 as usize) < self.cells.len()),
        };
        Demand {
            vcpus: self.vcpus,
            dedicated: VcpuSet::first_n(self.vcpus).difference(&floats),
            smt: self.smt,
            core_kind: self.core_kind,
            mirror: self.shown.0,
            max_sockets: self.shown.1,
            threads_by_two: self.shown.2,
            threads: self.threads,
            memory: match cells.is_empty() {
                true => self.memory,
                false => KiB(cells.iter().map(|cell| cell.memory.0).sum()),
            },
            devices: devices.map(device).collect(),
            cells,
            make_cells: self.make_cells,
            bind: true,
            max_nodes: self.max_nodes,
            max_llcs: self.max_llcs,
            pages: vec![Some(KiB(2048)), None],
            extra_min: self.extra.0,
            extra_max: self.extra.1,
            devices_required: self.devices_required,
            withhold_siblings: self.withhold_siblings,
            spread: self.spread,
            ..Demand::default()
        }
    }
}
