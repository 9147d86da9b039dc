//! Why nothing fits: the demand is loosened one wish at a time until it would, and that wish is named.

use std::collections::BTreeMap;

use super::cores::{Effort, Site};
use super::level::{self, Level};
use super::{Demand, SmtRule, Supply, kept, one, search};
use crate::host::Host;
use crate::idset::VcpuSet;
use crate::units::{HostCpu, KiB, NodeId};

/// The reasons, most telling first; never empty.
pub fn reasons(host: &Host, demand: &Demand, now: &Supply, empty: &Supply) -> Vec<String> {
    if let Some((vcpu, cpu)) = kept::collisions(&demand.kept, now).first() {
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
            "vCPU {vcpu} is pinned to CPUs {pin}; not all of them are online on this host"
        )];
    }
    let outside = demand.kept.iter().find(|(_, pin)| !kept::allowed(host, pin));
    if let Some((vcpu, pin)) = outside.filter(|_| search(host, demand, now, empty, Effort::ANY).is_none()) {
        return vec![format!(
            "vCPU {vcpu} is pinned to CPUs {pin}; machine.slice's cpuset does not allow all of them to guests"
        )];
    }
    if demand.dedicated.is_empty() {
        if now.shared.is_empty() {
            return vec!["no CPU is left for guests that float (host.shared)".to_string()];
        }
    } else if now.dedicated.is_empty() {
        return vec!["this host has no dedicated CPUs (host.dedicated)".to_string()];
    }
    let fits = |demand: &Demand| search(host, demand, now, empty, Effort::ANY).is_some();
    let unpinned = Demand {
        kept: BTreeMap::new(),
        ..demand.clone()
    };
    if !demand.kept.is_empty() && fits(&unpinned) {
        let pinned: VcpuSet = demand.kept.keys().copied().collect();
        return vec![format!(
            "no place around the pins written by hand (vCPUs {pinned}){}",
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
        let held = holders(now, |_| true);
        let missing = match demand.extra_min {
            1 => "no dedicated CPU is left for its isolated threads".to_string(),
            extra => format!("no {extra} dedicated CPUs are left for its isolated threads"),
        };
        return vec![format!("{missing} on that node{held}")];
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
    let need = demand.dedicated.len();
    if demand.cells.is_empty() && need > empty.free.len() {
        return vec![format!(
            "needs {need} CPUs, this host has {} dedicated ones",
            empty.free.len()
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

/// `needs 14 CPUs on one node, free are 6 and 6 (held by rt1, db)`.
fn cpus_reason(host: &Host, demand: &Demand, now: &Supply) -> String {
    let site = Site::new(host, demand, now, Effort::ANY);
    let need = demand.dedicated.len();
    if demand.dedicated.is_empty() {
        return format!("needs {} shared CPUs on one node", demand.vcpus);
    }
    if !demand.cells.is_empty() {
        let wants: Vec<String> = demand
            .cells
            .iter()
            .map(|cell| cell.vcpus.len().to_string())
            .collect();
        let nodes = site.nodes.iter().filter(|node| !node.cores.is_empty()).count();
        if demand.cells.len() > site.nodes.len() {
            return format!(
                "has {} guest cells, the host {} nodes to put them on",
                demand.cells.len(),
                nodes
            );
        }
        let free = list(&one::roomiest(&site, Level::Any));
        return format!(
            "needs nodes of their own for cells of {} vCPUs, free are {free} CPUs{}",
            join(&wants),
            holders(now, |_| true)
        );
    }
    let free = one::roomiest(&site, Level::Any);
    let nodes = match demand.max_nodes.unwrap_or(1) {
        1 => "one node".to_string(),
        more => format!("{more} nodes"),
    };
    format!(
        "needs {need} CPUs on {nodes}, free are {}{}",
        list(&free),
        holders(now, |_| true)
    )
}

/// The CPUs would do, but not as whole cores.
fn cores_reason(host: &Host, demand: &Demand, now: &Supply) -> String {
    let site = Site::new(host, demand, now, Effort::ANY);
    let need = demand.dedicated.len();
    let given = demand.threads.unwrap_or(1);
    let widest = host.cores.iter().map(|core| core.cpus.len()).max();
    match demand.smt {
        SmtRule::Isolate if given > 1 => {
            format!("its topology has {given} threads a core, smt = isolate gives each vCPU a core")
        }
        SmtRule::Require if demand.threads == Some(1) => {
            "its topology has 1 thread a core, smt = require needs 2 or more".to_string()
        }
        SmtRule::Require if level::allowed(demand, widest.unwrap_or(1) as u32).is_empty() => {
            let what = match demand.cells.is_empty() && demand.shown_cells.is_empty() {
                true => format!("{need} vCPUs do"),
                false => "the vCPUs of its guest cells do".to_string(),
            };
            format!("{what} not fill cores of 2 threads (smt = require)")
        }
        SmtRule::Isolate => format!(
            "needs {need} cores nobody else uses on one node, free are {}{}",
            list(&one::roomiest(&site, Level::Isolate)),
            holders(now, |_| true)
        ),
        _ => {
            let threads = demand.threads.unwrap_or(2).max(1);
            if !need.is_multiple_of(threads as usize) {
                return format!("{need} vCPUs do not fill cores of {threads} threads (smt = require)");
            }
            format!(
                "needs {} cores with {threads} free CPUs each, free are {}{}",
                need / threads as usize,
                list(&one::roomiest(&site, Level::Own(threads))),
                holders(now, |_| true)
            )
        }
    }
}

/// The memory is not to be had where the CPUs are.
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
            let nodes = host.nodes.iter().map(|node| KiB(free(node.id, page)).to_string());
            format!("{name}: {}", join(&nodes.collect::<Vec<_>>()))
        })
        .collect();
    let what = match demand.cells.len() {
        0 => demand.memory.to_string(),
        _ => {
            let cells: Vec<String> = demand.cells.iter().map(|cell| cell.memory.to_string()).collect();
            format!("{} on nodes of their own", join(&cells))
        }
    };
    match pages.is_empty() {
        true => "no huge page size the profile asks for is mounted on this host (hugetlbfs)".to_string(),
        false => format!(
            "needs {what} where its CPUs are, a node has free: {}",
            pages.join("; ")
        ),
    }
}

fn holders(now: &Supply, counts: impl Fn(HostCpu) -> bool) -> String {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for (cpu, name) in now.held.iter().filter(|(cpu, _)| counts(**cpu)) {
        let _ = cpu;
        *by_name.entry(name).or_default() += 1;
    }
    let mut names: Vec<(&str, usize)> = by_name.into_iter().collect();
    names.sort_by_key(|(name, count)| (std::cmp::Reverse(*count), *name));
    let shown: Vec<String> = names.iter().take(4).map(|(name, _)| printable(name)).collect();
    match names.len() {
        0 => String::new(),
        n if n > 4 => format!(" (held by {} and {} more)", shown.join(", "), n - 4),
        _ => format!(" (held by {})", shown.join(", ")),
    }
}

fn printable(name: &str) -> String {
    name.chars()
        .map(|c| if c.is_control() { '?' } else { c })
        .take(60)
        .collect()
}

fn list(rooms: &[(NodeId, usize)]) -> String {
    match rooms.len() {
        0..=8 => join(&rooms.iter().map(|(_, free)| free.to_string()).collect::<Vec<_>>()),
        _ => {
            let most = rooms.iter().map(|(_, free)| *free).max().unwrap_or(0);
            format!("{most} at most")
        }
    }
}

/// `a`, `a and b`, `a, b and c`.
fn join(items: &[String]) -> String {
    match items {
        [] => "none".to_string(),
        [only] => only.clone(),
        [front @ .., last] => format!("{} and {last}", front.join(", ")),
    }
}
