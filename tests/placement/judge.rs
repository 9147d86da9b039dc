//! Judge of placements by the contract, written without knowledge of the engine: every assignment
//! of vCPUs to CPUs is tried.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BTreeSet};

use virtfit::host::{Core, Host};
use virtfit::placement::{CoreKind, Demand, Key, Mirror, SmtRule, Supply};
use virtfit::types::ids::{HostCpu, KiB, NodeId};
use virtfit::types::idset::{CpuSet, VcpuSet};

/// Way to lay a guest on nodes.
#[derive(Debug, Clone, Default)]
pub(crate) struct Layout {
    /// vCPUs and their node, in cell order, with the position of the cell where the guest has
    /// cells.
    pub parts: Vec<(Option<usize>, VcpuSet, NodeId)>,
    /// Cells without vCPUs that have memory, with its node.
    pub bare: Vec<(usize, NodeId)>,
}

impl Layout {
    fn nodes(&self) -> Vec<NodeId> {
        self.parts.iter().map(|(.., node)| *node).collect()
    }

    /// Lists all nodes, each once.
    fn all_nodes(&self) -> BTreeSet<NodeId> {
        let bare = self.bare.iter().map(|(_, node)| *node);
        self.nodes().into_iter().chain(bare).collect()
    }
}

/// Judge of one question.
pub(crate) struct Judge<'a> {
    pub host: &'a Host,
    pub demand: &'a Demand,
    pub now: &'a Supply,
}

impl Judge<'_> {
    fn core(&self, cpu: HostCpu) -> usize {
        let has = |core: &Core| core.cpus.contains(&cpu);
        self.host.cores.iter().position(has).unwrap()
    }

    fn node(&self, cpu: HostCpu) -> NodeId {
        self.host.cores[self.core(cpu)].node
    }

    fn has_cpus(&self, node: NodeId) -> bool {
        self.host.cores.iter().any(|core| core.node == node)
    }

    fn has_memory(&self, node: NodeId) -> bool {
        self.host.node(node).unwrap().memory > KiB(0)
    }

    /// Lists every way to lay the vCPUs on nodes: each cell with vCPUs on one of its own, or runs
    /// of vCPUs on different nodes; and cells that have memory alone on any.
    pub(crate) fn layouts(&self, most: u32) -> Vec<Layout> {
        let all: Vec<NodeId> = self.host.nodes.iter().map(|node| node.id).collect();
        let cells = &self.demand.cells;
        let mut open: Vec<(usize, Layout)> = vec![(0, Layout::default())];
        let mut done = Vec::new();
        while let Some((step, layout)) = open.pop() {
            let from: u32 = layout.parts.iter().map(|(_, vcpus, _)| vcpus.len() as u32).sum();
            let whole = match cells.is_empty() {
                true => from == self.demand.vcpus,
                false => step == cells.len(),
            };
            if whole {
                done.push(layout);
                continue;
            }
            if let Some(cell) = cells.get(step) {
                let allowed = |node: &&NodeId| cell.nodes.as_ref().is_none_or(|nodes| nodes.contains(**node));
                if cell.vcpus.is_empty() && cell.memory == KiB(0) {
                    open.push((step + 1, layout));
                    continue;
                }
                for node in all.iter().filter(allowed) {
                    let mut next = layout.clone();
                    match cell.vcpus.is_empty() {
                        true if self.has_memory(*node) => next.bare.push((step, *node)),
                        false if !layout.nodes().contains(node) => {
                            next.parts.push((Some(step), cell.vcpus.clone(), *node));
                        }
                        _ => continue,
                    }
                    open.push((step + 1, next));
                }
            } else if (layout.parts.len() as u32) < most {
                for node in all.iter().filter(|node| !layout.nodes().contains(node)) {
                    for to in from + 1..=self.demand.vcpus {
                        let mut next = layout.clone();
                        let run = (from..to).map(virtfit::types::ids::VcpuId).collect();
                        next.parts.push((None, run, *node));
                        open.push((step, next));
                    }
                }
            }
        }
        done
    }

    /// Returns the number of devices that are not where the guest wants them.
    fn far(&self, layout: &Layout) -> usize {
        let near = |device: &&virtfit::placement::Device| {
            let wanted = device.cell.filter(|_| !self.demand.cells.is_empty());
            layout.parts.iter().any(|(cell, _, node)| {
                let id = cell.map(|cell| self.demand.cells[cell].id);
                *node == device.node && (wanted.is_none() || id == wanted)
            })
        };
        self.demand.devices.len() - self.demand.devices.iter().filter(near).count()
    }

    /// Returns the keys of one CPU for each dedicated vCPU; none where that breaks a rule.
    fn keys(&self, layout: &Layout, cpus: &[HostCpu]) -> Vec<Key> {
        let cores: Vec<usize> = cpus.iter().map(|cpu| self.core(*cpu)).collect();
        let kinds: BTreeSet<u32> = cores.iter().map(|core| self.host.cores[*core].kind).collect();
        let llcs: BTreeSet<usize> = cores.iter().map(|core| self.host.cores[*core].llc).collect();
        let far = self.far(layout);
        let kinds_fit = match self.demand.core_kind {
            CoreKind::Auto => kinds.len() <= 1,
            CoreKind::Any => true,
            CoreKind::Fast => kinds.iter().all(|kind| *kind == 0),
            CoreKind::Slow => kinds.len() <= 1 && kinds.iter().all(|kind| *kind > 0),
        };
        if !kinds_fit
            || (self.demand.max_llcs > 0 && llcs.len() as u32 > self.demand.max_llcs)
            || (self.demand.devices_required && far > 0)
        {
            return Vec::new();
        }
        // The rule comes first; if it leaves too little for floating vCPUs, their CPUs are spared.
        let home = layout.nodes()[0];
        let extras = [false, true].map(|sparing| self.extra(home, cpus, &cores, sparing));
        let fitting = extras
            .into_iter()
            .flatten()
            .map(|extra| cpus.iter().copied().chain(extra).collect::<CpuSet>())
            .find(|own| self.floats(layout, own, &self.withheld(own, &cores)));
        let Some(own) = fitting else { return Vec::new() };
        let withheld = self.withheld(&own, &cores);
        let mut keys = Vec::new();
        for rank in self.ranks(&cores, layout) {
            for page in self.pages(layout) {
                let mut key = self.key(layout, cpus, &cores, &own, &withheld, rank);
                key.far_devices = far as u32;
                key.page = Reverse(page.map_or(0, |page| page.0));
                keys.push(key);
            }
        }
        keys
    }

    /// Returns whether floating vCPUs find shared CPUs on their nodes.
    fn floats(&self, layout: &Layout, own: &CpuSet, withheld: &CpuSet) -> bool {
        layout.parts.iter().all(|(_, vcpus, node)| {
            let floating = vcpus.difference(&self.demand.dedicated).len();
            let gone = own.union(withheld);
            let here = |cpu: &HostCpu| self.node(*cpu) == *node && !gone.contains(*cpu);
            floating <= self.now.shared.iter().filter(here).count()
        })
    }

    /// Returns the extra CPUs that go with these; `None` where there are too few.
    fn extra(&self, node: NodeId, cpus: &[HostCpu], cores: &[usize], sparing: bool) -> Option<Vec<HostCpu>> {
        let isolate = self.demand.smt == SmtRule::Isolate;
        let mut extra: Vec<HostCpu> = Vec::new();
        let count = if sparing {
            self.demand.extra_min
        } else {
            self.demand.extra_max
        };
        while extra.len() < count as usize {
            let taken = |cpu: HostCpu| cpus.contains(&cpu) || extra.contains(&cpu);
            let open = |cpu: &HostCpu| {
                !taken(*cpu) && self.node(*cpu) == node && !(isolate && cores.contains(&self.core(*cpu)))
            };
            let rank = |cpu: &HostCpu| {
                let siblings = &self.host.cores[self.core(*cpu)].cpus;
                let whole = siblings
                    .iter()
                    .all(|cpu| self.now.free.contains(*cpu) && !taken(*cpu));
                let autostart = self.now.claimed_autostart.contains(*cpu);
                let gone: Vec<HostCpu> = match self.demand.withhold_siblings {
                    true if siblings.iter().any(|cpu| taken(*cpu)) => Vec::new(),
                    true => siblings.clone(),
                    false => vec![*cpu],
                };
                let shared = gone.iter().filter(|cpu| self.now.shared.contains(**cpu)).count();
                (
                    if sparing { shared } else { 0 },
                    autostart,
                    whole,
                    self.now.claimed_other.contains(*cpu),
                    *cpu,
                )
            };
            match self.now.free.iter().filter(open).min_by_key(rank) {
                Some(cpu) => extra.push(cpu),
                None => break,
            }
        }
        (extra.len() >= self.demand.extra_min as usize).then_some(extra)
    }

    /// Returns the siblings no other guest may have: those of isolated vCPUs, and where cores are
    /// not shared, those of all CPUs of the guest.
    fn withheld(&self, own: &CpuSet, cores: &[usize]) -> CpuSet {
        let whose: BTreeSet<usize> = match (self.demand.withhold_siblings, self.demand.smt) {
            (true, _) => own.iter().map(|cpu| self.core(cpu)).collect(),
            (false, SmtRule::Isolate) => cores.iter().copied().collect(),
            (false, _) => BTreeSet::new(),
        };
        let all = whose.iter().flat_map(|core| self.host.cores[*core].cpus.iter());
        all.copied().filter(|cpu| !own.contains(*cpu)).collect()
    }

    /// Lists the ranks of the threads of a guest core that these cores allow, by the list of
    /// `docs/placement.md`, 2.1.
    fn ranks(&self, cores: &[usize], layout: &Layout) -> Vec<u32> {
        let given = |threads: usize| self.demand.threads.is_none_or(|t| t as usize == threads);
        let distinct: BTreeSet<&usize> = cores.iter().collect();
        let isolable = |core: &usize| {
            let mut cpus = self.host.cores[*core].cpus.iter();
            cpus.all(|cpu| self.now.isolable.contains(*cpu))
        };
        if self.demand.dedicated.is_empty() {
            return vec![2];
        }
        if self.demand.smt == SmtRule::Isolate {
            let fits = distinct.len() == cores.len() && cores.iter().all(isolable) && given(1);
            return if fits { vec![2] } else { vec![] };
        }
        let mixed = self.demand.dedicated.len() < self.demand.vcpus as usize;
        let whole = |threads: usize| {
            let mut parts = layout.parts.iter();
            parts.all(|(_, vcpus, _)| vcpus.len().is_multiple_of(threads))
        };
        let together = |threads: usize| {
            let mut blocks = cores.chunks(threads);
            blocks.all(|block| block.iter().all(|core| *core == block[0]))
        };
        let apart = |threads: usize| {
            let first: Vec<usize> = cores.chunks(threads).map(|block| block[0]).collect();
            first.iter().collect::<BTreeSet<_>>().len() == first.len()
        };
        let mut ranks = Vec::new();
        for threads in (2usize..=8).rev() {
            let two = !self.demand.threads_by_two || threads.is_power_of_two();
            if !mixed && given(threads) && two && whole(threads) && together(threads) {
                match (apart(threads), self.demand.smt) {
                    (true, _) => ranks.push(1024 + threads as u32),
                    (false, SmtRule::Prefer) => ranks.push(threads as u32 + 1),
                    (false, _) => {}
                }
            }
        }
        if given(1) && self.demand.smt == SmtRule::Prefer {
            ranks.push(if distinct.len() == cores.len() { 2 } else { 1 });
        }
        ranks
    }

    /// Lists the page sizes that fit.
    fn pages(&self, layout: &Layout) -> Vec<Option<KiB>> {
        let all = u64::from(self.demand.vcpus);
        let free = |node: &NodeId, page: Option<KiB>| match page {
            Some(size) => self.now.pages[&(*node, size)] * size.0,
            None => self.now.memory[node].0,
        };
        // Memory of vCPUs on a node without any is on some node that has CPUs, too.
        let homes = |node: NodeId| -> Vec<NodeId> {
            let others = self.host.nodes.iter().map(|node| node.id);
            match self.has_memory(node) {
                true => vec![node],
                false => others
                    .filter(|node| self.has_memory(*node) && self.has_cpus(*node))
                    .collect(),
            }
        };
        let fits = |page: &Option<KiB>| {
            let cut = page.map_or(1024, |page| page.0);
            let share = |vcpus: &VcpuSet| self.demand.memory.0 * vcpus.len() as u64 / all / cut * cut;
            let mut parts: Vec<(u64, NodeId)> = layout
                .parts
                .iter()
                .map(|(cell, vcpus, node)| match cell {
                    Some(cell) => (self.demand.cells[*cell].memory.0, *node),
                    None => (share(vcpus), *node),
                })
                .collect();
            if self.demand.cells.is_empty() {
                parts[0].0 += self.demand.memory.0 - parts.iter().map(|(part, _)| part).sum::<u64>();
            }
            parts.extend(
                layout
                    .bare
                    .iter()
                    .map(|(cell, node)| (self.demand.cells[*cell].memory.0, *node)),
            );
            let whole = page.is_none_or(|page| parts.iter().all(|(part, _)| part.is_multiple_of(page.0)));
            if self.demand.cells.is_empty() && !self.demand.make_cells {
                let own: Vec<NodeId> = layout
                    .nodes()
                    .into_iter()
                    .filter(|node| self.has_memory(*node))
                    .collect();
                let own = match own.is_empty() {
                    true => nearest(self.host, layout.nodes()[0], &homes(layout.nodes()[0])),
                    false => own,
                };
                return whole && self.demand.memory.0 <= own.iter().map(|node| free(node, *page)).sum();
            }
            let mut left: BTreeMap<NodeId, u64> = BTreeMap::new();
            for node in &self.host.nodes {
                left.insert(node.id, free(&node.id, *page));
            }
            let pieces: Vec<(u64, Vec<NodeId>)> =
                parts.iter().map(|(part, node)| (*part, homes(*node))).collect();
            whole && settles(&pieces, &left)
        };
        self.demand.pages.iter().copied().filter(fits).collect()
    }

    /// Returns the fewest guest cores the guest can have.
    fn fewest_cores(&self) -> usize {
        let given = |threads: usize| self.demand.threads.is_none_or(|t| t as usize == threads);
        let free = |core: &Core| {
            core.cpus
                .iter()
                .filter(|cpu| self.now.free.contains(**cpu))
                .count()
        };
        let widest = self.host.cores.iter().map(free).max().unwrap_or(1);
        let cells = self.demand.cells.iter().map(|cell| cell.vcpus.len());
        let all: Vec<usize> = cells.chain([self.demand.vcpus as usize]).collect();
        let whole = |threads: usize| all.iter().all(|vcpus| vcpus.is_multiple_of(threads));
        let two = |threads: usize| !self.demand.threads_by_two || threads.is_power_of_two();
        let mut many = (2..=widest).rev();
        let several = |threads: &usize| given(*threads) && whole(*threads) && two(*threads);
        let threads = match self.demand.smt {
            SmtRule::Isolate => 1,
            _ => many.find(several).unwrap_or(1),
        };
        self.demand.vcpus as usize / threads
    }

    /// Returns whether sockets, dies and cells can show where guest cores are, with no more than
    /// twice the caches that the guest needs.
    fn is_shown(&self, cores: &[usize], threads: usize, nodes: usize) -> bool {
        let in_llc = |llc: usize| self.host.cores.iter().filter(|core| core.llc == llc).count();
        let largest = (0..self.host.llcs.len()).map(in_llc).max().unwrap();
        let needs = self.fewest_cores().div_ceil(largest).max(nodes);
        let spots: Vec<(u32, NodeId, usize)> = cores
            .chunks(threads)
            .map(|block| {
                let core = &self.host.cores[block[0]];
                let llc = if self.demand.mirror == Mirror::Caches {
                    core.llc
                } else {
                    0
                };
                (core.package, core.node, llc)
            })
            .collect();
        // Each place has equally many guest cores, one after the other.
        let alike = |places: &[u64]| {
            let mut found: Vec<(u64, usize, usize)> = Vec::new();
            for (at, place) in places.iter().enumerate() {
                match found.iter_mut().find(|(known, ..)| known == place) {
                    Some((_, last, count)) if *last + 1 == at => (*last, *count) = (at, *count + 1),
                    Some(_) => return None,
                    None => found.push((*place, at, 1)),
                }
            }
            let equal = found.iter().all(|(.., count)| *count == found[0].2);
            equal.then_some(found.len())
        };
        let place = |(package, node, llc): &(u32, NodeId, usize)| {
            u64::from(*package) << 40 | u64::from(node.0) << 20 | *llc as u64
        };
        let dies = alike(&spots.iter().map(place).collect::<Vec<_>>());
        let packages = alike(&spots.iter().map(|spot| u64::from(spot.0)).collect::<Vec<_>>());
        let sockets = match self.demand.mirror {
            Mirror::Caches => packages,
            Mirror::Nodes => dies,
        };
        let limit = self.demand.max_sockets.unwrap_or(u32::MAX) as usize;
        let few = |dies: usize| self.demand.mirror == Mirror::Nodes || dies <= 2 * needs;
        matches!((dies, sockets), (Some(dies), Some(sockets)) if sockets <= limit && few(dies))
    }

    fn key(
        &self,
        layout: &Layout,
        cpus: &[HostCpu],
        cores: &[usize],
        own: &CpuSet,
        withheld: &CpuSet,
        rank: u32,
    ) -> Key {
        let isolate = self.demand.smt == SmtRule::Isolate;
        let threads = match rank {
            1 | 2 => 1,
            shared if shared < 1024 => shared - 1,
            own => own - 1024,
        };
        let mut by_llc: BTreeMap<usize, u32> = BTreeMap::new();
        for core in cores {
            *by_llc.entry(self.host.cores[*core].llc).or_default() += 1;
        }
        // Isolated vCPUs claim their whole cores, others only the CPUs they use.
        let claiming: CpuSet = match isolate {
            true => cores
                .iter()
                .flat_map(|core| self.host.cores[*core].cpus.iter().copied())
                .chain(own.iter())
                .collect(),
            false => own.clone(),
        };
        let distinct: BTreeSet<&usize> = cores.iter().collect();
        let free_in = |core: usize| {
            let free = |cpu: &&HostCpu| self.now.free.contains(**cpu);
            self.host.cores[core].cpus.iter().filter(free).count()
        };
        let broken = distinct
            .iter()
            .filter(|core| free_in(***core) < self.host.cores[***core].cpus.len())
            .count() as i32;
        let siblings = match (threads, self.demand.spread) {
            _ if isolate => 0,
            (2.., _) => distinct.iter().map(|core| free_in(**core) as i32).sum::<i32>() - cpus.len() as i32,
            (_, false) => cpus.len() as i32 - broken,
            (_, true) => broken,
        };
        let cache = |core: usize| {
            let llc = self.host.cores[core].llc;
            let sharing = self.host.cores.iter().filter(|core| core.llc == llc).count() as u64;
            (self.host.llcs[llc].size.0 / sharing) as i64
        };
        let first = cores.iter().step_by(threads as usize);
        let nodes = layout.nodes();
        let left = self.now.free.difference(own).difference(withheld);
        let left = left.iter().filter(|cpu| nodes.contains(&self.node(*cpu))).count() as i64;
        let all: Vec<NodeId> = layout.all_nodes().into_iter().collect();
        let pairs = (0..all.len()).flat_map(|a| (a + 1..all.len()).map(move |b| (a, b)));
        let between =
            |(a, b): (usize, usize)| self.host.distance(all[a], all[b]) + self.host.distance(all[b], all[a]);
        let far_memory = nodes.iter().map(|node| self.to_memory(*node)).sum::<u64>();
        let sizes = || layout.parts.iter().map(|(_, vcpus, _)| vcpus.len() as u32);
        let named = |cell: usize| self.demand.cells[cell].nodes.is_some();
        let bare = layout
            .bare
            .iter()
            .filter(|(cell, node)| !self.has_cpus(*node) && !named(*cell));
        let kind = cores.first().map_or(0, |core| self.host.cores[*core].kind);
        Key {
            autostart: claiming.overlap(&self.now.claimed_autostart) as u32,
            nodes: nodes.len() as u32,
            far_devices: 0,
            kind: if self.demand.core_kind == CoreKind::Any {
                0
            } else {
                kind
            },
            untrue: !self.demand.dedicated.is_empty()
                && self.demand.dedicated.len() == self.demand.vcpus as usize
                && (rank == 1 || !self.is_shown(cores, threads as usize, nodes.len())),
            threads: Reverse(rank),
            page: Reverse(0),
            bare_nodes: bare.count() as u32,
            uneven: match self.demand.cells.is_empty() {
                true => sizes().max().unwrap() - sizes().min().unwrap(),
                false => 0,
            },
            distance: pairs.map(|pair| u64::from(between(pair))).sum::<u64>() + far_memory,
            llcs: by_llc.len() as u32,
            llc_uneven: by_llc.values().max().unwrap_or(&0) - by_llc.values().min().unwrap_or(&0),
            cache: -first.map(|core| cache(*core)).sum::<i64>(),
            other: claiming.overlap(&self.now.claimed_other) as u32,
            siblings,
            left: if self.demand.spread { -left } else { left },
            cpus: cpus.to_vec(),
        }
    }

    /// Returns the distance of a node to the nearest memory of a node with CPUs, both ways.
    fn to_memory(&self, node: NodeId) -> u64 {
        let others = self.host.nodes.iter().map(|other| other.id);
        let homes = others.filter(|other| self.has_memory(*other) && self.has_cpus(*other));
        let home = homes.min_by_key(|other| (self.host.distance(node, *other), *other));
        match home {
            Some(home) if home != node && !self.has_memory(node) => {
                u64::from(self.host.distance(node, home) + self.host.distance(home, node))
            }
            _ => 0,
        }
    }

    /// Returns the best key over all assignments; a guest without cells on at most so many nodes.
    pub(crate) fn best(&self, most_nodes: u32) -> Option<Key> {
        let mut best: Option<Key> = None;
        for layout in self.layouts(most_nodes) {
            self.assign(&layout, &mut Vec::new(), &mut best);
        }
        best
    }

    fn assign(&self, layout: &Layout, cpus: &mut Vec<HostCpu>, best: &mut Option<Key>) {
        let Some(vcpu) = self.demand.dedicated.iter().nth(cpus.len()) else {
            for key in self.keys(layout, cpus) {
                if best.as_ref().is_none_or(|best| key < *best) {
                    *best = Some(key);
                }
            }
            return;
        };
        let here = layout.parts.iter().find(|(_, vcpus, _)| vcpus.contains(vcpu));
        let node = here.unwrap().2;
        for cpu in self.now.free.iter() {
            if self.node(cpu) == node && !cpus.contains(&cpu) {
                cpus.push(cpu);
                self.assign(layout, cpus, best);
                cpus.pop();
            }
        }
    }
}

/// Returns the first of the nodes nearest to another.
fn nearest(host: &Host, from: NodeId, nodes: &[NodeId]) -> Vec<NodeId> {
    let nearest = nodes
        .iter()
        .min_by_key(|node| (host.distance(from, **node), **node));
    nearest.into_iter().copied().collect()
}

/// Returns whether each piece of memory finds one of its nodes.
fn settles(pieces: &[(u64, Vec<NodeId>)], left: &BTreeMap<NodeId, u64>) -> bool {
    let Some(((amount, nodes), rest)) = pieces.split_first() else {
        return true;
    };
    nodes.iter().any(|node| {
        let mut left = left.clone();
        let Some(less) = left[node].checked_sub(*amount) else {
            return false;
        };
        left.insert(*node, less);
        settles(rest, &left)
    })
}

/// Returns the fewest nodes on which a guest fits the host without guests; 0 where it never does.
pub(crate) fn fewest_nodes(host: &Host, demand: &Demand, empty: &Supply) -> u32 {
    let judge = Judge {
        host,
        demand,
        now: empty,
    };
    let mut counts = 1..=host.nodes.len() as u32;
    counts.find(|most| judge.best(*most).is_some()).unwrap_or(0)
}
