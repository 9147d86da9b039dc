//! Reasons why nothing fits: the demand is loosened one wish at a time until a placement exists,
//! and the wish that had to go is the reason.

use std::collections::BTreeMap;

use crate::host::Host;
use crate::placement::cores::{Effort, Site};
use crate::placement::threading;
use crate::placement::threading::Level;
use crate::placement::{CoreKind, Demand, SmtRule, Supply, given_pins, one_node, search};
use crate::types::ids::{KiB, NodeId};
use crate::types::reason::{Holders, NoPlace, WholeCores};

/// Returns the reasons, the most informative first; never empty.
pub(crate) fn reasons(host: &Host, demand: &Demand, now: &Supply, empty: &Supply) -> Vec<NoPlace> {
    // Given pins are checked first, because no wish that is dropped below makes a wrong pin right.
    if let Some((vcpu, cpu)) = given_pins::collisions(&demand.kept, now).first() {
        return vec![NoPlace::PinHeld {
            vcpu: *vcpu,
            cpu: *cpu,
            holder: now.held.get(cpu).cloned(),
        }];
    }
    let offline = demand.kept.iter().find(|(_, pin)| !pin.is_subset(&host.online));
    if let Some((vcpu, pin)) = offline {
        return vec![NoPlace::PinOffline {
            vcpu: *vcpu,
            pin: pin.clone(),
        }];
    }
    let outside = demand
        .kept
        .iter()
        .find(|(_, pin)| !given_pins::allowed(host, pin));
    if let Some((vcpu, pin)) = outside.filter(|_| search(host, demand, now, empty, Effort::ANY).is_none()) {
        return vec![NoPlace::PinNotAllowed {
            vcpu: *vcpu,
            pin: pin.clone(),
        }];
    }
    // On a host without CPUs for the purpose the other reasons would mislead.
    if demand.dedicated.is_empty() {
        if now.shared.is_empty() {
            return vec![NoPlace::NoSharedCpus];
        }
    } else if now.dedicated.is_empty() {
        return vec![NoPlace::NoDedicatedCpus];
    }
    // From here on one wish after the other is dropped: pins, memory, extra CPUs, devices, threads,
    // caches, and last the nodes and CPUs the XML names.
    let fits = |demand: &Demand| search(host, demand, now, empty, Effort::ANY).is_some();
    let unpinned = Demand {
        kept: BTreeMap::new(),
        ..demand.clone()
    };
    if !demand.kept.is_empty() && fits(&unpinned) {
        return vec![NoPlace::AroundPins {
            pinned: demand.kept.keys().copied().collect(),
            smt: match demand.smt {
                SmtRule::Require => Some(WholeCores::Require),
                SmtRule::Isolate => Some(WholeCores::Isolate),
                SmtRule::Prefer => None,
            },
        }];
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
        return vec![NoPlace::FewExtraCpus {
            need: demand.extra_min,
            holders: holders(now),
        }];
    }
    let no_devices = Demand {
        devices_required: false,
        ..no_extra.clone()
    };
    if fits(&no_devices) {
        return vec![NoPlace::DeviceNodesFull];
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
        return vec![NoPlace::FewCaches {
            most: demand.max_llcs,
        }];
    }
    let auto_kind = Demand {
        core_kind: CoreKind::Auto,
        ..any_cache.clone()
    };
    if demand.core_kind != CoreKind::Auto && fits(&auto_kind) {
        return vec![NoPlace::FewOfKind {
            slow: demand.core_kind == CoreKind::Slow,
        }];
    }
    if fits(&Demand {
        nodes: None,
        within: None,
        ..any_cache.clone()
    }) {
        return vec![NoPlace::NamedNodesFull];
    }
    // Too few CPUs, whatever is dropped: name the numbers.
    let need = demand.dedicated.len();
    if demand.cells.is_empty() && need > empty.free.len() {
        return vec![NoPlace::HostTooSmall {
            need,
            has: empty.free.len(),
        }];
    }
    let mut reasons = vec![cpus_reason(host, demand, now)];
    if demand
        .max_nodes
        .is_none_or(|most| (most as usize) < host.nodes.len())
        && fits(&wide(&any_cache))
    {
        reasons.push(NoPlace::FitsOverMoreNodes);
    }
    let any_kind = Demand {
        core_kind: CoreKind::Any,
        ..any_cache
    };
    if host.cores.iter().any(|core| core.kind > 0) && fits(&any_kind) {
        reasons.push(NoPlace::KindsTogether);
    }
    reasons
}

/// Returns the want of CPUs.
fn cpus_reason(host: &Host, demand: &Demand, now: &Supply) -> NoPlace {
    let site = Site::new(host, demand, now, Effort::ANY);
    let need = demand.dedicated.len();
    // A guest that floats needs shared CPUs only.
    if demand.dedicated.is_empty() {
        return NoPlace::FewSharedCpus { need: demand.vcpus };
    }
    let free = one_node::roomiest(&site, Level::Any);
    let holders = holders(now);
    // Guest cells need one node each.
    if !demand.cells.is_empty() {
        if demand.cells.len() > site.nodes.len() {
            let with_cores = site.nodes.iter().filter(|node| !node.cores.is_empty());
            return NoPlace::MoreCellsThanNodes {
                cells: demand.cells.len(),
                nodes: with_cores.count(),
            };
        }
        return NoPlace::FewCpusForCells {
            vcpus: demand.cells.iter().map(|cell| cell.vcpus.len()).collect(),
            free,
            holders,
        };
    }
    // All others need their CPUs on a number of nodes.
    NoPlace::FewCpus {
        need,
        nodes: demand.max_nodes.unwrap_or(1),
        free,
        holders,
    }
}

/// Returns the want of whole cores where there are enough CPUs.
fn cores_reason(host: &Host, demand: &Demand, now: &Supply) -> NoPlace {
    let site = Site::new(host, demand, now, Effort::ANY);
    let need = demand.dedicated.len();
    let given = demand.threads.unwrap_or(1);
    let widest = host.cores.iter().map(|core| core.cpus.len()).max();
    match demand.smt {
        SmtRule::Isolate if given > 1 => NoPlace::ThreadsAgainstIsolate { threads: given },
        SmtRule::Require if demand.threads == Some(1) => NoPlace::ThreadsAgainstRequire,
        SmtRule::Require if threading::allowed(demand, widest.unwrap_or(1) as u32).is_empty() => {
            let as_one = demand.cells.is_empty() && demand.shown_cells.is_empty();
            NoPlace::CoresNotWhole {
                vcpus: as_one.then_some(need),
                threads: 2,
            }
        }
        SmtRule::Isolate => NoPlace::FewLoneCores {
            need,
            free: one_node::roomiest(&site, Level::Isolate),
            holders: holders(now),
        },
        _ => {
            let threads = demand.threads.unwrap_or(2).max(1);
            if !need.is_multiple_of(threads as usize) {
                return NoPlace::CoresNotWhole {
                    vcpus: Some(need),
                    threads,
                };
            }
            NoPlace::FewCores {
                need: need / threads as usize,
                threads,
                free: one_node::roomiest(&site, Level::Own(threads)),
                holders: holders(now),
            }
        }
    }
}

/// Returns the want of memory where there are enough CPUs.
pub(super) fn memory_reason(host: &Host, demand: &Demand, now: &Supply) -> NoPlace {
    if demand.pages.is_empty() {
        return NoPlace::NoPageSize;
    }
    let free = |node: NodeId, page: &Option<KiB>| match page {
        Some(size) => now
            .pages
            .get(&(node, *size))
            .map_or(0, |count| count.saturating_mul(size.0)),
        None => now.memory.get(&node).map_or(0, |free| free.0),
    };
    let by_node = |page: &Option<KiB>| {
        let nodes = host.nodes.iter();
        nodes.map(|node| (node.id, KiB(free(node.id, page)))).collect()
    };
    // Empty cells need none.
    let cells = demand.cells.iter().map(|cell| cell.memory);
    let cells: Vec<KiB> = cells.filter(|memory| memory.0 > 0).collect();
    NoPlace::LittleMemory {
        celled: cells.len() > 1,
        need: match cells.is_empty() {
            true => vec![demand.memory],
            false => cells,
        },
        free: demand.pages.iter().map(|page| (*page, by_node(page))).collect(),
        asking: now.asking(&demand.pages, |_| true),
        holders: now.memory_held.clone(),
    }
}

/// Counts the CPUs that each guest holds, the largest holder first.
fn holders(now: &Supply) -> Holders {
    let mut by_name: BTreeMap<&str, usize> = BTreeMap::new();
    for name in now.held.values() {
        *by_name.entry(name).or_default() += 1;
    }
    let mut holders: Holders = by_name
        .into_iter()
        .map(|(name, count)| (name.to_string(), count))
        .collect();
    holders.sort_by(|(a, more), (b, fewer)| fewer.cmp(more).then_with(|| a.cmp(b)));
    holders
}
