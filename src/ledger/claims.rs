//! Claims: CPUs that virtfit wrote into guests' definitions, `/etc/libvirt/qemu/NAME.xml`.
//!
//! A claim is a preference, not a hold: placement avoids claimed CPUs where it can. It counts while
//! the guest does not run; once it runs, its status file counts instead.

use crate::ledger::{Claim, guest_xml};
use crate::xml::XmlError;

/// Folder of the definitions on the host.
pub const FOLDER: &str = "/etc/libvirt/qemu";
/// Folder of links to the definitions that libvirt starts by itself.
pub const AUTOSTART_FOLDER: &str = "/etc/libvirt/qemu/autostart";

/// Returns the path on the host of a guest's definition.
pub fn path(name: &str) -> String {
    format!("{FOLDER}/{name}.xml")
}

/// Reads the claim of a definition; empty `cpus`: the definition claims nothing.
///
/// # Errors
/// The text is not XML or not a domain, or its provenance cannot be read.
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
