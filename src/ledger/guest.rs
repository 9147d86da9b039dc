//! What the ledger wants to know of one guest's XML, running or not.

use std::collections::BTreeSet;

use crate::cli::pending;
use crate::domain::{Cell, Domain, NumaMemory};
use crate::idset::{CpuSet, NodeSet};
use crate::ledger::MemoryUse;
use crate::settings::Target;
use crate::units::{KiB, NodeId};
use crate::xml::{Document, XmlError};

/// A guest's facts and what virtfit recorded in it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct GuestXml {
    /// The facts.
    pub domain: Domain,
    /// CPUs of vCPU pins that virtfit wrote, of emulator and iothread pins of one CPU (isolated) that it wrote.
    pub wrote: CpuSet,
    /// CPUs it recorded as withheld.
    pub withheld: CpuSet,
    /// Its provenance says that the guest shall not run without its placement.
    pub refuses: bool,
}

impl GuestXml {
    /// Reads the text of a `<domain>`.
    ///
    /// # Errors
    /// It is not XML, or not a domain.
    pub fn parse(text: &str) -> Result<Self, XmlError> {
        let document = Document::parse(text)?;
        let domain = pending::parse_domain(&document)?;
        let Some(provenance) = pending::provenance(&document) else {
            return Ok(Self {
                domain,
                ..Self::default()
            });
        };
        let mut wrote = CpuSet::new();
        for target in &provenance.owned {
            match target {
                Target::VcpuPin(vcpu) => {
                    wrote.extend_from(domain.vcpupins.get(vcpu).unwrap_or(&CpuSet::new()))
                }
                Target::EmulatorPin => extend_if_one(&mut wrote, domain.emulatorpin.as_ref()),
                Target::IothreadPin(id) => extend_if_one(&mut wrote, domain.iothreadpins.get(id)),
                _ => {}
            }
        }
        Ok(Self {
            domain,
            wrote,
            withheld: provenance.withheld,
            refuses: provenance.refuses,
        })
    }
}

/// Emulator and iothread pins on one CPU are isolated ones; wider masks are housekeeping, which nobody holds.
fn extend_if_one(set: &mut CpuSet, pin: Option<&CpuSet>) {
    if let Some(pin) = pin.filter(|pin| pin.len() == 1) {
        set.extend_from(pin);
    }
}

/// The CPUs of each thread that has a pin, each mask once. A vCPU's own pin comes before numad's answer (for
/// `placement='auto'`), that before `vcpu@cpuset`: libvirt's order in `qemuProcessSetupPid`. Offline vCPUs count.
pub fn pins(domain: &Domain, numad: Option<&CpuSet>) -> Vec<CpuSet> {
    let common = if domain.vcpu_placement_auto {
        numad
    } else {
        domain.vcpu_cpuset.as_ref()
    };
    let vcpus = domain.all_vcpus();
    let of_vcpus = vcpus
        .iter()
        .filter_map(|vcpu| domain.vcpupins.get(&vcpu).or(common));
    let others = domain.emulatorpin.iter().chain(domain.iothreadpins.values());
    let mut seen = BTreeSet::new();
    of_vcpus
        .chain(others)
        .filter(|pin| !pin.is_empty() && seen.insert(*pin))
        .cloned()
        .collect()
}

/// What memory the guest uses and where: a piece a cell, one for a guest without cells. Pages are taken for all of
/// `<memory>`, whatever the balloon does. `default_page` is the host's default huge page size, which
/// `<hugepages/>` without a size means.
pub fn memory(domain: &Domain, numad: Option<&NodeSet>, default_page: KiB) -> Vec<MemoryUse> {
    let nodes_of = |memory: &NumaMemory| {
        let nodes = if memory.auto {
            numad
        } else {
            memory.nodeset.as_ref()
        };
        nodes.cloned().unwrap_or_default()
    };
    // With placement='auto' and no numatune of its own libvirt binds the memory to numad's nodes too.
    let auto = numad.filter(|_| domain.vcpu_placement_auto).cloned();
    let everywhere = domain
        .numatune
        .as_ref()
        .map(nodes_of)
        .or(auto)
        .unwrap_or_default();
    if domain.cells.is_empty() {
        return vec![MemoryUse {
            amount: domain.memory,
            page: page_of(domain, NodeId(0), default_page),
            nodes: everywhere,
        }];
    }
    let of_cell = |cell: &Cell| MemoryUse {
        amount: cell.memory,
        page: page_of(domain, NodeId(cell.id.0), default_page),
        nodes: domain
            .memnodes
            .get(&cell.id)
            .map_or_else(|| everywhere.clone(), nodes_of),
    };
    domain.cells.iter().map(of_cell).collect()
}

/// The huge page size of a guest cell: that of a `<page>` whose nodeset (guest cells) names it, else of the one for all.
fn page_of(domain: &Domain, cell: NodeId, default_page: KiB) -> Option<KiB> {
    let pages = &domain.hugepages.as_ref()?.pages;
    if pages.is_empty() {
        return Some(default_page);
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
mod tests {
    use super::*;
    use crate::cpulist;

    fn domain(inner: &str) -> Domain {
        let text = format!("<domain type='kvm'><name>g</name><memory>4194304</memory>{inner}</domain>");
        GuestXml::parse(&text).unwrap().domain
    }

    #[test]
    fn each_mask_of_a_thread_once() {
        // XML, numad's CPUs, pins
        let rows: &[(&str, Option<&str>, &[&str])] = &[
            ("<vcpu>4</vcpu>", None, &[]),
            ("<vcpu cpuset='4-7'>4</vcpu>", None, &["4-7"]),
            (
                "<vcpu cpuset='4-7'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>",
                None,
                &["1", "4-7"],
            ),
            (
                "<vcpu cpuset='0-7'>1</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/></cputune>",
                None,
                &["1"],
            ),
            (
                "<vcpu current='1'>2</vcpu><cputune><vcpupin vcpu='0' cpuset='1'/><vcpupin vcpu='1' cpuset='9'/></cputune>",
                None,
                &["1", "9"],
            ),
            (
                "<vcpu>1</vcpu><iothreads>1</iothreads><cputune><emulatorpin cpuset='0,8'/><iothreadpin iothread='1' cpuset='3'/></cputune>",
                None,
                &["0,8", "3"],
            ),
            ("<vcpu placement='auto'>2</vcpu>", Some("0-3"), &["0-3"]),
            ("<vcpu placement='auto'>2</vcpu>", None, &[]),
            ("<vcpu placement='static'>2</vcpu>", Some("0-3"), &[]),
        ];
        for row in rows {
            let numad = row.1.map(|list| cpulist::parse(list).unwrap());
            let expected: Vec<CpuSet> = row.2.iter().map(|list| cpulist::parse(list).unwrap()).collect();
            assert_eq!(pins(&domain(row.0), numad.as_ref()), expected, "{row:?}");
        }
    }

    #[test]
    fn memory_by_cell_and_page() {
        let cells = "<vcpu>2</vcpu><cpu><numa><cell id='0' cpus='0' memory='1048576'/><cell id='1' cpus='1' memory='3145728'/></numa></cpu>";
        // XML, numad's nodes, pieces (GiB, page in KiB, nodes)
        type Piece = (u64, Option<u64>, &'static str);
        let rows: Vec<(String, Option<&str>, Vec<Piece>)> = vec![
            ("<vcpu>1</vcpu>".into(), None, vec![(4, None, "")]),
            (
                "<vcpu>1</vcpu><currentMemory>1024</currentMemory><numatune><memory mode='strict' nodeset='1'/></numatune>".into(),
                None,
                vec![(4, None, "1")],
            ),
            (
                "<vcpu>1</vcpu><memoryBacking><hugepages/></memoryBacking>".into(),
                None,
                vec![(4, Some(2048), "")],
            ),
            (
                "<vcpu>1</vcpu><memoryBacking><hugepages><page size='1' unit='GiB'/></hugepages></memoryBacking>".into(),
                None,
                vec![(4, Some(1 << 20), "")],
            ),
            ("<vcpu placement='auto'>1</vcpu>".into(), Some("0"), vec![(4, None, "0")]),
            (
                "<vcpu>1</vcpu><numatune><memory mode='strict' placement='auto'/></numatune>".into(),
                Some("1"),
                vec![(4, None, "1")],
            ),
            (cells.into(), None, vec![(1, None, ""), (3, None, "")]),
            (
                format!("{cells}<numatune><memory mode='preferred' nodeset='0'/><memnode cellid='1' mode='strict' nodeset='1'/></numatune>"),
                None,
                vec![(1, None, "0"), (3, None, "1")],
            ),
            (
                format!("{cells}<memoryBacking><hugepages><page size='2048' nodeset='1'/></hugepages></memoryBacking>"),
                None,
                vec![(1, None, ""), (3, Some(2048), "")],
            ),
            (
                format!("{cells}<memoryBacking><hugepages><page size='1048576'/><page size='2048' nodeset='1'/></hugepages></memoryBacking>"),
                None,
                vec![(1, Some(1 << 20), ""), (3, Some(2048), "")],
            ),
        ];
        for (xml, numad, expected) in rows {
            let numad = numad.map(|list| cpulist::parse(list).unwrap());
            let got: Vec<(u64, Option<u64>, String)> = memory(&domain(&xml), numad.as_ref(), KiB(2048))
                .iter()
                .map(|uses| {
                    (
                        uses.amount.0 >> 20,
                        uses.page.map(|page| page.0),
                        uses.nodes.to_string(),
                    )
                })
                .collect();
            let expected: Vec<_> = expected
                .into_iter()
                .map(|(a, b, c)| (a, b, c.to_string()))
                .collect();
            assert_eq!(got, expected, "{xml}");
        }
    }
}
