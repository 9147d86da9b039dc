use std::fs;
use std::os::unix::fs::symlink;

use super::*;

#[test]
fn a_folder_is_quiet_until_something_happens_in_it() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    let root = HostFs::new(base);
    let mut folders = Folders::watching();
    let mut quiet = |folder: &str| {
        folders.take_note();
        folders.news(&root, folder) == News::None
    };
    assert!(!quiet("/a") && !quiet("/a"), "it is not there");
    fs::create_dir(base.join("a")).unwrap();
    fs::create_dir(base.join("b")).unwrap();
    assert!(!quiet("/a") && quiet("/a"));
    assert!(!quiet("/b") && quiet("/b"));
    let steps: [(&str, &dyn Fn()); 9] = [
        ("a file", &|| fs::write(base.join("a/x"), "1").unwrap()),
        ("written again", &|| fs::write(base.join("a/x"), "2").unwrap()),
        ("renamed", &|| {
            fs::rename(base.join("a/x"), base.join("a/y")).unwrap()
        }),
        ("another in its place", &|| {
            fs::write(base.join("z"), "3").unwrap();
            fs::rename(base.join("z"), base.join("a/y")).unwrap();
        }),
        ("its times", &|| {
            let file = fs::File::open(base.join("a/y")).unwrap();
            file.set_modified(std::time::UNIX_EPOCH).unwrap();
        }),
        ("a link", &|| symlink("y", base.join("a/l")).unwrap()),
        ("gone", &|| fs::remove_file(base.join("a/l")).unwrap()),
        ("another folder", &|| {
            fs::rename(base.join("a"), base.join("old")).unwrap();
            fs::create_dir(base.join("a")).unwrap();
        }),
        ("made anew", &|| {
            fs::remove_dir_all(base.join("a")).unwrap();
            fs::create_dir(base.join("a")).unwrap();
        }),
    ];
    for (what, step) in steps {
        step();
        assert!(!quiet("/a"), "{what}");
        assert!(quiet("/a"), "after {what}");
        assert!(quiet("/b"), "{what}");
    }
    // The folder that was watched before is no longer the one of this name.
    fs::write(base.join("old/x"), "4").unwrap();
    assert!(quiet("/a"));
    fs::remove_dir_all(base.join("a")).unwrap();
    assert!(!quiet("/a") && !quiet("/a"));
}

#[test]
fn news_name_what_changed() {
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path();
    let root = HostFs::new(base);
    fs::create_dir(base.join("a")).unwrap();
    let mut folders = Folders::watching();
    let mut news = || {
        folders.take_note();
        folders.news(&root, "/a")
    };
    assert_eq!(news(), News::Some);
    fs::write(base.join("a/x"), "1").unwrap();
    fs::rename(base.join("a/x"), base.join("a/y")).unwrap();
    let names = |names: &[&str]| News::To(names.iter().map(|name| (*name).to_string()).collect());
    assert_eq!(news(), names(&["x", "y"]));
    assert_eq!(news(), News::None);
    fs::remove_file(base.join("a/y")).unwrap();
    assert_eq!(news(), names(&["y"]));
    // A change of the folder itself.
    fs::set_permissions(
        base.join("a"),
        std::os::unix::fs::PermissionsExt::from_mode(0o700),
    )
    .unwrap();
    assert_eq!(news(), News::Some);
}

#[test]
fn without_inotify_nothing_is_quiet() {
    let dir = tempfile::tempdir().unwrap();
    let root = HostFs::new(dir.path());
    let mut folders = Folders::default();
    folders.take_note();
    assert_eq!(folders.news(&root, "/"), News::Some);
    assert_eq!(folders.news(&root, "/"), News::Some);
}

#[test]
fn what_was_lost_is_looked_at() {
    let dir = tempfile::tempdir().unwrap();
    let root = HostFs::new(dir.path());
    fs::create_dir(dir.path().join("a")).unwrap();
    let mut folders = Folders::watching();
    assert_eq!(folders.news(&root, "/a"), News::Some);
    let most: usize = fs::read_to_string("/proc/sys/fs/inotify/max_queued_events")
        .unwrap()
        .trim()
        .parse()
        .unwrap();
    // inotify merges equal events that follow each other, so two kinds take turns.
    for _ in 0..=most {
        fs::write(dir.path().join("a/x"), "").unwrap();
        fs::write(dir.path().join("a/y"), "").unwrap();
    }
    folders.take_note();
    assert_eq!(folders.news(&root, "/a"), News::Some);
    folders.take_note();
    assert_eq!(folders.news(&root, "/a"), News::None);
}
