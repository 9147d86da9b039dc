//! Elements and attributes that stood in the text before virtfit, put back into it.

use std::cell::OnceCell;
use std::collections::{HashMap, HashSet};
use std::ops::Range;

use crate::rewrite::edits::Tokens;
use crate::rewrite::fragment::Fragment;
use crate::rewrite::layout::Before;
use crate::rewrite::order::Container;
use crate::rewrite::provenance::Record;
use crate::rewrite::revert::Undo;
use crate::xml::{Element, ElementId};

impl<'d> Undo<'_, 'd> {
    /// Writes the text: elements and attributes at their former positions, and no container that
    /// virtfit made and that is empty again.
    pub(super) fn finish(mut self, record: &Record<'d>) -> String {
        self.take(&record.element);
        for (container, before) in &record.containers {
            if let Some(element) = self
                .places
                .container(container)
                .filter(|_| *before == Before::Absent)
            {
                self.ours.insert(element.id());
            }
        }
        let touched = self.put_elements();
        self.put_attributes();
        let mut containers: Vec<&(Container, Before)> = record.containers.iter().collect();
        containers.sort_by_key(|(container, _)| std::cmp::Reverse(container.depth()));
        for (container, before) in containers {
            if let Some(element) = self.places.container(container)
                && !touched.contains(&element.id())
                && !self.layout.touches(container)
                && self.is_vacated(&element)
            {
                self.close(container, &element, before);
            }
        }
        let Self {
            places,
            mut edits,
            layout,
            ..
        } = self;
        layout.apply(places, &mut edits);
        edits.finish()
    }

    /// Puts elements back at their former positions and returns the containers that got some.
    fn put_elements(&mut self) -> HashSet<ElementId> {
        let mut touched = HashSet::new();
        // Former positions are found by the bytes that are removed, and from here on no more are
        // removed.
        let gone = self.edits.gone();
        let tokens = OnceCell::new();
        let mut staying: HashMap<ElementId, Vec<Range<usize>>> = HashMap::new();
        for ((container, nth), mut back) in std::mem::take(&mut self.back) {
            let parent = self.places.container_at(&container, nth);
            let parent = parent.or_else(|| self.places.container(&container));
            // A container that is missing or self-closing has no positions: the layout opens it.
            let Some(parent) = parent.filter(|parent| !parent.is_self_closing()) else {
                for (_, name, raw) in back {
                    let fragment = Fragment::Raw(raw.trim_ascii().to_string());
                    self.layout.child(container.clone(), name, 0, fragment);
                }
                continue;
            };
            touched.insert(parent.id());
            back.sort_by_key(|(position, _, _)| position.number);
            let stays = staying.entry(parent.id()).or_insert_with(|| {
                let others = parent.children().filter(|child| !self.ours.contains(&child.id()));
                others.map(|child| child.span()).collect()
            });
            // Of the elements that stay and those put back before, `number` stand before the next
            // one.
            let mut before = 0;
            let mut end = parent.start_tag_span().end;
            for (turn, (position, _, raw)) in back.into_iter().enumerate() {
                let reached = position.number.saturating_sub(turn).min(stays.len());
                if let Some(last) = stays.get(before..reached).and_then(<[_]>::last) {
                    end = last.end;
                    before = reached;
                }
                let limit = stays
                    .get(before)
                    .map_or(parent.inner_span().end, |span| span.start);
                let text = self.places.text;
                // The gap is passed where whole comments and the like still fill it.
                if position.gap > 0
                    && let Some(at) = gone.walk(end, position.gap, limit)
                    && text.is_char_boundary(at)
                    && tokens.get_or_init(|| Tokens::of(text)).is_between(at)
                {
                    end = at;
                }
                self.edits.insert(end, raw);
            }
        }
        touched
    }

    fn put_attributes(&mut self) {
        for (id, mut back) in std::mem::take(&mut self.attributes_back) {
            let element = self.places.document_element(id);
            back.sort();
            let stays: Vec<usize> = element
                .raw_attrs()
                .filter(|(name, _)| !self.edits.removes_attribute(&element, name))
                .filter_map(|(name, _)| element.attr_span(name))
                .map(|span| span.end)
                .collect();
            let mut next = stays.iter();
            let mut count = 0;
            let mut end = element.name_span().end;
            for (number, raw) in back {
                while count < number
                    && let Some(span_end) = next.next()
                {
                    end = *span_end;
                    count += 1;
                }
                self.edits.insert(end, raw);
                count += 1;
            }
        }
    }

    /// Returns true if nothing is left in a container.
    fn is_vacated(&self, element: &Element<'d>) -> bool {
        let text = self.places.text;
        let mut from = element.inner_span().start;
        for child in element.children() {
            if !self.edits.removes(&child) || !text[from..child.span().start].trim_ascii().is_empty() {
                return false;
            }
            from = child.span().end;
        }
        text[from..element.inner_span().end].trim_ascii().is_empty()
    }

    /// Restores the former state of a container that is empty again.
    fn close(&mut self, container: &Container, element: &Element<'d>, before: &Before) {
        match before {
            Before::Absent => {
                // libvirt writes the mode of `<hyperv>` out.
                let ours = |name: &str, value: &str| match container {
                    Container::DiskDriver(_) => matches!((name, value), ("name", "qemu") | ("type", "raw")),
                    Container::Clock => (name, value) == ("offset", "utc"),
                    Container::Hyperv => (name, value) == ("mode", "custom"),
                    _ => false,
                };
                let bare = element
                    .raw_attrs()
                    .all(|(name, value)| self.edits.removes_attribute(element, name) || ours(name, value));
                if bare {
                    self.take(element);
                }
            }
            Before::SelfClosing if !element.is_self_closing() => {
                let range = element.start_tag_span().end - 1..element.span().end;
                self.edits.replace(range, "/>".into());
            }
            Before::Blank(space) if !element.is_self_closing() => {
                self.edits.replace(element.inner_span(), space.clone());
            }
            _ => {}
        }
    }
}
