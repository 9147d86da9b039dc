//! Reader of `<metadata>`: the guest's operating system and the profile it asks for.

use crate::domain::Domain;
use crate::domain::parse::{REQUEST_NAMESPACE, plain_children};
use crate::xml::Element;

/// Namespace of libosinfo's element, which virt-install writes.
const LIBOSINFO_NAMESPACE: &str = "http://libosinfo.org/xmlns/libvirt/domain/1.0";

pub(super) fn read(root: &Element<'_>, domain: &mut Domain) {
    for (note, namespace) in
        plain_children(root, "metadata").flat_map(|metadata| metadata.children_with_namespaces())
    {
        match namespace.as_deref() {
            Some(LIBOSINFO_NAMESPACE) if note.local_name() == "libosinfo" => {
                let os = note.children().find(|child| child.local_name() == "os");
                if let Some(id) = os.and_then(|os| os.attr("id")) {
                    domain.os_id = id.into_owned();
                }
            }
            Some(REQUEST_NAMESPACE) if note.local_name() == "request" && domain.request.is_none() => {
                domain.request = note.attr("profile").map(|name| name.trim().to_string());
            }
            _ => {}
        }
    }
}
