//! `virtfit measure` tells whether guests are better off than before.

use std::time::{Duration, Instant};

use crate::daemon::{Libvirt, Setup, small};

/// Both CPUs are given out, so that each of two guests gets one.
const POLICY: &str = "[host]\nhousekeeping = \"none\"\ndedicated = \"0-1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"plain\"\n";

/// Makes a guest that runs without an end: its firmware is a jump to itself at the reset vector.
fn spinning(libvirt: &Libvirt, name: &str) -> String {
    let rom = libvirt.folder().join("spin.rom");
    let mut bytes = vec![0u8; 1 << 16];
    bytes[0xfff0..0xfff2].copy_from_slice(&[0xeb, 0xfe]);
    std::fs::write(&rom, bytes).unwrap();
    let loader = format!("hvm</type>\n    <loader type='rom'>{}</loader>", rom.display());
    small(name).replace("hvm</type>", &loader)
}

/// Starts both guests, and gives their vCPUs precedence over what else this machine does: the test
/// is about the two of them.
fn start(libvirt: &Libvirt) {
    for name in ["a", "b"] {
        libvirt.virsh(&["start", name]).unwrap();
    }
    for name in ["a", "b"] {
        let pid = std::fs::read_to_string(libvirt.on_host(&format!("run/libvirt/qemu/{name}.pid"))).unwrap();
        // With autogroups nice values count within a session, which a QEMU is.
        let favour = "if [ -e /proc/$1/autogroup ]; then echo -12 > /proc/$1/autogroup; fi\n\
                      for t in /proc/$1/task/*; do\n\
                        case $(cat $t/comm) in CPU*) renice -n -12 ${t##*/};; esac\n\
                      done";
        libvirt.sh(favour, &[pid.trim()]);
    }
}

/// Measures and compares with `before`; returns the exit code, and the answer.
fn compared(libvirt: &Libvirt, before: &str) -> (Option<i32>, serde_json::Value) {
    let words = ["measure", "--for", "3s", "--json", "--compare", before];
    let done = libvirt.virtfit(&words);
    let stdout = String::from_utf8_lossy(&done.stdout).into_owned();
    let stderr = String::from_utf8_lossy(&done.stderr).into_owned();
    let value = serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}{stderr}"));
    (done.status.code(), value)
}

/// Returns the share of the time that a guest's vCPUs waited, before and after.
fn waited(value: &serde_json::Value, guest: usize) -> (f64, f64) {
    let figures = value["compared"]["guests"][guest]["figures"].as_array().unwrap();
    let found = figures
        .iter()
        .find(|figure| figure["figure"] == "waited")
        .unwrap();
    (
        found["before"].as_f64().unwrap(),
        found["after"].as_f64().unwrap(),
    )
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn fitted_guests_are_better_off_than_two_on_one_cpu() {
    let begin = Instant::now();
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    for name in ["a", "b"] {
        let crowded = spinning(&libvirt, name).replace("<vcpu>1<", "<vcpu cpuset='1'>1<");
        libvirt.define(&crowded).unwrap();
    }
    start(&libvirt);
    let file = libvirt.folder().join("before.json");
    let file = file.to_str().unwrap();
    let done = libvirt.virtfit(&["measure", "--for", "3s", "--save", file]);
    assert!(done.status.success(), "{done:?}");
    let text = String::from_utf8_lossy(&done.stdout).into_owned();
    // Each of the two takes the CPU from the other one.
    let others = "others on the CPUs of its vCPUs: guest ";
    assert_eq!(text.matches(others).count(), 2, "{text}");

    // The same load, untouched.
    let (exit, same) = compared(&libvirt, file);
    assert_eq!(
        (exit, &same["compared"]["verdict"]),
        (Some(0), &"same".into()),
        "{same}"
    );

    for name in ["a", "b"] {
        libvirt.virsh(&["destroy", name]).unwrap();
        libvirt.virsh(&["undefine", name]).unwrap();
        libvirt.define(&spinning(&libvirt, name)).unwrap();
    }
    let done = libvirt.virtfit(&["apply", "--all", "--yes"]);
    assert!(done.status.success(), "{done:?}");
    start(&libvirt);
    let (exit, better) = compared(&libvirt, file);
    assert_eq!(
        (exit, &better["compared"]["verdict"]),
        (Some(0), &"better".into()),
        "{better}"
    );
    for guest in 0..2 {
        let (before, after) = waited(&better, guest);
        assert!(before > 40.0 && after < 30.0, "{better}");
    }

    // And the other way round it is worse, which a script sees.
    let fitted = libvirt.folder().join("fitted.json");
    std::fs::write(&fitted, better.to_string()).unwrap();
    libvirt.virsh(&["vcpupin", "b", "0", "0", "--live"]).unwrap();
    let (exit, worse) = compared(&libvirt, fitted.to_str().unwrap());
    assert_eq!(
        (exit, &worse["compared"]["verdict"]),
        (Some(3), &"worse".into()),
        "{worse}"
    );
    assert!(begin.elapsed() < Duration::from_secs(40), "{:?}", begin.elapsed());
}
