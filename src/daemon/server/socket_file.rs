//! Watch of the socket's file: a socket whose file is removed (by an administrator, by
//! systemd-tmpfiles) still listens, but no peer can connect to it.

use std::fs;
use std::io::Read as _;
use std::os::fd::AsFd as _;
use std::os::unix::fs::MetadataExt as _;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use inotify::{Inotify, WatchMask};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

use crate::hostfs::at_path::io_words;

/// Wait after an event: what removes the file removes others too, and its folder at last.
const REST: Duration = Duration::from_millis(100);
/// Size of the buffer for events, in bytes.
const BUFFER: usize = 4 << 10;

/// File of the socket that the daemon listens on.
#[derive(Debug)]
pub(super) struct SocketFile {
    path: PathBuf,
    /// Device and inode.
    id: Option<(u64, u64)>,
    /// Watch of the folder; `None`: the kernel gives none.
    inotify: Option<Inotify>,
}

/// Reason for which a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Woken {
    /// The server is to stop.
    Stop,
    /// The path does not lead to the socket any more.
    Gone,
}

impl SocketFile {
    /// Watches the file at this path.
    pub(super) fn of(path: &Path) -> Self {
        let watch = || {
            let inotify = Inotify::init()?;
            let gone = WatchMask::DELETE | WatchMask::MOVED_FROM | WatchMask::MOVED_TO;
            let folder = WatchMask::DELETE_SELF | WatchMask::MOVE_SELF;
            inotify
                .watches()
                .add(path.parent().unwrap_or(path), gone | folder)?;
            Ok::<_, std::io::Error>(inotify)
        };
        let inotify = watch().map_err(|error| {
            log::warn!(
                "inotify: {}: it is not seen if {} is removed",
                io_words(&error),
                path.display()
            );
        });
        Self {
            path: path.into(),
            id: id(path),
            inotify: inotify.ok(),
        }
    }

    /// Waits until the server is to stop, or the file is gone.
    pub(super) fn wait(&mut self, mut wake: &UnixStream) -> Woken {
        loop {
            // The file may have gone before its folder was watched.
            if self.id.is_none() || id(&self.path) != self.id {
                return Woken::Gone;
            }
            let Some(inotify) = &mut self.inotify else {
                while let Err(std::io::ErrorKind::Interrupted) =
                    wake.read(&mut [0]).map_err(|error| error.kind())
                {}
                return Woken::Stop;
            };
            let mut fds = [
                PollFd::new(wake.as_fd(), PollFlags::POLLIN),
                PollFd::new(inotify.as_fd(), PollFlags::POLLIN),
            ];
            match poll(&mut fds, PollTimeout::NONE) {
                Ok(_) | Err(Errno::EINTR) => {}
                Err(_) => return Woken::Stop,
            }
            if fds[0].any() == Some(true) {
                return Woken::Stop;
            }
            thread::sleep(REST);
            while inotify
                .read_events(&mut [0; BUFFER])
                .is_ok_and(|mut events| events.next().is_some())
            {}
        }
    }

    /// Removes the file, unless the path leads to another one by now.
    pub(super) fn remove(&self) {
        if self.id.is_some() && id(&self.path) == self.id {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Returns device and inode of a file.
fn id(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::symlink_metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}
