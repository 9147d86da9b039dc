use std::fs;

use super::*;
use crate::hostfs::HostFs;

#[test]
fn what_is_kept_says_what_one_just_opened_says() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    fs::create_dir_all(base.join("sys/node0")).unwrap();
    fs::create_dir_all(base.join("etc")).unwrap();
    let write = |path: &str, text: &str| fs::write(base.join(path), text).unwrap();
    let (path, etc) = ("sys/node0/free", "etc/a");
    write(path, "1\n");
    write(etc, "1\n");
    let root = HostFs::new(base).keeping_files_open();
    let fresh = HostFs::new(base);
    let steps: [(&str, &dyn Fn()); 12] = [
        ("as it was", &|| {}),
        ("again", &|| {}),
        ("written over", &|| write(path, "22\n")),
        ("shorter", &|| write(path, "")),
        ("more than a page", &|| write(path, &"x".repeat(10_000))),
        ("replaced", &|| {
            write("sys/new", "3\n");
            fs::rename(base.join("sys/new"), base.join(path)).unwrap();
        }),
        ("a file more", &|| write("sys/node0/more", "")),
        ("gone", &|| fs::remove_file(base.join(path)).unwrap()),
        ("there again", &|| write(path, "4\n")),
        ("its folder gone", &|| {
            fs::remove_dir_all(base.join("sys/node0")).unwrap()
        }),
        ("and there", &|| fs::create_dir(base.join("sys/node0")).unwrap()),
        ("with a file", &|| write(path, "5\n")),
    ];
    for (what, step) in steps {
        step();
        assert_eq!(
            root.read_opt("/sys/node0/free").unwrap(),
            fresh.read_opt("/sys/node0/free").unwrap(),
            "{what}"
        );
        assert_eq!(
            root.list("/sys/node0").unwrap(),
            fresh.list("/sys/node0").unwrap(),
            "{what}"
        );
    }
    // Elsewhere a whole folder may take another's place.
    assert_eq!(root.read("/etc/a").unwrap(), "1\n");
    assert_eq!(root.list("/etc").unwrap(), ["a"]);
    fs::rename(base.join("etc"), base.join("old")).unwrap();
    fs::create_dir(base.join("etc")).unwrap();
    write(etc, "2\n");
    write("etc/b", "");
    assert_eq!(root.read("/etc/a").unwrap(), "2\n");
    assert_eq!(root.list("/etc").unwrap(), ["a", "b"]);
    assert_eq!(root, fresh, "the same host");
}

#[test]
fn real_files_of_the_kernel_are_made_anew() {
    let root = HostFs::default().keeping_files_open();
    let read = |path: &str| root.read(path).unwrap();
    let first = read("/proc/uptime");
    std::thread::sleep(std::time::Duration::from_millis(30));
    assert_ne!(first, read("/proc/uptime"));
    let online = "/sys/devices/system/cpu/online";
    for _ in 0..2 {
        assert_eq!(read(online), fs::read_to_string(online).unwrap());
        assert_eq!(
            root.list("/sys/devices/system/cpu").unwrap(),
            HostFs::default().list("/sys/devices/system/cpu").unwrap()
        );
    }
    let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
    let limits = format!("/proc/{}/limits", child.id());
    assert_eq!(read(&limits), read(&limits));
    let kept = root.open.as_ref().unwrap().kept();
    assert_eq!(kept, ["/proc/uptime", "/sys/devices/system/cpu", online]);
    let stat = format!("/proc/{}/stat", child.id());
    root.keep_open(&stat);
    for _ in 0..2 {
        assert!(read(&stat).starts_with(&format!("{} (", child.id())));
    }
    assert_eq!(root.open.as_ref().unwrap().kept().len(), 4);
    child.kill().unwrap();
    child.wait().unwrap();
    assert_eq!(root.read_opt(&limits).unwrap(), None);
    assert_eq!(root.read_opt(&stat).unwrap(), None);
}

/// Mounts in a mount namespace of its own, so this test needs root, as all tests with a real
/// libvirt here do.
#[test]
fn a_mount_table_is_read_again_when_something_was_mounted() {
    use nix::mount::{MntFlags, MsFlags, mount, umount2};
    use nix::sched::{CloneFlags, unshare};
    let dir = tempfile::tempdir().unwrap();
    let folder = dir.path().to_path_buf();
    let thread = std::thread::spawn(move || {
        unshare(CloneFlags::CLONE_FS | CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let file = File::open("/proc/thread-self/mounts").unwrap();
        let mut open = OpenFile {
            kind: Kind::of(&file, Path::new("/proc/mounts"), b"as it was\n"),
            file,
        };
        let mut buffer = Vec::new();
        let mut told = || {
            again(&mut open, &mut buffer, 1 << 20).unwrap();
            match &open.kind {
                Kind::Mounts(said) => String::from_utf8_lossy(said).into_owned(),
                other => panic!("{other:?}"),
            }
        };
        let name = folder.display().to_string();
        assert_eq!(told(), "as it was\n", "nothing was mounted");
        mount(Some("none"), &folder, Some("tmpfs"), MsFlags::empty(), none).unwrap();
        assert!(told().contains(&name));
        let read_only = MsFlags::MS_REMOUNT | MsFlags::MS_BIND | MsFlags::MS_RDONLY;
        mount(none, &folder, none, read_only, none).unwrap();
        assert!(told().contains(&format!("{name} tmpfs ro")));
        umount2(&folder, MntFlags::MNT_DETACH).unwrap();
        assert!(!told().contains(&name));
    });
    thread.join().unwrap();
}
