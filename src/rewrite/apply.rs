//! Writer of settings into a text that has none of virtfit's.

use std::collections::{HashMap, HashSet};

use crate::domain::parse::nested;
use crate::rewrite::edits::{Edits, with_space};
use crate::rewrite::fragment::{Fragment, escape_value};
use crate::rewrite::layout::Layout;
use crate::rewrite::order::Container;
use crate::rewrite::places::Places;
use crate::rewrite::target;
use crate::rewrite::target::{Form, Holder, form, number};
use crate::rewrite::value::{same, show};
use crate::rewrite::{Head, Owned, Position, Was, provenance};
use crate::types::enlightenment::Enlightenment;
use crate::types::setting::{Setting, Target, Value};
use crate::xml::{Document, Element, ElementId, XmlError};

/// Number of tries for a lock before the guest gives its turn away, as everybody has it.
const SPINLOCK_RETRIES: u32 = 8191;

/// Writes settings and their provenance into a reverted text.
///
/// # Errors
/// The text still holds a provenance, a setting is for something the domain lacks (a disk), two
/// settings are for one target, or a value does not fit its target.
pub fn apply(original: &Document<'_>, settings: &[Setting], head: &Head) -> Result<String, XmlError> {
    let places = Places::new(original)?;
    if let Some(record) = provenance::read(&places.root)? {
        return Err(record
            .element
            .error("virtfit's settings are in this domain already; revert it first"));
    }
    // Settings are written in the order of their targets, whatever the order of the list: equal
    // lists give equal texts.
    let mut sorted: Vec<&Setting> = settings.iter().collect();
    sorted.sort_by(|a, b| a.target.cmp(&b.target));
    if let Some(pair) = sorted.windows(2).find(|pair| pair[0].target == pair[1].target) {
        let path = target::path(&pair[0].target);
        return Err(places.root.error(format!("two settings for {path}")));
    }
    let mut writer = Writer {
        places: &places,
        edits: Edits::new(places.text),
        layout: Layout::default(),
        counted: HashSet::new(),
        standing: HashMap::new(),
    };
    // Every setting is written, and what it replaced goes into the record.
    let mut owned = Vec::with_capacity(sorted.len());
    for setting in sorted {
        owned.push(Owned {
            target: setting.target.clone(),
            wrote: setting.value.clone(),
            was: writer.write(&setting.target, &setting.value)?,
        });
    }
    let Writer {
        mut edits,
        mut layout,
        ..
    } = writer;
    // The record lists the container of its own element, too, so a placeholder stands in until the
    // list is complete.
    layout.child(Container::Metadata, "fit", 0, Fragment::new("fit"));
    let containers = layout.containers(&places);
    layout.only_child(
        Container::Metadata,
        provenance::fragment(head, &owned, &containers),
    );
    layout.apply(&places, &mut edits);
    Ok(edits.finish())
}

struct Writer<'p, 'd> {
    places: &'p Places<'d>,
    edits: Edits<'d>,
    layout: Layout,
    /// Containers whose children are in `standing`.
    counted: HashSet<ElementId>,
    /// For each counted element: the number of elements before it, and the end of the last of them.
    standing: HashMap<ElementId, (usize, usize)>,
}

impl<'d> Writer<'_, 'd> {
    /// Writes one value and returns the record of what was there.
    fn write(&mut self, target: &Target, value: &Value) -> Result<Vec<Was>, XmlError> {
        match form(target) {
            Form::Attribute(holder, name) => self.attribute(target, &holder, name, value),
            Form::Keyed(container, _, name) => match (self.places.element(target), show(value)) {
                (Some(element), None) => Ok(vec![self.remove(&element)]),
                (Some(element), Some(text)) => Ok(vec![self.set(&element, name, target, &text)]),
                (None, None) => Ok(Vec::new()),
                (None, Some(_)) => self.insert(container, target, value),
            },
            Form::Whole(container, _) => self.whole(container, target, value),
            Form::CpuMode => self.cpu_mode(target, value),
            Form::Sched => {
                let wanted = self.fragment(target, value)?;
                let was = self
                    .places
                    .scheds()
                    .iter()
                    .map(|sched| self.remove(sched))
                    .collect();
                if let Some(fragment) = wanted {
                    self.layout.child(Container::Cputune, "vcpusched", 0, fragment);
                }
                Ok(was)
            }
        }
    }

    fn attribute(
        &mut self,
        target: &Target,
        holder: &Holder,
        name: &'static str,
        value: &Value,
    ) -> Result<Vec<Was>, XmlError> {
        // The element is there: set or remove the attribute.
        if let (Some(element), text) = (self.places.holder(holder), show(value)) {
            return Ok(match text {
                Some(text) => vec![self.set(&element, name, target, &text)],
                None => self.unset(&element, name).into_iter().collect(),
            });
        }
        // Only a device's `<driver>` may be made for its attribute; `<vcpu>` has to exist.
        let missing = || {
            self.places
                .root
                .error(format!("the domain has no {}", subject(target)))
        };
        let Holder::Driver(container) = holder else {
            return match show(value) {
                Some(_) => Err(missing()),
                None => Ok(Vec::new()),
            };
        };
        container
            .parent()
            .and_then(|device| self.places.container(&device))
            .ok_or_else(missing)?;
        let Some(text) = show(value) else {
            return Ok(Vec::new());
        };
        self.disk_driver(container);
        self.layout.attribute(container.clone(), name, &text);
        Ok(vec![Was::NoAttribute { name: name.into() }])
    }

    /// Gives a disk's driver that virtfit makes the name and type that libvirt assumes for a
    /// missing one; without a type libvirt would refuse some attributes.
    fn disk_driver(&mut self, container: &Container) {
        let is_new = self.places.container(container).is_none() && !self.layout.touches(container);
        if matches!(container, Container::DiskDriver(_)) && is_new {
            self.layout.attribute(container.clone(), "name", "qemu");
            self.layout.attribute(container.clone(), "type", "raw");
        }
    }

    fn whole(&mut self, container: Container, target: &Target, value: &Value) -> Result<Vec<Was>, XmlError> {
        let Some(element) = self.places.element(target) else {
            let mut was = Vec::new();
            if *target == Target::Iothreads {
                was.extend(self.iothread_ids());
            }
            was.extend(self.insert(container, target, value)?);
            return Ok(was);
        };
        let Some(fragment) = self.fragment(target, value)? else {
            return Ok(vec![self.remove(&element)]);
        };
        if !same(
            target,
            self.places.read(target).as_deref(),
            show(value).as_deref(),
        ) {
            if *target == Target::Cells {
                return Err(element.error("the guest has NUMA cells already; virtfit never changes those"));
            }
            Layout::replace(self.places, &element, &fragment, &mut self.edits);
        }
        let mut was = vec![Was::Element {
            raw: element.raw().to_string(),
        }];
        if *target == Target::Iothreads {
            was.extend(self.iothread_ids());
        }
        Ok(was)
    }

    /// Returns the ids that `<iothreadids>` lists, if there are any: libvirt adds the iothreads it
    /// fills in to such a list.
    fn iothread_ids(&self) -> Option<Was> {
        let ids: Vec<String> = nested(&self.places.root, &["iothreadids", "iothread"])
            .filter_map(|thread| thread.attr("id").map(|id| id.trim().to_string()))
            .collect();
        (!ids.is_empty()).then(|| Was::IothreadIds { ids: ids.join(",") })
    }

    fn cpu_mode(&mut self, target: &Target, value: &Value) -> Result<Vec<Was>, XmlError> {
        let (mode, check) = match value {
            Value::CpuMode("host-passthrough") => ("host-passthrough", "none"),
            Value::CpuMode("host-model") => ("host-model", "partial"),
            _ => return Err(self.mismatch(target)),
        };
        let Some(cpu) = self.places.container(&Container::Cpu) else {
            self.layout.attribute(Container::Cpu, "mode", mode);
            self.layout.attribute(Container::Cpu, "check", check);
            return Ok(Vec::new());
        };
        if cpu.attr("mode").as_deref() == Some(mode) {
            return Ok(vec![self.set(&cpu, "mode", target, mode)]);
        }
        let mut was = vec![
            self.set(&cpu, "mode", target, mode),
            self.set(&cpu, "check", target, check),
        ];
        was.extend(self.unset(&cpu, "match"));
        if mode != "host-passthrough" {
            was.extend(self.unset(&cpu, "migratable"));
        } else if cpu.attr("mode").as_deref() != Some("maximum")
            && let Some(range) = cpu.attr_value_span("migratable")
        {
            // `migratable` is not legal with this mode, so libvirt has not written it. It is
            // recorded, so that a revert does not take it for a consequence of the mode that
            // virtfit wrote.
            was.push(Was::Attribute {
                name: "migratable".into(),
                raw: self.places.text[range].into(),
            });
        }
        for child in cpu.children() {
            if matches!(child.name(), "model" | "vendor") {
                was.push(self.remove(&child));
            }
        }
        Ok(was)
    }

    fn insert(&mut self, container: Container, target: &Target, value: &Value) -> Result<Vec<Was>, XmlError> {
        // A clock is made as libvirt has it where there is none.
        if *target == Target::HypervClock && self.places.container(&Container::Clock).is_none() {
            self.layout.attribute(Container::Clock, "offset", "utc");
        }
        if *value != Value::Absent {
            self.disk_driver(&container);
        }
        if let Some(fragment) = self.fragment(target, value)?
            && let Form::Keyed(_, name, _) | Form::Whole(_, name) = form(target)
        {
            self.layout.child(container, name, number(target), fragment);
        }
        Ok(Vec::new())
    }

    fn set(&mut self, element: &Element<'d>, name: &str, target: &Target, text: &str) -> Was {
        let raw = element
            .attr_value_span(name)
            .map(|range| &self.places.text[range]);
        let was = match raw {
            Some(raw) => Was::Attribute {
                name: name.into(),
                raw: raw.into(),
            },
            None => Was::NoAttribute { name: name.into() },
        };
        let unchanged = raw.is_some()
            && match target {
                Target::CpuMode => element.attr(name).as_deref() == Some(text),
                _ => same(target, self.places.read(target).as_deref(), Some(text)),
            };
        if !unchanged {
            self.edits.set_attribute(element, name, &escape_value(text));
        }
        was
    }

    fn unset(&mut self, element: &Element<'d>, name: &str) -> Option<Was> {
        let span = element.attr_span(name)?;
        let number = element.raw_attrs().position(|(other, _)| other == name)?;
        self.edits.remove_attribute(element, name);
        Some(Was::GoneAttribute {
            name: name.into(),
            raw: self.places.text[span].into(),
            number,
        })
    }

    fn remove(&mut self, element: &Element<'d>) -> Was {
        let range = with_space(self.places.text, element);
        let (number, end) = self.before(element).unwrap_or((0, range.start));
        let parent = element.parent();
        let parent_number = parent.map_or(0, |parent| self.places.container_number(&parent));
        self.edits.remove(element);
        Was::GoneElement {
            raw: self.places.text[range.clone()].into(),
            position: Position {
                parent: parent_number,
                number,
                gap: range.start - end,
            },
        }
    }

    /// Returns the number of elements before this one in its container, and the end of the last of
    /// them (or of the container's start tag). The children of a container are counted once, for
    /// all elements that are removed from it.
    fn before(&mut self, element: &Element<'d>) -> Option<(usize, usize)> {
        let parent = element.parent()?;
        if self.counted.insert(parent.id()) {
            let mut end = parent.start_tag_span().end;
            for (number, child) in parent.children().enumerate() {
                self.standing.insert(child.id(), (number, end));
                end = child.span().end;
            }
        }
        self.standing.get(&element.id()).copied()
    }

    /// Returns the element that holds a value; `None` for [`Value::Absent`].
    fn fragment(&self, target: &Target, value: &Value) -> Result<Option<Fragment>, XmlError> {
        // Each target has one form of element; a value of another kind is an error of the caller.
        let element = match (form(target), value) {
            (_, Value::Absent) => return Ok(None),
            (Form::Keyed(_, name, attribute), Value::Cpus(_) | Value::Text(_)) => {
                let text = show(value).unwrap_or_default();
                match (target, target::key(target)) {
                    (Target::Hyperv(one), _) => {
                        let element = Fragment::new(name).attr(attribute, &text);
                        match one {
                            Enlightenment::Spinlocks => element.attr("retries", SPINLOCK_RETRIES),
                            Enlightenment::Stimer => {
                                element.child(Fragment::new("direct").attr("state", text))
                            }
                            _ => element,
                        }
                    }
                    (Target::CpuFeature(feature), _) => {
                        Fragment::new(name).attr(attribute, text).attr("name", feature)
                    }
                    (_, Some((key, id))) => Fragment::new(name).attr(key, id).attr(attribute, text),
                    (_, None) => Fragment::new(name).attr(attribute, text),
                }
            }
            (Form::Whole(_, name), value) => match (target, value) {
                (Target::Iothreads | Target::ExpanderNode(_), Value::Number(number)) => {
                    Fragment::new(name).text(number)
                }
                (Target::NumaMemory, Value::Numa { mode, nodes }) => {
                    Fragment::new(name).attr("mode", mode).attr("nodeset", nodes)
                }
                (Target::MemNode(cell), Value::Numa { mode, nodes }) => Fragment::new(name)
                    .attr("cellid", cell)
                    .attr("mode", mode)
                    .attr("nodeset", nodes),
                (Target::Hugepages, Value::PageSize(size)) => {
                    Fragment::new(name).child(Fragment::new("page").attr("size", size.0).attr("unit", "KiB"))
                }
                (Target::Locked | Target::NoSharePages, Value::Present) => Fragment::new(name),
                (Target::Topology, Value::Topology(topology)) => Fragment::new(name)
                    .attr("sockets", topology.sockets)
                    .attr("dies", topology.dies)
                    .attr("cores", topology.cores)
                    .attr("threads", topology.threads),
                (Target::Cells, Value::Cells(cells, distances)) => {
                    let mut numa = Fragment::new(name);
                    for (id, (vcpus, memory)) in cells.iter().enumerate() {
                        let mut cell = Fragment::new("cell").attr("id", id);
                        if !vcpus.is_empty() {
                            cell = cell.attr("cpus", vcpus);
                        }
                        cell = cell.attr("memory", memory.0).attr("unit", "KiB");
                        if let Some(row) = distances.get(id) {
                            let sibling = |(id, far): (usize, &u32)| {
                                Fragment::new("sibling").attr("id", id).attr("value", far)
                            };
                            let siblings = row.iter().enumerate().map(sibling);
                            cell = cell.child(siblings.fold(Fragment::new("distances"), Fragment::child));
                        }
                        numa = numa.child(cell);
                    }
                    numa
                }
                (Target::CpuCache, Value::Cache { mode, level }) => {
                    let cache = Fragment::new(name);
                    match level {
                        Some(level) => cache.attr("level", level).attr("mode", mode),
                        None => cache.attr("mode", mode),
                    }
                }
                (Target::DiskIothreads(_), Value::Iothreads(ids)) => {
                    let thread = |id| Fragment::new("iothread").attr("id", id);
                    ids.iter().map(thread).fold(Fragment::new(name), Fragment::child)
                }
                (Target::Memballoon, Value::Text(model)) => Fragment::new(name).attr("model", model),
                _ => return Err(self.mismatch(target)),
            },
            (
                Form::Sched,
                Value::Sched {
                    vcpus,
                    scheduler,
                    priority,
                },
            ) => Fragment::new("vcpusched")
                .attr("vcpus", vcpus)
                .attr("scheduler", scheduler)
                .attr("priority", priority),
            _ => return Err(self.mismatch(target)),
        };
        Ok(Some(element))
    }

    fn mismatch(&self, target: &Target) -> XmlError {
        let path = target::path(target);
        self.places
            .root
            .error(format!("a setting for {path} with a value of another kind"))
    }
}

/// Names the device or element whose attribute a setting is for.
fn subject(target: &Target) -> String {
    match target {
        Target::Disk(disk, _) => format!("disk with target '{disk}'"),
        Target::ScsiIothread(index) => format!("SCSI controller {index}"),
        Target::NetQueues(mac) => format!("interface with MAC address {mac}"),
        _ => "<vcpu>".into(),
    }
}
