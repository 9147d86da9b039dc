//! Hardest questions a policy and a domain can put to placement, on the largest and oddest hosts.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use super::Plan;
use virtfit::host::Host;
use virtfit::placement::{CellDemand, Demand, SmtRule, Supply};
use virtfit::types::ids::{CellId, KiB, NodeId, VcpuId};
use virtfit::types::idset::{CpuSet, VcpuSet};

/// Question to placement.
pub struct Hard {
    pub name: &'static str,
    pub host: Host,
    pub demand: Demand,
    pub now: Supply,
    pub empty: Supply,
    /// A placement exists.
    pub fits: bool,
}

/// 1 GiB, in KiB.
const GIB: u64 = 1 << 20;

/// Makes a regular host with 64 GiB per node, in 1-GiB pages except for 16 GiB.
pub fn host(nodes: u32, caches: u32, cores: u32, threads: u32) -> Host {
    let mut host = Plan {
        nodes,
        caches_per_node: caches,
        cores_per_cache: cores,
        threads,
        adjacent: false,
        memory: KiB(64 * GIB),
        pages: 0,
        hybrid: false,
    }
    .host();
    for node in &mut host.nodes {
        node.pools = [(KiB(2048), 8192), (KiB(GIB), 32)]
            .map(|(size, total)| virtfit::host::PagePool {
                size,
                total,
                free: total,
            })
            .to_vec();
    }
    host.hugetlbfs = vec![KiB(2048), KiB(GIB)];
    host
}

/// Sets distances of boards: 12 inside a group of so many nodes, 32 between groups.
pub fn boards(host: &mut Host, group: u32) {
    let ids: Vec<NodeId> = host.nodes.iter().map(|node| node.id).collect();
    for node in &mut host.nodes {
        let far = |to: &NodeId| match (to.0 == node.id.0, to.0 / group == node.id.0 / group) {
            (true, _) => 10,
            (_, true) => 12,
            (_, false) => 32,
        };
        node.distances = ids.iter().map(|to| (*to, far(to))).collect();
    }
}

/// Sets one distance between any two nodes.
pub fn flat(host: &mut Host) {
    boards(host, 1);
}

/// Sets distances without any order, and not symmetric.
pub fn irregular(host: &mut Host) {
    let ids: Vec<NodeId> = host.nodes.iter().map(|node| node.id).collect();
    for node in &mut host.nodes {
        let far = |to: &NodeId| match to.0 == node.id.0 {
            true => 10,
            false => 11 + (node.id.0 * 7 + to.0 * 13 + node.id.0 * to.0) % 40,
        };
        node.distances = ids.iter().map(|to| (*to, far(to))).collect();
    }
}

/// Returns one CPU in `one_in`, mixed up a little so that no two nodes look alike.
pub fn some(host: &Host, one_in: u32, salt: u32) -> CpuSet {
    let pick = |cpu: &virtfit::types::ids::HostCpu| {
        (cpu.0.wrapping_mul(2_654_435_761) >> 7)
            .wrapping_add(salt)
            .is_multiple_of(one_in)
    };
    host.online.iter().filter(pick).collect()
}

/// Returns the supplies of a host with these CPUs held and the first core of each node kept for the
/// host.
pub fn supplies(host: &Host, held: &CpuSet) -> (Supply, Supply) {
    let mut house = CpuSet::new();
    for node in &host.nodes {
        if let Some(core) = host.cores.iter().find(|core| core.node == node.id)
            && host.cores.iter().filter(|core| core.node == node.id).count() > 1
        {
            house.extend(core.cpus.iter().copied());
        }
    }
    let held = held.difference(&house);
    let dedicated = host.online.difference(&house);
    let pool = |node: &virtfit::host::Node| {
        let id = node.id;
        let pools = node.pools.clone();
        pools.into_iter().map(move |pool| ((id, pool.size), pool.free))
    };
    let empty = Supply {
        dedicated: dedicated.clone(),
        free: dedicated.clone(),
        shared: host.online.clone(),
        isolable: dedicated.clone(),
        pages: host.nodes.iter().flat_map(pool).collect(),
        memory: host.nodes.iter().map(|node| (node.id, KiB(12 * GIB))).collect(),
        ..Supply::default()
    };
    let now = Supply {
        free: dedicated.difference(&held),
        shared: host.online.difference(&held),
        isolable: dedicated.difference(&held),
        held: held
            .iter()
            .map(|cpu| (cpu, format!("guest{}", cpu.0 % 200)))
            .collect(),
        ..empty.clone()
    };
    (now, empty)
}

/// Makes a guest without cells of its own.
pub fn guest(vcpus: u32, gib: u64) -> Demand {
    Demand {
        vcpus,
        dedicated: VcpuSet::first_n(vcpus),
        memory: KiB(gib * GIB),
        make_cells: true,
        bind: true,
        pages: vec![Some(KiB(GIB)), Some(KiB(2048)), None],
        ..Demand::default()
    }
}

/// Makes a guest with cells of its own.
pub fn celled(cells: u32, vcpus_each: u32, gib_each: u64) -> Demand {
    let cell = |id: u32| CellDemand {
        id: CellId(id),
        vcpus: (id * vcpus_each..(id + 1) * vcpus_each).map(VcpuId).collect(),
        memory: KiB(gib_each * GIB),
        nodes: None,
    };
    Demand {
        cells: (0..cells).map(cell).collect(),
        ..guest(cells * vcpus_each, u64::from(cells) * gib_each)
    }
}

fn question(name: &'static str, fits: bool, host: Host, demand: Demand, one_in: u32) -> Hard {
    let held = match one_in {
        0 => CpuSet::new(),
        n => some(&host, n, 0),
    };
    let (mut now, mut empty) = supplies(&host, &held);
    if name.contains("claims") {
        now.claimed_autostart = some(&host, 3, 1);
        now.claimed_other = some(&host, 2, 5).difference(&now.claimed_autostart);
    }
    if name.contains("pages nowhere") {
        now.pages.values_mut().for_each(|count| *count = 0);
    }
    if name.contains("pages short") {
        for supply in [&mut now, &mut empty] {
            supply
                .pages
                .iter_mut()
                .for_each(|((node, _), count)| *count = 4 + u64::from(node.0 % 3));
        }
    }
    Hard {
        name,
        host,
        demand,
        now,
        empty,
        fits,
    }
}

/// Returns all of these questions.
pub fn all() -> Vec<Hard> {
    let shaped = |mut host: Host, shape: &dyn Fn(&mut Host)| {
        shape(&mut host);
        host
    };
    let huge = |demand: Demand| Demand {
        pages: vec![Some(KiB(GIB))],
        ..demand
    };
    let over = |most: u32, demand: Demand| Demand {
        max_nodes: Some(most),
        ..demand
    };
    let caches = |most: u32, demand: Demand| Demand {
        max_llcs: most,
        ..demand
    };
    let mixed = |dedicated: &str, demand: Demand| Demand {
        dedicated: virtfit::types::cpulist::parse(dedicated).unwrap(),
        ..demand
    };
    let spread = |demand: Demand| Demand {
        spread: true,
        ..demand
    };
    let isolate = |demand: Demand| Demand {
        smt: SmtRule::Isolate,
        extra_min: 1,
        extra_max: 8,
        ..demand
    };
    let local = |demand: Demand| Demand {
        devices: [3, 9, 14].map(|node| NodeId(node).into()).to_vec(),
        devices_required: true,
        ..demand
    };
    let big = || shaped(host(64, 2, 16, 2), &flat);
    let mid = || shaped(host(16, 4, 8, 2), &|host| boards(host, 4));
    let odd = || shaped(host(16, 4, 8, 2), &irregular);
    let mut interleaved = host(1, 32, 8, 2);
    for (number, core) in interleaved.cores.iter_mut().enumerate() {
        core.llc = number % 32;
    }
    let mut ring = interleaved.clone();
    for (number, core) in ring.cores.iter_mut().enumerate() {
        core.llc = (number * 11 + number / 7) % 32;
    }
    vec![
        question(
            "64 flat nodes, 16 allowed, CPUs nowhere",
            false,
            big(),
            over(16, guest(1024, 64)),
            1,
        ),
        question(
            "64 flat nodes, 16 allowed, pages nowhere",
            false,
            big(),
            over(16, huge(guest(64, 64))),
            2,
        ),
        question(
            "64 flat nodes, 16 allowed, pages short",
            true,
            big(),
            over(16, huge(guest(60, 61))),
            2,
        ),
        question(
            "64 flat nodes, 16 allowed, too much memory",
            false,
            big(),
            over(16, guest(64, 4096)),
            2,
        ),
        question(
            "64 flat nodes, half taken, guest of eight",
            true,
            big(),
            guest(200, 200),
            2,
        ),
        question(
            "64 flat nodes, 16 allowed, claims",
            true,
            big(),
            over(16, guest(240, 120)),
            0,
        ),
        question(
            "64 flat nodes, spread, claims",
            true,
            big(),
            spread(over(16, guest(90, 90))),
            2,
        ),
        question(
            "16 irregular nodes, guest of five where four are allowed",
            false,
            odd(),
            guest(200, 120),
            3,
        ),
        question(
            "16 irregular nodes, claims, all allowed",
            true,
            odd(),
            over(16, guest(120, 120)),
            2,
        ),
        question(
            "16 nodes, few caches, claims",
            true,
            mid(),
            caches(14, over(16, guest(96, 96))),
            2,
        ),
        question(
            "16 nodes, too few caches, claims",
            false,
            mid(),
            caches(5, over(16, guest(96, 96))),
            2,
        ),
        question(
            "16 nodes, mixed, 240 vCPUs",
            true,
            mid(),
            mixed("0-7,40-47", over(16, guest(240, 240))),
            2,
        ),
        question(
            "16 nodes, mixed, 240 vCPUs, none floats there",
            false,
            mid(),
            mixed("0-7", over(2, guest(240, 240))),
            2,
        ),
        question(
            "16 nodes, mixed by turns, claims",
            true,
            odd(),
            mixed("0-239:2", over(16, guest(240, 240))),
            2,
        ),
        question(
            "16 nodes, isolate, claims",
            true,
            odd(),
            isolate(over(16, guest(40, 40))),
            4,
        ),
        question(
            "16 nodes, isolate, too many",
            false,
            odd(),
            isolate(over(16, guest(500, 40))),
            4,
        ),
        question(
            "16 nodes, devices, cells",
            true,
            mid(),
            local(huge(celled(3, 8, 8))),
            2,
        ),
        question(
            "16 nodes, devices, too few cells",
            false,
            mid(),
            local(huge(celled(2, 8, 8))),
            2,
        ),
        question(
            "16 irregular nodes, 8 cells",
            true,
            odd(),
            huge(celled(8, 8, 8)),
            2,
        ),
        question(
            "16 irregular nodes, 16 cells",
            true,
            odd(),
            huge(celled(16, 8, 8)),
            2,
        ),
        question(
            "16 irregular nodes, 16 cells, claims",
            true,
            odd(),
            celled(16, 8, 8),
            2,
        ),
        question(
            "16 irregular nodes, 8 cells, few caches, claims",
            true,
            odd(),
            caches(9, celled(8, 8, 8)),
            4,
        ),
        question(
            "16 irregular nodes, 8 cells, too few caches",
            false,
            odd(),
            caches(7, celled(8, 8, 8)),
            4,
        ),
        question("16 irregular nodes, 17 cells", false, odd(), celled(17, 2, 1), 2),
        question(
            "64 flat nodes, 16 cells, spread, claims",
            true,
            big(),
            spread(celled(16, 12, 8)),
            2,
        ),
        question(
            "64 irregular nodes, 12 cells, claims",
            true,
            shaped(host(64, 2, 16, 2), &irregular),
            celled(12, 8, 8),
            2,
        ),
        question(
            "interleaved caches, claims",
            true,
            interleaved,
            caches(9, guest(60, 30)),
            2,
        ),
        question(
            "scattered caches, spread, claims",
            true,
            ring,
            spread(caches(9, guest(61, 30))),
            2,
        ),
        question(
            "one node of 4096 cores, a cache each",
            true,
            host(1, 4096, 1, 1),
            guest(512, 30),
            2,
        ),
        question(
            "one node of 4096 cores, a cache each, few caches",
            false,
            host(1, 4096, 1, 1),
            caches(300, guest(512, 30)),
            2,
        ),
        question(
            "one node of 4096 CPUs, all of them, claims",
            true,
            host(1, 1, 2048, 2),
            guest(4094, 30),
            0,
        ),
        question(
            "one node of 4096 CPUs, 2001 of them, claims",
            true,
            host(1, 1, 2048, 2),
            spread(guest(2001, 30)),
            2,
        ),
        question(
            "one node of 4096 CPUs, 512 caches, few, claims",
            true,
            host(1, 512, 4, 2),
            caches(200, guest(1000, 30)),
            0,
        ),
    ]
}
