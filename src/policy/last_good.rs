//! Last policy without errors, kept by the daemon in `/run/virtfit/policy.json`: the paths and
//! texts of the files it was read from.
//!
//! While the policy's files have errors, the daemon goes on with this policy, also after a restart,
//! and `plan` and `status` show guests by it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;

use serde::{Deserialize, Serialize};

use crate::hostfs::HostFs;
use crate::hostfs::atomic::AtomicDir;
use crate::policy::load::{Files, State};
use crate::policy::merge::Tier;
use crate::policy::{Policy, load};

/// Folder on the host.
const FOLDER: &str = "/run/virtfit";
/// Name of the file in [`FOLDER`].
const NAME: &str = "policy.json";
/// Mode bit that lets every user read a file.
const ALL_READ: u32 = 0o004;

/// One file of the kept policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Kept {
    path: String,
    /// `vendor`, `main` or `drop-in`.
    tier: String,
    text: String,
}

/// Keeps the files of a policy without errors. Texts that are kept already are not written again.
///
/// # Errors
/// The operating system's error.
pub(crate) fn keep(root: &HostFs, files: &Files) -> io::Result<()> {
    let used = files.files.iter().filter_map(|file| match &file.state {
        State::Used(text) => Some(Kept {
            path: file.path.clone(),
            tier: word(file.tier).into(),
            text: text.clone(),
        }),
        State::Masked(_) | State::Removed | State::Unreadable(_) => None,
    });
    let kept: Vec<Kept> = used.collect();
    let text = serde_json::to_string(&kept).map_err(io::Error::other)? + "\n";
    let path = format!("{FOLDER}/{NAME}");
    if root.read(&path).is_ok_and(|before| before == text) {
        return Ok(());
    }
    let folder = AtomicDir::new(root.path(FOLDER), 0o755);
    folder.write(NAME, &text)?;
    // A user who may read all of the policy's files may read the copy, too.
    let open = |file: &Kept| {
        let meta = root.metadata(&file.path);
        meta.is_ok_and(|meta| meta.permissions().mode() & ALL_READ != 0)
    };
    if kept.iter().all(open) {
        std::fs::set_permissions(root.path(&path), Permissions::from_mode(0o644))?;
    }
    Ok(())
}

/// Returns whether a policy is kept.
pub(crate) fn is_kept(root: &HostFs) -> bool {
    root.exists(format!("{FOLDER}/{NAME}"))
}

/// Reads the policy that was kept. `None`: there is none, or this version of virtfit does not
/// accept it.
pub(crate) fn load(root: &HostFs) -> Option<Policy> {
    let text = root.read(format!("{FOLDER}/{NAME}")).ok()?;
    let kept: Vec<Kept> = serde_json::from_str(&text).ok()?;
    let mut files = Files::default();
    for file in kept {
        files.files.push(load::PolicyFile {
            path: file.path,
            tier: tier(&file.tier)?,
            state: State::Used(file.text),
        });
    }
    files.policy().ok()
}

fn word(tier: Tier) -> &'static str {
    match tier {
        Tier::Vendor => "vendor",
        Tier::Main => "main",
        Tier::DropIn => "drop-in",
    }
}

fn tier(word: &str) -> Option<Tier> {
    [Tier::Vendor, Tier::Main, Tier::DropIn]
        .into_iter()
        .find(|tier| crate::policy::last_good::word(*tier) == word)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_kept_policy_means_what_it_meant() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
        assert!(load(&root).is_none());
        for (path, text) in [
            (
                "usr/lib/virtfit/policy.d/10-a.toml",
                "[host]\nhousekeeping = \"0\"\n",
            ),
            (
                "etc/virtfit/policy.toml",
                "[[rule]]\nmatch = { name = \"a\" }\nprofile = \"fit\"\n",
            ),
            ("etc/virtfit/policy.d/20-b.toml", "[host]\nhousekeeping = \"1\"\n"),
        ] {
            let path = folder.path().join(path);
            std::fs::create_dir_all(path.parent().unwrap()).unwrap();
            std::fs::write(path, text).unwrap();
        }
        let files = Files::below(folder.path());
        let policy = files.policy().unwrap();
        keep(&root, &files).unwrap();
        let again = load(&root).unwrap();
        assert_eq!(again.digest, policy.digest);
        assert_eq!(
            format!("{:?}", again.rules[0].place),
            format!("{:?}", policy.rules[0].place)
        );
        std::fs::write(folder.path().join("run/virtfit/policy.json"), "[{").unwrap();
        assert!(load(&root).is_none());
    }
}
