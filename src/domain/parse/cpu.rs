//! Reader of `<cpu>`, with topology and NUMA cells, and of `<features>`.

use std::collections::BTreeMap;

use crate::domain::parse::scalar;
use crate::domain::parse::scalar::{number_attr, required, short, switch};
use crate::domain::parse::tuning::cell_vcpus;
use crate::domain::parse::{MAX_CELLS, is_plain, nested, plain_child, plain_children};
use crate::domain::{Cell, Cpu, Domain, Topology};
use crate::types::ids::{CellId, Id};
use crate::types::idset::VcpuSet;
use crate::xml::{Element, XmlError};

/// Reads `<cpu>`. The vCPU count has to be read before.
pub(super) fn cpu(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let Some(element) = plain_child(root, "cpu") else {
        return Ok(());
    };
    let text = |name: &str| element.attr(name).map(|value| value.into_owned());
    let mut cpu = Cpu {
        mode: text("mode").unwrap_or_default(),
        check: text("check"),
        migratable: text("migratable"),
        model: plain_child(&element, "model")
            .map(|model| model.text().trim().to_string())
            .filter(|model| !model.is_empty()),
        ..Cpu::default()
    };
    if let Some(topology_element) = plain_child(&element, "topology") {
        cpu.topology = Some(topology(&topology_element)?);
    }
    // A repeated feature or cache makes libvirt refuse the domain, so it is an error here, too.
    for feature in plain_children(&element, "feature") {
        let name = required(&feature, "name")?.into_owned();
        if name.is_empty() {
            return Err(feature.error("a CPU feature without a name"));
        }
        let policy = feature
            .attr("policy")
            .map_or("require".into(), |p| p.into_owned());
        if cpu.features.insert(name.clone(), policy).is_some() {
            return Err(feature.error(format!("CPU feature '{}' is there twice", short(&name))));
        }
    }
    let mut caches = plain_children(&element, "cache");
    if let Some(cache) = caches.next() {
        cpu.cache = Some((
            required(&cache, "mode")?.into_owned(),
            number_attr(&cache, "level")?,
        ));
    }
    if let Some(second) = caches.next() {
        return Err(second.error("a second <cache> in <cpu>"));
    }
    domain.cpu = Some(cpu);
    // Cells last: their vCPUs are checked against the vCPU count.
    if let Some(numa) = plain_child(&element, "numa") {
        domain.cells = cells(&numa, domain.vcpus)?;
    }
    Ok(())
}

/// Reads a `<topology>`; an absent level is 1.
pub(crate) fn topology(element: &Element<'_>) -> Result<Topology, XmlError> {
    let level = |name: &str| -> Result<u32, XmlError> {
        match number_attr(element, name)? {
            Some(0) => Err(element.error(format!("{name}='0' in <topology>"))),
            Some(count) => Ok(count),
            None => Ok(1),
        }
    };
    Ok(Topology {
        sockets: level("sockets")?,
        dies: level("dies")?,
        clusters: level("clusters")?,
        cores: level("cores")?,
        threads: level("threads")?,
    })
}

/// Reads the cells of a `<numa>`, in the order of their ids. vCPUs in no cell are in cell 0
/// (`virDomainNumaFillCPUsInNode`, as the QEMU driver calls it).
pub(crate) fn cells(numa: &Element<'_>, vcpus: u32) -> Result<Vec<Cell>, XmlError> {
    let elements: Vec<Element<'_>> = plain_children(numa, "cell").collect();
    if elements.is_empty() {
        return Err(numa.error("<numa> without cells"));
    }
    if elements.len() > MAX_CELLS {
        return Err(numa.error(format!("{} cells; QEMU knows 128", elements.len())));
    }
    // libvirt refuses ids with a gap and a vCPU in two cells.
    let mut cells: BTreeMap<u32, Cell> = BTreeMap::new();
    let mut named = VcpuSet::new();
    for (position, element) in elements.iter().enumerate() {
        let id = number_attr(element, "id")?.unwrap_or(position as u32);
        if id as usize >= elements.len() {
            return Err(element.error(format!(
                "cell {id} of {}: cells are numbered from 0 without a gap",
                elements.len()
            )));
        }
        let members = cell_vcpus(element)?;
        if let Some(last) = members.last().filter(|last| last.get() >= vcpus) {
            return Err(element.error(format!("cell {id} has vCPU {last}, but the guest has {vcpus}")));
        }
        if !named.is_disjoint(&members) {
            return Err(element.error(format!("cell {id} has a vCPU that another cell has")));
        }
        named.extend_from(&members);
        let unit = element.attr("unit");
        let memory = scalar::memory(
            element,
            "memory of <cell>",
            &required(element, "memory")?,
            unit.as_deref(),
        )?;
        let cell = Cell {
            id: CellId(id),
            vcpus: members,
            memory,
        };
        if cells.insert(id, cell).is_some() {
            return Err(element.error(format!("a second cell {id}")));
        }
    }
    let mut cells: Vec<Cell> = cells.into_values().collect();
    // A vCPU in no cell is in cell 0.
    let rest = VcpuSet::first_n(vcpus).difference(&named);
    if let Some(first) = cells.first_mut() {
        first.vcpus.extend_from(&rest);
    }
    Ok(cells)
}

pub(super) fn features(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    if let Some(pmu) = nested(root, &["features", "pmu"]).next() {
        // `<pmu/>` without a state means on.
        domain.pmu = Some(switch(&pmu, "state")?.unwrap_or(true));
    }
    if let Some(hint) = nested(root, &["features", "kvm", "hint-dedicated"]).next() {
        domain.hint_dedicated = switch(&hint, "state")?;
    }
    if let Some(poll) = nested(root, &["features", "kvm", "poll-control"]).next() {
        domain.poll_control = switch(&poll, "state")?;
    }
    for element in nested(root, &["features", "hyperv"]) {
        domain.hyperv_passthrough |= element.attr("mode").as_deref() == Some("passthrough");
        for child in element.children().filter(is_plain) {
            let on = child.attr("state").as_deref() == Some("on");
            domain.hyperv.entry(child.name().to_string()).or_insert(on);
        }
    }
    let mut timers = nested(root, &["clock", "timer"]);
    let clock = timers.find(|timer| timer.attr("name").as_deref() == Some("hypervclock"));
    // libvirt's default is that a timer that is named is there.
    domain.hypervclock = clock.map(|timer| timer.attr("present").as_deref() != Some("no"));
    Ok(())
}
