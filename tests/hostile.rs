//! Attempts of a user who writes a guest's XML, through the real program: they harm that guest
//! alone.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::os::unix::fs::{chown, symlink};
use std::path::Path;
use std::process::{Command, Output};
use std::time::{Duration, Instant};

use tempfile::TempDir;

#[path = "common/feed.rs"]
mod feed;
use feed::feed;

/// Makes a small host below a folder: 16 cores with two threads each on two nodes, and guests.
struct Host(TempDir);

impl Host {
    fn new(policy: &str) -> Self {
        let dir = tempfile::tempdir().unwrap();
        let paper = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper");
        for folder in ["sys", "proc"] {
            let copied = Command::new("cp")
                .arg("-a")
                .arg(paper.join(folder))
                .arg(dir.path())
                .status()
                .unwrap();
            assert!(copied.success());
        }
        let host = Self(dir);
        host.write("etc/virtfit/policy.toml", policy);
        host
    }

    fn write(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn define(&self, name: &str, text: &str) {
        self.write(&format!("etc/libvirt/qemu/{name}.xml"), text);
    }

    /// Makes a running guest.
    fn running(&self, name: &str, text: &str) {
        let status = format!(
            "<domstatus state='running' reason='booted' pid='9'>\n<vcpus><vcpu id='0' pid='7'/></vcpus>\n{text}\n</domstatus>\n"
        );
        self.write(&format!("run/libvirt/qemu/{name}.xml"), &status);
    }

    fn run(&self, words: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtfit"));
        command
            .args(["--root", self.0.path().to_str().unwrap()])
            .args(words)
            .env("LC_ALL", "C");
        feed(&mut command, stdin.as_bytes())
    }

    /// Runs a command, which has to end with this code; returns stdout and stderr.
    #[track_caller]
    fn says(&self, code: i32, words: &[&str], stdin: &str) -> String {
        let out = self.run(words, stdin);
        let all = String::from_utf8_lossy(&out.stdout).into_owned() + &String::from_utf8_lossy(&out.stderr);
        assert_eq!(out.status.code(), Some(code), "{words:?}: {all}");
        all
    }

    fn status(&self) -> serde_json::Value {
        let out = self.run(&["status", "--json"], "");
        serde_json::from_slice(&out.stdout).unwrap_or_else(|error| panic!("{error}: {out:?}"))
    }

    fn held(&self, guest: &str) -> String {
        let status = self.status();
        let guests = status["guests"].as_array().unwrap();
        let found = guests.iter().find(|found| found["name"] == guest).unwrap();
        found["held"].as_str().unwrap().to_string()
    }
}

const POLICY: &str = "[[rule]]\nmatch = { name = \"db*\" }\nprofile = \"fit\"\n";

fn domain(name: &str, metadata: &str, inner: &str) -> String {
    let digits = name.bytes().fold(0x1234_5678_u64, |sum, byte| {
        sum * 31 % 0xffff_ffff + u64::from(byte)
    });
    format!(
        "<domain type='kvm' id='1'>\n  <name>{name}</name>\n  <uuid>a37a9b65-15f7-58b0-990d-{digits:012x}</uuid>\n  \
         <metadata>{metadata}</metadata>\n  <memory>1048576</memory>\n  <vcpu>2</vcpu>\n  {inner}\n  \
         <os><type arch='x86_64' machine='q35'>hvm</type></os>\n</domain>\n"
    )
}

/// Makes a record of what virtfit wrote.
fn record(attributes: &str, records: &str) -> String {
    format!(
        "<v:fit xmlns:v='https://virtfit.dev/ns/domain/1' version='1' profile='fit' policy='0' on-no-fit='run-shared' \
         threads='1' {attributes}>{records}</v:fit>"
    )
}

#[test]
fn positions_beyond_any_text_are_refused() {
    let host = Host::new(POLICY);
    host.define("db", &domain("db", "", ""));
    for pos in [
        "0+18446744073709551615",
        "18446744073709551615+0",
        "18446744073709551615/0+0",
        "0+9223372036854775807",
        "1+4294967295",
        "0+18446744073709551616",
        "0+-1",
    ] {
        let was = format!("<v:was raw='&#10;&lt;vcpupin/&gt;' pos='{pos}'/>");
        let records = format!("<v:set at='vcpupin/0'>{was}</v:set>");
        let text = domain(
            "bad",
            &record("", &records),
            "<cputune><!-- x --><shares>1</shares></cputune>",
        );
        host.define("bad", &text);
        let said = host.says(1, &["revert", "-"], &text);
        assert!(
            said.contains("virtfit's note on what it changed cannot be read"),
            "{pos}: {said}"
        );
        let said = host.says(0, &["plan", "bad", "--profile", "fit"], "");
        assert!(said.contains("left as it is: line 4"), "{pos}: {said}");
        // Others, and all together.
        assert!(host.says(0, &["plan", "db"], "").contains("tuned"), "{pos}");
        let status = host.status();
        assert_eq!(status["guests"].as_array().unwrap().len(), 2, "{pos}");
        host.says(0, &["hook", "db", "prepare", "begin", "-"], &domain("db", "", ""));
        host.says(0, &["hook", "bad", "prepare", "begin", "-"], &text);
    }
}

#[test]
fn what_no_guest_has_is_refused_at_once() {
    let host = Host::new(POLICY);
    let many = |n: usize, piece: &dyn Fn(usize) -> String| (0..n).map(piece).collect::<String>();
    let attributes = many(20_000, &|i| format!(" a{i}=''"));
    let cells = many(20_000, &|i| format!("<cell id='{i}' memory='1'/>"));
    let rows = [
        (
            format!("<a{attributes}/>"),
            "more than 256 attributes in one element",
        ),
        ("<a/>".repeat(250_000), "more than 200000 elements"),
        (
            format!("<cpu><numa>{cells}</numa></cpu>"),
            "20000 cells; QEMU knows 128",
        ),
        (
            format!(
                "<memoryBacking><hugepages>{}</hugepages></memoryBacking>",
                "<page size='4'/>".repeat(5_000)
            ),
            "more than 1024 <page> elements",
        ),
        (
            format!(
                "<devices>{}</devices>",
                "<memory model='dimm'><target><size>1</size></target></memory>".repeat(5_000)
            ),
            "more than 1024 memory devices",
        ),
    ];
    for (inner, why) in rows {
        let text = domain("bad", "", &inner);
        let begin = Instant::now();
        let said = host.says(1, &["plan", "-"], &text);
        assert!(said.contains(why), "{why}: {said}");
        // The build is not optimised and the machine busy; quadratic code took 60 s.
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "{why}: {:?}",
            begin.elapsed()
        );
        // Others do not wait for it. A build without optimisation on a busy machine may be late
        // once, but not each time.
        host.define("bad", &text);
        let decided = (0..5).any(|_| {
            host.says(0, &["hook", "db", "prepare", "begin", "-"], &domain("db", "", ""));
            let marks = host.0.path().join("run/virtfit/undecided");
            fs::read_dir(marks).map_or(0, Iterator::count) == 0
        });
        assert!(decided, "{why}");
    }
}

#[test]
fn withheld_cpus_are_siblings_of_pinned_ones() {
    let host = Host::new(&format!("[host]\nshare_cores = true\n\n{POLICY}"));
    // pins, said to be withheld, held
    for (pins, withheld, held) in [
        ("", "0-31", ""),
        (
            "<cputune><vcpupin vcpu='0' cpuset='3'/></cputune>",
            "0-31",
            "3,19",
        ),
        ("<cputune><vcpupin vcpu='0' cpuset='3'/></cputune>", "4,20", "3"),
        // The guest floats, so it holds nothing.
        ("<cputune><vcpupin vcpu='0' cpuset='0-31'/></cputune>", "0-31", ""),
    ] {
        let text = domain("bad", &record(&format!("withheld='{withheld}'"), ""), pins);
        host.running("bad", &text);
        assert_eq!(host.held("bad"), held, "{pins} {withheld}");
        // No more is recorded when it starts, or claimed while it does not run.
        fs::remove_file(host.0.path().join("run/libvirt/qemu/bad.xml")).unwrap();
        host.define("bad", &text);
        host.says(0, &["hook", "bad", "prepare", "begin", "-"], &text);
        let reservations = host.0.path().join("run/virtfit/reservations");
        for file in fs::read_dir(&reservations).into_iter().flatten() {
            let path = file.unwrap().path();
            let promised: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
            let most = promised["withheld"].as_array().unwrap().len();
            assert!(most <= 1, "{pins} {withheld}: {promised}");
            fs::remove_file(path).unwrap();
        }
        let place = |host: &Host| {
            let out = host.run(&["plan", "-", "--json"], &domain("db", "", ""));
            let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
            plan["placement"].to_string()
        };
        let beside_forged = place(&host);
        host.define("bad", &domain("bad", "", pins));
        assert_eq!(place(&host), beside_forged, "{pins} {withheld}");
    }
}

#[test]
fn a_definition_claims_no_more_than_its_rule_gives() {
    let rules = format!("{POLICY}[[rule]]\nmatch = {{ name = \"web*\" }}\nprofile = \"local\"\n");
    let host = Host::new(&rules);
    let place = |host: &Host| {
        let out = host.run(&["plan", "-", "--json"], &domain("db", "", ""));
        let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        plan["placement"].to_string()
    };
    let empty = place(&host);
    // Node 0 but for its housekeeping: claims of it send another guest to node 1.
    let node: Vec<u32> = (1..8).chain(17..24).collect();
    let pins = |cpus: &[u32]| -> String {
        let pin = |(vcpu, cpu): (usize, &u32)| format!("<vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>");
        cpus.iter().enumerate().map(pin).collect()
    };
    let wrote = |cpus: &[u32]| -> String {
        let set = |(vcpu, cpu): (usize, &u32)| format!("<v:set at='vcpupin/{vcpu}' wrote='{cpu}'/>");
        cpus.iter().enumerate().map(set).collect()
    };
    let forged = |name: &str, vcpus: usize, more: &str, records: &str| {
        let tune = format!(
            "<iothreads>14</iothreads><cputune>{}{more}</cputune>",
            pins(&node)
        );
        let text = domain(name, &record("withheld='0-31'", &(wrote(&node) + records)), &tune);
        text.replace("<vcpu>2</vcpu>", &format!("<vcpu>{vcpus}</vcpu>"))
    };
    let support: String = node[1..]
        .iter()
        .zip(1..)
        .map(|(cpu, id)| format!("<iothreadpin iothread='{id}' cpuset='{cpu}'/>"))
        .collect();
    let of_support: String = node[1..]
        .iter()
        .zip(1..)
        .map(|(cpu, id)| format!("<v:set at='iothreadpin/{id}' wrote='{cpu}'/>"))
        .collect();
    let rows = [
        ("nobody", forged("nobody", 14, "", "")),
        ("web1", forged("web1", 14, "", "")),
        (
            "nobody",
            forged("nobody", 14, "", "").replace(
                "</v:fit>",
                "</v:fit><r:request xmlns:r='https://virtfit.dev/ns/request/1' profile='fit'/>",
            ),
        ),
    ];
    for (name, text) in rows {
        for autostart in [false, true] {
            host.define(name, &text);
            if autostart {
                host.write(&format!("etc/libvirt/qemu/autostart/{name}.xml"), "");
            }
            assert_eq!(place(&host), empty, "{name} {autostart}");
            let status = host.status();
            let guest = &status["guests"][0];
            assert_eq!(guest["claims"], "", "{guest}");
        }
        fs::remove_dir_all(host.0.path().join("etc/libvirt")).unwrap();
    }
    // A rule gives this one a CPU for its one vCPU, and none to its iothreads.
    host.define("db9", &forged("db9", 1, &support, &of_support));
    let status = host.status();
    assert_eq!(status["guests"][0]["claims"], "1", "{status}");
    let out = host.run(&["plan", "-", "--json"], &domain("db", "", ""));
    let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(plan["placement"]["nodes"], serde_json::json!([0]), "{plan}");
}

#[test]
fn a_mask_holds_no_more_cpus_than_threads_are_behind_it() {
    let host = Host::new(POLICY);
    let place = |host: &Host| {
        let out = host.run(&["plan", "-", "--json"], &domain("db", "", ""));
        let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        plan["placement"].to_string()
    };
    let empty = place(&host);
    let tune = |pins: &str| format!("<cputune>{pins}</cputune>");
    // guest, its <vcpu>, its pins, CPUs it holds, number of CPUs that a start promises it
    for (name, vcpu, pins, held, promises) in [
        ("app", "<vcpu cpuset='1-7,17-22'>1</vcpu>", String::new(), "", 0),
        ("app", "<vcpu cpuset='1-7,17-22'>12</vcpu>", String::new(), "", 0),
        (
            "app",
            "<vcpu cpuset='1-7,17-22'>13</vcpu>",
            String::new(),
            "1-7,17-22",
            13,
        ),
        (
            "app",
            "<vcpu>1</vcpu>",
            tune("<emulatorpin cpuset='1-7'/><vcpupin vcpu='0' cpuset='17-22'/>"),
            "",
            0,
        ),
        (
            "app",
            "<vcpu>1</vcpu>",
            tune("<emulatorpin cpuset='1-7'/><vcpupin vcpu='0' cpuset='17'/>"),
            "17",
            1,
        ),
        // A rule matches this one, and an administrator's cpuset stays.
        (
            "db9",
            "<vcpu cpuset='1-7,17-22'>1</vcpu>",
            String::new(),
            "1-7,17-22",
            1,
        ),
    ] {
        let text = domain(name, "", &pins).replace("<vcpu>2</vcpu>", vcpu);
        host.running(name, &text);
        assert_eq!(host.held(name), held, "{name} {vcpu} {pins}");
        if held.is_empty() {
            assert_eq!(place(&host), empty, "{name} {vcpu} {pins}");
        }
        // A start promises no more.
        fs::remove_file(host.0.path().join(format!("run/libvirt/qemu/{name}.xml"))).unwrap();
        host.says(0, &["hook", name, "prepare", "begin", "-"], &text);
        let file = fs::read_dir(host.0.path().join("run/virtfit/reservations"))
            .ok()
            .and_then(|mut files| files.next());
        let promised = file.map_or(0, |file| {
            let text = fs::read(file.unwrap().path()).unwrap();
            let promise: serde_json::Value = serde_json::from_slice(&text).unwrap();
            promise["cpus"].as_array().unwrap().len()
        });
        assert_eq!(promised, promises, "{name} {vcpu} {pins}");
        let _ = fs::remove_dir_all(host.0.path().join("run/virtfit"));
    }
}

#[test]
fn a_request_takes_no_pages_of_another_size_than_the_rule() {
    let profiles = "[profile.mib]\nhugepages = \"2M\"\n[profile.gib]\nhugepages = \"1G\"\n\
                    [[rule]]\nmatch = { name = \"db*\" }\nprofile = \"mib\"\n";
    let host = Host::new(profiles);
    let request = "<r:request xmlns:r='https://virtfit.dev/ns/request/1' profile='gib'/>";
    let out = host.run(&["plan", "-", "--json"], &domain("db", request, ""));
    let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
    assert_eq!(plan["profile"], "mib", "{plan}");
    let said = host.says(0, &["plan", "-"], &domain("db", request, ""));
    let said = said.split_whitespace().collect::<Vec<_>>().join(" ");
    assert!(said.contains("it may take huge pages of another size"), "{said}");
}

#[test]
fn nothing_of_other_guests_goes_where_a_guest_is_pinned_outside_the_dedicated_set() {
    let rules = format!("{POLICY}[[rule]]\nmatch = {{ name = \"web*\" }}\nprofile = \"shared\"\n");
    let host = Host::new(&rules);
    let disk = "<devices><disk type='block' device='disk'><source dev='/dev/vg/x'/><target dev='vda' bus='virtio'/></disk></devices>";
    let plan = |name: &str| {
        let out = host.run(&["plan", "-", "--json"], &domain(name, "", disk));
        let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let list = |value: &serde_json::Value| value.to_string();
        let placement = &plan["placement"];
        (
            list(&placement["emulator"]),
            list(&placement["iothreads"]["1"]),
            list(&placement["vcpus"]["0"]),
        )
    };
    let pinned = |cpus: &[u32]| {
        let pins: String = cpus
            .iter()
            .enumerate()
            .map(|(vcpu, cpu)| format!("<vcpupin vcpu='{vcpu}' cpuset='{cpu}'/>"))
            .collect();
        let text = domain("by-hand", "", &format!("<cputune>{pins}</cputune>"))
            .replace("<vcpu>2</vcpu>", &format!("<vcpu>{}</vcpu>", cpus.len()));
        host.running("by-hand", &text);
    };
    // Housekeeping is 0 and 16 of node 0, 8 and 24 of node 1; the guest goes to node 0.
    assert_eq!(plan("db"), ("[0,16]".into(), "[0,16]".into(), "[1]".into()));
    pinned(&[0]);
    assert_eq!(plan("db"), ("[16]".into(), "[16]".into(), "[1]".into()));
    assert!(!plan("web").2.starts_with("[0,"), "{:?}", plan("web"));
    assert!(plan("web").2.contains(",16,"), "{:?}", plan("web"));
    // With both taken it goes to the other node's, and back where nothing is left.
    pinned(&[0, 16]);
    assert_eq!(plan("db"), ("[8,24]".into(), "[8,24]".into(), "[1]".into()));
    pinned(&[0, 8, 16, 24]);
    assert_eq!(plan("db"), ("[0,16]".into(), "[0,16]".into(), "[1]".into()));
    // What was written before is not written again each time such a guest comes and goes.
    fs::remove_file(host.0.path().join("run/libvirt/qemu/by-hand.xml")).unwrap();
    let out = host.run(&["rewrite", "-"], &domain("db", "", disk));
    let tuned = String::from_utf8(out.stdout).unwrap();
    assert!(tuned.contains("<emulatorpin cpuset='0,16'/>"), "{tuned}");
    pinned(&[0]);
    assert_eq!(host.run(&["rewrite", "-"], &tuned).stdout, tuned.as_bytes());
}

#[test]
fn memory_that_no_host_has_is_kept_from_no_other_guest() {
    let host = Host::new(POLICY);
    let autostart = |name: &str| host.write(&format!("etc/libvirt/qemu/autostart/{name}.xml"), "");
    host.define("db2", &domain("db2", "", ""));
    autostart("db2");
    let page = |host: &Host| {
        let out = host.run(&["plan", "--json"], "");
        let plans: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        let plans = plans.as_array().unwrap();
        let plan = plans.iter().find(|plan| plan["guest"] == "db2").unwrap();
        let placement = &plan["placement"];
        // The CPUs may be others: db1 takes some by its rule.
        format!("pages of {} KiB on {}", placement["page_kib"], placement["nodes"])
    };
    let alone = page(&host);
    assert!(alone.starts_with("pages of 2048 KiB"), "{alone}");
    // Guests that libvirt starts by itself are placed beside each other: this one comes first.
    autostart("db1");
    let much = "<memory unit='TiB'>512</memory>";
    let cells = "<cpu><numa><cell id='0' cpus='0' memory='256' unit='TiB'/><cell id='1' cpus='1' memory='256' unit='TiB'/></numa></cpu>";
    for inner in [
        "<memoryBacking><hugepages/></memoryBacking>",
        "<memoryBacking><hugepages/></memoryBacking><numatune><memory mode='strict' nodeset='0-1'/></numatune>",
        "<numatune><memory mode='preferred' nodeset='0'/></numatune>",
        &format!(
            "{cells}<memoryBacking><hugepages><page size='2' unit='MiB' nodeset='0'/><page size='4' unit='KiB' nodeset='1'/>\
             </hugepages></memoryBacking>"
        ),
    ] {
        let text = domain("db1", "", inner).replace("<memory>1048576</memory>", much);
        host.define("db1", &text);
        assert_eq!(page(&host), alone, "{inner}");
    }
}

/// Definitions of others that take seconds to read are left out of a start: it is decided in time.
#[test]
fn others_large_definitions_leave_no_start_undecided() {
    let host = Host::new(POLICY);
    let slow = "<cputune/><memoryBacking/>".repeat(1_500);
    for number in 0..100 {
        let name = format!("x{number}");
        host.define(&name, &domain(&name, "", &slow));
    }
    let text = domain("db1", "", "");
    host.define("db1", &text);
    // On a busy machine a start may be late for other reasons, but not again and again.
    let mut late = Vec::new();
    let decided = (0..15).find_map(|_| {
        let out = host.run(&["hook", "db1", "prepare", "begin", "-"], &text);
        let decided = !out.stdout.is_empty();
        decided.then_some(out.clone()).or_else(|| {
            late.push(out);
            None
        })
    });
    let decided = decided.unwrap_or_else(|| panic!("{late:?}"));
    let tuned = String::from_utf8_lossy(&decided.stdout);
    assert!(tuned.contains("<vcpupin vcpu='0'"), "{tuned}");
    // One line says so, however many they are.
    let said = String::from_utf8_lossy(&decided.stderr);
    assert!(
        said.contains(" more: not read: all definitions together are too large"),
        "{said}"
    );
    assert!(said.lines().count() < 5, "{said}");
}

/// A copy beside the definitions is no guest: libvirt loads a file only by its guest's name.
#[test]
fn a_copy_beside_the_definitions_is_no_guest() {
    let host = Host::new(POLICY);
    let tuned = host.run(&["rewrite", "-"], &domain("db1", "", "")).stdout;
    let tuned = String::from_utf8(tuned).unwrap();
    for name in ["db1", "a-copy", "db-copy"] {
        host.define(name, &tuned);
    }
    let text = |words: &[&str]| {
        let out = host.run(words, "");
        let said = String::from_utf8_lossy(&out.stdout).into_owned();
        (
            out.status.code(),
            said,
            String::from_utf8_lossy(&out.stderr).into_owned(),
        )
    };
    let (_, status, _) = text(&["status"]);
    assert!(status.contains("db1") && !status.contains("copy"), "{status}");
    let (code, plans, left) = text(&["plan"]);
    assert_eq!(code, Some(0), "{left}");
    assert!(plans.contains("db1") && !plans.contains("copy"), "{plans}");
    assert!(
        left.contains(
            "db-copy.xml: left out: libvirt does not load it, as it is not named after its guest, db1"
        ),
        "{left}"
    );
    let (code, written, left) = text(&["apply", "--all", "--offline", "--reshape", "--yes"]);
    assert_eq!((code, left.matches("left out").count()), (Some(0), 2), "{left}");
    assert!(!written.contains("copy"), "{written}");
    // A guest's UUID means the guest, whatever copies carry it.
    let uuid = tuned.split("<uuid>").nth(1).unwrap().split('<').next().unwrap();
    let (_, plan, _) = text(&["plan", uuid, "--json"]);
    assert!(plan.contains("\"guest\":\"db1\""), "{plan}");
    host.says(1, &["apply", "a-copy", "--dry-run"], "");
    // What a copy claims does not count twice, nor when its guest is gone.
    let taken = |host: &Host| {
        let out = host.run(&["plan", "-", "--json"], &domain("db2", "", ""));
        let plan: serde_json::Value = serde_json::from_slice(&out.stdout).unwrap();
        plan["placement"]["vcpus"].to_string()
    };
    fs::remove_file(host.0.path().join("etc/libvirt/qemu/db1.xml")).unwrap();
    let beside_copies = taken(&host);
    for name in ["a-copy", "db-copy"] {
        fs::remove_file(host.0.path().join(format!("etc/libvirt/qemu/{name}.xml"))).unwrap();
    }
    assert_eq!(beside_copies, taken(&host));
}

/// A guest may bind memory it never touches, as it may touch all of it: the nodes are full for
/// others either way, and everybody is told by whom.
#[test]
fn memory_beyond_the_nodes_is_said_with_its_guest() {
    let host = Host::new(
        "[profile.strict]\ninherits = \"fit\"\nhugepages = \"off\"\non_no_fit = \"refuse\"\n\n\
         [[rule]]\nmatch = { name = \"db*\" }\nprofile = \"strict\"\n",
    );
    let bound = "<numatune><memory mode='strict' nodeset='0-1'/></numatune>";
    let text =
        domain("app", "", bound).replace("<memory>1048576</memory>", "<memory unit='GiB'>390</memory>");
    host.running("app", &text);
    let out = host.run(&["plan", "-", "--json"], &domain("db1", "", ""));
    let said = String::from_utf8_lossy(&out.stdout);
    assert!(
        said.contains("0 free on node 0 and 0 on node 1 (app has 390 GiB)"),
        "{said}"
    );
    let note =
        "its XML binds 390 GiB to nodes 0-1, which have 32 GiB: nothing is left there for other guests";
    let status = host.says(3, &["status", "--json"], "");
    assert!(
        status.contains("\"memory-beyond-nodes\"") && status.contains(note),
        "{status}"
    );
}

#[test]
fn numbers_that_no_kernel_prints_break_nothing() {
    let host = Host::new(&format!("[profile.fit]\nmax_nodes = 2\n{POLICY}"));
    let node = |number: u32, file: &str, text: &str| {
        host.write(&format!("sys/devices/system/node/node{number}/{file}"), text);
    };
    let huge = |number: u32, size: &str, file: &str, text: &str| {
        node(number, &format!("hugepages/hugepages-{size}kB/{file}"), text);
    };
    let guest = |vcpus: u32, page: &str| {
        let inner =
            format!("<memoryBacking><hugepages><page size='{page}' unit='KiB'/></hugepages></memoryBacking>");
        let inner = if page.is_empty() { "" } else { &inner };
        domain("db", "", inner)
            .replace("<vcpu>2</vcpu>", &format!("<vcpu>{vcpus}</vcpu>"))
            .replace("<memory>1048576</memory>", "<memory>9007199254740990</memory>")
    };
    let most = u64::MAX.to_string();
    // The largest amount that libvirt holds.
    let large = "9007199254740990";
    let check = |guest: &dyn Fn() -> String, what: &str| {
        for words in [&["plan", "-"][..], &["plan", "-", "--json"], &["rewrite", "-"]] {
            let out = host.run(words, &guest());
            let said = String::from_utf8_lossy(&out.stderr);
            assert!(!said.contains("a bug in virtfit"), "{what} {words:?}: {said}");
            assert!(matches!(out.status.code(), Some(0..=3)), "{what}: {out:?}");
        }
        host.define("db", &guest());
        host.running("app", &guest().replace("<name>db</name>", "<name>app</name>"));
        let status = host.status();
        for guest in status["guests"].as_array().unwrap() {
            assert_eq!(guest["problem"], serde_json::Value::Null, "{what}: {guest}");
        }
        assert_eq!(host.run(&["status"], "").status.code(), Some(3), "{what}");
        let out = host.run(&["hook", "db", "prepare", "begin", "-"], &guest());
        assert!(
            !String::from_utf8_lossy(&out.stderr).contains("a bug"),
            "{what}: {out:?}"
        );
        fs::remove_dir_all(host.0.path().join("run")).unwrap();
    };
    let mounts = fs::read_to_string(host.0.path().join("proc/mounts")).unwrap();
    host.write(
        "proc/mounts",
        &format!("{mounts}none /dev/huge1 hugetlbfs rw,pagesize=1024 0 0\n"),
    );
    // The memory alone, and with pools that leave none of it.
    for pools in [false, true] {
        for number in [0, 1] {
            node(number, "meminfo", &format!("Node {number} MemTotal: {most} kB\n"));
            node(number, "distance", "4294967295 4294967295\n");
            let count = if pools { most.as_str() } else { "1" };
            for size in ["2048", "1", large, &most] {
                huge(number, size, "nr_hugepages", count);
                huge(number, size, "free_hugepages", count);
            }
        }
        for vcpus in [2, 20] {
            for page in ["", "1", "2048", large] {
                check(&|| guest(vcpus, page), &format!("{pools} {vcpus} {page}"));
            }
        }
    }
}

#[test]
fn a_record_of_another_version_leaves_the_guest_to_itself() {
    let host = Host::new(POLICY);
    let pins = "<cputune><vcpupin vcpu='0' cpuset='3'/><vcpupin vcpu='1' cpuset='4'/></cputune>";
    for change in [("version='1'", "version='2'"), ("ns/domain/1", "ns/domain/2")] {
        let text = domain("db", &record("", "").replace(change.0, change.1), pins);
        host.define("db", &text);
        let said = host.says(0, &["plan", "db"], "");
        assert!(
            said.contains("left as it is: line 4") && said.contains("another version"),
            "{said}"
        );
        // The guest starts as one with hand-written pins does: they are its own, and it is not
        // undecided.
        let out = host.run(&["hook", "db", "prepare", "begin", "-"], &text);
        assert_eq!((out.status.code(), &*out.stdout), (Some(0), &b""[..]));
        assert!(
            !String::from_utf8_lossy(&out.stderr).contains("nothing was changed"),
            "{out:?}"
        );
        assert_eq!(
            fs::read_dir(host.0.path().join("run/virtfit/reservations"))
                .unwrap()
                .count(),
            1
        );
        host.running("db", &text);
        assert_eq!(host.held("db"), "3-4");
        let status = host.status();
        assert!(
            status["guests"][0]["problem"]
                .as_str()
                .unwrap()
                .contains("another version"),
            "{status}"
        );
        for folder in ["run/virtfit", "run/libvirt"] {
            fs::remove_dir_all(host.0.path().join(folder)).unwrap();
        }
    }
}

/// Authors of guests choose names, and administrators paste what is advised.
#[test]
fn a_name_is_no_command_in_what_is_advised() {
    let pinned = "<cputune><vcpupin vcpu='0' cpuset='1'/></cputune>";
    for name in [
        "--all",
        "*",
        "x --all",
        "$(touch x)",
        "x;id",
        "`id`",
        "7",
        "8c1f6f0e-0000-4000-8000-0000000000ff",
    ] {
        let host = Host::new(POLICY);
        let text = domain(name, &record("", "<v:set at='vcpupin/0' wrote='1'/>"), pinned);
        host.define(name, &text);
        let uuid = text.split("<uuid>").nth(1).unwrap().split('<').next().unwrap();
        for words in [&["status"][..], &["plan", "--json"]] {
            let out = host.run(words, "");
            let said = String::from_utf8_lossy(&out.stdout);
            let folded = said.split_whitespace().collect::<Vec<_>>().join(" ");
            assert!(
                folded.contains(&format!("virtfit revert {uuid}")),
                "{words:?}: {said}"
            );
            assert!(
                !folded.contains(&format!("virtfit revert {name}")),
                "{words:?}: {said}"
            );
        }
    }
}

#[test]
fn a_file_that_is_called_like_a_guest_is_said() {
    let host = Host::new(POLICY);
    host.define("db", &domain("db", "", ""));
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("db"), domain("db-of-a-file", "", "")).unwrap();
    let run = |word: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_virtfit"))
            .args(["--root", host.0.path().to_str().unwrap(), "plan", word])
            .current_dir(folder.path())
            .output()
            .unwrap();
        (
            String::from_utf8(out.stdout).unwrap(),
            String::from_utf8(out.stderr).unwrap(),
        )
    };
    let (plan, said) = run("db");
    assert!(plan.contains("db-of-a-file"), "{plan}");
    assert!(
        said.contains("db: this is the file in the working folder") && said.contains("the guest db"),
        "{said}"
    );
    // A word with a path in it is no question.
    assert_eq!(run("./db").1, "");
}

#[test]
fn a_policy_that_others_may_write_is_said() {
    use std::os::unix::fs::PermissionsExt;
    let host = Host::new(POLICY);
    let path = |path: &str| host.0.path().join(path);
    host.write("etc/virtfit/policy.d/10-more.toml", "[host]\n");
    let mode =
        |name: &str, mode: u32| fs::set_permissions(path(name), fs::Permissions::from_mode(mode)).unwrap();
    let file = "etc/virtfit/policy.toml";
    for (name, bits, told) in [
        (file, 0o644, None),
        (
            file,
            0o666,
            Some("/etc/virtfit/policy.toml: all users may write it"),
        ),
        (
            "etc/virtfit/policy.d",
            0o777,
            Some("/etc/virtfit/policy.d: all users may write it"),
        ),
        (
            "etc/virtfit",
            0o1777,
            Some("/etc/virtfit: all users may write it"),
        ),
    ] {
        mode(name, bits);
        let check = host.says(0, &["policy", "check"], "");
        let status = host.status()["warnings"].to_string();
        match told {
            Some(told) => {
                assert!(check.contains(told), "{name} {bits:o}: {check}");
                assert!(status.contains(told), "{name} {bits:o}: {status}");
            }
            None => assert!(
                !check.contains("may write it") && status == "[]",
                "{check}{status}"
            ),
        }
        mode(name, if name == file { 0o644 } else { 0o755 });
    }
    // The group is not root's; only root can try it.
    if chown(path(file), None, Some(1)).is_ok() {
        mode(file, 0o664);
        let check = host.says(0, &["policy", "check"], "");
        assert!(check.contains("policy.toml: group 1 may write it"), "{check}");
    }
    // Through a link, the target's rights count.
    let real = path("etc/elsewhere.toml");
    fs::rename(path(file), &real).unwrap();
    fs::set_permissions(&real, fs::Permissions::from_mode(0o666)).unwrap();
    symlink("../elsewhere.toml", path(file)).unwrap();
    assert!(
        host.says(0, &["policy", "check"], "")
            .contains("policy.toml: all users may write it")
    );
}

#[test]
fn topologies_and_slots_beyond_any_number_are_read_at_once() {
    let host = Host::new("[[rule]]\nprofile = \"fit\"\n");
    let guest = |head: &str, inside: &str| {
        format!(
            "<domain type='kvm'{head}>\n  <name>t</name>\n  <memory>1048576</memory>\n  \
             <vcpu current='2'>4</vcpu>\n{inside}</domain>\n"
        )
    };
    let shown = |levels: &str| {
        guest(
            "",
            &format!("  <cpu mode='host-passthrough'><topology {levels}/></cpu>\n"),
        )
    };
    let qemu = " xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0'";
    let smp = |value: &str| {
        let arguments = format!("<qemu:arg value='-smp'/><qemu:arg value='{value}'/>");
        guest(
            qemu,
            &format!("  <qemu:commandline>{arguments}</qemu:commandline>\n"),
        )
    };
    let slot =
        "  <vcpus>\n    <vcpu id='0' enabled='yes'/>\n    <vcpu id='4294967295' enabled='no'/>\n  </vcpus>\n";
    for xml in [
        shown("sockets='1' dies='2147483648' cores='16383' threads='2'"),
        shown("sockets='1' dies='1' cores='4' threads='2147483648'"),
        shown("sockets='16' cores='2147483648' threads='1'"),
        shown("sockets='4' dies='4294967295' clusters='4294967295' cores='4294967295' threads='4294967295'"),
        smp("4,sockets=4294967295,cores=4294967295,threads=4294967295"),
        smp("4,sockets=4,dies=4294967295,clusters=4294967295,cores=1,threads=2"),
        smp("4,threads=4294967295"),
        guest("", slot),
    ] {
        for keep in [
            "",
            "topology = \"keep\"\n",
            "guest_visible = \"keep\"\n",
            "on_existing = \"override\"\n",
        ] {
            host.write(
                "etc/virtfit/policy.toml",
                &format!("[[rule]]\nprofile = \"p\"\n[profile.p]\nhugepages = \"off\"\n{keep}"),
            );
            let began = Instant::now();
            host.says(0, &["rewrite", "-"], &xml);
            let took = began.elapsed();
            assert!(took < Duration::from_secs(3), "{took:?}: {xml}");
        }
    }
}
