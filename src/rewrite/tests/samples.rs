//! Domains for the tests, and settings for them.

use crate::domain::parse::parse;
use crate::domain::{Domain, Topology};
use crate::policy::profile::OnNoFit;
use crate::rewrite::{Head, Shape};
use crate::types::enlightenment::Enlightenment;
use crate::types::ids::{HostCpu, IothreadId, KiB, NodeId, VcpuId};
use crate::types::idset::{CpuSet, NodeSet, VcpuSet};
use crate::types::reason::Basis;
use crate::types::setting::{DiskAttribute, Setting, Target, Value};
use crate::xml::Document;

/// Reads all of `fixtures/domains`, with the file names.
pub(super) fn fixtures() -> Vec<(String, String)> {
    let folder = format!("{}/fixtures/domains", env!("CARGO_MANIFEST_DIR"));
    let mut out = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        let name = path.file_stem().unwrap().to_string_lossy().into_owned();
        out.push((name, std::fs::read_to_string(path).unwrap()));
    }
    out.sort();
    assert!(out.len() >= 12, "fixtures are missing");
    out
}

pub(super) fn fixture(name: &str) -> String {
    let (_, text) = fixtures().into_iter().find(|(other, _)| other == name).unwrap();
    text
}

pub(super) fn domain(text: &str) -> Domain {
    parse(&Document::parse(text).unwrap()).unwrap()
}

pub(super) fn setting(target: Target, value: Value) -> Setting {
    Setting {
        target,
        value,
        why: Basis::ByProfile,
    }
}

pub(super) fn cpus(list: &str) -> Value {
    Value::Cpus(crate::types::cpulist::parse(list).unwrap())
}

pub(super) fn pin(vcpu: u32, list: &str) -> Setting {
    setting(Target::VcpuPin(VcpuId(vcpu)), cpus(list))
}

pub(super) fn topology(cores: u32, threads: u32) -> Value {
    Value::Topology(Topology {
        sockets: 1,
        dies: 1,
        clusters: 1,
        cores,
        threads,
    })
}

pub(super) fn head() -> Head {
    Head {
        uuid: Some("8c1f6f0e-0000-4000-8000-00000000000a".into()),
        profile: "fit \"&'<>".into(),
        policy_digest: "sha256:00ff".into(),
        shape: Shape {
            threads: 2,
            cells: vec![
                (VcpuSet::first_n(2), KiB(1024)),
                (VcpuSet::one(VcpuId(2)), KiB(2048)),
            ],
            topology: Some(Topology {
                sockets: 1,
                dies: 2,
                clusters: 1,
                cores: 3,
                threads: 4,
            }),
        },
        withheld: [HostCpu(5), HostCpu(21)].into_iter().collect(),
        on_no_fit: OnNoFit::Refuse,
    }
}

/// Returns every setting that this domain can have, with values chosen by `pick` (below 4).
pub(super) fn all_settings(domain: &Domain, mut pick: impl FnMut() -> u32) -> Vec<Setting> {
    let mut out = Vec::new();
    let mut add = |target, value| out.push(setting(target, value));
    let text = |text: &str| Value::Text(text.into());
    let mut or_absent = |value: Value| if pick() == 0 { Value::Absent } else { value };
    for vcpu in 0..domain.vcpus {
        add(Target::VcpuPin(VcpuId(vcpu)), or_absent(cpus("1,3")));
    }
    add(Target::EmulatorPin, or_absent(cpus("0-2")));
    add(Target::VcpuCpuset, Value::Absent);
    if domain.vcpu_placement_auto {
        add(Target::VcpuPlacement, text("static"));
    }
    add(Target::Iothreads, or_absent(Value::Number(2)));
    add(
        Target::IothreadPin(IothreadId(1)),
        or_absent(Value::Cpus(CpuSet::one(HostCpu(16383)))),
    );
    let sched = Value::Sched {
        vcpus: VcpuSet::first_n(domain.vcpus),
        scheduler: "fifo",
        priority: 1,
    };
    add(Target::VcpuSched, or_absent(sched));
    let numa = Value::Numa {
        mode: "strict",
        nodes: NodeSet::one(NodeId(1)),
    };
    add(Target::NumaMemory, or_absent(numa.clone()));
    for cell in &domain.cells {
        add(Target::MemNode(cell.id), or_absent(numa.clone()));
    }
    add(Target::Hugepages, or_absent(Value::PageSize(KiB(2048))));
    add(Target::Locked, or_absent(Value::Present));
    add(Target::NoSharePages, or_absent(Value::Present));
    add(Target::MemoryAccess, or_absent(text("shared")));
    let mode = match or_absent(Value::Present) {
        Value::Absent => "host-model",
        _ => "host-passthrough",
    };
    add(Target::CpuMode, Value::CpuMode(mode));
    add(Target::Topology, or_absent(topology(domain.vcpus, 1)));
    if domain.cells.is_empty() {
        let cells = vec![(domain.all_vcpus(), domain.memory), (VcpuSet::new(), KiB(1024))];
        add(Target::Cells, or_absent(Value::Cells(cells, Vec::new())));
    }
    add(
        Target::CpuFeature("tsc-deadline".into()),
        or_absent(text("require")),
    );
    let cache = Value::Cache {
        mode: "emulate",
        level: Some(3),
    };
    add(Target::CpuCache, or_absent(cache));
    add(Target::Pmu, or_absent(text("off")));
    add(Target::HintDedicated, or_absent(text("on")));
    add(Target::PollControl, or_absent(text("on")));
    for one in Enlightenment::ALL {
        add(Target::Hyperv(one), or_absent(text("on")));
    }
    add(Target::HypervClock, or_absent(text("yes")));
    add(Target::Memballoon, text("none"));
    for disk in &domain.disks {
        let mut attribute = |attribute, value| add(Target::Disk(disk.target.clone(), attribute), value);
        attribute(DiskAttribute::Cache, or_absent(text("none")));
        attribute(DiskAttribute::Io, or_absent(text("native")));
        attribute(DiskAttribute::Discard, or_absent(text("unmap")));
        attribute(DiskAttribute::Queues, or_absent(Value::Number(4)));
        attribute(DiskAttribute::Iothread, or_absent(text("1")));
        let ids = Value::Iothreads(vec![IothreadId(1), IothreadId(2)]);
        add(Target::DiskIothreads(disk.target.clone()), or_absent(ids));
    }
    for controller in &domain.scsi_controllers {
        add(
            Target::ScsiIothread(controller.index),
            or_absent(Value::Number(1)),
        );
    }
    for expander in &domain.expanders {
        add(Target::ExpanderNode(expander.index), or_absent(Value::Number(1)));
    }
    for mac in domain
        .interfaces
        .iter()
        .filter_map(|interface| interface.mac.clone())
    {
        add(Target::NetQueues(mac), or_absent(Value::Number(2)));
    }
    out
}
