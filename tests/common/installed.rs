//! Hook that is tested and measured.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

/// Returns `VIRTFIT_HOOK`, a hook that is linked in another way, otherwise the hook of this build.
pub(crate) fn hook() -> PathBuf {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    let given = std::env::var_os("VIRTFIT_HOOK").filter(|path| !path.is_empty());
    match given {
        Some(path) => std::path::absolute(path).unwrap(),
        None => BUILT.get_or_init(build).clone(),
    }
}

/// Builds the hook beside virtfit: cargo builds a test's own package before the test, and the hook
/// is another package.
fn build() -> PathBuf {
    let folder = Path::new(env!("CARGO_BIN_EXE_virtfit")).parent().unwrap();
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .args([
            "build",
            "--quiet",
            "--locked",
            "--package",
            "virtfit-hook",
            "--bin",
            "virtfit-hook",
        ])
        .arg("--manifest-path")
        .arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("Cargo.toml"))
        .arg("--target-dir")
        .arg(folder.parent().unwrap());
    // The folder is named after the profile, but for that of `dev`.
    let profile = folder.file_name().filter(|name| *name != "debug");
    if let Some(profile) = profile {
        cargo.arg("--profile").arg(profile);
    }
    let status = cargo.status().unwrap();
    assert!(status.success(), "the hook cannot be built: {status}");
    folder.join("virtfit-hook")
}
