//! Root of the host's files: `/`, or a folder that stands for a host (`VIRTFIT_ROOT`, for tests).

use std::fs;
use std::path::{Path, PathBuf};

use virtfit_hook::wire;

/// Root of the host's files.
#[derive(Debug)]
pub(crate) struct Place {
    root: PathBuf,
}

impl Place {
    /// Takes the root from the environment.
    pub(crate) fn here() -> Self {
        let root = std::env::var_os("VIRTFIT_ROOT").filter(|root| !root.is_empty());
        Self {
            root: root.map_or_else(|| "/".into(), PathBuf::from),
        }
    }

    /// Returns `true` in an ordinary user's own libvirt (`qemu:///session`), whose guests virtfit
    /// leaves alone.
    pub(crate) fn is_an_ordinary_users(&self) -> bool {
        let is_real = || fs::canonicalize(&self.root).is_ok_and(|root| root == Path::new("/"));
        !nix::unistd::geteuid().is_root() && is_real()
    }

    /// Returns `true` if the administrator switched virtfit off.
    pub(crate) fn is_disabled(&self) -> bool {
        fs::symlink_metadata(self.below(wire::DISABLED)).is_ok()
    }

    /// Returns the path of the daemon's socket.
    pub(crate) fn socket(&self) -> PathBuf {
        self.below(wire::SOCKET)
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
