//! Order of the rooms of `src/`: each uses only rooms below it, and files form no cycle but the
//! named ones.
#![allow(clippy::unwrap_used)]

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

/// Rooms from the bottom to the top.
const LADDER: [&str; 26] = [
    "version",
    "panics",
    "types",
    "logging",
    "xml",
    "domain",
    "hostfs",
    "host",
    "rewrite",
    "policy",
    "placement",
    "ledger",
    "engine",
    "snapshot",
    "libvirt",
    "hook_events",
    "live",
    "apply",
    "status",
    "map",
    "measure",
    "check",
    "recommend",
    "daemon",
    "render",
    "cli",
];

/// Files that use each other, with the reason. Each group is one thing in several files.
const CIRCLES: [(&[&str], &str); 5] = [
    (
        &["types::cpulist", "types::idset"],
        "a set prints itself as a cpulist, and a cpulist is read into a set",
    ),
    (
        &["xml::read", "xml::tree"],
        "the parser and the tree that it builds",
    ),
    (
        &["policy::checks", "policy::merge"],
        "merging asks the checks, which look at what is merged",
    ),
    (
        &["placement::explain", "placement::given_pins"],
        "reasons for pins that were given, and for the lack of a place",
    ),
    (
        &["placement::cores", "placement::threading", "placement::twins"],
        "a site's cores, and the threads of them that a guest core may take",
    ),
];

/// Lists the library's files by module path, without tests: `hostfs::resolve`.
fn modules() -> BTreeMap<String, PathBuf> {
    fn walk(folder: &Path, out: &mut Vec<PathBuf>) {
        for entry in fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() && !path.ends_with("bin") {
                walk(&path, out);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                out.push(path);
            }
        }
    }
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    let mut files = Vec::new();
    walk(&src, &mut files);
    let mut out = BTreeMap::new();
    for path in files {
        let relative = path.strip_prefix(&src).unwrap().with_extension("");
        let mut parts: Vec<&str> = relative.iter().map(|part| part.to_str().unwrap()).collect();
        if parts.contains(&"tests") || parts == ["main"] || parts == ["lib"] {
            continue;
        }
        if parts.last() == Some(&"mod") {
            parts.pop();
        }
        out.insert(parts.join("::"), path.clone());
    }
    assert!(out.len() > 200, "{}", out.len());
    out
}

/// Returns a file's code without comments and without its tests, which stand last.
fn code(path: &Path) -> String {
    let text = fs::read_to_string(path).unwrap();
    let text = text.split("\n#[cfg(test)]").next().unwrap();
    let lines = text.lines().filter(|line| !line.trim_start().starts_with("//"));
    lines.collect::<Vec<_>>().join("\n")
}

/// Lists every path behind `crate::` and behind `super::`, with groups taken apart.
fn paths(code: &str, module: &str) -> Vec<String> {
    let mut out = Vec::new();
    for (start, keyword) in ["crate::", "super::"]
        .iter()
        .flat_map(|keyword| code.match_indices(keyword))
    {
        let before = code[..start].chars().next_back();
        if before.is_some_and(|c| c.is_alphanumeric() || c == '_' || c == ':') {
            continue;
        }
        let mut rest = &code[start + keyword.len()..];
        let mut base: Vec<&str> = Vec::new();
        if keyword == "super::" {
            base = module.split("::").collect();
            base.pop();
            while let Some(less) = rest.strip_prefix("super::") {
                base.pop();
                rest = less;
            }
        }
        let mut prefix = base.join("::");
        if !prefix.is_empty() {
            prefix.push_str("::");
        }
        expand(&prefix, rest, &mut out);
    }
    out
}

/// Splits a group into its paths: `a::{b, c::d}`.
fn expand(prefix: &str, rest: &str, out: &mut Vec<String>) {
    let end = rest
        .find(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':'))
        .unwrap_or(rest.len());
    let head = &rest[..end];
    if !rest[end..].starts_with('{') || !(head.is_empty() || head.ends_with("::")) {
        out.push(format!("{prefix}{}", head.trim_end_matches(':')));
        return;
    }
    let mut depth = 0;
    let mut from = end + 1;
    for (at, c) in rest[end..].char_indices().map(|(at, c)| (at + end, c)) {
        match c {
            '{' => depth += 1,
            '}' => depth -= 1,
            _ => {}
        }
        if (c == ',' && depth == 1) || depth == 0 {
            let item = rest[from..at].trim();
            if !item.is_empty() {
                expand(&format!("{prefix}{head}"), item, out);
            }
            from = at + 1;
        }
        if depth == 0 {
            return;
        }
    }
}

/// Returns the module that a path leads into.
fn owner<'m>(path: &str, modules: &'m BTreeMap<String, PathBuf>) -> Option<&'m str> {
    let mut path = path;
    loop {
        if let Some((module, _)) = modules.get_key_value(path) {
            return Some(module);
        }
        path = path.rsplit_once("::")?.0;
    }
}

/// Lists the modules that each module uses. A `mod.rs` that hands work down to the files of its own
/// room does not count: it is the room's face.
fn arrows(modules: &BTreeMap<String, PathBuf>) -> BTreeMap<&str, BTreeSet<&str>> {
    let mut out = BTreeMap::new();
    for (module, path) in modules {
        let code = code(path);
        let taken: BTreeSet<&str> = paths(&code, module)
            .iter()
            .filter_map(|path| owner(path, modules))
            .filter(|other| *other != module)
            .collect();
        out.insert(module.as_str(), taken);
    }
    out
}

fn room(module: &str) -> &str {
    module.split("::").next().unwrap()
}

#[test]
fn each_room_takes_only_from_below() {
    let modules = modules();
    let rooms: BTreeSet<&str> = modules.keys().map(|module| room(module)).collect();
    assert_eq!(
        rooms,
        LADDER.iter().copied().collect(),
        "rooms of src/, and the ladder"
    );
    let floor = |module: &str| LADDER.iter().position(|name| *name == room(module));
    let mut back = Vec::new();
    for (module, taken) in arrows(&modules) {
        for other in taken {
            if floor(other) > floor(module) {
                back.push(format!("{module} takes from {other}"));
            }
        }
    }
    assert_eq!(back, Vec::<String>::new(), "back arrows");
}

#[test]
fn files_form_no_circle_but_the_named_ones() {
    let modules = modules();
    let arrows = arrows(&modules);
    // Every module that can be reached from each module.
    let mut reached: BTreeMap<&str, BTreeSet<&str>> = BTreeMap::new();
    for module in arrows.keys() {
        let mut seen = BTreeSet::new();
        let mut open = vec![*module];
        while let Some(next) = open.pop() {
            for other in &arrows[next] {
                if seen.insert(*other) {
                    open.push(other);
                }
            }
        }
        reached.insert(module, seen);
    }
    let mut circles: BTreeSet<Vec<&str>> = BTreeSet::new();
    for (module, others) in &reached {
        if others.contains(module) {
            let with = others.iter().filter(|other| reached[**other].contains(module));
            circles.insert(with.copied().collect());
        }
    }
    let named: BTreeSet<Vec<&str>> = CIRCLES.iter().map(|(files, _)| files.to_vec()).collect();
    assert_eq!(circles, named, "circles found, and circles named");
}

#[test]
fn the_map_names_every_room() {
    let lib = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/lib.rs")).unwrap();
    let mapped: Vec<&str> = lib
        .lines()
        .filter_map(|line| line.strip_prefix("//! | [`")?.split('`').next())
        .collect();
    assert_eq!(mapped, LADDER, "rooms in the map of lib.rs, and the ladder");
}

#[test]
fn groups_are_taken_apart() {
    let code = "use crate::a::{self, b, c::{D, e::F}};\nfn f(x: crate::g::H) {}\nuse super::i::J;";
    let expected = ["a::self", "a::b", "a::c::D", "a::c::e::F", "g::H", "room::i::J"];
    assert_eq!(paths(code, "room::file"), expected);
}
