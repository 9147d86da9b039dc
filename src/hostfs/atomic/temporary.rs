//! Temporary files beside those they are to replace, and the folder's lock: one way for all that
//! virtfit writes.
//!
//! ```text
//! .virtfit.PID.N   the N-th file that process PID is writing; made with O_EXCL, so that no two processes ever share one
//! ```
//! The name is short whatever the target is called, as libvirt names files after guests and a
//! guest's name may leave no room for more. It ends in none of the extensions that libvirt or
//! virtfit load. What a process leaves behind that is killed is swept by the next.

use std::fs::{self, File, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal;
use nix::unistd::Pid;

/// The number of this process's next temporary file.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Names that are taken by others are passed over so often: by a process of the same number in
/// another PID namespace.
const MOST_TAKEN: u32 = 1000;
/// The time between two attempts at a lock.
const PAUSE: Duration = Duration::from_millis(5);

/// A temporary file, removed when it is dropped unless it took its target's place.
#[derive(Debug)]
pub struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Creates an empty file in a folder, closed to others (0600).
    ///
    /// # Errors
    /// What the kernel said.
    pub fn file(folder: &Path) -> io::Result<(Self, File)> {
        Self::make(folder, |path| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        })
    }

    /// Creates what is no plain file, such as a socket. `make` must fail where the name is taken.
    ///
    /// # Errors
    /// What `make` said.
    pub fn make<T>(folder: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(Self, T)> {
        let mut taken = 0;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!(".virtfit.{}.{number}", process::id()));
            match make(&path) {
                Ok(made) => return Ok((Self { path }, made)),
                Err(error) => {
                    let exists = matches!(error.kind(), ErrorKind::AlreadyExists | ErrorKind::AddrInUse);
                    taken += 1;
                    if !exists || taken >= MOST_TAKEN {
                        return Err(error);
                    }
                }
            }
        }
    }

    /// Returns where it is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Puts it in the place of a file of the same folder, in one step.
    ///
    /// # Errors
    /// What the kernel said; the target is as it was.
    pub fn replace(self, target: &Path) -> io::Result<()> {
        fs::rename(&self.path, target)?;
        std::mem::forget(self);
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        let _ = fs::remove_file(&self.path);
    }
}

/// Whose temporary files [`sweep`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whose {
    /// Those of processes that are gone; where another process has the number by now they stay.
    Dead,
    /// All but this process's: whoever holds the folder's [`Lock`] is the only one who writes
    /// there.
    Others,
}

/// Removes what was left half written in a folder. What cannot be removed stays; it does no harm.
pub fn sweep(folder: &Path, whose: Whose) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(owner) else {
            continue;
        };
        let left = match whose {
            Whose::Dead => is_gone(owner),
            Whose::Others => u32::try_from(owner) != Ok(process::id()),
        };
        if left {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns whether a name is that of a temporary file whose process is gone.
pub fn is_left_over(name: &str) -> bool {
    owner(name).is_some_and(is_gone)
}

/// The process that writes a temporary file of this name: `.virtfit.PID.N`, and `.NAME.PID.N` of
/// earlier versions.
fn owner(name: &str) -> Option<i32> {
    let (rest, number) = name.strip_prefix('.')?.rsplit_once('.')?;
    number.parse::<u64>().ok()?;
    let pid = rest.rsplit_once('.')?.1.parse::<i32>().ok()?;
    (pid > 0).then_some(pid)
}

fn is_gone(pid: i32) -> bool {
    signal::kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

/// A folder's lock, as long as this lives; the kernel frees it with the process at the latest.
#[derive(Debug)]
pub struct Lock {
    _flock: Flock<File>,
}

/// Locks a folder by `flock` on itself, so that no file is left of it. `None`: somebody else holds
/// it until the deadline.
///
/// # Errors
/// The folder cannot be opened, or its file system has no such locks.
pub fn lock(folder: &Path, deadline: Instant) -> io::Result<Option<Lock>> {
    let mut file = File::open(folder)?;
    loop {
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(flock) => return Ok(Some(Lock { _flock: flock })),
            Err((back, Errno::EWOULDBLOCK | Errno::EINTR)) => file = back,
            Err((_, error)) => return Err(error.into()),
        }
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            return Ok(None);
        }
        thread::sleep(PAUSE.min(left));
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn dead() -> u32 {
        let mut child = process::Command::new("true").spawn().unwrap();
        let dead = child.id();
        child.wait().unwrap();
        dead
    }

    #[test]
    fn only_what_dead_processes_left_is_swept() {
        let (dead, mine) = (dead(), process::id());
        let dir = tempfile::tempdir().unwrap();
        // name, left by a dead process, left by another process
        let rows = [
            (format!(".virtfit.{dead}.0"), true, true),
            (format!(".virtfit.1.{}", u64::MAX), false, true),
            (format!(".x.json.{dead}.0"), true, true),
            (format!(".a b.{dead}.12"), true, true),
            (format!(".virtfit.{mine}.0"), false, false),
            (format!("x.json.{dead}.0"), false, false),
            (format!(".x.json.{dead}"), false, false),
            (format!(".{dead}.1"), false, false),
            (".x.json.0.0".to_string(), false, false),
            (".x.json.-1.0".to_string(), false, false),
            (".x.json.a.0".to_string(), false, false),
            (".x.json".to_string(), false, false),
            ("x.json".to_string(), false, false),
        ];
        for whose in [Whose::Dead, Whose::Others] {
            for (name, ..) in &rows {
                fs::write(dir.path().join(name), "").unwrap();
            }
            sweep(dir.path(), whose);
            for (name, of_dead, of_others) in &rows {
                let swept = if whose == Whose::Dead { of_dead } else { of_others };
                assert_eq!(!dir.path().join(name).exists(), *swept, "{whose:?} {name}");
            }
        }
    }

    #[test]
    fn a_name_that_is_taken_is_passed_over() {
        let dir = tempfile::tempdir().unwrap();
        let next = NEXT.load(Ordering::Relaxed);
        for number in next..next + 20 {
            fs::write(
                dir.path().join(format!(".virtfit.{}.{number}", process::id())),
                "",
            )
            .unwrap();
        }
        let (temporary, _) = Temporary::file(dir.path()).unwrap();
        let own = temporary.path().to_path_buf();
        assert!(own.exists());
        drop(temporary);
        assert!(!own.exists());
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 20);
    }

    #[test]
    fn a_lock_is_one_holders() {
        let dir = tempfile::tempdir().unwrap();
        let soon = || Instant::now() + Duration::from_millis(20);
        let held = lock(dir.path(), soon()).unwrap();
        assert!(held.is_some());
        assert!(lock(dir.path(), soon()).unwrap().is_none());
        drop(held);
        assert!(lock(dir.path(), soon()).unwrap().is_some());
        assert!(lock(&dir.path().join("none"), soon()).is_err());
    }
}
