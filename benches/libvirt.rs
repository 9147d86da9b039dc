//! Time that libvirt itself waits for each of its hooks. A guest starts and ends on the real
//! libvirtd and QEMU with virtfit's hook (and its daemon) installed, with a statically linked
//! program that copies stdin to stdout, and with a Python hook that parses the XML. The three take
//! turns, so that a machine whose speed drifts treats all alike; medians count.
//!
//! The measured time is that of `virHookCall` in libvirtd, by a library loaded before libvirt's:
//! making the process, the XML in, both output streams to their ends, and the exit awaited. Needs
//! root, libvirt, QEMU and a C compiler. Fails when a target is missed.
//!
//! `VIRTFIT_HOOK`: the hook's binary (default: the one of this build, which is linked dynamically).
//! `STARTS`: the number of starts with each hook.
#![allow(missing_docs, clippy::unwrap_used, clippy::print_stdout)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

#[path = "../tests/common/libvirt.rs"]
mod real;
mod reference;

use real::{Libvirt, Setup, small};

/// Source of the library, which writes `OPERATION NANOSECONDS`. Only libvirtd loads it, not the
/// programs that libvirtd runs.
const TIMER: &str = r#"#define _GNU_SOURCE
#include <dlfcn.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>
typedef int (*call)(int, const char *, int, int, const char *, const char *, char **);
static int times = -1;
__attribute__((constructor)) static void begin(void) {
    const char *path = getenv("HOOK_TIMES");
    unsetenv("LD_PRELOAD");
    if (path)
        times = open(path, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}
int virHookCall(int driver, const char *id, int op, int sub, const char *extra, const char *in, char **out) {
    call real = (call)dlsym(RTLD_NEXT, "virHookCall");
    struct timespec from, to;
    clock_gettime(CLOCK_MONOTONIC, &from);
    int got = real(driver, id, op, sub, extra, in, out);
    clock_gettime(CLOCK_MONOTONIC, &to);
    if (driver == 1)
        dprintf(times, "%d %lld\n", op, (to.tv_sec - from.tv_sec) * 1000000000LL + to.tv_nsec - from.tv_nsec);
    return got;
}
"#;
/// Operations libvirt calls the hook for in a guest's life, with libvirt's numbers
/// (`virHookQemuOpType`), in that order.
const OPERATIONS: [(u32, &str); 5] = [
    (2, "prepare"),
    (0, "start"),
    (5, "started"),
    (1, "stopped"),
    (3, "release"),
];
const POLICY: &str = "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n[host]\nhousekeeping = \"0\"\n";
/// Time in which libvirt, QEMU and the daemon finish earlier work.
const REST: Duration = Duration::from_millis(150);
/// Largest ratio of a hook's time to the copying program's.
const MOST: f64 = 1.5;

/// Program that is installed as the hook.
struct Candidate {
    name: &'static str,
    program: PathBuf,
    /// Times by libvirt's number of the operation.
    took: BTreeMap<u32, Vec<f64>>,
}

fn main() -> ExitCode {
    // `cargo test --benches` asks for no measurement.
    let measure = std::env::args().any(|word| word == "--bench");
    let starts = match std::env::var("STARTS") {
        Ok(starts) => starts.parse().unwrap(),
        Err(_) if measure => 60,
        Err(_) => 1,
    };
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    let timer = reference::compile(folder, "timer.so", TIMER, &["-shared", "-fPIC", "-ldl"]);
    let python = folder.join("python");
    fs::write(&python, format!("#!/usr/bin/python3\n{}", reference::PYTHON)).unwrap();
    fs::set_permissions(&python, fs::Permissions::from_mode(0o755)).unwrap();
    let candidate = |name, program| Candidate {
        name,
        program,
        took: BTreeMap::new(),
    };
    let mut candidates = [
        candidate("static C: stdin to stdout", reference::copier(folder)),
        candidate("python3: parses the XML", python),
        candidate("virtfit-hook, with virtfitd", real::installed::hook()),
    ];

    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        preload: Some(&timer),
        ..Setup::default()
    });
    let _daemon = libvirt.virtfitd();
    libvirt.define(&small("g")).unwrap();
    libvirt.is_tuned("g");
    for start in 0..=starts {
        for candidate in &mut candidates {
            let took = once(&libvirt, &candidate.program);
            // The first start warms up.
            if start > 0 {
                for (operation, seconds) in took {
                    candidate.took.entry(operation).or_default().push(seconds);
                }
            }
        }
    }
    let missed = tell(&candidates);
    if missed && measure {
        ExitCode::FAILURE
    } else {
        ExitCode::SUCCESS
    }
}

/// Starts and ends a guest; returns libvirt's wait for each hook, in seconds.
fn once(libvirt: &Libvirt, program: &Path) -> Vec<(u32, f64)> {
    let place = libvirt.folder().join("etc/hooks/qemu.d/50-virtfit");
    let new = place.with_file_name(".new");
    symlink(program, &new).unwrap();
    fs::rename(&new, &place).unwrap();
    let times = libvirt.folder().join("hook-times");
    let _ = fs::write(&times, "");
    for word in ["start", "destroy"] {
        libvirt.virsh(&[word, "g"]).unwrap();
        std::thread::sleep(REST);
    }
    let told = fs::read_to_string(&times).unwrap();
    let told: Vec<(u32, f64)> = told
        .lines()
        .map(|line| {
            let (operation, nanoseconds) = line.split_once(' ').unwrap();
            let seconds = nanoseconds.parse::<f64>().unwrap() / 1e9;
            (operation.parse().unwrap(), seconds)
        })
        .collect();
    let order: Vec<u32> = told.iter().map(|(operation, _)| *operation).collect();
    assert_eq!(order, OPERATIONS.map(|(number, _)| number), "libvirt's hooks");
    told
}

/// Prints the table; returns whether a target is missed.
fn tell(candidates: &[Candidate; 3]) -> bool {
    let [copy, python, hook] = candidates.each_ref().map(|candidate| {
        OPERATIONS.map(|(number, _)| {
            let mut took = candidate.took.get(&number).cloned().unwrap_or_default();
            took.sort_by(f64::total_cmp);
            took.get(took.len() / 2).copied().unwrap_or_default()
        })
    });
    let mut rows: Vec<(&str, [f64; 3])> = Vec::new();
    for (at, (_, name)) in OPERATIONS.iter().enumerate() {
        rows.push((name, [copy[at], python[at], hook[at]]));
    }
    rows.push(("all of them", [copy, python, hook].map(|each| each.iter().sum())));
    let [first, second, third] = candidates.each_ref().map(|candidate| candidate.name);
    println!("what libvirt waits for its hooks, median ms: {first}; {second}; {third}");
    let mut missed = false;
    for (name, [copy, python, hook]) in rows {
        let (slower, faster) = (hook / copy, python / hook);
        missed |= slower > MOST;
        let mark = if slower > MOST { "  MISSED" } else { "" };
        let [copy, python, hook] = [copy, python, hook].map(|seconds| seconds * 1000.0);
        println!(
            "{name:12}{copy:>9.2}{python:>9.2}{hook:>9.2}{slower:>8.2} x the copy{faster:>8.1} times faster than Python{mark}"
        );
    }
    println!("held: at most {MOST} x the copy, each");
    missed
}
