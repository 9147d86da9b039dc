//! Names of small files that are named after their guest: `STEM.xml`, `STEM.json`.

use std::io;

use crate::hostfs::HostFs;

/// Lists the stems of `*.EXTENSION` in a folder, sorted. Files being written end otherwise
/// (`.xml.new`).
pub(crate) fn stems(root: &HostFs, folder: &str, extension: &str) -> io::Result<Vec<String>> {
    let names = root.list(folder)?;
    Ok(names
        .iter()
        .filter_map(|name| stem(name, extension))
        .map(str::to_string)
        .collect())
}

/// Returns a name without its extension; `None` for other names.
pub(crate) fn stem<'n>(name: &'n str, extension: &str) -> Option<&'n str> {
    let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
    Some(stem).filter(|stem| !stem.is_empty())
}
