//! Truth of what guests see, judged from the finished XML and the host alone, apart from the
//! engine: the cores, threads, last-level caches, sockets and cells that QEMU shows a guest are
//! held against the CPUs its vCPUs are pinned to. Whatever is not so has to be told in the plan,
//! by its code.
#![allow(clippy::unwrap_used, clippy::print_stdout)]

#[path = "common/engine.rs"]
mod asked;
#[path = "common/case.rs"]
mod case;
#[path = "truth/judge.rs"]
mod judge;
#[path = "truth/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use case::{Stage, cases, name_of};
use judge::lies;
use virtfit::host::{Host, load};
use virtfit::hostfs::HostFs;

/// Codes of reasons by which a plan says that the guest has no place of its own.
const NO_PLACE: [&str; 4] = [
    "runs-shared",
    "runs-untuned",
    "runs-untuned-without-shared",
    "floats-untuned",
];

/// Lists the lies that none of the plan's codes confesses.
fn untold(lies: &[judge::Lie], told: &BTreeSet<String>) -> Vec<String> {
    if NO_PLACE.iter().any(|code| told.contains(*code)) {
        return Vec::new();
    }
    let lies = lies.iter();
    lies.filter(|lie| !lie.codes.iter().any(|code| told.contains(*code)))
        .map(|lie| lie.words.clone())
        .collect()
}

/// Returns the codes of the reasons in a plan's JSON.
fn codes(json: &str) -> BTreeSet<String> {
    let plan: serde_json::Value = serde_json::from_str(json).unwrap();
    let reasons = plan["because"].as_array().unwrap().iter();
    reasons
        .map(|reason| reason["code"].as_str().unwrap().to_string())
        .collect()
}

/// Returns whether the policy asks for a topology that shows the place.
fn mirrors(case: &Path) -> bool {
    let policies = ["root/etc/virtfit/policy.toml", "policy.toml"];
    let policies = policies
        .iter()
        .filter_map(|path| fs::read_to_string(case.join(path)).ok());
    let pin = ["topology", "\"pin\"", "\"pin_def\"", "cpus = \"keep\""];
    !policies
        .into_iter()
        .any(|text| pin.iter().any(|word| text.contains(word)))
}

#[test]
fn goldens_show_nothing_false_untold() {
    let mut judged = 0;
    for case in cases() {
        let expected = |file: &str| fs::read_to_string(case.join("expected").join(file));
        let (Ok(xml), Ok(json)) = (expected("rewrite.xml"), expected("plan.json")) else {
            continue;
        };
        if !mirrors(&case) || case.join("topology.xml").exists() {
            continue;
        }
        let stage = Stage::of(&case);
        let line = fs::read_to_string(case.join("topology.txt")).ok();
        let root = match line {
            Some(_) => HostFs::none(),
            None => HostFs::new(stage.root()),
        };
        let Ok(host) = load::load(&root, line.as_deref().map(str::trim)) else {
            continue;
        };
        let untold = untold(&lies(&xml, &host), &codes(&json));
        assert!(untold.is_empty(), "{}: {untold:#?}", name_of(&case));
        judged += 1;
    }
    assert!(judged > 40, "only {judged} goldens could be judged");
}

#[test]
fn random_guests_see_nothing_false_untold() {
    let cases = std::env::var("VIRTFIT_TRUTH_CASES").map_or(1_000, |text| text.parse().unwrap());
    let (mut pinned, mut confessed) = (0, 0);
    let hosts = random::hosts();
    let mut failures = Vec::new();
    for seed in 0..cases {
        let question = random::question(seed, &hosts);
        for answer in question.answers() {
            let plan = answer.plan();
            let told: BTreeSet<String> = plan
                .reasons
                .iter()
                .map(|reason| reason.code().to_string())
                .collect();
            let lies = lies(answer.text(), &question.asked.host);
            let untold = untold(&lies, &told);
            if !untold.is_empty() {
                let (reasons, text) = (&plan.reasons, answer.text());
                failures.push(format!(
                    "seed {seed}: {untold:#?}\n{reasons:?}\n{}\n{text}",
                    question.keys
                ));
            }
            pinned += u32::from(answer.text().contains("<vcpupin"));
            confessed += u32::from(!lies.is_empty());
        }
    }
    let first = failures.iter().take(5).map(String::as_str);
    assert!(
        failures.is_empty(),
        "{} lies\n{}",
        failures.len(),
        first.collect::<String>()
    );
    // The cases reach both: guests with a place, and shapes that are not true of theirs.
    let cases = cases as u32;
    assert!(
        pinned > cases / 2 && confessed > cases / 100,
        "{pinned} {confessed} of {cases}"
    );
}

/// Loads the hosts of a folder: hwloc's XML files, and folders that stand for a host's root.
/// Returns also those that cannot be loaded, with the reason.
fn collection(folder: &Path) -> (Vec<(String, Host)>, Vec<String>) {
    let mut paths: Vec<PathBuf> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .collect();
    paths.sort();
    let (mut hosts, mut refused) = (Vec::new(), Vec::new());
    for path in paths {
        let name = path.file_name().unwrap().to_string_lossy().into_owned();
        let loaded = match path.is_dir() {
            true => load::load(&HostFs::new(&path), None),
            false => load::load(&HostFs::none(), path.to_str()),
        };
        match loaded {
            Ok(host) => hosts.push((name, host)),
            Err(error) => refused.push(format!("{name}: {error}")),
        }
    }
    (hosts, refused)
}

/// Hosts that others collected, with guests of 1, 2, 4, 7, half and all of the CPUs. hwloc's own
/// collection is `tests/hwloc` of its sources.
#[test]
fn guests_on_collected_hosts_see_nothing_false_untold() {
    let Some(folder) = std::env::var_os("VIRTFIT_TRUTH_HOSTS") else {
        println!("NOT RUN: VIRTFIT_TRUTH_HOSTS names no folder of hosts");
        return;
    };
    let (hosts, refused) = collection(Path::new(&folder));
    let (mut guests, mut pinned) = (0, 0);
    let mut failures = Vec::new();
    for (name, host) in &hosts {
        let cpus = host.online.len() as u32;
        let sizes: BTreeSet<u32> = [1, 2, 4, 7, cpus / 2, cpus].into();
        for vcpus in sizes.into_iter().filter(|vcpus| (1..=cpus).contains(vcpus)) {
            let xml = asked::guest(vcpus, u64::from(vcpus) * 16, "", "", "");
            let machine = match host.arch.as_str() {
                "aarch64" => "arch='aarch64' machine='virt-7.2'".to_string(),
                "x86_64" | "" => "arch='x86_64' machine='pc-q35-7.2'".to_string(),
                arch => format!("arch='{arch}' machine='virt'"),
            };
            let xml = xml.replace("arch='x86_64' machine='pc-q35-7.2'", &machine);
            for keys in ["", "smt = \"require\"", "max_sockets = 1"] {
                let answer = asked::Asked::of(host.clone()).decide(keys, &xml);
                let told = answer.plan().reasons.iter();
                let told: BTreeSet<String> = told.map(|reason| reason.code().to_string()).collect();
                let untold = untold(&lies(answer.text(), host), &told);
                if !untold.is_empty() {
                    failures.push(format!(
                        "{name}, {vcpus} vCPUs, {keys}: {untold:?}, told {told:?}"
                    ));
                }
                guests += 1;
                pinned += u32::from(answer.text().contains("<vcpupin"));
            }
        }
    }
    println!(
        "{} hosts, {guests} guests, {pinned} of them with CPUs of their own or a mask; not loaded: {refused:#?}",
        hosts.len()
    );
    assert!(
        failures.is_empty(),
        "{} lies\n{}",
        failures.len(),
        failures.join("\n")
    );
}

/// Lies that the judge has to find, by the XML alone.
#[test]
fn the_judge_finds_lies() {
    let host = asked::host("paper");
    let shown = |topology: &str, pins: &str| {
        let cpu = format!("<cpu>{topology}</cpu>");
        let vcpus = pins.split_whitespace().count() as u32;
        let xml = asked::guest(vcpus, 1024, &asked::pins(pins), &cpu, "");
        let found = lies(&xml, &host);
        found.iter().map(|lie| lie.codes[0]).collect::<Vec<_>>()
    };
    let topology = |s: u32, d: u32, c: u32, t: u32| {
        format!("<topology sockets='{s}' dies='{d}' cores='{c}' threads='{t}'/>")
    };
    for (topology, pins, expected) in [
        (topology(1, 1, 2, 2), "1 17 2 18", &[][..]),
        (String::new(), "1 2 9 10", &[]),
        (topology(2, 1, 2, 1), "1 2 9 10", &[]),
        (topology(4, 1, 1, 1), "1 17 2 18", &["cores-together"]),
        (
            topology(1, 1, 2, 2),
            "1 2 17 18",
            &["threads-apart", "cores-together"],
        ),
        (
            topology(1, 1, 4, 1),
            "1 2 9 10",
            &["cache-apart", "socket-over-packages"],
        ),
        (topology(1, 2, 2, 1), "1 2 9 10", &["socket-over-packages"]),
    ] {
        assert_eq!(shown(&topology, pins), expected, "{topology} {pins}");
    }
}
