//! Things that a domain refers to and lacks, so that libvirt refuses it: an administrator referred
//! to something that virtfit had made. A revert that removed it would leave a domain that cannot be
//! defined.

use std::collections::BTreeSet;

use crate::domain::parse::{iothread_ids, nested, plain_child};
use crate::types::cpulist;
use crate::types::ids::IothreadId;
use crate::types::idset::{IdSet, NodeSet};
use crate::types::setting::{DiskAttribute, Target};
use crate::xml::Element;

/// Returns the targets whose values the domain cannot do without.
pub(super) fn missing(root: &Element<'_>) -> BTreeSet<Target> {
    let mut missing = BTreeSet::new();
    if lacks_iothread(root) {
        missing.insert(Target::Iothreads);
    }
    if lacks_cell(root) {
        missing.insert(Target::Cells);
    }
    if lacks_cpu_mode(root) {
        missing.insert(Target::CpuMode);
    }
    for disk in nested(root, &["devices", "disk"]) {
        let driver = plain_child(&disk, "driver");
        let attr = |name: &str| driver.and_then(|driver| driver.attr(name));
        let uncached = matches!(attr("cache").as_deref(), Some("none" | "directsync"));
        let target = plain_child(&disk, "target").and_then(|target| target.attr("dev"));
        if let Some(target) = target
            && attr("io").as_deref() == Some("native")
            && !uncached
        {
            missing.insert(Target::Disk(target.into_owned(), DiskAttribute::Cache));
        }
    }
    missing
}

/// Returns true if a pin, a scheduler, a disk or a controller names an iothread that the guest
/// lacks.
fn lacks_iothread(root: &Element<'_>) -> bool {
    let Ok(ids) = iothread_ids(root) else {
        return false;
    };
    // Cpulists name no larger ids, and the size of a set grows with its largest id.
    let ids: IdSet<IothreadId> = ids.into_iter().filter(|id| id.0 <= cpulist::MAX_ID).collect();
    let pins =
        nested(root, &["cputune", "iothreadpin"]).filter_map(|pin| Some(pin.attr("iothread")?.into_owned()));
    let schedulers = nested(root, &["cputune", "iothreadsched"]);
    let schedulers = schedulers.filter_map(|sched| Some(sched.attr("iothreads")?.into_owned()));
    let devices = nested(root, &["devices", "disk"]).chain(nested(root, &["devices", "controller"]));
    let drivers: Vec<Element<'_>> = devices
        .filter_map(|device| plain_child(&device, "driver"))
        .collect();
    let direct = drivers
        .iter()
        .filter_map(|driver| Some(driver.attr("iothread")?.into_owned()));
    let mapped = drivers
        .iter()
        .flat_map(|driver| nested(driver, &["iothreads", "iothread"]))
        .filter_map(|thread| Some(thread.attr("id")?.into_owned()));
    pins.chain(schedulers).chain(direct).chain(mapped).any(|list| {
        let named = cpulist::parse_plain::<IothreadId>(&list).unwrap_or_default();
        !named.is_subset(&ids)
    })
}

/// Returns true if memory is bound, backed or added by cell and the guest lacks the cell, or if
/// there is `<maxMemory>` without any cell. libvirt accepts page sizes for cell 0 of a guest
/// without cells.
fn lacks_cell(root: &Element<'_>) -> bool {
    let cells = nested(root, &["cpu", "numa", "cell"]).count();
    let beyond = |cell: Option<u32>| cell.is_some_and(|cell| cell as usize >= cells);
    let number = |text: &str| text.trim().parse::<u32>().ok();
    let bound = nested(root, &["numatune", "memnode"])
        .any(|memnode| beyond(memnode.attr("cellid").and_then(|text| number(&text))));
    let backed = nested(root, &["memoryBacking", "hugepages", "page"]).any(|page| {
        let nodes = page
            .attr("nodeset")
            .map(|text| cpulist::parse_plain::<crate::types::ids::NodeId>(&text));
        let last = nodes.and_then(Result::ok).as_ref().and_then(NodeSet::last);
        last.is_some_and(|node| node.0 > 0 && beyond(Some(node.0)))
    });
    let added =
        nested(root, &["devices", "memory", "target", "node"]).any(|node| beyond(number(&node.text())));
    let room = cells == 0 && plain_child(root, "maxMemory").is_some();
    bound || backed || added || room
}

/// Returns true if a CPU has features or a cache but neither a mode nor a model, or passes a cache
/// through in a mode that does not allow it.
fn lacks_cpu_mode(root: &Element<'_>) -> bool {
    let Some(cpu) = plain_child(root, "cpu") else {
        return false;
    };
    let mode = cpu.attr("mode").unwrap_or_default();
    let cache = plain_child(&cpu, "cache");
    let bare = matches!(&*mode, "" | "custom") && plain_child(&cpu, "model").is_none();
    let whole = matches!(&*mode, "host-passthrough" | "maximum");
    let through = cache
        .and_then(|cache| cache.attr("mode"))
        .is_some_and(|mode| mode == "passthrough");
    (bare && (cache.is_some() || plain_child(&cpu, "feature").is_some())) || (through && !whole)
}
