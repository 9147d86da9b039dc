use super::*;
use std::os::unix::fs::symlink;

fn tree() -> (tempfile::TempDir, HostFs) {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("host");
    fs::create_dir_all(base.join("sys/devices")).unwrap();
    fs::create_dir_all(base.join("etc")).unwrap();
    fs::write(base.join("sys/devices/a"), "inside\n").unwrap();
    fs::write(dir.path().join("secret"), "outside\n").unwrap();
    symlink("/sys/devices/a", base.join("etc/absolute")).unwrap();
    symlink("../sys/devices/a", base.join("etc/relative")).unwrap();
    symlink("../../../../secret", base.join("etc/escape")).unwrap();
    symlink("loop", base.join("etc/loop")).unwrap();
    symlink("/gone", base.join("etc/dangling")).unwrap();
    symlink("/sys", base.join("etc/dir")).unwrap();
    let root = HostFs::new(base);
    (dir, root)
}

#[test]
fn links_and_parents_stay_below_the_root() {
    let (_dir, root) = tree();
    let table: [(&str, Option<&str>); 9] = [
        ("/sys/devices/a", Some("inside\n")),
        ("sys/devices/a", Some("inside\n")),
        ("/etc/absolute", Some("inside\n")),
        ("/etc/relative", Some("inside\n")),
        ("/etc/dir/devices/a", Some("inside\n")),
        ("/../../sys/devices/a", Some("inside\n")),
        ("/etc/escape", None),
        ("/../secret", None),
        ("/etc/dangling", None),
    ];
    for (path, want) in table {
        assert_eq!(root.read_opt(path).unwrap().as_deref(), want, "{path}");
    }
}

#[test]
fn errors_carry_the_path() {
    let (_dir, root) = tree();
    for path in ["/etc/loop", "/etc/none", "/etc"] {
        let message = root.read(path).unwrap_err().to_string();
        assert!(message.contains(path), "{path}: {message}");
    }
    assert!(root.read_opt("/etc").is_err(), "a folder is no file");
}

#[test]
fn lists_are_sorted_and_absent_is_empty() {
    let (_dir, root) = tree();
    let names = root.list("/etc").unwrap();
    assert_eq!(
        names,
        ["absolute", "dangling", "dir", "escape", "loop", "relative"]
    );
    assert_eq!(root.list("/nothing").unwrap(), Vec::<String>::new());
    let seen: Vec<(String, bool)> = root
        .list_with_metadata("/etc")
        .unwrap()
        .into_iter()
        .inspect(|entry| assert!(entry.link, "{entry:?}"))
        .map(|entry| (entry.name, entry.meta.is_ok_and(|meta| meta.is_file())))
        .collect();
    let expected = [
        ("absolute", true),
        ("dir", false),
        ("loop", false),
        ("relative", true),
    ];
    assert_eq!(seen, expected.map(|(name, is_file)| (name.to_string(), is_file)));
    assert!(root.list_with_metadata("/nothing").unwrap().is_empty());
    assert_eq!(root.list("/etc/dir").unwrap(), ["devices"]);
    assert!(root.list("/sys/devices/a").is_err());
}

#[test]
fn resolve_gives_the_hosts_own_name() {
    let (_dir, root) = tree();
    assert_eq!(
        root.resolve("/etc/absolute").unwrap(),
        Path::new("/sys/devices/a")
    );
    assert_eq!(root.resolve("/etc/dir/x/y").unwrap(), Path::new("/sys/x/y"));
    assert_eq!(
        root.read_link("/etc/absolute").unwrap(),
        Path::new("/sys/devices/a")
    );
    assert!(root.exists("/etc/dangling") && !root.exists("/gone"));
}

#[test]
fn size_and_kind_are_bounded() {
    let (_dir, root) = tree();
    let file = fs::File::create(root.path("/etc/huge")).unwrap();
    file.set_len(MAX_BYTES + 1).unwrap();
    assert_eq!(
        root.read("/etc/huge").unwrap_err().kind(),
        ErrorKind::FileTooLarge
    );
    fs::write(root.path("/etc/latin1"), [0x66, 0xfc]).unwrap();
    assert_eq!(
        root.read("/etc/latin1").unwrap_err().kind(),
        ErrorKind::InvalidData
    );
    assert_eq!(root.read_bytes("/etc/latin1").unwrap(), [0x66, 0xfc]);
}

#[test]
fn none_has_nothing() {
    let root = HostFs::none();
    assert_eq!(root.read_opt("/proc/mounts").unwrap(), None);
    assert_eq!(root.list("/").unwrap(), Vec::<String>::new());
    assert!(!root.exists("/") && !root.is_real() && root.is_none());
    assert!(HostFs::default().is_real() && HostFs::new("/.").is_real());
}

/// On the host itself as below `--root`.
#[test]
fn a_link_that_leads_to_nothing_is_followed_to_the_missing_name() {
    let dir = tempfile::tempdir().unwrap();
    let folder = fs::canonicalize(dir.path()).unwrap();
    let (first, second) = (folder.join("first"), folder.join("second"));
    std::os::unix::fs::symlink("second", &first).unwrap();
    std::os::unix::fs::symlink(folder.join("missing"), &second).unwrap();
    let real = HostFs::new("/");
    assert_eq!(real.resolve(&first).unwrap(), folder.join("missing"));
    assert_eq!(real.resolve(folder.join("none")).unwrap(), folder.join("none"));
}
