//! The provenance: virtfit's own element in `<metadata>`, as XML and as data.
//!
//! White space in attribute values is escaped, so libvirt keeps it through any reformatting. Only
//! what is needed to take a setting back is recorded:
//!
//! - `<set at= wrote=>`: a setting; without `wrote` virtfit removed something.
//! - `<was/>` in it, where something was there before: with `attr` an attribute rather than an
//!   element, `raw` its bytes, `pos` its former position if it was removed (for attributes their
//!   number, for elements `parent/number+gap`).
//! - `<container at=>`: an element made for settings; with `was` one that was empty (`/`:
//!   self-closing).

use std::collections::BTreeSet;
use std::str::FromStr;

use crate::domain::parse::{plain_children, short};
use crate::rewrite::fragment::Fragment;
use crate::rewrite::layout::Before;
use crate::rewrite::order::Container;
use crate::rewrite::target::{Form, form};
use crate::rewrite::value::{cells, parse, show, show_cells, show_topology, topology};
use crate::rewrite::{Head, Owned, Position, Provenance, Shape, Was, target};
use crate::types::cpulist;
use crate::types::on_no_fit::OnNoFit;
use crate::types::setting::{Target, Value};
use crate::types::uuid;
use crate::xml::tree::{MAX_ATTRIBUTES, MAX_BYTES, MAX_ELEMENTS};
use crate::xml::{Document, Element, XmlError};

/// Namespace of the provenance.
const NAMESPACE: &str = "https://virtfit.dev/ns/domain/1";
/// Prefix of the namespaces of all versions.
const FAMILY: &str = "https://virtfit.dev/ns/domain/";
const VERSION: &str = "1";
/// Limit of the pieces recorded for one setting: a `<cpu>` has four attributes and two children,
/// with room for more. Schedulers have no such limit, since each vCPU may have had one.
const MAX_PIECES: usize = 16;
/// Limit of the threads of a guest core, far above any processor's.
const MAX_THREADS: u32 = 1024;

/// Provenance as it stands in a document.
pub(crate) struct Record<'d> {
    pub(crate) element: Element<'d>,
    pub(crate) provenance: Provenance,
    pub(crate) containers: Vec<(Container, Before)>,
}

/// Builds the element of the provenance.
pub(crate) fn fragment(head: &Head, owned: &[Owned], containers: &[(Container, Before)]) -> Fragment {
    let mut fit = Fragment::new("virtfit:fit")
        .attr("xmlns:virtfit", NAMESPACE)
        .attr("version", VERSION);
    if let Some(uuid) = &head.uuid {
        fit = fit.attr("uuid", uuid);
    }
    fit = fit
        .attr("profile", &head.profile)
        .attr("policy", &head.policy_digest)
        .attr("on-no-fit", head.on_no_fit.as_str())
        .attr("threads", head.shape.threads);
    if let Some(topology) = &head.shape.topology {
        fit = fit.attr("topology", show_topology(topology));
    }
    if !head.shape.cells.is_empty() {
        fit = fit.attr("cells", show_cells(&head.shape.cells));
    }
    if !head.withheld.is_empty() {
        fit = fit.attr("withheld", &head.withheld);
    }
    for (container, before) in containers {
        let element = Fragment::new("virtfit:container").attr("at", container.label());
        fit = fit.child(match before {
            Before::Absent => element,
            Before::SelfClosing => element.attr("was", "/"),
            Before::Blank(space) => element.attr("was", space),
        });
    }
    for setting in owned {
        let mut element = Fragment::new("virtfit:set").attr("at", target::label(&setting.target));
        if let Some(text) = show(&setting.wrote) {
            element = element.attr("wrote", text);
        }
        for was in &setting.was {
            element = element.child(was_fragment(was));
        }
        fit = fit.child(element);
    }
    fit
}

fn was_fragment(was: &Was) -> Fragment {
    let element = Fragment::new("virtfit:was");
    match was {
        Was::NoAttribute { name } => element.attr("attr", name),
        Was::Attribute { name, raw } => element.attr("attr", name).attr("raw", raw),
        Was::GoneAttribute { name, raw, number } => {
            element.attr("attr", name).attr("raw", raw).attr("pos", number)
        }
        Was::Element { raw } => element.attr("raw", raw),
        Was::GoneElement { raw, position } => {
            let parent = match position.parent {
                0 => String::new(),
                nth => format!("{nth}/"),
            };
            let pos = format!("{parent}{}+{}", position.number, position.gap);
            element.attr("raw", raw).attr("pos", pos)
        }
        Was::IothreadIds { ids } => element.attr("ids", ids),
    }
}

/// Finds and reads the provenance.
///
/// # Errors
/// The element is there twice, of another version, or malformed.
pub(crate) fn read<'d>(root: &Element<'d>) -> Result<Option<Record<'d>>, XmlError> {
    // One element in the namespace is the provenance; another version's is left to that version.
    let mut found: Option<Element<'d>> = None;
    let notes = plain_children(root, "metadata").flat_map(|metadata| metadata.children_with_namespaces());
    for (note, namespace) in notes {
        let Some(namespace) = namespace else {
            continue;
        };
        if !namespace.starts_with(FAMILY) {
            continue;
        }
        if *namespace != *NAMESPACE || note.attr("version").is_some_and(|version| version != VERSION) {
            return Err(note.error(
                "written by another version of virtfit than this one; use that one, or newer, to change this domain",
            ));
        }
        if found.replace(note).is_some() {
            return Err(malformed(&note, "it is there twice"));
        }
    }
    let Some(element) = found else {
        return Ok(None);
    };
    // Every entry has to be one that virtfit writes: its bytes go back into the domain.
    let mut containers = Vec::new();
    let mut owned: Vec<Owned> = Vec::new();
    let mut seen = BTreeSet::new();
    let mut made = BTreeSet::new();
    let head = head(&element)?;
    for child in element.children() {
        let at = child
            .attr("at")
            .ok_or_else(|| malformed(&child, "at= is missing"))?;
        let unknown = || malformed(&child, &format!("at='{}' names nothing known", short(&at)));
        match child.local_name() {
            // A container that is recorded twice would have two former states.
            "container" => {
                let container = Container::from_label(&at).ok_or_else(unknown)?;
                if !made.insert(container.clone()) {
                    return Err(malformed(&child, &format!("at='{}' is there twice", short(&at))));
                }
                let before = match child.attr("was").as_deref() {
                    None => Before::Absent,
                    Some("/") => Before::SelfClosing,
                    Some(space) if space.trim_ascii().is_empty() => Before::Blank(space.to_string()),
                    Some(_) => return Err(malformed(&child, "was= is not white space")),
                };
                containers.push((container, before));
            }
            // The number of pieces is limited before they are read: each is parsed as XML.
            "set" => {
                let target = target::from_label(&at).ok_or_else(unknown)?;
                let wrote = match child.attr("wrote") {
                    None => Value::Absent,
                    Some(text) => {
                        parse(&target, &text).ok_or_else(|| malformed(&child, "wrote= cannot be read"))?
                    }
                };
                if !seen.insert(target.clone()) {
                    return Err(malformed(&child, &format!("at='{}' is there twice", short(&at))));
                }
                let pieces = child.children().take(MAX_PIECES + 1).count();
                if pieces > MAX_PIECES && target != Target::VcpuSched {
                    let problem = format!("more than {MAX_PIECES} pieces of what was there");
                    return Err(malformed(&child, &problem));
                }
                let was: Result<Vec<Was>, XmlError> =
                    child.children().map(|was| read_was(&was, &target)).collect();
                owned.push(Owned {
                    target,
                    wrote,
                    was: was?,
                });
            }
            other => return Err(malformed(&child, &format!("<{}> is nothing known", short(other)))),
        }
    }
    Ok(Some(Record {
        element,
        provenance: Provenance { head, owned },
        containers,
    }))
}

fn head(element: &Element<'_>) -> Result<Head, XmlError> {
    let text = |name: &str| -> Result<String, XmlError> {
        match element.attr(name) {
            Some(text) => Ok(text.into_owned()),
            None => Err(malformed(element, &format!("{name}= is missing"))),
        }
    };
    let unreadable = |name: &str| malformed(element, &format!("{name}= cannot be read"));
    // The head is checked like the entries: a value that virtfit would not write makes the record
    // malformed.
    if element.local_name() != "fit" {
        return Err(malformed(
            element,
            &format!("<{}> is nothing known", short(element.name())),
        ));
    }
    text("version")?;
    let on_no_fit = text("on-no-fit")?;
    let on_no_fit = [OnNoFit::RunShared, OnNoFit::Refuse, OnNoFit::RunUntuned]
        .into_iter()
        .find(|choice| choice.as_str() == on_no_fit)
        .ok_or_else(|| unreadable("on-no-fit"))?;
    let shape_topology = match element.attr("topology") {
        None => None,
        Some(text) => match topology(&text) {
            Some(Value::Topology(topology)) => Some(topology),
            _ => return Err(unreadable("topology")),
        },
    };
    let shape_cells = match element.attr("cells").as_deref().map(cells) {
        None => Vec::new(),
        Some(Some(Value::Cells(cells, _))) => cells,
        Some(_) => return Err(unreadable("cells")),
    };
    let guest = match element.attr("uuid") {
        None => None,
        Some(text) => Some(uuid::normal(&text).ok_or_else(|| unreadable("uuid"))?),
    };
    Ok(Head {
        uuid: guest,
        profile: text("profile")?,
        policy_digest: text("policy")?,
        on_no_fit,
        withheld: cpulist::parse_plain(&element.attr("withheld").unwrap_or_default())
            .map_err(|_| unreadable("withheld"))?,
        shape: Shape {
            threads: number(&text("threads")?, MAX_THREADS).ok_or_else(|| unreadable("threads"))?,
            cells: shape_cells,
            topology: shape_topology,
        },
    })
}

fn read_was(element: &Element<'_>, target: &Target) -> Result<Was, XmlError> {
    let text = |name: &str| element.attr(name).map(|text| text.into_owned());
    let unreadable = || malformed(element, "it cannot be read");
    if element.local_name() != "was" {
        return Err(malformed(
            element,
            &format!("<{}> is nothing known", short(element.name())),
        ));
    }
    let was = match (text("attr"), text("raw"), text("pos"), text("ids")) {
        (Some(name), None, None, None) => Was::NoAttribute { name },
        (Some(name), Some(raw), None, None) => Was::Attribute { name, raw },
        (Some(name), Some(raw), Some(pos), None) => Was::GoneAttribute {
            name,
            raw,
            number: number(&pos, MAX_ATTRIBUTES).ok_or_else(unreadable)?,
        },
        (None, Some(raw), None, None) => Was::Element { raw },
        (None, Some(raw), Some(pos), None) => Was::GoneElement {
            raw,
            position: position(&pos).ok_or_else(unreadable)?,
        },
        (None, None, None, Some(ids)) => Was::IothreadIds { ids },
        _ => return Err(unreadable()),
    };
    match fits(&was, target) {
        true => Ok(was),
        false => Err(malformed(element, "its bytes are none that virtfit recorded")),
    }
}

/// Returns true if the bytes are one whole attribute or element of the kind that this target has.
/// They become part of the domain again and must not bring in anything else.
fn fits(was: &Was, target: &Target) -> bool {
    let form = form(target);
    let attribute = |name: &str| match form {
        Form::Attribute(_, expected) | Form::Keyed(_, _, expected) => name == expected,
        Form::CpuMode => matches!(name, "mode" | "check" | "match" | "migratable"),
        _ => false,
    };
    let element = |raw: &str| {
        let raw = raw.trim_ascii_start();
        let Ok(document) = Document::parse(raw) else {
            return false;
        };
        let root = document.root();
        root.span() == (0..raw.len())
            && match form {
                Form::Keyed(_, expected, _) | Form::Whole(_, expected) => root.name() == expected,
                Form::CpuMode => matches!(root.name(), "model" | "vendor"),
                Form::Sched => root.name() == "vcpusched",
                Form::Attribute(..) => false,
            }
    };
    let tag_has_only = |name: &str, attributes: &str| {
        let text = format!("<x{attributes}/>");
        Document::parse(&text).is_ok_and(|document| {
            let names: Vec<&str> = document.root().raw_attrs().map(|(name, _)| name).collect();
            names == [name] && document.root().span() == (0..text.len())
        })
    };
    match was {
        Was::NoAttribute { name } => attribute(name),
        Was::Attribute { name, raw } => {
            let quote = if raw.contains('"') { '\'' } else { '"' };
            attribute(name) && tag_has_only(name, &format!(" {name}={quote}{raw}{quote}"))
        }
        Was::GoneAttribute { name, raw, .. } => attribute(name) && tag_has_only(name, raw),
        Was::Element { raw } | Was::GoneElement { raw, .. } => element(raw),
        Was::IothreadIds { .. } => *target == Target::Iothreads,
    }
}

/// Reads `parent/number+gap`; `None` for numbers beyond any text that can be read.
fn position(text: &str) -> Option<Position> {
    let (parent, rest) = match text.split_once('/') {
        Some((parent, rest)) => (number(parent, MAX_ELEMENTS)?, rest),
        None => (0, text),
    };
    let (before, gap) = rest.split_once('+')?;
    Some(Position {
        parent,
        number: number(before, MAX_ELEMENTS)?,
        gap: number(gap, MAX_BYTES)?,
    })
}

/// Reads a number no larger than `most`.
fn number<N: FromStr + PartialOrd>(text: &str, most: N) -> Option<N> {
    text.parse().ok().filter(|number| *number <= most)
}

fn malformed(element: &Element<'_>, problem: &str) -> XmlError {
    element.error(format!(
        "virtfit's note on what it changed cannot be read: {problem}; undo the change to it, or take the whole \
         <virtfit:fit> element out with 'virsh edit' to keep the domain's settings as they are"
    ))
}
