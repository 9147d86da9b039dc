//! Placement: the cost of one decision, its growth with host and guest, and the hardest questions.
//!
//! Targets: 8 vCPUs with huge pages on 16 nodes and 1,024 CPUs beside 200 guests in less than 1 ms,
//! the ledger's arithmetic included; 8 cells on such a host in less than 5 ms; no question at all
//! in more than 1 s.
#![allow(clippy::unwrap_used, missing_docs)]

#[path = "../tests/common/mod.rs"]
mod common;

use std::hint::black_box;
use std::time::Duration;

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};

use common::hard::{self, boards, celled, guest, host, some, supplies};
use virtfit::engine::supply::Supplies;
use virtfit::host::Host;
use virtfit::ledger::{self, Claim, Holder, Ledger, MemoryUse};
use virtfit::placement::place;
use virtfit::policy::{HostPolicy, Policy, cpu_sets};
use virtfit::types::ids::{HostCpu, KiB, NodeId};
use virtfit::types::idset::CpuSet;

/// Makes a ledger of 200 guests with two CPUs and two 1-GiB pages each, and a claim for every
/// second one.
fn ledger(host: &Host) -> Ledger {
    let cpus: Vec<HostCpu> = host.online.iter().collect();
    let holder = |number: usize| {
        let core = &host.cores[number * 5 % host.cores.len()];
        Holder {
            uuid: format!("00000000-0000-4000-8000-{number:012}"),
            name: format!("guest{number}"),
            pins: core.cpus.iter().map(|cpu| CpuSet::one(*cpu)).collect(),
            memory: vec![MemoryUse {
                amount: KiB(2 << 20),
                page: Some(KiB(1 << 20)),
                nodes: [core.node].into_iter().collect(),
            }],
            ..Holder::default()
        }
    };
    let claim = |number: usize| Claim {
        uuid: format!("00000000-0000-4000-9000-{number:012}"),
        name: format!("claim{number}"),
        autostart: number.is_multiple_of(3),
        cpus: CpuSet::one(cpus[number * 7 % cpus.len()]),
        ..Claim::default()
    };
    Ledger {
        holders: (0..200).map(holder).map(Into::into).collect(),
        claims: (0..100).map(claim).collect(),
    }
}

/// Measures the first target: one guest beside 200.
fn beside_200(c: &mut Criterion) {
    let mut host = host(16, 4, 8, 2);
    boards(&mut host, 4);
    let ledger = ledger(&host);
    let policy = HostPolicy::default();
    let unshared = HostPolicy {
        share_cores: false,
        ..HostPolicy::default()
    };
    let sets = cpu_sets::resolve(&policy, &host);
    let taken = |policy: &HostPolicy| ledger::taken(&ledger, "", "new", &host, &sets.dedicated, policy);
    let known = taken(&policy);
    let supplies = Supplies::new(&host, &sets, &known, &policy);
    let demand = guest(8, 8);
    let mut group = c.benchmark_group("8 vCPUs beside 200 guests on 1024 CPUs");
    group.bench_function("sets", |b| {
        b.iter(|| cpu_sets::resolve(&policy, black_box(&host)))
    });
    group.bench_function("taken", |b| b.iter(|| taken(black_box(&policy))));
    group.bench_function("taken, cores not shared", |b| {
        b.iter(|| taken(black_box(&unshared)))
    });
    group.bench_function("supplies", |b| {
        b.iter(|| Supplies::new(&host, &sets, black_box(&known), &policy))
    });
    group.bench_function("place", |b| {
        b.iter(|| place(&host, black_box(&demand), &supplies.now, &supplies.empty).unwrap())
    });
    group.bench_function("all", |b| {
        b.iter(|| {
            let sets = cpu_sets::resolve(&policy, black_box(&host));
            let taken = ledger::taken(&ledger, "", "new", &host, &sets.dedicated, &policy);
            let supplies = Supplies::new(&host, &sets, &taken, &policy);
            place(&host, &demand, &supplies.now, &supplies.empty).unwrap()
        })
    });
    group.finish();
    black_box(Policy::builtin());
}

/// Measures the second target: guest cells on a half-taken host with near and far nodes.
fn cells(c: &mut Criterion) {
    let mut host = host(16, 4, 8, 2);
    boards(&mut host, 4);
    let (now, empty) = supplies(&host, &some(&host, 2, 0));
    let mut group = c.benchmark_group("cells on 16 nodes, half taken");
    for count in [1, 2, 4, 8, 12, 16] {
        let mut demand = celled(count, 8, 8);
        demand.pages = vec![Some(KiB(1 << 20))];
        group.bench_function(BenchmarkId::from_parameter(count), |b| {
            b.iter(|| place(&host, black_box(&demand), &now, &empty).unwrap())
        });
    }
    group.finish();
}

fn growth(c: &mut Criterion) {
    let mut ask = |group: &str, label: String, host: &Host, vcpus: u32| {
        let (now, empty) = supplies(host, &some(host, 2, 0));
        let demand = guest(vcpus, 8);
        let mut group = c.benchmark_group(group);
        group.bench_function(BenchmarkId::from_parameter(label), |b| {
            b.iter(|| place(host, black_box(&demand), &now, &empty))
        });
        group.finish();
    };
    for cores in [32, 128, 512, 2048] {
        ask(
            "CPUs of one node",
            (cores * 2).to_string(),
            &host(1, 4, cores / 4, 2),
            16,
        );
    }
    for nodes in [1, 4, 16, 64] {
        let mut host = host(nodes, 2, 16, 2);
        boards(&mut host, 4);
        ask("nodes", nodes.to_string(), &host, 16);
    }
    for nodes in [2, 4, 8] {
        let mut host = host(16, 2, 16, 2);
        boards(&mut host, 4);
        ask("nodes of one guest", nodes.to_string(), &host, nodes * 26);
    }
    for caches in [1, 4, 16, 64] {
        ask(
            "caches of one node",
            caches.to_string(),
            &host(1, caches, 128 / caches, 2),
            16,
        );
    }
    for vcpus in [1, 8, 64, 240] {
        ask("vCPUs", vcpus.to_string(), &host(1, 16, 64, 2), vcpus);
    }
}

/// Measures the hardest questions; slow ones run once.
fn hardest(c: &mut Criterion) {
    let mut group = c.benchmark_group("hardest");
    group
        .sample_size(10)
        .warm_up_time(Duration::from_millis(1))
        .measurement_time(Duration::from_millis(200));
    for hard in hard::all() {
        group.bench_function(hard.name, |b| {
            b.iter(|| place(&hard.host, black_box(&hard.demand), &hard.now, &hard.empty).is_ok())
        });
    }
    group.finish();
    let _ = NodeId(0);
}

criterion_group!(benches, beside_200, cells, growth, hardest);
criterion_main!(benches);
