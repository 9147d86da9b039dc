//! Throw-away host, and hooks called on it.

use std::fs;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use virtfit::hook_events;
use virtfit::hook_events::{Call, Context, Outcome, Source};
use virtfit::host::libvirt_process::Parent;
use virtfit::hostfs::HostFs;
use virtfit::ledger::reader;
use virtfit::ledger::reader::Reading;
use virtfit::ledger::reservation::Reservation;
use virtfit::ledger::store::Store;
use virtfit::policy::Policy;
use virtfit::snapshot::{Snapshot, SnapshotError, Sources};
use virtfit::types::idset::CpuSet;

/// Two nodes of four cores of two threads, siblings next to each other. Housekeeping is 0-1 and
/// 8-9.
pub const TOPOLOGY: &str = "node:2 core:4 pu:2";
/// libvirt daemon of these hosts: its pid and start time.
pub const DAEMON: (u32, u64) = (77, 5);
/// Time of day, where it matters.
pub const NOW: u64 = 1_000_000;

pub const POLICY: &str = r#"
[profile.fit]
hugepages = "off"
[profile.strict]
memory_mode = "strict"
[profile.strictly]
inherits = "strict"
on_no_fit = "refuse"
[profile.refuse]
on_no_fit = "refuse"
[profile.untuned]
on_no_fit = "run-untuned"
[[rule]]
match = { name = "refuse-*" }
profile = "refuse"
[[rule]]
match = { name = "iso-*" }
profile = "isolated"
[[rule]]
match = { name = "untuned-*" }
profile = "untuned"
[[rule]]
match = { name = "strict-*" }
profile = "strict"
[[rule]]
match = { name = "strictly-*" }
profile = "strictly"
[[rule]]
match = { name = "shared-*" }
profile = "shared"
[[rule]]
match = { name = "local-*" }
profile = "local"
[[rule]]
match = { name = "run-*" }
profile = "fit"
"#;

pub struct Host {
    pub folder: tempfile::TempDir,
    pub topology: Option<&'static str>,
}

impl Host {
    pub fn new() -> Self {
        let host = Self {
            folder: tempfile::tempdir().unwrap(),
            topology: Some(TOPOLOGY),
        };
        host.furnish();
        host
    }

    /// Makes the paper's server, with huge pages.
    pub fn paper() -> Self {
        let host = Self {
            folder: tempfile::tempdir().unwrap(),
            topology: None,
        };
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper/.");
        let done = Command::new("cp")
            .arg("-a")
            .args([&from, host.path()])
            .status()
            .unwrap();
        assert!(done.success());
        host.furnish();
        host
    }

    fn furnish(&self) {
        self.write("etc/virtfit/policy.toml", POLICY);
        self.write("proc/sys/kernel/random/boot_id", "b0\n");
        self.daemon(DAEMON.0, DAEMON.1);
    }

    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    pub fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    pub fn daemon(&self, pid: u32, start: u64) {
        let stat = format!("{pid} (libvirtd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0\n");
        self.write(&format!("proc/{pid}/stat"), &stat);
    }

    /// Lets the guest of this XML run.
    pub fn runs(&self, name: &str, xml: &str) {
        let live = xml.replacen("<domain ", "<domain id='1' ", 1);
        let vcpus = "<vcpus><vcpu id='0' pid='1'/></vcpus>";
        self.write(
            &format!("run/libvirt/qemu/{name}.xml"),
            &format!("<domstatus state='running' reason='booted' pid='1'>{vcpus}{live}</domstatus>\n"),
        );
    }

    pub fn stopped(&self, name: &str) {
        let _ = fs::remove_file(self.path().join(format!("run/libvirt/qemu/{name}.xml")));
    }

    pub fn root(&self) -> HostFs {
        HostFs::new(self.path())
    }

    pub fn place(&self) -> Sources {
        Sources {
            root: self.root(),
            policy: None,
            topology: self.topology.map(str::to_string),
            assume_empty: false,
        }
    }

    pub fn view(&self, now: u64) -> Snapshot {
        Snapshot::read(&self.place(), at(now)).unwrap()
    }

    pub fn reading(&self, now: u64) -> Reading {
        reader::read(&self.root(), at(now), &Policy::builtin()).unwrap()
    }

    pub fn reservation(&self, name: &str) -> Option<Reservation> {
        Store::new(&self.root()).reservation(&uuid(name)).unwrap()
    }

    /// Returns the CPUs a guest was promised, as a list.
    pub fn promised(&self, name: &str) -> Option<String> {
        let cpus = self.reservation(name)?.cpus;
        (!cpus.is_empty()).then(|| cpus.to_string())
    }

    /// Calls the hook in this process.
    pub fn hook(&self, name: &str, operation: &str, xml: &str) -> Outcome {
        self.hook_at(name, operation, xml, NOW, false)
    }

    pub fn hook_at(&self, name: &str, operation: &str, xml: &str, now: u64, daemon: bool) -> Outcome {
        let source = Fresh {
            place: self.place(),
            now,
        };
        self.hook_from(&source, name, operation, xml, now, daemon)
    }

    pub fn hook_from(
        &self,
        source: &dyn Source,
        name: &str,
        operation: &str,
        xml: &str,
        now: u64,
        daemon: bool,
    ) -> Outcome {
        let context = Context {
            source,
            store: &Store::new(&self.root()),
            deadline: Instant::now() + Duration::from_secs(20),
            now: at(now),
            daemon,
        };
        hook_events::answer(&call(name, operation, xml), &context)
    }

    /// Returns `virtfit hook …` as libvirt runs it.
    pub fn command(&self, options: &[&str], words: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_virtfit"));
        command.arg("--root").arg(self.path());
        if let Some(topology) = self.topology {
            command.args(["--topology", topology]);
        }
        command
            .args(options)
            .args(["hook", "--parent", &DAEMON.0.to_string(), "--"])
            .args(words)
            .env_remove("VIRTFIT_ROOT")
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        command
    }

    pub fn spawn(&self, name: &str, operation: &str, xml: &str) -> Running {
        let sub = suboperation(operation);
        let mut child = self.command(&[], &[name, operation, sub, "-"]).spawn().unwrap();
        let _ = child.stdin.take().unwrap().write_all(xml.as_bytes());
        Running {
            child,
            since: Instant::now(),
        }
    }

    pub fn run(&self, name: &str, operation: &str, xml: &str) -> Ran {
        self.spawn(name, operation, xml).wait()
    }
}

/// Hook that runs.
pub struct Running {
    pub child: Child,
    since: Instant,
}

pub struct Ran {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
    pub took: Duration,
}

impl Running {
    pub fn wait(self) -> Ran {
        let Output {
            status,
            stdout,
            stderr,
        } = self.child.wait_with_output().unwrap();
        Ran {
            code: status.code(),
            stdout: String::from_utf8(stdout).unwrap(),
            stderr: String::from_utf8(stderr).unwrap(),
            took: self.since.elapsed(),
        }
    }
}

/// Source that reads everything again each time.
pub struct Fresh {
    pub place: Sources,
    pub now: u64,
}

impl Source for Fresh {
    fn current(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        let view = Snapshot::read(&self.place, at(self.now))?;
        Ok(Arc::new(view))
    }
}

pub fn call(name: &str, operation: &str, xml: &str) -> Call {
    Call {
        guest: name.into(),
        operation: operation.into(),
        suboperation: suboperation(operation).into(),
        extra: "-".into(),
        parent: Parent::new(DAEMON.0),
        xml: xml.into(),
    }
}

fn suboperation(operation: &str) -> &'static str {
    match operation {
        "release" | "stopped" => "end",
        _ => "begin",
    }
}

pub fn at(seconds: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_secs(seconds)
}

/// Returns a UUID made from the name; for names of up to 18 letters that differ in the last six.
pub fn uuid(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    let digits = format!("{digits:0>32}");
    let digits = &digits[digits.len() - 32..];
    format!(
        "{}-{}-{}-{}-{}",
        &digits[..8],
        &digits[8..12],
        &digits[12..16],
        &digits[16..20],
        &digits[20..]
    )
}

/// Makes a guest's XML with this inside.
pub fn domain(name: &str, vcpus: u32, inside: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>{}</uuid>\n  <memory unit='MiB'>64</memory>\n  \
         <vcpu>{vcpus}</vcpu>\n{inside}  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n</domain>\n",
        uuid(name)
    )
}

/// Makes a guest's XML with pins an administrator wrote.
pub fn pinned(name: &str, pins: &[&str]) -> String {
    let pins: String = pins
        .iter()
        .enumerate()
        .map(|(vcpu, cpus)| format!("    <vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>\n"))
        .collect();
    let vcpus = pins.lines().count() as u32;
    domain(name, vcpus, &format!("  <cputune>\n{pins}  </cputune>\n"))
}

pub fn cpus(list: &str) -> CpuSet {
    virtfit::types::cpulist::parse(list).unwrap()
}
