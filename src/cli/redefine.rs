//! libvirt, for commands that change definitions. `virtfit` itself does not link it, because that
//! would slow the hook down: it asks `virtfitd call`, a child process.

use std::io;
use std::time::{Duration, Instant};

use crate::cli::Failure;
use crate::cli::args::Global;
use crate::host::libvirt_daemon;
use crate::hostfs::HostFs;
use crate::hostfs::at_path::io_words;
use crate::libvirt::child::ChildHypervisor;
use crate::libvirt::connection::{SYSTEM, this_host};
use crate::libvirt::definitions::Definition;
use crate::libvirt::obstacle::{Obstacle, obstacle};
use crate::libvirt::{Hypervisor, HypervisorError};
use crate::types::plural::counted;

/// Reason why a guest was not redefined.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RedefineError {
    /// libvirt refuses or does not answer.
    #[error(transparent)]
    Libvirt(#[from] HypervisorError),
    /// libvirt does not run.
    #[error("{error}; to start it: {start}")]
    Down {
        /// Error of the connection.
        error: HypervisorError,
        /// Command that starts libvirt.
        start: &'static str,
    },
    /// libvirt stays busy with the guest, or the definition is another one by now.
    #[error("{obstacle}{}", advice(*.obstacle))]
    Obstacle {
        /// Obstacle to the call.
        obstacle: Obstacle,
    },
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

impl RedefineError {
    /// Returns whether no libvirt answers: the next guest would meet the same.
    pub(crate) fn is_down(&self) -> bool {
        matches!(self, Self::Down { .. } | Self::Libvirt(HypervisorError::Gone(_)))
    }

    /// Returns whether the definition is another one than the one that was read.
    pub(crate) fn is_outdated(&self) -> bool {
        let obstacle = match self {
            Self::Obstacle { obstacle } => *obstacle,
            _ => return false,
        };
        matches!(obstacle, Obstacle::Changed | Obstacle::Written)
    }
}

/// Words guests that meet the same error: the first one's name, with the number of the others.
pub(crate) fn and_others(name: &str, others: usize) -> String {
    match others {
        0 => name.into(),
        others => format!("{name} and {}", counted(others, "more guest")),
    }
}

fn advice(obstacle: Obstacle) -> &'static str {
    match obstacle {
        Obstacle::Gone => "",
        Obstacle::Changed => ": try again",
        Obstacle::Hook | Obstacle::Start | Obstacle::Written => ": try again in a moment",
    }
}

/// Adds the next step to the error of a connection, where no libvirt runs or listens.
fn unconnected(root: &HostFs, error: HypervisorError) -> RedefineError {
    let down = libvirt_daemon::running(root).is_empty() && libvirt_daemon::listens(root) == Some(false);
    match error {
        HypervisorError::Gone(_) if down => RedefineError::Down {
            error,
            start: libvirt_daemon::to_start(root),
        },
        error => error.into(),
    }
}

/// Returns libvirt behind a child that is started with the first request.
///
/// # Errors
/// `LIBVIRT_DEFAULT_URI` names another libvirt than the system's of this host.
pub(crate) fn connect(root: &HostFs, global: &Global) -> Result<Box<dyn Hypervisor>, Failure> {
    Ok(Box::new(ChildHypervisor::new(root, Some(&uri(global)?))))
}

/// Returns the URI of the libvirt that is asked to write.
///
/// # Errors
/// `LIBVIRT_DEFAULT_URI` names another libvirt than the system's of this host.
pub(crate) fn uri(global: &Global) -> Result<String, Failure> {
    match &global.connect {
        Some(uri) => Ok(uri.clone()),
        None => default_uri(std::env::var(DEFAULT_URI).ok().as_deref()),
    }
}

/// Variable by which libvirt's clients are told where to connect (`libvirt.org/uri.html`).
const DEFAULT_URI: &str = "LIBVIRT_DEFAULT_URI";

/// Returns the URI for an invocation without `--connect`, given what [`DEFAULT_URI`] says.
fn default_uri(said: Option<&str>) -> Result<String, Failure> {
    let Some(uri) = said.map(str::trim).filter(|uri| !uri.is_empty()) else {
        return Ok(SYSTEM.into());
    };
    this_host(uri).map_err(|error| {
        Failure::Usage(format!(
            "{DEFAULT_URI}={uri}: {error}; for this host: virtfit --connect {SYSTEM} …"
        ))
    })
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
    libvirt.open().map_err(|error| unconnected(root, error))?;
    let until = Instant::now() + PATIENCE;
    while let Some(why) = obstacle(root, &definition.domain.uuid, &definition.file) {
        if !why.passes() || Instant::now() >= until {
            return Err(RedefineError::Obstacle { obstacle: why });
        }
        std::thread::sleep(PAUSE);
    }
    match libvirt.redefine(&definition.file.text, xml) {
        // A change while libvirt was asked is told as one before that.
        Err(error @ HypervisorError::Other(_)) => {
            let obstacle = obstacle(root, &definition.domain.uuid, &definition.file);
            Err(obstacle.map_or_else(|| error.into(), |obstacle| RedefineError::Obstacle { obstacle }))
        }
        result => Ok(result?),
    }
}
