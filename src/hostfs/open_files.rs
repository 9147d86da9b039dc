//! Files and folders that stay open between two looks, for whoever looks at the same ones of `/sys`
//! and `/proc` again and again: finding a file costs more than reading it.
//!
//! The kernel makes the text of these files anew at each read from their beginning. One that is
//! gone tells so: what it was about (a CPU, a cgroup) cannot be read any more, or no name leads to
//! it. It is looked for again then. The mount table is long, and tells by `poll(2)` whether it
//! changed (`proc_pid_mounts(5)`): it is read only then.

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io;
use std::os::fd::AsFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};

use nix::dir::Dir;
use nix::errno::Errno;
use nix::fcntl::OFlag;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::stat::Mode;
use nix::sys::statfs::{CGROUP_SUPER_MAGIC, CGROUP2_SUPER_MAGIC, PROC_SUPER_MAGIC, SYSFS_MAGIC, fstatfs};

/// Where files are that may be kept. Others are replaced by renaming what they are in, which an
/// open file does not tell.
const FOLDERS: [&str; 2] = ["/sys", "/proc"];
/// The most files, and folders, that are kept open: a host with 64 nodes has about so many that are
/// read.
const MOST: usize = 512;
/// What a file of these folders mostly fits into, in bytes: a page.
const USUAL: usize = 4096;

/// What is open, by the host's own paths.
#[derive(Debug, Default)]
pub(crate) struct OpenFiles(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    files: HashMap<OsString, OpenFile>,
    folders: HashMap<OsString, Dir>,
    /// What was read last; only ever longer.
    buffer: Vec<u8>,
}

/// One file.
#[derive(Debug)]
struct OpenFile {
    file: File,
    kind: Kind,
}

/// How it is read again.
#[derive(Debug)]
enum Kind {
    /// The kernel's own: it cannot be read once it is gone. An attribute of sysfs, a number of
    /// `/proc/sys`, a list of a cgroup and the state of a process come at once where they are
    /// shorter than a page.
    Kernel { attribute: bool },
    /// A mount table, and what it said.
    Mounts(Vec<u8>),
    /// Anybody's: a fixture is made of such.
    Plain { attribute: bool },
}

impl OpenFiles {
    /// What a file says that is kept; `None`: it is not, or not any more.
    pub fn read(&self, path: &Path, most: u64) -> Option<Vec<u8>> {
        self.open().look(path, most).map(<[u8]>::to_vec)
    }

    /// What is made of a file's text; `None` as for [`OpenFiles::read`].
    pub fn with<T>(&self, path: &Path, most: u64, make: impl FnOnce(&[u8]) -> T) -> Option<T> {
        self.open().look(path, most).map(make)
    }

    /// Keeps a file that was just read, and said this.
    pub fn keep(&self, path: &Path, file: File, said: &[u8]) {
        let mut open = self.open();
        if open.files.len() < MOST && may_be_kept(path) {
            let kind = Kind::of(&file, path, said);
            open.files.insert(path.into(), OpenFile { file, kind });
        }
    }

    /// Keeps a file of a process.
    pub fn keep_of_process(&self, path: &Path, file: File) {
        let mut open = self.open();
        if open.files.len() < MOST && !open.files.contains_key(path.as_os_str()) {
            let kind = Kind::of(&file, path, &[]);
            open.files.insert(path.into(), OpenFile { file, kind });
        }
    }

    /// The names in a folder, in its own order, each with a zero byte behind it; `found` is where
    /// it is on this machine. `None`: it is none that is kept open.
    pub fn names(&self, path: &Path, found: &Path) -> Option<io::Result<Vec<u8>>> {
        if !may_be_kept(path) {
            return None;
        }
        let folders = &mut self.open().folders;
        if let Some(folder) = folders.get_mut(path.as_os_str()) {
            // A folder that is gone is an empty one.
            match list(folder) {
                Ok(names) if !names.is_empty() => return Some(Ok(names)),
                _ => {}
            }
            folders.remove(path.as_os_str());
        }
        let flags = OFlag::O_RDONLY | OFlag::O_DIRECTORY | OFlag::O_CLOEXEC;
        let listed = Dir::open(found, flags, Mode::empty()).and_then(|mut folder| {
            let names = list(&mut folder)?;
            if folders.len() < MOST {
                folders.insert(path.into(), folder);
            }
            Ok(names)
        });
        Some(listed.map_err(io::Error::from))
    }

    #[cfg(test)]
    fn kept(&self) -> Vec<String> {
        let open = self.open();
        let all = open.files.keys().chain(open.folders.keys());
        let mut all: Vec<String> = all.map(|path| path.to_string_lossy().into_owned()).collect();
        all.sort();
        all
    }

    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Open {
    fn look(&mut self, path: &Path, most: u64) -> Option<&[u8]> {
        let file = self.files.get_mut(path.as_os_str())?;
        match again(file, &mut self.buffer, most) {
            Ok(length) => match &self.files.get(path.as_os_str())?.kind {
                Kind::Mounts(said) => Some(said),
                _ => self.buffer.get(..length),
            },
            Err(_) => {
                self.files.remove(path.as_os_str());
                None
            }
        }
    }
}

impl Kind {
    fn of(file: &File, path: &Path, said: &[u8]) -> Self {
        let attribute = path.starts_with("/sys/devices");
        match fstatfs(file).map(|about| about.filesystem_type()) {
            Ok(SYSFS_MAGIC) => Self::Kernel { attribute: true },
            Ok(CGROUP2_SUPER_MAGIC | CGROUP_SUPER_MAGIC) => Self::Kernel { attribute: true },
            Ok(PROC_SUPER_MAGIC) if path.ends_with("mounts") => Self::Mounts(said.to_vec()),
            Ok(PROC_SUPER_MAGIC) if path.starts_with("/proc/sys") || path.ends_with("stat") => {
                Self::Kernel { attribute: true }
            }
            _ => Self::Plain { attribute },
        }
    }
}

/// In one of the folders, and about the host: processes come and go.
fn may_be_kept(path: &Path) -> bool {
    let of_a_process = |name: &OsStr| {
        let name = name.as_encoded_bytes();
        name.first().is_some_and(u8::is_ascii_digit) || name.ends_with(b"self")
    };
    let inside = FOLDERS.iter().find_map(|folder| path.strip_prefix(folder).ok());
    let first = inside.and_then(|inside| inside.iter().next());
    first.is_some_and(|first| !of_a_process(first))
}

/// Reads a file from its beginning, into `buffer`: how much. A mount table is in its own place
/// then.
fn again(open: &mut OpenFile, buffer: &mut Vec<u8>, most: u64) -> io::Result<usize> {
    let OpenFile { file, kind } = open;
    match kind {
        Kind::Kernel { attribute } => fill(file, buffer, *attribute, most),
        Kind::Mounts(said) => {
            // Asked before it is read: what changes between the two is told the next time.
            if has_changed(file)? {
                let length = fill(file, buffer, false, most)?;
                said.clear();
                said.extend_from_slice(buffer.get(..length).unwrap_or_default());
            }
            Ok(said.len())
        }
        Kind::Plain { attribute } => {
            if file.metadata()?.nlink() == 0 {
                return Err(io::ErrorKind::NotFound.into());
            }
            fill(file, buffer, *attribute, most)
        }
    }
}

/// Whether a mount table is another one than when this was asked before, or when it was opened.
fn has_changed(file: &File) -> io::Result<bool> {
    let mut asked = [PollFd::new(file.as_fd(), PollFlags::POLLPRI)];
    match poll(&mut asked, PollTimeout::ZERO) {
        Ok(told) => Ok(told > 0),
        Err(Errno::EINTR) => Ok(true),
        Err(error) => Err(error.into()),
    }
}

fn fill(file: &File, buffer: &mut Vec<u8>, attribute: bool, most: u64) -> io::Result<usize> {
    if buffer.len() < USUAL {
        buffer.resize(USUAL, 0);
    }
    let mut have = 0;
    loop {
        let got = file.read_at(buffer.get_mut(have..).unwrap_or_default(), have as u64)?;
        have += got;
        if got == 0 || (attribute && have < USUAL) {
            return Ok(have);
        }
        if have as u64 > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if have == buffer.len() {
            buffer.resize(2 * have, 0);
        }
    }
}

/// The names in a folder, from its beginning.
fn list(folder: &mut Dir) -> nix::Result<Vec<u8>> {
    let mut names = Vec::new();
    for entry in folder.iter() {
        let entry = entry?;
        let name = entry.file_name().to_bytes_with_nul();
        if !matches!(name, b".\0" | b"..\0") {
            names.extend_from_slice(name);
        }
    }
    Ok(names)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
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
        // Elsewhere a whole folder may be put in another's place.
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

    /// Mounts belong to a namespace of its own: this test needs root, as all that runs real libvirt
    /// here.
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
}
