use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

use super::*;

/// Copy of a fixture that may be changed.
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

const FAILED: &str = "{\"host_cpu\":\"MSR\",\"guests\":{\"u\":{\"name\":\"g\",\"said\":\"failed\"}}}";

#[test]
fn a_refreshed_host_is_the_one_that_is_there() {
    let (_dir, base) = copy("paper");
    let root = HostFs::new(&base);
    let pool = "sys/devices/system/node/node0/hugepages/hugepages-2048kB";
    let mut kept = CachedHost::load(&root, &root.clone().keeping_files_open()).unwrap();
    // change, and whether it changes the mark
    let steps: [(&str, &dyn Fn(), bool); 10] = [
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
            "a start failed",
            &|| write(&base, "var/lib/virtfit/failed-starts.json", FAILED),
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
    let root = HostFs::new(&base);
    let mut kept = CachedHost::load(&root, &root.clone().keeping_files_open()).unwrap();
    let before = kept.host().rt_runtime_us;
    assert_ne!(before, Some(0));
    write(&base, "proc/sys/kernel/sched_rt_runtime_us", "0\n");
    assert_eq!(kept.refresh().unwrap().rt_runtime_us, before);
    // Another change does not cause an early read either, as long as the host is the same.
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
    let root = HostFs::new(&base);
    let mut kept = CachedHost::load(&root, &root.clone().keeping_files_open()).unwrap();
    let before = Arc::clone(kept.host());
    write(&base, "sys/devices/system/cpu/online", "0-x\n");
    assert!(kept.refresh().is_err());
    assert!(Arc::ptr_eq(&before, kept.host()));
}

#[test]
fn a_kept_host_is_believed_only_while_it_is_whole_and_of_this_host() {
    let (_dir, base) = copy("snc-offline");
    let root = HostFs::new(&base);
    let boot = "proc/sys/kernel/random/boot_id";
    let file = base.join("run/virtfit/host");
    write(&base, boot, "b0\n");
    let fresh = load::load(&root, None).unwrap();
    assert!(from_file(&root).unwrap().is_none());
    assert_eq!(load_and_keep(&root).unwrap(), fresh);
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o7777, 0o600);
    let good = fs::read_to_string(&file).unwrap();
    assert_eq!(from_file(&root).unwrap(), Some(fresh.clone()));
    let (head, body) = good.split_once('\n').unwrap();
    let with_digest = |body: &str| {
        let (start, _) = head.rsplit_once(' ').unwrap();
        format!("{start} {}\n{body}", crate::types::digest::of(body))
    };
    assert_eq!(with_digest(body), good);
    let texts = [
        String::new(),
        good[..good.len() / 2].to_string(),
        good.replacen("virtfit-host 1", "virtfit-host 2", 1),
        good.replacen(crate::version::VERSION.split(' ').next().unwrap(), "9.9.9", 1),
        good.replacen("\"llc\":0", "\"llc\":1", 1),
        with_digest("[]"),
        with_digest(&body.replace("\"llc\":0", "\"llc\":99")),
        with_digest(&body.replacen("\"cpus\":[0", "\"cpus\":[1", 1)),
        format!("{good}\n"),
    ];
    for text in texts {
        fs::write(&file, &text).unwrap();
        assert_eq!(from_file(&root).unwrap(), None, "{:.200}", text);
        // A file that is not accepted is read and written again.
        assert_eq!(load_kept(&root, Instant::now()).unwrap(), fresh);
        assert_eq!(fs::read_to_string(&file).unwrap(), good);
    }
    fs::set_permissions(&file, PermissionsExt::from_mode(0o620)).unwrap();
    assert_eq!(from_file(&root).unwrap(), None, "others may write it");
    fs::rename(&file, base.join("elsewhere")).unwrap();
    fs::set_permissions(base.join("elsewhere"), PermissionsExt::from_mode(0o600)).unwrap();
    std::os::unix::fs::symlink(base.join("elsewhere"), &file).unwrap();
    assert_eq!(from_file(&root).unwrap(), None, "a link");
    fs::rename(base.join("elsewhere"), &file).unwrap();
    assert!(from_file(&root).unwrap().is_some());
    // Page counts are the present ones; with another online CPU or boot it is another host.
    let pool = "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages";
    write(&base, pool, "17\n");
    assert_eq!(from_file(&root).unwrap(), Some(load::load(&root, None).unwrap()));
    // Failed starts are the present ones too.
    write(&base, "var/lib/virtfit/failed-starts.json", FAILED);
    let now = from_file(&root).unwrap().unwrap();
    assert_eq!(now.failed.host_cpu.as_deref(), Some("MSR"));
    assert_eq!(now, load::load(&root, None).unwrap());
    write(&base, boot, "b1\n");
    assert_eq!(from_file(&root).unwrap(), None, "an earlier boot");
    write(&base, boot, "b0\n");
    write(&base, "sys/devices/system/cpu/online", "0-2,4-14\n");
    assert_eq!(from_file(&root).unwrap(), None, "another CPU is offline");
    assert_eq!(
        load_kept(&root, Instant::now()).unwrap(),
        load::load(&root, None).unwrap()
    );
    // A host without a boot id keeps no file.
    fs::remove_file(&file).unwrap();
    fs::remove_file(base.join(boot)).unwrap();
    load_and_keep(&root).unwrap();
    assert!(!file.exists());
}

/// The process that a hook starts when it gives up finds that hook still reading.
#[test]
fn a_host_is_kept_after_its_reader_gave_up() {
    let (_dir, base) = copy("paper");
    let root = HostFs::new(&base);
    write(&base, "proc/sys/kernel/random/boot_id", "b0\n");
    let file = base.join("run/virtfit/host");
    let far = || Instant::now() + Duration::from_secs(60);
    let first = kept_file::reader(&root).unwrap();
    assert!(matches!(first, Reader::First(_)));
    assert!(matches!(kept_file::reader(&root), Some(Reader::Other)));
    // Too late: another process still reads.
    keep(&root, Instant::now()).unwrap();
    assert!(!file.exists());
    let (keeper, waiter) = (root.clone(), root.clone());
    let keeper = thread::spawn(move || keep(&keeper, far()).unwrap());
    let waiter = thread::spawn(move || load_kept(&waiter, far()).unwrap());
    thread::sleep(Duration::from_millis(50));
    assert!(!file.exists(), "the lock is another's");
    drop(first);
    keeper.join().unwrap();
    assert!(file.exists());
    assert_eq!(waiter.join().unwrap(), load::load(&root, None).unwrap());
}
