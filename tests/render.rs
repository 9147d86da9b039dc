//! Pictures and texts of plans: goldens for known hosts, properties for any host.
//!
//! `VIRTFIT_BLESS=1` rewrites the goldens in `tests/render/` (and fails, so that nothing is blessed
//! by accident).
#![allow(clippy::unwrap_used)]

use std::collections::BTreeMap;
use std::path::Path;

use proptest::prelude::*;
use unicode_width::UnicodeWidthChar;

use virtfit::domain::Topology;
use virtfit::host::{Core, Host, Llc, Node, PagePool};
use virtfit::ledger::Taken;
use virtfit::policy::profile::OnNoFit;
use virtfit::render::{self, Style};
use virtfit::types::ids::{CellId, HostCpu, IothreadId, KiB, NodeId, VcpuId};
use virtfit::types::idset::{CpuSet, NodeSet, VcpuSet};
use virtfit::types::plan::{Change, Note, Notes, PlacedCell, Placement, Plan, Scope, Verdict};
use virtfit::types::reason::{Basis, Choice, LeftOut, NoPlace, Outcome};
use virtfit::types::setting::{DiskAttribute, Target, Value};
use virtfit::types::subject::Subject;
use virtfit::types::target::Effect;

const TWO_MIB: KiB = KiB(2048);

fn style() -> Style {
    Style {
        width: 80,
        unicode: true,
        color: false,
    }
}

fn cpus(list: &str) -> CpuSet {
    virtfit::types::cpulist::parse(list).unwrap()
}

/// Makes nodes with so many cores of so many threads each; sibling t of core c is CPU c + t * all
/// cores.
fn host(nodes: u32, cores: u32, threads: u32, cores_a_cache: u32, cache: KiB) -> Host {
    let all = nodes * cores;
    let core = |number: u32| Core {
        cpus: (0..threads)
            .map(|thread| HostCpu(number + thread * all))
            .collect(),
        node: NodeId(number / cores),
        llc: (number / cores_a_cache) as usize,
        package: number / cores,
        die: number / cores,
        kind: 0,
    };
    Host {
        arch: "x86_64".into(),
        cores: (0..all).map(core).collect(),
        nodes: (0..nodes)
            .map(|id| Node {
                id: NodeId(id),
                memory: KiB(16 << 20),
                pools: vec![PagePool {
                    size: TWO_MIB,
                    total: 6144,
                    free: 6144,
                }],
                distances: BTreeMap::new(),
            })
            .collect(),
        llcs: vec![
            Llc {
                level: 3,
                size: cache
            };
            all.div_ceil(cores_a_cache) as usize
        ],
        online: CpuSet::first_n(all * threads),
        memory_known: true,
        ..Host::default()
    }
}

/// Makes the paper's server.
fn paper() -> Host {
    host(2, 8, 2, 8, KiB(11 * 1024))
}

fn taken(host: &Host, held: &[(&str, &str)]) -> Taken {
    let mut taken = Taken::default();
    for (list, name) in held {
        taken
            .cpus
            .extend(cpus(list).iter().map(|cpu| (cpu, (*name).to_string())));
    }
    for node in &host.nodes {
        taken.pages_free.insert((node.id, TWO_MIB), 6144);
        taken.memory_free.insert(node.id, KiB(3 << 20));
    }
    taken
}

fn change(target: Target, from: Value, to: Value, why: Basis) -> Change {
    Change {
        target,
        from,
        to,
        why,
        effect: Effect::NextStart,
    }
}

fn text(text: &str) -> Value {
    Value::Text(text.into())
}

fn empty_plan(verdict: Verdict) -> Plan {
    Plan {
        version: 1,
        guest: "def".into(),
        uuid: None,
        profile: Some("fit".into()),
        scope: Scope::Boot,
        verdict,
        reasons: Vec::new(),
        placement: None,
        changes: Vec::new(),
        notes: Notes {
            chosen_by: "rule 1, /etc/virtfit/policy.toml:4".into(),
            ..Notes::default()
        },
    }
}

/// Places vCPUs in order on these CPUs.
fn placement(pins: &[u32], emulator: &str, nodes: &[u32]) -> Placement {
    let one = |cpu: &u32| CpuSet::one(HostCpu(*cpu));
    Placement {
        dedicated: pins.iter().map(|cpu| HostCpu(*cpu)).collect(),
        vcpus: pins
            .iter()
            .enumerate()
            .map(|(vcpu, cpu)| (VcpuId(vcpu as u32), one(cpu)))
            .collect(),
        emulator: cpus(emulator),
        iothreads: BTreeMap::from([(IothreadId(1), cpus(emulator))]),
        nodes: nodes.iter().copied().map(NodeId).collect(),
        cells: vec![PlacedCell {
            id: CellId(0),
            vcpus: VcpuSet::first_n(pins.len() as u32),
            memory_kib: KiB(8 << 20),
            node: nodes.first().copied().map(NodeId),
        }],
        page_kib: Some(TWO_MIB),
        topology: Some(Topology {
            sockets: 1,
            dies: 1,
            clusters: 1,
            cores: 2,
            threads: 2,
        }),
        withheld: CpuSet::new(),
        fits: true,
    }
}

fn def_tuned() -> Plan {
    let mut plan = empty_plan(Verdict::Tuned);
    plan.placement = Some(placement(&[1, 17, 2, 18], "0,16", &[0]));
    let new = |target, to, why| change(target, Value::Absent, to, why);
    let on = |list: &str| Value::Cpus(cpus(list));
    let near = Basis::HousekeepingNear {
        nodes: vec![NodeId(0)],
    };
    let mut changes = vec![
        new(Target::Iothreads, Value::Number(1), Basis::OneADisk),
        new(Target::Hugepages, Value::PageSize(TWO_MIB), Basis::LargestPage),
    ];
    for (vcpu, cpu) in ["1", "17", "2", "18"].into_iter().enumerate() {
        let target = Target::VcpuPin(VcpuId(vcpu as u32));
        changes.push(new(target, on(cpu), Basis::SiblingsTogether));
    }
    let memory = Value::Numa {
        mode: "strict",
        nodes: NodeSet::one(NodeId(0)),
    };
    let shown = plan.placement.as_ref().unwrap().topology.unwrap();
    let mirrors = Basis::Mirrors {
        cores: vec![(NodeId(0), vec![1, 2])],
        on_nodes: true,
    };
    changes.extend([
        new(Target::EmulatorPin, on("0,16"), near.clone()),
        new(Target::IothreadPin(IothreadId(1)), on("0,16"), near),
        new(Target::NumaMemory, memory, Basis::WhereVcpusRun),
        change(
            Target::CpuMode,
            Value::CpuMode("host-model"),
            Value::CpuMode("host-passthrough"),
            Basis::ByProfile,
        ),
        new(Target::Topology, Value::Topology(shown), mirrors),
    ]);
    for disk in ["vda", "vdb"] {
        let target = |attribute| Target::Disk(disk.into(), attribute);
        let why = Basis::PreallocatedFile;
        changes.extend([
            new(target(DiskAttribute::Cache), text("none"), why.clone()),
            change(target(DiskAttribute::Io), text("threads"), text("native"), why),
        ]);
    }
    plan.changes = changes;
    let writeback = Subject::DiskValue("vdc".into(), DiskAttribute::Cache, "writeback".into());
    plan.notes.kept = vec![Note::new(writeback, Basis::ByHand)];
    let few = LeftOut::FewPages {
        need: 8,
        page: KiB::GIB,
        free: vec![(NodeId(0), 3)],
    };
    plan.notes.not_done = vec![Note::new(Subject::Value(Target::Hugepages), few)];
    plan
}

fn check(name: &str, got: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("tests/render")
        .join(name);
    if std::env::var_os("VIRTFIT_BLESS").is_some() {
        std::fs::write(&path, got).unwrap();
        return;
    }
    let want = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        want == got,
        "{name} differs; got:\n{got}\nwant:\n{want}\n`make bless` rewrites it, then read the diff"
    );
}

#[test]
fn goldens() {
    let paper = paper();
    let housekeeping = cpus("0,8,16,24");
    let half = taken(&paper, &[("9-10,25-26", "db"), ("11", "web")]);
    let show = |plan: &Plan, style: &Style| render::plan::text(plan, &paper, &housekeeping, &half, style);
    let tuned = def_tuned();
    check("tuned.txt", &show(&tuned, &style()));
    let ascii = Style {
        unicode: false,
        ..style()
    };
    check("tuned-ascii.txt", &show(&tuned, &ascii));
    check(
        "tuned-100.txt",
        &show(
            &tuned,
            &Style {
                width: 100,
                ..style()
            },
        ),
    );
    check("tuned-50.txt", &show(&tuned, &Style { width: 50, ..style() }));
    check(
        "tuned-color.txt",
        &show(
            &tuned,
            &Style {
                color: true,
                ..style()
            },
        ),
    );

    let mut refused = empty_plan(Verdict::Refused);
    refused.guest = "win 11".into();
    let few = NoPlace::FewCpus {
        need: 14,
        nodes: 1,
        free: vec![(NodeId(0), 12), (NodeId(1), 10)],
        holders: vec![("db".into(), 4), ("web".into(), 2)],
    };
    refused.reasons = vec![few.into()];
    check("refused.txt", &show(&refused, &style()));

    let mut unchanged = empty_plan(Verdict::Unchanged);
    unchanged.notes.on_no_fit = Some(OnNoFit::RunShared);
    unchanged.placement = def_tuned().placement;
    check("unchanged-fits.txt", &show(&unchanged, &style()));
    unchanged.profile = None;
    unchanged.notes.chosen_by.clear();
    check("unchanged-no-rule.txt", &show(&unchanged, &style()));

    let mut shared = empty_plan(Verdict::Tuned);
    let few = NoPlace::FewCores {
        need: 6,
        threads: 2,
        free: vec![(NodeId(0), 5), (NodeId(1), 4)],
        holders: Vec::new(),
    };
    shared.reasons = vec![few.into(), Outcome::RunsShared.into()];
    let mut floating = placement(&[0, 0, 0], "0,8,16,24", &[]);
    floating
        .vcpus
        .values_mut()
        .for_each(|set| *set = cpus("0-8,12-24,27-31"));
    floating.page_kib = None;
    shared.placement = Some(floating);
    shared.changes = (0..3)
        .map(|vcpu| {
            let target = Target::VcpuPin(VcpuId(vcpu));
            let mask = Value::Cpus(cpus("0-8,12-24,27-31"));
            change(target, Value::Absent, mask, Basis::Floats)
        })
        .collect();
    check("run-shared.txt", &show(&shared, &style()));
    check(
        "list.txt",
        &render::plan::list(&[tuned, refused, unchanged, shared], &style()),
    );
}

#[test]
fn goldens_of_other_hosts() {
    let show = |host: &Host, plan: &Plan, taken: &Taken| {
        render::plan::text(plan, host, &CpuSet::one(HostCpu(0)), taken, &style())
    };
    let mut plan = def_tuned();
    plan.changes.clear();
    plan.notes = Notes::default();

    let ccd = host(1, 16, 2, 4, KiB(32 << 10));
    let mut isolate = plan.clone();
    let mut two = placement(&[4, 5], "7", &[0]);
    two.withheld = cpus("20-21,23");
    two.iothreads = BTreeMap::from([(IothreadId(1), cpus("6"))]);
    isolate.placement = Some(two);
    check(
        "caches.txt",
        &show(&ccd, &isolate, &taken(&ccd, &[("9-10,25-26", "db")])),
    );

    let mut hybrid = host(1, 8, 2, 8, KiB(24 << 10));
    for number in 8..14 {
        hybrid.cores.push(Core {
            cpus: vec![HostCpu(number + 8)],
            node: NodeId(0),
            llc: 0,
            package: 0,
            die: 0,
            kind: 1,
        });
    }
    hybrid.offline = cpus("22-23");
    check("hybrid.txt", &show(&hybrid, &plan, &taken(&hybrid, &[])));

    let large = host(8, 32, 2, 8, KiB(32 << 10));
    let mut on_three = plan.clone();
    on_three.placement = Some(placement(&[96, 352, 97, 353], "0", &[3]));
    check(
        "large.txt",
        &show(&large, &on_three, &taken(&large, &[("40-47,296-303", "db")])),
    );

    let kept = {
        let mut plan = plan.clone();
        plan.placement = Some(placement(&[1, 1, 9], "0", &[0]));
        plan
    };
    let paper = paper();
    check(
        "collision.txt",
        &show(&paper, &kept, &taken(&paper, &[("9", "db")])),
    );
}

#[test]
fn blessing_does_not_pass() {
    assert!(
        std::env::var_os("VIRTFIT_BLESS").is_none(),
        "blessed: read the diff and commit"
    );
}

#[test]
fn what_a_guest_says_of_itself_cannot_steer_the_terminal() {
    let mut plan = def_tuned();
    let evil = "x\x1b]0;owned\x07\r\nroot# \u{202e}\u{9b}31m";
    plan.guest = evil.into();
    plan.reasons = vec![Choice::LeftAlone { profile: evil.into() }.into()];
    let what = Subject::DiskCacheAndIo(evil.into());
    plan.notes.kept = vec![Note::new(what, LeftOut::ImageMissing { path: evil.into() })];
    plan.notes.chosen_by = evil.into();
    for change in &mut plan.changes {
        change.from = text(evil);
        change.to = text(evil);
    }
    for attribute in DiskAttribute::ALL {
        let target = Target::Disk(evil.into(), attribute);
        plan.changes
            .push(change(target, text(evil), Value::Absent, Basis::ByProfile));
    }
    let host = paper();
    let taken = taken(&host, &[("9", evil)]);
    for unicode in [true, false] {
        let style = Style { unicode, ..style() };
        let mut text = render::plan::text(&plan, &host, &CpuSet::new(), &taken, &style);
        text.push_str(&render::plan::list(&[plan.clone(), plan.clone()], &style));
        text.push_str(&render::plan::line(&plan));
        for c in text.chars() {
            assert!(
                c == '\n' || !(c.is_control() || c == '\u{202e}'),
                "{c:?} in:\n{text}"
            );
        }
    }
}

/// Makes a host with holes, unequal cores, nodes without CPUs or memory; up to a thousand CPUs.
fn any_host() -> impl Strategy<Value = Host> {
    let core = (0u32..5, 1usize..5, 0usize..4, 0u32..3, 1u32..40);
    (proptest::collection::vec(core, 1..260), 1u32..6, any::<bool>()).prop_map(
        |(cores, nodes, memory_known)| {
            let mut host = host(nodes, 1, 1, 1, KiB(1234));
            host.cores.clear();
            host.memory_known = memory_known;
            let mut next = 0;
            for (node, threads, llc, kind, step) in cores {
                let cpus = (0..threads)
                    .map(|_| {
                        next += step;
                        HostCpu(next)
                    })
                    .collect();
                host.cores.push(Core {
                    cpus,
                    node: NodeId(node * 7),
                    llc,
                    package: node,
                    die: node,
                    kind,
                });
            }
            host.nodes
                .iter_mut()
                .for_each(|node| node.id = NodeId(node.id.0 * 7));
            host
        },
    )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn no_line_is_wider_than_the_page(
        host in any_host(),
        width in 0usize..130,
        flags in (any::<bool>(), any::<bool>(), any::<bool>()),
        pins in proptest::collection::vec(0u32..1200, 0..40),
        floating in any::<bool>(),
        memory in any::<u64>(),
        name in "\\PC{0,30}",
    ) {
        let (unicode, refuse, wide) = flags;
        let style = Style { width, unicode, color: false };
        let mut plan = def_tuned();
        plan.guest = name.clone();
        plan.reasons = vec![Choice::LeftAlone { profile: name.repeat(4) }.into()];
        let mut placed = placement(&pins, "3", &[0, 7, 35]);
        placed.cells[0].memory_kib = KiB(memory);
        if floating {
            placed.vcpus.insert(VcpuId(99), host.cores.iter().flat_map(|core| core.cpus.clone()).collect());
        }
        plan.placement = if refuse { None } else { Some(placed) };
        plan.verdict = if refuse { Verdict::Refused } else { Verdict::Tuned };
        let mut taken = taken(&host, &[]);
        for (index, core) in host.cores.iter().enumerate().filter(|(index, _)| index % 3 == 0) {
            taken.cpus.insert(core.cpus[0], if wide { format!("{name}{index}") } else { name.clone() });
        }
        let mut text = render::plan::text(&plan, &host, &cpus("0-9"), &taken, &style);
        text.push_str(&render::plan::list(&[plan.clone(), plan], &style));
        // Commands are complete at any width: they could not be pasted otherwise.
        for line in text.lines().filter(|line| !line.starts_with("  virtfit ")) {
            let columns: usize = line.chars().map(|c| c.width().unwrap_or(0)).sum();
            prop_assert!(columns <= width.max(render::MIN_WIDTH), "{columns} columns: {line}");
            prop_assert!(unicode || line.is_ascii(), "{line}");
            prop_assert!(!line.ends_with(' '), "{line:?}");
        }
    }
}
