//! Values of targets as they stand in a document.

use std::collections::BTreeMap;

use crate::domain::parse::{cells_of, nested, plain_child, plain_children, topology_of};
use crate::rewrite::order::Container;
use crate::rewrite::places::Places;
use crate::rewrite::target::{Form, form};
use crate::rewrite::value::{CACHE_MODES, CPU_MODES, MODES, SCHEDULERS, known, show, show_cache, show_sched};
use crate::types::cpulist::{CpulistError, parse_within};
use crate::types::ids::{CellId, HostCpu, Id, IothreadId, VcpuId};
use crate::types::idset::{CellSet, IdSet, VcpuSet};
use crate::types::setting::{Distances, LOCAL_DISTANCE, REMOTE_DISTANCE, Target, Value};
use crate::xml::Element;

impl<'d> Places<'d> {
    /// Returns the value of a target as canonical text; `None` where it is absent. A value that is
    /// malformed is returned as it stands.
    pub(super) fn read(&self, target: &Target) -> Option<String> {
        show(&self.value(target))
    }

    /// Returns the value of a target. A value that virtfit would not write is a text, in canonical
    /// form or, if it is malformed, as it stands.
    pub(super) fn value(&self, target: &Target) -> Value {
        // Values are compared by their texts, so each form resolves libvirt's defaults to what
        // libvirt writes out.
        match form(target) {
            Form::Attribute(holder, name) => {
                let text = self.holder(&holder).and_then(|element| element.attr(name));
                match (target, text) {
                    // libvirt writes the default out.
                    (Target::VcpuPlacement, None) => Value::Text("static".into()),
                    (_, None) => Value::Absent,
                    (Target::VcpuCpuset, Some(text)) => cpus(&text),
                    (_, Some(text)) => Value::Text(text.into_owned()),
                }
            }
            Form::Keyed(_, _, name) => {
                let Some(element) = self.element(target) else {
                    return Value::Absent;
                };
                let text = element.attr(name);
                match target {
                    Target::VcpuPin(_) | Target::EmulatorPin | Target::IothreadPin(_) => {
                        cpus(&text.unwrap_or_default())
                    }
                    Target::CpuFeature(_) => {
                        Value::Text(text.map_or("require".into(), |text| text.into_owned()))
                    }
                    Target::Pmu => Value::Text(text.map_or("on".into(), |text| text.into_owned())),
                    _ => Value::Text(text.unwrap_or_default().into_owned()),
                }
            }
            Form::CpuMode => self.read_cpu_mode(),
            Form::Sched => read_scheds(&self.scheds()),
            Form::Whole(..) => match self.element(target) {
                Some(element) => self.read_element(target, &element),
                None => Value::Absent,
            },
        }
    }

    fn read_cpu_mode(&self) -> Value {
        let Some(cpu) = self.container(&Container::Cpu) else {
            return Value::Absent;
        };
        match (cpu.attr("mode"), plain_child(&cpu, "model")) {
            (Some(mode), _) => match known(&mode, &CPU_MODES) {
                Some(mode) => Value::CpuMode(mode),
                None => Value::Text(mode.into_owned()),
            },
            (None, Some(_)) => Value::Text("custom".into()),
            (None, None) => Value::Absent,
        }
    }

    /// Returns the value of a target that is this element as a whole.
    fn read_element(&self, target: &Target, element: &Element<'d>) -> Value {
        match target {
            Target::Iothreads | Target::ExpanderNode(_) => {
                let text = element.text().trim().to_string();
                let number = text.parse::<u32>().ok();
                let number = number.filter(|number| number.to_string() == text);
                number.map_or(Value::Text(text), Value::Number)
            }
            Target::DiskIothreads(_) => read_iothreads(element),
            Target::NumaMemory | Target::MemNode(_) => read_numa(element),
            Target::Hugepages => self.read_hugepages(),
            Target::Topology => match topology_of(element) {
                Ok(topology) => Value::Topology(topology),
                Err(_) => Value::Text(element.raw().to_string()),
            },
            Target::Cells => read_cells(element),
            Target::CpuCache => {
                let level = element.attr("level").and_then(|text| text.trim().parse().ok());
                let mode = element.attr("mode").unwrap_or_default();
                match known(&mode, &CACHE_MODES) {
                    Some(mode) => Value::Cache { mode, level },
                    None => Value::Text(show_cache(&mode, level)),
                }
            }
            Target::Memballoon => Value::Text(element.attr("model").unwrap_or_default().into_owned()),
            _ => Value::Present,
        }
    }

    fn read_hugepages(&self) -> Value {
        let pages: Vec<Element<'d>> = nested(&self.root, &["memoryBacking", "hugepages", "page"]).collect();
        if pages.is_empty() {
            return Value::Text("default size".into());
        }
        let size = |page: &Element<'d>| {
            let unit = page.attr("unit");
            crate::domain::parse::amount(&page.attr("size").unwrap_or_default(), unit.as_deref())
        };
        let cells = |page: &Element<'d>| page.attr("nodeset").map(|text| list::<CellId>(&text));
        // One size for all cells is a value that virtfit writes, too.
        if let [page] = pages.as_slice()
            && let Some(size) = size(page)
            && cells(page).is_none_or(|cells| cells == Ok(self.all_cells()))
        {
            return Value::PageSize(size);
        }
        let typed = pages.iter().map(|page| match cells(page) {
            Some(cells) => Some((size(page)?, Some(cells.ok()?))),
            None => Some((size(page)?, None)),
        });
        if let Some(sizes) = typed.collect() {
            return Value::PageSizes(sizes);
        }
        // A page of a malformed size or cells: all of them as they stand.
        let texts = pages.iter().map(|page| {
            let size = match size(page) {
                Some(size) => format!("{} KiB", size.0),
                None => page.attr("size").unwrap_or_default().into_owned(),
            };
            match page.attr("nodeset") {
                Some(cells) => format!("{size} for cells {}", normal_list(&cells)),
                None => size,
            }
        });
        Value::Text(texts.collect::<Vec<_>>().join(", "))
    }

    /// Lists all guest cells; a guest without cells counts as one cell, as it does for pages in
    /// libvirt.
    fn all_cells(&self) -> CellSet {
        let count = self
            .element(&Target::Cells)
            .map_or(0, |numa| plain_children(&numa, "cell").count());
        CellSet::first_n(count.max(1) as u32)
    }
}

fn read_cells(numa: &Element<'_>) -> Value {
    // The vCPUs are read as listed, whatever the guest's vCPU count is now.
    let last = plain_children(numa, "cell")
        .filter_map(|cell| {
            crate::types::cpulist::parse_plain::<VcpuId>(&cell.attr("cpus")?)
                .ok()?
                .last()
        })
        .max();
    match cells_of(numa, last.map_or(0, |last| last.0 + 1)) {
        Ok(cells) => match read_distances(numa, cells.len()) {
            Some(distances) => {
                let cells = cells.into_iter().map(|cell| (cell.vcpus, cell.memory));
                Value::Cells(cells.collect(), distances)
            }
            None => Value::Text(numa.raw().to_string()),
        },
        Err(_) => Value::Text(numa.raw().to_string()),
    }
}

/// Reads the distances of cells; those that are not given are libvirt's. `None`: malformed.
fn read_distances(numa: &Element<'_>, count: usize) -> Option<Distances> {
    let number = |element: &Element<'_>, name| element.attr(name)?.trim().parse::<usize>().ok();
    let mut given = Vec::new();
    for (position, cell) in plain_children(numa, "cell").enumerate() {
        let from = match cell.attr("id") {
            Some(_) => number(&cell, "id")?,
            None => position,
        };
        for distances in plain_children(&cell, "distances") {
            for sibling in plain_children(&distances, "sibling") {
                let far = u32::try_from(number(&sibling, "value")?).ok()?;
                given.push((from, number(&sibling, "id")?, far));
            }
        }
    }
    if given.is_empty() {
        return Some(Distances::new());
    }
    let mut distances = vec![vec![REMOTE_DISTANCE; count]; count];
    for (at, row) in distances.iter_mut().enumerate() {
        row[at] = LOCAL_DISTANCE;
    }
    for (from, to, far) in given {
        *distances.get_mut(from)?.get_mut(to)? = far;
    }
    Some(distances)
}

/// Returns one value for all schedulers: the vCPUs of an equal scheduler and priority are joined,
/// however many elements name them.
fn read_scheds(elements: &[Element<'_>]) -> Value {
    let mut groups: BTreeMap<(String, Option<u32>), VcpuSet> = BTreeMap::new();
    for element in elements {
        let scheduler = element.attr("scheduler").unwrap_or_default().into_owned();
        let priority = element.attr("priority").and_then(|text| text.trim().parse().ok());
        let vcpus = crate::types::cpulist::parse_plain(&element.attr("vcpus").unwrap_or_default())
            .unwrap_or_default();
        groups
            .entry((scheduler, priority))
            .or_default()
            .extend_from(&vcpus);
    }
    let mut all = groups.iter();
    if let (Some(((scheduler, Some(priority)), vcpus)), None) = (all.next(), all.next())
        && let Some(scheduler) = known(scheduler, &SCHEDULERS)
    {
        return Value::Sched {
            vcpus: vcpus.clone(),
            scheduler,
            priority: *priority,
        };
    }
    let texts: Vec<String> = groups
        .iter()
        .map(|((scheduler, priority), vcpus)| show_sched(vcpus, scheduler, *priority))
        .collect();
    match texts.is_empty() {
        true => Value::Absent,
        false => Value::Text(texts.join("; ")),
    }
}

/// Returns a disk's iothreads; a mapping that names queues is a text as it stands.
fn read_iothreads(element: &Element<'_>) -> Value {
    let id = |thread: Element<'_>| match thread.children().next() {
        None => thread.attr("id")?.trim().parse().ok().map(IothreadId),
        Some(_) => None,
    };
    let ids: Option<Vec<IothreadId>> = plain_children(element, "iothread").map(id).collect();
    ids.map_or_else(|| Value::Text(element.raw().to_string()), Value::Iothreads)
}

fn read_numa(element: &Element<'_>) -> Value {
    let mode = element
        .attr("mode")
        .map_or("strict".into(), |mode| mode.into_owned());
    let nodes = match (element.attr("placement").as_deref(), element.attr("nodeset")) {
        (Some("auto"), _) | (_, None) => return Value::Text(format!("{mode} auto")),
        (_, Some(nodes)) => nodes,
    };
    match (known(&mode, &MODES), list(&nodes)) {
        (Some(mode), Ok(nodes)) => Value::Numa { mode, nodes },
        _ => Value::Text(format!("{mode} {}", normal_list(&nodes))),
    }
}

/// Parses a list of ids as libvirt does, which lets a comma end it.
fn list<T: Id>(text: &str) -> Result<IdSet<T>, CpulistError> {
    let body = text.trim().strip_suffix(',').unwrap_or(text);
    parse_within(body, &IdSet::new())
}

/// Returns a list of CPUs; other text as it stands.
fn cpus(text: &str) -> Value {
    match list(text) {
        Ok(set) => Value::Cpus(set),
        Err(_) => Value::Text(text.trim().to_string()),
    }
}

/// Returns a cpulist in canonical form; other text as it stands.
fn normal_list(text: &str) -> String {
    match list::<HostCpu>(text) {
        Ok(set) => set.to_string(),
        Err(_) => text.trim().to_string(),
    }
}
