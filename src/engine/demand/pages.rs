//! Page sizes that a guest's memory may have.

use crate::domain::Domain;
use crate::domain::qemu::Ruled;
use crate::engine::case::Case;
use crate::host::Host;
use crate::policy::profile::Hugepages;
use crate::types::ids::KiB;
use crate::types::plan::Scope;
use crate::types::reason::{Excludes, Outcome, Reason};

/// Returns the part of the XML that rules huge pages out.
pub(super) fn excluded(domain: &Domain) -> Option<Excludes> {
    if let Some(option) = domain.qemu.rules(&Ruled::Memory) {
        return Some(Excludes::QemuOption(option));
    }
    match (
        domain.memory_allocation.as_deref(),
        domain.memory_source.as_deref(),
    ) {
        (Some("ondemand"), _) => Some(Excludes::Ondemand),
        (_, Some("anonymous")) => Some(Excludes::Anonymous),
        _ => None,
    }
}

/// Returns the page sizes that are allowed, best first.
pub(super) fn pages(
    case: &Case<'_>,
    kept: bool,
    excluded: Option<Excludes>,
    broken: &mut Vec<Reason>,
) -> Vec<Option<KiB>> {
    let Case {
        wishes,
        domain,
        host,
        scope,
        ..
    } = *case;
    if kept {
        return kept_pages(
            if scope == Scope::Incoming {
                case.current
            } else {
                domain
            },
            host,
        );
    }
    // Only mounted sizes that every memory device is a whole number of can be used.
    let mut mounted: Vec<KiB> = host.hugetlbfs.clone();
    mounted.sort_unstable_by(|a, b| b.cmp(a));
    mounted.dedup();
    let suits = |page: &KiB| {
        let mut devices = domain.memory_devices.iter();
        devices.all(|device| device.unit.0.is_multiple_of(page.0))
    };
    mounted.retain(suits);
    let large = || mounted.iter().copied().map(Some).collect::<Vec<_>>();
    // A guest on the way in gets the pages this host has, large or small.
    let rule = match scope {
        Scope::Boot => wishes.profile.hugepages,
        Scope::Incoming => Hugepages::Any,
    };
    match (rule, excluded) {
        (Hugepages::Off | Hugepages::Small, _) => vec![None],
        (Hugepages::Any, Some(_)) => vec![None],
        (_, Some(by)) => {
            broken.push(Outcome::HugePagesExcluded { by }.into());
            vec![None]
        }
        (Hugepages::Any, None) => large().into_iter().chain([None]).collect(),
        (Hugepages::Large, None) => large(),
        (Hugepages::Size(size), None) => large().into_iter().filter(|page| *page == Some(size)).collect(),
    }
}

/// Returns whether the page size of an incoming guest may change.
///
/// A guest that comes in with huge pages of a size this host has no mount for would fail to start.
/// The size may change then, but never with guest cells: that would change the migration stream
/// (RAM block names depend on it).
pub(super) fn page_size_changes(case: &Case<'_>) -> bool {
    let listed = case
        .current
        .hugepages
        .as_ref()
        .map(|element| element.pages.as_slice());
    let missing = |size: &KiB| !case.host.hugetlbfs.contains(size);
    match listed {
        Some([(size, _)]) => missing(size) && !case.current.has_cells(),
        Some([]) => case.host.hugetlbfs.is_empty() && !case.current.has_cells(),
        _ => false,
    }
}

/// Returns the page size a kept `<hugepages>` stands for, where it is a single one.
fn kept_pages(domain: &Domain, host: &Host) -> Vec<Option<KiB>> {
    let listed = domain
        .hugepages
        .as_ref()
        .map(|element| element.pages.as_slice())
        .unwrap_or_default();
    match listed {
        _ if domain.hugepages.is_none() => vec![None],
        [(size, _)] => vec![Some(*size)],
        [] => host
            .hugetlbfs
            .iter()
            .min()
            .map(|size| vec![Some(*size)])
            .unwrap_or_else(|| vec![None]),
        // libvirt checks several sizes; they are not counted here.
        _ => vec![None],
    }
}
