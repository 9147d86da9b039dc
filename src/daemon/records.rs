//! Records about guests that outlive the daemon: a folder with one small JSON file a guest,
//! `UUID.json`.
//!
//! Protocol: only the daemon writes, but for what `virtfit apply` announces
//! ([`crate::daemon::untried`]); a file is whole or absent ([`crate::hostfs::atomic`]). A file
//! that cannot be read does not count as a record; a record that cannot be written is kept in
//! memory until the daemon ends. Removing a record twice is no error.

use std::collections::BTreeMap;
use std::fs;
use std::io;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::hostfs::HostFs;
use crate::hostfs::atomic::AtomicDir;
use crate::types::uuid;

/// Records of one kind, by UUID.
#[derive(Debug)]
pub(crate) struct Records<T> {
    folder: AtomicDir,
    entries: BTreeMap<String, T>,
    /// A warning that the folder cannot be written was logged already.
    said: bool,
}

impl<T: Serialize + DeserializeOwned + PartialEq> Records<T> {
    /// Reads all records of a folder, given as a path of the host.
    pub(crate) fn load(root: &HostFs, folder: &str) -> Self {
        let on_host = AtomicDir::new(root.path(folder), 0o700);
        on_host.sweep();
        let mut entries = BTreeMap::new();
        for name in root.list(folder).unwrap_or_default() {
            let Some(uuid) = name.strip_suffix(".json").filter(|uuid| is_uuid(uuid)) else {
                continue;
            };
            let text = root
                .read(format!("{folder}/{name}"))
                .map_err(|error| error.to_string());
            match text.and_then(|text| serde_json::from_str(&text).map_err(|error| error.to_string())) {
                Ok(entry) => {
                    entries.insert(uuid.to_string(), entry);
                }
                Err(error) => log::debug!("{folder}/{name}: {error}: it does not count"),
            }
        }
        Self {
            folder: on_host,
            entries,
            said: false,
        }
    }

    /// Returns a guest's record.
    pub(crate) fn get(&self, uuid: &str) -> Option<&T> {
        self.entries.get(uuid)
    }

    /// Reads a guest's record again, which another program of virtfit may have written, and returns
    /// it; without a file that can be read, the record stays as it is.
    pub(crate) fn read_again(&mut self, uuid: &str) -> Option<&T> {
        if is_uuid(uuid) {
            let text = fs::read_to_string(self.folder.path().join(format!("{uuid}.json")));
            let entry = text.ok().and_then(|text| serde_json::from_str(&text).ok());
            self.entries.extend(entry.map(|entry| (uuid.to_string(), entry)));
        }
        self.entries.get(uuid)
    }

    /// Returns all records with their UUIDs.
    pub(crate) fn iter(&self) -> impl Iterator<Item = (&String, &T)> {
        self.entries.iter()
    }

    /// Writes a guest's record, which replaces an earlier one.
    pub(crate) fn put(&mut self, uuid: &str, entry: T) {
        if !is_uuid(uuid) || self.entries.get(uuid) == Some(&entry) {
            return;
        }
        if let Err(error) = self.write(uuid, &entry) {
            self.said = warn_once(self.said, &self.folder, &error);
        }
        self.entries.insert(uuid.into(), entry);
    }

    /// Writes the records again whose files were removed by others; returns their number.
    pub(crate) fn write_again(&mut self) -> usize {
        let mut written = 0;
        for (uuid, entry) in &self.entries {
            if self.folder.path().join(format!("{uuid}.json")).exists() {
                continue;
            }
            match self.write(uuid, entry) {
                Ok(()) => written += 1,
                Err(error) => {
                    self.said = warn_once(self.said, &self.folder, &error);
                    break;
                }
            }
        }
        written
    }

    /// Removes a guest's record.
    pub(crate) fn remove(&mut self, uuid: &str) {
        if self.entries.remove(uuid).is_some()
            && let Err(error) = self.folder.remove(&format!("{uuid}.json"))
        {
            log::debug!("{}/{uuid}.json: {error}", self.folder.path().display());
        }
    }

    fn write(&self, uuid: &str, entry: &T) -> io::Result<()> {
        let text = serde_json::to_string(entry)? + "\n";
        self.folder.write(&format!("{uuid}.json"), &text)
    }
}

/// Warns that a folder cannot be written, unless that was `said`; returns the next `said`.
fn warn_once(said: bool, folder: &AtomicDir, error: &io::Error) -> bool {
    if !said {
        log::warn!(
            "{}: {error}: what is remembered of guests is lost when the daemon ends",
            folder.path().display()
        );
    }
    true
}

/// Returns whether a text is a UUID in its normal form: only such a text becomes a file's name.
fn is_uuid(text: &str) -> bool {
    uuid::normal(text).is_some_and(|normal| normal == text)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";

    #[test]
    fn records_outlive_the_daemon_and_strange_files_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let mut records: Records<u32> = Records::load(&root, "/var/lib/virtfit/x");
        records.put(UUID, 1);
        records.put(UUID, 2);
        records.put("../escape", 3);
        let folder = dir.path().join("var/lib/virtfit/x");
        fs::write(folder.join("8c1f6f0e-0000-4000-8000-000000000002.json"), "{").unwrap();
        fs::write(folder.join("notes.json"), "1").unwrap();
        // Left by a daemon that was killed: no process has a number as large.
        let half = folder.join(format!(".virtfit.{}.0", i32::MAX));
        fs::write(&half, "").unwrap();
        let mut again: Records<u32> = Records::load(&root, "/var/lib/virtfit/x");
        assert_eq!(again.iter().collect::<Vec<_>>(), [(&UUID.to_string(), &2)]);
        assert!(!half.exists());
        again.remove(UUID);
        again.remove(UUID);
        assert!(!folder.join(format!("{UUID}.json")).exists());
        assert_eq!(again.get(UUID), None);
    }

    #[test]
    fn a_folder_that_cannot_be_written_is_remembered_in_memory() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("var"), "a file").unwrap();
        let mut records: Records<u32> = Records::load(&HostFs::new(dir.path()), "/var/lib/virtfit/x");
        records.put(UUID, 1);
        assert_eq!(records.get(UUID), Some(&1));
    }
}
