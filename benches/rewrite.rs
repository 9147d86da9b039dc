//! Reading and rewriting domain XML: the cost of each step of a decision by the byte, and its
//! growth with the text.
//!
//! Target: parse and apply together above 50 MB/s on 100 KB.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::fmt::Write;
use std::hint::black_box;

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};

use virtfit::domain;
use virtfit::engine::{Decision, Inputs, Question, decide};
use virtfit::ledger::Ledger;
use virtfit::policy::Policy;
use virtfit::policy::profile::OnNoFit;
use virtfit::rewrite::{Head, Shape, apply, revert};
use virtfit::types::devices::{GuestFacts, ImageFacts};
use virtfit::types::ids::{HostCpu, KiB, VcpuId};
use virtfit::types::idset::CpuSet;
use virtfit::types::plan::Scope;
use virtfit::types::reason::Basis;
use virtfit::types::setting::{DiskAttribute, Setting, Target, Value};
use virtfit::xml::Document;

/// Makes a guest of 8 vCPUs with so many disks and as many interfaces: about 900 bytes for each
/// pair.
fn guest(devices: usize) -> String {
    let mut xml = String::from(
        "<domain type='kvm'>\n  <name>bench</name>\n  <uuid>11111111-2222-4333-8444-555555555555</uuid>\n  \
         <memory unit='KiB'>8388608</memory>\n  <vcpu placement='static'>8</vcpu>\n  <os>\n    \
         <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n  <cpu mode='host-model' check='partial'/>\n  \
         <!-- a remark -->\n  <devices>\n    <emulator>/usr/bin/qemu-system-x86_64</emulator>\n",
    );
    for number in 0..devices {
        write!(
            xml,
            "    <disk type='block' device='disk'>\n      <driver name='qemu' type='raw' discard='unmap'/>\n      \
             <source dev='/dev/vg/guest-{number}'/>\n      <target dev='{}' bus='virtio'/>\n      \
             <serial>disk-{number:08}</serial>\n      <address type='pci' domain='0x0000' bus='0x{:02x}' \
             slot='0x00' function='0x0'/>\n    </disk>\n    <interface type='bridge'>\n      \
             <mac address='52:54:00:00:{:02x}:{:02x}'/>\n      <source bridge='br0'/>\n      <target dev='vnet{number}'/>\n      \
             <model type='virtio'/>\n      <driver name='vhost' queues='4'/>\n      <link state='up'/>\n      \
             <address type='pci' domain='0x0000' bus='0x{:02x}' slot='0x01' function='0x0'/>\n    </interface>\n",
            disk(number),
            number % 256,
            number / 256,
            number % 256,
            number % 256,
        )
        .unwrap();
    }
    xml + "    <memballoon model='virtio'/>\n  </devices>\n</domain>\n"
}

/// Returns a disk's name: `vda` … `vdz`, `vdaa` ….
fn disk(number: usize) -> String {
    let letter = |n: usize| char::from(b'a' + (n % 26) as u8);
    let mut name = letter(number).to_string();
    let mut rest = number / 26;
    while rest > 0 {
        name.insert(0, letter(rest - 1));
        rest = (rest - 1) / 26;
    }
    format!("vd{name}")
}

fn settings(devices: usize) -> Vec<Setting> {
    let setting = |target, value| Setting {
        target,
        value,
        why: Basis::ByProfile,
    };
    let cpu = |number: u32| CpuSet::one(HostCpu(number));
    let mut all: Vec<Setting> = (0..8)
        .map(|vcpu| setting(Target::VcpuPin(VcpuId(vcpu)), Value::Cpus(cpu(vcpu + 1))))
        .collect();
    all.push(setting(Target::EmulatorPin, Value::Cpus(cpu(0))));
    all.push(setting(Target::Hugepages, Value::PageSize(KiB(2048))));
    for number in 0..devices {
        let text = |text: &str| Value::Text(text.into());
        all.push(setting(
            Target::Disk(disk(number), DiskAttribute::Cache),
            text("none"),
        ));
        all.push(setting(
            Target::Disk(disk(number), DiskAttribute::Io),
            text("native"),
        ));
    }
    all
}

fn head() -> Head {
    Head {
        uuid: None,
        profile: "fit".into(),
        policy_digest: "0123456789ab".into(),
        shape: Shape::default(),
        withheld: CpuSet::new(),
        on_no_fit: OnNoFit::RunShared,
    }
}

fn by_the_byte(c: &mut Criterion) {
    let host = common::paper();
    let policy = Policy::builtin();
    let ledger = Ledger::default();
    let head = head();
    for devices in [10, 160, 1100, 2200] {
        let xml = guest(devices);
        // Some disks are tuned; on a guest of thousands not all.
        let settings = settings(devices.min(160));
        let facts = GuestFacts {
            disks: (0..devices)
                .map(|number| (disk(number), ImageFacts::Block))
                .collect(),
            ..GuestFacts::default()
        };
        let inputs = Inputs {
            host: &host,
            policy: &policy,
            ledger: &ledger,
            facts: &facts,
            question: Question {
                profile: Some("fit"),
                ..Question::of(Scope::Boot)
            },
        };
        let document = Document::parse(&xml).unwrap();
        let tuned = apply(&document, &settings, &head).unwrap();
        let tuned_document = Document::parse(&tuned).unwrap();
        assert_eq!(revert(&tuned_document).unwrap().xml, xml);
        let decided = match decide(&xml, &inputs).unwrap() {
            Decision::Tuned { xml, .. } => xml,
            other => panic!("{other:?}"),
        };

        let mut group = c.benchmark_group(format!("{} KB", xml.len() / 1000));
        group
            .throughput(Throughput::Bytes(xml.len() as u64))
            .sample_size(20);
        let mut measure = |name: &str, work: &mut dyn FnMut()| {
            group.bench_function(BenchmarkId::from_parameter(name), |b| b.iter(&mut *work));
        };
        measure("parse", &mut || {
            black_box(Document::parse(black_box(&xml)).unwrap());
        });
        measure("parse domain", &mut || {
            black_box(domain::parse::parse(black_box(&document)).unwrap());
        });
        measure("parse and apply", &mut || {
            let document = Document::parse(black_box(&xml)).unwrap();
            black_box(apply(&document, &settings, &head).unwrap());
        });
        measure("parse and revert", &mut || {
            let document = Document::parse(black_box(&tuned)).unwrap();
            black_box(revert(&document).unwrap());
        });
        measure("decide", &mut || {
            black_box(decide(black_box(&xml), &inputs).unwrap());
        });
        measure("decide again", &mut || {
            black_box(decide(black_box(&decided), &inputs).unwrap());
        });
        group.finish();
    }
}

criterion_group!(benches, by_the_byte);
criterion_main!(benches);
