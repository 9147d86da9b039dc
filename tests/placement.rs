//! Placement against brute force: on small random hosts every assignment of vCPUs to CPUs is tried, judged by the
//! rules as the contract states them, and the best compared with what the engine found.
#![allow(clippy::unwrap_used)]

mod common;

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use proptest::prelude::*;

use common::Plan;
use virtfit::host::Host;
use virtfit::idset::{CpuSet, VcpuSet};
use virtfit::placement::{CellDemand, Demand, Key, Placed, SmtRule, Supply, place};
use virtfit::units::{CellId, HostCpu, KiB, NodeId, VcpuId};

/// One random question.
#[derive(Debug, Clone)]
struct Case {
    plan: Plan,
    held: Vec<bool>,
    autostart: Vec<bool>,
    other: Vec<bool>,
    house: Vec<bool>,
    vcpus: u32,
    smt: SmtRule,
    cells: u32,
    make_cells: bool,
    max_nodes: Option<u32>,
    max_llcs: u32,
    memory: KiB,
    spread: bool,
    devices: Vec<u32>,
    devices_required: bool,
    extra: u32,
}

fn plan() -> impl Strategy<Value = Plan> {
    (
        1u32..=3,
        1u32..=2,
        1u32..=3,
        prop_oneof![Just(1u32), Just(2), Just(2), Just(4)],
        any::<bool>(),
        0u64..4,
        any::<bool>(),
    )
        .prop_filter("few CPUs", |(nodes, caches, cores, threads, ..)| {
            nodes * caches * cores * threads <= 9
        })
        .prop_map(
            |(nodes, caches_per_node, cores_per_cache, threads, adjacent, pages, hybrid)| Plan {
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

fn case() -> impl Strategy<Value = Case> {
    let mask = |p: f64| proptest::collection::vec(proptest::bool::weighted(p), 9);
    let sets = (mask(0.2), mask(0.2), mask(0.2), mask(0.1));
    let smt = prop_oneof![
        3 => Just(SmtRule::Prefer), 1 => Just(SmtRule::Require), 1 => Just(SmtRule::Isolate)
    ];
    let shape = (
        1u32..=5,
        smt,
        prop_oneof![3 => Just(0u32), 1 => 2u32..=3],
        any::<bool>(),
    );
    let limits = (proptest::option::of(1u32..=3), 0u32..=2, 1u64..=6, any::<bool>());
    let devices = (
        proptest::collection::vec(0u32..3, 0..2),
        any::<bool>(),
        prop_oneof![3 => Just(0u32), 1 => 1u32..=2],
    );
    (plan(), sets, shape, limits, devices).prop_map(
        |(plan, (held, autostart, other, house), (vcpus, smt, cells, make_cells), limits, devices)| Case {
            plan,
            held,
            autostart,
            other,
            house,
            vcpus,
            smt,
            cells: if cells > vcpus { 0 } else { cells },
            make_cells,
            max_nodes: limits.0,
            max_llcs: limits.1,
            memory: KiB(limits.2 << 20),
            spread: limits.3,
            devices: devices.0,
            devices_required: devices.1,
            extra: devices.2,
        },
    )
}

impl Case {
    fn set(&self, mask: &[bool], host: &Host) -> CpuSet {
        host.online
            .iter()
            .zip(mask)
            .filter(|(_, on)| **on)
            .map(|(cpu, _)| cpu)
            .collect()
    }

    fn supplies(&self, host: &Host) -> (Supply, Supply) {
        let house = self.set(&self.house, host);
        let held = self.set(&self.held, host).difference(&house);
        let dedicated = host.online.difference(&house);
        let empty = Supply {
            dedicated: dedicated.clone(),
            free: dedicated.clone(),
            shared: host.online.clone(),
            isolable: dedicated.clone(),
            pages: host
                .nodes
                .iter()
                .flat_map(|node| node.pools.iter().map(|pool| ((node.id, pool.size), pool.free)))
                .collect(),
            memory: host.nodes.iter().map(|node| (node.id, KiB(4 << 20))).collect(),
            ..Supply::default()
        };
        let now = Supply {
            free: dedicated.difference(&held),
            shared: host.online.difference(&held),
            isolable: dedicated.difference(&held),
            held: held.iter().map(|cpu| (cpu, "other".to_string())).collect(),
            claimed_autostart: self.set(&self.autostart, host),
            claimed_other: self
                .set(&self.other, host)
                .difference(&self.set(&self.autostart, host)),
            ..empty.clone()
        };
        (now, empty)
    }

    fn demand(&self) -> Demand {
        let share = |cell: u32| (self.vcpus + cell) / self.cells; // e.g. 5 over 3: 1, 2, 2
        let mut cells = Vec::new();
        let mut next = 0;
        for cell in 0..self.cells {
            let count = share(cell);
            cells.push(CellDemand {
                id: CellId(cell),
                vcpus: (next..next + count).map(VcpuId).collect(),
                memory: KiB(1 << 20),
                nodes: None,
            });
            next += count;
        }
        Demand {
            vcpus: self.vcpus,
            dedicated: VcpuSet::first_n(self.vcpus),
            smt: self.smt,
            memory: if cells.is_empty() {
                self.memory
            } else {
                KiB(u64::from(self.cells) << 20)
            },
            cells,
            make_cells: self.make_cells,
            bind: true,
            max_nodes: self.max_nodes,
            max_llcs: self.max_llcs,
            pages: vec![Some(KiB(2048)), None],
            extra_min: self.extra,
            extra_max: self.extra,
            devices: self
                .devices
                .iter()
                .filter(|node| **node < self.plan.nodes)
                .map(|n| NodeId(*n))
                .collect(),
            devices_required: self.devices_required,
            spread: self.spread,
            ..Demand::default()
        }
    }
}

/// The judge: what the contract says of one assignment, written without looking at the engine.
struct Judge<'a> {
    host: &'a Host,
    demand: &'a Demand,
    now: &'a Supply,
}

impl Judge<'_> {
    fn core(&self, cpu: HostCpu) -> usize {
        self.host
            .cores
            .iter()
            .position(|core| core.cpus.contains(&cpu))
            .unwrap()
    }

    fn keys(&self, cpus: &[HostCpu]) -> Vec<Key> {
        let cores: Vec<usize> = cpus.iter().map(|cpu| self.core(*cpu)).collect();
        let kinds: BTreeSet<u32> = cores.iter().map(|core| self.host.cores[*core].kind).collect();
        let node = |index: usize| self.host.cores[cores[index]].node;
        if kinds.len() > 1 {
            return Vec::new();
        }
        let runs = self.runs(cpus.len(), &node);
        let Some(runs) = runs else { return Vec::new() };
        let nodes: Vec<NodeId> = runs.iter().map(|(_, node)| *node).collect();
        let llcs: BTreeSet<usize> = cores.iter().map(|core| self.host.cores[*core].llc).collect();
        let far = self
            .demand
            .devices
            .iter()
            .filter(|device| !nodes.contains(device))
            .count() as u32;
        if (self.demand.max_llcs > 0 && llcs.len() as u32 > self.demand.max_llcs)
            || (self.demand.devices_required && far > 0)
        {
            return Vec::new();
        }
        let mut keys = Vec::new();
        for rank in self.ranks(&cores, &runs) {
            for (page, fits) in self.pages(&runs) {
                if !fits {
                    continue;
                }
                keys.push(self.key(cpus, &cores, &nodes, &llcs, far, rank, page));
            }
        }
        keys
    }

    /// vCPU counts and nodes in order; `None` where that breaks a rule of nodes.
    fn runs(&self, count: usize, node: &dyn Fn(usize) -> NodeId) -> Option<Vec<(usize, NodeId)>> {
        let mut runs: Vec<(usize, NodeId)> = Vec::new();
        if self.demand.cells.is_empty() {
            for index in 0..count {
                match runs.last_mut() {
                    Some((n, last)) if *last == node(index) => *n += 1,
                    _ => runs.push((1, node(index))),
                }
            }
        } else {
            for cell in &self.demand.cells {
                let nodes: BTreeSet<NodeId> = cell.vcpus.iter().map(|vcpu| node(vcpu.0 as usize)).collect();
                if nodes.len() != 1 {
                    return None;
                }
                runs.push((cell.vcpus.len(), *nodes.first().unwrap()));
            }
        }
        let distinct: BTreeSet<NodeId> = runs.iter().map(|(_, node)| *node).collect();
        (distinct.len() == runs.len()).then_some(runs)
    }

    fn ranks(&self, cores: &[usize], runs: &[(usize, NodeId)]) -> Vec<u32> {
        let mut ranks = Vec::new();
        let distinct: BTreeSet<&usize> = cores.iter().collect();
        let isolable = |core: &usize| {
            self.host.cores[*core]
                .cpus
                .iter()
                .all(|cpu| self.now.isolable.contains(*cpu))
        };
        if self.demand.smt == SmtRule::Isolate {
            let fits = distinct.len() == cores.len() && cores.iter().all(isolable);
            return if fits { vec![2] } else { vec![] };
        }
        for threads in [8usize, 4, 2, 1] {
            let blocks: Vec<&[usize]> = cores.chunks(threads).collect();
            let own: BTreeSet<usize> = blocks.iter().map(|block| block[0]).collect();
            if cores.len().is_multiple_of(threads)
                && runs.iter().all(|(count, _)| count.is_multiple_of(threads))
                && blocks
                    .iter()
                    .all(|block| block.iter().all(|core| *core == block[0]))
                && own.len() == blocks.len()
            {
                ranks.push(threads as u32 * 2);
            }
        }
        match self.demand.smt {
            SmtRule::Require => ranks.retain(|rank| *rank >= 4),
            _ => ranks.push(1),
        }
        ranks
    }

    fn pages(&self, runs: &[(usize, NodeId)]) -> Vec<(Option<KiB>, bool)> {
        let all: usize = runs.iter().map(|(count, _)| count).sum();
        let free = |node: &NodeId, page: Option<KiB>| match page {
            Some(size) => self.now.pages[&(*node, size)] * size.0,
            None => self.now.memory[node].0,
        };
        let fits = |page: Option<KiB>| {
            let cut = page.map_or(1024, |page| page.0);
            let mut parts: Vec<u64> = match self.demand.cells.is_empty() {
                true => runs
                    .iter()
                    .map(|(n, _)| self.demand.memory.0 * *n as u64 / all as u64 / cut * cut)
                    .collect(),
                false => self.demand.cells.iter().map(|cell| cell.memory.0).collect(),
            };
            if self.demand.cells.is_empty() {
                parts[0] += self.demand.memory.0 - parts.iter().sum::<u64>();
            }
            let whole = page.is_none_or(|page| parts.iter().all(|part| part.is_multiple_of(page.0)));
            let as_one = self.demand.cells.is_empty() && !self.demand.make_cells;
            whole
                && match as_one {
                    true => parts.iter().sum::<u64>() <= runs.iter().map(|(_, node)| free(node, page)).sum(),
                    false => parts
                        .iter()
                        .zip(runs)
                        .all(|(part, (_, node))| *part <= free(node, page)),
                }
        };
        self.demand
            .pages
            .iter()
            .map(|page| (*page, fits(*page)))
            .collect()
    }

    #[allow(clippy::too_many_arguments)]
    fn key(
        &self,
        cpus: &[HostCpu],
        cores: &[usize],
        nodes: &[NodeId],
        llcs: &BTreeSet<usize>,
        far: u32,
        rank: u32,
        page: Option<KiB>,
    ) -> Key {
        let used: CpuSet = cpus.iter().copied().collect();
        let isolate = self.demand.smt == SmtRule::Isolate;
        let taken: CpuSet = match isolate {
            true => cores
                .iter()
                .flat_map(|core| self.host.cores[*core].cpus.iter().copied())
                .collect(),
            false => used.clone(),
        };
        let distinct: BTreeSet<&usize> = cores.iter().collect();
        let free_in = |core: usize| {
            self.host.cores[core]
                .cpus
                .iter()
                .filter(|cpu| self.now.free.contains(**cpu))
                .count()
        };
        let broken = distinct
            .iter()
            .filter(|core| free_in(***core) < self.host.cores[***core].cpus.len())
            .count() as u32;
        let siblings = match (rank, self.demand.spread) {
            _ if isolate => 0,
            (rank, _) if rank > 2 => distinct
                .iter()
                .map(|core| free_in(**core) as u32 - rank / 2)
                .sum(),
            (_, false) => cpus.len() as u32 - broken,
            (_, true) => broken,
        };
        let on_nodes = |cpu: &HostCpu| nodes.contains(&self.host.cores[self.core(*cpu)].node);
        let left = self.now.free.difference(&taken).iter().filter(on_nodes).count() as i64;
        let pairs = nodes
            .iter()
            .enumerate()
            .flat_map(|(i, a)| nodes[i + 1..].iter().map(move |b| (*a, *b)));
        Key {
            autostart: taken.overlap(&self.now.claimed_autostart) as u32,
            nodes: nodes.len() as u32,
            far_devices: far,
            threads: Reverse(rank),
            page: Reverse(page.map_or(0, |page| page.0)),
            distance: pairs
                .map(|(a, b)| u64::from(self.host.distance(a, b) + self.host.distance(b, a)))
                .sum(),
            llcs: llcs.len() as u32,
            other: taken.overlap(&self.now.claimed_other) as u32,
            siblings,
            left: if self.demand.spread { -left } else { left },
            cpus: cpus.to_vec(),
        }
    }

    /// The best key over all assignments; for `max_nodes = None` also the fewest nodes seen.
    fn best(&self, most_nodes: u32) -> Option<Key> {
        let free: Vec<HostCpu> = self.now.free.iter().collect();
        let mut best: Option<Key> = None;
        let mut cpus = Vec::new();
        self.assign(&free, &mut cpus, most_nodes, &mut best);
        best
    }

    fn assign(&self, free: &[HostCpu], cpus: &mut Vec<HostCpu>, most: u32, best: &mut Option<Key>) {
        if cpus.len() == self.demand.vcpus as usize {
            let cells = !self.demand.cells.is_empty();
            for key in self.keys(cpus) {
                if (cells || key.nodes <= most) && best.as_ref().is_none_or(|best| key < *best) {
                    *best = Some(key);
                }
            }
            return;
        }
        for cpu in free {
            if !cpus.contains(cpu) {
                cpus.push(*cpu);
                self.assign(free, cpus, most, best);
                cpus.pop();
            }
        }
    }
}

fn fewest_nodes(host: &Host, demand: &Demand, empty: &Supply) -> u32 {
    let judge = Judge {
        host,
        demand,
        now: empty,
    };
    (1..=host.nodes.len() as u32)
        .find(|most| judge.best(*most).is_some())
        .unwrap_or(0)
}

/// What no placement may ever do, whatever the demand.
fn check_invariants(host: &Host, demand: &Demand, now: &Supply, placed: &Placed) {
    let mut seen: BTreeMap<HostCpu, VcpuId> = BTreeMap::new();
    assert_eq!(placed.vcpus.len() as u32, demand.vcpus, "every vCPU has a place");
    for vcpu in demand.dedicated.iter() {
        let pin = &placed.vcpus[&vcpu];
        assert_eq!(pin.len(), 1);
        let cpu = pin.first().unwrap();
        assert!(now.free.contains(cpu), "{cpu:?} was not free");
        assert_eq!(seen.insert(cpu, vcpu), None, "{cpu:?} given twice");
    }
    for cpu in &placed.extra {
        assert!(
            now.free.contains(*cpu) && !seen.contains_key(cpu),
            "extra {cpu:?}"
        );
    }
    assert!(placed.extra.len() as u32 >= demand.extra_min);
    assert!(
        placed
            .withheld
            .iter()
            .all(|cpu| !seen.contains_key(&cpu) && !now.held.contains_key(&cpu))
    );
    for cell in &placed.cells {
        if placed.nodes.len() == placed.cells.len() {
            for vcpu in cell.vcpus.iter().filter(|vcpu| demand.dedicated.contains(*vcpu)) {
                let cpu = placed.vcpus[&vcpu].first().unwrap();
                assert_eq!(host.core_of(cpu).unwrap().node, cell.node);
            }
        }
    }
    assert_eq!(
        placed.cells.iter().map(|cell| cell.memory.0).sum::<u64>(),
        demand.memory.0
    );
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn agrees_with_brute_force(case in case()) {
        let host = case.plan.host();
        let (now, empty) = case.supplies(&host);
        let demand = Demand { extra_min: 0, extra_max: 0, ..case.demand() };
        let most = demand.max_nodes.unwrap_or_else(|| match demand.cells.is_empty() {
            true => fewest_nodes(&host, &demand, &empty),
            false => u32::MAX,
        });
        let judged = Judge { host: &host, demand: &demand, now: &now }.best(most);
        match (place(&host, &demand, &now, &empty), judged) {
            (Ok(placed), Some(best)) => {
                check_invariants(&host, &demand, &now, &placed);
                prop_assert_eq!(placed.key, best);
            }
            (Err(_), None) => {}
            (Ok(placed), None) => prop_assert!(false, "nothing should fit, found {:?}", placed.key),
            (Err(reasons), Some(best)) => prop_assert!(false, "{:?} but {:?} fits", reasons, best),
        }
    }

    #[test]
    fn keeps_the_invariants_with_extra_threads(case in case()) {
        let host = case.plan.host();
        let (now, empty) = case.supplies(&host);
        let demand = case.demand();
        if let Ok(placed) = place(&host, &demand, &now, &empty) {
            check_invariants(&host, &demand, &now, &placed);
            let again = place(&host, &demand, &now, &empty).unwrap();
            prop_assert_eq!(again, placed);
        }
    }
}

#[test]
fn the_paper_s_reference() {
    let host = common::paper();
    let house = common::cpus("0,8,16,24");
    let dedicated = host.online.difference(&house);
    let supply = Supply {
        dedicated: dedicated.clone(),
        free: dedicated.clone(),
        shared: host.online.clone(),
        isolable: dedicated,
        pages: host
            .nodes
            .iter()
            .map(|node| ((node.id, KiB(2048)), 6144))
            .collect(),
        memory: host.nodes.iter().map(|node| (node.id, KiB(3 << 20))).collect(),
        ..Supply::default()
    };
    let guest = |vcpus: u32| Demand {
        vcpus,
        dedicated: VcpuSet::first_n(vcpus),
        memory: KiB(8 << 20),
        make_cells: true,
        bind: true,
        pages: vec![Some(KiB(2048)), None],
        ..Demand::default()
    };
    let list = |placed: &Placed| placed.key.cpus.iter().map(|cpu| cpu.0).collect::<Vec<_>>();
    let four = place(&host, &guest(4), &supply, &supply).unwrap();
    assert_eq!(
        (list(&four), four.threads, four.page),
        (vec![1, 17, 2, 18], 2, Some(KiB(2048)))
    );
    let three = place(&host, &guest(3), &supply, &supply).unwrap();
    assert_eq!((list(&three), three.threads), (vec![1, 2, 3], 1));
    let twenty = place(&host, &guest(20), &supply, &supply).unwrap();
    assert_eq!(
        (twenty.nodes.len(), twenty.threads, twenty.cells.len()),
        (2, 2, 2)
    );
    let reasons = place(&host, &guest(40), &supply, &supply).unwrap_err();
    assert!(reasons[0].starts_with("needs 40 CPUs"), "{reasons:?}");
}
