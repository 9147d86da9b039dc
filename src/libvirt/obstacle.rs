//! Reasons for which libvirt must not be asked to replace a guest's definition now, right before
//! the call. libvirt holds a guest's lock while it starts the guest or runs a hook for it: a call
//! for that guest would wait, and all other clients with it.

use std::time::SystemTime;

use crate::host::running_hooks;
use crate::hostfs::HostFs;
use crate::ledger::reader;
use crate::ledger::taken::same_guest;
use crate::libvirt::definition_file::DefinitionFile;

/// Reason for which the call must not be made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Obstacle {
    /// A hook runs for the guest, virtfit's or another program's.
    #[error("is what libvirt runs a hook for")]
    Hook,
    /// The guest was promised its CPUs and does not run yet.
    #[error("is being started")]
    Start,
    /// libvirt is writing another version of the definition.
    #[error("is being redefined by somebody else")]
    Written,
    /// The definition is another one than the one that was read.
    #[error("its definition changed meanwhile")]
    Changed,
    /// The definition was removed.
    #[error("its definition is gone")]
    Gone,
}

impl Obstacle {
    /// Returns whether the obstacle goes away by itself within seconds.
    pub(crate) fn passes(self) -> bool {
        matches!(self, Self::Hook | Self::Start | Self::Written)
    }
}

/// Returns what is in the way of replacing a definition that was read as `file`.
pub(crate) fn obstacle(root: &HostFs, uuid: &str, file: &DefinitionFile) -> Option<Obstacle> {
    let name = &file.name;
    if running_hooks::guests(root).contains(name) {
        return Some(Obstacle::Hook);
    }
    // A void reservation, of a start that came to nothing, is in no call's way.
    let promises = reader::promises(root, SystemTime::now()).unwrap_or_default();
    let promised = promises.reservations.iter();
    let mut own = promised.filter(|one| same_guest((&one.uuid, &one.name), (uuid, name)));
    if !promises.running.contains(name) && own.next().is_some() {
        return Some(Obstacle::Start);
    }
    // libvirt has the new version in memory before its file is in place.
    if DefinitionFile::is_being_written(root, name) {
        return Some(Obstacle::Written);
    }
    if file.is_current(root) {
        return None;
    }
    match DefinitionFile::read(root, name) {
        Ok(None) => Some(Obstacle::Gone),
        _ => Some(Obstacle::Changed),
    }
}
