//! Goldens: each folder in `fixtures/cases` is a guest on a host, and everything virtfit says about it.
//!
//! `fixtures/README.md` tells what a case is made of. `make bless` rewrites `expected/`; read the diff before it is
//! committed.
#![allow(clippy::unwrap_used)]

#[path = "common/case.rs"]
mod common;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use common::{Stage, cases, name_of, tree};

/// What a case gives: file name below `expected/`, and its bytes.
type Outputs = BTreeMap<String, Vec<u8>>;

const DOMAIN: &str = "./domain.xml";

/// The commands of a case without a `command` file, and where each one's standard output goes.
const DEFAULT: [(&str, &[&str]); 3] = [
    ("rewrite.xml", &["rewrite", DOMAIN]),
    ("plan.json", &["plan", "--json", DOMAIN]),
    ("plan.txt", &["plan", DOMAIN]),
];

fn outputs(case: &Path) -> Outputs {
    let stage = Stage::of(case);
    let before = tree(&stage.root());
    let stdin = fs::read(case.join("domain.xml")).unwrap();
    let commands = fs::read_to_string(case.join("command")).ok();
    let runs: Vec<(String, Vec<String>)> = match &commands {
        Some(lines) => lines
            .lines()
            .filter(|line| !line.trim().is_empty())
            .enumerate()
            .map(|(index, line)| {
                let name = if index == 0 {
                    "stdout".to_string()
                } else {
                    format!("stdout.{}", index + 1)
                };
                (name, line.split_whitespace().map(str::to_string).collect())
            })
            .collect(),
        None => DEFAULT
            .iter()
            .map(|(name, words)| {
                (
                    (*name).to_string(),
                    words.iter().map(|word| (*word).to_string()).collect(),
                )
            })
            .collect(),
    };
    let mut out = Outputs::new();
    let mut stderr = Vec::new();
    let mut exit = String::new();
    for (name, words) in &runs {
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let stdin: &[u8] = if words.contains(&DOMAIN) { &[] } else { &stdin };
        let got = stage.run(&words, stdin);
        if !got.stdout.is_empty() {
            out.insert(name.clone(), stage.normalise(&got.stdout));
        }
        let line = words.join(" ");
        if !got.stderr.is_empty() {
            stderr.extend(format!("$ virtfit {line}\n").into_bytes());
            stderr.extend(stage.normalise(&got.stderr));
        }
        match got.status.code() {
            Some(code) => exit.push_str(&format!("{code} {line}\n")),
            None => exit.push_str(&format!("killed ({}) {line}\n", got.status)),
        }
    }
    if !stderr.is_empty() {
        out.insert("stderr".into(), stderr);
    }
    out.insert("exit".into(), exit.into_bytes());
    let written = changed(&before, &tree(&stage.root()));
    if !written.is_empty() {
        out.insert("files".into(), written.into_bytes());
    }
    out
}

/// What the commands wrote below the root, by path: a reservation holds pids and times, so not its bytes.
fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (path, bytes) in after {
        match before.get(path) {
            None => lines.push(format!("+ {path}\n")),
            Some(old) if old != bytes => lines.push(format!("! {path}\n")),
            Some(_) => {}
        }
    }
    lines.extend(
        before
            .keys()
            .filter(|path| !after.contains_key(*path))
            .map(|path| format!("- {path}\n")),
    );
    lines.concat()
}

/// The differences for a reader; empty where there are none.
fn compare(case: &str, want: &Outputs, got: &Outputs) -> String {
    let mut out = String::new();
    for name in want
        .keys()
        .chain(got.keys().filter(|name| !want.contains_key(*name)))
    {
        let text = |side: &Outputs| {
            side.get(name)
                .map(|bytes| String::from_utf8_lossy(bytes).into_owned())
        };
        match (text(want), text(got)) {
            (Some(_), None) => out.push_str(&format!("{case}: {name} is missing\n")),
            (None, Some(text)) => out.push_str(&format!("{case}: {name} is not expected:\n{text}\n")),
            (Some(want), Some(got)) if want != got => {
                let style = virtfit::render::Style {
                    unicode: true,
                    ..Default::default()
                };
                out.push_str(&virtfit::render::diff::unified(
                    &want,
                    &got,
                    &format!("{case}/{name}"),
                    &style,
                ));
            }
            _ => {}
        }
    }
    out
}

fn bless(case: &Path, got: &Outputs) {
    let folder = case.join("expected");
    if folder.exists() {
        fs::remove_dir_all(&folder).unwrap();
    }
    fs::create_dir(&folder).unwrap();
    for (name, bytes) in got {
        fs::write(folder.join(name), bytes).unwrap();
    }
}

#[test]
#[ignore = "until the commands are there and the cases are blessed"]
fn every_case_gives_what_is_expected() {
    let blessing = std::env::var_os("VIRTFIT_BLESS").is_some();
    let mut wrong = Vec::new();
    for case in cases() {
        let name = name_of(&case);
        let got = outputs(&case);
        if blessing {
            bless(&case, &got);
        } else if !case.join("expected").is_dir() {
            wrong.push(format!("{name}: no expected folder; `make bless` makes it\n"));
        } else {
            let differences = compare(&name, &tree(&case.join("expected")), &got);
            if !differences.is_empty() {
                wrong.push(differences);
            }
        }
    }
    assert!(!blessing, "blessed: read the diff and commit");
    assert!(
        wrong.is_empty(),
        "{} cases differ:\n{}\n`make bless` rewrites them; then read the diff",
        wrong.len(),
        wrong.concat()
    );
}

/// Cases whose golden is a tuned XML.
fn tuned() -> Vec<(std::path::PathBuf, Vec<u8>)> {
    cases()
        .into_iter()
        .filter(|case| !case.join("command").exists())
        .filter_map(|case| {
            let output = fs::read(case.join("expected/rewrite.xml")).ok()?;
            let input = fs::read(case.join("domain.xml")).unwrap();
            (output != input).then_some((case, output))
        })
        .collect()
}

#[test]
fn rewriting_twice_is_rewriting_once() {
    let mut wrong = Vec::new();
    for (case, output) in tuned() {
        let stage = Stage::of(&case);
        let again = stage.run(&["rewrite", "-"], &output);
        let (output, again) = (
            String::from_utf8_lossy(&output),
            String::from_utf8_lossy(&again.stdout),
        );
        if output != again {
            let style = virtfit::render::Style::default();
            wrong.push(virtfit::render::diff::unified(
                &output,
                &again,
                &name_of(&case),
                &style,
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

#[test]
fn reverting_gives_the_bytes_back() {
    let mut wrong = Vec::new();
    for (case, output) in tuned() {
        let stage = Stage::of(&case);
        let input = fs::read(case.join("domain.xml")).unwrap();
        let back = stage.run(&["revert", "-"], &output);
        if back.stdout != input {
            let (input, back) = (
                String::from_utf8_lossy(&input),
                String::from_utf8_lossy(&back.stdout),
            );
            let style = virtfit::render::Style::default();
            wrong.push(virtfit::render::diff::unified(
                &input,
                &back,
                &name_of(&case),
                &style,
            ));
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.concat());
}

/// libvirt's schema takes what virtfit writes, and the inputs, so that a complaint is about our part.
#[test]
#[ignore = "needs xmllint and libvirt's schema; run by make test"]
fn libvirts_schema_accepts_every_domain() {
    let schema = "/usr/share/libvirt/schemas/domain.rng";
    assert!(
        Path::new(schema).exists(),
        "{schema} is missing: install libvirt's (libvirt0, libvirt-libs)"
    );
    let mut files: Vec<std::path::PathBuf> = Vec::new();
    for (case, _) in tuned() {
        files.extend([case.join("domain.xml"), case.join("expected/rewrite.xml")]);
    }
    assert!(!files.is_empty(), "no case has a golden; `make bless` makes them");
    let got = Command::new("xmllint")
        .args(["--noout", "--relaxng", schema])
        .args(&files)
        .output();
    let got = got.unwrap_or_else(|error| panic!("xmllint: {error}; install libxml2-utils"));
    let report = String::from_utf8_lossy(&got.stderr);
    let bad: Vec<&str> = report
        .lines()
        .filter(|line| !line.ends_with(" validates"))
        .collect();
    assert!(got.status.success(), "{}", bad.join("\n"));
}
