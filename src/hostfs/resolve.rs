//! Paths on this machine for the host's paths: below a folder that stands for a host, they behave
//! as after a `chroot`.

use std::ffi::OsString;
use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Component, Path, PathBuf};

use nix::errno::Errno;
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, ResolveFlag, openat2};

use crate::hostfs::HostFs;

/// Largest number of symbolic links on one path; the kernel's own limit (`MAXSYMLINKS`).
const MAX_LINKS: u32 = 40;

impl HostFs {
    /// Returns the path on this machine. Below a folder that stands for a host, links are followed
    /// by hand so that they stay in it.
    pub(crate) fn locate(&self, path: &Path, follow_last: bool) -> io::Result<PathBuf> {
        let Some(base) = &self.base else {
            return Err(io::Error::new(ErrorKind::NotFound, "there is no host to read"));
        };
        if self.is_real() {
            return Ok(Path::new("/").join(path));
        }
        if let Some(found) = without_links(base, path, follow_last) {
            return Ok(found);
        }
        let mut links = 0;
        let mut found = base.clone();
        let mut todo: Vec<OsString> = components(path);
        while let Some(name) = todo.pop() {
            if name == ".." {
                if found != *base {
                    found.pop();
                }
                continue;
            }
            found.push(&name);
            if todo.is_empty() && !follow_last {
                break;
            }
            match fs::symlink_metadata(&found) {
                Ok(meta) if meta.is_symlink() => {
                    links += 1;
                    if links > MAX_LINKS {
                        return Err(Errno::ELOOP.into());
                    }
                    let target = fs::read_link(&found)?;
                    found.pop();
                    if target.is_absolute() {
                        found.clone_from(base);
                    }
                    todo.extend(components(&target));
                }
                Ok(_) => {}
                // An absent file is reported by the caller that opens it.
                Err(error) if matches!(error.kind(), ErrorKind::NotFound | ErrorKind::NotADirectory) => {}
                Err(error) => return Err(error),
            }
        }
        Ok(found)
    }
}

/// Returns a path below `base` if none of its components is a link, as far as they exist; `None`:
/// each component must be looked at. This takes one question to the kernel (`openat2(2)`, Linux
/// 5.6) instead of one for each component.
fn without_links(base: &Path, path: &Path, follow_last: bool) -> Option<PathBuf> {
    let plain = |part: Component<'_>| matches!(part, Component::Normal(_) | Component::RootDir);
    if !path.components().all(plain) {
        return None;
    }
    let found = base.join(path.strip_prefix("/").unwrap_or(path));
    let last = if follow_last {
        OFlag::empty()
    } else {
        OFlag::O_NOFOLLOW
    };
    let how = OpenHow::new()
        .flags(OFlag::O_PATH | OFlag::O_CLOEXEC | last)
        .resolve(ResolveFlag::RESOLVE_NO_SYMLINKS);
    match openat2(AT_FDCWD, &found, how) {
        Ok(_) | Err(Errno::ENOENT | Errno::ENOTDIR) => Some(found),
        Err(_) => None,
    }
}

/// Splits a path into its names and `..`s, last first.
fn components(path: &Path) -> Vec<OsString> {
    path.components()
        .rev()
        .filter(|part| matches!(part, Component::Normal(_) | Component::ParentDir))
        .map(|part| part.as_os_str().to_os_string())
        .collect()
}

/// Appends `path` to `base` by names alone, with no look at links.
pub(crate) fn lexical(base: &Path, path: &Path) -> PathBuf {
    let mut out = base.to_path_buf();
    let mut depth = 0;
    for part in path.components() {
        match part {
            Component::Normal(name) => {
                out.push(name);
                depth += 1;
            }
            Component::ParentDir if depth > 0 => {
                out.pop();
                depth -= 1;
            }
            _ => {}
        }
    }
    out
}
