//! virtfit's own files in `/run/virtfit` and `/var/lib/virtfit` are removed while the daemon runs,
//! as systemd-tmpfiles and administrators do it.
#![allow(clippy::unwrap_used)]

#[path = "common/load.rs"]
mod load;

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::os::unix::net::UnixStream;
use std::path::Path;
use std::time::{Duration, Instant};

use load::{Host, guest};

const SMALL: &str = "--packages 2 --cores 8 --threads 2 --memory 16 --pages 2M=6144";

/// Prepares a guest by the daemon. On a busy machine the hook may lack the time, as it should: then
/// the guest is released and prepared again.
fn prepare(host: &Host, number: usize) -> (String, String) {
    let (name, xml) = guest(number);
    for _ in 0..50 {
        let ran = host.run(&name, "prepare", &xml);
        assert_eq!(ran.code, Some(0), "{}", ran.stderr);
        if ran.stderr.is_empty() {
            return (name, xml);
        }
        host.run(&name, "release", &xml);
    }
    panic!("never answered by the daemon: {}", host.log());
}

/// Starts a guest by its hook, and lets it run: its XML has no pins, so its CPUs are known from its
/// reservation alone.
fn start(host: &Host, number: usize) -> String {
    let (name, xml) = prepare(host, number);
    let status = format!(
        "<domstatus state='running' reason='booted' pid='{}'>\n  <vcpus/>\n{}</domstatus>\n",
        4000 + number,
        xml.replace("<domain type='kvm'>", "<domain type='kvm' id='1'>")
    );
    host.write(&format!("run/libvirt/qemu/{name}.new"), &status);
    let folder = host.path().join("run/libvirt/qemu");
    fs::rename(
        folder.join(format!("{name}.new")),
        folder.join(format!("{name}.xml")),
    )
    .unwrap();
    name
}

fn reservations(host: &Host) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(host.path().join("run/virtfit/reservations"))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "json"))
        .map(|path| fs::read_to_string(path).unwrap())
        .collect();
    names.sort();
    names
}

fn within(what: &str, host: &Host, mut look: impl FnMut() -> bool) {
    let until = Instant::now() + Duration::from_secs(3);
    while !look() {
        assert!(Instant::now() < until, "{what}:\n{}", host.log());
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn answers(host: &Host) -> bool {
    UnixStream::connect(host.path().join("run/virtfit/virtfitd.sock")).is_ok()
}

/// Removes everything in a folder, or the folder itself.
fn remove(folder: &Path, itself: bool) {
    if itself {
        return fs::remove_dir_all(folder).unwrap();
    }
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            fs::remove_dir_all(path).unwrap();
        } else {
            fs::remove_file(path).unwrap();
        }
    }
}

#[test]
fn what_is_removed_from_run_comes_back_for_guests_that_run() {
    for itself in [false, true] {
        let host = Host::made(SMALL).with_daemon();
        let run = host.path().join("run/virtfit");
        start(&host, 0);
        start(&host, 1);
        let running = reservations(&host);
        assert_eq!(running.len(), 2);
        // Reserved, and never started: nothing shows that its start goes on.
        prepare(&host, 2);
        let mark = "{\"uuid\":\"8c1f6f0e-0000-4000-8000-000000000000\",\"name\":\"load-000\",\"why\":\"-\",\"written_at\":1}";
        let live = "{\"version\":1,\"uuid\":\"8c1f6f0e-0000-4000-8000-000000000001\",\"name\":\"load-001\",\"pid\":4001,\"threads\":[]}";
        for (path, text) in [
            ("undecided/8c1f6f0e-0000-4000-8000-000000000000", mark),
            ("live/8c1f6f0e-0000-4000-8000-000000000001", live),
        ] {
            host.write(&format!("run/virtfit/{path}.new"), text);
            fs::rename(run.join(format!("{path}.new")), run.join(format!("{path}.json"))).unwrap();
        }
        within("policy and host are kept", &host, || {
            run.join("policy.json").exists() && run.join("host").exists()
        });
        std::thread::sleep(Duration::from_millis(300));
        for round in 1..=2 {
            let before = fs::metadata(run.join("virtfitd.sock")).unwrap().ino();
            remove(&run, itself);
            within("the socket is there again", &host, || {
                let now = fs::metadata(run.join("virtfitd.sock"));
                now.is_ok_and(|now| now.ino() != before || itself) && answers(&host)
            });
            within("reservations", &host, || reservations(&host) == running);
            within("all the rest", &host, || {
                ["undecided", "live"]
                    .iter()
                    .all(|folder| fs::read_dir(run.join(folder)).is_ok_and(|mut all| all.next().is_some()))
                    && run.join("policy.json").exists()
                    && run.join("host").exists()
            });
            let again = "written again: 2 reservations, 1 live record, 1 undecided mark and 1 hook mark";
            within("it is said", &host, || host.log().contains(again));
            std::thread::sleep(Duration::from_millis(300));
            for said in [again, "made again"] {
                assert_eq!(host.log().matches(said).count(), round, "{}", host.log());
            }
        }
        // Hooks are answered by the daemon, and by the restored reservations.
        prepare(&host, 3);
        within("answered by the daemon", &host, || {
            host.log().contains("load-003")
        });
        // A guest that ended leaves nothing that could come back.
        let (name, xml) = guest(0);
        fs::remove_file(host.path().join(format!("run/libvirt/qemu/{name}.xml"))).unwrap();
        host.run(&name, "release", &xml);
        std::thread::sleep(Duration::from_millis(500));
        assert_eq!(reservations(&host).len(), 2, "{}", host.log());
    }
}

/// Each file comes back without the others, as a removal may be slow. A mark that is written while
/// nothing else happens is known, too.
#[test]
fn a_file_that_is_removed_alone_comes_back() {
    let host = Host::made(SMALL).with_daemon();
    let run = host.path().join("run/virtfit");
    start(&host, 0);
    let files = ["policy.json", "host", "hook.json"].map(|name| run.join(name));
    for file in &files {
        within("kept", &host, || file.exists());
    }
    std::thread::sleep(Duration::from_millis(300));
    let mark = "{\"uuid\":\"8c1f6f0e-0000-4000-8000-000000000000\",\"name\":\"load-000\",\"why\":\"-\",\"written_at\":1}";
    host.write("run/virtfit/undecided/new", mark);
    let marked = run.join("undecided/8c1f6f0e-0000-4000-8000-000000000000.json");
    fs::rename(run.join("undecided/new"), &marked).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    for file in files.iter().chain([&marked]) {
        for _ in 0..2 {
            fs::remove_file(file).unwrap();
            within(&file.display().to_string(), &host, || file.exists());
        }
    }
    // The mark of a start that came to nothing is not one of the guest's next start.
    let other = run.join("undecided/8c1f6f0e-0000-4000-8000-000000000001.json");
    let mark = mark
        .replace("000000\",\"name", "000001\",\"name")
        .replace("load-000", "load-001");
    fs::write(run.join("undecided/new"), mark).unwrap();
    fs::rename(run.join("undecided/new"), &other).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    fs::remove_file(&other).unwrap();
    std::thread::sleep(Duration::from_millis(300));
    start(&host, 1);
    std::thread::sleep(Duration::from_millis(300));
    fs::remove_file(&files[1]).unwrap();
    within("the host again", &host, || files[1].exists());
    std::thread::sleep(Duration::from_millis(300));
    assert!(!other.exists(), "{}", host.log());
}

/// Part of a folder that is removed.
#[derive(Debug, Clone, Copy)]
enum Removed {
    Content,
    Folder,
    /// One file in a folder below, which stays.
    File,
}

#[test]
fn what_is_removed_from_var_lib_is_remembered() {
    for removed in [Removed::Content, Removed::Folder, Removed::File] {
        let host = Host::made(SMALL);
        let (name, xml) = guest(0);
        host.write(&format!("etc/libvirt/qemu/{name}.xml"), &xml);
        let state = host.path().join("var/lib/virtfit");
        let uuid = "8c1f6f0e-0000-4000-8000-000000000000";
        let pins = format!("{{\"name\":\"{name}\",\"pins\":{{\"0\":[2]}}}}\n");
        let files = [
            (format!("earlier/{uuid}.json"), pins),
            (
                format!("seen/{uuid}.json"),
                format!(
                    "{{\"name\":\"{name}\",\"text\":\"t\",\"policy\":\"p\",\"host\":\"h\",\"outcome\":\"settled\"}}\n"
                ),
            ),
            (
                format!("untried/{uuid}.json"),
                format!("{{\"name\":\"{name}\",\"text\":\"t\",\"kinds\":[],\"plain\":true}}\n"),
            ),
        ];
        for (file, text) in &files {
            host.write(&format!("var/lib/virtfit/{file}"), text);
        }
        let host = host.with_daemon();
        // Hooks are answered before the worker has read its records; the policy is kept by then.
        within("the worker works", &host, || {
            host.path().join("run/virtfit/policy.json").exists()
        });
        std::thread::sleep(Duration::from_millis(300));
        match removed {
            Removed::Content => remove(&state, false),
            Removed::Folder => remove(&state, true),
            Removed::File => fs::remove_file(state.join(&files[0].0)).unwrap(),
        }
        // The worker examines the definition again meanwhile; its earlier pins it only keeps.
        let (file, text) = &files[0];
        within(file, &host, || {
            fs::read_to_string(state.join(file)).is_ok_and(|now| now == *text)
        });
        within("said", &host, || host.log().contains("written again"));
        assert_eq!(host.log().matches("written again").count(), 1, "{}", host.log());
    }
}

/// A daemon whose socket cannot be made again ends, so that its supervisor starts another.
#[test]
fn a_daemon_that_nobody_can_reach_ends() {
    let mut host = Host::made(SMALL).with_daemon();
    let run = host.path().join("run/virtfit");
    fs::remove_dir_all(&run).unwrap();
    fs::write(&run, "no folder").unwrap();
    let ended = host.daemon_ended(Duration::from_secs(5));
    assert_eq!(ended, Some(1), "{}", host.log());
    assert!(host.log().contains("cannot listen"), "{}", host.log());
}
