//! Reasons why nothing fits: the demand is loosened one wish at a time until a placement exists,
//! and the wish that had to go is the reason.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::placement::cores::{Effort, Site};
use crate::placement::threading;
use crate::placement::threading::Level;
use crate::placement::{Demand, SmtRule, Supply, given_pins, one_node, search};
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::{CpuSet, VcpuSet};
use crate::types::plural;
use crate::types::plural::counted;

/// Returns the reasons, the most informative first; never empty.
pub fn reasons(host: &Host, demand: &Demand, now: &Supply, empty: &Supply) -> Vec<String> {
    // Given pins are checked first, because no wish that is dropped below makes a wrong pin right.
    if let Some((vcpu, cpu)) = given_pins::collisions(&demand.kept, now).first() {
        let holder = now
            .held
            .get(cpu)
            .map_or("another of its vCPUs".to_string(), |name| printable(name));
        return vec![format!(
            "vCPU {vcpu} is pinned to CPU {cpu}, which {holder} holds"
        )];
    }
    let offline = demand.kept.iter().find(|(_, pin)| !pin.is_subset(&host.online));
    if let Some((vcpu, pin)) = offline {
        return vec![format!(
            "vCPU {vcpu} is pinned to {}, {} not online on this host",
            plural::cpus(pin),
            which_are(pin)
        )];
    }
    let outside = demand
        .kept
        .iter()
        .find(|(_, pin)| !given_pins::allowed(host, pin));
    if let Some((vcpu, pin)) = outside.filter(|_| search(host, demand, now, empty, Effort::ANY).is_none()) {
        return vec![format!(
            "vCPU {vcpu} is pinned to {}; machine.slice's cpuset does not allow {} to guests",
            plural::cpus(pin),
            if pin.len() == 1 { "it" } else { "all of them" }
        )];
    }
    // On a host without CPUs for the purpose the other reasons would mislead.
    if demand.dedicated.is_empty() {
        if now.shared.is_empty() {
            return vec!["no CPU is left for guests that float (host.shared)".to_string()];
        }
    } else if now.dedicated.is_empty() {
        return vec!["this host has no dedicated CPUs (host.dedicated)".to_string()];
    }
    // From here on one wish after the other is dropped: pins, memory, extra CPUs, devices, threads,
    // caches, and last the nodes and CPUs the XML names.
    let fits = |demand: &Demand| search(host, demand, now, empty, Effort::ANY).is_some();
    let unpinned = Demand {
        kept: BTreeMap::new(),
        ..demand.clone()
    };
    if !demand.kept.is_empty() && fits(&unpinned) {
        let pinned: VcpuSet = demand.kept.keys().copied().collect();
        return vec![format!(
            "no place around the pins written by hand (vCPU{} {pinned}){}",
            if pinned.len() == 1 { "" } else { "s" },
            match demand.smt {
                SmtRule::Require => ": smt = require needs whole cores",
                SmtRule::Isolate => ": smt = isolate needs a core for each vCPU",
                SmtRule::Prefer => "",
            }
        )];
    }
    let wide = |demand: &Demand| Demand {
        max_nodes: Some(host.nodes.len() as u32),
        ..demand.clone()
    };

    let no_memory = Demand {
        bind: false,
        pages: vec![None],
        ..demand.clone()
    };
    if fits(&no_memory) {
        return vec![memory_reason(host, demand, now)];
    }
    let no_extra = Demand {
        extra_min: 0,
        extra_max: 0,
        ..no_memory.clone()
    };
    if fits(&no_extra) {
        let held = holders(now);
        let missing = match demand.extra_min {
            1 => "no dedicated CPU is left for its isolated threads".to_string(),
            extra => format!("fewer than {extra} dedicated CPUs are left for its isolated threads"),
        };
        return vec![format!("{missing} on its node{held}")];
    }
    let no_devices = Demand {
        devices_required: false,
        ..no_extra.clone()
    };
    if fits(&no_devices) {
        return vec!["no room on the nodes of its passed-through devices (pci_numa = require)".to_string()];
    }
    let any_threads = Demand {
        smt: SmtRule::Prefer,
        threads: None,
        ..no_devices.clone()
    };
    if fits(&any_threads) {
        return vec![cores_reason(host, demand, now)];
    }
    let any_cache = Demand {
        max_llcs: 0,
        ..any_threads.clone()
    };
    if fits(&any_cache) {
        return vec![match demand.max_llcs {
            1 => "does not fit one last-level cache (max_llcs)".to_string(),
            most => format!("does not fit {most} last-level caches (max_llcs)"),
        }];
    }
    if fits(&Demand {
        nodes: None,
        within: None,
        ..any_cache.clone()
    }) {
        return vec!["no room on the nodes or CPUs its XML names (on_existing = keep)".to_string()];
    }
    // Too few CPUs, whatever is dropped: name the numbers.
    let need = demand.dedicated.len();
    if demand.cells.is_empty() && need > empty.free.len() {
        return vec![format!(
            "needs {}, but this host has only {}",
            counted(need, "CPU"),
            counted(empty.free.len(), "dedicated CPU")
        )];
    }
    let mut reasons = vec![cpus_reason(host, demand, now)];
    if demand
        .max_nodes
        .is_none_or(|most| (most as usize) < host.nodes.len())
        && fits(&wide(&any_cache))
    {
        reasons.push("it would fit over more nodes (max_nodes)".to_string());
    }
    reasons
}

/// Words the want of CPUs: `needs 14 free CPUs on one node; 6 are free on node 0 and 6 on node 1
/// (rt1 holds 9, db holds 7)`.
fn cpus_reason(host: &Host, demand: &Demand, now: &Supply) -> String {
    let site = Site::new(host, demand, now, Effort::ANY);
    let need = demand.dedicated.len();
    // A guest that floats needs shared CPUs only.
    if demand.dedicated.is_empty() {
        return format!(
            "needs {} on one node",
            counted(demand.vcpus as usize, "shared CPU")
        );
    }
    // Guest cells need one node each.
    if !demand.cells.is_empty() {
        let wants: Vec<String> = demand
            .cells
            .iter()
            .map(|cell| cell.vcpus.len().to_string())
            .collect();
        let nodes = site.nodes.iter().filter(|node| !node.cores.is_empty()).count();
        if demand.cells.len() > site.nodes.len() {
            return format!(
                "has {}, but the host has only {} to put them on",
                counted(demand.cells.len(), "guest cell"),
                counted(nodes, "node")
            );
        }
        return format!(
            "needs a node each for guest cells of {} vCPUs; {}{}",
            plural::list(&wants),
            free(&one_node::roomiest(&site, Level::Any)),
            holders(now)
        );
    }
    // All others need their CPUs on a number of nodes.
    let nodes = match demand.max_nodes.unwrap_or(1) {
        1 => "one node".to_string(),
        more => format!("{more} nodes"),
    };
    format!(
        "needs {} on {nodes}; {}{}",
        counted(need, "free CPU"),
        free(&one_node::roomiest(&site, Level::Any)),
        holders(now)
    )
}

/// Words the want of whole cores where there are enough CPUs.
fn cores_reason(host: &Host, demand: &Demand, now: &Supply) -> String {
    let site = Site::new(host, demand, now, Effort::ANY);
    let need = demand.dedicated.len();
    let given = demand.threads.unwrap_or(1);
    let widest = host.cores.iter().map(|core| core.cpus.len()).max();
    match demand.smt {
        SmtRule::Isolate if given > 1 => {
            format!("its topology has {given} threads a core, but smt = isolate gives each vCPU a core")
        }
        SmtRule::Require if demand.threads == Some(1) => {
            "its topology has 1 thread a core, but smt = require needs 2 or more".to_string()
        }
        SmtRule::Require if threading::allowed(demand, widest.unwrap_or(1) as u32).is_empty() => {
            let what = match demand.cells.is_empty() && demand.shown_cells.is_empty() {
                true if need == 1 => "1 vCPU does".to_string(),
                true => format!("{need} vCPUs do"),
                false => "the vCPUs of its guest cells do".to_string(),
            };
            format!("{what} not fill whole cores of 2 threads (smt = require)")
        }
        SmtRule::Isolate => format!(
            "needs {} that nobody else uses on one node; {}{}",
            counted(need, "core"),
            free(&one_node::roomiest(&site, Level::Isolate)),
            holders(now)
        ),
        _ => {
            let threads = demand.threads.unwrap_or(2).max(1);
            if !need.is_multiple_of(threads as usize) {
                return format!("{need} vCPUs do not fill whole cores of {threads} threads (smt = require)");
            }
            format!(
                "needs {} with {} each; {}{}",
                counted(need / threads as usize, "core"),
                counted(threads as usize, "free CPU"),
                free(&one_node::roomiest(&site, Level::Own(threads))),
                holders(now)
            )
        }
    }
}

/// Words the want of memory where there are enough CPUs.
pub(super) fn memory_reason(host: &Host, demand: &Demand, now: &Supply) -> String {
    let free = |node: NodeId, page: &Option<KiB>| match page {
        Some(size) => now.pages.get(&(node, *size)).map_or(0, |count| count * size.0),
        None => now.memory.get(&node).map_or(0, |free| free.0),
    };
    let pages: Vec<String> = demand
        .pages
        .iter()
        .map(|page| {
            let name = page.map_or("small pages".to_string(), |size| format!("{size} pages"));
            let nodes = host.nodes.iter().enumerate().map(|(index, node)| {
                let are = if index == 0 { " free" } else { "" };
                format!("{}{are} on node {}", KiB(free(node.id, page)), node.id)
            });
            format!("{name}: {}", plural::list(&nodes.collect::<Vec<_>>()))
        })
        .collect();
    let what = match demand.cells.len() {
        0 => demand.memory.to_string(),
        _ => {
            let cells: Vec<String> = demand.cells.iter().map(|cell| cell.memory.to_string()).collect();
            format!("{} on nodes of their own", plural::list(&cells))
        }
    };
    match pages.is_empty() {
        true => "no huge page size the profile asks for is mounted on this host (hugetlbfs)".to_string(),
        false => format!("needs {what} of memory where its CPUs are; {}", pages.join("; ")),
    }
}

/// Lists the holders, ` (db holds 4, web holds 2)`; empty where no CPU is held.
fn holders(now: &Supply) -> String {
    const MOST: usize = 4;
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for name in now.held.values() {
        *by_name.entry(name).or_default() += 1;
    }
    let mut names: Vec<(&str, usize)> = by_name.into_iter().collect();
    names.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let mut shown: Vec<String> = names
        .iter()
        .take(MOST)
        .map(|(name, count)| format!("{} holds {count}", printable(name)))
        .collect();
    if names.len() > MOST {
        let rest: usize = names[MOST..].iter().map(|(_, count)| count).sum();
        let others = counted(names.len() - MOST, "more guest");
        let verb = if names.len() == MOST + 1 { "holds" } else { "hold" };
        shown.push(format!("{others} {verb} {rest}"));
    }
    match shown.is_empty() {
        true => String::new(),
        false => format!(" ({})", shown.join(", ")),
    }
}

fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(60)
        .collect()
}

/// Words how much is free on each node: `6 are free on node 0 and 5 on node 1`.
fn free(rooms: &[(NodeId, usize)]) -> String {
    const MOST: usize = 4;
    let are = |count: usize| match count {
        0 => "none is".to_string(),
        1 => "only 1 is".to_string(),
        more => format!("only {more} are"),
    };
    let most = rooms.iter().map(|(_, count)| *count).max().unwrap_or(0);
    match rooms {
        _ if most == 0 => "none is free".to_string(),
        [(_, count)] => format!("{} free", are(*count)),
        [(first, count), rest @ ..] if rooms.len() <= MOST => {
            let head = match count {
                0 => format!("none is free on node {first}"),
                1 => format!("1 is free on node {first}"),
                more => format!("{more} are free on node {first}"),
            };
            let rest = rest.iter().map(|(node, count)| match count {
                0 => format!("none on node {node}"),
                count => format!("{count} on node {node}"),
            });
            plural::list(&[head].into_iter().chain(rest).collect::<Vec<_>>())
        }
        _ => format!("at most {most} {} free on one node", plural::is_or_are(most)),
    }
}

fn which_are(pin: &CpuSet) -> &'static str {
    match pin.len() {
        1 => "which is",
        _ => "some of which are",
    }
}
