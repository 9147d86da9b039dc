//! Temporary files beside the files they are to replace, and the folder's lock: all of virtfit
//! writes this way.
//!
//! ```text
//! .virtfit.PID.N   the N-th file that process PID is writing; made with O_EXCL, so that no two processes ever share one
//! ```
//! The name is short however long the target's is: libvirt names files after guests, and a guest's
//! name may leave no room for a suffix. The name ends in none of the extensions that libvirt or
//! virtfit load. The files of a killed process are swept by the next one.

use std::fs::{self, File, Metadata, OpenOptions};
use std::io::{self, ErrorKind};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};
use nix::sys::signal;
use nix::unistd::Pid;

/// Beginning of each temporary file's name.
const PREFIX: &str = ".virtfit.";
/// Number of this process's next temporary file.
static NEXT: AtomicU64 = AtomicU64::new(0);
/// Number of names that may be taken before [`Temporary::make`] gives up: a process with the same
/// number in another PID namespace can have taken them.
const MOST_TAKEN: u32 = 1000;
/// Time between two attempts at a lock.
const PAUSE: Duration = Duration::from_millis(5);

/// Temporary file, removed when it is dropped unless it took its target's place.
#[derive(Debug)]
pub(crate) struct Temporary {
    path: PathBuf,
}

impl Temporary {
    /// Creates an empty file in a folder, closed to others (0600).
    ///
    /// # Errors
    /// The kernel's error.
    pub(crate) fn file(folder: &Path) -> io::Result<(Self, File)> {
        Self::make(folder, |path| {
            OpenOptions::new()
                .write(true)
                .create_new(true)
                .mode(0o600)
                .open(path)
        })
    }

    /// Creates something other than a plain file, such as a socket. `make` must fail if the name is
    /// taken.
    ///
    /// # Errors
    /// The error of `make`.
    pub(crate) fn make<T>(folder: &Path, make: impl Fn(&Path) -> io::Result<T>) -> io::Result<(Self, T)> {
        let mut taken = 0;
        loop {
            let number = NEXT.fetch_add(1, Ordering::Relaxed);
            let path = folder.join(format!("{PREFIX}{}.{number}", process::id()));
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

    /// Returns the temporary file's path.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Moves the temporary file to the place of a file in the same folder, in one step.
    ///
    /// # Errors
    /// The kernel's error; the target is as it was.
    pub(crate) fn replace(self, target: &Path) -> io::Result<()> {
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

/// Processes whose temporary files [`sweep`] removes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Whose {
    /// Processes that are gone. If another process has the number by now, the file stays.
    Dead,
    /// All processes but this one: the holder of the folder's [`Lock`] is the only one that writes
    /// there.
    Others,
}

/// Removes the temporary files that processes left in a folder: files of exactly the name that
/// [`Temporary`] gives, which this user owns. Any other file may be an administrator's, however
/// similar its name is. Files that cannot be removed stay and do no harm.
pub(crate) fn sweep(folder: &Path, whose: Whose) {
    for entry in fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let Some(owner) = name.to_str().and_then(owner) else {
            continue;
        };
        let left = match whose {
            Whose::Dead => is_gone(owner),
            Whose::Others => u32::try_from(owner) != Ok(process::id()),
        };
        if left && entry.metadata().is_ok_and(|meta| is_ours(&meta)) {
            let _ = fs::remove_file(entry.path());
        }
    }
}

/// Returns the process that writes a temporary file of this name.
fn owner(name: &str) -> Option<i32> {
    let (pid, number) = name.strip_prefix(PREFIX)?.split_once('.')?;
    let is_number = |text: &str| text.bytes().all(|byte| byte.is_ascii_digit());
    if !is_number(pid) || !is_number(number) {
        return None;
    }
    number.parse::<u64>().ok()?;
    pid.parse::<i32>().ok().filter(|pid| *pid > 0)
}

/// Returns whether a file is one that this user's processes make, no folder and no link.
fn is_ours(meta: &Metadata) -> bool {
    let made = meta.is_file() || meta.file_type().is_socket();
    made && meta.uid() == nix::unistd::geteuid().as_raw()
}

fn is_gone(pid: i32) -> bool {
    signal::kill(Pid::from_raw(pid), None) == Err(Errno::ESRCH)
}

/// Lock of a folder, held until this value is dropped; the kernel frees it when the process ends.
#[derive(Debug)]
pub(crate) struct Lock {
    _flock: Flock<File>,
}

/// Locks a folder by `flock` on the folder itself, so that no lock file stays behind. `None` if
/// another process holds the lock until the deadline.
///
/// # Errors
/// The folder cannot be opened, or its file system has no such locks.
pub(crate) fn lock(folder: &Path, deadline: Instant) -> io::Result<Option<Lock>> {
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
            (format!(".virtfit.{dead}.0.1"), false, false),
            (format!(".virtfit.{dead}.-1"), false, false),
            (format!(".virtfit.{dead}."), false, false),
            (format!(".virtfit.+{dead}.0"), false, false),
            (format!(".virtfit.{dead}"), false, false),
            // An administrator's backups.
            (format!(".x.json.{dead}.0"), false, false),
            (".db.xml.20261101.1".to_string(), false, false),
            (format!(".a b.{dead}.12"), false, false),
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
