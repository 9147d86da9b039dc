//! Kind of guests that start on the machine that runs the tests: with KVM and the host's CPU, or
//! emulated.
//!
//! `/dev/kvm` alone is no proof: where the machine is a guest itself, QEMU may abort with the
//! host's CPU (`failed to set MSR 0x10a`). Therefore each test program starts one QEMU, paused and
//! without a guest.
#![allow(dead_code, clippy::unwrap_used, unreachable_pub)]

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};

const QEMU: &str = "/usr/bin/qemu-system-x86_64";
const LONGEST: Duration = Duration::from_secs(20);

/// Fails with the reason where this machine has no KVM.
pub fn kvm() -> Result<(), String> {
    fs::File::options()
        .read(true)
        .write(true)
        .open("/dev/kvm")
        .map(drop)
        .map_err(|error| format!("/dev/kvm: {error}"))
}

/// Fails with the reason where a KVM guest with the host's CPU does not start on this machine.
pub fn host_cpu() -> Result<(), String> {
    static ANSWER: OnceLock<Result<(), String>> = OnceLock::new();
    ANSWER.get_or_init(|| kvm().and_then(|()| try_qemu())).clone()
}

/// Returns the domain type for guests that should have the host's CPU. Prints once which one it is.
pub fn kind() -> &'static str {
    static SAID: OnceLock<()> = OnceLock::new();
    let answer = host_cpu();
    SAID.get_or_init(|| match &answer {
        Ok(()) => say("guests are started with KVM and the host's CPU"),
        Err(why) => say(&format!(
            "NOT RUN: guests with KVM and the host's CPU: {why}: type='qemu' instead"
        )),
    });
    if answer.is_ok() { "kvm" } else { "qemu" }
}

/// Prints a line past the test harness, which would swallow it.
pub fn say(line: &str) {
    let _ = writeln!(std::io::stderr(), "\n{line}");
}

/// Starts a paused QEMU without a guest and tells it to quit.
fn try_qemu() -> Result<(), String> {
    let mut child = Command::new(QEMU)
        .args([
            "-machine", "q35", "-accel", "kvm", "-cpu", "host", "-m", "16", "-S",
        ])
        .args([
            "-nodefaults",
            "-no-user-config",
            "-display",
            "none",
            "-qmp",
            "stdio",
        ])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|error| format!("{QEMU}: {error}"))?;
    // A QEMU that has ended takes no more words; its exit is what counts.
    let _ = child
        .stdin
        .take()
        .unwrap()
        .write_all(b"{\"execute\":\"qmp_capabilities\"}\n{\"execute\":\"quit\"}\n");
    let begin = Instant::now();
    while child.try_wait().unwrap().is_none() {
        if begin.elapsed() > LONGEST {
            child.kill().unwrap();
            child.wait().unwrap();
            return Err(format!("{QEMU} -cpu host: no answer in {LONGEST:?}"));
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let output = child.wait_with_output().unwrap();
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    let first = said.lines().next().unwrap_or_default();
    Err(format!("{QEMU} -cpu host: {}: {first}", output.status))
}
