//! Removal of virtfit's settings, also after libvirt or an administrator changed the text.

mod write_back;

use std::collections::{BTreeMap, BTreeSet, HashSet};

use crate::domain::parse::nested;
use crate::rewrite::address::without_taken_address;
use crate::rewrite::edits::{Edits, value_in};
use crate::rewrite::layout::Layout;
use crate::rewrite::needs;
use crate::rewrite::order::Container;
use crate::rewrite::places;
use crate::rewrite::places::Places;
use crate::rewrite::provenance;
use crate::rewrite::provenance::Record;
use crate::rewrite::target::{Form, Holder, form};
use crate::rewrite::value::{same, show};
use crate::rewrite::{Owned, Position, Was};
use crate::types::setting::{Target, Value};
use crate::xml::{Document, Element, ElementId, XmlError};

/// Domain without virtfit's settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reverted {
    /// Domain's XML.
    pub xml: String,
    /// Settings that stay, with the reason: their value was changed by hand since, or such a change
    /// needs them.
    pub left: Vec<(Target, String)>,
    /// Settings of `left` that were taken out by hand.
    pub gone: Vec<Target>,
}

/// Removes what virtfit wrote and restores what was there. A text without provenance is returned as
/// it is.
///
/// # Errors
/// The root is not `<domain>`, or the provenance cannot be read.
pub fn revert(document: &Document<'_>) -> Result<Reverted, XmlError> {
    revert_but(document, |_| false)
}

/// Reverts like [`revert`], but leaves the settings for which `stays` returns true as they are.
///
/// # Errors
/// The errors of [`revert`].
pub fn revert_but(document: &Document<'_>, stays: impl Fn(&Target) -> bool) -> Result<Reverted, XmlError> {
    let Some(record) = provenance::read(&places::domain(document)?)? else {
        return Ok(Reverted {
            xml: document.text().to_string(),
            left: Vec::new(),
            gone: Vec::new(),
        });
    };
    let places = Places::new(document)?;
    // A revert may leave a domain that libvirt refuses, because something written since needs a
    // setting. Such settings stay, and the revert is repeated until nothing is missing.
    let stored = is_stored(&places, &record);
    let owned: BTreeSet<&Target> = record
        .provenance
        .owned
        .iter()
        .map(|owned| &owned.target)
        .collect();
    let mut held: BTreeSet<Target> = BTreeSet::new();
    loop {
        let mut reverted = undo(&places, &record, |target| stays(target) || held.contains(target));
        // A text that is still as virtfit wrote it goes back to the original bytes, even to a
        // domain that libvirt would refuse.
        let touched = stored || !reverted.left.is_empty();
        let more = match touched.then(|| Document::parse(&reverted.xml)) {
            Some(Ok(text)) => needs::missing(&text.root()),
            _ => BTreeSet::new(),
        };
        let left: BTreeSet<&Target> = reverted.left.iter().map(|(target, _)| target).collect();
        let ours = |target: &Target| owned.contains(target) && !left.contains(target);
        let more: Vec<Target> = more
            .into_iter()
            .filter(|target| ours(target) && !stays(target) && !held.contains(target))
            .collect();
        if more.is_empty() {
            let why = "what was set by hand since needs it";
            reverted
                .left
                .extend(held.into_iter().map(|target| (target, why.into())));
            return Ok(reverted);
        }
        held.extend(more);
    }
}

/// Removes all settings for which `stays` returns false.
fn undo(places: &Places<'_>, record: &Record<'_>, stays: impl Fn(&Target) -> bool) -> Reverted {
    let mut undo = Undo {
        places,
        stored: is_stored(places, record),
        edits: Edits::new(places.text),
        layout: Layout::default(),
        ours: HashSet::new(),
        back: BTreeMap::new(),
        attributes_back: BTreeMap::new(),
    };
    let mut left = Vec::new();
    let mut gone = Vec::new();
    let owned = record.provenance.owned.iter();
    for owned in owned.filter(|owned| !stays(&owned.target)) {
        let found = places.read(&owned.target);
        let wrote = show(&owned.wrote);
        if same(&owned.target, found.as_deref(), wrote.as_deref()) {
            undo.setting(owned);
        } else {
            if found.is_none() {
                gone.push(owned.target.clone());
            }
            left.push((owned.target.clone(), why(found, wrote)));
        }
    }
    let xml = undo.finish(record);
    Reverted { xml, left, gone }
}

fn why(found: Option<String>, wrote: Option<String>) -> String {
    match (found, wrote) {
        (None, _) => "taken out by hand since".into(),
        (Some(found), None) => format!("added by hand since: {found}"),
        (Some(found), Some(wrote)) => format!("changed by hand since: {found} where virtfit wrote {wrote}"),
    }
}

/// Element to put back: its former position, name and bytes.
type Gone = (Position, &'static str, String);

struct Undo<'p, 'd> {
    places: &'p Places<'d>,
    /// True if libvirt has stored the text since virtfit wrote it: libvirt writes namespaced
    /// attributes in double quotes.
    stored: bool,
    edits: Edits<'d>,
    layout: Layout,
    /// Elements of the document that virtfit wrote.
    ours: HashSet<ElementId>,
    /// Elements to put back, by container.
    back: BTreeMap<(Container, usize), Vec<Gone>>,
    /// Attributes to put back, by element.
    attributes_back: BTreeMap<ElementId, Vec<(usize, String)>>,
}

impl<'d> Undo<'_, 'd> {
    fn setting(&mut self, owned: &Owned) {
        let target = &owned.target;
        match form(target) {
            Form::Attribute(holder, name) => {
                let element = self.places.holder(&holder);
                for was in &owned.was {
                    match &element {
                        Some(element) => self.attribute(element, was),
                        None => self.make(&holder, name, was),
                    }
                }
            }
            Form::Keyed(container, name, _) | Form::Whole(container, name) => {
                self.element(owned, &container, name);
            }
            Form::CpuMode => self.cpu_mode(owned),
            Form::Sched => {
                if owned.wrote != Value::Absent {
                    for sched in self.places.scheds() {
                        self.take(&sched);
                    }
                }
                self.put_back(&owned.was, &Container::Cputune, "vcpusched");
            }
        }
    }

    fn element(&mut self, owned: &Owned, container: &Container, name: &'static str) {
        let element = self.places.element(&owned.target);
        let mut keeps = false;
        for was in &owned.was {
            match (was, &element) {
                (Was::Element { raw }, Some(element)) => {
                    let raw = match owned.target {
                        Target::Memballoon if self.stored => without_taken_address(&self.places.root, raw),
                        _ => raw.clone(),
                    };
                    self.edits.replace(element.span(), raw);
                    keeps = true;
                }
                (
                    Was::Attribute { .. } | Was::NoAttribute { .. } | Was::GoneAttribute { .. },
                    Some(element),
                ) => {
                    self.attribute(element, was);
                    keeps = true;
                }
                (Was::IothreadIds { ids }, _) => self.iothread_ids(ids),
                _ => {}
            }
        }
        if let Some(element) = element.filter(|_| !keeps && owned.wrote != Value::Absent) {
            self.take(&element);
        }
        self.put_back(&owned.was, container, name);
    }

    fn attribute(&mut self, element: &Element<'d>, was: &Was) {
        match was {
            Was::NoAttribute { name } => self.edits.remove_attribute(element, name),
            Was::Attribute { name, raw } => self.edits.set_attribute(element, name, raw),
            Was::GoneAttribute { name, raw, number } => {
                if element.attr(name).is_some() {
                    self.edits.set_attribute(element, name, value_in(raw));
                } else {
                    let back = self.attributes_back.entry(element.id()).or_default();
                    back.push((*number, raw.clone()));
                }
            }
            _ => {}
        }
    }

    /// Puts an attribute back whose element libvirt dropped because it had no content left.
    fn make(&mut self, holder: &Holder, name: &'static str, was: &Was) {
        let raw = match was {
            Was::Attribute { raw, .. } => raw.as_str(),
            Was::GoneAttribute { raw, .. } => value_in(raw),
            _ => return,
        };
        if let Holder::Driver(container) = holder {
            let value = quick_xml::escape::unescape(raw).unwrap_or(raw.into());
            self.layout.attribute(container.clone(), name, &value);
        }
    }

    /// Restores the CPU mode. Attributes that are not recorded were absent and are removed.
    /// `migratable` is legal with pass-through modes only, where libvirt writes it out, so it is
    /// removed with the mode.
    fn cpu_mode(&mut self, owned: &Owned) {
        let Some(cpu) = self.places.container(&Container::Cpu) else {
            return;
        };
        let old = owned.was.iter().find_map(|was| match was {
            Was::Attribute { name, raw } if name == "mode" => Some(raw.as_str()),
            _ => None,
        });
        if old == show(&owned.wrote).as_deref() {
            return;
        }
        for name in ["mode", "match", "check", "migratable"] {
            let was = owned.was.iter().find(|was| match was {
                Was::NoAttribute { name: other }
                | Was::Attribute { name: other, .. }
                | Was::GoneAttribute { name: other, .. } => other == name,
                _ => false,
            });
            match was {
                Some(was) => self.attribute(&cpu, was),
                None if name == "migratable" && matches!(old, Some("host-passthrough" | "maximum")) => {}
                None => self.edits.remove_attribute(&cpu, name),
            }
        }
        for child in cpu.children() {
            if matches!(child.name(), "model" | "vendor") {
                self.take(&child);
            }
        }
        self.put_back(&owned.was, &Container::Cpu, "model");
    }

    /// Removes ids that were not listed: libvirt filled them in for the count that virtfit wrote.
    fn iothread_ids(&mut self, ids: &str) {
        let listed: HashSet<&str> = ids.split(',').collect();
        for thread in nested(&self.places.root, &["iothreadids", "iothread"]) {
            let id = thread.attr("id").unwrap_or_default();
            let bare = thread.raw_attrs().count() == 1 && thread.children().next().is_none();
            if bare && !listed.contains(id.trim()) {
                self.take(&thread);
            }
        }
    }

    fn take(&mut self, element: &Element<'d>) {
        self.ours.insert(element.id());
        self.edits.remove(element);
    }

    fn put_back(&mut self, was: &[Was], container: &Container, name: &'static str) {
        for was in was {
            if let Was::GoneElement { raw, position } = was {
                let key = (container.clone(), position.parent);
                let back = self.back.entry(key).or_default();
                back.push((*position, name, raw.clone()));
            }
        }
    }
}

fn is_stored(places: &Places<'_>, record: &Record<'_>) -> bool {
    record
        .element
        .attr_span("version")
        .is_some_and(|span| places.text[span].ends_with('"'))
}
