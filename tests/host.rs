//! The fixture hosts, synthetic lines and overlays, read as the programs read them.
#![allow(clippy::unwrap_used)]

use std::path::{Path, PathBuf};

use virtfit::host::{Host, HostError, load};
use virtfit::hostfs::HostFs;
use virtfit::types::ids::{KiB, NodeId};

fn fixture(name: &str) -> Host {
    let path = PathBuf::from(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/hosts")
        .join(name);
    load(&HostFs::new(path), None).unwrap()
}

fn line(text: &str) -> Host {
    load(&HostFs::none(), Some(text)).unwrap()
}

fn tree(files: &[(&str, &str)]) -> (tempfile::TempDir, HostFs) {
    let dir = tempfile::tempdir().unwrap();
    for (path, text) in files {
        let path = dir.path().join(path);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    let root = HostFs::new(dir.path());
    (dir, root)
}

fn cpus(host: &Host, core: usize) -> Vec<u32> {
    host.cores[core].cpus.iter().map(|cpu| cpu.0).collect()
}

/// Checks rules that hold on every host.
fn assert_sane(host: &Host, name: &str) {
    let mut seen = virtfit::types::idset::CpuSet::new();
    for core in &host.cores {
        assert!(!core.cpus.is_empty() && core.cpus.is_sorted(), "{name}: {core:?}");
        assert!(host.node(core.node).is_some(), "{name}: {core:?}");
        assert!(core.llc < host.llcs.len(), "{name}: {core:?}");
        for cpu in &core.cpus {
            assert!(seen.insert(*cpu), "{name}: CPU {cpu} is on two cores");
        }
    }
    assert_eq!(seen, host.online, "{name}");
    assert!(host.online.is_disjoint(&host.offline), "{name}");
    assert!(host.cores.is_sorted_by_key(|core| core.cpus[0]), "{name}");
    assert!(host.nodes.is_sorted_by_key(|node| node.id), "{name}");
}

#[test]
fn the_paper_server() {
    let host = fixture("paper");
    assert_sane(&host, "paper");
    assert_eq!(
        (host.arch.as_str(), host.cpu_vendor.as_str()),
        ("x86_64", "GenuineIntel")
    );
    assert_eq!(host.cores.len(), 16);
    assert_eq!((cpus(&host, 0), cpus(&host, 15)), (vec![0, 16], vec![15, 31]));
    assert_eq!(host.cpus_of(NodeId(0)).to_string(), "0-7,16-23");
    assert_eq!(host.cpus_of(NodeId(1)).to_string(), "8-15,24-31");
    assert_eq!(host.llcs.len(), 2);
    assert!(
        host.llcs
            .iter()
            .all(|llc| llc.level == 3 && llc.size == KiB(11 * 1024))
    );
    for (node, other) in [(0, 1), (1, 0)] {
        let told = host.node(NodeId(node)).unwrap();
        assert_eq!(told.memory, KiB(16 << 20));
        let pools: Vec<_> = told
            .pools
            .iter()
            .map(|pool| (pool.size.0, pool.total, pool.free))
            .collect();
        assert_eq!(pools, [(2048, 6144, 6144), (1 << 20, 0, 0)]);
        assert_eq!(host.distance(NodeId(node), NodeId(other)), 21);
        assert_eq!(host.distance(NodeId(node), NodeId(node)), 10);
    }
    assert_eq!(host.hugetlbfs, [KiB(2048)]);
    assert!(host.memory_known && host.rt_allowed);
    assert_eq!(host.rt_runtime_us, Some(950_000));
    assert_eq!(host.guest_cpus.unwrap().to_string(), "0-31");
    assert_eq!(host.guest_nodes.unwrap().to_string(), "0-1");
    assert!(host.isolated.is_empty() && host.offline.is_empty());
    let packages: Vec<u32> = host.cores.iter().map(|core| core.package).collect();
    assert_eq!(packages, [[0; 8], [1; 8]].concat());
    assert!(
        host.cores
            .iter()
            .all(|core| core.die == core.package && core.kind == 0)
    );
}

#[test]
fn the_other_fixtures() {
    let amd = fixture("amd-ccd");
    assert_sane(&amd, "amd-ccd");
    assert_eq!((amd.cores.len(), amd.nodes.len(), amd.llcs.len()), (32, 1, 8));
    assert_eq!(
        (amd.cpu_vendor.as_str(), cpus(&amd, 5)),
        ("AuthenticAMD", vec![5, 37])
    );
    let per_llc: Vec<usize> = amd.cores.iter().map(|core| core.llc).collect();
    assert_eq!(per_llc, (0..32).map(|core| core / 4).collect::<Vec<_>>());

    let hybrid = fixture("hybrid");
    assert_sane(&hybrid, "hybrid");
    let kinds: Vec<u32> = hybrid.cores.iter().map(|core| core.kind).collect();
    assert_eq!(kinds, [[0; 8], [1; 8]].concat());
    assert_eq!((cpus(&hybrid, 1), cpus(&hybrid, 8)), (vec![2, 3], vec![16]));
    assert_eq!(hybrid.llcs.len(), 1);

    let dense = fixture("dense");
    assert_sane(&dense, "dense");
    let kinds: Vec<u32> = dense.cores.iter().map(|core| core.kind).collect();
    assert_eq!(kinds, [0, 0, 1, 1, 1, 1]);

    let no_smt = fixture("no-smt");
    assert_sane(&no_smt, "no-smt");
    assert_eq!(
        (no_smt.cores.len(), no_smt.nodes.len(), cpus(&no_smt, 9)),
        (16, 2, vec![9])
    );

    let isolated = fixture("isolcpus");
    assert_sane(&isolated, "isolcpus");
    assert_eq!(isolated.isolated.to_string(), "2-7,18-23");
}

#[test]
fn hosts_are_read_at_the_same_time() {
    let threads: Vec<_> = (0..8)
        .map(|turn| {
            std::thread::spawn(move || match turn % 4 {
                0 => assert_eq!(fixture("paper").cores.len(), 16),
                1 => assert_eq!(fixture("amd-ccd").cores.len(), 32),
                2 => assert_eq!(line("pack:3 core:1 pu:1").cores.len(), 3),
                _ => assert!(!load(&HostFs::default(), None).unwrap().cores.is_empty()),
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
}

#[test]
fn synthetic_lines() {
    let table = [
        // line, cores, CPUs, nodes, LLCs, packages, memory known
        ("pu:1", 1, 1, 1, 1, 1, false),
        (
            "pack:2 numa:1(memory=16GiB) l3:1 core:8 pu:2",
            16,
            32,
            2,
            2,
            2,
            true,
        ),
        ("pack:2 numa:1 l3:1 core:8 pu:2", 16, 32, 2, 2, 2, false),
        (
            "pack:2 [numa(memory=1GB)] die:2 l3:2 core:2 pu:1",
            16,
            16,
            2,
            8,
            2,
            true,
        ),
        ("pack:1 core:8 l2:1 pu:2", 8, 16, 1, 1, 1, false),
        ("pack:1 l2:4 core:2 pu:1", 8, 8, 1, 4, 1, false),
        ("pack:2 numa:8 l3:4 core:8 pu:2", 512, 1024, 16, 64, 2, false),
    ];
    for (text, cores, count, nodes, llcs, packages, known) in table {
        let host = line(text);
        assert_sane(&host, text);
        let mut seen: Vec<u32> = host.cores.iter().map(|core| core.package).collect();
        seen.dedup();
        let got = (
            host.cores.len(),
            host.online.len(),
            host.nodes.len(),
            host.llcs.len(),
            seen.len(),
        );
        assert_eq!(got, (cores, count, nodes, llcs, packages), "{text}");
        assert_eq!(host.memory_known, known, "{text}");
        assert!(
            host.rt_allowed && host.hugetlbfs.is_empty() && host.guest_cpus.is_none(),
            "{text}"
        );
    }
    let paper = line("pack:2 numa:1(memory=16GiB) l3:1 core:8 pu:2(indexes=0-7*2:16)");
    assert_eq!(paper.nodes[1].memory, KiB(16 << 20));
    let dies = line("pack:2 die:2 core:2 pu:1");
    let dies: Vec<u32> = dies.cores.iter().map(|core| core.die).collect();
    assert_eq!(dies, [0, 0, 1, 1, 2, 2, 3, 3]);
}

#[test]
fn what_is_no_topology_says_so() {
    let dir = tempfile::tempdir().unwrap();
    let text = dir.path().join("text");
    std::fs::write(&text, "hello\n").unwrap();
    let folder = dir.path().to_str().unwrap();
    let table = [
        ("garbage", "hwloc does not accept it as a synthetic line"),
        ("", "hwloc does not accept it as a synthetic line"),
        ("/no/such.xml", "No such file"),
        ("host.xml", "No such file"),
        ("pack:4 core:99999 pu:2", "more than 16384 CPUs"),
        (text.to_str().unwrap(), "does not accept this file as hwloc XML"),
        (folder, "Is a directory"),
    ];
    for (given, want) in table {
        let message = load(&HostFs::none(), Some(given)).unwrap_err().to_string();
        assert!(
            message.contains(want) && message.contains(given),
            "{given}: {message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
}

#[test]
fn what_is_no_root_says_so() {
    let missing = load(&HostFs::new("/no/such/root"), None).unwrap_err();
    assert!(
        missing.to_string().contains("/no/such/root: No such file"),
        "{missing}"
    );
    let (_dir, empty) = tree(&[("etc/os-release", "")]);
    assert!(matches!(load(&empty, None), Err(HostError::NoCpus(_))));
    assert!(matches!(load(&HostFs::none(), None), Err(HostError::Nothing)));
    let (_dir, broken) = tree(&[("sys/devices/system/cpu/online", "0-\n")]);
    let message = load(&broken, Some("pu:2")).unwrap_err().to_string();
    assert!(message.contains("cpu/online: "), "{message}");
}

const LINE: &str = "pack:2 numa:1(memory=16GiB) l3:1 core:8 pu:2";

#[test]
fn a_root_adds_what_it_has_to_a_topology() {
    let pool = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";
    let (_dir, root) = tree(&[
        (&format!("{pool}/nr_hugepages"), "100\n"),
        (&format!("{pool}/free_hugepages"), "40\n"),
    ]);
    let host = load(&root, Some(LINE)).unwrap();
    assert_sane(&host, "overlay");
    let pools: Vec<_> = host.nodes.iter().map(|node| node.pools.len()).collect();
    assert_eq!(pools, [1, 0]);
    assert_eq!(
        (host.nodes[0].pools[0].total, host.nodes[0].pools[0].free),
        (100, 40)
    );
    assert_eq!(host.nodes[0].memory, KiB(16 << 20), "the topology's own");
    assert_eq!(
        host.hugetlbfs,
        [KiB(2048)],
        "no mount table at all: what there is counts as mounted"
    );
    assert_eq!(host.online.len(), 32);

    let (_dir, root) = tree(&[
        (&format!("{pool}/nr_hugepages"), "100\n"),
        ("proc/mounts", "/dev/sda / ext4 rw 0 0\n"),
        ("sys/devices/system/cpu/present", "0-31\n"),
        ("sys/devices/system/cpu/online", "0-29\n"),
        ("sys/devices/system/cpu/isolated", "4-5,90\n"),
        ("sys/fs/cgroup/machine.slice/cpuset.cpus.effective", "0-7\n"),
    ]);
    let host = load(&root, Some(LINE)).unwrap();
    assert_sane(&host, "overlay with state");
    assert!(host.hugetlbfs.is_empty(), "a mount table without hugetlbfs");
    assert_eq!(host.offline.to_string(), "30-31");
    assert_eq!(host.isolated.to_string(), "4-5");
    assert_eq!(host.guest_cpus.unwrap().to_string(), "0-7");
}

/// An hwloc XML of two nodes local to the same CPUs, the first of them MCDRAM, and of huge pages.
const TWO_NODES: &str = r#"<?xml version="1.0" encoding="UTF-8"?>
<!DOCTYPE topology SYSTEM "hwloc2.dtd">
<topology version="2.0">
  <object type="Machine" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000007" allowed_cpuset="0x00000003"
      nodeset="0x00000003" complete_nodeset="0x00000003" allowed_nodeset="0x00000003" gp_index="1">
    <info name="Architecture" value="aarch64"/>
    <object type="NUMANode" os_index="0" cpuset="0x00000003" complete_cpuset="0x00000007" nodeset="0x00000001"
        complete_nodeset="0x00000001" gp_index="2" local_memory="1073741824" subtype="MCDRAM"/>
    <object type="NUMANode" os_index="1" cpuset="0x00000003" complete_cpuset="0x00000007" nodeset="0x00000002"
        complete_nodeset="0x00000002" gp_index="3" local_memory="536870912">
      <page_type size="65536" count="4096"/>
      <page_type size="2097152" count="128"/>
    </object>
    <object type="PU" os_index="0" cpuset="0x00000001" complete_cpuset="0x00000001" nodeset="0x00000003"
        complete_nodeset="0x00000003" gp_index="4"/>
    <object type="PU" os_index="1" cpuset="0x00000002" complete_cpuset="0x00000002" nodeset="0x00000003"
        complete_nodeset="0x00000003" gp_index="5"/>
  </object>
</topology>
"#;

#[test]
fn xml_alone_is_an_empty_host() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("two.xml");
    std::fs::write(&file, TWO_NODES).unwrap();
    let host = load(&HostFs::none(), Some(file.to_str().unwrap())).unwrap();
    assert_sane(&host, "two nodes");
    assert_eq!(host.arch, "aarch64");
    assert_eq!(host.offline.to_string(), "2");
    let homes: Vec<u32> = host.cores.iter().map(|core| core.node.0).collect();
    assert_eq!(
        homes,
        [1, 1],
        "ordinary memory before special, larger or lower as it may be"
    );
    assert_eq!(
        (host.nodes[0].memory, host.nodes[1].memory),
        (KiB(1 << 20), KiB(512 << 10))
    );
    assert!(host.nodes[0].pools.is_empty());
    let pool = host.nodes[1].pools[0];
    assert_eq!((pool.size, pool.total, pool.free), (KiB(2048), 128, 128));
    assert_eq!(host.hugetlbfs, [KiB(2048)]);
    assert!(Path::new(&file).exists() && host.memory_known && host.rt_allowed);
}

#[test]
fn offline_cpus_are_on_no_core() {
    let host = fixture("snc-offline");
    assert_sane(&host, "snc-offline");
    assert_eq!(host.offline.to_string(), "3,16-19");
    assert_eq!(
        (host.online.len(), host.cores.len(), host.nodes.len()),
        (27, 16 - 1, 4)
    );
    assert_eq!(cpus(&host, 0), [0], "its sibling is offline");
    assert_eq!(host.distance(NodeId(0), NodeId(1)), 12);
    assert_eq!(host.distance(NodeId(0), NodeId(2)), 21);
    assert_eq!(host.llcs.len(), 2, "an L3 over both nodes of a package");
    assert_eq!(host.pci_nodes, [("0000:3b:00.0".to_string(), NodeId(2))].into());
}
