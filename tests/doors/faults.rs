//! Faults under the hook: none ever stops a guest, waits, or leaves anything half done.

use std::fs;
use std::io::Write as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use virtfit::ledger::reservation::Reservation;

use crate::host::{Host, NOW, domain, uuid};

/// Process that has the lock and has been stopped.
struct Holder(std::process::Child);

impl Holder {
    fn of(host: &Host) -> Self {
        let lock = host.write("run/virtfit/lock", "");
        let mut child = Command::new("flock")
            .arg(&lock)
            .args(["sh", "-c", "echo locked; kill -STOP $$; :"])
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut line = String::new();
        let out = child.stdout.as_mut().unwrap();
        std::io::BufRead::read_line(&mut std::io::BufReader::new(out), &mut line).unwrap();
        assert_eq!(line, "locked\n");
        Self(child)
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let pid = self.0.id().to_string();
        // The process's shell is stopped: both are killed.
        let _ = Command::new("pkill").args(["-KILL", "-P", &pid]).status();
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

const IN_TIME: Duration = Duration::from_millis(1500);

#[test]
fn a_stopped_holder_of_the_lock_is_not_waited_for() {
    let host = Host::new();
    let holder = Holder::of(&host);
    let ran = host.run("run-db", "prepare", &domain("run-db", 2, ""));
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""), "{}", ran.stderr);
    assert!(
        ran.stderr
            .starts_with("virtfit: run-db: prepare: nothing was changed: ")
            && ran.stderr.contains("the lock was not free in time"),
        "{}",
        ran.stderr
    );
    assert!(ran.took < IN_TIME, "{:?}", ran.took);
    // `status` knows of it.
    let undecided = host.reading(NOW).undecided;
    assert_eq!(undecided.len(), 1);
    assert_eq!(
        (undecided[0].name.as_str(), undecided[0].uuid.clone()),
        ("run-db", uuid("run-db"))
    );
    // Another process has spent time on the call already, so the hook gives up sooner.
    let mut command = host.command(&[], &["run-b", "prepare", "begin", "-"]);
    let words: Vec<std::ffi::OsString> = command.get_args().map(Into::into).collect();
    let at = words.iter().position(|word| word == "--parent").unwrap();
    let mut again = Command::new(command.get_program());
    again
        .args(&words[..at])
        .args(["--spent", "600"])
        .args(&words[at..])
        .env("LC_ALL", "C")
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    std::mem::swap(&mut command, &mut again);
    let start = std::time::Instant::now();
    let mut child = command.spawn().unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(domain("run-b", 2, "").as_bytes())
        .unwrap();
    assert_eq!(child.wait_with_output().unwrap().status.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_millis(700),
        "{:?}",
        start.elapsed()
    );
    // A guest whose own record says that it must not run undecided does not start, and gets no
    // mark.
    let refusing = virtfit_rewrite(&host, &domain("refuse-db", 2, ""));
    let ran = host.run("refuse-db", "prepare", &refusing);
    assert_eq!((ran.code, ran.stdout.as_str()), (Some(1), ""));
    assert!(
        ran.stderr
            .starts_with("virtfit: refuse-db may not run without its placement"),
        "{}",
        ran.stderr
    );
    // Ends of guests and restarts of libvirt need no lock.
    for operation in ["release", "reconnect"] {
        let ran = host.run("run-db", operation, &domain("run-db", 2, ""));
        assert_eq!((ran.code, ran.stdout.as_str()), (Some(0), ""));
        assert!(ran.took < Duration::from_millis(700), "{:?}", ran.took);
    }
    assert_eq!(host.reading(NOW).undecided.len(), 1, "run-b's");
    drop(holder);
    let ran = host.run("run-b", "prepare", &domain("run-b", 2, ""));
    assert!(ran.stderr.contains("reserved"), "{}", ran.stderr);
    assert_eq!(host.reading(NOW).undecided.len(), 0);
}

fn virtfit_rewrite(host: &Host, xml: &str) -> String {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtfit"));
    command.arg("--root").arg(host.path());
    command.args(["--topology", host.topology.unwrap(), "rewrite", "-"]);
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    child.stdin.take().unwrap().write_all(xml.as_bytes()).unwrap();
    String::from_utf8(child.wait_with_output().unwrap().stdout).unwrap()
}

/// Runs prepare, migrate, release and reconnect with a `/run/virtfit` that cannot be used.
fn goes_on(host: &Host, what: &str) {
    for operation in ["prepare", "migrate", "release", "reconnect"] {
        for name in ["run-db", "refuse-db", "nobody"] {
            let pins = "  <cputune><vcpupin vcpu='0' cpuset='4'/></cputune>\n";
            let ran = host.run(name, operation, &domain(name, 2, pins));
            assert_eq!(ran.code, Some(0), "{what} {operation} {name}: {}", ran.stderr);
            assert_eq!(ran.stdout, "", "{what} {operation} {name}");
            assert!(ran.took < IN_TIME, "{what}");
            if matches!(operation, "prepare" | "migrate") {
                assert!(
                    ran.stderr
                        .starts_with(&format!("virtfit: {name}: {operation}: nothing was changed: ")),
                    "{what}: {}",
                    ran.stderr
                );
            }
        }
    }
}

#[test]
fn a_file_where_the_folder_should_be() {
    let host = Host::new();
    host.write("run/virtfit", "");
    goes_on(&host, "a file");
    let host = Host::new();
    host.write("run/virtfit/reservations", "");
    goes_on(&host, "a file for reservations");
    let host = Host::new();
    fs::create_dir_all(host.path().join("run/virtfit/lock")).unwrap();
    goes_on(&host, "a folder for the lock");
}

#[test]
fn a_folder_that_is_missing_is_made() {
    let host = Host::new();
    for _ in 0..2 {
        let ran = host.run("run-db", "prepare", &domain("run-db", 2, ""));
        assert!(
            ran.code == Some(0) && ran.stderr.contains("reserved"),
            "{}",
            ran.stderr
        );
        assert!(host.reservation("run-db").is_some());
        fs::remove_dir_all(host.path().join("run/virtfit")).unwrap();
    }
}

/// Runs hooks in a mount namespace of their own, after this command.
fn with_mount(host: &Host, mount: &str, operation: &str) -> std::process::Output {
    let name = "run-db";
    let folder = host.path().join("run/virtfit");
    fs::create_dir_all(&folder).unwrap();
    let xml = host.write("guest.xml", &domain(name, 2, ""));
    let script = format!(
        "{} && exec {} --root {} --topology '{}' hook --parent 77 -- {name} {operation} begin - < {}",
        mount.replace("DIR", &folder.display().to_string()),
        env!("CARGO_BIN_EXE_virtfit"),
        host.path().display(),
        host.topology.unwrap(),
        xml.display()
    );
    let output = Command::new("unshare")
        .args(["--mount", "sh", "-c", &script])
        .output()
        .unwrap();
    assert!(
        !output.stderr.starts_with(b"mount"),
        "{}",
        String::from_utf8_lossy(&output.stderr)
    );
    output
}

#[test]
#[ignore = "needs root for mounts; run by make test"]
fn read_only_and_full() {
    for (mount, why) in [
        ("mount -t tmpfs -o ro none DIR", "read-only file system"),
        (
            "mount -t tmpfs -o size=4k none DIR && head -c 4096 /dev/zero > DIR/x",
            "no space left",
        ),
        ("mount -t tmpfs -o nr_inodes=2 none DIR", "no space left"),
        (
            "mount -t tmpfs -o nr_inodes=3 none DIR && mkdir DIR/reservations",
            "no space left",
        ),
    ] {
        for operation in ["prepare", "migrate", "release", "reconnect"] {
            let host = Host::new();
            let output = with_mount(&host, mount, operation);
            let stderr = String::from_utf8_lossy(&output.stderr).to_lowercase();
            assert_eq!(output.status.code(), Some(0), "{mount} {operation}: {stderr}");
            assert_eq!(output.stdout, b"", "{mount} {operation}");
            let writes = matches!(operation, "prepare" | "migrate");
            assert_eq!(
                stderr.contains("nothing was changed") && stderr.contains(why),
                writes,
                "{mount} {operation}: {stderr}"
            );
        }
    }
}

#[test]
fn killed_at_any_moment_only_whole_files_are_left() {
    let host = Host::new();
    let xml = domain("run-db", 2, "");
    let usual = {
        let ran = host.run("run-db", "prepare", &xml);
        assert_eq!(ran.code, Some(0));
        ran.took
    };
    let folder = host.path().join("run/virtfit/reservations");
    let rounds = 60;
    for round in 0..rounds {
        let _ = fs::remove_file(folder.join(format!("{}.json", uuid("run-db"))));
        let mut running = host.spawn("run-db", "prepare", &xml);
        std::thread::sleep(usual * (round % 20) / 20);
        running.child.kill().unwrap();
        running.wait();
        for entry in fs::read_dir(&folder).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "json") {
                let text = fs::read_to_string(&path).unwrap();
                Reservation::from_json(&text).unwrap();
            }
        }
        assert!(host.reading(NOW).warnings.is_empty());
    }
    // A half-written file of a dead process is swept by the next.
    fs::write(folder.join(".virtfit.999999999.0"), "{").unwrap();
    let ran = host.run("run-db", "prepare", &xml);
    assert!(
        ran.code == Some(0) && ran.stderr.contains("reserved"),
        "{}",
        ran.stderr
    );
    let names: Vec<_> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names, [format!("{}.json", uuid("run-db"))]);
}

#[test]
fn void_promises_are_nobodys() {
    let host = Host::new();
    let ran = host.run("refuse-db", "prepare", &domain("refuse-db", 6, ""));
    assert_eq!(ran.code, Some(0));
    host.runs(
        "big",
        &crate::host::pinned("big", &["10", "11", "12", "13", "14", "15"]),
    );
    let other = domain("refuse-b", 6, "");
    assert_eq!(host.run("refuse-b", "prepare", &other).code, Some(3));
    // libvirtd died before the guest ran: pid gone, pid of another process, another boot.
    for change in 0..3 {
        match change {
            0 => fs::remove_dir_all(host.path().join("proc/77")).unwrap(),
            1 => host.daemon(77, 6),
            _ => {
                host.daemon(77, 5);
                host.write("proc/sys/kernel/random/boot_id", "b1\n");
            }
        }
        let view = host.view(NOW);
        assert_eq!(view.reading.reservations.len(), 0, "{change}");
    }
    let ran = host.run("refuse-b", "prepare", &other);
    assert_eq!(ran.code, Some(0), "{}", ran.stderr);
    // And its file is swept.
    assert!(host.reservation("refuse-db").is_none());
}

#[test]
fn options_that_make_no_sense_stop_nobody() {
    for words in [
        &["--levitate", "hook", "db", "prepare", "begin", "-"][..],
        &["--color", "pink", "hook", "db", "started", "begin", "-"],
        &["--verbose=9", "hook", "db", "migrate", "begin", "-"],
        &["hook", "--spent", "x", "db", "prepare", "begin", "-"],
        &["--root"],
    ] {
        let output = Command::new(env!("CARGO_BIN_EXE_virtfit"))
            .args(words)
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.stdout, b"");
        if words.len() == 1 {
            assert_eq!(output.status.code(), Some(2), "{stderr}");
            continue;
        }
        assert_eq!(output.status.code(), Some(0), "{words:?}: {stderr}");
        assert!(
            stderr.starts_with("virtfit: hook: nothing was done: ") && stderr.lines().count() == 1,
            "{stderr}"
        );
    }
}

/// The daemon was stopped while it answered, and goes on when another process has decided.
#[test]
fn who_is_too_late_changes_nothing() {
    use std::sync::Arc;
    use virtfit::hook_events::{Context, Source};
    use virtfit::ledger::store::Store;
    use virtfit::snapshot::{Snapshot, SnapshotError};

    struct Stopped<'a>(&'a Host);
    impl Source for Stopped<'_> {
        fn current(&self) -> Result<Arc<Snapshot>, SnapshotError> {
            let view = self.0.view(NOW);
            std::thread::sleep(Duration::from_millis(150));
            Ok(Arc::new(view))
        }
    }
    // operation, name, vCPUs
    for (operation, name, vcpus) in [
        ("prepare", "run-db", 2),
        ("prepare", "refuse-db", 40),
        ("prepare", "shared-db", 2),
        ("migrate", "run-db", 2),
        ("release", "run-db", 2),
    ] {
        let host = Host::new();
        // The other process's decision.
        let before = host.hook(name, "prepare", &domain(name, 2, ""));
        assert_eq!(before.answer.exit, 0);
        let promised = host.reservation(name);
        let context = Context {
            source: &Stopped(&host),
            store: &Store::new(&host.root()),
            deadline: std::time::Instant::now()
                + Duration::from_millis(if operation == "release" { 0 } else { 50 }),
            now: crate::host::at(NOW + 1),
            daemon: true,
        };
        let call = crate::host::call(name, operation, &domain(name, vcpus, ""));
        let got = virtfit::hook_events::answer(&call, &context);
        assert_eq!(host.reservation(name), promised, "{operation} {name}: {got:?}");
        assert_eq!(host.reading(NOW).undecided, [], "{operation} {name}: {got:?}");
    }
}
