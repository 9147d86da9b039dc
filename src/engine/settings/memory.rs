//! NUMA binding and memory backing.

use std::collections::BTreeSet;

use crate::engine::settings::{Context, List};
use crate::policy::profile::{Cpus, Hugepages, MemoryMode, Numa};
use crate::types::ids::{CellId, KiB};
use crate::types::idset::NodeSet;
use crate::types::plan::Scope;
use crate::types::plural;
use crate::types::setting::{Target, Value};

/// Decides `<numatune>`.
pub fn numatune(context: &Context<'_>, list: &mut List) {
    let Context {
        wishes,
        domain,
        current,
        placed,
        demanded,
        fits,
        scope,
        ..
    } = *context;
    let profile = &wishes.profile;
    if demanded.numatune_kept {
        return list.keep("numatune");
    }
    let off = profile.numa == Numa::Off || profile.memory_mode == MemoryMode::Off;
    let untouched = profile.cpus == Cpus::Keep && fits;
    if !off && untouched && placed.nodes.is_empty() {
        return;
    }
    if off || !fits || placed.nodes.is_empty() {
        // An administrator's binding is kept or overridden as a whole: one that is not kept goes.
        let why = if off {
            "profile"
        } else {
            "it floats: bound to no node"
        };
        if domain.numatune.is_some() {
            list.host(Target::NumaMemory, Value::Absent, why);
        }
        for id in domain.memnodes.keys() {
            list.host(Target::MemNode(*id), Value::Absent, why);
        }
        return;
    }
    // `auto` is strict with huge pages and preferred without (docs/placement.md, section 2.3).
    let huge = placed.page.is_some();
    let mode = match profile.memory_mode {
        MemoryMode::Strict => "strict",
        MemoryMode::Preferred => "preferred",
        MemoryMode::Restrictive => "restrictive",
        MemoryMode::Auto | MemoryMode::Off if huge => "strict",
        MemoryMode::Auto | MemoryMode::Off => "preferred",
    };
    // Cells, given or made, are bound one by one; a guest without is bound as one.
    let nodes: NodeSet = placed.nodes.iter().copied().collect();
    let given = demanded.demand.cells.len();
    let made = demanded.demand.make_cells && placed.cells.len() > 1;
    let celled = made || (given > 0 && placed.cells.len() == given);
    // A memnode that was not there when the guest was started turns its cells into memory backends,
    // which with old machine types changes the migration stream. Therefore an incoming guest keeps
    // its form of binding.
    let per_cell = celled && (scope == Scope::Boot || !current.memnodes.is_empty());
    let only_one = mode == "preferred" && nodes.len() > 1;
    if !only_one {
        let why = "where the vCPUs run";
        list.host(
            Target::NumaMemory,
            Value::Numa {
                mode,
                nodes: nodes.clone(),
            },
            why,
        );
    } else if !per_cell {
        list.not_done(
            format!("memory preferred on nodes {nodes}"),
            "libvirt prefers no more than one node",
        );
    }
    if per_cell {
        for cell in &placed.cells {
            let value = Value::Numa {
                mode,
                nodes: NodeSet::one(cell.node),
            };
            list.host(Target::MemNode(cell.id), value, "a node a cell");
        }
    }
    // A memnode that is not written now was of an earlier placement.
    let written: BTreeSet<CellId> = match per_cell {
        true => placed.cells.iter().map(|cell| cell.id).collect(),
        false => BTreeSet::new(),
    };
    for id in domain.memnodes.keys().filter(|id| !written.contains(id)) {
        list.host(Target::MemNode(*id), Value::Absent, "numatune takes its place");
    }
}

/// Decides `<memoryBacking>`.
pub fn backing(context: &Context<'_>, list: &mut List) {
    let Context {
        wishes,
        domain,
        placed,
        demanded,
        fits,
        scope,
        ..
    } = *context;
    let profile = &wishes.profile;
    // An incoming guest may only change its page size, and only where this host lacks it.
    if scope == Scope::Incoming {
        if !demanded.hugepages_kept {
            match placed.page.filter(|_| fits) {
                Some(page) => list.host(
                    Target::Hugepages,
                    Value::PageSize(page),
                    "this host has no pages of the size it came with",
                ),
                None => list.host(
                    Target::Hugepages,
                    Value::Absent,
                    "this host has no huge pages for it",
                ),
            }
        }
        return;
    }
    // Page size: an administrator's, the placement's, or none.
    if demanded.hugepages_kept {
        list.keep("hugepages");
    } else if let Some(page) = placed.page.filter(|_| fits) {
        list.host(
            Target::Hugepages,
            Value::PageSize(page),
            page_reason(context, page),
        );
    } else if domain.hugepages.is_some() {
        list.host(Target::Hugepages, Value::Absent, "profile");
    }
    if fits && placed.page.is_none() && profile.hugepages == Hugepages::Any && !demanded.hugepages_kept {
        list.not_done("huge pages", missing_pages(context, None));
    }
    // Locked memory that libvirt could not lock would fail the start.
    if profile.locked && fits {
        if domain.locked {
            list.keep("locked");
        } else if !context.host.memlock_limited {
            list.host(Target::Locked, Value::Present, "memory is never swapped");
        }
        if !domain.nosharepages {
            list.host(
                Target::NoSharePages,
                Value::Present,
                "its pages are not merged with others",
            );
        }
    }
    // A vhost-user device maps the guest's huge pages, which needs shared access.
    let huge = (placed.page.is_some() && fits) || demanded.hugepages_kept;
    if domain.vhost_user && huge {
        match &domain.memory_access {
            Some(mode) if wishes.keep && mode != "shared" => list.keep("memory access mode"),
            Some(mode) if mode == "shared" => {}
            _ => list.host(
                Target::MemoryAccess,
                Value::Text("shared".into()),
                "a vhost-user device reads the guest's memory",
            ),
        }
    }
}

fn page_reason(context: &Context<'_>, page: KiB) -> String {
    let larger = context.host.hugetlbfs.iter().filter(|size| **size > page).max();
    match larger {
        None => "the largest mounted".into(),
        Some(larger) => format!("the largest that fits; {}", missing_pages(context, Some(*larger))),
    }
}

/// Returns the reason why pages of this size (or of any) could not be had.
fn missing_pages(context: &Context<'_>, size: Option<KiB>) -> String {
    let Context {
        host, placed, domain, ..
    } = *context;
    let Some(size) = size.or_else(|| host.hugetlbfs.iter().max().copied()) else {
        return "no hugetlbfs is mounted on this host".into();
    };
    let memory = placed
        .cells
        .iter()
        .map(|cell| cell.memory)
        .max()
        .unwrap_or(domain.memory);
    if !memory.0.is_multiple_of(size.0.max(1)) {
        return format!("{memory} is not a whole number of {size} pages");
    }
    let nodes: Vec<String> = placed.nodes.iter().map(ToString::to_string).collect();
    format!(
        "{} of {size} needed; too few are free on node{} {}",
        memory.0 / size.0.max(1),
        if nodes.len() == 1 { "" } else { "s" },
        plural::list(&nodes)
    )
}
