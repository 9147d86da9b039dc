//! Reader of one policy file: text to settings, and every problem in it.

use std::collections::BTreeMap;
use std::sync::Arc;

use toml_edit::{Document, Item, TableLike, Value};

use crate::policy::conditions;
use crate::policy::keys;
use crate::policy::reader::{Given, RULE, Reader};
use crate::policy::rule::Match;
use crate::policy::source::{Place, Problem, Source, printable};
use crate::policy::value::{Fault, number, page_size};
use crate::types::ids::KiB;

/// Size limit of a policy file, in bytes.
pub(crate) const MAX_BYTES: usize = 1 << 20;

/// Settings of one file; keys that the file does not give are absent.
#[derive(Debug, Clone, Default)]
pub(crate) struct Fragment {
    /// True if the text is not valid TOML, so that no setting of the file is known.
    pub broken: bool,
    /// Keys of `[host]`, without `reserved_hugepages`.
    pub host: BTreeMap<&'static str, Given>,
    /// `reserved_hugepages`: pages for each node, by page size.
    pub reserved_hugepages: BTreeMap<KiB, (u64, Place)>,
    /// Sections `[profile.NAME]`, by name.
    pub profiles: BTreeMap<String, ProfileFragment>,
    /// Rules (`[[rule]]`) in file order.
    pub rules: Vec<RuleFragment>,
}

/// One section `[profile.NAME]` of one file.
#[derive(Debug, Clone)]
pub(crate) struct ProfileFragment {
    /// Place of the section's header.
    pub place: Place,
    /// Value of `inherits`, with its place.
    pub inherits: Option<(String, Place)>,
    /// Other keys of the section.
    pub keys: BTreeMap<&'static str, Given>,
}

/// Rule before its profile is looked up.
#[derive(Debug, Clone)]
pub(crate) struct RuleFragment {
    /// Place of the rule's header.
    pub place: Place,
    /// Conditions of `match`.
    pub matches: Match,
    /// Value of `profile`; `None` after a problem with it.
    pub profile: Option<(String, Place)>,
}

/// Reads a policy file's text. `path` is the name in messages. Never panics, whatever the text.
pub(crate) fn parse(text: &str, path: &str) -> (Fragment, Vec<Problem>) {
    let source = Arc::new(Source::new(path, text));
    let mut reader = Reader::new(Arc::clone(&source));
    let mut out = Fragment::default();
    if text.len() > MAX_BYTES {
        out.broken = true;
        return (out, vec![too_large(path)]);
    }
    let document = match Document::parse(source.text()) {
        Ok(document) => document,
        Err(error) => {
            out.broken = true;
            return (out, vec![syntax(&reader, &error)]);
        }
    };
    let root = document.as_table();
    for (name, item) in root.iter() {
        match name {
            "host" => host(&mut reader, root, item, &mut out),
            "profile" => profiles(&mut reader, root, item, &mut out),
            "rule" => rules(&mut reader, root, item, &mut out),
            _ => reader.unknown(root, name, "the top level", &["host", "profile", "rule"]),
        }
    }
    let mut problems = reader.problems;
    problems.sort_by_key(|problem| problem.place.as_ref().map_or(0, Place::start));
    (out, problems)
}

/// Returns the problem of a file larger than [`MAX_BYTES`].
pub(crate) fn too_large(path: &str) -> Problem {
    Problem::file(path, "the file is larger than 1 MiB")
        .next("a policy is a few lines; is this the right file?")
}

fn syntax(reader: &Reader, error: &toml_edit::TomlError) -> Problem {
    let text = reader.source.text();
    let mut span = error.span().unwrap_or(text.len()..text.len());
    if span.start >= text.len() {
        // An error at the end of the file would be shown on an empty line: move it behind the last
        // text.
        let end = text.trim_end().len();
        span = end..end;
    }
    let place = reader.place(Some(span));
    let mut message = error
        .message()
        .lines()
        .map(str::trim)
        .collect::<Vec<_>>()
        .join(", ");
    if message.contains("must be quoted") {
        message.truncate(message.find(", expected").unwrap_or(message.len()));
    }
    if let Some(key) = error
        .span()
        .filter(|_| message == "duplicate key")
        .and_then(|span| text.get(span))
    {
        message = format!("duplicate key '{key}'");
    }
    if message == "duplicate key 'rule'" {
        return single_brackets(reader, place);
    }
    let problem = Problem::at(place, format!("not TOML: {}", printable(&message)));
    if message.contains("quoted") || message.contains("string") {
        problem.next("words stand in quotes: key = \"word\"; numbers, true and false do not")
    } else if message.contains("duplicate key") {
        problem.next("a key may be given once a section; take one of them out")
    } else {
        problem.next("this file is ignored until the error is fixed")
    }
}

fn host(reader: &mut Reader, root: &dyn TableLike, item: &Item, out: &mut Fragment) {
    let Some(table) = reader.table(root, "host", item, "a section, written [host]") else {
        return;
    };
    // `reserved_hugepages` is a table of its own, whose keys are page sizes, so it is no entry of
    // `keys::HOST`.
    out.host = reader.keys(table, "[host]", keys::HOST, &["reserved_hugepages"]);
    let Some(item) = table.get("reserved_hugepages") else {
        return;
    };
    let Some(pages) = reader.table(
        table,
        "reserved_hugepages",
        item,
        "a table such as { \"2M\" = 512 }",
    ) else {
        return;
    };
    for (size, item) in pages.iter() {
        // Two spellings of a size (`2M`, `2048K`) are two TOML keys: the second is a problem.
        let place = reader.key_place(pages, size);
        match page_size(size) {
            Ok(kib) => {
                let count = crate::policy::reader::scalar(item).ok_or_else(Fault::default);
                match count.and_then(|count| number(&count, 0, u32::MAX)) {
                    Ok(count) if out.reserved_hugepages.contains_key(&kib) => {
                        let message = format!("{} = {count}: this page size is given twice", printable(size));
                        reader
                            .problems
                            .push(Problem::at(place, message).next("take one of them out"));
                    }
                    Ok(count) => {
                        let place = reader.value_place(pages, size, item);
                        out.reserved_hugepages.insert(kib, (count.into(), place));
                    }
                    Err(fault) => {
                        let name = format!("reserved_hugepages.{}", printable(size));
                        reader.refuse(&name, item, &fault, "a number of pages a node", place);
                    }
                }
            }
            Err(fault) => {
                let meant = fault
                    .suggestion
                    .map_or(String::new(), |s| format!("; did you mean '{s}'?"));
                let problem = fault
                    .problem
                    .map_or(String::new(), |problem| format!("{problem}; "));
                let size = printable(size);
                reader.problems.push(Problem::at(
                    place,
                    format!("reserved_hugepages.{size}: {problem}expected a page size such as \"2M\", \"1G\"{meant}"),
                ));
            }
        }
    }
}

fn profiles(reader: &mut Reader, root: &dyn TableLike, item: &Item, out: &mut Fragment) {
    let Some(table) = reader.table(
        root,
        "profile",
        item,
        "a name with it: a profile is written [profile.NAME]",
    ) else {
        return;
    };
    for (name, item) in table.iter() {
        // A profile whose header or name is wrong is reported and left out, and the others are
        // read.
        let place = match item.span() {
            Some(span) => reader.place(Some(span)),
            None => reader.key_place(table, name),
        };
        let shown = printable(name);
        if let Some(problem) = bad_name(name) {
            let place = reader.key_place(table, name);
            reader
                .problems
                .push(Problem::at(place, format!("profile name '{shown}' {problem}")));
            continue;
        }
        let Some(own) = item.as_table_like() else {
            let place = reader.key_place(table, name);
            let raw = reader.raw(item);
            reader.problems.push(
                Problem::at(place, format!("profile.{shown} = {raw}: expected a section"))
                    .next("a profile is written [profile.NAME], its keys below it"),
            );
            continue;
        };
        let section = format!("[profile.{shown}]");
        // The reader knows every key of the table; `inherits` is read here, as it needs the other
        // profiles.
        let inherits = own.get("inherits").and_then(|item| {
            let place = reader.value_place(own, "inherits", item);
            let parent = reader.string(own, "inherits", item, "a profile's name")?;
            Some((parent, place))
        });
        let keys = reader.keys(own, &section, keys::PROFILE, &["inherits"]);
        out.profiles.insert(
            name.to_string(),
            ProfileFragment {
                place,
                inherits,
                keys,
            },
        );
    }
}

/// Returns why a profile name is not accepted. A name has to survive a command line, an XML
/// attribute and a log line.
fn bad_name(name: &str) -> Option<&'static str> {
    if name.is_empty() {
        Some("is empty")
    } else if name.chars().count() > 64 {
        Some("is longer than 64 characters")
    } else if name.starts_with('-') {
        Some("starts with '-', which reads as an option on a command line")
    } else if name.chars().any(|c| c.is_control() || c.is_whitespace()) {
        Some("has a blank or control character in it")
    } else {
        None
    }
}

fn rules(reader: &mut Reader, root: &dyn TableLike, item: &Item, out: &mut Fragment) {
    match item {
        Item::ArrayOfTables(tables) => {
            for table in tables.iter() {
                let place = match table.span() {
                    Some(span) => reader.place(Some(span)),
                    None => reader.key_place(root, "rule"),
                };
                let rule = rule(reader, table, place);
                out.rules.push(rule);
            }
        }
        Item::Value(Value::Array(tables)) if tables.iter().all(Value::is_inline_table) => {
            for value in tables.iter() {
                let place = reader.place(value.span());
                if let Some(table) = value.as_inline_table() {
                    let rule = rule(reader, table, place);
                    out.rules.push(rule);
                }
            }
        }
        _ => {
            let place = reader.key_place(root, "rule");
            reader.problems.push(double_brackets(place));
        }
    }
}

/// Returns the problem of `[rule]`.
fn double_brackets(place: Place) -> Problem {
    Problem::at(place, "a rule is written [[rule]], with double brackets")
        .next("each [[rule]] starts a new one; they are tried from the top")
}

/// Returns the problem of a `[rule]` beside `[[rule]]`, at the former: TOML finds the second of
/// them, whichever it is.
fn single_brackets(reader: &Reader, found: Place) -> Problem {
    let mut start = 0;
    for line in reader.source.text().split_inclusive('\n') {
        let text = line.trim_start();
        let inner = text.strip_prefix('[').map(str::trim_start);
        let rest = inner.and_then(|inner| inner.strip_prefix("rule"));
        if rest.is_some_and(|rest| rest.trim_start().starts_with(']')) {
            let at = start + line.len() - text.len() + 1;
            return double_brackets(reader.place(Some(at..at + text.len().min(5) - 1)));
        }
        start += line.len();
    }
    double_brackets(found)
}

fn rule(reader: &mut Reader, table: &dyn TableLike, place: Place) -> RuleFragment {
    let mut out = RuleFragment {
        place,
        matches: Match::default(),
        profile: None,
    };
    let mut told = false;
    for (name, item) in table.iter() {
        match name {
            "match" => {
                if let Some(conditions) =
                    reader.table(table, "match", item, "a table such as { name = \"db-*\" }")
                {
                    out.matches = conditions::read(reader, conditions);
                }
            }
            "profile" => {
                told = true;
                let place = reader.value_place(table, "profile", item);
                out.profile = reader
                    .string(table, "profile", item, "a profile's name")
                    .map(|name| (name, place));
            }
            _ => reader.unknown(table, name, RULE, &["match", "profile"]),
        }
    }
    if !told {
        reader.problems.push(
            Problem::at(out.place.clone(), "this rule names no profile")
                .next("add profile = \"NAME\"; 'virtfit profile list' shows the names"),
        );
    }
    out
}

#[cfg(test)]
mod tests;
