//! Reader of one section of a policy file: keys to checked values, everything wrong to problems.

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::Arc;

use toml_edit::{Item, TableLike, Value};

use crate::policy::keys;
use crate::policy::keys::{Key, RESERVED};
use crate::policy::rule::MATCH_KEYS;
use crate::policy::source::{Place, Problem, Source, printable};
use crate::policy::suggest::{did_you_mean, nearest};
use crate::policy::value::{Fault, Scalar};

/// Name of a rule in messages.
pub(crate) const RULE: &str = "[[rule]]";

/// Value that a file gives, in canonical form, with its place.
#[derive(Debug, Clone)]
pub(crate) struct Given {
    /// Value that the key's `set` accepts.
    pub value: Scalar,
    /// Place of the value.
    pub place: Place,
}

/// Reader of one file's sections that collects the problems.
pub(crate) struct Reader {
    /// File that is read.
    pub source: Arc<Source>,
    /// Problems found so far.
    pub problems: Vec<Problem>,
}

impl Reader {
    /// Starts without problems.
    pub(crate) fn new(source: Arc<Source>) -> Self {
        Self {
            source,
            problems: Vec::new(),
        }
    }

    /// Returns the place of a span; the beginning of the file where TOML gives no span.
    pub(crate) fn place(&self, span: Option<Range<usize>>) -> Place {
        Place::new(&self.source, span.unwrap_or(0..0))
    }

    /// Returns the place of a key in its table.
    pub(crate) fn key_place(&self, table: &dyn TableLike, name: &str) -> Place {
        self.place(table.key(name).and_then(toml_edit::Key::span))
    }

    /// Returns the place of a value; the key's where a dotted table has no place of its own.
    pub(crate) fn value_place(&self, table: &dyn TableLike, name: &str, item: &Item) -> Place {
        match item.span() {
            Some(span) => self.place(Some(span)),
            None => self.key_place(table, name),
        }
    }

    /// Returns a value as the file spells it, cut to one line of 48 characters, for a message.
    pub(crate) fn raw(&self, item: &Item) -> String {
        let text = item
            .span()
            .and_then(|span| self.source.text().get(span))
            .unwrap_or("");
        match item {
            Item::Table(_) => "a table".into(),
            Item::ArrayOfTables(_) => "a list of tables".into(),
            _ => {
                let line = text.lines().next().unwrap_or("");
                let cut: String = line.chars().take(48).collect();
                let more = if cut.len() < text.len() { "..." } else { "" };
                printable(&format!("{cut}{more}"))
            }
        }
    }

    /// Reports a value that its key does not accept.
    pub(crate) fn refuse(&mut self, name: &str, item: &Item, fault: &Fault, expected: &str, fallback: Place) {
        let raw = self.raw(item);
        let place = match (item.span(), fault.offset, item.as_str()) {
            (Some(span), Some(offset), Some(text)) => {
                // The offset counts in the string. It is one in the file only where the string
                // stands there without escapes.
                let plain = span.end.saturating_sub(span.start) == text.len() + 2;
                let start = span.start + 1 + offset;
                let inside = plain && start < span.end && self.source.text().is_char_boundary(start);
                self.place(Some(if inside { start..start + 1 } else { span }))
            }
            (Some(span), ..) => self.place(Some(span)),
            (None, ..) => fallback,
        };
        let kind = match item {
            Item::Value(Value::Float(_)) => Some("a fraction is not accepted"),
            Item::Value(Value::Datetime(_)) => Some("a date is not accepted"),
            Item::Value(Value::Array(_)) => Some("a list is not accepted"),
            _ => None,
        };
        let meant = match &fault.suggestion {
            Some(word) if word.starts_with('"') => format!("; did you mean {word}?"),
            Some(word) => format!("; did you mean '{word}'?"),
            None => String::new(),
        };
        self.problems.push(match fault.problem.as_deref().or(kind) {
            None => Problem::at(place, format!("{name} = {raw}: expected {expected}{meant}")),
            Some(problem) => Problem::at(place, format!("{name} = {raw}: {problem}{meant}"))
                .next(crate::policy::text::wrapped(&format!("expected {expected}"), 2)),
        });
    }

    /// Returns the entries of a table, or reports that a table was expected.
    pub(crate) fn table<'a>(
        &mut self,
        owner: &dyn TableLike,
        name: &str,
        item: &'a Item,
        expected: &str,
    ) -> Option<&'a dyn TableLike> {
        let table = item.as_table_like();
        if table.is_none() {
            let place = self.key_place(owner, name);
            let raw = self.raw(item);
            self.problems
                .push(Problem::at(place, format!("{name} = {raw}: expected {expected}")));
        }
        table
    }

    /// Returns a string, or reports that one was expected.
    pub(crate) fn string(
        &mut self,
        owner: &dyn TableLike,
        name: &str,
        item: &Item,
        expected: &str,
    ) -> Option<String> {
        match item.as_str() {
            Some(text) => Some(text.to_string()),
            None => {
                let fallback = self.key_place(owner, name);
                self.refuse(name, item, &Fault::default(), expected, fallback);
                None
            }
        }
    }

    /// Reports a key that does not exist in its section: reserved, misplaced, misspelt or unknown.
    pub(crate) fn unknown(&mut self, table: &dyn TableLike, name: &str, section: &str, known: &[&str]) {
        let place = self.key_place(table, name);
        let shown = printable(name);
        let problem = if RESERVED.contains(&name) {
            Problem::at(place, format!("'{shown}' is a reserved word: not yet supported"))
                .next("take it out; a later version gives it its meaning")
        } else if let Some(home) = home_of(name, section) {
            Problem::at(
                place,
                format!("'{shown}' does not belong in {section} but in {home}"),
            )
        } else if let Some(word) = nearest(name, known.iter().copied()) {
            Problem::at(
                place,
                format!("unknown key '{shown}' in {section}; did you mean '{word}'?"),
            )
        } else {
            let elsewhere = keys::HOST
                .iter()
                .map(|key| key.path)
                .chain(keys::top_names(keys::PROFILE));
            let hint = did_you_mean(name, elsewhere.chain(MATCH_KEYS));
            Problem::at(place, format!("unknown key '{shown}' in {section}{hint}")).next(
                crate::policy::text::wrapped(&format!("{section} takes: {}", known.join(", ")), 2),
            )
        };
        self.problems.push(problem);
    }

    /// Reads the keys of a section, except `own`, which the caller reads.
    pub(crate) fn keys<T: Default>(
        &mut self,
        table: &dyn TableLike,
        section: &str,
        all: &'static [Key<T>],
        own: &[&'static str],
    ) -> BTreeMap<&'static str, Given> {
        let mut out = BTreeMap::new();
        for (name, item) in table.iter() {
            if own.contains(&name) {
                continue;
            }
            if let Some(key) = keys::find(all, name).filter(|_| !name.contains('.')) {
                self.key(table, name, item, key, &mut out);
                continue;
            }
            let members = keys::members(all, name);
            if members.is_empty() {
                let mut known = keys::top_names(all);
                known.extend(own);
                self.unknown(table, name, section, &known);
                continue;
            }
            let expected = format!("a table with {}", members.join(", "));
            let Some(nested) = self.table(table, name, item, &expected) else {
                continue;
            };
            for (sub, item) in nested.iter() {
                match keys::find(all, &format!("{name}.{sub}")) {
                    Some(key) => self.key(nested, sub, item, key, &mut out),
                    None => self.unknown(nested, sub, &format!("'{name}' of {section}"), &members),
                }
            }
        }
        out
    }

    fn key<T: Default>(
        &mut self,
        table: &dyn TableLike,
        name: &str,
        item: &Item,
        key: &'static Key<T>,
        out: &mut BTreeMap<&'static str, Given>,
    ) {
        let mut scratch = T::default();
        let read = scalar(item)
            .ok_or_else(Fault::default)
            .and_then(|value| (key.set)(&mut scratch, &value));
        match read {
            Ok(()) => {
                let given = Given {
                    value: (key.get)(&scratch),
                    place: self.value_place(table, name, item),
                };
                out.insert(key.path, given);
            }
            Err(fault) => {
                let fallback = self.key_place(table, name);
                self.refuse(key.path, item, &fault, &(key.expected)(), fallback);
            }
        }
    }
}

/// Returns a plain value; `None` for tables, fractions, dates and lists of anything but strings.
pub(crate) fn scalar(item: &Item) -> Option<Scalar> {
    match item.as_value()? {
        Value::String(text) => Some(Scalar::Text(text.value().clone())),
        Value::Integer(number) => Some(Scalar::Int(*number.value())),
        Value::Boolean(on) => Some(Scalar::Bool(*on.value())),
        Value::Array(values) => {
            let texts = values.iter().map(|value| value.as_str().map(str::to_string));
            texts.collect::<Option<Vec<String>>>().map(Scalar::List)
        }
        _ => None,
    }
}

/// Names the section to which a misplaced key belongs.
fn home_of(name: &str, section: &str) -> Option<String> {
    if section == RULE && MATCH_KEYS.contains(&name) {
        return Some("its 'match'".into());
    }
    if keys::top_names(keys::HOST).contains(&name) || name == "reserved_hugepages" {
        return Some("[host]".into());
    }
    if keys::top_names(keys::PROFILE).contains(&name) || name == "inherits" {
        return Some("[profile.NAME]".into());
    }
    let owners: Vec<String> = keys::PROFILE
        .iter()
        .filter_map(|key| key.path.split_once('.'))
        .filter(|(_, member)| *member == name)
        .map(|(owner, _)| format!("'{owner}'"))
        .collect();
    if !owners.is_empty() {
        return Some(format!("{} of a profile", owners.join(" or ")));
    }
    MATCH_KEYS.contains(&name).then(|| "the 'match' of a rule".into())
}
