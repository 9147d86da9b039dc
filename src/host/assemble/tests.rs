use super::*;
use crate::host::core_kinds::Group;
use crate::host::structure::{Cache, MemoryNode};

fn thread(cpu: u32, core: usize, caches: &[(u32, u64)]) -> Thread {
    let caches = caches.iter().map(|(level, id)| Cache {
        id: *id,
        level: *level,
        size: KiB(1),
    });
    Thread {
        cpu: HostCpu(cpu),
        core,
        package: 0,
        die: None,
        caches: caches.collect(),
        node: Some(NodeId(0)),
    }
}

fn structure(threads: Vec<Thread>) -> Structure {
    let node = |id| MemoryNode {
        id: NodeId(id),
        memory: KiB(0),
        pools: Vec::new(),
    };
    Structure {
        threads,
        nodes: vec![node(0), node(3)],
        ..Structure::default()
    }
}

#[test]
fn only_a_cache_that_cores_could_share_is_a_last_level() {
    let table = [
        ("none", vec![thread(0, 0, &[]), thread(1, 1, &[])], vec![0]),
        (
            "private L2s",
            vec![thread(0, 0, &[(2, 1)]), thread(1, 1, &[(2, 2)])],
            vec![0],
        ),
        (
            "a shared L2",
            vec![thread(0, 0, &[(2, 1)]), thread(1, 1, &[(2, 1)])],
            vec![2],
        ),
        (
            "private L3s",
            vec![thread(0, 0, &[(3, 1)]), thread(1, 1, &[(3, 2)])],
            vec![3, 3],
        ),
    ];
    for (name, threads, want) in table {
        let host = assemble(structure(threads), Told::default(), Frame::SameMachine);
        let levels: Vec<u32> = host.llcs.iter().map(|llc| llc.level).collect();
        assert_eq!(levels, want, "{name}");
    }
}

#[test]
fn the_kernel_settles_nodes_and_a_core_has_one() {
    let cpus = |text: &str| NodeState {
        cpus: Some(crate::types::cpulist::parse(text).unwrap()),
        ..NodeState::default()
    };
    let threads = || vec![thread(0, 0, &[]), thread(1, 0, &[]), thread(2, 1, &[])];
    let told = || Told {
        nodes: BTreeMap::from([
            (NodeId(0), cpus("0")),
            (NodeId(3), cpus("1-2")),
            (NodeId(5), cpus("")),
        ]),
        ..Told::default()
    };
    let homes = |host: &Host| host.cores.iter().map(|core| core.node.0).collect::<Vec<_>>();
    let same = assemble(structure(threads()), told(), Frame::SameMachine);
    assert_eq!(homes(&same), [0, 3, 3]);
    assert_eq!(
        same.nodes.len(),
        2,
        "a node that neither hwloc nor a CPU knows is none"
    );
    let overlay = assemble(structure(threads()), told(), Frame::Overlay);
    assert_eq!(homes(&overlay), [0, 0]);
    assert!(!overlay.memory_known);
}

#[test]
fn online_is_the_kernels_word() {
    let told = |online: &str, present: &str| Told {
        cpus: CpuState {
            online: Some(crate::types::cpulist::parse(online).unwrap()),
            present: Some(crate::types::cpulist::parse(present).unwrap()),
            ..CpuState::default()
        },
        ..Told::default()
    };
    let table = [
        (Frame::SameMachine, "0,2", "0-3", "0,2", "1,3"),
        (Frame::Overlay, "0,2", "0-3", "0,2", "1"),
        (Frame::Overlay, "0", "0", "0-2", ""),
        (Frame::SameMachine, "9", "0-9", "0-2", "3-8"),
    ];
    for row in table {
        let threads = vec![thread(0, 0, &[]), thread(1, 1, &[]), thread(2, 2, &[])];
        let host = assemble(structure(threads), told(row.1, row.2), row.0);
        assert_eq!(
            (host.online.to_string(), host.offline.to_string()),
            (row.3.into(), row.4.into()),
            "{row:?}"
        );
    }
}

/// hwloc may know the clocks alone, by which favoured cores differ too; the kernel knows designs.
#[test]
fn the_kernel_names_kinds_where_hwloc_names_no_design() {
    let group = |cpu: u32, maximum, design: &str| Group {
        cpus: vec![HostCpu(cpu)],
        cores: 1,
        maximum: Some(maximum),
        design: design.into(),
        ..Group::default()
    };
    for (designs, want) in [(["", ""], [0, 1]), (["IntelCore", "IntelCore"], [0, 0])] {
        let told = Told {
            cpus: CpuState {
                kinds: BTreeMap::from([(HostCpu(0), 0), (HostCpu(1), 1)]),
                ..CpuState::default()
            },
            ..Told::default()
        };
        let structure = Structure {
            kinds: vec![group(0, 5500, designs[0]), group(1, 4300, designs[1])],
            ..structure(vec![thread(0, 0, &[]), thread(1, 1, &[])])
        };
        let host = assemble(structure, told, Frame::SameMachine);
        let kinds: Vec<u32> = host.cores.iter().map(|core| core.kind).collect();
        assert_eq!(kinds, want, "{designs:?}");
    }
}
