//! Placement of new children in their containers: in the order of libvirt's formatter, indented
//! like their surroundings.
//!
//! A new element always follows a byte that is not white space, and brings the white space before
//! it along. So removing it with the white space before it restores the text exactly.

use std::collections::{BTreeMap, HashMap};

use crate::rewrite::edits::{Edits, space_start};
use crate::rewrite::fragment::{Content, Fragment, Lead};
use crate::rewrite::order::{Container, Rank};
use crate::rewrite::places::Places;
use crate::xml::Element;

/// Children and attributes for one container.
#[derive(Default)]
struct Pending {
    children: Vec<(Rank, Fragment)>,
    /// Attributes of a container that has to be made.
    attributes: Vec<(&'static str, String)>,
}

/// State of a container before the first child was added.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Before {
    /// Missing.
    Absent,
    /// Self-closing: `<name/>`.
    SelfClosing,
    /// Empty but for this white space.
    Blank(String),
}

/// New children and attributes, by container.
#[derive(Default)]
pub(super) struct Layout {
    pending: BTreeMap<Container, Pending>,
}

impl Layout {
    /// Adds a child to a container.
    pub(super) fn child(&mut self, container: Container, name: &str, number: u32, fragment: Fragment) {
        let place = container.place(name).unwrap_or(u16::MAX);
        let pending = self.pending.entry(container).or_default();
        pending.children.push(((place, number), fragment));
    }

    /// Adds an attribute to a container that has to be made.
    pub(super) fn attribute(&mut self, container: Container, name: &'static str, value: &str) {
        let pending = self.pending.entry(container).or_default();
        pending.attributes.push((name, value.to_string()));
    }

    /// Replaces an element by a new one in its place.
    pub(super) fn replace<'d>(
        places: &Places<'d>,
        element: &Element<'d>,
        new: &Fragment,
        edits: &mut Edits<'d>,
    ) {
        let lead = Style::of(places).at(places.text, element);
        let mut out = String::new();
        new.render(&lead, &mut out);
        edits.replace(element.span(), out);
    }

    /// Replaces all children that wait for a container by one.
    pub(super) fn only_child(&mut self, container: Container, fragment: Fragment) {
        let pending = self.pending.entry(container).or_default();
        pending.children = vec![((u16::MAX, 0), fragment)];
    }

    /// Returns true if children or attributes wait for a container.
    pub(super) fn touches(&self, container: &Container) -> bool {
        self.pending.contains_key(container)
    }

    /// Lists the containers that have to be made or opened, the outer ones first.
    pub(super) fn containers(&self, places: &Places<'_>) -> Vec<(Container, Before)> {
        let mut out = BTreeMap::new();
        for container in self.pending.keys() {
            let mut next = Some(container.clone());
            while let Some(container) = next {
                let before = match places.container(&container) {
                    None => Some(Before::Absent),
                    Some(element) => before(places.text, &element),
                };
                let Some(before) = before else { break };
                next = container.parent().filter(|_| before == Before::Absent);
                out.insert((container.depth(), container), before);
            }
        }
        out.into_iter()
            .map(|((_, container), before)| (container, before))
            .collect()
    }

    /// Turns all children and attributes into edits.
    pub(super) fn apply<'d>(mut self, places: &Places<'d>, edits: &mut Edits<'d>) {
        let style = Style::of(places);
        // Inner containers first: a container that has to be made becomes a child of the next outer
        // one.
        let mut order: Vec<Container> = self.pending.keys().cloned().collect();
        for container in self.pending.keys() {
            let mut parent = container.parent();
            while let Some(next) = parent {
                parent = next.parent();
                order.push(next);
            }
        }
        order.sort_by_key(|container| (std::cmp::Reverse(container.depth()), container.clone()));
        order.dedup();
        for container in order {
            let Some(mut pending) = self.pending.remove(&container) else {
                continue;
            };
            pending.children.sort_by_key(|(rank, _)| *rank);
            match (places.container(&container), container.parent()) {
                (Some(element), _) => fill(&style, &container, &element, pending, edits),
                (None, Some(parent)) => {
                    let name = container.name();
                    let fragment = Fragment::Element {
                        name,
                        attributes: pending.attributes,
                        content: Content::Children(pending.children.into_iter().map(|(_, f)| f).collect()),
                    };
                    self.child(parent, name, 0, fragment);
                }
                // A missing device: the setting was refused before.
                (None, None) => {}
            }
        }
    }
}

/// Returns the state of an existing container before children are added; `None` where it has
/// content that stays.
fn before(text: &str, element: &Element<'_>) -> Option<Before> {
    if element.is_self_closing() {
        return Some(Before::SelfClosing);
    }
    let inner = &text[element.inner_span()];
    inner
        .trim_ascii()
        .is_empty()
        .then(|| Before::Blank(inner.to_string()))
}

/// Indentation of a text.
struct Style {
    step: String,
}

impl Style {
    fn of(places: &Places<'_>) -> Self {
        let lead = |element: &Element<'_>| line_lead(places.text, element.span().start);
        let child = places.root.children().next().as_ref().and_then(&lead);
        let step = match child {
            Some(child) => {
                let root = lead(&places.root).unwrap_or_default();
                let root = root.trim_start_matches(['\r', '\n']);
                let child = child.trim_start_matches(['\r', '\n']);
                child.strip_prefix(root).unwrap_or("  ").to_string()
            }
            None => "  ".to_string(),
        };
        Self { step }
    }

    /// Returns the white space for the children of an element.
    fn inside(&self, text: &str, element: &Element<'_>) -> Lead {
        let step = self.step.clone();
        let own = element
            .children()
            .find_map(|child| line_lead(text, child.span().start));
        let inner = &text[element.inner_span()];
        let first = inner.len() - inner.trim_ascii_start().len();
        // Where no child begins a line, a comment may.
        let own = own.or_else(|| line_lead(text, element.inner_span().start + first));
        match own {
            Some(own) if first < inner.len() => Lead { own, step },
            None if first < inner.len() => Lead {
                own: String::new(),
                step,
            },
            _ => self.at(text, element).deeper(),
        }
    }

    /// Returns the white space for the element itself.
    fn at(&self, text: &str, element: &Element<'_>) -> Lead {
        Lead {
            own: line_lead(text, element.span().start).unwrap_or_default(),
            step: self.step.clone(),
        }
    }
}

/// Returns the line break and indentation before `offset`; `None` where other text precedes it on
/// its line.
fn line_lead(text: &str, offset: usize) -> Option<String> {
    let space = &text[space_start(text, offset)..offset];
    let line = space.rfind('\n')?;
    let start = if space[..line].ends_with('\r') {
        line - 1
    } else {
        line
    };
    Some(space[start..].to_string())
}

fn fill<'d>(
    style: &Style,
    container: &Container,
    element: &Element<'d>,
    pending: Pending,
    edits: &mut Edits<'d>,
) {
    let text = edits.text();
    for (name, value) in &pending.attributes {
        edits.set_attribute(element, name, &crate::rewrite::fragment::escape_value(value));
    }
    if pending.children.is_empty() {
        return;
    }
    let inside = style.inside(text, element);
    if before(text, element).is_some() {
        return open(style, element, &inside, pending.children, edits);
    }
    // Existing children in libvirt's order are the landmarks for new ones.
    let records = records(container, element);
    let numbered = numbered(container, element);
    let ranked = element
        .children()
        .any(|child| container.place(child.name()).is_some());
    // Comments behind an element are searched once, however many children follow it.
    let mut passed: HashMap<usize, usize> = HashMap::new();
    for (rank, fragment) in pending.children {
        // A new child goes beside those of its name, wherever the author has them, else after the
        // last child that libvirt writes before it. `records` is ordered from the last child to the
        // first, ranks falling.
        let above = numbered.range((rank.0, 0)..=rank).next_back();
        let below = numbered.range(rank..=(rank.0, u32::MAX)).next();
        let record = records.get(records.partition_point(|(other, _)| *other > rank));
        let after = match (above, below, record) {
            (Some((_, (_, end))), _, _) => Some(*end),
            (None, Some((_, (before, _))), _) => *before,
            (None, None, Some((_, end))) => Some(*end),
            (None, None, None) if ranked => None,
            (None, None, None) => Some(space_start(text, element.inner_span().end)),
        };
        // A comment on the line of an element belongs to it, so the new child goes behind the
        // comment.
        let at = match after {
            Some(end) => *passed
                .entry(end)
                .or_insert_with(|| after_comment(text, end, element.inner_span().end)),
            None => element.start_tag_span().end,
        };
        let mut out = inside.own.clone();
        fragment.render(&inside, &mut out);
        edits.insert(at, out);
    }
}

/// Adds the first children to an empty container.
fn open<'d>(
    style: &Style,
    element: &Element<'d>,
    inside: &Lead,
    children: Vec<(Rank, Fragment)>,
    edits: &mut Edits<'d>,
) {
    let text = edits.text();
    let mut out = String::new();
    for (_, fragment) in children {
        out.push_str(&inside.own);
        fragment.render(inside, &mut out);
    }
    out.push_str(&style.at(text, element).own);
    if element.is_self_closing() {
        let end = element.span().end;
        edits.replace(end - 2..end, format!(">{out}</{}>", element.name()));
    } else {
        edits.replace(element.inner_span(), out);
    }
}

/// Returns a child's place and number.
fn rank_of(container: &Container, child: &Element<'_>) -> Option<Rank> {
    let number = Container::number_of(child.name())
        .and_then(|name| child.attr(name))
        .and_then(|text| text.trim().parse().ok())
        .unwrap_or(0);
    Some((container.place(child.name())?, number))
}

/// Maps each rank to the end of the child before its first element (`None` where that is the first
/// child) and to the end of its last element.
fn numbered(container: &Container, element: &Element<'_>) -> BTreeMap<Rank, (Option<usize>, usize)> {
    let mut out = BTreeMap::new();
    let mut before = None;
    for child in element.children() {
        let end = child.span().end;
        if let Some(rank) = rank_of(container, &child) {
            out.entry(rank)
                .and_modify(|(_, last)| *last = end)
                .or_insert((before, end));
        }
        before = Some(end);
    }
    out
}

/// Lists, from the last child to the first, each child whose rank is smaller than the ranks of all
/// children after it, with its end.
fn records(container: &Container, element: &Element<'_>) -> Vec<(Rank, usize)> {
    let children: Vec<Element<'_>> = element.children().collect();
    let mut records: Vec<(Rank, usize)> = Vec::new();
    for child in children.iter().rev() {
        let Some(rank) = rank_of(container, child) else {
            continue;
        };
        if records.last().is_none_or(|(last, _)| rank < *last) {
            records.push((rank, child.span().end));
        }
    }
    records
}

/// Returns the offset behind comments that follow on the same line: they belong to the element
/// before them.
fn after_comment(text: &str, end: usize, limit: usize) -> usize {
    let rest = &text[end..limit];
    let mut at = 0;
    loop {
        let tail = rest[at..].trim_start_matches([' ', '\t']);
        let skipped = rest.len() - tail.len();
        if tail.starts_with("<!--")
            && let Some(length) = tail.find("-->")
        {
            at = skipped + length + 3;
        } else {
            let ends_line = tail.starts_with(['\n', '\r']);
            return if ends_line { end + at } else { end };
        }
    }
}
