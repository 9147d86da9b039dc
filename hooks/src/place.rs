//! Where the host's files are: `/`, or a folder that stands for a host (`VIRTFIT_ROOT`, for tests).

use std::fs;
use std::path::{Path, PathBuf};

use virtfit_hook::wire;

/// The root of the host's files.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
}

impl Place {
    /// As the environment says.
    pub fn here() -> Self {
        let root = std::env::var_os("VIRTFIT_ROOT").filter(|root| !root.is_empty());
        Self {
            root: root.map_or_else(|| "/".into(), PathBuf::from),
        }
    }

    /// A guest of an ordinary user's own libvirt (`qemu:///session`): not ours.
    pub fn is_an_ordinary_users(&self) -> bool {
        let is_real = || fs::canonicalize(&self.root).is_ok_and(|root| root == Path::new("/"));
        !nix::unistd::geteuid().is_root() && is_real()
    }

    /// Whether the administrator switched virtfit off.
    pub fn is_disabled(&self) -> bool {
        fs::symlink_metadata(self.below(wire::DISABLED)).is_ok()
    }

    /// Where the daemon listens.
    pub fn socket(&self) -> PathBuf {
        self.below(wire::SOCKET)
    }

    fn below(&self, path: &str) -> PathBuf {
        self.root.join(path.trim_start_matches('/'))
    }
}
