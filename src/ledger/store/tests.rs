use std::os::unix::fs::PermissionsExt;
use std::time::UNIX_EPOCH;

use std::time::Duration;

use super::*;
use crate::ledger::reservation;
use crate::types::ids::HostCpu;
use crate::types::idset::CpuSet;

const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";

fn soon() -> Instant {
    Instant::now() + Duration::from_secs(5)
}

fn reservation() -> Reservation {
    Reservation {
        version: reservation::VERSION,
        uuid: UUID.into(),
        name: "db".into(),
        cpus: CpuSet::one(HostCpu(3)),
        withheld: CpuSet::new(),
        memory: Vec::new(),
        boot_id: String::new(),
        pid: 1,
        start_time: 0,
        tentative_until: None,
        written_at: 100,
        pins: None,
    }
}

fn mark(written_at: u64) -> Undecided {
    Undecided {
        uuid: UUID.into(),
        name: "db".into(),
        why: "no time".into(),
        written_at,
    }
}

fn store() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::new(&HostFs::new(folder.path()));
    (folder, store)
}

fn names(folder: &Path, below: &str) -> Vec<String> {
    let mut names: Vec<String> = fs::read_dir(folder.join(below))
        .into_iter()
        .flatten()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    names.sort();
    names
}

#[test]
fn written_whole_read_back_and_removed() {
    let (folder, store) = store();
    assert_eq!(store.reservation(UUID).unwrap(), None);
    assert!(!store.remove(UUID).unwrap());
    let locked = store.lock(soon()).unwrap();
    locked.write(&reservation()).unwrap();
    locked.write(&reservation()).unwrap();
    drop(locked);
    assert_eq!(store.reservation(UUID).unwrap(), Some(reservation()));
    assert_eq!(
        names(folder.path(), "run/virtfit/reservations"),
        [format!("{UUID}.json")]
    );
    let mode = |path: &str| {
        let found = fs::metadata(folder.path().join(path)).unwrap();
        found.permissions().mode() & 0o7777
    };
    assert_eq!(mode("run/virtfit"), 0o755);
    assert_eq!(mode("run/virtfit/reservations"), 0o755);
    assert_eq!(mode(&format!("run/virtfit/reservations/{UUID}.json")), 0o600);
    assert_eq!(mode("run/virtfit/lock"), 0o600);
    assert!(store.remove(UUID).unwrap());
    assert!(!store.remove(UUID).unwrap());
}

#[test]
fn a_uuid_that_is_a_path_is_none() {
    let (folder, store) = store();
    let long = "a".repeat(65);
    for bad in ["", "../x", "a/b", "a.json", "ä", &long, "a b", "a\0b"] {
        let locked = store.lock(soon()).unwrap();
        let wrong = Reservation {
            uuid: bad.into(),
            ..reservation()
        };
        let error = locked.write(&wrong).unwrap_err();
        assert!(
            matches!(error, StoreError::Record(RecordError::Uuid(_))),
            "{bad}: {error}"
        );
        assert!(store.remove(bad).is_err() && store.unmark(bad).is_err());
    }
    assert_eq!(names(folder.path(), "run/virtfit"), ["lock"]);
}

#[test]
fn the_lock_is_waited_for_and_not_for_long() {
    let (_folder, store) = store();
    let locked = store.lock(soon()).unwrap();
    let start = Instant::now();
    let error = store.lock(start + Duration::from_millis(50)).unwrap_err();
    assert!(matches!(error, StoreError::Locked(_)), "{error}");
    let took = start.elapsed();
    assert!((50..400).contains(&took.as_millis()), "{took:?}");
    drop(locked);
    // A child that another test is just starting may have the descriptor for a moment.
    store.lock(soon()).unwrap();
}

#[test]
fn a_lock_whose_folder_was_removed_is_not_the_lock() {
    let (folder, store) = store();
    let old = store.lock(soon()).unwrap();
    fs::remove_dir_all(folder.path().join("run/virtfit")).unwrap();
    let new = store.lock(soon()).unwrap();
    assert!(store.lock(Instant::now()).is_err());
    drop((old, new));
}

#[test]
fn nothing_is_written_after_the_deadline() {
    let (folder, store) = store();
    let locked = store.lock(Instant::now()).unwrap();
    let error = locked.write(&reservation()).unwrap_err();
    assert!(
        matches!(error, StoreError::Record(RecordError::Late(_))),
        "{error}"
    );
    assert_eq!(
        names(folder.path(), "run/virtfit/reservations"),
        Vec::<String>::new()
    );
}

#[test]
fn a_file_in_the_folders_place_is_an_error() {
    let (folder, store) = store();
    fs::create_dir(folder.path().join("run")).unwrap();
    fs::write(folder.path().join("run/virtfit"), "").unwrap();
    let error = store.lock(soon()).unwrap_err();
    assert!(
        matches!(&error, StoreError::Lock { error, .. } if error.kind() == ErrorKind::NotADirectory),
        "{error}"
    );
    assert!(store.mark(&mark(0)).is_err());
    assert!(!store.remove(UUID).unwrap());
}

#[test]
fn sweeping_removes_what_means_nothing() {
    let (folder, store) = store();
    let locked = store.lock(soon()).unwrap();
    locked.write(&reservation()).unwrap();
    let temporary = |name: &str| {
        let path = folder.path().join("run/virtfit/reservations").join(name);
        fs::write(path, "").unwrap();
    };
    let own = format!(".virtfit.{}.99", std::process::id());
    temporary(&own);
    temporary(".virtfit.999999999.0");
    let left = folder.path().join("run/virtfit/.virtfit.999999999.1");
    fs::write(&left, "").unwrap();
    store.mark(&mark(100)).unwrap();
    let at = |seconds| UNIX_EPOCH + Duration::from_secs(seconds);
    let nothing = Promises::default();
    locked.sweep(&nothing, at(100));
    assert!(!left.exists(), "of a host, policy or mark of the hook");
    assert_eq!(names(folder.path(), "run/virtfit/undecided").len(), 1);
    assert_eq!(
        names(folder.path(), "run/virtfit/reservations"),
        [own.clone(), format!("{UUID}.json")]
    );
    // Void: there is no such process. The mark stays, as its guest runs.
    fs::create_dir(folder.path().join("proc")).unwrap();
    let glance = locked.promises(at(1000)).unwrap();
    assert_eq!(glance.void, [UUID]);
    let runs = Promises {
        running: std::sync::Arc::new(["db".to_string()].into()),
        ..glance.clone()
    };
    locked.sweep(&runs, at(1000));
    assert_eq!(names(folder.path(), "run/virtfit/reservations"), [own]);
    assert_eq!(names(folder.path(), "run/virtfit/undecided").len(), 1);
    locked.sweep(&glance, at(1000));
    assert_eq!(names(folder.path(), "run/virtfit/undecided").len(), 0);
}
