//! NUMA binding and memory backing.

use std::collections::BTreeSet;

use crate::engine::case::Case;
use crate::engine::fit::Fit;
use crate::engine::settings::{List, pages};
use crate::policy::profile::{Cpus, Hugepages, MemoryMode, Numa};
use crate::types::ids::CellId;
use crate::types::idset::NodeSet;
use crate::types::plan::Scope;
use crate::types::reason::{Basis, Excludes, LeftOut};
use crate::types::setting::{Target, Value};
use crate::types::subject::Subject;

/// Decides `<numatune>`.
pub(crate) fn numatune(fit: &Fit<'_>, list: &mut List) {
    let Case {
        wishes,
        domain,
        current,
        scope,
        ..
    } = *fit.case;
    let Fit {
        placed,
        demanded,
        fits,
        ..
    } = *fit;
    let profile = &wishes.profile;
    if demanded.numatune_kept {
        return list.keep(Subject::Numatune);
    }
    let off = profile.numa == Numa::Off || profile.memory_mode == MemoryMode::Off;
    let untouched = profile.cpus == Cpus::Keep && fits;
    if !off && untouched && placed.nodes.is_empty() {
        return;
    }
    if off || !fits || placed.nodes.is_empty() {
        // An administrator's binding is kept or overridden as a whole: one that is not kept goes.
        let why = if off {
            Basis::ByProfile
        } else {
            Basis::BoundToNoNode
        };
        if domain.numatune.is_some() {
            list.set(Target::NumaMemory, Value::Absent, why.clone());
        }
        for id in domain.memnodes.keys() {
            list.set(Target::MemNode(*id), Value::Absent, why.clone());
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
    let nodes: NodeSet = placed.memory_nodes.iter().copied().collect();
    let given = demanded.demand.cells.len();
    let made = demanded.demand.make_cells && placed.cells.len() > 1;
    let celled = made || (given > 0 && placed.cells.len() == given);
    // A memnode that was not there when the guest was started turns its cells into memory backends,
    // which with old machine types changes the migration stream. Therefore an incoming guest keeps
    // its form of binding.
    let per_cell = celled && (scope == Scope::Boot || !current.memnodes.is_empty());
    let only_one = mode == "preferred" && nodes.len() > 1;
    if !only_one {
        // A node of vCPUs may have no memory, and a cell none of the vCPUs.
        let theirs: NodeSet = placed.nodes.iter().copied().collect();
        let why = match nodes.is_subset(&theirs) {
            true => Basis::WhereVcpusRun,
            false => Basis::MemoryElsewhere,
        };
        list.set(
            Target::NumaMemory,
            Value::Numa {
                mode,
                nodes: nodes.clone(),
            },
            why,
        );
    } else if !per_cell {
        list.not_done(Subject::PreferredNodes(nodes), LeftOut::OnePreferredNode);
    }
    if per_cell {
        for cell in &placed.cells {
            let Some(node) = cell.memory_node else { continue };
            let value = Value::Numa {
                mode,
                nodes: NodeSet::one(node),
            };
            list.set(Target::MemNode(cell.id), value, Basis::NodeACell);
        }
    }
    // A memnode that is not written now was of an earlier placement.
    let written: BTreeSet<CellId> = match per_cell {
        true => {
            let bound = placed.cells.iter().filter(|cell| cell.memory_node.is_some());
            bound.map(|cell| cell.id).collect()
        }
        false => BTreeSet::new(),
    };
    for id in domain.memnodes.keys().filter(|id| !written.contains(id)) {
        list.set(Target::MemNode(*id), Value::Absent, Basis::NumatuneInstead);
    }
}

/// Decides `<memoryBacking>`.
pub(crate) fn backing(fit: &Fit<'_>, list: &mut List) {
    let Case {
        wishes,
        domain,
        scope,
        ..
    } = *fit.case;
    let Fit {
        placed,
        demanded,
        fits,
        ..
    } = *fit;
    let profile = &wishes.profile;
    // An incoming guest may only change its page size, and only where this host lacks it.
    if scope == Scope::Incoming {
        if !demanded.hugepages_kept {
            match placed.page.filter(|_| fits) {
                Some(page) => list.set(Target::Hugepages, Value::PageSize(page), Basis::NoPagesOfItsSize),
                None => list.set(Target::Hugepages, Value::Absent, Basis::NoPagesHere),
            }
        }
        return;
    }
    // Page size: an administrator's, the placement's, or none.
    if demanded.hugepages_kept {
        list.keep(Subject::Value(Target::Hugepages));
    } else if let Some(page) = placed.page.filter(|_| fits) {
        list.set(Target::Hugepages, Value::PageSize(page), pages::chosen(fit, page));
    } else if domain.hugepages.is_some() {
        list.set(Target::Hugepages, Value::Absent, Basis::ByProfile);
    }
    if fits && placed.page.is_none() && profile.hugepages == Hugepages::Any && !demanded.hugepages_kept {
        match demanded.excluded {
            // The plan names the option that rules all memory.
            Some(Excludes::QemuOption(_)) => {}
            Some(by) => list.not_done(
                Subject::Value(Target::Hugepages),
                LeftOut::HugePagesExcluded { by },
            ),
            None => {
                let why = match fit.case.host.hugetlbfs.iter().min() {
                    None => LeftOut::NoHugetlbfs,
                    Some(smallest) => pages::missing(fit, *smallest),
                };
                list.not_done(Subject::Value(Target::Hugepages), why);
            }
        }
    }
    // Locked memory that libvirt could not lock would fail the start.
    if profile.locked && fits {
        if domain.locked {
            list.keep(Subject::Value(Target::Locked));
        } else if !fit.case.host.memlock_limited {
            list.set(Target::Locked, Value::Present, Basis::NeverSwapped);
        }
        if !domain.nosharepages {
            list.set(Target::NoSharePages, Value::Present, Basis::NotMerged);
        }
    }
    // A vhost-user device maps the guest's huge pages, which needs shared access.
    let huge = (placed.page.is_some() && fits) || demanded.hugepages_kept;
    if domain.vhost_user && huge {
        match &domain.memory_access {
            Some(mode) if wishes.keep && mode != "shared" => list.keep(Subject::Value(Target::MemoryAccess)),
            Some(mode) if mode == "shared" => {}
            _ => list.set(
                Target::MemoryAccess,
                Value::Text("shared".into()),
                Basis::VhostUser,
            ),
        }
    }
}
