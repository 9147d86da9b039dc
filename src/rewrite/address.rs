//! PCI addresses of devices that a revert puts back.

use crate::domain::parse::{c_number_attr, nested, plain_child};
use crate::rewrite::edits::Edits;
use crate::xml::{Document, Element};

/// Returns a device's bytes, without its PCI address where libvirt has given that address to
/// another device since. libvirt would refuse two devices at one address, and finds a free one for
/// a device without.
pub(super) fn without_taken_address(root: &Element<'_>, raw: &str) -> String {
    let bare = || -> Option<String> {
        let document = Document::parse(raw).ok()?;
        let address = plain_child(&document.root(), "address")?;
        let wanted = pci_address(&address)?;
        let taken = nested(root, &["devices"])
            .flat_map(|devices| devices.children())
            .filter_map(|device| plain_child(&device, "address"))
            .any(|other| pci_address(&other).as_ref() == Some(&wanted));
        let mut edits = Edits::new(raw);
        edits.remove(&address);
        taken.then(|| edits.finish())
    };
    bare().unwrap_or_else(|| raw.to_string())
}

/// Returns domain, bus, slot and function of an address of `type='pci'`.
fn pci_address(address: &Element<'_>) -> Option<[u32; 4]> {
    if address.attr("type")? != "pci" {
        return None;
    }
    let part = |name: &str| c_number_attr(address, name).ok().flatten().unwrap_or(0);
    Some(["domain", "bus", "slot", "function"].map(part))
}
