//! Reader of `<iothreads>`, `<cputune>`, `<memoryBacking>` and `<numatune>`: the tuning in the XML.

use std::collections::BTreeSet;

use crate::domain::parse::scalar;
use crate::domain::parse::scalar::{any_list, list, number, required, short};
use crate::domain::parse::{MAX_PAGES, nested, plain_child, plain_children};
use crate::domain::{CacheTune, Domain, HugepagesElement, NumaMemory, VcpuSched};
use crate::types::cpulist::MAX_ID;
use crate::types::ids::{CellId, Id, IothreadId, VcpuId};
use crate::types::idset::VcpuSet;
use crate::xml::{Element, XmlError};

/// Reads `<iothreads>` and `<iothreadids>`: listed ids first, missing ones filled in with the
/// lowest free ids, as `virDomainIOThreadIDDefArrayInit` does.
pub(super) fn iothreads(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let element = plain_child(root, "iothreads");
    // The ids are filled in below, so the count has to have a limit.
    let mut count = match element {
        Some(element) if !element.text().trim().is_empty() => {
            number(&element, "<iothreads>", &element.text())?
        }
        _ => 0,
    };
    if let Some(element) = element.filter(|_| count > MAX_ID + 1) {
        return Err(element.error(format!(
            "<iothreads> is {count}, more than a guest can have ({})",
            MAX_ID + 1
        )));
    }
    let mut ids: Vec<IothreadId> = Vec::new();
    let mut seen = std::collections::BTreeSet::new();
    for thread in nested(root, &["iothreadids", "iothread"]) {
        let id = number(&thread, "id= of <iothread>", &required(&thread, "id")?)?;
        if id == 0 {
            return Err(thread.error("iothread ids start at 1"));
        }
        if !seen.insert(id) {
            return Err(thread.error(format!("a second iothread {id}")));
        }
        ids.push(IothreadId(id));
    }
    // libvirt drops a count of 0 when it stores the definition.
    if count == 0 && ids.is_empty() {
        return Ok(());
    }
    count = count.max(ids.len() as u32);
    // Ids that are filled in below may change with the count; listed ids may not.
    domain.iothreads_named = ids.iter().copied().collect();
    let mut next = 1;
    while (ids.len() as u32) < count {
        if seen.insert(next) {
            ids.push(IothreadId(next));
        }
        next += 1;
    }
    domain.iothreads = Some(count);
    domain.iothread_ids = ids;
    Ok(())
}

/// Reads one `<cachetune>` or `<memorytune>`; `None` where it names no level 3 cache, or cannot be
/// read.
fn cache_tune(element: &Element<'_>, part: &'static str) -> Option<CacheTune> {
    let vcpus = crate::types::cpulist::parse_plain(&element.attr("vcpus")?).ok()?;
    let is_level_3 = |part: &Element<'_>| part.attr("level").is_none_or(|level| level.trim() == "3");
    let parts = plain_children(element, part).filter(is_level_3);
    let ids: BTreeSet<u32> = parts
        .filter_map(|part| part.attr("id")?.trim().parse().ok())
        .collect();
    (!ids.is_empty()).then_some(CacheTune { vcpus, ids })
}

/// Reads `<cputune>`. The vCPU count and the iothreads have to be read before.
pub(super) fn cputune(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    for (tune, part) in [("cachetune", "cache"), ("memorytune", "node")] {
        let parts = nested(root, &["cputune", tune, part]);
        let ids = parts.filter_map(|part| part.attr("id")?.trim().parse::<u32>().ok());
        domain.resource_ids.extend(ids);
        // libvirt takes no two of a kind for one vCPU.
        let mut seen = VcpuSet::new();
        for tune in nested(root, &["cputune", tune]).filter_map(|tune| cache_tune(&tune, part)) {
            if seen.is_disjoint(&tune.vcpus) {
                seen.extend_from(&tune.vcpus);
                domain.cache_tunes.push(tune);
            }
        }
    }
    // libvirt drops pins of vCPUs beyond the maximum, so they are skipped.
    for pin in nested(root, &["cputune", "vcpupin"]) {
        let vcpu = number(&pin, "vcpu= of <vcpupin>", &required(&pin, "vcpu")?)?;
        if vcpu >= domain.vcpus {
            continue;
        }
        let cpus = list(&pin, "cpuset of <vcpupin>", &required(&pin, "cpuset")?)?;
        if domain.vcpupins.insert(VcpuId(vcpu), cpus).is_some() {
            return Err(pin.error(format!("a second <vcpupin> for vCPU {vcpu}")));
        }
    }
    for pin in nested(root, &["cputune", "emulatorpin"]) {
        let cpus = list(&pin, "cpuset of <emulatorpin>", &required(&pin, "cpuset")?)?;
        if domain.emulatorpin.replace(cpus).is_some() {
            return Err(pin.error("a second <emulatorpin>"));
        }
    }
    // A pin of an iothread that does not exist makes libvirt refuse the domain.
    let known: std::collections::BTreeSet<IothreadId> = domain.iothread_ids.iter().copied().collect();
    for pin in nested(root, &["cputune", "iothreadpin"]) {
        let thread = number(&pin, "iothread= of <iothreadpin>", &required(&pin, "iothread")?)?;
        let thread = IothreadId(thread);
        if !known.contains(&thread) {
            return Err(pin.error(format!(
                "<iothreadpin> for iothread {thread}, which the guest has not"
            )));
        }
        let cpus = list(&pin, "cpuset of <iothreadpin>", &required(&pin, "cpuset")?)?;
        if domain.iothreadpins.insert(thread, cpus).is_some() {
            return Err(pin.error(format!("a second <iothreadpin> for iothread {thread}")));
        }
    }
    // A scheduler needs its iothreads, so they count as named.
    for element in nested(root, &["cputune", "iothreadsched"]) {
        let threads = element.attr("iothreads").unwrap_or_default();
        let threads = crate::types::cpulist::parse_plain::<IothreadId>(&threads).unwrap_or_default();
        domain.iothreads_named.extend(threads.iter());
    }
    // Two schedulers for one vCPU, or one for a missing vCPU, make libvirt refuse the domain.
    let mut scheduled = VcpuSet::new();
    for element in nested(root, &["cputune", "vcpusched"]) {
        let sched = vcpusched(&element)?;
        if let Some(last) = sched.vcpus.last().filter(|last| last.get() >= domain.vcpus) {
            return Err(element.error(format!(
                "<vcpusched> names vCPU {last}, but the guest has {}",
                domain.vcpus
            )));
        }
        if !scheduled.is_disjoint(&sched.vcpus) {
            return Err(element.error("two <vcpusched> name the same vCPU"));
        }
        scheduled.extend_from(&sched.vcpus);
        domain.vcpuscheds.push(sched);
    }
    Ok(())
}

fn vcpusched(element: &Element<'_>) -> Result<VcpuSched, XmlError> {
    let vcpus = list(element, "vcpus of <vcpusched>", &required(element, "vcpus")?)?;
    let scheduler = required(element, "scheduler")?.into_owned();
    let needs_priority = match scheduler.as_str() {
        "fifo" | "rr" => true,
        "batch" | "idle" => false,
        other => {
            return Err(element.error(format!(
                "scheduler '{}' is none of fifo, rr, batch, idle",
                short(other)
            )));
        }
    };
    let priority = match element.attr("priority") {
        Some(text) if needs_priority => Some(number(element, "priority of <vcpusched>", &text)?),
        None if needs_priority => return Err(element.error("a <vcpusched> with fifo or rr needs priority=")),
        _ => None,
    };
    Ok(VcpuSched {
        vcpus,
        scheduler,
        priority,
    })
}

pub(super) fn memory_backing(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let backing = |name: &'static str| nested(root, &["memoryBacking", name]).next();
    domain.locked = backing("locked").is_some();
    domain.nosharepages = backing("nosharepages").is_some();
    let attr = |element: &'static str, name: &str| {
        let found = nested(root, &["memoryBacking", element]).find_map(|element| element.attr(name));
        found.map(|value| value.into_owned())
    };
    domain.memory_source = attr("source", "type");
    domain.memory_access = attr("access", "mode");
    domain.memory_allocation = attr("allocation", "mode");
    if backing("hugepages").is_some() {
        domain.hugepages = Some(hugepages(root)?);
    }
    Ok(())
}

fn hugepages(root: &Element<'_>) -> Result<HugepagesElement, XmlError> {
    let mut pages = Vec::new();
    for page in nested(root, &["memoryBacking", "hugepages", "page"]) {
        if pages.len() == MAX_PAGES {
            return Err(page.error(format!("more than {MAX_PAGES} <page> elements")));
        }
        let unit = page.attr("unit");
        let size = scalar::memory(
            &page,
            "size of <page>",
            &required(&page, "size")?,
            unit.as_deref(),
        )?;
        if size.0 == 0 {
            return Err(page.error("a huge page size of 0"));
        }
        let nodes = match page.attr("nodeset") {
            Some(text) => Some(list(&page, "nodeset of <page>", &text)?),
            None => None,
        };
        pages.push((size, nodes));
    }
    Ok(HugepagesElement { pages })
}

/// Reads `<numatune>`. vCPU placement, pins and cells have to be read before.
pub(super) fn numatune(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let mut containers = plain_children(root, "numatune");
    let Some(numatune) = containers.next() else {
        return Ok(());
    };
    if let Some(second) = containers.next() {
        return Err(second.error("a second <numatune>"));
    }
    // Binding of the whole guest, and below it that of single cells, which must not contradict it.
    if let Some(element) = plain_child(&numatune, "memory") {
        domain.numatune = numa_memory(&element, domain)?;
    }
    let auto = domain.numatune.as_ref().is_some_and(|memory| memory.auto);
    for element in plain_children(&numatune, "memnode") {
        if auto {
            return Err(element.error("<memnode> beside <memory placement='auto'>"));
        }
        if domain.cells.is_empty() {
            return Err(element.error("<memnode> in a guest without NUMA cells"));
        }
        let cell = number(&element, "cellid= of <memnode>", &required(&element, "cellid")?)?;
        if cell as usize >= domain.cells.len() {
            return Err(element.error(format!("<memnode> for cell {cell}, which the guest has not")));
        }
        let mode = mode(&element)?.unwrap_or("strict");
        let overall = domain.numatune.as_ref().map(|memory| memory.mode.as_str());
        if overall == Some("restrictive") && mode != "restrictive" {
            return Err(element.error("<memory> is restrictive, so every <memnode> has to be"));
        }
        let nodes = list(&element, "nodeset of <memnode>", &required(&element, "nodeset")?)?;
        let memory = NumaMemory {
            mode: mode.to_string(),
            nodeset: Some(nodes),
            auto: false,
        };
        if domain.memnodes.insert(CellId(cell), memory).is_some() {
            return Err(element.error(format!("a second <memnode> for cell {cell}")));
        }
    }
    // libvirt: where numad places the memory and nothing is pinned, numad places the vCPUs, too.
    let pinned = domain.vcpu_cpuset.is_some()
        || domain.emulatorpin.is_some()
        || !domain.vcpupins.is_empty()
        || !domain.iothreadpins.is_empty();
    if auto && !pinned {
        domain.vcpu_placement_auto = true;
    }
    Ok(())
}

/// Reads a binding of the whole guest; `None` for an element that has no effect in libvirt.
fn numa_memory(element: &Element<'_>, domain: &Domain) -> Result<Option<NumaMemory>, XmlError> {
    let mode = mode(element)?;
    let nodeset = match element.attr("nodeset") {
        Some(text) => Some(list(element, "nodeset of <numatune>'s <memory>", &text)?),
        None => None,
    };
    let auto = match element.attr("placement").as_deref() {
        None => nodeset.is_none() && domain.vcpu_placement_auto,
        Some("static") => false,
        Some("auto") => true,
        Some(other) => {
            return Err(element.error(format!("placement '{}' is neither static nor auto", short(other))));
        }
    };
    if mode.is_none() && nodeset.is_none() && !auto {
        return Ok(None);
    }
    if nodeset.is_none() && !auto {
        return Err(element.error("<numatune>'s <memory> needs nodeset= or placement='auto'"));
    }
    Ok(Some(NumaMemory {
        mode: mode.unwrap_or("strict").to_string(),
        nodeset: nodeset.filter(|_| !auto),
        auto,
    }))
}

fn mode(element: &Element<'_>) -> Result<Option<&'static str>, XmlError> {
    match element.attr("mode").as_deref() {
        None => Ok(None),
        Some("strict") => Ok(Some("strict")),
        Some("preferred") => Ok(Some("preferred")),
        Some("interleave") => Ok(Some("interleave")),
        Some("restrictive") => Ok(Some("restrictive")),
        Some(other) => Err(element.error(format!(
            "mode '{}' is none of strict, preferred, interleave, restrictive",
            short(other)
        ))),
    }
}

/// Returns the vCPUs that a `<cell>` lists; may be empty.
pub(super) fn cell_vcpus(cell: &Element<'_>) -> Result<VcpuSet, XmlError> {
    match cell.attr("cpus") {
        Some(text) => any_list(cell, "cpus of <cell>", &text),
        None => Ok(VcpuSet::new()),
    }
}
