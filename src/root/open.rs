//! Files that stay open between two reads, for whoever reads the same ones of `/sys` and `/proc` again and again: half of what such
//! a read costs is finding the file.
//!
//! The kernel makes the text of these files anew at each read from their beginning. A file that is gone tells so: by its link
//! count, or because what it was about (a CPU, a cgroup, a process) cannot be read any more. It is looked for again then.

use std::collections::BTreeMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::{Path, PathBuf};
use std::sync::{Mutex, PoisonError};

/// Where files are that may be kept. Others are replaced by renaming what they are in, which an open file does not tell.
const FOLDERS: [&str; 2] = ["/sys", "/proc"];
/// The most files that are kept open: a host with 64 nodes has about so many that are read.
const MOST: usize = 512;
/// What a file of these folders mostly fits into, in bytes: a page.
const USUAL: usize = 4096;

/// The open files, by the host's own paths.
#[derive(Debug, Default)]
pub(super) struct OpenFiles(Mutex<BTreeMap<PathBuf, File>>);

impl OpenFiles {
    /// What a file says that is kept; `None`: it is not, or not any more.
    pub fn read(&self, path: &Path, most: u64) -> Option<Vec<u8>> {
        let mut files = self.files();
        let file = files.get(path)?;
        match again(file, path.starts_with("/sys/devices"), most) {
            Ok(bytes) => Some(bytes),
            Err(_) => {
                files.remove(path);
                None
            }
        }
    }

    /// Keeps a file that was just read.
    pub fn keep(&self, path: &Path, file: File) {
        let mut files = self.files();
        if files.len() < MOST && may_be_kept(path) {
            files.insert(path.to_path_buf(), file);
        }
    }

    #[cfg(test)]
    fn names(&self) -> Vec<String> {
        let files = self.files();
        files.keys().map(|path| path.display().to_string()).collect()
    }

    fn files(&self) -> std::sync::MutexGuard<'_, BTreeMap<PathBuf, File>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
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

/// Reads a file from its beginning.
fn again(file: &File, is_attribute: bool, most: u64) -> io::Result<Vec<u8>> {
    if file.metadata()?.nlink() == 0 {
        return Err(io::ErrorKind::NotFound.into());
    }
    let mut bytes = vec![0; USUAL];
    let mut have = 0;
    loop {
        let got = file.read_at(bytes.get_mut(have..).unwrap_or_default(), have as u64)?;
        have += got;
        // An attribute of sysfs is a page at most, and comes at once.
        if got == 0 || (is_attribute && have < USUAL) {
            bytes.truncate(have);
            return Ok(bytes);
        }
        if have as u64 > most {
            return Err(io::ErrorKind::FileTooLarge.into());
        }
        if have == bytes.len() {
            bytes.resize(2 * have, 0);
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::fs;

    use crate::root::Root;

    #[test]
    fn a_kept_file_says_what_one_just_opened_says() {
        let dir = tempfile::tempdir().unwrap();
        let base = dir.path();
        fs::create_dir_all(base.join("sys/node0")).unwrap();
        fs::create_dir_all(base.join("etc")).unwrap();
        let write = |path: &str, text: &str| fs::write(base.join(path), text).unwrap();
        let (path, etc) = ("sys/node0/free", "etc/a");
        write(path, "1\n");
        write(etc, "1\n");
        let root = Root::new(base).keeping_files_open();
        let fresh = Root::new(base);
        let steps: [(&str, &dyn Fn()); 9] = [
            ("as it was", &|| {}),
            ("again", &|| {}),
            ("written over", &|| write(path, "22\n")),
            ("shorter", &|| write(path, "")),
            ("more than a page", &|| write(path, &"x".repeat(10_000))),
            ("replaced", &|| {
                write("sys/new", "3\n");
                fs::rename(base.join("sys/new"), base.join(path)).unwrap();
            }),
            ("gone", &|| fs::remove_file(base.join(path)).unwrap()),
            ("there again", &|| write(path, "4\n")),
            ("its folder gone", &|| {
                fs::remove_dir_all(base.join("sys/node0")).unwrap()
            }),
        ];
        for (what, step) in steps {
            step();
            assert_eq!(
                root.read_opt("/sys/node0/free").unwrap(),
                fresh.read_opt("/sys/node0/free").unwrap(),
                "{what}"
            );
        }
        // Elsewhere a whole folder may be put in another's place.
        assert_eq!(root.read("/etc/a").unwrap(), "1\n");
        fs::rename(base.join("etc"), base.join("old")).unwrap();
        fs::create_dir(base.join("etc")).unwrap();
        write(etc, "2\n");
        assert_eq!(root.read("/etc/a").unwrap(), "2\n");
        assert_eq!(root, fresh, "the same host");
    }

    #[test]
    fn real_files_of_the_kernel_are_made_anew() {
        let root = Root::default().keeping_files_open();
        let read = |path: &str| root.read(path).unwrap();
        let first = read("/proc/uptime");
        std::thread::sleep(std::time::Duration::from_millis(30));
        assert_ne!(first, read("/proc/uptime"));
        assert_eq!(
            read("/sys/devices/system/cpu/online"),
            fs::read_to_string("/sys/devices/system/cpu/online").unwrap()
        );
        let mut child = std::process::Command::new("sleep").arg("60").spawn().unwrap();
        let limits = format!("/proc/{}/limits", child.id());
        assert_eq!(read(&limits), read(&limits));
        let names = root.open.as_ref().unwrap().names();
        assert_eq!(names, ["/proc/uptime", "/sys/devices/system/cpu/online"]);
        child.kill().unwrap();
        child.wait().unwrap();
        assert_eq!(root.read_opt(&limits).unwrap(), None);
    }
}
