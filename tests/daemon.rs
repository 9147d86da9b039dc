//! The daemon on a real libvirt: definitions are tuned as they appear and change, and nothing else
//! is touched.
// Numbers are told with --nocapture.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/libvirt.rs"]
mod common;

use std::collections::BTreeSet;
use std::fs;
use std::time::{Duration, Instant};

use common::{Daemon, Libvirt, Setup};

const OURS: &str = "https://virtfit.dev/ns/domain/1";
const RULE: &str =
    "[host]\nreserved_memory = \"0\"\n\n[[rule]]\nmatch = { name = \"rd-*\" }\nprofile = \"fit\"\n";

/// libvirt with the daemon beside it.
struct Stage {
    daemon: Option<Daemon>,
    libvirt: Libvirt,
    /// Position in the log at which the running daemon began.
    began: usize,
}

impl Stage {
    /// Starts on the paper's server of 32 CPUs: guests can be defined, not started.
    fn server(policy: &str) -> Self {
        Self::new(policy, Some("paper"))
    }

    /// Starts on this machine.
    fn here(policy: &str) -> Self {
        Self::new(policy, None)
    }

    fn new(policy: &str, fixture: Option<&str>) -> Self {
        let mut stage = Self {
            daemon: None,
            libvirt: Libvirt::with(&Setup {
                policy: Some(policy),
                fixture,
                ..Setup::default()
            }),
            began: 0,
        };
        stage.start();
        stage
    }

    /// Writes the policy as editors do: renamed into its place.
    fn policy(&self, text: &str) {
        let file = self.libvirt.on_host("/etc/virtfit/policy.toml");
        let new = file.with_extension("new");
        fs::write(&new, text).unwrap();
        fs::rename(new, file).unwrap();
    }

    fn start(&mut self) {
        self.began = self.libvirt.log().len();
        self.daemon = Some(self.libvirt.virtfitd());
        self.wait("ready", || self.said().contains("virtfitd: ready"));
    }

    fn kill(&mut self) {
        self.daemon = None;
    }

    fn daemon(&self) -> &Daemon {
        self.daemon.as_ref().unwrap()
    }

    /// Returns the log of the running daemon.
    fn said(&self) -> String {
        self.libvirt.log().split_off(self.began)
    }

    fn count(&self, what: &str) -> usize {
        self.said().matches(what).count()
    }

    fn wait(&self, what: &str, done: impl Fn() -> bool) {
        let begin = Instant::now();
        while !done() {
            assert!(
                begin.elapsed() < Duration::from_secs(5),
                "{what} does not come; the daemon said:\n{}",
                self.said()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Waits while nothing happens.
    fn rest(&self) {
        std::thread::sleep(Duration::from_millis(400));
    }

    fn file(&self, guest: &str) -> Option<String> {
        fs::read_to_string(self.libvirt.on_host(&format!("/etc/libvirt/qemu/{guest}.xml"))).ok()
    }

    fn is_tuned(&self, guest: &str) -> bool {
        self.file(guest).is_some_and(|text| text.contains(OURS))
    }

    fn define(&self, xml: &str) {
        self.libvirt.define(xml).unwrap();
    }

    /// Defines a guest and waits until it is tuned: at most two seconds.
    fn tuned(&self, name: &str, xml: &str) {
        self.define(xml);
        let begin = Instant::now();
        self.wait("the tuned definition", || self.is_tuned(name));
        assert!(
            begin.elapsed() < Duration::from_secs(2),
            "{name}: {:?}",
            begin.elapsed()
        );
    }

    fn virsh(&self, words: &[&str]) -> String {
        self.libvirt
            .virsh(words)
            .unwrap_or_else(|error| panic!("virsh {words:?}: {error}\n{}", self.said()))
    }

    /// Returns the CPUs its vCPUs are pinned to, in order.
    fn pins(&self, guest: &str) -> Vec<String> {
        let text = self.file(guest).unwrap();
        text.split("<vcpupin ")
            .skip(1)
            .map(|rest| {
                let rest = rest.split_once("cpuset='").unwrap().1;
                rest.split_once('\'').unwrap().0.to_string()
            })
            .collect()
    }

    /// Returns the kernel's counts of voluntary and involuntary context switches, over all threads.
    fn wake_ups(&self) -> u64 {
        let tasks = format!("/proc/{}/task", self.daemon().pid);
        let mut sum = 0;
        for task in fs::read_dir(tasks).unwrap() {
            let status = fs::read_to_string(task.unwrap().path().join("status")).unwrap();
            let counts = status.lines().filter(|line| line.contains("ctxt_switches"));
            sum += counts
                .map(|line| line.split_whitespace().nth(1).unwrap().parse::<u64>().unwrap())
                .sum::<u64>();
        }
        sum
    }

    fn kib(&self, what: &str) -> u64 {
        let value = self.daemon().status(what);
        value.split_whitespace().next().unwrap().parse().unwrap()
    }

    /// Returns the user and system time, in seconds.
    fn cpu_seconds(&self) -> f64 {
        let stat = fs::read_to_string(format!("/proc/{}/stat", self.daemon().pid)).unwrap();
        let rest: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
        let ticks: u64 = rest[11].parse::<u64>().unwrap() + rest[12].parse::<u64>().unwrap();
        ticks as f64 / 100.0
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        if std::thread::panicking() {
            eprintln!("the daemon said:\n{}", self.said());
        }
    }
}

fn guest(name: &str, vcpus: u32, more: &str) -> String {
    format!(
        "<domain type='qemu'>
  <name>{name}</name>
  <memory unit='MiB'>64</memory>
  <vcpu>{vcpus}</vcpu>
  <os>
    <type arch='x86_64' machine='q35'>hvm</type>
  </os>
  <features>
    <acpi/>
    <apic/>
  </features>
  <devices>
    <emulator>/usr/bin/qemu-system-x86_64</emulator>
{more}  </devices>
</domain>
"
    )
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn definitions_are_tuned_as_they_appear_and_stay_what_they_were() {
    let stage = Stage::server(RULE);
    let graphics = "    <graphics type='vnc' port='-1' passwd='s3cret'/>\n";
    let mut places = BTreeSet::new();
    for number in 1..=5 {
        let name = format!("rd-{number}");
        stage.tuned(&name, &guest(&name, 4, graphics));
        let pins = stage.pins(&name);
        assert_eq!(pins.len(), 4, "{pins:?}");
        for pin in pins {
            assert!(places.insert(pin.clone()), "{name}: {pin} twice: {places:?}");
        }
        assert!(stage.libvirt.dump(&name).contains("passwd='s3cret'"));
    }
    stage.rest();
    assert_eq!(stage.count("tuned by fit"), 5, "{}", stage.said());
    assert!(!stage.said().contains("s3cret"), "{}", stage.said());
    // No rule, no change.
    stage.define(&guest("other", 1, ""));
    stage.rest();
    assert!(!stage.is_tuned("other"));
    // Nothing is left open, and no thread is woken while nothing happens.
    stage.rest();
    let before = stage.wake_ups();
    std::thread::sleep(Duration::from_secs(3));
    assert_eq!(stage.wake_ups(), before, "wake-ups while idle");
    eprintln!("resident: {} KiB", stage.kib("VmRSS"));
    // The code of the program does not count: it is several times as large before it is optimised.
    let own = stage.kib("RssAnon");
    assert!(own < 6 << 10, "{own} KiB of its own memory");
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn what_an_administrator_changes_is_tuned_anew_and_what_goes_stays_gone() {
    let stage = Stage::server(RULE);
    stage.tuned("rd-a", &guest("rd-a", 2, ""));
    // Calls that send no event.
    stage.virsh(&["vcpupin", "rd-a", "--config", "0", "1"]);
    stage.rest();
    assert_eq!(stage.pins("rd-a").first().map(String::as_str), Some("1"));
    // On a housekeeping CPU the guest has none of its own any more.
    stage.virsh(&["vcpupin", "rd-a", "--config", "0", "0"]);
    stage.wait("the word on it", || {
        stage
            .said()
            .contains("without a place of its own, 4 changes (yours, kept: vcpupin 0: 0)")
    });
    stage.virsh(&["vcpupin", "rd-a", "--config", "0", "1"]);
    stage.rest();
    stage.virsh(&["setvcpus", "rd-a", "1", "--config"]);
    stage.rest();
    let text = stage.file("rd-a").unwrap();
    assert!(
        text.contains("current='1'>2</vcpu>") && stage.is_tuned("rd-a"),
        "{text}"
    );
    // virsh edit compares before it writes: no other client may write in between.
    let editor = "sh -c 'sleep 1; sed -i s,hvm,hvm,\\;s,64,64,\\;s,q35,q35, \"$1\"; echo \"<!-- seen -->\" >>/tmp/virtfit-edit; \
                  sed -i \"s,<on_crash>destroy,<on_crash>restart,\" \"$1\"' sh";
    let edited = stage.libvirt.run(
        "env",
        &[
            &format!("EDITOR={editor}"),
            "virsh",
            "-c",
            "qemu:///system",
            "edit",
            "rd-a",
        ],
        &[],
    );
    assert!(
        edited.status.success(),
        "{}",
        String::from_utf8_lossy(&edited.stderr)
    );
    stage.wait("the edit", || {
        stage.file("rd-a").unwrap().contains("<on_crash>restart")
    });
    stage.rest();
    assert!(stage.is_tuned("rd-a"));
    // Redefined from outside without what virtfit wrote: the same place.
    stage.tuned("rd-b", &guest("rd-b", 2, ""));
    let uuid = stage.virsh(&["domuuid", "rd-b"]).trim().to_string();
    let pins = stage.pins("rd-b");
    stage.tuned("rd-c", &guest("rd-c", 2, ""));
    let plain = guest("rd-b", 2, "").replace("<name>", &format!("<uuid>{uuid}</uuid><name>"));
    stage.define(&plain);
    stage.wait("the tuned definition", || stage.is_tuned("rd-b"));
    assert_eq!(stage.pins("rd-b"), pins);
    // Renamed: the old name is gone, the new one is what it was.
    stage.virsh(&["domrename", "rd-c", "rd-d"]);
    stage.rest();
    assert!(
        stage.file("rd-c").is_none() && stage.is_tuned("rd-d"),
        "{}",
        stage.said()
    );
    stage.virsh(&["autostart", "rd-d"]);
    stage.virsh(&["undefine", "rd-d"]);
    stage.rest();
    assert!(stage.file("rd-d").is_none(), "{}", stage.said());
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn what_is_undefined_at_once_is_not_brought_back() {
    let stage = Stage::server(RULE);
    for round in 0..100 {
        // A name of its own: what changed just before would rest.
        let name = format!("rd-{round}");
        stage.define(&guest(&name, 2, ""));
        // All moments between the event and the daemon's define are tried.
        std::thread::sleep(Duration::from_micros(300 * (round % 30)));
        stage.virsh(&["undefine", &name]);
    }
    stage.rest();
    stage.rest();
    let left = stage.virsh(&["list", "--all", "--name"]);
    assert_eq!(left.trim(), "", "{}", stage.said());
    eprintln!("taken back: {}", stage.count("it stays undefined"));
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_guest_is_called_otherwise_and_as_before() {
    let stage = Stage::server(RULE);
    let uuid = "8c1f6f0e-0000-4000-8000-000000000001";
    let xml = guest("rd-a", 2, "").replace("</name>", &format!("</name>\n  <uuid>{uuid}</uuid>"));
    stage.tuned("rd-a", &xml);
    stage.virsh(&["autostart", "rd-a"]);
    let uri = stage.libvirt.uri();
    let call = |requests: &str| {
        let words = ["--connect", &uri, "call"];
        let said = stage
            .libvirt
            .run(env!("CARGO_BIN_EXE_virtfitd"), &words, requests.as_bytes());
        String::from_utf8(said.stdout).unwrap()
    };
    let rename = |name: &str| format!("{{\"call\":\"rename\",\"uuid\":\"{uuid}\",\"name\":\"{name}\"}}\n");
    let aside = format!("virtfit-undo-{uuid}");
    assert_eq!(call(&rename(&aside)), "{\"ok\":true}\n");
    assert!(stage.file("rd-a").is_none() && stage.file(&aside).is_some());
    // Neither its name nor its UUID can be taken by others now, and nothing is lost.
    assert!(stage.libvirt.define(&xml).unwrap_err().contains("already"));
    assert_eq!(call(&rename("rd-a")), "{\"ok\":true}\n");
    stage.rest();
    assert!(
        stage.is_tuned("rd-a") && stage.file(&aside).is_none(),
        "{}",
        stage.said()
    );
    assert!(
        stage
            .virsh(&["dominfo", "rd-a"])
            .contains("Autostart:      enable")
    );
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn what_is_undefined_and_defined_anew_at_once_stays() {
    let stage = Stage::server(RULE);
    let xml = |name: &str, number: u64, round: u64| {
        let uuid =
            format!("<uuid>8c1f6f0e-0000-4000-8000-{number:012}</uuid>\n  <title>round {round}</title>");
        guest(name, 2, "").replace("</name>", &format!("</name>\n  {uuid}"))
    };
    let uri = stage.libvirt.uri();
    let (mut refused, mut overwritten) = (0, 0);
    for round in 1..=150 {
        let (number, name) = (round, format!("rd-{round}"));
        let put = |what: &str, round: u64| {
            let path = format!("/run/{what}-{number}.xml");
            fs::write(stage.libvirt.on_host(&path), xml(&name, number, round)).unwrap();
            path
        };
        let (first, anew) = (put("first", 0), put("anew", round));
        // A single client, which needs no time to start, tries all moments between the event and
        // the daemon's define.
        let pause = "nodeinfo\n".repeat((round * 7 % 400) as usize);
        let script = format!("define {first}\n{pause}undefine {name}\ndefine {anew}\n");
        let said = stage.libvirt.run("virsh", &["-q", "-c", &uri], script.as_bytes());
        // While virtfit takes its own definition back, another one is refused with a message.
        if String::from_utf8_lossy(&said.stderr).contains("already") {
            refused += 1;
            stage.rest();
            stage.virsh(&["define", &anew]);
        }
        let title = format!("<title>round {round}</title>");
        let is_there =
            || stage.is_tuned(&name) && stage.file(&name).is_some_and(|text| text.contains(&title));
        // libvirt knows no "define if unchanged": what is defined in the very moment between the
        // last look and the call is lost, and told.
        let told = || stage.count("at the same moment as virtfit defined it") > overwritten;
        stage.wait("the tuned definition", || is_there() || told());
        if told() {
            overwritten += 1;
            stage.rest();
            stage.virsh(&["define", &anew]);
            stage.wait("the tuned definition", is_there);
        }
        stage.virsh(&["undefine", &name]);
    }
    stage.rest();
    assert!(
        overwritten < 4,
        "{overwritten} were overwritten:\n{}",
        stage.said()
    );
    let left = stage.virsh(&["list", "--all", "--name"]);
    assert_eq!(left.trim(), "", "{}", stage.said());
    eprintln!(
        "taken back: {}, given its name back: {}, refused: {refused}, overwritten: {overwritten}",
        stage.count("it stays undefined"),
        stage.count("defined anew while it was tuned")
    );
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn of_several_changes_in_a_row_the_last_stays() {
    let stage = Stage::server(RULE);
    let uri = stage.libvirt.uri();
    for round in 1..=30 {
        let name = format!("rd-{round}");
        let uuid = format!("<uuid>8c1f6f0e-0000-4000-8000-{round:012}</uuid>");
        let mut script = String::new();
        for title in ["first", "second", "third", "last"] {
            let head = format!("</name>\n  {uuid}\n  <title>{title}</title>");
            let path = format!("/run/{name}-{title}.xml");
            let xml = guest(&name, 2, "").replace("</name>", &head);
            fs::write(stage.libvirt.on_host(&path), xml).unwrap();
            script += &format!("define {path}\n{}", "nodeinfo\n".repeat(round * 11 % 200));
        }
        let said = stage.libvirt.run("virsh", &["-q", "-c", &uri], script.as_bytes());
        assert!(said.status.success(), "{}", String::from_utf8_lossy(&said.stderr));
        let is_last = || {
            let text = stage.file(&name).unwrap_or_default();
            text.contains("<title>last</title>") && text.contains(OURS)
        };
        stage.wait("the last definition, tuned", is_last);
        // The first is tuned at once, and the last when nothing follows it.
        let tuned = stage.count(&format!("{name}: tuned by"));
        assert!(tuned <= 2, "round {round}: {tuned}\n{}", stage.said());
    }
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn restarts_change_nothing_and_lose_nothing() {
    let mut stage = Stage::server(RULE);
    stage.tuned("rd-a", &guest("rd-a", 2, ""));
    stage.virsh(&["autostart", "rd-a"]);
    stage.rest();
    let before = stage.file("rd-a").unwrap();
    stage.kill();
    stage.define(&guest("rd-late", 2, ""));
    stage.start();
    stage.wait("what was defined meanwhile", || stage.is_tuned("rd-late"));
    stage.rest();
    assert_eq!(stage.count("tuned by"), 1, "{}", stage.said());
    assert_eq!(stage.file("rd-a").unwrap(), before);
    // The guest cannot start on a host that is not there; its autostart must not matter.
    stage.virsh(&["autostart", "--disable", "rd-a"]);
    stage.libvirt.restart_libvirtd();
    stage.rest();
    assert_eq!(stage.file("rd-a").unwrap(), before);
    stage.tuned("rd-new", &guest("rd-new", 2, ""));
    // SIGHUP makes it read everything and find nothing; SIGTERM ends it.
    stage.daemon().signal("HUP");
    stage.rest();
    assert_eq!(stage.count("tuned by"), 2, "{}", stage.said());
    stage.daemon().signal("TERM");
    stage.wait("the end", || stage.said().contains("virtfitd: stopped"));
    stage.wait("the socket's end", || {
        !stage.libvirt.on_host("/run/virtfit/virtfitd.sock").exists()
    });
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn the_policy_rules_and_its_changes_touch_only_what_they_may() {
    let stage = Stage::server("");
    stage.define(&guest("rd-a", 2, ""));
    stage.rest();
    stage.policy(RULE);
    stage.wait("the report", || {
        stage.said().contains("on_policy_change = report")
    });
    stage.rest();
    assert!(!stage.is_tuned("rd-a"));
    // A policy that does not parse is reported once; the last good one stays.
    stage.policy("[host\n");
    stage.tuned("rd-b", &guest("rd-b", 2, ""));
    stage.tuned("rd-c", &guest("rd-c", 2, ""));
    assert_eq!(stage.count("the last good policy stays"), 1, "{}", stage.said());
    stage.policy(&format!("on_policy_change = \"x\"\n{RULE}").replace("on_policy_change = \"x\"\n", ""));
    stage.rest();
    assert!(!stage.is_tuned("rd-a"));
    let apply = RULE.replace("[host]\n", "[host]\non_policy_change = \"apply\"\n");
    stage.policy(&apply);
    stage.rest();
    // The guest was defined less than a minute ago, and no one asked for a change.
    assert!(!stage.is_tuned("rd-a"), "{}", stage.said());
    stage.policy(&apply.replace("[host]\n", "[host]\nmode = \"observe\"\n"));
    stage.define(&guest("rd-d", 2, ""));
    stage.wait("what would be done", || stage.said().contains("mode = observe"));
    stage.rest();
    assert!(!stage.is_tuned("rd-d"));
    // Switched off.
    stage.policy(&apply);
    let switch = stage.libvirt.on_host("/run/virtfit/disabled");
    fs::write(&switch, "").unwrap();
    stage.define(&guest("rd-e", 2, ""));
    stage.rest();
    assert!(!stage.is_tuned("rd-e"));
    fs::remove_file(&switch).unwrap();
    stage.wait("what waited", || stage.is_tuned("rd-e"));
}

#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn guests_that_run_keep_running_and_transient_ones_stay_transient() {
    let policy = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n[[rule]]\nmatch = { name = \"rd-*\" }\n\
                  profile = \"fit\"\n";
    let stage = Stage::here(policy);
    stage.tuned("rd-a", &guest("rd-a", 1, ""));
    stage.virsh(&["start", "rd-a"]);
    let threads = stage.libvirt.threads("rd-a");
    let vcpu = threads
        .iter()
        .find(|thread| thread.name.starts_with("CPU 0"))
        .unwrap();
    assert_eq!(vcpu.cpus, "1", "{}", stage.said());
    // libvirt and the daemon are restarted; the guest runs on.
    stage.libvirt.restart_libvirtd();
    stage.rest();
    assert_eq!(stage.virsh(&["domstate", "rd-a"]).trim(), "running");
    stage.virsh(&["destroy", "rd-a"]);
    // Transient: pinned while it runs, and gone when it ends.
    let file = stage.libvirt.on_host("/run/virtfit/transient.xml");
    fs::write(&file, guest("rd-t", 1, "")).unwrap();
    stage.virsh(&["create", "/run/virtfit/transient.xml"]);
    stage.wait("the live pins", || {
        let threads = stage.libvirt.threads("rd-t");
        let vcpu = threads.iter().find(|thread| thread.name.starts_with("CPU 0"));
        vcpu.is_some_and(|vcpu| vcpu.cpus == "1")
    });
    stage.rest();
    assert!(stage.file("rd-t").is_none());
    assert!(stage.virsh(&["dominfo", "rd-t"]).contains("Persistent:     no"));
    stage.virsh(&["destroy", "rd-t"]);
    stage.rest();
    assert_eq!(
        stage.virsh(&["list", "--all", "--name"]).trim(),
        "rd-a",
        "{}",
        stage.said()
    );
    let reservations = stage.libvirt.on_host("/run/virtfit/reservations");
    let left: Vec<_> = fs::read_dir(reservations).map_or(Vec::new(), |entries| entries.collect());
    assert!(left.is_empty(), "{left:?}");
}

/// The mask of a floating guest is the CPUs that no guest holds: another's start or end changes
/// where it runs, and not its definition.
#[test]
#[ignore = "needs root, libvirtd and two CPUs; run by make test"]
fn a_floating_guest_is_moved_and_its_definition_stays() {
    let policy = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n[[rule]]\nmatch = { name = \"rd-f\" }\n\
                  profile = \"shared\"\n\n[[rule]]\nmatch = { name = \"rd-*\" }\nprofile = \"fit\"\n";
    let stage = Stage::here(policy);
    stage.tuned("rd-f", &guest("rd-f", 1, ""));
    stage.tuned("rd-a", &guest("rd-a", 1, ""));
    let before = stage.file("rd-f");
    let stays = |when: &str| {
        for _ in 0..2 {
            let apply = stage.libvirt.virtfit(&["apply", "rd-f"]);
            let said = String::from_utf8_lossy(&apply.stdout);
            assert!(said.contains("0 of 1 redefined"), "{when}: {said}");
        }
        assert_eq!(stage.file("rd-f"), before, "{when}: {}", stage.said());
    };
    let floats_on = |cpus: &str| {
        stage.wait(cpus, || {
            let threads = stage.libvirt.threads("rd-f");
            let vcpu = threads.iter().find(|thread| thread.name.starts_with("CPU 0"));
            vcpu.is_some_and(|vcpu| vcpu.cpus == cpus)
        });
    };
    stays("nothing runs");
    stage.virsh(&["start", "rd-a"]);
    stays("another runs");
    stage.virsh(&["start", "rd-f"]);
    floats_on("0");
    stage.daemon().signal("HUP");
    stage.rest();
    stays("both run");
    stage.virsh(&["destroy", "rd-a"]);
    floats_on("0-1");
    stays("it runs alone");
    stage.virsh(&["destroy", "rd-f"]);
    stage.virsh(&["start", "rd-a"]);
    stage.rest();
    stays("another runs again");
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn five_hundred_definitions_are_tuned_from_scratch() {
    let mut stage = Stage::server(RULE);
    stage.kill();
    let all: String = (0..500)
        .map(|number| {
            let name = format!("rd-{number}");
            fs::write(
                stage.libvirt.on_host(&format!("/run/virtfit/{name}.def")),
                guest(&name, 2, ""),
            )
            .unwrap();
            format!("define /run/virtfit/{name}.def\n")
        })
        .collect();
    let got = stage
        .libvirt
        .run("virsh", &["-q", "-c", "qemu:///system"], all.as_bytes());
    assert!(got.status.success());
    let begin = Instant::now();
    stage.start();
    while stage.count("tuned by") < 500 {
        assert!(begin.elapsed() < Duration::from_secs(120), "{}", stage.said());
        std::thread::sleep(Duration::from_millis(100));
    }
    stage.rest();
    eprintln!(
        "500 definitions: {:.1} s of the daemon's CPU time, {:.1} s in all; resident: {} KiB",
        stage.cpu_seconds(),
        begin.elapsed().as_secs_f64(),
        stage.kib("VmRSS")
    );
    assert_eq!(stage.count("tuned by"), 500);
    assert!(stage.cpu_seconds() < 60.0, "even without optimisation");
}
