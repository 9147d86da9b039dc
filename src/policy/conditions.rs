//! Reader of a rule's conditions, `match = { … }`.

use toml_edit::{Item, TableLike, Value};

use crate::policy::glob::Glob;
use crate::policy::range::Range;
use crate::policy::reader::{Reader, scalar};
use crate::policy::rule::{MATCH_KEYS, Match};
use crate::policy::source::Problem;
use crate::policy::value::{Fault, boolean};
use crate::types::uuid;

/// Reads the conditions of one rule. Problems go to `reader`.
pub(crate) fn read(reader: &mut Reader, table: &dyn TableLike) -> Match {
    const PATTERN: &str = "a pattern such as \"db-*\", or a list of them";
    // Conditions that fail stay empty: the problem refuses the whole policy in any case.
    let mut out = Match::default();
    // Each key has its own kind of value; an unknown key may be a typing error and is refused.
    for (name, item) in table.iter() {
        let pattern = |text: &str| {
            Glob::parse(text).map_err(|error| Fault {
                problem: Some(error.to_string()),
                suggestion: None,
                offset: Some(error.offset),
            })
        };
        match name {
            "name" => {
                out.name = each(reader, table, name, item, PATTERN, |text| match text {
                    "" => Err(Fault::because("no guest has an empty name")),
                    _ => pattern(text),
                });
            }
            "title" => out.title = each(reader, table, name, item, PATTERN, pattern),
            "os" => {
                let expected = "a pattern over the libosinfo id such as \"*/win/*\", or a list of them";
                out.os = each(reader, table, name, item, expected, pattern);
            }
            "uuid" => out.uuid = each(reader, table, name, item, "a UUID, or a list of them", uuid),
            "vcpus" => {
                let expected = "a range such as \"4\", \"2-8\", \"8-\", \"-8\", or a list of them";
                out.vcpus = match item.as_integer().map(|count| Range::counts(&count.to_string())) {
                    Some(Ok(range)) => vec![range],
                    _ => each(reader, table, name, item, expected, Range::counts),
                };
            }
            "memory" => {
                let expected = "a range such as \"4G-\", \"-512M\", \"4G-8G\", or a list of them";
                out.memory = each(reader, table, name, item, expected, Range::sizes);
            }
            "hostdev" => out.hostdev = truth(reader, table, name, item),
            "autostart" => out.autostart = truth(reader, table, name, item),
            _ => reader.unknown(table, name, "'match'", &MATCH_KEYS),
        }
    }
    out
}

/// Reads one string, or each string of a list, with `read`.
fn each<T>(
    reader: &mut Reader,
    table: &dyn TableLike,
    name: &str,
    item: &Item,
    expected: &str,
    read: impl Fn(&str) -> Result<T, Fault>,
) -> Vec<T> {
    let fallback = reader.key_place(table, name);
    let name = format!("match.{name}");
    let one = |reader: &mut Reader, item: &Item| {
        let read = item.as_str().ok_or_else(Fault::default).and_then(&read);
        read.map_err(|fault| reader.refuse(&name, item, &fault, expected, fallback.clone()))
            .ok()
    };
    match item.as_value().and_then(Value::as_array) {
        None => one(reader, item).into_iter().collect(),
        Some(values) if values.is_empty() => {
            let place = reader.place(item.span());
            let message = format!("{name} = []: an empty list matches no guest; expected {expected}");
            reader.problems.push(Problem::at(place, message));
            Vec::new()
        }
        Some(values) => values
            .iter()
            .filter_map(|value| one(reader, &Item::Value(value.clone())))
            .collect(),
    }
}

fn truth(reader: &mut Reader, table: &dyn TableLike, name: &str, item: &Item) -> Option<bool> {
    let read = scalar(item).ok_or_else(Fault::default).and_then(|v| boolean(&v));
    let fallback = reader.key_place(table, name);
    read.map_err(|fault| reader.refuse(&format!("match.{name}"), item, &fault, "true or false", fallback))
        .ok()
}

/// Reads a UUID into the form of [`uuid::normal`].
fn uuid(text: &str) -> Result<String, Fault> {
    uuid::normal(text.trim()).ok_or_else(Fault::default)
}
