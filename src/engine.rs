//! The engine: a domain's XML and plain data in, a decision out. No clock, environment, file or libvirt.

use crate::facts::GuestFacts;
use crate::host::Host;
use crate::ledger::Ledger;
use crate::plan::{Plan, Scope};
use crate::xml::XmlError;

/// Everything a decision is made from, beside the XML.
pub struct Inputs<'a> {
    /// The host as it is now.
    pub host: &'a Host,
    /// The ledger; the guest itself may be in it.
    pub ledger: &'a Ledger,
    /// The guest's devices and images.
    pub facts: &'a GuestFacts,
    /// The door.
    pub scope: Scope,
    /// `--profile`: beats rules and requests.
    pub profile: Option<&'a str>,
}

/// What came of it.
#[derive(Debug)]
pub enum Decision {
    /// The XML stays as it is, byte for byte.
    Unchanged(Plan),
    /// The XML to use instead.
    Tuned {
        /// The whole new text.
        xml: String,
        /// Why it looks like that.
        plan: Plan,
    },
    /// Policy or host say no; [`Plan::reasons`] tell why.
    Refused(Plan),
}

/// Why there is no decision: the input is broken.
#[derive(Debug, thiserror::Error)]
pub enum EngineError {
    /// The XML cannot be read.
    #[error(transparent)]
    Xml(#[from] XmlError),
    /// The policy cannot be followed on this host or for this guest.
    #[error("{0}")]
    Policy(String),
}
