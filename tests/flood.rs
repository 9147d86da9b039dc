//! A member of group libvirt floods the daemon's socket: neither memory nor hooks suffer.
// Numbers are told with --nocapture.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

#[path = "common/load.rs"]
mod load;

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use load::{Host, guest};

const SMALL: &str = "--packages 2 --cores 8 --threads 2 --memory 16 --pages 2M=6144";
/// Growth the daemon may not exceed, in KiB, whatever a reader sends. One body alone is 16 MiB.
const MORE: u64 = 12 << 10;

/// Script of an unprivileged user who was given the socket: 64 connections, again and again, for
/// four seconds.
const FLOOD: &str = r#"
import os, socket, sys, threading, time
os.setgroups([]); os.setgid(65534); os.setuid(65534)
path, what = sys.argv[1:]
end = time.time() + 4
MiB = b'x' * (1 << 20)
def bodies(s, head):
    s.sendall(head)
    for _ in range(16): s.sendall(MiB)
def one():
    while time.time() < end:
        s = socket.socket(socket.AF_UNIX); s.settimeout(2)
        try:
            s.connect(path)
            if what == 'hook': bodies(s, b'virtfit 1 hook 11 16777216\ng\0prepare\0-\0')
            if what == 'ask': bodies(s, b'virtfit 1 ask 7 16777216\nstatus\0')
            if what == 'words': s.sendall(b'virtfit 1 ask 65536 0\n' + b'x' * 65000)
            if what == 'slow':
                for byte in b'virtfit 1 ask 7 0\nstatus\0': s.sendall(bytes([byte])); time.sleep(.2)
            if what == 'silent': time.sleep(1.5)
            if what == 'unread': s.sendall(b'virtfit 1 ask 7 0\nstatus\0'); time.sleep(1.5)
        except OSError: pass
        s.close()
for t in [threading.Thread(target=one) for _ in range(64)]: t.start()
"#;

fn flood(host: &Host, what: &str) -> Child {
    Command::new("python3")
        .args(["-c", FLOOD])
        .arg(host.path().join("run/virtfit/virtfitd.sock"))
        .arg(what)
        .stdin(Stdio::null())
        .spawn()
        .unwrap()
}

/// Returns one of the daemon's sizes in KiB, as the kernel counts.
fn kib(host: &Host, what: &str) -> u64 {
    let status = fs::read_to_string(format!("/proc/{}/status", host.daemon_pid())).unwrap();
    let line = status.lines().find(|line| line.starts_with(what)).unwrap();
    line.split_whitespace().nth(1).unwrap().parse().unwrap()
}

/// A definition of almost 2 MiB takes 60 MiB while it is read, and nothing afterwards.
#[test]
fn what_a_large_definition_takes_is_given_back() {
    let host = Host::made(SMALL).with_daemon();
    let before = kib(&host, "VmRSS:");
    let (name, xml) = guest(0);
    let large = xml.replace(
        "</vcpu>",
        &format!("</vcpu>{}", "<cputune/><memoryBacking/>".repeat(75_000)),
    );
    let folder = host.path().join("etc/libvirt/qemu");
    fs::create_dir_all(&folder).unwrap();
    fs::write(folder.join(".new"), large).unwrap();
    fs::rename(folder.join(".new"), folder.join(format!("{name}.xml"))).unwrap();
    let until = Instant::now() + Duration::from_secs(60);
    while kib(&host, "VmHWM:") < before + (20 << 10) || kib(&host, "VmRSS:") > before + MORE {
        assert!(
            Instant::now() < until,
            "resident {before} KiB before, peak {}, {} now",
            kib(&host, "VmHWM:"),
            kib(&host, "VmRSS:")
        );
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
#[ignore = "needs root; run by make test"]
fn a_reader_that_floods_the_socket_costs_little_memory_and_no_hook() {
    let host = Host::made(SMALL).with_daemon();
    // Every user may pass the folders on the way to the socket, and the socket itself as a member
    // of its group would.
    fs::set_permissions(host.path(), PermissionsExt::from_mode(0o755)).unwrap();
    let socket = host.path().join("run/virtfit/virtfitd.sock");
    fs::set_permissions(&socket, PermissionsExt::from_mode(0o666)).unwrap();
    let mut number = 0;
    let mut hook = || {
        let (name, xml) = guest(number);
        number += 1;
        let ran = host.run(&name, "prepare", &xml);
        host.run(&name, "release", &xml);
        ran
    };
    hook();
    for what in ["hook", "ask", "words", "slow", "silent", "unread"] {
        let before = kib(&host, "VmRSS:");
        let mut reader = flood(&host, what);
        std::thread::sleep(Duration::from_millis(300));
        let began = Instant::now();
        let (mut longest, mut hooks) = (Duration::ZERO, 0);
        while began.elapsed() < Duration::from_secs(3) {
            let ran = hook();
            longest = longest.max(ran.took);
            hooks += 1;
            assert!(
                ran.code == Some(0) && !ran.stderr.contains("nothing was changed"),
                "{what}: {}",
                ran.stderr
            );
            assert!(ran.took < Duration::from_secs(1), "{what}: {:?}", ran.took);
            std::thread::sleep(Duration::from_millis(20));
        }
        assert!(reader.wait().unwrap().success());
        let (peak, after) = (kib(&host, "VmHWM:"), kib(&host, "VmRSS:"));
        eprintln!(
            "{what:7} {hooks:3} hooks, longest {longest:?}; resident {before} KiB, peak {peak}, after {after}"
        );
        assert!(
            peak < before + MORE && after < before + MORE,
            "{what}: {before}, {peak}, {after} KiB"
        );
    }
    // Closed connections are reported once a minute, and a reader's questions are answered.
    assert!(
        host.log().matches("closed without an answer").count() <= 2,
        "{}",
        host.log()
    );
}
