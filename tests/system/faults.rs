//! Faults in virtfit: libvirt goes on as if virtfit were not there.

use std::fs;
use std::os::unix::net::UnixListener;
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Libvirt, Setup, alone_on, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"plain\"\n";

/// The hook gives up after 0.9 s; on a busy machine, starting and ending a process adds to that.
const HOOK_AT_MOST: Duration = Duration::from_millis(1500);

fn host() -> Libvirt {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    for name in ["a", "b"] {
        libvirt.define(&small(name)).unwrap();
    }
    libvirt
}

/// Starts a guest, which must succeed; returns the time it took.
fn start(libvirt: &Libvirt, name: &str) -> Duration {
    let begin = Instant::now();
    libvirt
        .virsh(&["start", name])
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", libvirt.log(), libvirt.libvirt_log()));
    begin.elapsed()
}

fn stop(libvirt: &Libvirt, name: &str) {
    libvirt.virsh(&["destroy", name]).unwrap();
}

/// Returns the time a start takes on this machine now, without virtfit.
fn usual(libvirt: &Libvirt) -> Duration {
    fs::create_dir_all(libvirt.on_host("run/virtfit")).unwrap();
    let disabled = libvirt.on_host("run/virtfit/disabled");
    fs::write(&disabled, "").unwrap();
    let took = start(libvirt, "a").max({
        stop(libvirt, "a");
        start(libvirt, "a")
    });
    stop(libvirt, "a");
    fs::remove_file(&disabled).unwrap();
    took
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn the_daemon_is_killed_during_two_hundred_starts() {
    let libvirt = host();
    let mut seed = 7u32;
    let mut daemon = Some(libvirt.virtfitd());
    for round in 0..100 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let pause = Duration::from_millis(u64::from((seed >> 16) % 400));
        let victim = daemon.take();
        thread::scope(|scope| {
            let clients = ["a", "b"].map(|name| scope.spawn(|| start(&libvirt, name)));
            thread::sleep(pause);
            drop(victim);
            for client in clients {
                client.join().unwrap();
            }
        });
        daemon = Some(libvirt.virtfitd());
        within(5, "no CPU is held twice", || {
            let alone = alone_on(&libvirt, &["a", "b"]);
            let twice = alone.len() == 2 && alone[0].0 == alone[1].0 && alone[0].0 == "1";
            match twice {
                false => Ok(()),
                true => Err(format!("round {round}: {alone:?}\n{}", libvirt.log())),
            }
        });
        for name in ["a", "b"] {
            stop(&libvirt, name);
        }
    }
    let left = fs::read_dir(libvirt.on_host("run/virtfit/reservations")).map_or(0, Iterator::count);
    assert_eq!(left, 0, "{}", libvirt.log());
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_daemon_that_is_stopped_delays_and_no_more() {
    let libvirt = host();
    let usual = usual(&libvirt);
    let daemon = libvirt.virtfitd();
    daemon.signal("STOP");
    let took = start(&libvirt, "a");
    // prepare, started.
    assert!(took < usual + 2 * HOOK_AT_MOST, "{took:?}, usually {usual:?}");
    // Without the daemon the reservation is made in-process.
    let left = fs::read_dir(libvirt.on_host("run/virtfit/reservations")).map_or(0, Iterator::count);
    assert_eq!(left, 1, "{}", libvirt.log());
    daemon.signal("CONT");
    stop(&libvirt, "a");
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_stopped_holder_of_the_lock_leaves_it_undecided() {
    let libvirt = host();
    let usual = usual(&libvirt);
    fs::create_dir_all(libvirt.on_host("run/virtfit")).unwrap();
    let lock = fs::File::create(libvirt.on_host("run/virtfit/lock")).unwrap();
    lock.lock().unwrap();
    let took = start(&libvirt, "a");
    assert!(took < usual + 2 * HOOK_AT_MOST, "{took:?}, usually {usual:?}");
    let status = libvirt.virtfit(&["status"]);
    let said = String::from_utf8_lossy(&status.stdout).into_owned();
    assert!(said.contains("undecided"), "{said}");
    drop(lock);
    stop(&libvirt, "a");
    let marks = fs::read_dir(libvirt.on_host("run/virtfit/undecided")).map_or(0, Iterator::count);
    assert_eq!(marks, 0);
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn sockets_that_refuse_lie_and_dawdle() {
    let libvirt = host();
    let usual = usual(&libvirt);
    let socket = libvirt.on_host("run/virtfit/virtfitd.sock");
    fs::create_dir_all(socket.parent().unwrap()).unwrap();
    let answers: [(&str, Option<&[u8]>); 4] = [
        ("refuses", None),
        ("lies", Some(b"HTTP/1.1 200 OK\r\n\r\n")),
        ("breaks off", Some(b"virtfit 1 3 100000 0\nhalf")),
        ("dawdles", Some(b"")),
    ];
    for (what, answer) in answers {
        let _ = fs::remove_file(&socket);
        let listener = UnixListener::bind(&socket).unwrap();
        let server = answer.map(|bytes| {
            let listener = listener.try_clone().unwrap();
            let bytes = bytes.to_vec();
            thread::spawn(move || {
                // After prepare, started and release the reservation is removed.
                while let Ok((mut stream, _)) = listener.accept() {
                    use std::io::Write as _;
                    if bytes == b"over" {
                        return;
                    }
                    let _ = stream.write_all(&bytes);
                    if bytes.is_empty() {
                        thread::sleep(Duration::from_millis(1000));
                    }
                }
            })
        });
        drop(listener);
        let took = start(&libvirt, "a");
        assert!(
            took < usual + 2 * HOOK_AT_MOST,
            "{what}: {took:?}, usually {usual:?}"
        );
        let left = fs::read_dir(libvirt.on_host("run/virtfit/reservations")).map_or(0, Iterator::count);
        assert_eq!(left, 1, "{what}: reserved in-process");
        stop(&libvirt, "a");
        drop(server);
    }
    let _ = fs::remove_file(&socket);
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn libvirtd_dies_between_prepare_and_its_status_file() {
    let libvirt = host();
    let _daemon = libvirt.virtfitd();
    // A slow hook runs after virtfit's: libvirtd is killed in it, with "a" reserved and no status
    // file.
    let slow = libvirt.on_host("etc/libvirt/hooks/qemu.d/60-slow");
    fs::write(&slow, "#!/bin/sh\n[ \"$1/$2\" = a/prepare ] && sleep 3\nexit 0\n").unwrap();
    use std::os::unix::fs::PermissionsExt as _;
    fs::set_permissions(&slow, fs::Permissions::from_mode(0o755)).unwrap();
    thread::scope(|scope| {
        let client = scope.spawn(|| libvirt.virsh(&["start", "a"]));
        within(5, "reserved", || {
            let left = fs::read_dir(libvirt.on_host("run/virtfit/reservations")).map_or(0, Iterator::count);
            (left == 1).then_some(()).ok_or("nothing reserved".into())
        });
        libvirt.hold("KILL");
        assert!(client.join().unwrap().is_err());
    });
    fs::remove_file(&slow).unwrap();
    libvirt.release();
    // Its reservation is void; another guest gets the CPUs.
    start(&libvirt, "b");
    within(5, "b has CPU 1", || {
        let alone = alone_on(&libvirt, &["b"]);
        (alone == [("1".into(), "b".into())])
            .then_some(())
            .ok_or(format!("{alone:?}\n{}", libvirt.log()))
    });
    stop(&libvirt, "b");
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn libvirtd_restarts_with_guests_and_a_dead_daemon() {
    let libvirt = host();
    let daemon = libvirt.virtfitd();
    start(&libvirt, "a");
    drop(daemon);
    libvirt.hold("KILL");
    libvirt.release();
    assert_eq!(libvirt.virsh(&["domstate", "a"]).unwrap().trim(), "running");
    let _daemon = libvirt.virtfitd();
    start(&libvirt, "b");
    within(5, "a keeps what it has", || {
        let alone = alone_on(&libvirt, &["a", "b"]);
        let on_one: Vec<_> = alone.iter().filter(|(cpu, _)| cpu == "1").collect();
        (on_one.len() == 1 && on_one[0].1 == "a")
            .then_some(())
            .ok_or(format!("{alone:?}\n{}", libvirt.log()))
    });
    for name in ["a", "b"] {
        stop(&libvirt, name);
    }
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn folders_that_are_missing_read_only_or_full() {
    let libvirt = host();
    let usual = usual(&libvirt);
    // It has a /run of its own, so that no file made there stays on this machine.
    let missing = format!(
        "mount -t tmpfs none /run && mkdir /run/libvirt && mount --bind {}/run /run/libvirt",
        libvirt.folder().display()
    );
    for (what, script) in [
        ("missing", missing.as_str()),
        (
            "read-only",
            "mkdir -p /run/virtfit && mount -t tmpfs -o ro none /run/virtfit",
        ),
        (
            "full",
            "mount -t tmpfs -o size=4k none /run/virtfit; head -c 4096 /dev/zero > /run/virtfit/x",
        ),
    ] {
        let done = libvirt.run("sh", &["-c", script], &[]);
        assert!(
            done.status.success() || what == "full",
            "{what}: {}",
            String::from_utf8_lossy(&done.stderr)
        );
        let took = start(&libvirt, "a");
        assert!(
            took < usual + 2 * HOOK_AT_MOST,
            "{what}: {took:?}, usually {usual:?}"
        );
        stop(&libvirt, "a");
    }
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_policy_that_breaks_while_running() {
    let libvirt = host();
    let daemon = libvirt.virtfitd();
    let policy = libvirt.on_host("etc/virtfit/policy.toml");
    fs::write(&policy, "[host]\nhousekeping = 0\n").unwrap();
    start(&libvirt, "a");
    stop(&libvirt, "a");
    within(5, "it is reported", || {
        let log = libvirt.log();
        log.contains("policy.toml").then_some(()).ok_or(log)
    });
    // Without the daemon there is no last good policy: the guest starts nevertheless.
    drop(daemon);
    start(&libvirt, "a");
    stop(&libvirt, "a");
}
