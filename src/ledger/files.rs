//! The small files of the ledger's folders, by name.

use std::io::{self, ErrorKind};
use std::time::SystemTime;

use crate::ledger::cache::{Folder, Listed};
use crate::ledger::read::LedgerError;
use crate::panics::guarded;
use crate::root::Root;

/// One file of a folder.
pub(super) struct Found<'l, T> {
    /// Its name without `.xml` or `.json`: libvirt names files after guests.
    pub stem: &'l str,
    /// What it says, or why that is not known.
    pub said: Result<T, String>,
}

/// Where a file is, for messages.
pub(super) fn shown(root: &Root, folder: &str, stem: &str, extension: &str) -> String {
    let path = root.path(folder).join(format!("{stem}.{extension}"));
    path.display().to_string()
}

/// All files `*.EXTENSION` of a folder that were listed, by name. Those that vanish meanwhile never were; folders are not meant.
pub(super) fn files<'l, T: Clone>(
    root: &Root,
    folder: &str,
    extension: &str,
    now: SystemTime,
    known: &'l mut Folder<T>,
    parse: impl Fn(&str) -> Result<T, String>,
) -> Result<Vec<Found<'l, T>>, LedgerError> {
    known.keep_listed();
    let Folder { listing, known } = known;
    let mut found = Vec::with_capacity(listing.files().len());
    for Listed { stem, stamp } in listing.files() {
        // The stamp is older than what is read: what is written between the two has another one, and is read next time.
        let before = stamp.and_then(|stamp| known.get(stem, stamp));
        let said = match before {
            Some(said) => said.clone(),
            None => match root.read(format!("{folder}/{stem}.{extension}")) {
                Ok(text) => {
                    // A file that virtfit itself fails on is one that cannot be read: the others go on.
                    let said = guarded(|| parse(&text)).unwrap_or_else(|bug| Err(format!("failed: {bug}")));
                    if let Some(stamp) = stamp {
                        known.put(stem, *stamp, now, said.clone());
                    }
                    said
                }
                Err(error) => match error.kind() {
                    ErrorKind::NotFound | ErrorKind::InvalidInput => continue,
                    ErrorKind::PermissionDenied => return Err(error.into()),
                    _ => Err(error
                        .to_string()
                        .trim_start_matches(&format!("{}: ", shown(root, folder, stem, extension)))
                        .to_string()),
                },
            },
        };
        found.push(Found { stem, said });
    }
    Ok(found)
}

/// The stems of `*.EXTENSION` in a folder, sorted. Files being written end otherwise (`.xml.new`).
pub fn stems(root: &Root, folder: &str, extension: &str) -> io::Result<Vec<String>> {
    let names = root.list(folder)?;
    Ok(names
        .iter()
        .filter_map(|name| stem(name, extension))
        .map(str::to_string)
        .collect())
}

/// A name without its extension; `None` for other names.
pub(super) fn stem<'n>(name: &'n str, extension: &str) -> Option<&'n str> {
    let stem = name.strip_suffix(extension)?.strip_suffix('.')?;
    Some(stem).filter(|stem| !stem.is_empty())
}
