//! Plans of several guests, and the commands that a plan advises, on a copy of the paper's server.
#![allow(clippy::unwrap_used)]

use std::fs;
use std::path::Path;
use std::process::{Command, Output, Stdio};

const VIRTFIT: &str = env!("CARGO_BIN_EXE_virtfit");
const POLICY: &str = "[[rule]]\nmatch = { name = \"g*\" }\nprofile = \"fit\"\n";

/// Server of 2 nodes x 7 dedicated cores x 2 threads; removed when the value is dropped.
struct Host(tempfile::TempDir);

impl Host {
    fn with_guests(count: usize, vcpus: u32) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper/.");
        let copied = Command::new("cp")
            .arg("-a")
            .args([from.as_path(), host.0.path()])
            .status();
        assert!(copied.unwrap().success());
        host.put("etc/virtfit/policy.toml", POLICY);
        for number in 1..=count {
            let text = format!(
                "<domain type='kvm'>\n  <name>g{number}</name>\n  <uuid>11111111-2222-4333-8444-{number:012}</uuid>\n  \
                 <memory unit='MiB'>64</memory>\n  <vcpu>{vcpus}</vcpu>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  \
                 </os>\n</domain>\n"
            );
            host.put(&format!("etc/libvirt/qemu/g{number}.xml"), &text);
        }
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    /// Runs the program with an open pipe on stdin, as a script does; it must not wait for that.
    fn run(&self, words: &[&str]) -> Output {
        let child = Command::new("timeout")
            .args(["20", VIRTFIT, "--root"])
            .arg(self.0.path())
            .args(words)
            .env("LC_ALL", "C")
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        // wait_with_output closes stdin; this process keeps it open until the answer is there.
        let mut child = child;
        let stdin = child.stdin.take();
        let output = child.wait_with_output().unwrap();
        drop(stdin);
        output
    }

    fn answer(&self, words: &[&str]) -> String {
        let done = self.run(words);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{words:?}: {:?}: {stderr}", done.status);
        String::from_utf8(done.stdout).unwrap()
    }
}

#[test]
fn guests_that_pins_by_hand_keep_from_cpus_of_their_own_do_not_count() {
    let host = Host::with_guests(3, 2);
    let path = host.0.path().join("etc/libvirt/qemu/g3.xml");
    let text = fs::read_to_string(&path).unwrap();
    let pins = "<cputune><vcpupin vcpu='0' cpuset='0-31'/><vcpupin vcpu='1' cpuset='0-31'/></cputune>";
    fs::write(&path, text.replace("  <os>", &format!("  {pins}\n  <os>"))).unwrap();
    let plan = host.answer(&["plan"]);
    assert!(plan.contains("your pins keep them on CPUs 0-31"), "{plan}");
    assert!(
        plan.ends_with("The 2 guests that want CPUs of their own can have them at once.\n"),
        "{plan}"
    );
    // What else is said of a guest is counted as what it is.
    assert!(!plan.contains(" more)"), "{plan}");
}

#[test]
fn a_plan_of_all_says_that_virtfit_is_disabled() {
    let host = Host::with_guests(1, 2);
    let said = |host: &Host| String::from_utf8(host.run(&["plan"]).stderr).unwrap();
    assert!(!said(&host).contains("disabled"));
    host.put("run/virtfit/disabled", "");
    let stderr = said(&host);
    assert!(
        stderr.contains("disabled exists: nothing is written until: rm "),
        "{stderr}"
    );
}

#[test]
fn a_plan_of_all_is_what_apply_would_do() {
    let host = Host::with_guests(9, 6);
    let plan = host.answer(&["plan"]);
    let apply = host.answer(&["apply", "--dry-run", "--all"]);
    assert!(apply.starts_with(&plan), "{plan}\n{apply}");
    assert!(
        plan.ends_with("4 of the 9 guests that want CPUs of their own can have them at once.\n"),
        "{plan}"
    );
    // Four of them have CPUs of their own; a fifth has to overlap.
    let places = |text: &str| -> Vec<String> {
        let cpus = |line: &str| {
            line.split("CPU ")
                .nth(1)
                .map(|rest| rest.split(';').next().unwrap().to_string())
        };
        text.lines()
            .filter(|line| line.starts_with('g'))
            .filter_map(cpus)
            .collect()
    };
    let mut first = places(&plan)[..4].to_vec();
    first.sort();
    first.dedup();
    assert_eq!(first.len(), 4, "{plan}");
    // Some of them by pattern, and by name, are planned together too.
    let two = host.answer(&["plan", "g[12]"]);
    assert_eq!(places(&two), places(&plan)[..2], "{two}");
    assert!(
        two.ends_with("The 2 guests that want CPUs of their own can have them at once.\n"),
        "{two}"
    );
    let none = Host::with_guests(2, 60).answer(&["plan"]);
    assert!(
        none.ends_with("None of the 2 guests that want CPUs of their own can have them on this host.\n"),
        "{none}"
    );
    let named = host.answer(&["plan", "g1", "g2", "--json"]);
    let json: serde_json::Value = serde_json::from_str(&named).unwrap();
    assert_eq!(json.as_array().unwrap().len(), 2);
    let other = host.run(&["plan", "x*"]);
    assert_eq!(other.status.code(), Some(1));
}

/// The count is one of places, however a guest runs that finds none.
#[test]
fn the_count_is_the_same_for_all_fallbacks() {
    for (count, vcpus, expected) in [
        (
            9,
            6,
            "4 of the 9 guests that want CPUs of their own can have them at once.\n",
        ),
        (
            2,
            60,
            "None of the 2 guests that want CPUs of their own can have them on this host.\n",
        ),
    ] {
        let host = Host::with_guests(count, vcpus);
        for on_no_fit in ["refuse", "run-shared", "run-untuned"] {
            let policy = format!("[profile.u]\ninherits = \"fit\"\non_no_fit = \"{on_no_fit}\"\n\n{POLICY}");
            host.put(
                "etc/virtfit/policy.toml",
                &policy.replace("profile = \"fit\"", "profile = \"u\""),
            );
            for words in [&["plan"][..], &["apply", "--dry-run", "--all"]] {
                let done = host.run(words);
                let stdout = String::from_utf8(done.stdout).unwrap();
                assert!(stdout.contains(expected), "{on_no_fit}: {stdout}");
            }
        }
    }
}

#[test]
fn one_named_guest_is_an_object_and_all_else_an_array() {
    let host = Host::with_guests(1, 2);
    for (words, array) in [
        (&["plan", "--json", "g1"][..], false),
        (&["plan", "--json"], true),
        (&["plan", "--json", "g*"], true),
    ] {
        let json: serde_json::Value = serde_json::from_str(&host.answer(words)).unwrap();
        assert_eq!(json.is_array(), array, "{words:?}");
    }
}

/// Advised commands can be pasted: they parse, and do what was shown.
#[test]
fn advised_commands_are_lines_with_the_same_options() {
    let host = Host::with_guests(1, 2);
    let root = host.0.path().to_str().unwrap();
    let file = format!("{root}/etc/libvirt/qemu/g1.xml");
    for (words, first) in [
        (&["plan", "g1"][..], "virtfit plan g1 --root ROOT --diff"),
        (
            &["plan", "g1", "--profile", "local"],
            "virtfit plan g1 --root ROOT --profile local --diff",
        ),
        (
            &["plan", &file, "--profile", "local"],
            "virtfit rewrite FILE --root ROOT --profile local",
        ),
    ] {
        let text = host.answer(words);
        let next: Vec<&str> = text
            .split("Nothing was written.\n")
            .nth(1)
            .unwrap()
            .lines()
            .map(str::trim)
            .collect();
        let shown = next[0].replace(&file, "FILE").replace(root, "ROOT");
        assert_eq!(shown, first, "{words:?}");
        for line in next {
            let words: Vec<&str> = line.split_whitespace().skip(1).collect();
            let done = host.run(&words);
            assert!(done.status.success(), "{line}: {done:?}");
            assert_ne!(done.stdout, b"", "{line}");
        }
    }
}

/// One vCPU is one socket with or without a `<topology>`: none is written, and none is listed.
#[test]
fn a_topology_that_changes_nothing_is_not_written() {
    let host = Host::with_guests(1, 1);
    assert!(!host.answer(&["plan", "g1"]).contains("topology"));
    assert!(!host.answer(&["rewrite", "g1"]).contains("<topology sockets"));
}

/// A rule or profile that hardly has an effect is named, and is no error.
#[test]
fn a_policy_check_warns_of_what_does_nothing() {
    let host = Host::with_guests(1, 1);
    let policy = "[host]\nhousekeeping = \"0-99\"\n\n[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n\n\
                  [[rule]]\nmatch = { name = \"db-(1|2)\" }\nprofile = \"local\"\n";
    for (policy, warnings) in [
        (POLICY, &[][..]),
        ("", &["there is no rule"]),
        (
            policy,
            &[
                "rule 2 is never reached",
                "not as a regular expression",
                "CPUs 32-99",
            ],
        ),
    ] {
        host.put("etc/virtfit/policy.toml", policy);
        let done = host.run(&["policy", "check"]);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(0), "{stderr}");
        assert_eq!(stderr.lines().count(), warnings.len(), "{stderr}");
        assert!(
            warnings.iter().all(|warning| stderr.contains(warning)),
            "{stderr}"
        );
    }
    // The vendor's file names a profile and changes none.
    let vendor = include_str!("../packaging/policy.d/10-defaults.toml");
    host.put("usr/lib/virtfit/policy.d/10-defaults.toml", vendor);
    assert!(!host.answer(&["profile", "list"]).contains('*'));
    host.put("etc/virtfit/policy.toml", "[profile.fit]\nhugepages = \"off\"\n");
    assert!(host.answer(&["profile", "list"]).contains("* fit"));
}

#[test]
fn guests_that_run_untuned_are_planned_beside_each_other() {
    // Five of nine run as they were defined before virtfit came: on any CPU.
    let host = Host::with_guests(9, 6);
    for number in 1..=5 {
        let text = fs::read_to_string(host.0.path().join(format!("etc/libvirt/qemu/g{number}.xml"))).unwrap();
        let live = text.replace("type='kvm'", "type='kvm' id='1'");
        host.put(
            &format!("run/libvirt/qemu/g{number}.xml"),
            &format!("<domstatus state='running' reason='booted' pid='{number}'>{live}</domstatus>"),
        );
    }
    let plan = host.answer(&["plan"]);
    assert!(
        plan.contains("4 of the 9 guests that want CPUs of their own can have them at once"),
        "{plan}"
    );
    let places: Vec<&str> = plan
        .lines()
        .filter(|line| line.starts_with('g'))
        .filter_map(|line| line.split("CPU ").nth(1)?.split(';').next())
        .collect();
    let mut apart: Vec<&str> = places.iter().copied().take(4).collect();
    apart.sort_unstable();
    apart.dedup();
    assert_eq!(apart.len(), 4, "{plan}");
}

/// Definitions are given no more huge pages than there are for all of them, autostart or not,
/// decided together or one after the other: each guest starts, whichever others run.
#[test]
fn definitions_are_given_no_more_huge_pages_than_there_are() {
    for (autostart, alone) in [(0, false), (0, true), (12, false), (12, true), (6, false)] {
        let host = Host::with_guests(12, 1);
        // 2048 pages on each node: for eight guests.
        let limit = "[host]\nreserved_hugepages = { \"2M\" = 4096 }\n";
        host.put("etc/virtfit/policy.toml", &format!("{limit}{POLICY}"));
        for number in 1..=12 {
            let path = format!("etc/libvirt/qemu/g{number}.xml");
            let text = fs::read_to_string(host.0.path().join(&path)).unwrap();
            host.put(&path, &text.replace("'MiB'>64<", "'MiB'>1024<"));
            if number <= autostart {
                host.put(&format!("etc/libvirt/qemu/autostart/g{number}.xml"), "");
            }
        }
        match alone {
            true => (1..=12).for_each(|number| {
                host.answer(&["apply", "--offline", "--yes", &format!("g{number}")]);
            }),
            false => drop(host.answer(&["apply", "--offline", "--yes", "--all"])),
        }
        let mut pages = [0; 2];
        for number in 1..=12 {
            let path = format!("etc/libvirt/qemu/g{number}.xml");
            let text = fs::read_to_string(host.0.path().join(path)).unwrap();
            assert!(text.contains("<vcpupin"), "{text}");
            let has_pages = text.contains("<hugepages>");
            assert!(
                has_pages || number > autostart || autostart > 8,
                "{autostart} {alone}: {text}"
            );
            if has_pages {
                pages[usize::from(text.contains("nodeset='1'"))] += 512;
            }
        }
        assert_eq!(pages, [2048, 2048], "{autostart} {alone}");
    }
}
