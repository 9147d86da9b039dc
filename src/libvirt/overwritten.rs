//! Definitions that virtfit defined in the very moment in which another client changed them: that
//! change may be lost, as libvirt has no "define if unchanged".
//!
//! `/var/lib/virtfit/overwritten/UUID.json`, for `virtfit status`. Only the daemon writes. A record
//! counts as long as the definition is the one that virtfit defined then; it is removed when the
//! guest starts.

use serde::{Deserialize, Serialize};

use crate::hostfs::HostFs;
use crate::hostfs::records::{Record, RecordFolder};

/// Folder of the records on the host.
const FOLDER: &str = "/var/lib/virtfit/overwritten";

/// Record of one definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Overwritten {
    /// Digest of the definition as libvirt stored it.
    pub text: String,
}

impl Record for Overwritten {
    const FOLDER: &'static str = FOLDER;
    const MODE: u32 = 0o700;
}

/// Returns whether a change may have been lost when the definition with this digest was written.
/// `digest` is worked out only where there is a record.
pub(crate) fn is_noted(root: &HostFs, uuid: &str, digest: impl FnOnce() -> String) -> bool {
    let record = RecordFolder::<Overwritten>::new(root).read(uuid);
    record.is_ok_and(|record| record.is_some_and(|record| record.text == digest()))
}

/// Notes that a change may have been lost when the definition with this digest was written.
pub(crate) fn note(root: &HostFs, uuid: &str, digest: &str) {
    let record = Overwritten { text: digest.into() };
    if let Err(error) = RecordFolder::new(root).write(uuid, &record, None) {
        log::warn!("{error}: virtfit status will not tell of the change");
    }
}

/// Forgets a guest's record, if it has one.
pub(crate) fn forget(root: &HostFs, uuid: &str) {
    if let Err(error) = RecordFolder::<Overwritten>::new(root).remove(uuid) {
        log::debug!("{error}");
    }
}
