//! Where the host's files are: `/`, or a folder that stands for a host (`VIRTFIT_ROOT`, for tests).

use std::fs;
use std::path::{Path, PathBuf};

use crate::wire;

/// The root of the host's files.
#[derive(Debug)]
pub struct Place {
    root: PathBuf,
    real: bool,
}

impl Place {
    /// As the environment says.
    pub fn here() -> Self {
        match std::env::var_os("VIRTFIT_ROOT").filter(|root| !root.is_empty()) {
            None => Self {
                root: PathBuf::from("/"),
                real: true,
            },
            Some(root) => {
                let root = PathBuf::from(root);
                let real = fs::canonicalize(&root).is_ok_and(|root| root == Path::new("/"));
                Self { root, real }
            }
        }
    }

    /// A guest of an ordinary user's own libvirt (`qemu:///session`): not ours.
    pub fn is_an_ordinary_users(&self) -> bool {
        self.real && !nix::unistd::geteuid().is_root()
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
