//! Last policy without errors, kept by the daemon in `/run/virtfit/policy.json`: the paths and
//! texts of the files it was read from.
//!
//! While the policy's files have errors, the daemon goes on with this policy, also after a restart,
//! and `plan` and `status` show guests by it.

use std::fs::Permissions;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

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
/// Mode bit that lets every user pass a folder.
const ALL_SEARCH: u32 = 0o001;

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
    // A user who may read all of the policy's files may read the copy, too, and no other user.
    let mode = match kept.iter().all(|file| is_open(root, &file.path)) {
        true => 0o644,
        false => 0o600,
    };
    if !root.read(&path).is_ok_and(|before| before == text) {
        AtomicDir::new(root.path(FOLDER), 0o755).write(NAME, &text)?;
    }
    // The mode of a copy that is kept already follows that of the files, too.
    if root.metadata(&path)?.permissions().mode() & 0o7777 != mode {
        std::fs::set_permissions(root.path(&path), Permissions::from_mode(mode))?;
    }
    Ok(())
}

/// Returns whether every user may read a file: the file itself, and all folders on the way to it.
fn is_open(root: &HostFs, path: &str) -> bool {
    let lets = |path: &Path, bit: u32| {
        let meta = root.metadata(path);
        meta.is_ok_and(|meta| meta.permissions().mode() & bit != 0)
    };
    let above = |path: &Path| path.ancestors().skip(1).all(|folder| lets(folder, ALL_SEARCH));
    // The way by the names, and the way to the file that a link leads to.
    let target = root.resolve(path);
    lets(Path::new(path), ALL_READ) && above(Path::new(path)) && target.is_ok_and(|target| above(&target))
}

/// Returns whether a policy is kept.
pub(crate) fn is_kept(root: &HostFs) -> bool {
    root.exists(format!("{FOLDER}/{NAME}"))
}

/// Reads the policy that was kept, and its files. `None`: there is none, or this version of virtfit
/// does not accept it.
pub(crate) fn load(root: &HostFs) -> Option<(Files, Policy)> {
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
    let policy = files.policy().ok()?;
    Some((files, policy))
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
    fn a_kept_policy_is_no_more_open_than_its_files() {
        let folder = tempfile::tempdir().unwrap();
        let root = HostFs::new(folder.path());
        let at = |path: &str| folder.path().join(path);
        let chmod =
            |path: &str, mode| std::fs::set_permissions(at(path), Permissions::from_mode(mode)).unwrap();
        chmod("", 0o755);
        std::fs::create_dir_all(at("etc/virtfit")).unwrap();
        std::fs::write(at("etc/virtfit/policy.toml"), "[host]\n").unwrap();
        // modes of the folder and of the file, mode of the copy
        for (above, file, copy) in [
            (0o755, 0o644, 0o644),
            (0o700, 0o644, 0o600),
            (0o755, 0o604, 0o644),
            (0o750, 0o644, 0o600),
            (0o755, 0o644, 0o644),
            (0o755, 0o640, 0o600),
            (0o711, 0o644, 0o644),
        ] {
            chmod("etc/virtfit", above);
            chmod("etc/virtfit/policy.toml", file);
            keep(&root, &Files::of(&HostFs::new(folder.path()))).unwrap();
            let kept = std::fs::metadata(at("run/virtfit/policy.json")).unwrap();
            assert_eq!(kept.permissions().mode() & 0o7777, copy, "{above:o} {file:o}");
        }
    }

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
        let files = Files::of(&HostFs::new(folder.path()));
        let policy = files.policy().unwrap();
        keep(&root, &files).unwrap();
        let (again_files, again) = load(&root).unwrap();
        std::fs::remove_file(folder.path().join("run/virtfit/policy.json")).unwrap();
        keep(&root, &again_files).unwrap();
        assert_eq!(load(&root).unwrap().1.digest, policy.digest);
        assert_eq!(again.digest, policy.digest);
        assert_eq!(
            format!("{:?}", again.rules[0].place),
            format!("{:?}", policy.rules[0].place)
        );
        std::fs::write(folder.path().join("run/virtfit/policy.json"), "[{").unwrap();
        assert!(load(&root).is_none());
    }
}
