//! Facts the ledger needs from one guest's XML, running or not.

use std::borrow::Cow;
use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use crate::domain::{self, Cell, Domain, NumaMemory};
use crate::ledger::MemoryUse;
use crate::panics;
use crate::policy::profile::OnNoFit;
use crate::rewrite::{self, Provenance};
use crate::types::ids::{KiB, NodeId};
use crate::types::idset::{CpuSet, NodeSet};
use crate::types::setting::{Target, Value};
use crate::xml::{Document, XmlError};

/// Facts of a guest and of its provenance.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestXml {
    /// Facts of the domain.
    pub domain: Domain,
    /// CPUs of single-CPU pins that virtfit wrote and that are unchanged since.
    pub wrote: CpuSet,
    /// `true` if virtfit set something in the XML.
    pub carries: bool,
    /// `true` if the provenance is of another guest, from which the XML was copied.
    pub copied: bool,
    /// Pins of virtfit's: single-CPU pins that are unchanged since, and floating ones.
    pub ours: BTreeSet<Target>,
    /// Threads that virtfit pinned to several CPUs: floating threads, and support threads on shared
    /// or housekeeping CPUs.
    pub floating: BTreeSet<Target>,
    /// `true` if virtfit wrote the huge pages, and they are unchanged since.
    pub own_pages: bool,
    /// CPUs that the provenance records as withheld; none where it is of another guest.
    pub withheld: CpuSet,
    /// `true` if the provenance says that the guest must not run without its placement.
    pub refuses: bool,
    /// Error in the provenance.
    pub unreadable: Option<XmlError>,
}

impl GuestXml {
    /// Reads the text of a `<domain>`. An unreadable provenance counts as none: the pins then count
    /// as an administrator's.
    ///
    /// # Errors
    /// The text is not XML, or not a domain.
    pub(crate) fn parse(text: &str) -> Result<Self, XmlError> {
        let read = GuestText::read(text.into())?;
        Ok(Arc::unwrap_or_clone(read.guest))
    }

    fn new(domain: Domain, provenance: &Result<Option<Provenance>, XmlError>) -> Self {
        let mut guest = Self {
            domain,
            ..Self::default()
        };
        let provenance = match provenance {
            Ok(Some(provenance)) => provenance,
            Ok(None) => return guest,
            Err(error) => {
                guest.unreadable = Some(error.clone());
                return guest;
            }
        };
        guest.carries = !provenance.owned.is_empty();
        for owned in &provenance.owned {
            guest.own_pages |= is_page_size(&guest.domain, &owned.wrote);
            let (Value::Cpus(wrote), Some(pin)) = (&owned.wrote, pin(&guest.domain, &owned.target)) else {
                continue;
            };
            if wrote.len() > 1 && pin.len() > 1 {
                guest.floating.insert(owned.target.clone());
                guest.ours.insert(owned.target.clone());
            } else if wrote.len() == 1 && wrote == pin {
                guest.wrote.extend_from(wrote);
                guest.ours.insert(owned.target.clone());
            }
        }
        guest.copied = !provenance.is_of(&guest.domain.uuid);
        if !guest.copied {
            guest.withheld = provenance.head.withheld.clone();
        }
        guest.refuses = provenance.head.on_no_fit == OnNoFit::Refuse;
        guest
    }
}

/// Guest's XML, read once for all its users.
#[derive(Debug)]
pub(crate) struct GuestText<'t> {
    /// Text, element by element.
    pub document: Document<'t>,
    /// Provenance, or the reason for which it cannot be read.
    pub provenance: Result<Option<Provenance>, XmlError>,
    /// Facts for the ledger.
    pub guest: Arc<GuestXml>,
}

impl<'t> GuestText<'t> {
    /// Reads the text of a `<domain>`, borrowed or owned.
    ///
    /// # Errors
    /// The errors of [`GuestXml::parse`].
    pub(crate) fn read(text: Cow<'t, str>) -> Result<Self, XmlError> {
        panics::guarded(|| {
            let document = Document::of(text)?;
            let domain = domain::parse::parse(&document)?;
            let provenance = rewrite::provenance(&document);
            Ok(Self {
                guest: Arc::new(GuestXml::new(domain, &provenance)),
                provenance,
                document,
            })
        })?
    }
}

/// Returns whether a value is the page size that a domain has for all its memory.
fn is_page_size(domain: &Domain, value: &Value) -> bool {
    let pages = domain.hugepages.as_ref().map(|element| &element.pages[..]);
    match (value, pages) {
        (Value::PageSize(wrote), Some([(size, None)])) => wrote == size,
        _ => false,
    }
}

/// Returns the mask of a pin; `None` for targets that are not pins.
pub(crate) fn pin<'d>(domain: &'d Domain, target: &Target) -> Option<&'d CpuSet> {
    match target {
        Target::VcpuPin(vcpu) => domain.vcpupins.get(vcpu),
        Target::EmulatorPin => domain.emulatorpin.as_ref(),
        Target::IothreadPin(id) => domain.iothreadpins.get(id),
        _ => None,
    }
}

/// Masks of a guest's pinned threads, each mask once.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Masks {
    /// Masks that have no more CPUs than threads behind them.
    pub pins: Vec<CpuSet>,
    /// Wider masks, and those of empty vCPU slots, which have no thread. They hold CPUs only for a
    /// guest whose profile gives it CPUs of its own.
    pub wide: Vec<CpuSet>,
    /// CPUs of [`Masks::pins`] where threads are pinned one by one, without the CPUs to which
    /// virtfit pinned support threads or several vCPUs.
    pub occupies: CpuSet,
}

impl Masks {
    /// Returns the masks that hold CPUs: all of a guest to which its profile `dedicates` CPUs, else
    /// those that are not wider than the threads behind them. An empty slot of such a guest holds
    /// nothing until a vCPU is plugged in.
    pub(crate) fn holding(self, dedicates: bool) -> Vec<CpuSet> {
        let mut pins = self.pins;
        if dedicates {
            pins.extend(self.wide);
        }
        pins
    }
}

/// Lists the masks of the pinned threads. A vCPU's own pin comes first, then numad's answer (for
/// `placement='auto'`), then `vcpu@cpuset`: libvirt's order in `qemuProcessSetupPid`. Masks of
/// several CPUs that virtfit wrote are left out: their threads float, and the daemon moves them off
/// CPUs that another guest gets.
pub(crate) fn masks(guest: &GuestXml, numad: Option<&CpuSet>) -> Masks {
    let domain = &guest.domain;
    let common = if domain.vcpu_placement_auto {
        numad
    } else {
        domain.vcpu_cpuset.as_ref()
    };
    let vcpus = domain.all_vcpus();
    let of_vcpus = vcpus.iter().map(|vcpu| {
        let pin = domain.vcpupins.get(&vcpu).or(common);
        (Target::VcpuPin(vcpu), pin)
    });
    let of_emulator = (Target::EmulatorPin, domain.emulatorpin.as_ref());
    let iothreads = domain.iothreadpins.iter();
    let of_iothreads = iothreads.map(|(id, pin)| (Target::IothreadPin(*id), Some(pin)));
    let pinned = of_vcpus
        .chain([of_emulator])
        .chain(of_iothreads)
        .filter_map(|(target, pin)| Some((target, pin?)))
        .filter(|(target, _)| !guest.floating.contains(target));
    let (slots, threads): (Vec<_>, Vec<_>) = pinned.partition(|(target, _)| is_slot(domain, target));
    let mut masks = masks_of(threads.into_iter(), &guest.ours);
    // There may be thousands of slots, each with a mask of its own.
    let mut known: HashSet<&CpuSet> = masks.pins.iter().chain(&masks.wide).collect();
    let new = slots.into_iter().map(|(_, pin)| pin);
    let new = new.filter(|pin| !pin.is_empty() && known.insert(*pin));
    let of_slots: Vec<CpuSet> = new.cloned().collect();
    masks.wide.extend(of_slots);
    masks
}

/// Returns whether a target is the pin of an empty vCPU slot, behind which no thread is.
pub(crate) fn is_slot(domain: &Domain, target: &Target) -> bool {
    matches!(target, Target::VcpuPin(vcpu) if domain.empty_slots.contains(*vcpu))
}

/// Lists the masks of these threads; `ours` are pins that virtfit wrote.
pub(crate) fn masks_of<'m>(
    threads: impl Iterator<Item = (Target, &'m CpuSet)>,
    ours: &BTreeSet<Target>,
) -> Masks {
    // Each mask once, with the number of its threads: thousands of threads may have large masks.
    let mut all: Vec<(&CpuSet, usize)> = Vec::new();
    let mut known: HashMap<&CpuSet, usize> = HashMap::new();
    let mut of_threads: Vec<(Target, usize)> = Vec::new();
    for (target, pin) in threads.filter(|(_, pin)| !pin.is_empty()) {
        let at = *known.entry(pin).or_insert(all.len());
        if at == all.len() {
            all.push((pin, 0));
        }
        all[at].1 += 1;
        of_threads.push((target, at));
    }
    // A thread that is pinned to one CPU stands behind every wider mask around that CPU.
    let single: CpuSet = all
        .iter()
        .filter(|(pin, _)| pin.len() == 1)
        .flat_map(|(pin, _)| pin.first())
        .collect();
    let wide: Vec<bool> = all
        .iter()
        .map(|(pin, count)| pin.len() > 1 && pin.len() > count + pin.intersection(&single).len())
        .collect();
    let mut masks = Masks::default();
    for ((pin, _), wide) in all.iter().zip(&wide) {
        let list = if *wide { &mut masks.wide } else { &mut masks.pins };
        list.push((*pin).clone());
    }
    for (target, at) in &of_threads {
        let (pin, count) = all[*at];
        let shared = !matches!(target, Target::VcpuPin(_)) || count > 1;
        let is_ours = shared && ours.contains(target);
        if !wide[*at] && !is_ours {
            masks.occupies.extend_from(pin);
        }
    }
    masks
}

/// Lists the guest's memory and its nodes: one piece for each cell, one piece for a guest without
/// cells. Pages are taken for all of `<memory>`, whatever the balloon does. `default_page` returns
/// the host's default huge page size, which `<hugepages/>` without a size means.
pub(crate) fn memory(
    domain: &Domain,
    numad: Option<&NodeSet>,
    default_page: impl Fn() -> KiB,
) -> Vec<MemoryUse> {
    let nodes_of = |memory: &NumaMemory| {
        let nodes = if memory.auto {
            numad
        } else {
            memory.nodeset.as_ref()
        };
        nodes.cloned().unwrap_or_default()
    };
    // With placement='auto' and no numatune of the guest's own, libvirt binds the memory to numad's
    // nodes too.
    let auto = numad.filter(|_| domain.vcpu_placement_auto).cloned();
    let everywhere = domain
        .numatune
        .as_ref()
        .map(nodes_of)
        .or(auto)
        .unwrap_or_default();
    if domain.cells.is_empty() {
        return vec![MemoryUse {
            amount: domain.all_memory(),
            page: page_of(domain, NodeId(0), &default_page),
            nodes: everywhere,
        }];
    }
    let of_cell = |cell: &Cell| MemoryUse {
        amount: domain.memory_of(cell),
        page: page_of(domain, NodeId(cell.id.0), &default_page),
        nodes: domain
            .memnodes
            .get(&cell.id)
            .map_or_else(|| everywhere.clone(), nodes_of),
    };
    domain.cells.iter().map(of_cell).collect()
}

/// Returns the huge page size of a guest cell: that of a `<page>` whose nodeset (guest cells) names
/// the cell, else that of the `<page>` without a nodeset.
fn page_of(domain: &Domain, cell: NodeId, default_page: &dyn Fn() -> KiB) -> Option<KiB> {
    let pages = &domain.hugepages.as_ref()?.pages;
    if pages.is_empty() {
        return Some(default_page());
    }
    let named = pages
        .iter()
        .find(|(_, cells)| cells.as_ref().is_some_and(|cells| cells.contains(cell)));
    named
        .or_else(|| pages.iter().find(|(_, cells)| cells.is_none()))
        .map(|(size, _)| *size)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests;
