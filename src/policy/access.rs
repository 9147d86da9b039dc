//! Trust in the policy's files: any user who may write them decides what virtfit does, as root,
//! with every guest.

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use crate::types::shell_word::file_word;

/// Users and groups whose files are trusted: root's, and the owner of the folder that stands for a
/// host or the user who runs the program.
#[derive(Debug, Clone, Copy)]
pub(super) struct Trusted {
    uid: u32,
    gid: u32,
}

impl Trusted {
    /// Returns the owner of the folder at `root`; on a live host (`/`) that is root alone.
    pub(super) fn below(root: &Path) -> Self {
        let meta = fs::metadata(root);
        meta.map_or(Self { uid: 0, gid: 0 }, |meta| Self {
            uid: meta.uid(),
            gid: meta.gid(),
        })
    }

    /// Returns the user who runs the program, for files that are named on the command line.
    pub(super) fn own() -> Self {
        Self {
            uid: nix::unistd::geteuid().as_raw(),
            gid: nix::unistd::getegid().as_raw(),
        }
    }

    /// Returns a warning where users or groups that are not trusted may write a file or folder,
    /// links followed. `shown` is the path that messages name.
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
        let word = file_word(shown);
        Some(format!(
            "{shown}: {who}, and with it what virtfit does as root: {cure} {word}"
        ))
    }
}
