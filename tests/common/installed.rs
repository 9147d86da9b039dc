//! The hook that is tested and measured.

use std::path::PathBuf;

/// That of this build, or `VIRTFIT_HOOK`: one that is linked in another way.
pub fn hook() -> PathBuf {
    let given = std::env::var_os("VIRTFIT_HOOK").filter(|path| !path.is_empty());
    given.map_or_else(
        || env!("CARGO_BIN_EXE_virtfit-hook").into(),
        |path| std::path::absolute(path).unwrap(),
    )
}
