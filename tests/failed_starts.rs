//! Starts that fail after virtfit changed a guest: told where a change of virtfit's can be the
//! cause, by the daemon or by `virtfit apply`, and not told otherwise.
#![allow(clippy::unwrap_used)]

#[path = "common/load.rs"]
mod load;

use std::fs;
use std::process::Command;
use std::time::{Duration, Instant};

use load::{Host, guest};

const SMALL: &str = "--packages 2 --cores 8 --threads 2 --memory 16 --pages 2M=6144";
const START: &str = "2026-01-01 10:00:00.000+0000: starting up libvirt version: 9.0.0\nLC_ALL=C \\\n\
                     /usr/bin/qemu-system-x86_64 \\\n-msg timestamp=on\n";
const FAILED: &str = "2026-01-01 10:00:01.000+0000: shutting down, reason=failed\n";
const MSR: &str = "qemu-system-x86_64: error: failed to set MSR 0x10a to 0x69\n";

/// Lets the clock of the file system tick.
fn tick() {
    std::thread::sleep(Duration::from_millis(20));
}

/// Makes a host with this guest, applied before libvirt starts.
fn applied(number: usize) -> (Host, String) {
    let host = Host::made(SMALL);
    let (name, xml) = guest(number);
    tick();
    host.write(&format!("etc/libvirt/qemu/{name}.xml"), &xml);
    let done = apply(&host, &["--offline", "--yes", &name]);
    assert!(done.contains("1 of 1 redefined"), "{done}");
    (host, name)
}

fn apply(host: &Host, words: &[&str]) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_virtfit"))
        .arg("--root")
        .arg(host.path())
        .arg("apply")
        .args(words)
        .output()
        .unwrap();
    String::from_utf8_lossy(&[done.stdout, done.stderr].concat()).into_owned()
}

/// Lets a launch fail with these lines in QEMU's log, and libvirt release the guest.
fn fails(host: &Host, name: &str, lines: &str) {
    tick();
    host.write(
        &format!("var/log/libvirt/qemu/{name}.log"),
        &format!("{START}{lines}{FAILED}"),
    );
    let text = fs::read_to_string(host.path().join(format!("etc/libvirt/qemu/{name}.xml"))).unwrap();
    host.run(name, "release", &text);
}

fn status(host: &Host) -> String {
    let done = Command::new(env!("CARGO_BIN_EXE_virtfit"))
        .arg("--root")
        .arg(host.path())
        .arg("status")
        .output()
        .unwrap();
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn is_said(host: &Host, what: &str) {
    let until = Instant::now() + Duration::from_secs(3);
    while !host.log().contains(what) {
        assert!(Instant::now() < until, "{what}:\n{}", host.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn a_start_that_fails_after_an_apply_by_hand_is_told() {
    // The daemon runs when the start fails, or comes later.
    for late in [false, true] {
        let (mut host, name) = applied(0);
        if !late {
            host = host.with_daemon();
        }
        fails(&host, &name, MSR);
        if late {
            host = host.with_daemon();
        }
        let told = format!("{name}: failed to start after virtfit changed cpu mode");
        is_said(&host, &told);
        is_said(&host, &format!("virtfit revert {name}"));
        let table = status(&host);
        assert!(
            table.contains("failed to start after virtfit changed cpu mode"),
            "{table}"
        );
        assert!(table.contains(&format!("virtfit revert {name}")), "{table}");
        assert_eq!(host.log().matches("failed to start").count(), 1, "{}", host.log());
    }
}

#[test]
fn an_apply_beside_the_daemon_is_told_too_and_a_change_by_others_is_not() {
    let host = Host::made(SMALL).with_daemon();
    let (name, xml) = guest(0);
    let file = host.path().join(format!("etc/libvirt/qemu/{name}.xml"));
    // libvirt writes by rename.
    let put = |text: &str| {
        fs::write(file.with_extension("new"), text).unwrap();
        fs::rename(file.with_extension("new"), &file).unwrap();
        std::thread::sleep(Duration::from_millis(300));
    };
    put(&xml);
    let done = apply(&host, &["--offline", "--yes", &name]);
    assert!(done.contains("1 of 1 redefined"), "{done}");
    std::thread::sleep(Duration::from_millis(300));
    let tuned = fs::read_to_string(&file).unwrap();
    // Another program changes the guest: what fails then is not virtfit's doing.
    put(&tuned.replace("<devices>", "<devices><!-- by hand -->"));
    fails(&host, &name, MSR);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!host.log().contains("failed to start"), "{}", host.log());
    put(&xml);
    apply(&host, &["--offline", "--yes", &name]);
    std::thread::sleep(Duration::from_millis(300));
    fails(&host, &name, MSR);
    is_said(&host, "failed to start after virtfit changed cpu mode");
}

#[test]
fn what_no_change_of_virtfits_can_cause_is_not_blamed_on_one() {
    // QEMU 7.2 names a device with all its options, and the cause after them.
    let long = format!(
        "qemu-system-x86_64: -device {{\"driver\":\"virtio-blk-pci\",\"id\":\"{}\"}}: Failed to get \"write\" lock\n",
        "x".repeat(300)
    );
    for lines in [
        &long,
        "libvirt: error : libvirtd quit during handshake: Input/output error\n",
        "2026-01-01T10:00:00.5Z qemu-system-x86_64: terminating on signal 15 from pid 7 (/usr/sbin/libvirtd)\n",
        "qemu-system-x86_64: -device virtio-blk-pci,drive=x: Failed to get shared \"write\" lock\n",
        "qemu-system-x86_64: -netdev tap,fd=3: could not open /dev/vhost-net: Permission denied\n",
        "qemu-system-x86_64: -device vfio-pci,host=01:00.0: vfio 0000:01:00.0: Cannot allocate memory\n",
        "qemu-system-x86_64: -vnc :0: Failed to find an available port: Address already in use\n",
    ] {
        let (host, name) = applied(0);
        let host = host.with_daemon();
        fails(&host, &name, lines);
        std::thread::sleep(Duration::from_millis(300));
        assert!(!host.log().contains("failed to start"), "{lines}: {}", host.log());
        assert!(!status(&host).contains("failed to start"), "{lines}");
        // The definition is still untried: the next failure may be its own.
        fails(&host, &name, MSR);
        is_said(&host, "failed to start after virtfit changed cpu mode");
    }
}

/// Process that is to become QEMU complains when libvirt has gone on, or not at all.
#[test]
fn a_start_is_blamed_by_what_the_log_says_however_late_and_never_without_a_word() {
    let given_up = "libvirt: error : libvirtd quit during handshake: Input/output error\n";
    for (after, late) in [(given_up, false), (given_up, true), ("", true)] {
        let (host, name) = applied(0);
        let host = host.with_daemon();
        let log = |after: &str| {
            let path = format!("var/log/libvirt/qemu/{name}.log");
            host.write(&path, &format!("{START}{FAILED}{after}"));
        };
        tick();
        log(if late { "" } else { after });
        let text = fs::read_to_string(host.path().join(format!("etc/libvirt/qemu/{name}.xml"))).unwrap();
        host.run(&name, "release", &text);
        if late {
            std::thread::sleep(Duration::from_millis(50));
            log(after);
        }
        std::thread::sleep(Duration::from_millis(1500));
        assert!(
            !host.log().contains("failed to start"),
            "{after}{late}: {}",
            host.log()
        );
        assert!(!status(&host).contains("failed to start"), "{after}{late}");
        let is_silent = host.log().contains(&format!("{name}: QEMU ended without a word"));
        assert_eq!(is_silent, after.is_empty(), "{}", host.log());
        // The definition has all that virtfit wrote, and is still untried.
        let now = fs::read_to_string(host.path().join(format!("etc/libvirt/qemu/{name}.xml"))).unwrap();
        assert_eq!(now, text);
        fails(&host, &name, MSR);
        is_said(&host, "failed to start after virtfit changed cpu mode");
    }
}

/// A launch from before virtfit's change failed; a start that is vetoed later leaves no other log.
#[test]
fn an_earlier_failure_is_not_blamed_on_a_later_change() {
    let host = Host::made(SMALL);
    let (name, xml) = guest(0);
    host.write(
        &format!("var/log/libvirt/qemu/{name}.log"),
        &format!("{START}{MSR}{FAILED}"),
    );
    tick();
    host.write(&format!("etc/libvirt/qemu/{name}.xml"), &xml);
    apply(&host, &["--offline", "--yes", &name]);
    let host = host.with_daemon();
    let text = fs::read_to_string(host.path().join(format!("etc/libvirt/qemu/{name}.xml"))).unwrap();
    host.run(&name, "release", &text);
    std::thread::sleep(Duration::from_millis(300));
    assert!(!host.log().contains("failed to start"), "{}", host.log());
}

/// A guest that started while no daemon ran has tried its definition.
#[test]
fn a_guest_that_runs_is_not_untried_after_a_restart_of_the_daemon() {
    let (host, name) = applied(0);
    tick();
    let text = fs::read_to_string(host.path().join(format!("etc/libvirt/qemu/{name}.xml"))).unwrap();
    let uuid = "8c1f6f0e-0000-4000-8000-000000000000";
    let running = format!("<domstatus state='running' reason='booted' pid='4000'>\n{text}</domstatus>\n");
    let untried = |host: &Host| {
        host.path()
            .join(format!("var/lib/virtfit/untried/{uuid}.json"))
            .exists()
    };
    assert!(untried(&host));
    // It runs since before its definition was written: what it runs with is another one.
    host.write(&format!("run/libvirt/qemu/{name}.xml"), &running);
    host.write(&format!("run/libvirt/qemu/{name}.pid"), "4000");
    let pid = fs::File::options()
        .write(true)
        .open(host.path().join(format!("run/libvirt/qemu/{name}.pid")))
        .unwrap();
    let now = std::time::SystemTime::now();
    pid.set_modified(now - Duration::from_secs(60)).unwrap();
    let host = host.with_daemon();
    std::thread::sleep(Duration::from_millis(300));
    assert!(untried(&host), "{}", host.log());
    let host = host.without_daemon();
    pid.set_modified(now).unwrap();
    let host = host.with_daemon();
    std::thread::sleep(Duration::from_millis(300));
    assert!(!untried(&host), "{}", host.log());
}

/// A guest that fails with its own CPU mode too is not told to be started again.
#[test]
fn a_guest_that_fails_without_the_cpu_mode_too_is_its_own_affair() {
    let (host, name) = applied(0);
    let host = host.with_daemon();
    fails(&host, &name, MSR);
    is_said(&host, "its cpu mode is taken back, start it again");
    let done = apply(&host, &["--offline", "--yes", &name]);
    assert!(done.contains("1 of 1 redefined"), "{done}");
    std::thread::sleep(Duration::from_millis(300));
    fails(&host, &name, MSR);
    is_said(&host, "fails to start with its own CPU mode too");
    assert!(!status(&host).contains("start it again"), "{}", status(&host));
}

/// A signal or a control group ended the second start: that says nothing of the first.
#[test]
fn a_start_without_a_word_says_nothing_of_an_earlier_one() {
    let (host, name) = applied(0);
    let host = host.with_daemon();
    fails(&host, &name, MSR);
    is_said(&host, "its cpu mode is taken back, start it again");
    apply(&host, &["--offline", "--yes", &name]);
    std::thread::sleep(Duration::from_millis(300));
    fails(&host, &name, "");
    is_said(&host, "QEMU ended without a word");
    assert!(
        !host.log().contains("with its own CPU mode too"),
        "{}",
        host.log()
    );
    assert!(status(&host).contains("start it again"), "{}", status(&host));
}
