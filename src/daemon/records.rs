//! Records about guests that outlive the daemon, in memory and in their folder
//! ([`crate::hostfs::records`]).
//!
//! Protocol: only the daemon writes, but for what `virtfit apply` announces
//! ([`crate::daemon::untried`]). A file that cannot be read does not count as a record; a record
//! that cannot be written is kept in memory until the daemon ends.

use std::collections::BTreeMap;

use crate::hostfs::HostFs;
use crate::hostfs::records::{Record, RecordError, RecordFolder};
use crate::types::uuid;

/// Records of one kind, by UUID.
#[derive(Debug)]
pub(crate) struct Records<T> {
    folder: RecordFolder<T>,
    entries: BTreeMap<String, T>,
    /// A warning that the folder cannot be written was logged already.
    said: bool,
}

impl<T: Record + PartialEq> Records<T> {
    /// Reads all records of a host.
    pub(crate) fn load(root: &HostFs) -> Self {
        let folder = RecordFolder::new(root);
        folder.sweep();
        let mut entries = BTreeMap::new();
        for (stem, read) in folder.all().filter(|(stem, _)| is_uuid(stem)) {
            match read {
                Ok(entry) => {
                    entries.insert(stem, entry);
                }
                Err(error) => log::debug!("{}/{stem}.json: {error}: it does not count", T::FOLDER),
            }
        }
        Self {
            folder,
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
            let entry = self.folder.read(uuid).ok().flatten();
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
        if let Err(error) = self.folder.write(uuid, &entry, None) {
            self.said = warn_once::<T>(self.said, &error);
        }
        self.entries.insert(uuid.into(), entry);
    }

    /// Writes the records again whose files were removed by others; returns their number.
    pub(crate) fn write_again(&mut self) -> usize {
        let mut written = 0;
        for (uuid, entry) in &self.entries {
            if self.folder.is_there(uuid) {
                continue;
            }
            match self.folder.write(uuid, entry, None) {
                Ok(()) => written += 1,
                Err(error) => {
                    self.said = warn_once::<T>(self.said, &error);
                    break;
                }
            }
        }
        written
    }

    /// Removes a guest's record.
    pub(crate) fn remove(&mut self, uuid: &str) {
        if self.entries.remove(uuid).is_some()
            && let Err(error) = self.folder.remove(uuid)
        {
            log::debug!("{error}");
        }
    }
}

/// Warns that a folder cannot be written, unless that was `said`; returns the next `said`.
fn warn_once<T: Record>(said: bool, error: &RecordError) -> bool {
    if !said {
        let (folder, error) = (T::FOLDER, error.words());
        log::warn!("{folder}: {error}: what is remembered of guests is lost when the daemon ends");
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
    use std::fs;

    use super::*;

    impl Record for u32 {
        const FOLDER: &'static str = "/var/lib/virtfit/x";
        const MODE: u32 = 0o700;
    }

    const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";

    #[test]
    fn records_outlive_the_daemon_and_strange_files_do_not_count() {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let mut records: Records<u32> = Records::load(&root);
        records.put(UUID, 1);
        records.put(UUID, 2);
        records.put("../escape", 3);
        let folder = dir.path().join("var/lib/virtfit/x");
        fs::write(folder.join("8c1f6f0e-0000-4000-8000-000000000002.json"), "{").unwrap();
        fs::write(folder.join("notes.json"), "1").unwrap();
        // Left by a daemon that was killed: no process has a number as large.
        let half = folder.join(format!(".virtfit.{}.0", i32::MAX));
        fs::write(&half, "").unwrap();
        let mut again: Records<u32> = Records::load(&root);
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
        let mut records: Records<u32> = Records::load(&HostFs::new(dir.path()));
        records.put(UUID, 1);
        assert_eq!(records.get(UUID), Some(&1));
    }
}
