use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// A copy of a fixture that may be changed.
fn copy(name: &str) -> (tempfile::TempDir, PathBuf) {
    let dir = tempfile::tempdir().unwrap();
    let from = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("fixtures/hosts")
        .join(name);
    let to = dir.path().join("host");
    let copied = Command::new("cp").arg("-r").arg(from).arg(&to).status().unwrap();
    assert!(copied.success());
    (dir, to)
}

fn write(root: &Path, path: &str, text: &str) {
    let path = root.join(path);
    fs::create_dir_all(path.parent().unwrap()).unwrap();
    fs::write(path, text).unwrap();
}

#[test]
fn a_refreshed_host_is_the_one_that_is_there() {
    let (_dir, base) = copy("paper");
    let root = Root::new(&base);
    let pool = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";
    let mut kept = Kept::load(&root, &root.clone().keeping_files_open()).unwrap();
    // what changes, and whether that changes the mark
    let steps: [(&str, &dyn Fn(), bool); 9] = [
        ("nothing", &|| {}, false),
        (
            "pages taken",
            &|| write(&base, &format!("{pool}/free_hugepages"), "17\n"),
            false,
        ),
        (
            "pages added",
            &|| write(&base, &format!("{pool}/nr_hugepages"), "99999\n"),
            false,
        ),
        (
            "a pool of another size",
            &|| {
                let big = "sys/devices/system/node/node1/hugepages/hugepages-16384kB";
                write(&base, &format!("{big}/nr_hugepages"), "3\n");
                write(&base, &format!("{big}/free_hugepages"), "2\n");
            },
            true,
        ),
        (
            "a CPU goes",
            &|| write(&base, "sys/devices/system/cpu/online", "0-30\n"),
            true,
        ),
        (
            "a limit",
            &|| {
                write(
                    &base,
                    "sys/fs/cgroup/machine.slice/cpuset.cpus.effective",
                    "0-15\n",
                );
            },
            true,
        ),
        (
            "no time for real-time tasks",
            &|| write(&base, "proc/sys/kernel/sched_rt_runtime_us", "0\n"),
            false,
        ),
        (
            "a mount",
            &|| {
                write(
                    &base,
                    "proc/mounts",
                    "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\nnone / ext4 rw 0 0\n",
                );
            },
            true,
        ),
        (
            "a mount that does not matter",
            &|| {
                write(
                    &base,
                    "proc/mounts",
                    "none /dev/hugepages hugetlbfs rw,pagesize=2M 0 0\nnone / xfs rw 0 0\n",
                );
            },
            false,
        ),
    ];
    for (what, change, anew) in steps {
        let before = Arc::clone(kept.host());
        let mark = kept.mark.clone();
        change();
        kept.rt_runtime_at -= RT_RUNTIME_AGE;
        let now = Arc::clone(kept.refresh().unwrap());
        assert_eq!(*now, load::load(&root, None).unwrap(), "{what}");
        assert_eq!(kept.mark != mark, anew, "{what}");
        assert_eq!(
            Arc::ptr_eq(&before, &now),
            what == "nothing" || what.ends_with("matter"),
            "{what}"
        );
    }
}

#[test]
fn what_costs_all_of_the_machine_is_read_once_a_minute() {
    let (_dir, base) = copy("paper");
    let root = Root::new(&base);
    let mut kept = Kept::load(&root, &root.clone().keeping_files_open()).unwrap();
    let before = kept.host().rt_runtime_us;
    assert_ne!(before, Some(0));
    write(&base, "proc/sys/kernel/sched_rt_runtime_us", "0\n");
    assert_eq!(kept.refresh().unwrap().rt_runtime_us, before);
    // Neither does another change have it read early, as long as the host is the same.
    let free = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";
    write(&base, free, "17\n");
    assert_eq!(kept.refresh().unwrap().rt_runtime_us, before);
    kept.rt_runtime_at -= RT_RUNTIME_AGE;
    assert_eq!(kept.refresh_quickly().unwrap().rt_runtime_us, before);
    assert_eq!(kept.refresh().unwrap().rt_runtime_us, Some(0));
}

#[test]
fn what_cannot_be_read_keeps_what_was() {
    let (_dir, base) = copy("paper");
    let root = Root::new(&base);
    let mut kept = Kept::load(&root, &root.clone().keeping_files_open()).unwrap();
    let before = Arc::clone(kept.host());
    write(&base, "sys/devices/system/cpu/online", "0-x\n");
    assert!(kept.refresh().is_err());
    assert!(Arc::ptr_eq(&before, kept.host()));
}
