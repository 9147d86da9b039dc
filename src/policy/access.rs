//! Who may write the policy's files: whoever may decides what virtfit, as root, does with every
//! guest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Users and groups whose files are trusted: root's, and those of whoever owns the folder that
/// stands for a host.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trusted {
    uid: u32,
    gid: u32,
}

impl Trusted {
    /// Returns those of a host below a folder; of `/` itself that is root alone.
    pub(super) fn below(root: &Path) -> Self {
        let meta = fs::metadata(root);
        meta.map_or(Self { uid: 0, gid: 0 }, |meta| Self {
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }

    /// Returns those of whoever runs the program and names files by hand.
    pub(super) fn own() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    /// Returns a warning where others may write a file or folder, links followed. `shown` is what
    /// messages call it.
    pub(super) fn warning(self, path: &Path, shown: &str) -> Option<String> {
        let meta = fs::metadata(path).ok()?;
        let of_others = ![0, self.uid].contains(&meta.uid());
        let of_other_group = ![0, self.gid].contains(&meta.gid());
        let (who, cure) = match meta.mode() {
            mode if mode & 0o002 != 0 => ("all users may write it".to_string(), "chmod o-w"),
            _ if of_others => (format!("it belongs to user {}", meta.uid()), "chown root"),
            mode if mode & 0o020 != 0 && of_other_group => {
                (format!("group {} may write it", meta.gid()), "chmod g-w")
            }
            _ => return None,
        };
        Some(format!(
            "{shown}: {who}, and with it what virtfit does as root: {cure} {shown}"
        ))
    }
}
