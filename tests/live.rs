//! Live changes on a real libvirt and QEMU: pins, real-time classes, floating threads, and `virtfit
//! status` on them.
//!
//! The daemon's part is done by this very program, run again inside the daemons' namespace with
//! virsh for libvirt's API.
#![allow(clippy::unwrap_used)]

#[path = "common/libvirt.rs"]
mod daemon;

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, Write as _};
use std::process::Command;
use std::time::SystemTime;

use daemon::{Libvirt, Thread};
use virtfit::hostfs::HostFs;
use virtfit::libvirt::{Hypervisor, HypervisorError, LiveChange};
use virtfit::live::carry_out;
use virtfit::live::{Round, Running, forget_ended};
use virtfit::snapshot::{Snapshot, Sources};

const VIRTFIT: &str = env!("CARGO_BIN_EXE_virtfit");
const SETS: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n";

/// Does the daemon's part at `started` (`live GUEST`) and after it (`floats`); the words are in
/// `VIRTFIT_LIVE`, the policy's file last.
#[test]
#[ignore = "run by the tests below, inside the daemons' namespace"]
fn inside() {
    let Ok(words) = std::env::var("VIRTFIT_LIVE") else {
        return;
    };
    let words: Vec<&str> = words.split(' ').collect();
    let place = Sources {
        policy: words.last().map(Into::into),
        ..Sources::default()
    };
    let mut todo = Running::default();
    match words[0] {
        "floats" => todo.ledger_changed(),
        _ => todo.add(words[1]),
    }
    let mut virsh = Virsh::default();
    for _ in 0..5 {
        let view = Snapshot::read(&place, SystemTime::now()).unwrap();
        if todo.round(&view, &mut virsh, &|_| false) == Round::Done {
            break;
        }
    }
    forget_ended(&HostFs::default()).unwrap();
    writeln!(io::stdout(), "SAID {}", virsh.calls.join("; ")).unwrap();
}

/// libvirt's API by way of virsh.
#[derive(Default)]
struct Virsh {
    calls: Vec<String>,
}

impl Hypervisor for Virsh {
    fn define(&mut self, _: &str) -> Result<(), HypervisorError> {
        unreachable!("nothing is defined here")
    }

    fn undefine(&mut self, _: &str) -> Result<(), HypervisorError> {
        unreachable!("nothing is undefined here")
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), HypervisorError> {
        unreachable!("nothing is renamed here")
    }

    fn live(&mut self, uuid: &str, change: &LiveChange) -> Result<(), HypervisorError> {
        self.calls.push(carry_out::show(change));
        let words: Vec<String> = match change {
            LiveChange::PinVcpu(id, cpus) => {
                vec!["vcpupin".into(), uuid.into(), id.to_string(), cpus.to_string()]
            }
            LiveChange::PinEmulator(cpus) => vec!["emulatorpin".into(), uuid.into(), cpus.to_string()],
            LiveChange::PinIothread(id, cpus) => {
                vec![
                    "iothreadpin".into(),
                    uuid.into(),
                    id.to_string(),
                    cpus.to_string(),
                ]
            }
            LiveChange::Numa(nodes) => vec![
                "numatune".into(),
                uuid.into(),
                "--mode".into(),
                "restrictive".into(),
                "--nodeset".into(),
                nodes.to_string(),
            ],
        };
        let got = Command::new("virsh")
            .args(["-q", "-c", "qemu:///system"])
            .args(&words)
            .arg("--live")
            .output()
            .unwrap();
        match got.status.success() {
            true => Ok(()),
            false => Err(HypervisorError::Said(String::from_utf8_lossy(&got.stderr).into())),
        }
    }
}

/// Daemons of libvirt with a `/run/virtfit` of their own, and a policy.
struct Scene {
    libvirt: Libvirt,
    policy: tempfile::NamedTempFile,
}

impl Scene {
    fn new(rules: &str) -> Self {
        let libvirt = Libvirt::start(0);
        let own = "mkdir -p /run/virtfit && mount -t tmpfs none /run/virtfit";
        assert!(libvirt.run("sh", &["-c", own], &[]).status.success());
        let policy = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        let scene = Self { libvirt, policy };
        scene.rules(rules);
        scene
    }

    fn rules(&self, rules: &str) {
        fs::write(self.policy.path(), format!("{SETS}{rules}")).unwrap();
    }

    /// Runs [`inside`]; returns its output.
    fn act(&self, words: &str) -> String {
        let program = std::env::current_exe().unwrap();
        let words = format!("VIRTFIT_LIVE={words} {}", self.policy.path().display());
        let inside = ["--ignored", "--exact", "inside", "--nocapture"];
        let mut all = vec![words.as_str(), program.to_str().unwrap()];
        all.extend(inside);
        let got = self.libvirt.run("env", &all, &[]);
        let said = String::from_utf8_lossy(&got.stdout).into_owned();
        assert!(
            got.status.success(),
            "{said}\n{}",
            String::from_utf8_lossy(&got.stderr)
        );
        let line = said.lines().find_map(|line| line.split_once("SAID "));
        line.unwrap_or_default().1.to_string()
    }

    fn start(&self, name: &str, vcpus: &str, transient: bool) {
        let xml = format!(
            "<domain type='qemu'><name>{name}</name><memory unit='MiB'>64</memory>{vcpus}\
             <iothreads>1</iothreads><os><type arch='x86_64' machine='pc'>hvm</type></os>\
             <devices><emulator>/usr/bin/qemu-system-x86_64</emulator><memballoon model='none'/></devices></domain>"
        );
        let file = tempfile::NamedTempFile::new_in("/var/tmp").unwrap();
        fs::write(file.path(), xml).unwrap();
        let path = file.path().to_string_lossy().into_owned();
        if transient {
            self.libvirt.virsh(&["create", &path]).unwrap();
        } else {
            self.libvirt.virsh(&["define", &path]).unwrap();
            self.libvirt.virsh(&["start", name]).unwrap();
        }
    }

    /// Ends a guest, and does the hook's part of it.
    fn stop(&self, name: &str) {
        self.libvirt.virsh(&["destroy", name]).unwrap();
        let release = "rm -f /run/virtfit/reservations/*.json";
        assert!(self.libvirt.run("sh", &["-c", release], &[]).status.success());
    }

    /// Returns the masks of the threads, by name (those of the emulator under `qemu`).
    fn masks(&self, name: &str) -> BTreeMap<String, String> {
        let key = |thread: &Thread| match thread.name.starts_with("qemu") {
            true => "qemu".to_string(),
            false => thread.name.clone(),
        };
        let threads = self.libvirt.threads(name);
        threads
            .iter()
            .map(|thread| (key(thread), thread.cpus.clone()))
            .collect()
    }

    /// Runs `virtfit status`; returns 3 where a guest is wrong, otherwise 0, and the output. The
    /// missing daemon and hook do not count.
    fn status(&self) -> (Option<i32>, String) {
        let policy = self.policy.path().to_string_lossy().into_owned();
        let mut words = vec!["status", "--policy", &policy];
        let got = self.libvirt.run(VIRTFIT, &words, &[]);
        let text = String::from_utf8_lossy(&got.stdout).into_owned() + &String::from_utf8_lossy(&got.stderr);
        words.push("--json");
        let json = self.libvirt.run(VIRTFIT, &words, &[]);
        let status: virtfit::status::Status = serde_json::from_slice(&json.stdout).unwrap();
        let wrong = status.guests.iter().any(virtfit::status::Guest::is_wrong);
        (Some(if wrong { 3 } else { 0 }), text)
    }
}

fn rule(name: &str, profile: &str) -> String {
    format!("[[rule]]\nmatch = {{ name = \"{name}\" }}\nprofile = \"{profile}\"\n")
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn guests_that_started_without_pins_get_them_live() {
    let scene = Scene::new(&rule("lv-*", "fit"));
    for transient in [false, true] {
        scene.start("lv-one", "<vcpu>1</vcpu>", transient);
        let said = scene.act("live lv-one");
        assert!(
            said.starts_with("vCPU 0 on 1; emulator on 0; iothread 1 on 0"),
            "{said}"
        );
        let masks = scene.masks("lv-one");
        assert_eq!(masks["CPU 0/TCG"], "1", "{masks:?} {said}");
        assert_eq!(masks["qemu"], "0", "{masks:?} {said}");
        assert_eq!(masks["IO iothread1"], "0", "{masks:?} {said}");
        let live = scene.libvirt.virsh(&["dumpxml", "lv-one"]).unwrap();
        assert!(live.contains("mode='restrictive'"), "{live}");
        // A second time nothing is done.
        assert_eq!(scene.act("live lv-one"), "");
        assert_eq!(scene.act("floats"), "");
        let (exit, text) = scene.status();
        assert_eq!(exit, Some(0), "{text}");
        let info = scene.libvirt.virsh(&["dominfo", "lv-one"]).unwrap();
        let persistent = info
            .lines()
            .any(|line| line.starts_with("Persistent") && line.ends_with("yes"));
        assert_eq!(persistent, !transient, "{info}");
        assert_eq!(text.contains("transient"), transient, "{text}");
        if !transient {
            let stored = scene.libvirt.dump("lv-one");
            assert!(
                !stored.contains("vcpupin"),
                "only the running guest was changed:\n{stored}"
            );
        }
        // An administrator moves a thread, unknown to virtfit and libvirt.
        let tids = scene
            .libvirt
            .run("sh", &["-c", "cat /run/libvirt/qemu/lv-one.xml"], &[]);
        let xml = String::from_utf8(tids.stdout).unwrap();
        let tid = xml
            .split_once("<vcpu id='0' pid='")
            .unwrap()
            .1
            .split_once('\'')
            .unwrap()
            .0;
        // The guest's cpuset has to allow it first.
        let by_hand = "tid=$1; path=$(sed -n 's/^[0-9]*:\\(cpuset\\|\\):\\(.*\\)/\\2/p' /proc/$tid/cgroup | head -n 1)\n\
                       for root in /sys/fs/cgroup/cpuset /sys/fs/cgroup; do\n\
                       if [ -w $root$path/cpuset.cpus ]; then echo 0-1 > $root$path/cpuset.cpus; break; fi; done\n\
                       taskset -pc 0 $tid";
        let moved = scene.libvirt.run("sh", &["-c", by_hand, "sh", tid], &[]);
        assert!(moved.status.success(), "{moved:?}");
        let (exit, text) = scene.status();
        assert_eq!(exit, Some(3), "{text}");
        assert!(text.contains("1 WRONG CPU 0/TCG"), "{text}");
        scene.stop("lv-one");
        if !transient {
            scene.libvirt.virsh(&["undefine", "lv-one"]).unwrap();
        }
        assert!(
            scene.libvirt.virsh(&["dominfo", "lv-one"]).is_err(),
            "it is gone for good"
        );
    }
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_running_guests_vcpu_becomes_a_real_time_thread() {
    let profile = "[profile.rt]\ninherits = \"realtime\"\nlocked = false\nemulator = \"housekeeping\"\nhugepages = \"off\"\n\
                   realtime = { vcpus = \"all\", priority = 3 }\n\n";
    let scene = Scene::new(&format!("{profile}{}", rule("lv-*", "rt")));
    scene.start("lv-rt", "<vcpu>1</vcpu>", false);
    let said = scene.act("live lv-rt");
    for thread in scene.libvirt.threads("lv-rt") {
        let (mask, policy, priority) = match thread.name.as_str() {
            "CPU 0/TCG" => ("1", 1, 3),
            _ => ("0", 0, 0),
        };
        assert_eq!(
            (thread.cpus.as_str(), thread.policy, thread.priority),
            (mask, policy, priority),
            "{thread:?} {said}"
        );
    }
    assert_eq!(scene.act("live lv-rt"), "");
    let (exit, text) = scene.status();
    assert!(exit == Some(0) && text.contains("1 FIFO"), "{text}");
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn floats_give_way_and_come_back() {
    let rules = |unmanaged: &str| {
        let all = format!("{}{}", rule("lv-float", "shared"), rule("lv-pinned", "fit"));
        match unmanaged {
            "" => all,
            word => format!("unmanaged = \"{word}\"\n{all}"),
        }
    };
    let scene = Scene::new("");
    // [host] is the last table of the sets: its keys first.
    fs::write(
        scene.policy.path(),
        SETS.trim_end().to_string() + "\n" + &rules("confine"),
    )
    .unwrap();
    scene.start("lv-float", "<vcpu>2</vcpu>", false);
    scene.start("lv-other", "<vcpu>1</vcpu>", false);
    scene.act("live lv-float");
    let expect = |name: &str, wanted: [&str; 2], said: &str| {
        let masks = scene.masks(name);
        assert_eq!(masks["CPU 0/TCG"], wanted[0], "{name}: {masks:?} {said}");
        assert_eq!(masks["qemu"], wanted[1], "{name}: {masks:?} {said}");
    };
    expect("lv-float", ["0-1", "0"], "");
    let said = scene.act("floats");
    assert_eq!(said, "", "nobody holds anything");
    scene.start("lv-pinned", "<vcpu>1</vcpu>", false);
    scene.act("live lv-pinned");
    let said = scene.act("floats");
    expect("lv-float", ["0", "0"], &said);
    expect("lv-other", ["0", "0"], &said);
    expect("lv-pinned", ["1", "0"], &said);
    assert_eq!(scene.act("floats"), "");
    let (exit, text) = scene.status();
    assert_eq!(exit, Some(0), "{text}");
    scene.stop("lv-pinned");
    let said = scene.act("floats");
    expect("lv-float", ["0-1", "0"], &said);
    expect("lv-other", ["0-1", "0-1"], &said);
    assert_eq!(scene.act("floats"), "");
    let listed = scene.libvirt.run("ls", &["/run/virtfit/live"], &[]);
    let records = String::from_utf8(listed.stdout).unwrap();
    assert_eq!(
        records.lines().count(),
        2,
        "one a guest that runs, none of lv-pinned: {records}"
    );
    // A thread that floats by live pins holds nothing: the CPU can be given out again.
    scene.libvirt.virsh(&["start", "lv-pinned"]).unwrap();
    scene.act("live lv-pinned");
    expect("lv-pinned", ["1", "0"], "");
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_vcpu_that_is_plugged_later_has_its_pin() {
    let scene = Scene::new(&rule("lv-*", "fit"));
    scene.start("lv-hot", "<vcpu current='1'>2</vcpu>", false);
    let said = scene.act("live lv-hot");
    // One dedicated CPU: the vCPU that is there gets it, and the empty slot floats.
    assert!(said.contains("vCPU 0 on 1; vCPU 1 on 0;"), "{said}");
    let live = scene.libvirt.virsh(&["vcpupin", "lv-hot"]).unwrap();
    let pins: Vec<&str> = live
        .lines()
        .filter_map(|line| line.split_whitespace().nth(1))
        .collect();
    assert_eq!(pins, ["1", "0"], "{live}");
    assert_eq!(scene.act("live lv-hot"), "");
    assert_eq!(scene.act("floats"), "");
    let (exit, text) = scene.status();
    assert_eq!(exit, Some(0), "{text}");
}
