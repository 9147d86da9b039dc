//! Calls that virtfit makes to libvirt, and their errors, without libvirt in them. The binary
//! `virtfitd` has the implementation that calls the library, [`crate::libvirt::child`] the one that
//! asks that binary.

pub mod child;
pub(crate) mod connection;
pub mod definition_file;
pub(crate) mod definitions;
pub(crate) mod lookup;
pub(crate) mod obstacle;
pub(crate) mod overwritten;

use std::time::Duration;

pub use crate::types::live_change::LiveChange;

/// Connection to libvirt. Only the daemon's one libvirt thread calls it, and the commands of
/// `virtfit` through `virtfitd call`; never a hook, nor a thread that answers hooks.
pub trait Hypervisor {
    /// Defines a persistent domain, or replaces the one with that UUID.
    ///
    /// # Errors
    /// libvirt refuses the definition, or does not answer.
    fn define(&mut self, xml: &str) -> Result<(), HypervisorError>;
    /// Replaces a definition that was read from its file as `before`, provided that the file is
    /// unchanged and libvirt has the same definition.
    ///
    /// # Errors
    /// libvirt has no such guest or another definition of it, refuses the new one, or does not
    /// answer.
    fn redefine(&mut self, before: &str, xml: &str) -> Result<(), HypervisorError> {
        let _ = before;
        self.define(xml)
    }
    /// Removes a definition; NVRAM, TPM state and managed save stay.
    ///
    /// # Errors
    /// libvirt refuses, or does not answer.
    fn undefine(&mut self, uuid: &str) -> Result<(), HypervisorError>;
    /// Renames a guest that does not run, together with its definition.
    ///
    /// # Errors
    /// libvirt refuses, for example because the guest runs or the name is taken, or does not
    /// answer.
    fn rename(&mut self, uuid: &str, name: &str) -> Result<(), HypervisorError>;
    /// Changes a running guest, but not its definition.
    ///
    /// # Errors
    /// libvirt refuses the change, or does not answer.
    fn live(&mut self, uuid: &str, change: &LiveChange) -> Result<(), HypervisorError>;
    /// Connects, so that the next call takes only the time that libvirt needs.
    ///
    /// # Errors
    /// There is no libvirt to connect to.
    fn open(&mut self) -> Result<(), HypervisorError> {
        Ok(())
    }
    /// Disconnects, so that libvirt may end when it has nothing to do. The next call connects
    /// again.
    fn close(&mut self) {}
}

/// Time between two attempts while libvirt's driver runs and does not answer.
pub(crate) const RETRY: Duration = Duration::from_secs(5);

/// Reason why libvirt did not carry out a call.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HypervisorError {
    /// There is no libvirt to call at this time.
    #[error("libvirt does not answer: {0}")]
    Gone(String),
    /// libvirt refused.
    #[error("libvirt: {0}")]
    Said(String),
    /// libvirt has another definition than the one that was read, so it was not asked to replace
    /// it.
    #[error("{0}")]
    Other(String),
}

/// Connection to no libvirt, for measurements of everything else: each call fails as
/// [`HypervisorError::Gone`].
#[derive(Debug, Clone, Copy)]
pub struct Absent;

impl Absent {
    fn gone() -> HypervisorError {
        HypervisorError::Gone("there is none".into())
    }
}

impl Hypervisor for Absent {
    fn define(&mut self, _: &str) -> Result<(), HypervisorError> {
        Err(Self::gone())
    }

    fn undefine(&mut self, _: &str) -> Result<(), HypervisorError> {
        Err(Self::gone())
    }

    fn rename(&mut self, _: &str, _: &str) -> Result<(), HypervisorError> {
        Err(Self::gone())
    }

    fn live(&mut self, _: &str, _: &LiveChange) -> Result<(), HypervisorError> {
        Err(Self::gone())
    }
}
