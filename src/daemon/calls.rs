//! Stub until the daemon is there.
use super::{Hypervisor, HypervisorError, LiveChange};
/// A child `virtfitd call`.
pub struct ChildHypervisor;
impl ChildHypervisor {
    /// Starts it.
    ///
    /// # Errors
    /// Not there.
    pub fn start(uri: &str) -> Result<Self, HypervisorError> {
        Err(HypervisorError::Gone(uri.into()))
    }
}
impl Hypervisor for ChildHypervisor {
    fn define(&mut self, _: &str) -> Result<(), HypervisorError> {
        Ok(())
    }
    fn undefine(&mut self, _: &str) -> Result<(), HypervisorError> {
        Ok(())
    }
    fn live(&mut self, _: &str, _: &LiveChange) -> Result<(), HypervisorError> {
        Ok(())
    }
}
