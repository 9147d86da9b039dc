//! Other programs of virtfit.

use std::path::{Path, PathBuf};

/// Returns the path of another program of virtfit: in the folder of this program's own file, else
/// where packages put it.
pub fn installed_at(usual: &str) -> PathBuf {
    let usual = Path::new(usual);
    let beside = || {
        let own = std::env::current_exe().ok()?;
        let beside = own.with_file_name(usual.file_name()?);
        beside.is_file().then_some(beside)
    };
    beside().unwrap_or_else(|| usual.to_path_buf())
}
