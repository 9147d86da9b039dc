//! A bug that one guest meets fails that guest alone: the others go on, and nothing of the panic's
//! message is shown.
//!
//! The bug is a fault point, which only builds with debug assertions have
//! (`virtfit::panics::fault_point`).
#![cfg(debug_assertions)]
#![allow(clippy::unwrap_used)]

use std::fs;
use std::io::Write as _;
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

#[path = "common/feed.rs"]
mod feed;
use feed::feed;

const VIRTFIT: &str = env!("CARGO_BIN_EXE_virtfit");
const VIRTFITD: &str = env!("CARGO_BIN_EXE_virtfitd");

/// Fault points that a defined guest meets.
const DEFINED: [&str; 2] = ["panic-at-parse", "panic-at-decide"];

/// Makes a server of 2 nodes x 8 cores x 2 threads with a rule for all guests.
struct Host(tempfile::TempDir);

/// Daemon that ends with the test.
struct Daemon(Child);

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn uuid(name: &str) -> String {
    let number = name.bytes().fold(0u32, |sum, byte| {
        sum.wrapping_mul(31).wrapping_add(u32::from(byte))
    });
    format!("11111111-2222-4333-8444-{number:012}")
}

fn domain(name: &str) -> String {
    format!(
        "<domain type='kvm'><name>{name}</name><uuid>{}</uuid><memory unit='MiB'>512</memory><vcpu>2</vcpu>\
         <os><type arch='x86_64' machine='q35'>hvm</type></os>\
         <devices><graphics type='vnc' passwd='s3cret'/></devices></domain>\n",
        uuid(name)
    )
}

impl Host {
    fn new(policy: &str) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper/.");
        let mut copy = Command::new("cp");
        copy.arg("-a").args([from.as_path(), host.0.path()]);
        assert!(copy.status().unwrap().success());
        host.put(
            "etc/virtfit/policy.toml",
            &format!("{policy}[[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"fit\"\n"),
        );
        // Definitions are written after the policy, in another tick of the file system's clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn define(&self, name: &str) {
        self.put(&format!("etc/libvirt/qemu/{name}.xml"), &domain(name));
    }

    fn running(&self, name: &str) {
        let live = domain(name).replace("type='kvm'", "type='kvm' id='1'");
        let status = format!("<domstatus state='running' reason='booted' pid='1'>{live}</domstatus>");
        self.put(&format!("run/libvirt/qemu/{name}.xml"), &status);
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.0.path().join(format!("etc/libvirt/qemu/{name}.xml"))).unwrap()
    }

    fn run(&self, words: &[&str], stdin: &str) -> Output {
        let mut command = Command::new(VIRTFIT);
        command.arg("--root").arg(self.0.path()).args(words);
        feed(&mut command, stdin.as_bytes())
    }
}

/// Returns exit code, stdout, stderr; nothing of the panic's message is in them.
fn told(ran: &Output) -> (i32, String, String) {
    let text = |bytes: &[u8]| String::from_utf8(bytes.to_vec()).unwrap();
    let (stdout, stderr) = (text(&ran.stdout), text(&ran.stderr));
    assert!(
        !stdout.contains(MESSAGE) && !stderr.contains(MESSAGE),
        "{stdout}{stderr}"
    );
    assert!(
        !stderr.contains("s3cret") && !stderr.contains("panicked"),
        "{stderr}"
    );
    (ran.status.code().unwrap(), stdout, stderr)
}

/// Message of the panic.
const MESSAGE: &str = "quoted from the XML";

const FAILED: &str = "failed: a bug in virtfit, please report (src/";

/// Checks that the two guests are named, one line each beside warnings, and no others.
fn failed_alone(stderr: &str) {
    let lines = stderr.lines().filter(|line| !line.contains(": warning: "));
    let lines: Vec<&str> = lines.collect();
    assert_eq!(lines.len(), 2, "{stderr}");
    for name in DEFINED {
        let told = |line: &&str| line.contains(name) && line.contains(FAILED);
        assert!(lines.iter().any(told), "{name}: {stderr}");
    }
}

#[test]
fn the_other_guests_are_planned_shown_and_written() {
    let host = Host::new("");
    for name in DEFINED.iter().chain(&["db", "web"]) {
        host.define(name);
    }
    let (code, stdout, stderr) = told(&host.run(&["plan", "db", DEFINED[0], DEFINED[1], "web"], ""));
    assert_eq!(code, 1, "{stderr}");
    failed_alone(&stderr);
    assert!(
        stdout.contains("db: tuned by fit") && stdout.contains("web: tuned by fit"),
        "{stdout}"
    );
    let (code, stdout, _) = told(&host.run(&["plan", "--json", "db", DEFINED[1]], ""));
    assert_eq!((code, stdout.starts_with("[{")), (1, true), "{stdout}");

    let (code, stdout, stderr) = told(&host.run(&["status"], ""));
    assert_eq!(code, 3, "{stderr}");
    for name in DEFINED {
        let line = stdout.lines().find(|line| line.contains(name)).unwrap();
        assert!(line.contains("shut off"), "{stdout}");
    }
    assert!(stdout.contains("db ") && stdout.contains("web "), "{stdout}");
    let (_, json, _) = told(&host.run(&["status", "--json"], ""));
    assert_eq!(
        json.matches(&format!("\"problem\":\"{FAILED}")).count(),
        2,
        "{json}"
    );

    for words in [
        &["apply", "--offline", "--all", "--yes"][..],
        &["apply", "--offline"],
    ] {
        let before = DEFINED.map(|name| host.text(name));
        let (code, stdout, stderr) = told(&host.run(words, ""));
        assert_eq!(code, 1, "{stderr}");
        failed_alone(&stderr);
        assert!(stdout.contains("redefined"), "{stdout}");
        assert_eq!(DEFINED.map(|name| host.text(name)), before);
        for name in ["db", "web"] {
            assert!(host.text(name).contains("<vcpupin"), "{name}");
        }
    }
}

#[test]
fn a_running_guest_that_cannot_be_read_hurts_nobody() {
    let host = Host::new("");
    host.define("db");
    for name in ["panic-at-parse", "panic-at-decide", "web"] {
        host.define(name);
        host.running(name);
    }
    let (code, stdout, stderr) = told(&host.run(&["status"], ""));
    assert_eq!(code, 3, "{stderr}");
    assert!(stdout.contains("web ") && stdout.contains("db "), "{stdout}");
    let unread = "what this guest holds is known only from its reservation";
    assert!(stderr.contains(FAILED) && stderr.contains(unread), "{stderr}");
    let (code, stdout, _) = told(&host.run(&["plan", "db"], ""));
    assert_eq!((code, stdout.contains("tuned by fit")), (0, true), "{stdout}");
    // Another guest starts beside it, with its CPUs reserved.
    let (code, _, stderr) = told(&host.run(&["hook", "db", "prepare", "begin", "-"], &domain("db")));
    assert_eq!(code, 0, "{stderr}");
    assert!(stderr.contains("reserved"), "{stderr}");
    let reserved = host
        .0
        .path()
        .join(format!("run/virtfit/reservations/{}.json", uuid("db")));
    assert!(reserved.is_file());
}

#[test]
fn a_guest_that_virtfit_fails_on_starts_undecided() {
    let host = Host::new("");
    for point in ["parse", "decide", "start"] {
        let name = format!("panic-at-{point}");
        for operation in ["prepare", "restore", "migrate"] {
            let ran = host.run(&["hook", &name, operation, "begin", "-"], &domain(&name));
            let (code, stdout, stderr) = told(&ran);
            assert_eq!(code, 0, "{name} {operation}: {stderr}");
            if point != "start" || operation == "prepare" {
                assert_eq!(stdout, "");
                assert!(
                    stderr.contains("nothing was changed") && stderr.contains(FAILED),
                    "{stderr}"
                );
            }
        }
        let (code, ..) = told(&host.run(&["hook", &name, "release", "end", "-"], &domain(&name)));
        assert_eq!(code, 0);
    }
    // A guest whose own record refuses does not start.
    let tuned = told(&host.run(&["rewrite", "-"], &domain("db"))).1;
    let refuse = tuned.replace("on-no-fit='run-shared'", "on-no-fit='refuse'");
    assert_ne!(refuse, tuned);
    let refuse = refuse.replace("<name>db<", "<name>panic-at-start<");
    let (code, _, stderr) = told(&host.run(&["hook", "panic-at-start", "prepare", "begin", "-"], &refuse));
    assert_eq!(code, 1, "{stderr}");
    assert!(stderr.contains("may not run without its placement"), "{stderr}");
}

#[test]
fn a_panic_tells_its_place_alone_and_ends_with_1() {
    let host = Host::new("");
    for (words, stdin) in [
        (&["rewrite", "-"][..], domain("panic-at-decide")),
        (&["rewrite", "-"], domain("panic-at-parse")),
        (&["plan", "-"], domain("panic-at-decide")),
        // The bug is outside of all code that is guarded for each guest.
        (&["plan", "-"], domain("panic-at-show")),
    ] {
        let (code, stdout, stderr) = told(&host.run(words, &stdin));
        assert_eq!((code, stdout.as_str()), (1, ""), "{words:?}: {stderr}");
        assert!(
            stderr.contains("a bug in virtfit, please report (src/"),
            "{stderr}"
        );
        assert_eq!(stderr.lines().count(), 1, "{stderr}");
    }
    let mut call = Command::new(VIRTFITD)
        .arg("call")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let requests = "{\"call\":\"rename\",\"uuid\":\"u\",\"name\":\"panic-at-call\"}\n{\"call\":\"close\"}\n";
    call.stdin.take().unwrap().write_all(requests.as_bytes()).unwrap();
    let (code, stdout, stderr) = told(&call.wait_with_output().unwrap());
    assert_eq!((code, stderr.as_str()), (0, ""));
    assert!(
        stdout.starts_with("{\"said\":\"a bug in virtfit, please report (src/"),
        "{stdout}"
    );
    assert!(stdout.ends_with("{\"ok\":true}\n"), "{stdout}");
}

#[test]
fn the_daemon_looks_at_the_others_and_at_this_one_once() {
    let host = Host::new("[host]\nmode = \"observe\"\n");
    for name in DEFINED.iter().chain(&["db", "web"]) {
        host.define(name);
    }
    let file = host.0.path().join("log");
    let daemon = Command::new(VIRTFITD)
        .arg("--root")
        .arg(host.0.path())
        .stdin(Stdio::null())
        .stderr(fs::File::create(&file).unwrap())
        .spawn()
        .unwrap();
    let _daemon = Daemon(daemon);
    let said = || fs::read_to_string(&file).unwrap();
    let wait = |what: &str| {
        let begin = Instant::now();
        while !said().contains(what) {
            assert!(begin.elapsed() < Duration::from_secs(10), "{what}:\n{}", said());
            std::thread::sleep(Duration::from_millis(10));
        }
    };
    wait("web: would be tuned by fit");
    wait("db: would be tuned by fit");
    // The policy changes: all guests are decided again, except those two.
    host.put(
        "etc/virtfit/policy.toml",
        "[host]\nmode = \"observe\"\n[[rule]]\nmatch = { name = \"*\" }\nprofile = \"local\"\n",
    );
    host.define("new");
    wait("new: would be tuned by local");
    wait("web: would be tuned by local");
    for name in DEFINED {
        let lines = said();
        let lines: Vec<&str> = lines.lines().filter(|line| line.contains(name)).collect();
        assert_eq!(lines.len(), 1, "{lines:?}");
        assert!(lines[0].contains(FAILED), "{lines:?}");
    }
    let log = said();
    assert!(!log.contains("s3cret") && !log.contains("panicked"), "{log}");
    // Its XML changes: it is tried once more.
    let changed = domain(DEFINED[1]).replace("512", "600");
    host.put("etc/libvirt/qemu/new.tmp", &changed);
    let folder = host.0.path().join("etc/libvirt/qemu");
    fs::rename(folder.join("new.tmp"), folder.join(format!("{}.xml", DEFINED[1]))).unwrap();
    let begin = Instant::now();
    while said().matches(DEFINED[1]).count() < 2 {
        assert!(begin.elapsed() < Duration::from_secs(10), "{}", said());
        std::thread::sleep(Duration::from_millis(10));
    }
}
