//! libvirt, for commands that change definitions. `virtfit` itself does not link it, because that
//! would slow the hook down: it asks `virtfitd call`, a child process.

use std::io;
use std::time::{Duration, Instant};

use crate::cli::args::Global;
use crate::host::running_hooks;
use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use crate::ledger::{claims, reservation, status};
use crate::libvirt::child::ChildHypervisor;
use crate::libvirt::definitions::Definition;
use crate::libvirt::{Hypervisor, HypervisorError};

/// Reason why a guest was not redefined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedefineError {
    /// libvirt refuses or does not answer.
    #[error(transparent)]
    Libvirt(#[from] HypervisorError),
    /// libvirt stays busy with the guest.
    #[error("{0}: try again in a moment")]
    Busy(&'static str),
    /// The definition is another one by now.
    #[error("its definition changed meanwhile: try again")]
    Changed,
    /// The definition was removed.
    #[error("its definition is gone")]
    Gone,
    /// A daemon of libvirt was started, which does not see files change.
    #[error("{name} (pid {pid}) started meanwhile: not written")]
    Started {
        /// Name of its program.
        name: String,
        /// Id of its process.
        pid: u32,
    },
    /// The file cannot be written.
    #[error("{}", io_words(.0))]
    File(#[from] io::Error),
}

/// Returns libvirt behind a child that is started with the first request.
pub(crate) fn connect(root: &HostFs, global: &Global) -> Box<dyn Hypervisor> {
    Box::new(ChildHypervisor::new(root, Some(&global.connect)))
}

/// Longest wait for a guest that libvirt is busy with.
const PATIENCE: Duration = Duration::from_secs(10);
/// Time between two attempts.
const PAUSE: Duration = Duration::from_millis(100);

/// Redefines a guest that was read as `definition`, unless libvirt stays busy with it or its
/// definition was changed since.
///
/// # Errors
/// libvirt refuses or stays busy, or the definition is another one by now.
pub(crate) fn redefine(
    root: &HostFs,
    libvirt: &mut dyn Hypervisor,
    definition: &Definition,
    xml: &str,
) -> Result<(), RedefineError> {
    // Connecting may take seconds, as libvirt serves no client before all autostart guests are
    // started; the checks have to come after that.
    libvirt.open()?;
    let until = Instant::now() + PATIENCE;
    while let Some(why) = in_flight(root, &definition.domain.uuid, &definition.name) {
        if Instant::now() >= until {
            return Err(RedefineError::Busy(why));
        }
        std::thread::sleep(PAUSE);
    }
    unchanged(root, definition)?;
    Ok(libvirt.redefine(&definition.text, xml)?)
}

/// Returns what libvirt is doing with a guest in flight: a call for that guest would wait with all
/// of libvirt's list locked. A guest that is being started has a reservation, and no status file
/// yet; one that a hook runs for may have both.
fn in_flight(root: &HostFs, uuid: &str, name: &str) -> Option<&'static str> {
    let reserved = !uuid.is_empty() && root.exists(reservation::path(uuid));
    if reserved && !root.exists(status::path(name)) {
        return Some("is being started");
    }
    if crate::libvirt::definition_file::Definition::is_being_written(root, name) {
        return Some("is being redefined by somebody else");
    }
    let hooked = running_hooks::guests(root).contains(name);
    hooked.then_some("is what libvirt runs a hook for")
}

/// Checks that the definition is unchanged, right before it is replaced: libvirt replaces whatever
/// definition there is then.
///
/// # Errors
/// The definition's file is gone or has another text now.
fn unchanged(root: &HostFs, definition: &Definition) -> Result<(), RedefineError> {
    match root.read(claims::path(&definition.name)) {
        Ok(now) if now == definition.text => Ok(()),
        Ok(_) => Err(RedefineError::Changed),
        Err(_) => Err(RedefineError::Gone),
    }
}
