//! Claims: the CPUs virtfit wrote into definitions of guests, `/etc/libvirt/qemu/NAME.xml`.
//!
//! A claim is a wish, not a hold: placement avoids it where it can. It counts while the guest does
//! not run; then its status file rules.

use crate::ledger::{Claim, guest_xml};
use crate::xml::XmlError;

/// Where definitions are on the host.
pub const FOLDER: &str = "/etc/libvirt/qemu";
/// Links to the definitions that libvirt starts by itself.
pub const AUTOSTART_FOLDER: &str = "/etc/libvirt/qemu/autostart";

/// The definition of a guest of this name, on the host.
pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}.xml")
}

/// What a definition claims; empty `cpus`: nothing.
///
/// # Errors
/// It is not XML, not a domain, or what virtfit recorded in it cannot be read.
pub fn parse(text: &str, autostart: bool) -> Result<Claim, XmlError> {
    let guest = guest_xml::GuestXml::parse(text)?;
    if let Some(error) = guest.unreadable {
        return Err(error);
    }
    Ok(Claim {
        uuid: guest.domain.uuid,
        name: guest.domain.name,
        autostart,
        cpus: guest.wrote,
        withheld: guest.withheld,
    })
}
