//! Names of small files that are named after their guest: `STEM.xml`, `STEM.json`.

use std::io;

use crate::hostfs::HostFs;

/// Lists the stems of `*.EXTENSION` in a folder, sorted. Files being written end otherwise
/// (`.xml.new`).
pub(crate) fn stems(root: &HostFs, folder: &str, extension: &str) -> io::Result<Vec<String>> {
    let names = root.list(folder)?;
    let stems = names.iter().filter_map(|name| stem(name, extension));
    let mut stems: Vec<String> = stems.map(str::to_string).collect();
    // The names are sorted, but `web-1.xml` comes before `web.xml`.
    stems.sort_unstable();
    Ok(stems)
}

/// Returns a name without its extension; `None` for other names.
pub(crate) fn stem<'n>(name: &'n str, extension: &str) -> Option<&'n str> {
    let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
    Some(stem).filter(|stem| !stem.is_empty())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn stems_are_sorted_whatever_follows_them() {
        let dir = tempfile::tempdir().unwrap();
        for name in [
            "web-1.xml",
            "web.xml",
            "web.a.xml",
            "web (copy).xml",
            "web.xml.new",
            ".xml",
        ] {
            std::fs::write(dir.path().join(name), "").unwrap();
        }
        let found = stems(&HostFs::new(dir.path()), "/", "xml").unwrap();
        assert_eq!(found, ["web", "web (copy)", "web-1", "web.a"]);
    }
}
