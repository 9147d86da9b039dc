use std::fs;
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use super::*;
use crate::ledger::reader::read;

const POLICY: &str = "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";

struct Warm {
    _dir: tempfile::TempDir,
    base: PathBuf,
    memory: SnapshotCache,
    now: SystemTime,
}

impl Warm {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper");
        let base = dir.path().join("host");
        assert!(
            Command::new("cp")
                .arg("-r")
                .arg(from)
                .arg(&base)
                .status()
                .unwrap()
                .success()
        );
        let place = Sources {
            root: HostFs::new(&base),
            ..Sources::default()
        };
        Self {
            _dir: dir,
            base,
            memory: SnapshotCache::new(place),
            now: SystemTime::now(),
        }
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    /// Returns a snapshot an hour after all files were written, so that they count as rested.
    fn view(&self) -> Arc<Snapshot> {
        self.memory.current(self.now + Duration::from_secs(3600)).unwrap()
    }
}

fn status(name: &str, number: u32) -> String {
    format!(
        "<domstatus state='running' reason='booted' pid='1'><vcpus><vcpu id='0' pid='9'/></vcpus>\
         <domain type='kvm'><name>{name}</name><uuid>8c1f6f0e-0000-4000-8000-{number:012}</uuid>\
         <memory>1024</memory><vcpu>1</vcpu><cputune><vcpupin vcpu='0' cpuset='{}'/></cputune></domain></domstatus>",
        number % 32
    )
}

#[test]
fn nothing_changed_is_the_same_view() {
    let warm = Warm::new();
    warm.write("etc/virtfit/policy.toml", POLICY)
        .write("run/libvirt/qemu/db.xml", &status("db", 3));
    let first = warm.view();
    assert!(Arc::ptr_eq(&first, &warm.view()));
    warm.write("run/libvirt/qemu/web.xml", &status("web", 4));
    let second = warm.view();
    assert_eq!(second.reading.ledger.holders.len(), 2);
    assert!(Arc::ptr_eq(&first.policy, &second.policy) && Arc::ptr_eq(&first.sets, &second.sets));
    warm.write(
        "etc/virtfit/policy.d/10-more.toml",
        "[host]\nreserved_memory = \"0\"\n",
    );
    let third = warm.view();
    assert!(!Arc::ptr_eq(&second.policy, &third.policy));
    fs::remove_file(warm.base.join("etc/virtfit/policy.d/10-more.toml")).unwrap();
    assert_eq!(warm.view().policy.host, second.policy.host);
}

#[test]
fn a_broken_policy_leaves_the_last_good_one() {
    let warm = Warm::new();
    warm.write("etc/virtfit/policy.toml", "[host\n");
    assert!(
        warm.memory.current(warm.now).is_err(),
        "there was no good one yet"
    );
    warm.write("etc/virtfit/policy.toml", POLICY);
    let good = warm.view();
    assert!(warm.memory.policy_problem().is_none());
    warm.write("etc/virtfit/policy.toml", "[host\n");
    for _ in 0..2 {
        assert_eq!(warm.view().policy.digest, good.policy.digest);
        let problem = warm.memory.policy_problem().unwrap();
        assert!(problem.to_string().contains("policy.toml"), "{problem}");
    }
    warm.write("etc/virtfit/policy.toml", "");
    assert!(warm.view().policy.rules.is_empty());
    assert!(warm.memory.policy_problem().is_none());
}

#[test]
fn a_young_file_is_read_until_it_has_rested() {
    let warm = Warm::new();
    warm.write("etc/virtfit/policy.toml", POLICY);
    let first = warm.memory.current(SystemTime::now()).unwrap();
    let second = warm.memory.current(SystemTime::now()).unwrap();
    assert!(
        !Arc::ptr_eq(&first.policy, &second.policy),
        "it could have changed within a tick of the clock"
    );
}

#[test]
fn page_counts_are_those_of_now() {
    let warm = Warm::new();
    let before = warm.view();
    warm.write(
        "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
        "5\n",
    );
    let after = warm.view();
    assert_eq!(after.host.nodes[0].pools[0].free, 5);
    assert_ne!(before.host, after.host);
}

#[test]
fn beside_200_guests_it_costs_little() {
    let warm = Warm::new();
    warm.write("etc/virtfit/policy.toml", POLICY);
    for number in 0..200 {
        let name = format!("g{number}");
        warm.write(&format!("run/libvirt/qemu/{name}.xml"), &status(&name, number));
    }
    let root = HostFs::new(&warm.base);
    let view = warm.view();
    assert_eq!(*view.reading, read(&root, warm.now, &view.policy).unwrap());
    let mut took: Vec<Duration> = (0..20)
        .map(|_| {
            let started = Instant::now();
            warm.view();
            started.elapsed()
        })
        .collect();
    took.sort();
    // The limit suits a build without optimisation on a busy machine; the bench has the real
    // numbers.
    assert!(took[0] < Duration::from_millis(60), "{took:?}");
}

/// Definitions beyond what a hook may wait for are read by the daemon's own snapshots.
#[test]
fn definitions_that_a_hook_leaves_out_are_read_between_hooks() {
    let warm = Warm::new();
    warm.write("etc/virtfit/policy.toml", "");
    for number in 0..6 {
        let name = format!("g{number}");
        let text = format!(
            "<domain type='kvm'><name>{name}</name><uuid>8c1f6f0e-0000-4000-8000-{number:012}</uuid>\
             <memory>1024</memory><vcpu>1</vcpu><!--{}--></domain>",
            " ".repeat(1 << 20)
        );
        warm.write(&format!("etc/libvirt/qemu/{name}.xml"), &text);
    }
    let now = warm.now + Duration::from_secs(3600);
    let left = |view: &Snapshot| view.reading.warnings.concat();
    let hook = warm.memory.current_for_hook(now).unwrap();
    assert!(
        left(&hook).contains("g3.xml and 2 more: not read"),
        "{}",
        left(&hook)
    );
    let whole = warm.memory.current(now).unwrap();
    assert_eq!(left(&whole), "");
    assert!(Arc::ptr_eq(&whole, &warm.memory.current_for_hook(now).unwrap()));
}
