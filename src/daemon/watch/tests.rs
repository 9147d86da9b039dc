use std::fs;
use std::path::PathBuf;

use super::*;
use crate::hostfs::HostFs;

struct Host {
    dir: tempfile::TempDir,
    watch: Watch,
}

impl Host {
    fn new(folders: &[&str]) -> Self {
        let dir = tempfile::tempdir().unwrap();
        for folder in folders {
            fs::create_dir_all(dir.path().join(folder)).unwrap();
        }
        let place = Sources {
            root: HostFs::new(dir.path()),
            ..Sources::default()
        };
        let watch = Watch::new(&place).unwrap();
        Self { dir, watch }
    }

    fn path(&self, path: &str) -> PathBuf {
        self.dir.path().join(path)
    }

    fn mkdir(&self, path: &str) {
        fs::create_dir_all(self.path(path)).unwrap();
    }

    fn put(&self, path: &str) {
        let new = self.path(&format!("{path}.new"));
        fs::write(&new, "x").unwrap();
        fs::rename(new, self.path(path)).unwrap();
    }
}

fn defined(name: &str) -> Change {
    Change::Defined(name.into())
}

#[test]
fn tells_of_own_files_that_others_remove() {
    let mut host = Host::new(&[
        "run/virtfit/live",
        "run/virtfit/undecided",
        "var/lib/virtfit/seen",
    ]);
    host.watch.drain();
    host.put("run/virtfit/live/u.json");
    host.put("run/virtfit/host");
    host.put("var/lib/virtfit/failed-starts.json");
    assert_eq!(host.watch.drain(), [Change::Record, Change::Swept, Change::State]);
    host.put("var/lib/virtfit/seen/u.json");
    assert_eq!(host.watch.drain(), [Change::State]);
    fs::remove_file(host.path("var/lib/virtfit/seen/u.json")).unwrap();
    assert_eq!(host.watch.drain(), [Change::State]);
    fs::write(host.path("run/virtfit/.virtfit.1.0"), "").unwrap();
    fs::rename(
        host.path("run/virtfit/.virtfit.1.0"),
        host.path("run/virtfit/host"),
    )
    .unwrap();
    assert_eq!(host.watch.drain(), []);
    fs::remove_file(host.path("run/virtfit/live/u.json")).unwrap();
    fs::remove_file(host.path("run/virtfit/host")).unwrap();
    assert_eq!(host.watch.drain(), [Change::Swept, Change::Swept]);
    fs::remove_dir(host.path("var/lib/virtfit/seen")).unwrap();
    assert!(host.watch.drain().contains(&Change::Lost));
}

#[test]
fn tells_what_happened_in_order() {
    let mut host = Host::new(&[
        "etc/libvirt/qemu/autostart",
        "run/libvirt/qemu",
        "etc/virtfit/policy.d",
        "run/virtfit/reservations",
    ]);
    assert_eq!(host.watch.drain(), []);
    host.put("etc/libvirt/qemu/a b.xml");
    fs::remove_file(host.path("etc/libvirt/qemu/a b.xml")).unwrap();
    host.put("etc/libvirt/qemu/a b.xml");
    host.put("etc/libvirt/qemu/notes.txt");
    host.put("run/libvirt/qemu/db.xml");
    fs::remove_file(host.path("run/libvirt/qemu/db.xml")).unwrap();
    std::os::unix::fs::symlink("../db.xml", host.path("etc/libvirt/qemu/autostart/db.xml")).unwrap();
    fs::write(host.path("run/virtfit/disabled"), "").unwrap();
    fs::write(host.path("run/virtfit/lock"), "").unwrap();
    host.put("run/virtfit/reservations/u.json");
    assert_eq!(
        host.watch.drain(),
        [
            defined("a b"),
            Change::Undefined("a b".into()),
            defined("a b"),
            Change::Status("db".into()),
            Change::StatusGone("db".into()),
            Change::Autostart("db".into()),
            Change::Switch,
            Change::Reservation,
        ]
    );
    fs::write(host.path("etc/virtfit/policy.toml"), "").unwrap();
    assert!(host.watch.drain().contains(&Change::Policy));
    host.put("etc/virtfit/policy.d/10-a.toml");
    assert!(host.watch.drain().contains(&Change::Policy));
    fs::write(host.path("etc/virtfit/notes"), "").unwrap();
    assert_eq!(host.watch.drain(), []);
}

#[test]
fn folders_that_come_later_are_watched_and_told_of() {
    let mut host = Host::new(&[]);
    for folder in ["etc/libvirt/qemu", "run/libvirt/qemu", "etc/virtfit"] {
        host.mkdir(folder);
    }
    let mut seen = Vec::new();
    for _ in 0..4 {
        seen.extend(host.watch.drain());
    }
    assert!(
        seen.contains(&Change::Lost) && seen.contains(&Change::Policy),
        "{seen:?}"
    );
    host.put("etc/libvirt/qemu/a.xml");
    assert_eq!(host.watch.drain(), [defined("a")]);
    fs::write(host.path("run/libvirt/qemu/driver.pid"), "").unwrap();
    assert!(host.watch.drain().contains(&Change::Driver));
    fs::write(host.path("run/libvirt/qemu/driver.pid"), "7").unwrap();
    assert!(host.watch.drain().contains(&Change::Driver));
}

#[test]
fn folders_that_are_replaced_are_watched_anew() {
    for moved in ["etc/libvirt/qemu", "etc/libvirt", "etc"] {
        let mut host = Host::new(&["etc/libvirt/qemu"]);
        fs::rename(host.path(moved), host.path("old")).unwrap();
        host.mkdir("etc/libvirt/qemu");
        let seen = host.watch.drain();
        assert!(seen.contains(&Change::Lost), "{moved}: {seen:?}");
        host.watch.drain();
        host.put("etc/libvirt/qemu/a.xml");
        assert_eq!(host.watch.drain(), [defined("a")], "{moved}");
    }
}

#[test]
fn an_overflow_is_told() {
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    if most > 100_000 {
        return;
    }
    let mut host = Host::new(&["etc/libvirt/qemu"]);
    let (a, b) = (
        host.path("etc/libvirt/qemu/a.xml"),
        host.path("etc/libvirt/qemu/b.xml"),
    );
    fs::write(&a, "").unwrap();
    for _ in 0..most / 4 + 10 {
        fs::rename(&a, &b).unwrap();
        fs::rename(&b, &a).unwrap();
    }
    let seen = host.watch.drain();
    assert!(seen.last() == Some(&Change::Lost), "{}", seen.len());
    host.put("etc/libvirt/qemu/c.xml");
    assert_eq!(host.watch.drain(), [defined("c")]);
}
