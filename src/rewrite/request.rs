//! Requests of a guest for a profile: `<request>` in `<metadata>`, as `virsh metadata --set` writes
//! it.

use crate::domain::parse::{REQUEST_NAMESPACE, plain_children};
use crate::rewrite::edits::Edits;
use crate::rewrite::fragment::{Fragment, escape_value};
use crate::rewrite::layout::Layout;
use crate::rewrite::order::Container;
use crate::rewrite::places::Places;
use crate::xml::{Document, Element, XmlError};

/// Returns the text with a request for `profile`; `None`: without a request.
///
/// # Errors
/// The root is not `<domain>`.
pub fn request(document: &Document<'_>, profile: Option<&str>) -> Result<String, XmlError> {
    let places = Places::new(document)?;
    let mut edits = Edits::new(places.text);
    let is_request = |note: &Element<'_>| {
        note.local_name() == "request" && note.namespace().as_deref() == Some(REQUEST_NAMESPACE)
    };
    let found: Vec<Element<'_>> = plain_children(&places.root, "metadata")
        .flat_map(|metadata| metadata.children().collect::<Vec<_>>())
        .filter(is_request)
        .collect();
    match (profile, found.first()) {
        (Some(profile), Some(first)) => {
            edits.set_attribute(first, "profile", &escape_value(profile));
            found.iter().skip(1).for_each(|more| edits.remove(more));
        }
        (Some(profile), None) => {
            let fragment = Fragment::new("virtfitreq:request")
                .attr("xmlns:virtfitreq", REQUEST_NAMESPACE)
                .attr("profile", profile);
            let mut layout = Layout::default();
            layout.child(Container::Metadata, "request", 0, fragment);
            layout.apply(&places, &mut edits);
        }
        (None, _) => {
            let metadata = found.first().and_then(Element::parent);
            match metadata {
                // A `<metadata>` that holds nothing else is removed with the request.
                Some(metadata) if metadata.children().count() == found.len() => edits.remove(&metadata),
                _ => found.iter().for_each(|note| edits.remove(note)),
            }
        }
    }
    Ok(edits.finish())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn set(text: &str, profile: Option<&str>) -> String {
        request(&Document::parse(text).unwrap(), profile).unwrap()
    }

    fn asks(text: &str) -> Option<String> {
        crate::domain::parse::parse(&Document::parse(text).unwrap())
            .unwrap()
            .request
    }

    #[test]
    fn set_changed_and_taken_back() {
        let plain = "<domain type='kvm'>\n  <name>a</name>\n  <title>t</title>\n  <memory>1</memory>\n  <vcpu>1</vcpu>\n</domain>\n";
        let set_once = set(plain, Some("fit"));
        assert_eq!(
            set_once,
            "<domain type='kvm'>\n  <name>a</name>\n  <title>t</title>\n  <metadata>\n    <virtfitreq:request \
             xmlns:virtfitreq='https://virtfit.dev/ns/request/1' profile='fit'/>\n  </metadata>\n  \
             <memory>1</memory>\n  <vcpu>1</vcpu>\n</domain>\n"
        );
        assert_eq!(asks(&set_once).as_deref(), Some("fit"));
        let changed = set(&set_once, Some("o\"ff' & <"));
        assert_eq!(asks(&changed).as_deref(), Some("o\"ff' & <"));
        assert_eq!(set(&changed, Some("fit")), set_once);
        assert_eq!(set(&changed, None), plain);
        assert_eq!(set(plain, None), plain);
    }

    #[test]
    fn what_others_keep_there_stays() {
        let text = "<domain type='kvm'>\n  <name>a</name>\n  <metadata>\n    <x:y xmlns:x='urn:x'/>\n    <r:request xmlns:r='https://virtfit.dev/ns/request/1' profile='fit'/>\n  </metadata>\n  <memory>1</memory>\n  <vcpu>1</vcpu>\n</domain>";
        let off = set(text, Some("off"));
        assert_eq!(off, text.replace("profile='fit'", "profile='off'"));
        let none = set(text, None);
        assert!(none.contains("<x:y xmlns:x='urn:x'/>\n  </metadata>"), "{none}");
        assert_eq!(asks(&none), None);
    }
}
