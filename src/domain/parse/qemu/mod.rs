//! Reader of `<qemu:commandline>` and `<qemu:override>`: the options of QEMU that rule what virtfit
//! would set.
//!
//! Options are read as QEMU reads them: `-smp` and `--smp` are one, a comma is written twice within
//! a value, `-object` and `-device` may be JSON.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::domain::qemu::Ruled;
use crate::domain::{Domain, Passthrough, Topology};
use crate::types::cpulist;
use crate::types::idset::VcpuSet;
use crate::xml::Element;

/// Namespace of the elements that libvirt passes on to QEMU.
const NAMESPACE: &str = "http://libvirt.org/schemas/domain/qemu/1.0";

/// Keys and values of one option: `16,sockets=2` is `[("cpus", "16"), ("sockets", "2")]`.
type Pairs = Vec<(String, String)>;

/// Reads both elements. `domain` has its vCPUs, CPU and cells already.
pub(super) fn read(root: &Element<'_>, domain: &mut Domain) {
    let mut backends = Backends::default();
    let own = root
        .children_with_namespaces()
        .filter(|(_, namespace)| namespace.as_deref() == Some(NAMESPACE));
    for (element, _) in own {
        match element.local_name() {
            "commandline" => {
                let args: Vec<String> = element
                    .children()
                    .filter(|child| child.local_name() == "arg")
                    .map(|child| child.attr("value").unwrap_or_default().into_owned())
                    .collect();
                command_line(&args, domain, &mut backends);
            }
            "override" => overrides(&element, domain),
            _ => {}
        }
    }
    // A backend that only a shared-memory device uses is no memory of the guest.
    let is_guests = |id: &String| backends.used.contains(id) || !backends.shared.contains(id);
    if backends.made.iter().any(is_guests) {
        domain.qemu.ruled.entry(Ruled::Memory).or_insert("-object");
    }
}

/// Memory backends by id: those that are made, those guest memory uses, and those that devices like
/// `ivshmem` use.
#[derive(Default)]
struct Backends {
    made: BTreeSet<String>,
    used: BTreeSet<String>,
    shared: BTreeSet<String>,
}

fn command_line(args: &[String], domain: &mut Domain, backends: &mut Backends) {
    let mut args = args.iter();
    while let Some(word) = args.next() {
        let Some(option) = word.strip_prefix("--").or_else(|| word.strip_prefix('-')) else {
            continue;
        };
        let Some((name, implied)) = OPTIONS
            .iter()
            .find(|(name, _)| name.trim_start_matches('-') == option)
        else {
            continue;
        };
        let value = args.next().map(String::as_str).unwrap_or_default();
        apply(name, &pairs(value, implied), domain, backends);
    }
}

/// Options that can rule something, each with the key of a first value without one.
const OPTIONS: &[(&str, &str)] = &[
    ("-smp", "cpus"),
    ("-cpu", "model"),
    ("-numa", "type"),
    ("-m", "size"),
    ("-mem-path", "path"),
    ("-machine", "type"),
    ("-M", "type"),
    ("-object", "qom-type"),
    ("-device", "driver"),
    ("-global", "driver"),
    ("-set", "what"),
    ("-overcommit", ""),
    ("-realtime", ""),
    ("-readconfig", "file"),
];

fn apply(option: &'static str, pairs: &Pairs, domain: &mut Domain, backends: &mut Backends) {
    let get = |key: &str| last(pairs, key);
    let has = |key: &str| get(key).is_some();
    match option {
        "-smp" => smp(
            option,
            pairs.iter().map(|(key, value)| (key.as_str(), value.as_str())),
            domain,
        ),
        "-cpu" => rule(domain, Ruled::CpuModel, option),
        "-numa" => {
            rule(domain, Ruled::Cells, option);
            if has("mem") || has("memdev") {
                rule(domain, Ruled::Memory, option);
            }
            backends.used.extend(get("memdev").map(str::to_string));
            if get("type") == Some("node") {
                domain.qemu.cells.push(members(pairs));
            }
        }
        "-m" if has("size") => rule(domain, Ruled::Memory, option),
        "-mem-path" => rule(domain, Ruled::Memory, option),
        "-machine" | "-M" => machine(option, pairs, domain, backends),
        "-object" if get("qom-type").is_some_and(|kind| kind.starts_with("memory-backend-")) => {
            backends.made.extend(get("id").map(str::to_string));
        }
        "-device" => device(pairs, domain, backends),
        "-global" => global(option, pairs, domain),
        "-set" => set(option, pairs, domain),
        "-overcommit" if has("mem-lock") => rule(domain, Ruled::Locked, option),
        "-realtime" if has("mlock") => rule(domain, Ruled::Locked, option),
        // A file of options may have any of these.
        "-readconfig" => {
            for part in [Ruled::Topology, Ruled::Cells, Ruled::Memory] {
                rule(domain, part, option);
            }
            domain.qemu.topology = None;
        }
        _ => {}
    }
}

fn rule(domain: &mut Domain, part: Ruled, option: &'static str) {
    domain.qemu.ruled.insert(part, option);
}

/// Reads a topology over what libvirt passes on: QEMU merges all `-smp`.
fn smp<'p>(option: &'static str, pairs: impl Iterator<Item = (&'p str, &'p str)>, domain: &mut Domain) {
    let flat = Topology::of_sockets(domain.vcpus);
    // An option before this one that could not be read leaves the topology unknown.
    let unread = domain.qemu.rules(&Ruled::Topology).is_some() && domain.qemu.topology.is_none();
    let mut topology = domain.shown_topology().unwrap_or(flat);
    rule(domain, Ruled::Topology, option);
    for (key, value) in pairs {
        let level = match key {
            "sockets" => &mut topology.sockets,
            "dies" => &mut topology.dies,
            "clusters" => &mut topology.clusters,
            "cores" => &mut topology.cores,
            "threads" => &mut topology.threads,
            _ => continue,
        };
        match value.parse() {
            Ok(count) if count > 0 => *level = count,
            _ => {
                domain.qemu.topology = None;
                return;
            }
        }
    }
    domain.qemu.topology = Some(topology).filter(|_| !unread);
}

fn machine(option: &'static str, pairs: &Pairs, domain: &mut Domain, backends: &mut Backends) {
    let levels = || {
        pairs
            .iter()
            .filter_map(|(key, value)| Some((key.strip_prefix("smp.")?, value.as_str())))
    };
    if levels().next().is_some() {
        smp(option, levels(), domain);
    }
    for (key, value) in pairs {
        match key.as_str() {
            "memory-backend" => {
                backends.used.insert(value.clone());
                rule(domain, Ruled::Memory, option);
            }
            "memory.size" => rule(domain, Ruled::Memory, option),
            "mem-merge" => rule(domain, Ruled::Merging, option),
            _ => {}
        }
    }
}

/// Returns the value of a key; of several, QEMU takes the last.
fn last<'p>(pairs: &'p Pairs, key: &str) -> Option<&'p str> {
    let found = pairs.iter().rfind(|(name, _)| name == key);
    found.map(|(_, value)| value.as_str())
}

/// Notes the memory a device uses, and a device that is passed through.
fn device(pairs: &Pairs, domain: &mut Domain, backends: &mut Backends) {
    let get = |key: &str| last(pairs, key);
    let driver = get("driver").unwrap_or_default();
    if let Some(id) = get("memdev") {
        let users = match driver.starts_with("ivshmem") {
            true => &mut backends.shared,
            false => &mut backends.used,
        };
        users.insert(id.to_string());
    }
    if driver.starts_with("vfio-pci")
        && let Some(address) = get("host").and_then(pci)
    {
        domain.passthrough.push(Passthrough::Pci(address));
    }
    // The process behind such a device maps the guest's memory.
    domain.vhost_user |= driver.starts_with("vfio-user") || driver.starts_with("vhost-user");
}

/// Reads an address as QEMU writes it, with or without the PCI domain: `3b:00.0`.
fn pci(text: &str) -> Option<String> {
    let (rest, function) = text.rsplit_once('.')?;
    let mut parts = rest.rsplit(':');
    let (slot, bus) = (parts.next()?, parts.next()?);
    let hex = |text: &str| u32::from_str_radix(text, 16).ok();
    let segment = parts.next().map_or(Some(0), hex)?;
    let (bus, slot, function) = (hex(bus)?, hex(slot)?, hex(function)?);
    let is_one = bus <= 0xff && slot <= 0x1f && function <= 7 && parts.next().is_none();
    is_one.then(|| format!("{segment:04x}:{bus:02x}:{slot:02x}.{function:x}"))
}

/// Reads `driver.property=value`, or the form with three keys.
fn global(option: &'static str, pairs: &Pairs, domain: &mut Domain) {
    let get = |key: &str| {
        pairs
            .iter()
            .find(|(name, _)| name == key)
            .map(|(_, value)| value.as_str())
    };
    let (driver, property) = match (get("driver"), get("property")) {
        (Some(driver), Some(property)) => (driver, property),
        _ => match pairs.first().and_then(|(key, _)| key.split_once('.')) {
            Some(both) => both,
            None => return,
        },
    };
    if driver == "cpu" || driver.ends_with("-cpu") {
        rule(domain, Ruled::CpuFeature(property.to_string()), option);
    } else if driver.starts_with("memory-backend") {
        rule(domain, Ruled::Memory, option);
    } else {
        rule(domain, Ruled::Driver(driver.into(), property.into()), option);
    }
}

/// Reads `group.id.key=value`.
fn set(option: &'static str, pairs: &Pairs, domain: &mut Domain) {
    let Some((what, _)) = pairs.first() else { return };
    let mut parts = what.splitn(3, '.');
    if let (Some(group), Some(id), Some(key)) = (parts.next(), parts.next(), parts.next()) {
        match group {
            "device" => rule(domain, Ruled::Device(id.into(), key.into()), option),
            "drive" => {
                let id = id.strip_prefix("drive-").unwrap_or(id);
                rule(domain, Ruled::Device(id.into(), key.into()), option);
            }
            "numa" => rule(domain, Ruled::Cells, option),
            "memory" | "object" => rule(domain, Ruled::Memory, option),
            _ => {}
        }
    }
}

/// Reads the properties of devices in `<qemu:override>`.
fn overrides(element: &Element<'_>, domain: &mut Domain) {
    let named = |name: &'static str| move |child: &Element<'_>| child.local_name() == name;
    for device in element.children().filter(named("device")) {
        let alias = device.attr("alias").unwrap_or_default();
        let frontends = device.children().filter(named("frontend"));
        for property in frontends.flat_map(|frontend| frontend.children().collect::<Vec<_>>()) {
            if let Some(name) = property
                .attr("name")
                .filter(|_| property.local_name() == "property")
            {
                rule(
                    domain,
                    Ruled::Device(alias.to_string(), name.into_owned()),
                    "qemu:override",
                );
            }
        }
    }
}

/// Returns the vCPUs of a `-numa node`, which may name several ranges.
fn members(pairs: &Pairs) -> VcpuSet {
    let mut vcpus = VcpuSet::new();
    for (_, value) in pairs.iter().filter(|(key, _)| key == "cpus") {
        if let Ok(some) = cpulist::parse_plain(value) {
            vcpus.extend_from(&some);
        }
    }
    vcpus
}

/// Splits the value of an option into keys and values. A word without `=` is the value of `implied`
/// at the beginning, and otherwise a key that is on.
fn pairs(text: &str, implied: &str) -> Pairs {
    if text.trim_start().starts_with('{') {
        return json(text);
    }
    let mut words = vec![String::new()];
    let mut letters = text.chars().peekable();
    while let Some(letter) = letters.next() {
        match letter {
            ',' if letters.next_if_eq(&',').is_none() => words.push(String::new()),
            letter => {
                if let Some(word) = words.last_mut() {
                    word.push(letter);
                }
            }
        }
    }
    let pair = |(index, word): (usize, String)| match word.split_once('=') {
        Some((key, value)) => (key.to_string(), value.to_string()),
        None if index == 0 && !implied.is_empty() => (implied.to_string(), word),
        None => (word, "on".to_string()),
    };
    words.into_iter().enumerate().map(pair).collect()
}

/// Reads an option in JSON: its values that are no objects.
fn json(text: &str) -> Pairs {
    let Ok(Value::Object(object)) = serde_json::from_str(text) else {
        return Pairs::new();
    };
    let pair = |(key, value): (String, Value)| match value {
        Value::String(value) => Some((key, value)),
        Value::Object(_) | Value::Array(_) | Value::Null => None,
        other => Some((key, other.to_string())),
    };
    object.into_iter().filter_map(pair).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
