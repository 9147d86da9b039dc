//! Stand-ins for the parts that are still being written next door. This file goes when they are merged.
#![allow(missing_docs)]

use std::path::Path;

use crate::cpulist;
use crate::domain::{Cell, Domain, HugepagesElement, NumaMemory};
use crate::engine::{Decision, EngineError, Inputs};
use crate::facts::GuestFacts;
use crate::host::Host;
use crate::idset::CpuSet;
use crate::plan::{Notes, Plan, Verdict};
use crate::policy::HostPolicy;
use crate::settings::Target;
use crate::units::{CellId, Id, IothreadId, KiB, NodeId, VcpuId};
use crate::xml::{Document, Element, XmlError};

#[derive(Debug, Clone, Default)]
pub struct Policy {
    pub host: HostPolicy,
}

pub fn load_policy(_root: Option<&Path>, file: Option<&Path>) -> Result<Policy, String> {
    if let Some(file) = file {
        let text = std::fs::read_to_string(file).map_err(|error| format!("{}: {error}", file.display()))?;
        let broken = text.lines().position(|line| line.contains("BROKEN"));
        if let Some(line) = broken {
            return Err(format!(
                "{}:{}:1: broken\n{}:{}:1: twice",
                file.display(),
                line + 1,
                file.display(),
                line + 1
            ));
        }
        return Ok(Policy {
            host: HostPolicy {
                observe: text.contains("mode = \"observe\""),
                ..HostPolicy::default()
            },
        });
    }
    Ok(Policy::default())
}

pub fn load_host(_root: &Path, _topology: Option<&str>) -> Result<Host, String> {
    Ok(Host {
        nodes: vec![crate::host::Node {
            id: NodeId(0),
            memory: KiB(0),
            pools: Vec::new(),
            distances: Default::default(),
        }],
        ..Host::default()
    })
}

pub fn gather_facts(_root: &Path, _domain: &Domain, _host: &Host) -> GuestFacts {
    GuestFacts::default()
}

pub fn decide(xml: &str, inputs: &Inputs<'_>) -> Result<Decision, EngineError> {
    let document = Document::parse(xml)?;
    let domain = parse_domain(&document)?;
    let mut plan = Plan {
        version: 1,
        guest: domain.name.clone(),
        uuid: Some(domain.uuid.clone()).filter(|uuid| !uuid.is_empty()),
        profile: None,
        scope: inputs.scope,
        verdict: Verdict::Unchanged,
        reasons: Vec::new(),
        placement: None,
        changes: Vec::new(),
        notes: Notes::default(),
    };
    if domain.title == "panic" {
        panic!("asked for\na panic");
    }
    if domain.title == "slow" {
        std::thread::sleep(std::time::Duration::from_secs(3));
    }
    Ok(match domain.title.as_str() {
        "tune" => {
            plan.verdict = Verdict::Tuned;
            plan.profile = Some("fit".into());
            Decision::Tuned {
                xml: xml.replace("<title>tune</title>", "<title>tuned</title>"),
                plan,
            }
        }
        "refuse" => {
            plan.verdict = Verdict::Refused;
            plan.profile = Some("isolated".into());
            plan.reasons.push("14 CPUs on one node, free are 6 and 6".into());
            Decision::Refused(plan)
        }
        _ => Decision::Unchanged(plan),
    })
}

#[derive(Debug, Clone, Default)]
pub struct Provenance {
    pub owned: Vec<Target>,
    pub withheld: CpuSet,
    pub refuses: bool,
}

pub fn provenance(document: &Document<'_>) -> Option<Provenance> {
    let metadata = document.root().child("metadata")?;
    let element = metadata
        .children()
        .find(|child| child.namespace().as_deref() == Some("https://virtfit.dev/ns/domain/1"))?;
    let vcpus = element.attr("owned-vcpus").unwrap_or_default();
    Some(Provenance {
        owned: cpulist::parse::<VcpuId>(&vcpus)
            .ok()?
            .iter()
            .map(Target::VcpuPin)
            .collect(),
        withheld: cpulist::parse(&element.attr("withheld").unwrap_or_default()).ok()?,
        refuses: element.attr("on_no_fit").as_deref() == Some("refuse"),
    })
}

pub struct Reverted {
    pub xml: String,
    pub left: Vec<String>,
}

pub fn revert(document: &Document<'_>) -> Reverted {
    Reverted {
        xml: document.text().to_string(),
        left: Vec::new(),
    }
}

fn list<T: Id>(element: Element<'_>, name: &str) -> Option<crate::idset::IdSet<T>> {
    cpulist::parse(&element.attr(name)?).ok()
}

fn kib(amount: &str, unit: Option<&str>) -> KiB {
    let amount: u64 = amount.trim().parse().unwrap_or(0);
    KiB(match unit.unwrap_or("KiB") {
        "GiB" | "G" => amount << 20,
        "MiB" | "M" => amount << 10,
        _ => amount,
    })
}

pub fn parse_domain(document: &Document<'_>) -> Result<Domain, XmlError> {
    let root = document.root();
    if root.name() != "domain" {
        return Err(root.error(format!("<{}> where <domain> should be", root.name())));
    }
    let text = |name: &str| {
        root.child(name)
            .map(|e| e.text().trim().to_string())
            .unwrap_or_default()
    };
    let mut domain = Domain {
        name: text("name"),
        uuid: text("uuid").to_ascii_lowercase(),
        title: text("title"),
        kind: root.attr("type").unwrap_or_default().into_owned(),
        running: root.attr("id").is_some(),
        ..Domain::default()
    };
    if let Some(memory) = root.child("memory") {
        domain.memory = kib(&memory.text(), memory.attr("unit").as_deref());
    }
    if let Some(vcpu) = root.child("vcpu") {
        domain.vcpus = vcpu.text().trim().parse().unwrap_or(1);
        domain.vcpu_placement_auto = vcpu.attr("placement").as_deref() == Some("auto");
        domain.vcpu_cpuset = list(vcpu, "cpuset");
    }
    if let Some(tune) = root.child("cputune") {
        for pin in tune.children() {
            let Some(cpus) = list(pin, "cpuset") else { continue };
            let id = |name| pin.attr(name).and_then(|id| id.parse().ok()).unwrap_or(0);
            match pin.name() {
                "vcpupin" => drop(domain.vcpupins.insert(VcpuId(id("vcpu")), cpus)),
                "emulatorpin" => domain.emulatorpin = Some(cpus),
                "iothreadpin" => drop(domain.iothreadpins.insert(IothreadId(id("iothread")), cpus)),
                _ => {}
            }
        }
    }
    let numa = |memory: Element<'_>| NumaMemory {
        mode: "strict".into(),
        nodeset: list(memory, "nodeset"),
        auto: memory.attr("placement").as_deref() == Some("auto"),
    };
    if let Some(numatune) = root.child("numatune") {
        domain.numatune = numatune.child("memory").map(numa);
        for node in numatune.children_named("memnode") {
            let id = node.attr("cellid").and_then(|id| id.parse().ok()).unwrap_or(0);
            domain.memnodes.insert(CellId(id), numa(node));
        }
    }
    for cell in root
        .descend(&["cpu", "numa"])
        .into_iter()
        .flat_map(|numa| numa.children_named("cell"))
    {
        domain.cells.push(Cell {
            id: CellId(cell.attr("id").and_then(|id| id.parse().ok()).unwrap_or(0)),
            vcpus: list(cell, "cpus").unwrap_or_default(),
            memory: kib(
                &cell.attr("memory").unwrap_or_default(),
                cell.attr("unit").as_deref(),
            ),
        });
    }
    if let Some(pages) = root.descend(&["memoryBacking", "hugepages"]) {
        let page = |page: Element<'_>| {
            let size = kib(
                &page.attr("size").unwrap_or_default(),
                page.attr("unit").as_deref(),
            );
            (size, list(page, "nodeset"))
        };
        domain.hugepages = Some(HugepagesElement {
            pages: pages.children_named("page").map(page).collect(),
        });
    }
    Ok(domain)
}

#[derive(Debug, Clone, Copy)]
pub struct Style {
    pub width: usize,
    pub unicode: bool,
    pub color: bool,
}

pub fn plan_text(plan: &Plan, _style: &Style) -> String {
    let mut out = plan_line(plan, _style);
    for reason in &plan.reasons {
        out.push_str(&format!("  {reason}\n"));
    }
    out
}

pub fn plan_line(plan: &Plan, _style: &Style) -> String {
    let verdict = match plan.verdict {
        Verdict::Tuned => "tuned",
        Verdict::Unchanged => "unchanged",
        Verdict::Refused => "refused",
    };
    match &plan.profile {
        Some(profile) => format!("{}: {verdict} by {profile}\n", plan.guest),
        None => format!("{}: {verdict}\n", plan.guest),
    }
}

pub fn diff(old: &str, new: &str, name: &str, _style: &Style) -> String {
    if old == new {
        return String::new();
    }
    format!("--- {name}\n+++ {name}\n")
}

pub fn did_you_mean<'a>(word: &str, mut candidates: impl Iterator<Item = &'a str>) -> String {
    match candidates.find(|candidate| candidate.chars().count().abs_diff(word.chars().count()) <= 1) {
        Some(candidate) => format!("; did you mean '{candidate}'?"),
        None => String::new(),
    }
}

pub fn profile_list(_policy: &Policy) -> String {
    "fit\n".into()
}

pub fn profile_show(_policy: &Policy, name: &str) -> Result<String, String> {
    if name == "fit" {
        Ok("name = \"fit\"\n".into())
    } else {
        Err(format!("there is no profile '{name}'"))
    }
}

pub fn policy_check(_root: Option<&Path>, files: &[std::path::PathBuf]) -> Result<String, String> {
    files
        .iter()
        .try_for_each(|file| load_policy(None, Some(file)).map(drop))?;
    Ok("no errors\n".into())
}

pub fn policy_show(_policy: &Policy) -> String {
    "[host]\n".into()
}

pub fn policy_cat(_root: Option<&Path>, _file: Option<&Path>) -> Result<String, String> {
    Ok(String::new())
}
