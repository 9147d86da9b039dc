//! File of the daemon's socket: its creation, owner and mode, and replacing the socket of a daemon
//! that died.

use std::fs;
use std::io::{self, ErrorKind};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileTypeExt, PermissionsExt};
use std::os::unix::net::UnixListener;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::socket::{AddressFamily, SockFlag, SockType, UnixAddr, connect, socket};
use nix::unistd::{Gid, Group, chown};

use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use crate::hostfs::atomic;
use crate::hostfs::atomic::{Temporary, Whose};
use virtfit_hook::wire::SOCKET;

/// Group whose members may ask.
const GROUP: &str = "libvirt";
/// Longest wait for another daemon that is starting.
const LOCK: Duration = Duration::from_secs(5);

/// Reason why the daemon cannot listen.
#[derive(Debug, thiserror::Error)]
pub enum ServerError {
    /// Another daemon answers.
    #[error("{}: another virtfitd answers here: stop it first", .0.display())]
    Taken(PathBuf),
    /// The kernel refused.
    #[error("{}: cannot listen: {}", .path.display(), why(.error))]
    Io {
        /// Path of the socket or its folder.
        path: PathBuf,
        /// Error of the kernel.
        error: io::Error,
    },
}

/// Describes an error of the kernel, with advice where there is some.
fn why(error: &io::Error) -> String {
    let text = io_words(error);
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{text}: virtfitd runs as root (systemctl start virtfitd)")
        }
        _ => text,
    }
}

/// Listens at [`SOCKET`] below `root`: makes the folder, removes a dead daemon's socket.
///
/// # Errors
/// Another daemon answers at the socket, or the kernel refuses.
pub(crate) fn listen(root: &HostFs) -> Result<(UnixListener, PathBuf), ServerError> {
    let path = root.path(SOCKET);
    let fail = |path: &Path| {
        let path = path.to_path_buf();
        move |error| ServerError::Io { path, error }
    };
    if let Some(folder) = path.parent().filter(|folder| !folder.exists()) {
        fs::create_dir_all(folder).map_err(fail(folder))?;
        // Set whatever the umask is: members of the group have to reach the socket.
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).map_err(fail(folder))?;
    }
    let folder = path.parent().unwrap_or(Path::new("/"));
    // Of two daemons that start at once, the second must see the socket of the first.
    let _lock = atomic::lock(folder, Instant::now() + LOCK).ok().flatten();
    atomic::sweep(folder, Whose::Dead);
    remove_stale(&path).map_err(fail(&path))?;
    if path.symlink_metadata().is_ok() {
        return Err(ServerError::Taken(path));
    }
    // No peer may connect before the socket has its owner and mode, so it is made under another
    // name.
    let (new, listener) = Temporary::make(folder, |path| UnixListener::bind(path)).map_err(fail(folder))?;
    if let Err(error) = admit(new.path()) {
        log::warn!("{}: only root may ask: {}", path.display(), io_words(&error));
    }
    new.replace(&path).map_err(fail(&path))?;
    Ok((listener, path))
}

/// Removes the socket of a dead daemon; the socket of a living one stays.
fn remove_stale(path: &Path) -> io::Result<()> {
    match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error),
        Ok(meta) if !meta.file_type().is_socket() => {
            return Err(io::Error::other("there is something else: take it away"));
        }
        Ok(_) => {}
    }
    if is_answered(path)? {
        return Ok(());
    }
    match fs::remove_file(path) {
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error),
        _ => Ok(()),
    }
}

/// Returns, without waiting, whether a process listens on a socket; also a process that is stopped
/// and has a full backlog.
fn is_answered(path: &Path) -> io::Result<bool> {
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let probe = socket(AddressFamily::Unix, SockType::Stream, flags, None)?;
    match connect(probe.as_raw_fd(), &UnixAddr::new(path)?) {
        Ok(()) | Err(Errno::EAGAIN) => Ok(true),
        Err(Errno::ECONNREFUSED | Errno::ENOENT) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Sets mode and owner of the socket: 0660 root:libvirt where there is such a group, else 0600.
fn admit(path: &Path) -> io::Result<()> {
    let mode = |mode| fs::set_permissions(path, fs::Permissions::from_mode(mode));
    mode(0o600)?;
    if let Some(gid) = group() {
        chown(path, None, Some(gid))?;
        mode(0o660)?;
    }
    Ok(())
}

/// Returns the id of the group; `None` where the host has no such group.
pub(super) fn group() -> Option<Gid> {
    Group::from_name(GROUP).ok().flatten().map(|group| group.gid)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::sync::Barrier;
    use std::thread;

    use super::*;

    #[test]
    fn of_daemons_that_start_at_once_one_listens() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        for _ in 0..20 {
            let barrier = Barrier::new(4);
            let listened: Vec<_> = thread::scope(|scope| {
                let start = || {
                    barrier.wait();
                    listen(&root).map_err(|error| error.to_string())
                };
                let threads: Vec<_> = (0..4).map(|_| scope.spawn(start)).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).collect()
            });
            let good: Vec<_> = listened.iter().flatten().collect();
            assert_eq!(good.len(), 1, "{listened:?}");
            assert!(
                is_answered(&good[0].1).unwrap(),
                "its socket is the one that is there"
            );
            let folder = good[0].1.parent().unwrap();
            assert_eq!(fs::read_dir(folder).unwrap().count(), 1);
            // The daemon dies: the next takes over.
            drop(listened);
        }
    }
}
