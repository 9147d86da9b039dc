//! Reader of domain XML into [`Domain`]: the parts that virtfit uses, as libvirt's own parser
//! (`virDomainDefParseXML`) reads them.
//!
//! The reader is lenient where libvirt is (unknown elements, repeated containers, missing values
//! with a default), and strict where libvirt is and virtfit's decision depends on the value.
//! Elements are followed by direct path and never inside another namespace, so a look-alike in
//! `<metadata>` or `qemu:commandline` is not mistaken for the real element.

mod cpu;
mod devices;
mod metadata;
mod qemu;
mod scalar;
mod tuning;

use crate::domain::Domain;
use crate::panics;
use crate::types::cpulist::MAX_ID;
use crate::types::ids::{IothreadId, KiB, VcpuId};
use crate::types::idset::VcpuSet;
use crate::types::uuid;
use crate::xml::{Document, Element, XmlError};

pub(crate) use cpu::{cells as cells_of, topology as topology_of};
pub(crate) use devices::{mac_of, scsi_indices};
pub(crate) use scalar::{MAX_MEMORY_KIB, amount, c_number_attr, short};

/// Limit of a guest's NUMA cells; QEMU knows 128 (`MAX_NODES`).
pub(crate) const MAX_CELLS: usize = 512;
/// Limit of a guest's `<memory>` devices; QEMU has 256 slots (`ACPI_MAX_RAM_SLOTS`).
const MAX_MEMORY_DEVICES: usize = 1024;
/// Limit of a guest's `<page>` elements: more than one for each cell.
const MAX_PAGES: usize = 1024;

/// Namespace of the `<request>` element by which a guest asks for a profile.
pub(crate) const REQUEST_NAMESPACE: &str = "https://virtfit.dev/ns/request/1";

/// Reads a domain from a text.
///
/// # Errors
/// The text is not XML, or [`parse`] fails.
pub fn from_text(text: &str) -> Result<Domain, XmlError> {
    panics::guarded(|| parse(&Document::parse(text)?))?
}

/// Reads a domain from a document.
///
/// # Errors
/// The root element is not `<domain>`, or [`parse_element`] fails.
pub fn parse(document: &Document<'_>) -> Result<Domain, XmlError> {
    parse_element(document.root())
}

/// Reads a domain from its `<domain>` element, which may stand inside a status file.
///
/// # Errors
/// The element is another one, or a value is missing, malformed, out of range or repeated where
/// libvirt refuses that. The error points at the wrong element.
fn parse_element(root: Element<'_>) -> Result<Domain, XmlError> {
    if root.name() != "domain" {
        return Err(root.error(format!("this is <{}>, not a domain", root.name())));
    }
    if !is_plain(&root) {
        return Err(root.error("this <domain> is in a namespace of its own; libvirt's is in none"));
    }
    let mut domain = Domain {
        name: name(&root)?,
        uuid: uuid(&root)?,
        title: text_of(&root, "title"),
        kind: root.attr("type").unwrap_or_default().into_owned(),
        running: root.attr("id").is_some(),
        ..Domain::default()
    };
    if let Some(kind) = plain_child(&root, "os").and_then(|os| plain_child(&os, "type")) {
        domain.arch = kind.attr("arch").unwrap_or_default().into_owned();
        domain.machine = kind.attr("machine").unwrap_or_default().into_owned();
    }
    let mut emulators = nested(&root, &["devices", "emulator"]);
    domain.emulator = emulators
        .next()
        .map(|emulator| emulator.text().trim().to_string())
        .unwrap_or_default();
    domain.launch_security = plain_child(&root, "launchSecurity").is_some();
    vcpu(&root, &mut domain)?;
    metadata::read(&root, &mut domain);
    tuning::iothreads(&root, &mut domain)?;
    tuning::cputune(&root, &mut domain)?;
    tuning::memory_backing(&root, &mut domain)?;
    cpu::cpu(&root, &mut domain)?;
    memory(&root, &mut domain)?;
    tuning::numatune(&root, &mut domain)?;
    cpu::features(&root, &mut domain)?;
    devices::read(&root, &mut domain)?;
    qemu::read(&root, &mut domain);
    panics::fault_point("parse", &domain.name);
    Ok(domain)
}

/// Reads the ids of all iothreads that a `<domain>` has.
///
/// # Errors
/// The count or an id is a number that libvirt does not accept.
pub(crate) fn iothread_ids(root: &Element<'_>) -> Result<Vec<IothreadId>, XmlError> {
    let mut domain = Domain::default();
    tuning::iothreads(root, &mut domain)?;
    Ok(domain.iothread_ids)
}

fn name(root: &Element<'_>) -> Result<String, XmlError> {
    let mut names = plain_children(root, "name");
    let first = names
        .next()
        .ok_or_else(|| root.error("the domain has no <name>"))?;
    if let Some(second) = names.next() {
        return Err(second.error("a second <name>"));
    }
    let name = first.text();
    if name.is_empty() {
        return Err(first.error("<name> is empty"));
    }
    Ok(name)
}

/// Returns the UUID of a domain, of which nothing else need be valid; `None` where there is none.
pub(crate) fn uuid_in(document: &Document<'_>) -> Option<String> {
    uuid_of(&document.root())
}

/// Returns the UUID that a `<domain>` has, as [`uuid_in`] does.
pub(crate) fn uuid_of(domain: &Element<'_>) -> Option<String> {
    uuid(domain).ok().filter(|uuid| !uuid.is_empty())
}

/// Reads the UUID into lower case with dashes; libvirt also accepts 32 digits with dashes between
/// any two pairs.
fn uuid(root: &Element<'_>) -> Result<String, XmlError> {
    let Some(element) = plain_child(root, "uuid") else {
        return Ok(String::new());
    };
    let text = element.text();
    let digits: String = text.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    if digits.bytes().all(|byte| byte == b'-') {
        return Ok(String::new());
    }
    uuid::normal(&digits)
        .ok_or_else(|| element.error(format!("<uuid> is '{}', not a UUID", scalar::short(&text))))
}

fn vcpu(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let mut elements = plain_children(root, "vcpu");
    let Some(element) = elements.next() else {
        domain.vcpus = 1;
        return Ok(());
    };
    if let Some(second) = elements.next() {
        return Err(second.error("a second <vcpu>"));
    }
    domain.vcpus = scalar::number(&element, "<vcpu>", &element.text())?;
    if domain.vcpus == 0 {
        return Err(element.error("<vcpu> is 0: a guest has at least one"));
    }
    if domain.vcpus > MAX_ID + 1 {
        return Err(element.error(format!(
            "<vcpu> is {}: libvirt's masks end at {}",
            domain.vcpus,
            MAX_ID + 1
        )));
    }
    domain.vcpu_placement_auto = match element.attr("placement").as_deref() {
        None | Some("static") => false,
        Some("auto") => true,
        Some(other) => {
            return Err(element.error(format!(
                "placement= of <vcpu> is '{}', neither static nor auto",
                scalar::short(other)
            )));
        }
    };
    domain.empty_slots = empty_slots(root, &element, domain.vcpus)?;
    // With `placement='auto'` libvirt drops the cpuset without reading it.
    if let Some(list) = element.attr("cpuset").filter(|_| !domain.vcpu_placement_auto) {
        domain.vcpu_cpuset = Some(scalar::list(&element, "cpuset of <vcpu>", &list)?);
    }
    Ok(())
}

/// Reads the vCPUs that the guest starts without: `<vcpus>` lists each; otherwise the first
/// `current` ones are there (`virDomainVcpuParse`).
fn empty_slots(root: &Element<'_>, vcpu: &Element<'_>, most: u32) -> Result<VcpuSet, XmlError> {
    let all = VcpuSet::first_n(most);
    let Some(list) = root.child("vcpus") else {
        let current = match vcpu.attr("current") {
            Some(text) => scalar::number(vcpu, "current of <vcpu>", &text)?,
            None => most,
        };
        return Ok(match current {
            0 => VcpuSet::new(),
            current => all.difference(&VcpuSet::first_n(current.min(most))),
        });
    };
    let off = list
        .children_named("vcpu")
        .filter(|slot| slot.attr("enabled").as_deref() == Some("no"));
    let mut empty = VcpuSet::new();
    for slot in off {
        let id = slot.attr("id").unwrap_or_default();
        let id = VcpuId(scalar::number(&slot, "id of <vcpu>", &id)?);
        // Of what the guest does not have there is no slot, and a set is as large as its last id.
        if all.contains(id) {
            empty.insert(id);
        }
    }
    Ok(empty)
}

/// Reads memory and memory devices. The cells have to be read before: their sum replaces
/// `<memory>`.
fn memory(root: &Element<'_>, domain: &mut Domain) -> Result<(), XmlError> {
    let amount = |name: &'static str| -> Result<Option<KiB>, XmlError> {
        let Some(element) = plain_child(root, name) else {
            return Ok(None);
        };
        let unit = element.attr("unit");
        scalar::memory(&element, &format!("<{name}>"), &element.text(), unit.as_deref()).map(Some)
    };
    let memory = amount("memory")?;
    let max = amount("maxMemory")?;
    domain.memory_hotplug = max.is_some() || nested(root, &["devices", "memory"]).next().is_some();
    for element in nested(root, &["devices", "memory"]) {
        domain.memory_devices.extend(devices::memory_device(&element));
        if domain.memory_devices.len() > MAX_MEMORY_DEVICES {
            let problem = format!("more than {MAX_MEMORY_DEVICES} memory devices; QEMU has 256 slots");
            return Err(element.error(problem));
        }
    }
    domain.memory = if domain.has_cells() {
        KiB(domain
            .cells
            .iter()
            .fold(0u64, |sum, cell| sum.saturating_add(cell.memory.0)))
    } else {
        match memory {
            Some(amount) if amount.0 > 0 => amount,
            _ => return Err(root.error("the domain has no memory: neither <memory> nor guest NUMA cells")),
        }
    };
    Ok(())
}

/// Returns true if an element declares no default namespace of its own.
pub(crate) fn is_plain(element: &Element<'_>) -> bool {
    element.attr("xmlns").is_none_or(|uri| uri.is_empty())
}

/// Returns the child elements of this name that are libvirt's own.
pub(crate) fn plain_children<'d>(
    parent: &Element<'d>,
    name: &'static str,
) -> impl Iterator<Item = Element<'d>> + use<'d> {
    parent.children_named(name).filter(is_plain)
}

/// Returns the first child element of this name that is libvirt's own.
pub(crate) fn plain_child<'d>(parent: &Element<'d>, name: &'static str) -> Option<Element<'d>> {
    plain_children(parent, name).next()
}

/// Returns all elements on a path below `root`, through repeated containers, as libvirt's XPaths
/// find them.
pub(crate) fn nested<'d>(
    root: &Element<'d>,
    path: &[&'static str],
) -> Box<dyn Iterator<Item = Element<'d>> + 'd> {
    match path {
        [] => Box::new(std::iter::once(*root)),
        [name] => Box::new(plain_children(root, name)),
        [name, rest @ ..] => {
            let rest = rest.to_vec();
            Box::new(plain_children(root, name).flat_map(move |child| nested(&child, &rest)))
        }
    }
}

fn text_of(parent: &Element<'_>, name: &'static str) -> String {
    plain_child(parent, name)
        .map(|element| element.text())
        .unwrap_or_default()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
