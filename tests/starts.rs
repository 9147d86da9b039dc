//! Tuned guests must start: a setting that libvirt or QEMU would refuse at a start is left out, or
//! the guest is refused.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write;
use std::process::{Command, Output, Stdio};

use tempfile::TempDir;

/// Host: a topology, and files below a root.
struct Host(TempDir);

const TOPOLOGY: &str = "numa:1(memory=64GB) core:8 pu:1";

impl Host {
    fn new(files: &[(&str, &str)]) -> Self {
        let root = TempDir::new().unwrap();
        for (path, text) in files {
            let path = root.path().join(path);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        Self(root)
    }

    fn rewrite(&self, keys: &str, domain: &str) -> Output {
        self.run(&["rewrite"], keys, domain)
    }

    fn run(&self, command: &[&str], keys: &str, domain: &str) -> Output {
        let policy = self.0.path().join("policy.toml");
        let text = format!("[profile.p]\ninherits = \"fit\"\n{keys}\n");
        fs::write(&policy, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_virtfit"))
            .arg("--root")
            .arg(self.0.path())
            .args(["--topology", TOPOLOGY, "--policy"])
            .arg(&policy)
            .args(command)
            .args(["--profile", "p", "-"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        child.stdin.take().unwrap().write_all(domain.as_bytes()).unwrap();
        child.wait_with_output().unwrap()
    }

    #[track_caller]
    fn tuned(&self, keys: &str, domain: &str) -> String {
        let output = self.rewrite(keys, domain);
        assert!(output.status.success(), "{keys}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }
}

fn domain(memory: &str, inside: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>g</name>\n  {memory}\n  <vcpu>2</vcpu>\n  <os>\n    <type>hvm</type>\n  \
         </os>\n{inside}</domain>\n"
    )
}

#[test]
fn memory_is_not_locked_where_libvirt_may_not() {
    let limits = "Limit  Soft Limit  Hard Limit  Units\nMax locked memory  65536  67108864  bytes\n";
    let daemon = |capabilities: &str| format!("Name:\tlibvirtd\nCapEff:\t{capabilities}\n");
    let host = |capabilities: &str| {
        Host::new(&[
            ("run/libvirtd.pid", "77\n"),
            ("proc/77/status", &daemon(capabilities)),
            ("proc/77/limits", limits),
        ])
    };
    let guest = domain("<memory unit='GiB'>2</memory>", "");
    let keys = "locked = true";
    assert!(host("000001ffffffffff").tuned(keys, &guest).contains("<locked/>"));
    let without = host("000001fffeffffff");
    let tuned = without.tuned(keys, &guest);
    assert!(
        !tuned.contains("<locked/>") && tuned.contains("<vcpupin"),
        "{tuned}"
    );
    let refused = without.rewrite("locked = true\non_no_fit = \"refuse\"", &guest);
    let stderr = String::from_utf8(refused.stderr).unwrap();
    assert!(
        refused.status.code() == Some(3) && refused.stdout.is_empty() && stderr.contains("CAP_SYS_RESOURCE"),
        "{stderr}"
    );
}

/// Memory devices take pages beside the cells, and the size of each must be a whole number of
/// pages.
#[test]
fn memory_devices_take_pages() {
    let pool = "sys/devices/system/node/node0/hugepages/hugepages-";
    let large = [
        format!("{pool}1048576kB/nr_hugepages"),
        format!("{pool}1048576kB/free_hugepages"),
    ];
    let small = [
        format!("{pool}2048kB/nr_hugepages"),
        format!("{pool}2048kB/free_hugepages"),
    ];
    let host = Host::new(&[
        ("sys/devices/system/node/node0/cpulist", "0-7\n"),
        (
            "sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal: 67108864 kB\n",
        ),
        (&large[0], "8\n"),
        (&large[1], "8\n"),
        (&small[0], "1024\n"),
        (&small[1], "1024\n"),
        (
            "proc/mounts",
            "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\nnone /dev/large hugetlbfs rw,pagesize=1024M 0 0\n",
        ),
    ]);
    let dimm = |size: u64, source: &str| {
        format!(
            "    <memory model='dimm'>\n{source}      <target>\n        <size unit='MiB'>{size}</size>\n        \
             <node>0</node>\n      </target>\n    </memory>\n"
        )
    };
    let virtio_mem = |requested: u64| {
        format!(
            "    <memory model='virtio-mem'>\n      <target>\n        <size unit='GiB'>64</size>\n        <node>0</node>\n\
             <block unit='MiB'>2</block>\n<requested unit='MiB'>{requested}</requested>\n      </target>\n    </memory>\n"
        )
    };
    // Cell, devices, page size chosen.
    let rows = [
        (1024, String::new(), Some("1048576")),
        (1024, dimm(1024, ""), Some("1048576")),
        // 512 MiB are no whole large page; 1 GiB and 512 MiB are 768 of the 1024 small ones.
        (1024, dimm(512, ""), Some("2048")),
        (
            1024,
            dimm(
                512,
                "      <source>\n        <pagesize unit='KiB'>4</pagesize>\n      </source>\n",
            ),
            Some("1048576"),
        ),
        // 8 GiB of device on top of 1 GiB are more than either pool has.
        (1024, dimm(8192, ""), None),
        (1024, virtio_mem(512), Some("2048")),
        (1024, virtio_mem(1536), None),
    ];
    for (cell, devices, page) in rows {
        let inside = format!(
            "  <cpu mode='host-model'>\n    <numa>\n      <cell id='0' cpus='0-1' memory='{cell}' unit='MiB'/>\n    \
             </numa>\n  </cpu>\n  <devices>\n{devices}  </devices>\n"
        );
        let memory = "<maxMemory slots='4' unit='GiB'>128</maxMemory>\n  <memory unit='MiB'>1024</memory>";
        let tuned = host.tuned("", &domain(memory, &inside));
        let found = tuned
            .split_once("<page size='")
            .map(|(_, rest)| rest.split_once('\'').unwrap().0);
        assert_eq!(found, page, "{cell} {devices}: {tuned}");
    }
}

/// A page size that was chosen by hand after virtfit is the administrator's.
#[test]
fn huge_pages_changed_by_hand_stay() {
    let pool = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/";
    let host = Host::new(&[
        ("sys/devices/system/node/node0/cpulist", "0-7\n"),
        (
            "sys/devices/system/node/node0/meminfo",
            "Node 0 MemTotal: 67108864 kB\n",
        ),
        (&format!("{pool}nr_hugepages"), "2048\n"),
        (&format!("{pool}free_hugepages"), "2048\n"),
        (
            "proc/mounts",
            "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\n",
        ),
    ]);
    let tuned = host.tuned("", &domain("<memory unit='GiB'>2</memory>", ""));
    let ours = "<page size='2048' unit='KiB'/>";
    let theirs = "<page size='1' unit='GiB' nodeset='0'/>";
    assert!(tuned.contains(ours), "{tuned}");
    let edited = tuned.replace(ours, theirs);
    let again = host.tuned("", &edited);
    assert!(again.contains(theirs) && !again.contains(ours), "{again}");
    assert_eq!(host.tuned("", &again), again);
    assert!(host.tuned("on_existing = \"override\"", &edited).contains(ours));
}

/// An administrator's values that stay and that this host cannot honour are named: libvirt finds
/// them when the guest starts.
#[test]
fn pins_on_cpus_the_host_lacks_are_said() {
    let host = Host::new(&[]);
    // elements, keys, what is said
    let rows = [
        (
            "<cputune><emulatorpin cpuset='0,99'/></cputune>",
            "",
            Some("its emulatorpin names CPU 99"),
        ),
        ("<cputune><emulatorpin cpuset='0-1'/></cputune>", "", None),
        (
            "<cputune><emulatorpin cpuset='0,99'/></cputune>",
            "on_existing = \"override\"",
            None,
        ),
        (
            "<cputune><emulatorpin cpuset='0,99'/></cputune>",
            "on_existing = \"override\"\nemulator = \"keep\"",
            Some("its emulatorpin names CPU 99"),
        ),
        (
            "<iothreads>2</iothreads><cputune><iothreadpin iothread='2' cpuset='8-9'/></cputune>",
            "",
            Some("the iothreadpin of iothread 2 names CPUs 8-9"),
        ),
        (
            "<cputune><vcpupin vcpu='1' cpuset='7-8'/></cputune>",
            "cpus = \"keep\"",
            Some("the vcpupin of vCPU 1 names CPU 8"),
        ),
        (
            "<numatune><memory mode='interleave' nodeset='0-1'/></numatune>",
            "",
            Some("its numatune names node 1"),
        ),
        // Only threads without a pin of their own run in it.
        (
            "<vcpu cpuset='0-3,99'>2</vcpu>",
            "emulator = \"keep\"",
            Some("cpuset= of <vcpu> names CPU 99"),
        ),
        ("<vcpu cpuset='0-3,99'>2</vcpu>", "", None),
        (
            "<vcpu cpuset='0-3,99'>2</vcpu>",
            "cpus = \"keep\"",
            Some("cpuset= of <vcpu> names CPU 99"),
        ),
    ];
    for (elements, keys, said) in rows {
        let text = domain(&format!("<memory unit='GiB'>2</memory>{elements}"), "");
        let text = match elements.starts_with("<vcpu ") {
            true => text.replace("<vcpu>2</vcpu>\n", ""),
            false => text,
        };
        let output = host.run(&["plan", "--json"], keys, &text);
        assert!(output.status.success(), "{elements}, {keys}: {output:?}");
        let plan = String::from_utf8(output.stdout).unwrap();
        match said {
            Some(said) => assert!(plan.contains(said), "{elements}, {keys}: {plan}"),
            None => assert!(
                !plan.contains("libvirt will not start it"),
                "{elements}, {keys}: {plan}"
            ),
        }
    }
}
