//! What virtfit asks of libvirt, and what may come of it; without libvirt in it. The binary
//! `virtfitd` has the implementation that calls the library, [`crate::libvirt::child`] the one that
//! asks that binary.

pub mod child;
pub mod connection;
pub mod definition_file;
pub mod definitions;
pub mod lookup;

use std::time::Duration;

pub use crate::types::live_change::LiveChange;

/// What virtfit calls libvirt for. Only the daemon's one libvirt thread does, and `virtfit`'s
/// commands through `virtfitd call`; never a hook, nor a thread that answers hooks.
pub trait Hypervisor {
    /// Defines a persistent domain; replaces one of the same UUID.
    ///
    /// # Errors
    /// What libvirt said.
    fn define(&mut self, xml: &str) -> Result<(), HypervisorError>;
    /// Replaces a definition that was read as `before`, where libvirt still has that one, by UUID.
    ///
    /// # Errors
    /// libvirt has no such guest, or another definition of it; or what libvirt said.
    fn redefine(&mut self, before: &str, xml: &str) -> Result<(), HypervisorError> {
        let _ = before;
        self.define(xml)
    }
    /// Takes a definition out, keeping NVRAM, TPM state and managed save.
    ///
    /// # Errors
    /// What libvirt said.
    fn undefine(&mut self, uuid: &str) -> Result<(), HypervisorError>;
    /// Gives a guest that does not run another name, its definition with it.
    ///
    /// # Errors
    /// What libvirt said: it runs, say, or the name is taken.
    fn rename(&mut self, uuid: &str, name: &str) -> Result<(), HypervisorError>;
    /// Changes a running guest, not its definition.
    ///
    /// # Errors
    /// What libvirt said.
    fn live(&mut self, uuid: &str, change: &LiveChange) -> Result<(), HypervisorError>;
    /// Makes the connection, so that the next call takes no longer than libvirt does.
    ///
    /// # Errors
    /// There is no libvirt.
    fn open(&mut self) -> Result<(), HypervisorError> {
        Ok(())
    }
    /// Leaves the connection, so that libvirt may end when it has nothing to do. The next call
    /// connects again.
    fn close(&mut self) {}
}

/// libvirt's driver runs and does not answer: tried again after this.
pub const RETRY: Duration = Duration::from_secs(5);

/// Why libvirt did not do it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum HypervisorError {
    /// There is no libvirt to talk to now.
    #[error("libvirt does not answer: {0}")]
    Gone(String),
    /// It said no.
    #[error("libvirt: {0}")]
    Said(String),
}

/// Where there is no libvirt, as in measurements of all the rest: each call says so.
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
