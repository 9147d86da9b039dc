//! Guests that start at the same moment.

use std::thread;

use crate::daemon::{Libvirt, Setup, alone_on, small};

/// CPU 1 is the only one to give out.
fn policy(on_no_fit: &str) -> String {
    format!(
        "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
         [profile.one]\ninherits = \"fit\"\nhugepages = \"off\"\non_no_fit = \"{on_no_fit}\"\n\n\
         [[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"one\"\n"
    )
}

/// Rounds of a race: `VIRTFIT_ROUNDS` times as many where it is set.
fn rounds(usual: usize) -> usize {
    let times: usize = std::env::var("VIRTFIT_ROUNDS").map_or(1, |text| text.parse().unwrap());
    usual * times
}

/// Starts both guests at once; returns the output of each `virsh start`.
fn start_both(libvirt: &Libvirt) -> [Result<String, String>; 2] {
    thread::scope(|scope| {
        ["a", "b"]
            .map(|name| scope.spawn(move || libvirt.virsh(&["start", name])))
            .map(|client| client.join().unwrap())
    })
}

fn host(on_no_fit: &str) -> Libvirt {
    let policy = policy(on_no_fit);
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&policy),
        ..Setup::default()
    });
    for name in ["a", "b"] {
        libvirt.define(&small(name)).unwrap();
    }
    libvirt
}

/// Checks that the loser's user reads which guest has the CPU, and that no other guest loses.
fn refuse(libvirt: &Libvirt, rounds: usize) {
    for round in 0..rounds {
        let said = start_both(libvirt);
        let lost: Vec<&String> = said.iter().filter_map(|said| said.as_ref().err()).collect();
        assert_eq!(lost.len(), 1, "round {round}: {said:?}\n{}", libvirt.log());
        let named = lost[0].contains("exit status 3: virtfit: ")
            && (lost[0].contains(" holds ") || lost[0].contains("held by "));
        assert!(named, "round {round}: {}", lost[0]);
        for name in ["a", "b"] {
            let _ = libvirt.virsh(&["destroy", name]);
        }
    }
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn one_of_two_starts_with_refuse_by_the_daemon() {
    let libvirt = host("refuse");
    let _daemon = libvirt.virtfitd();
    refuse(&libvirt, rounds(25));
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn one_of_two_starts_with_refuse_without_a_daemon() {
    let libvirt = host("refuse");
    refuse(&libvirt, rounds(25));
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn never_the_same_cpu_twice_with_run_shared() {
    let libvirt = host("run-shared");
    let _daemon = libvirt.virtfitd();
    for round in 0..rounds(40) {
        let said = start_both(&libvirt);
        assert!(said.iter().all(Result::is_ok), "round {round}: {said:?}");
        crate::daemon::within(5, "one has CPU 1, the other floats", || {
            let alone = alone_on(&libvirt, &["a", "b"]);
            let on_one = alone.iter().filter(|(cpu, _)| cpu == "1").count();
            match on_one {
                1 => Ok(()),
                _ => {
                    let files = libvirt.sh(
                        "tail -n +1 /run/virtfit/*/*.json; virsh -q list; for g in a b; do virsh -q vcpupin $g; head -8 /run/libvirt/qemu/$g.xml | grep domstatus; done",
                        &[],
                    );
                    Err(format!("round {round}: {alone:?}\n{}\n{files}", libvirt.log()))
                }
            }
        });
        for name in ["a", "b"] {
            libvirt.virsh(&["destroy", name]).unwrap();
        }
    }
}
