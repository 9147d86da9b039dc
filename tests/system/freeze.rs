//! Many guests start while clients list, define and dump: no client waits for virtfit.

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::daemon::{Libvirt, Setup, small};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";

/// Returns the slowest of each kind of call while 20 guests start.
fn slowest(libvirt: &Libvirt) -> Vec<(&'static str, Duration)> {
    let over = AtomicBool::new(false);
    let over = &over;
    let call = move |words: &[&str]| {
        let begin = Instant::now();
        libvirt.virsh(words).unwrap();
        begin.elapsed()
    };
    thread::scope(|scope| {
        let again = |what: &'static str, words: &'static [&'static str]| {
            scope.spawn(move || {
                let mut worst = Duration::ZERO;
                while !over.load(Ordering::Relaxed) {
                    worst = worst.max(call(words));
                    thread::sleep(Duration::from_millis(20));
                }
                (what, worst)
            })
        };
        let lists = again("list", &["list", "--all"]);
        let dumps = again("dumpxml", &["dumpxml", "--inactive", "bystander"]);
        let defines = scope.spawn(move || {
            let mut worst = Duration::ZERO;
            while !over.load(Ordering::Relaxed) {
                let begin = Instant::now();
                libvirt.define(&small("bystander")).unwrap();
                worst = worst.max(begin.elapsed());
                thread::sleep(Duration::from_millis(50));
            }
            ("define", worst)
        });
        let starters: Vec<_> = (0..4)
            .map(|lane| {
                scope.spawn(move || {
                    for guest in (0..20).filter(|guest| guest % 4 == lane) {
                        call(&["start", &format!("f{guest}")]);
                    }
                })
            })
            .collect();
        // The others end also where a start failed.
        let started: Vec<_> = starters.into_iter().map(|starter| starter.join()).collect();
        over.store(true, Ordering::Relaxed);
        started.into_iter().for_each(|started| started.unwrap());
        [lists, dumps, defines]
            .map(|client| client.join().unwrap())
            .to_vec()
    })
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn no_call_takes_a_second_longer_because_of_us() {
    let measure = |with_us: bool| {
        let libvirt = Libvirt::with(&Setup {
            policy: with_us.then_some(POLICY),
            ..Setup::default()
        });
        let _daemon = with_us.then(|| libvirt.virtfitd());
        libvirt.define(&small("bystander")).unwrap();
        for guest in 0..20 {
            libvirt.define(&small(&format!("f{guest}"))).unwrap();
        }
        slowest(&libvirt)
    };
    let without = measure(false);
    let with = measure(true);
    for ((what, alone), (_, beside)) in without.iter().zip(&with) {
        assert!(
            *beside < *alone + Duration::from_secs(1),
            "{what}: {alone:?} without us, {beside:?} with us: {without:?} {with:?}"
        );
    }
}
