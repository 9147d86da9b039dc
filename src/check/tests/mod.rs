//! Each verdict of each check, on a small host with the files that it reads.

mod rows;

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::sync::Arc;
use std::time::SystemTime;

use crate::check::table::CHECKS;
use crate::check::{Finding, Verdict, facts::Facts};
use crate::host::Host;
use crate::hostfs::HostFs;
use crate::policy::Policy;
use crate::snapshot::{Snapshot, Sources};
use crate::status::{Found, PolicyRead};

/// Verdict that a row expects; `Unknown`: there is nothing to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Want {
    Pass,
    Info,
    Warn,
    Fail,
    Unknown,
}
use Want::{Fail, Info, Pass, Unknown, Warn};

use rows::ROWS;

/// Host of a row.
struct Row {
    id: &'static str,
    want: Want,
    /// Part of what the finding says, of its reading, its meaning or its cure.
    says: &'static str,
    /// Files: content, `-> target` for a link, `#!…` for a program, `/` for a folder, `sparse`
    /// for an image with holes.
    files: &'static [(&'static str, &'static str)],
    profile: &'static str,
    policy: &'static str,
    topology: &'static str,
    change: fn(&mut Host),
    found: Found,
    root: bool,
}

fn same(_: &mut Host) {}

/// Makes a row of an ordinary host of two nodes, for the profile `fit`.
const fn row(
    id: &'static str,
    want: Want,
    says: &'static str,
    files: &'static [(&'static str, &'static str)],
) -> Row {
    Row {
        id,
        want,
        says,
        files,
        profile: "fit",
        policy: "",
        topology: "pack:2 [numa(memory=8GB)] core:4 pu:2",
        change: same,
        found: Found {
            no_daemon: false,
            policy: PolicyRead::Whole,
        },
        root: true,
    }
}

impl Row {
    const fn of(self, profile: &'static str) -> Self {
        Self { profile, ..self }
    }

    const fn under(self, policy: &'static str) -> Self {
        Self { policy, ..self }
    }

    const fn on(self, topology: &'static str) -> Self {
        Self { topology, ..self }
    }

    const fn with(self, change: fn(&mut Host)) -> Self {
        Self { change, ..self }
    }

    /// Asks as another user than root, who cannot read definitions.
    const fn for_others(self) -> Self {
        Self { root: false, ..self }
    }

    const fn found(self, no_daemon: bool, policy: PolicyRead) -> Self {
        Self {
            found: Found { no_daemon, policy },
            ..self
        }
    }
}

fn put(root: &Path, (path, content): (&str, &str)) {
    let path = root.join(path.trim_start_matches('/'));
    if content == "/" {
        fs::create_dir_all(path).unwrap();
        return;
    }
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    match content.strip_prefix("-> ") {
        Some(target) => symlink(target, path).unwrap(),
        None => {
            fs::write(&path, content).unwrap();
            if content == "sparse" {
                let file = fs::File::options().write(true).open(&path).unwrap();
                file.set_len(1 << 30).unwrap();
            }
            let mode = if content.starts_with("#!") { 0o755 } else { 0o644 };
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).unwrap();
        }
    }
}

/// Returns the finding of a row's check.
fn finding(row: &Row) -> Finding {
    let folder = tempfile::tempdir().unwrap();
    row.files.iter().for_each(|file| put(folder.path(), *file));
    let sources = Sources {
        root: HostFs::new(folder.path()),
        topology: Some(row.topology.into()),
        ..Sources::default()
    };
    let policy = Policy::parse(row.policy, "policy.toml").unwrap();
    let read = Snapshot::read_with(&sources, policy.clone(), SystemTime::now());
    let read = read.unwrap_or_else(|error| panic!("{}, {:?}: {error}", row.id, row.says));
    let mut host = Arc::unwrap_or_clone(read.host);
    (row.change)(&mut host);
    let view = Snapshot::new(sources.root, policy, host, Arc::unwrap_or_clone(read.reading));
    let facts = Facts::gather(&view, row.found, row.root);
    let check = CHECKS.iter().find(|check| check.id == row.id).unwrap();
    let profile = view.policy.profile(row.profile).unwrap();
    (check.run)(&facts, profile)
}

const HOOK: (&str, &str) = (
    "/etc/libvirt/hooks/qemu.d/50-virtfit",
    "#!/bin/sh\nexec virtfit\n",
);
const LIBVIRT_9: (&str, &str) = ("/usr/lib64/libvirt.so.0", "-> libvirt.so.0.9000.0");
const LIBVIRT_11: (&str, &str) = ("/usr/lib64/libvirt.so.0", "-> libvirt.so.0.11003.0");
const LIBVIRT_12: (&str, &str) = ("/usr/lib64/libvirt.so.0", "-> libvirt.so.0.12000.0");
const QEMU_10: (&str, &str) = (
    "/var/cache/libvirt/qemu/capabilities/a.xml",
    "<qemuCaps>\n<emulator>/usr/bin/q</emulator>\n<selfvers>9000000</selfvers>\n<version>10000000</version>\n</qemuCaps>\n",
);
const GUEST: (&str, &str) = (
    "/etc/libvirt/qemu/db.xml",
    "<domain type='kvm'><name>db</name><uuid>5a7e0000-0000-4000-8000-000000000001</uuid><memory>4194304</memory><vcpu>2</vcpu>\
     <os><type>hvm</type></os><devices><disk type='file' device='disk'><source file='/images/db.raw'/><target dev='vda'/></disk>\
     <disk type='block' device='disk'><source dev='/dev/nvme0n1'/><target dev='vdb'/></disk>\
     <hostdev mode='subsystem' type='pci'><source><address domain='0' bus='0x3b' slot='0' function='0'/></source></hostdev>\
     </devices></domain>",
);
const AUTO: (&str, &str) = (
    "/etc/libvirt/qemu/db.xml",
    "<domain type='kvm'><name>db</name><memory>4194304</memory><vcpu placement='auto'>2</vcpu><os><type>hvm</type></os></domain>",
);
const AUTOSTART: (&str, &str) = (
    "/etc/libvirt/qemu/autostart/db.xml",
    "-> /etc/libvirt/qemu/db.xml",
);
const RULE: &str = "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";
const RULE_1G: &str =
    "[profile.big]\nhugepages = \"1G\"\n[[rule]]\nmatch = { name = \"*\" }\nprofile = \"big\"\n";
const OWN: &str = "[host]\nhousekeeping = \"0-1,8-9\"\ndedicated = \"2-7,10-15\"\n";
const LARGE: &str =
    "[profile.big]\nhugepages = \"large\"\n[[rule]]\nmatch = { name = \"*\" }\nprofile = \"big\"\n";
const RT_KEEPS_SMT: &str = "[profile.rt]\nrealtime.vcpus = \"all\"\n";
const POOL: (&str, &str) = (
    "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
    "2048",
);
const POOL_FREE: (&str, &str) = (
    "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
    "2048",
);
const EMPTY_POOL: (&str, &str) = (
    "/sys/devices/system/node/node0/hugepages/hugepages-2048kB/nr_hugepages",
    "0",
);
/// Node with 3 GiB of free memory.
const MEMORY_0: (&str, &str) = (
    "/sys/devices/system/node/node0/meminfo",
    "Node 0 MemTotal: 7812500 kB\nNode 0 MemFree: 3145728 kB\n",
);
/// Node with 1 GiB of free memory and 2 GiB of files.
const MEMORY_1: (&str, &str) = (
    "/sys/devices/system/node/node1/meminfo",
    "Node 1 MemFree: 1048576 kB\nNode 1 Active(file): 1048576 kB\nNode 1 Inactive(file): 1048576 kB\n",
);
const BLOCKS: (&str, &str) = (
    "/proc/buddyinfo",
    "Node 0, zone Normal 9 9 9 9 9 9 9 9 9 0 2048\n",
);
const NOT_RESERVED: &str =
    "[host]\nreserved_memory = \"0\"\n[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";
const THP: &str = "/sys/kernel/mm/transparent_hugepage/enabled";
const DEBIAN: (&str, &str) = ("/etc/os-release", "ID=debian\n");

fn isolated(host: &mut Host) {
    host.isolated = crate::types::cpulist::parse("2-7").unwrap();
}

fn tickless(host: &mut Host) {
    host.nohz_full = host.online.clone();
}

fn no_limits(host: &mut Host) {
    host.memlock_limited = true;
    host.rt_allowed = false;
}

fn narrow_guests(host: &mut Host) {
    host.guest_cpus = Some(crate::types::cpulist::parse("0-7").unwrap());
}

fn all_for_guests(host: &mut Host) {
    host.guest_cpus = Some(host.online.clone());
}

fn some_offline(host: &mut Host) {
    let off = crate::types::cpulist::parse("14-15").unwrap();
    host.online = host.online.difference(&off);
    host.offline = off;
}

fn distances(host: &mut Host, remote: u32) {
    let ids: Vec<_> = host.nodes.iter().map(|node| node.id).collect();
    for node in &mut host.nodes {
        let own = node.id;
        node.distances = ids
            .iter()
            .map(|id| (*id, if *id == own { 10 } else { remote }))
            .collect();
    }
}

#[test]
fn each_verdict_of_each_check() {
    let mut wrong = Vec::new();
    for row in ROWS {
        let finding = finding(row);
        let got = match (finding.known, finding.verdict) {
            (false, _) => Unknown,
            (true, Verdict::Pass) => Pass,
            (true, Verdict::Info) => Info,
            (true, Verdict::Warn) => Warn,
            (true, Verdict::Fail) => Fail,
        };
        let commands = finding.mend.iter().flat_map(|mend| mend.commands.clone());
        let text = finding.mend.iter().map(|mend| mend.text.clone());
        let all: Vec<String> = [finding.read.clone(), finding.means.clone()]
            .into_iter()
            .chain(text)
            .chain(commands)
            .collect();
        let all = all.join("\n");
        if got != row.want || !all.contains(row.says) {
            wrong.push(format!(
                "{}: {got:?} instead of {:?} with {:?}:\n{all}\n",
                row.id, row.want, row.says
            ));
        }
        // What fails or warns has a cure, and what was read is said.
        if matches!(got, Fail | Warn) && finding.mend.is_none() {
            wrong.push(format!("{}: {got:?} without a cure: {all}\n", row.id));
        }
        if finding.read.is_empty() || finding.means.contains('\n') {
            wrong.push(format!("{}: {finding:?}\n", row.id));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn every_check_is_tried_both_ways() {
    let ids: BTreeSet<&str> = CHECKS.iter().map(|check| check.id).collect();
    assert_eq!(ids.len(), CHECKS.len());
    for id in ids {
        let wants: BTreeSet<Want> = ROWS
            .iter()
            .filter(|row| row.id == id)
            .map(|row| row.want)
            .collect();
        assert!(wants.len() > 1, "{id}: {wants:?}");
    }
}

#[test]
fn the_page_has_every_check() {
    let page = include_str!("../../../docs/checks.md");
    for check in CHECKS {
        assert!(page.contains(&format!("| `{}` |", check.id)), "{}", check.id);
        assert!(page.contains(check.source), "{}: {}", check.id, check.source);
    }
}

#[test]
fn groups_stand_together() {
    let groups: Vec<_> = CHECKS.iter().map(|check| check.group).collect();
    assert!(groups.is_sorted());
}
