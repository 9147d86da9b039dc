//! Goldens: each folder in `fixtures/cases` is a guest on a host, with everything virtfit says
//! about it.
//!
//! `fixtures/README.md` describes the parts of a case. `make bless` rewrites `expected/`; read the
//! diff before it is committed.
#![allow(clippy::unwrap_used)]

#[path = "common/case.rs"]
mod common;
#[path = "common/schema.rs"]
mod schema;

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};

use common::{NEWER, Stage, cases, name_of, tree};

/// Output of a case: file name below `expected/`, and its bytes.
type Outputs = BTreeMap<String, Vec<u8>>;

const DOMAIN: &str = "./domain.xml";

/// Commands of a case without a `command` file, each with the file for its standard output.
const DEFAULT: [(&str, &[&str]); 3] = [
    ("rewrite.xml", &["rewrite", DOMAIN]),
    ("plan.json", &["plan", "--json", DOMAIN]),
    ("plan.txt", &["plan", DOMAIN]),
];

fn outputs(case: &Path, stage: &Stage) -> Outputs {
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

/// Lists the files that commands wrote below the root, by path, with the contents of virtfit's text
/// files.
fn changed(before: &BTreeMap<String, Vec<u8>>, after: &BTreeMap<String, Vec<u8>>) -> String {
    let mut lines: Vec<String> = Vec::new();
    for (path, bytes) in after {
        let sign = match before.get(path) {
            None => '+',
            Some(old) if old != bytes => '!',
            Some(_) => continue,
        };
        lines.push(format!("{sign} {path}\n"));
        if path.ends_with(".json") {
            lines.extend(shown(&String::from_utf8_lossy(bytes)));
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

/// Prints a JSON object with one key per line, without parts that differ from run to run.
fn shown(text: &str) -> Vec<String> {
    let Ok(serde_json::Value::Object(object)) = serde_json::from_str(text) else {
        return vec![format!("  (no JSON object) {text}\n")];
    };
    let line = |(key, value): (&String, &serde_json::Value)| {
        let varies = ["boot_id", "pid", "start_time", "tentative_until", "written_at"];
        match varies.contains(&key.as_str()) && !value.is_null() {
            true => format!("  {key}: ...\n"),
            false => format!("  {key}: {value}\n"),
        }
    };
    object.iter().map(line).collect()
}

/// Words the differences for a reader; empty where there are none.
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

/// Checks the laws of every tuned XML: another rewrite changes nothing, and a revert gives the
/// input's bytes.
fn laws(case: &str, stage: &Stage, input: &[u8], got: &Outputs) -> String {
    let Some(tuned) = got.get("rewrite.xml").filter(|tuned| tuned.as_slice() != input) else {
        return String::new();
    };
    let again = stage.run(&["rewrite", "-"], tuned);
    // An input that virtfit tuned earlier goes back to the text before that.
    let fresh = !String::from_utf8_lossy(input).contains("https://virtfit.dev/ns/domain/1");
    let back = stage.run_without_args(&["revert", "-"], tuned);
    let mut out = String::new();
    for (law, want, got) in [
        ("rewritten again", tuned.as_slice(), again.stdout.as_slice()),
        ("reverted", input, back.stdout.as_slice()),
    ] {
        if want != got && (fresh || law != "reverted") {
            let (want, got) = (String::from_utf8_lossy(want), String::from_utf8_lossy(got));
            let style = virtfit::render::Style::default();
            out.push_str(&virtfit::render::diff::unified(
                &want,
                &got,
                &format!("{case}, {law}"),
                &style,
            ));
        }
    }
    out
}

/// Lists everything wrong with one case; blessing writes the output instead of comparing it.
fn judge(case: &Path, blessing: bool) -> String {
    let name = name_of(case);
    let stage = Stage::of(case);
    let input = fs::read(case.join("domain.xml")).unwrap();
    let got = outputs(case, &stage);
    let expected = case.join("expected");
    let mut wrong = if blessing {
        bless(case, &got);
        String::new()
    } else if expected.is_dir() {
        compare(&name, &tree(&expected), &got)
    } else {
        format!("{name}: no expected folder; `make bless` makes it\n")
    };
    wrong.push_str(&laws(&name, &stage, &input, &got));
    wrong
}

#[test]
fn every_case_gives_what_is_expected() {
    let blessing = std::env::var_os("VIRTFIT_BLESS").is_some();
    let all = cases();
    let next = AtomicUsize::new(0);
    let workers = std::thread::available_parallelism().map_or(1, usize::from);
    let wrong: Vec<String> = std::thread::scope(|scope| {
        let work = || {
            let mut wrong = Vec::new();
            while let Some(case) = all.get(next.fetch_add(1, Ordering::Relaxed)) {
                wrong.push(judge(case, blessing));
            }
            wrong
        };
        let threads: Vec<_> = (0..workers).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .flat_map(|thread| thread.join().unwrap())
            .filter(|text| !text.is_empty())
            .collect()
    });
    assert!(
        wrong.is_empty(),
        "{} of {} cases are wrong:\n{}\n`make bless` rewrites what is expected; then read the diff",
        wrong.len(),
        all.len(),
        wrong.concat()
    );
    assert!(!blessing, "blessed: read the diff and commit");
}

/// Checks the JSON of all goldens whose command has a schema.
#[test]
fn json_follows_its_schema() {
    let read = |path: &Path| serde_json::from_slice::<serde_json::Value>(&fs::read(path).unwrap()).unwrap();
    let schema = |command: &str| {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema");
        read(&folder.join(format!("{command}.json")))
    };
    let schemas = ["map", "check"].map(|command| (command, schema(command)));
    let (mut judged, mut wrong) = (0, Vec::new());
    for case in cases() {
        let commands = fs::read_to_string(case.join("command")).unwrap_or_default();
        for (index, line) in commands.lines().enumerate() {
            let command = line.split_whitespace().next().unwrap_or_default();
            let schema = schemas.iter().find(|(name, _)| *name == command);
            let Some((_, schema)) = schema.filter(|_| line.contains("--json")) else {
                continue;
            };
            judged += 1;
            let value = read(&case.join(format!("expected/stdout.{}", index + 1)));
            let faults = schema::faults(schema, &value);
            wrong.extend(
                faults
                    .into_iter()
                    .map(|fault| format!("{}, {line}: {fault}", name_of(&case))),
            );
        }
    }
    assert!(judged > 4, "{judged}");
    assert_eq!(wrong, Vec::<String>::new());
    // The judge itself: a key too many, one too few, a wrong value.
    let empty = serde_json::json!({"version": 2, "nodes": [], "guests": [], "offline": "0", "x": 1});
    assert_eq!(schema::faults(&schemas[0].1, &empty).len(), 3);
}

/// Checks the JSON of a measurement, whose times are never the same twice.
#[test]
fn a_measurement_follows_its_schema() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/schema/measure.json");
    let schema = serde_json::from_slice(&fs::read(folder).unwrap()).unwrap();
    let stage = Stage::of(&common::fixtures().join("cases/measure"));
    let words = ["measure", "--for", "1s", "--json", "--save", "after.json"];
    for more in [
        &[][..],
        &["--compare", "before.json"],
        &["--compare", "after.json"],
    ] {
        let got = stage.run(&[&words, more].concat(), b"");
        let value = serde_json::from_slice(&got.stdout).unwrap();
        assert_eq!(schema::faults(&schema, &value), Vec::<String>::new(), "{more:?}");
        assert_eq!(value["compared"].is_null(), more.is_empty());
    }
    let saved = fs::read(stage.work().join("after.json")).unwrap();
    let saved = serde_json::from_slice(&saved).unwrap();
    assert_eq!(schema::faults(&schema, &saved), Vec::<String>::new());
    let left = fs::read_dir(stage.work()).unwrap();
    let hidden = left.filter(|entry| {
        entry
            .as_ref()
            .unwrap()
            .file_name()
            .to_string_lossy()
            .starts_with('.')
    });
    assert_eq!(hidden.count(), 0, "temporary files");
}

/// Checks that a recommendation is a policy without errors, by which no guest is refused or gets
/// CPUs that another one has, whatever guests are called.
#[test]
fn recommendations_refuse_no_guest() {
    let mut judged = 0;
    for case in cases() {
        let wanted = ["recommend", "map-r", "map-h", "map-snc", "check-", "status"];
        if !wanted.iter().any(|start| name_of(&case).starts_with(start)) {
            continue;
        }
        judged += 1;
        let stage = Stage::of(&case);
        let folder = stage.root().join("etc/libvirt/qemu");
        fs::create_dir_all(&folder).unwrap();
        for (number, name) in ["q\"'\\[x]*", "x\ny # \u{202e}", "[[rule]]"].iter().enumerate() {
            let xml = format!(
                "<domain type='kvm'><name>{}</name><uuid>5a7e0000-0000-4000-8000-00000000ff0{number}</uuid>\
                 <memory unit='MiB'>64</memory><vcpu>1</vcpu><os><type arch='x86_64'>hvm</type></os></domain>",
                name.replace('\n', "&#10;")
            );
            fs::write(folder.join(format!("{name}.xml")), xml).unwrap();
        }
        let got = stage.run_without_args(&["recommend"], b"");
        let case = name_of(&case);
        // A definition that is broken is named, and the policy is for the others.
        let code = got.status.code().unwrap();
        let said = String::from_utf8_lossy(&got.stderr);
        assert!(
            code == 0 || (code == 1 && said.contains(".xml")),
            "{case}: {said}"
        );
        let policy = String::from_utf8_lossy(&got.stdout);
        fs::write(stage.work().join("recommended.toml"), &got.stdout).unwrap();
        let checked = stage.run_without_args(&["policy", "check", "recommended.toml"], b"");
        let said = String::from_utf8_lossy(&checked.stderr);
        assert!(checked.status.success(), "{case}: {said}\n{policy}");
        let planned = stage.run_without_args(&["plan", "--all", "--policy", "-"], &got.stdout);
        let list = String::from_utf8_lossy(&planned.stdout);
        assert_ne!(planned.status.code(), Some(3), "{case}: {list}\n{policy}");
        assert!(!list.contains("refused"), "{case}: {list}\n{policy}");
        let all = list
            .lines()
            .find(|line| line.contains("of their own can have them at once"));
        assert!(
            all.is_none_or(|line| line.starts_with("The ")),
            "{case}: {list}\n{policy}"
        );
    }
    assert!(judged > 8, "{judged}");
}

/// Checks that images are XML that a page with a strict Content-Security-Policy takes as it is, and
/// that the largest host fits a screen.
#[test]
fn images_are_plain_and_fit_a_screen() {
    let mut images: Vec<(String, String)> = Vec::new();
    for case in cases() {
        for entry in fs::read_dir(case.join("expected")).unwrap() {
            let bytes = fs::read(entry.unwrap().path()).unwrap();
            if bytes.starts_with(b"<svg") {
                images.push((name_of(&case), String::from_utf8(bytes).unwrap()));
            }
        }
    }
    let large = common::fixtures().join("cases/map-1024");
    let got = Stage::of(&large).run(&["map", "--svg", "-"], b"");
    images.push(("map-1024".into(), String::from_utf8(got.stdout).unwrap()));
    assert!(images.len() > 3, "{}", images.len());
    for (case, image) in &images {
        virtfit::xml::Document::parse(image).unwrap_or_else(|error| panic!("{case}: {error}"));
        for bad in [
            "<script",
            "<style",
            " style=",
            "javascript:",
            " on",
            "href",
            "<image",
            "<foreign",
        ] {
            let inside = |tag: &str| {
                tag.split('>')
                    .next()
                    .unwrap()
                    .contains(bad.trim_start_matches('<'))
            };
            let found = image.contains(bad) && (bad.starts_with('<') || image.split('<').any(inside));
            assert!(!found, "{case}: {bad}");
        }
        assert!(image.matches("<title>").count() > 4, "{case}");
    }
    let (_, image) = images.last().unwrap();
    let number = |name: &str| -> usize {
        let rest = image.split(&format!(" {name}=\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().parse().unwrap()
    };
    assert!(
        (number("width"), number("height")) < (1000, 900),
        "{}",
        &image[..300]
    );
    assert!(number("height") < 900, "{}", number("height"));
}

/// Lists the cases whose golden is a tuned XML.
fn tuned() -> Vec<std::path::PathBuf> {
    let differs = |case: &std::path::PathBuf| {
        let output = fs::read(case.join("expected/rewrite.xml"));
        output.is_ok_and(|output| output != fs::read(case.join("domain.xml")).unwrap())
    };
    cases().into_iter().filter(differs).collect()
}

/// Checks that libvirt's schema accepts the tuned XML, and the input, so that a complaint is about
/// virtfit's part.
#[test]
#[ignore = "needs xmllint and libvirt's schema; run by make test"]
fn libvirts_schema_accepts_every_domain() {
    let schema = "/usr/share/libvirt/schemas/domain.rng";
    assert!(
        Path::new(schema).exists(),
        "{schema} is missing: install libvirt's (libvirt0, libvirt-libs)"
    );
    let mut files: Vec<std::path::PathBuf> = Vec::new();
    for case in tuned() {
        if NEWER.contains(&name_of(&case).as_str()) {
            continue;
        }
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
