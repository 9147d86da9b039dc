use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use super::*;
use crate::daemon::in_flight::Phase;
use crate::daemon::pending::Waits;
use crate::host::libvirt_process::Parent;
use crate::libvirt::Absent;

/// Creates a worker on a host below `dir`.
fn worker(dir: &Path, inflight: &Arc<Inflight>) -> Worker {
    let place = Sources {
        root: HostFs::new(dir),
        policy: None,
        topology: None,
        assume_empty: false,
    };
    let memory = Arc::new(SnapshotCache::new(place.clone()));
    let queue = Arc::new(Queue::new().unwrap());
    Worker::new(
        &place,
        queue,
        Box::new(memory),
        Box::new(Absent),
        Arc::clone(inflight),
    )
    .unwrap()
}

/// A guest's `started` was missed: no event reports the end of the mark.
#[test]
fn who_waits_for_a_hook_that_never_ends_goes_on_when_the_mark_falls() {
    let dir = tempfile::tempdir().unwrap();
    let limit = Duration::from_millis(50);
    let inflight = Arc::new(Inflight::with_limit(HostFs::new(dir.path()), limit));
    let mut worker = worker(dir.path(), &inflight);
    inflight.begin("db", Phase::Starting, &Parent::new(7));
    worker.pending.put("db", Why::Changed, Waits::Hook);
    let begin = Instant::now();
    worker.sleep().unwrap();
    worker.absorb();
    let waited = begin.elapsed();
    assert!(waited >= limit, "{waited:?}");
    assert!(worker.pending.is_ready(Instant::now()) && worker.running.is_ready(Instant::now()));
    assert!(!inflight.contains("db"));
    assert_eq!(inflight.deadline(), None, "it is waited for once");
}

/// A guest's `stopped` and `release` are still to come when its status file goes.
#[test]
fn what_an_ended_guest_had_is_given_to_others_when_its_hooks_are_through() {
    let dir = tempfile::tempdir().unwrap();
    let status = dir.path().join("run/libvirt/qemu");
    fs::create_dir_all(&status).unwrap();
    fs::write(status.join("db.xml"), "").unwrap();
    let inflight = Arc::new(Inflight::new(HostFs::new(dir.path())));
    let mut worker = worker(dir.path(), &inflight);
    let begin = Instant::now();
    fs::remove_file(status.join("db.xml")).unwrap();
    while !worker.reconsider {
        assert!(begin.elapsed() < Duration::from_secs(10), "nobody wakes it");
        worker.sleep().unwrap();
        worker.absorb();
    }
    let waited = begin.elapsed();
    assert!(waited >= events::SOON, "{waited:?}");
    assert_eq!(worker.freed, None, "once");
}

/// The hook's link is gone, so the worker learns of a start by the guest's status file alone.
#[test]
fn a_guest_that_no_hook_tells_of_is_visited_each_time_its_status_is_written() {
    let dir = tempfile::tempdir().unwrap();
    let status = dir.path().join("run/libvirt/qemu");
    fs::create_dir_all(&status).unwrap();
    let inflight = Arc::new(Inflight::new(HostFs::new(dir.path())));
    let mut worker = worker(dir.path(), &inflight);
    let is_due = |worker: &Worker| worker.running.is_ready(Instant::now());
    assert!(!is_due(&worker));
    for visit in ["starts", "has started"] {
        fs::write(status.join("web.new"), "").unwrap();
        fs::rename(status.join("web.new"), status.join("web.xml")).unwrap();
        let begin = Instant::now();
        while !is_due(&worker) {
            assert!(begin.elapsed() < Duration::from_secs(10), "not visited: {visit}");
            worker.absorb();
            thread::sleep(Duration::from_millis(5));
        }
        worker.running = Running::default();
    }
}

/// A script empties the file, and fills it a moment later.
#[test]
fn a_policy_that_is_half_written_is_not_followed() {
    let dir = tempfile::tempdir().unwrap();
    let paper = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper");
    let copied = std::process::Command::new("cp")
        .arg("-a")
        .args([paper.join("sys"), paper.join("proc")])
        .arg(dir.path())
        .status();
    assert!(copied.unwrap().success());
    let folder = dir.path().join("etc/virtfit");
    fs::create_dir_all(&folder).unwrap();
    let file = folder.join("policy.toml");
    let whole = |profile: &str| format!("[[rule]]\nmatch = {{ name = \"db\" }}\nprofile = \"{profile}\"\n");
    fs::write(&file, whole("fit")).unwrap();
    let inflight = Arc::new(Inflight::new(HostFs::new(dir.path())));
    let mut worker = worker(dir.path(), &inflight);
    worker.policy = Some(worker.view().unwrap().policy.digest.clone());
    let before = worker.policy.clone();
    fs::write(&file, "").unwrap();
    let begin = Instant::now();
    let mut filled = false;
    while worker.policy == before {
        assert!(
            begin.elapsed() < Duration::from_secs(10),
            "the policy is not followed"
        );
        worker.absorb();
        if !filled && begin.elapsed() > Duration::from_millis(20) {
            fs::write(&file, whole("local")).unwrap();
            filled = true;
        }
        thread::sleep(Duration::from_millis(5));
    }
    assert!(filled, "the empty file was followed");
    let now = worker.view().unwrap().policy.digest.clone();
    assert_eq!(worker.policy, Some(now));
}
