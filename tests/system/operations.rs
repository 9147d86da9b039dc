//! Daily work of administrators, five hundred operations, and what is left afterwards.

use std::fs;
use std::time::Duration;

use crate::daemon::{Libvirt, Setup, sized, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"plain\"\n";

const SECRET: &str = "passwd='s3cret'";

fn host() -> Libvirt {
    Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    })
}

/// Makes a guest with a password and a disk that can hold snapshots.
fn guest(libvirt: &Libvirt, name: &str) -> String {
    let image = format!("{name}.qcow2");
    let place = Libvirt::images().join(&image);
    let made = libvirt.run(
        "qemu-img",
        &["create", "-q", "-f", "qcow2", place.to_str().unwrap(), "16M"],
        &[],
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let devices = format!(
        "<disk type='file' device='disk'>\n      <driver name='qemu' type='qcow2'/>\n      <source file='{}'/>\n      \
         <target dev='vda' bus='virtio'/>\n    </disk>\n    \
         <graphics type='vnc' port='-1' autoport='yes' passwd='s3cret'/>\n    <memballoon",
        place.display()
    );
    sized(name, 1, 32).replace("<memballoon", &devices)
}

fn tuned(libvirt: &Libvirt, name: &str) {
    within(10, "tuned", || {
        let dump = libvirt.dump(name);
        let so = dump.contains("virtfit.dev/ns/domain/1") && dump.contains(SECRET);
        so.then_some(()).ok_or(format!("{dump}\n{}", libvirt.log()))
    });
}

fn reservations(libvirt: &Libvirt) -> Vec<String> {
    fs::read_dir(libvirt.on_host("run/virtfit/reservations")).map_or_else(
        |_| Vec::new(),
        |entries| {
            entries
                .map(|entry| entry.unwrap().file_name().into_string().unwrap())
                .collect()
        },
    )
}

fn clean(libvirt: &Libvirt) {
    within(10, "nothing is reserved", || {
        let left = reservations(libvirt);
        left.is_empty()
            .then_some(())
            .ok_or(format!("{left:?}\n{}", libvirt.log()))
    });
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn each_operation_is_right() {
    let libvirt = host();
    let _daemon = libvirt.virtfitd();
    let virsh = |words: &[&str]| {
        libvirt
            .virsh(words)
            .unwrap_or_else(|error| panic!("{words:?}: {error}\n{}", libvirt.log()))
    };
    let on_its_cpu = || {
        within(5, "runs on CPU 1", || {
            let threads = libvirt.threads("g");
            let vcpu = threads.iter().find(|thread| thread.name.starts_with("CPU 0"));
            match vcpu {
                Some(vcpu) if vcpu.cpus == "1" => Ok(()),
                other => Err(format!("{other:?}\n{}", libvirt.log())),
            }
        });
    };
    libvirt.define(&guest(&libvirt, "g")).unwrap();
    tuned(&libvirt, "g");

    virsh(&["start", "g"]);
    on_its_cpu();
    virsh(&["managedsave", "g"]);
    clean(&libvirt);
    virsh(&["start", "g"]);
    on_its_cpu();
    let image = Libvirt::images().join("g.save");
    virsh(&["save", "g", image.to_str().unwrap()]);
    clean(&libvirt);
    virsh(&["restore", image.to_str().unwrap()]);
    on_its_cpu();
    virsh(&["destroy", "g"]);
    clean(&libvirt);

    virsh(&["start", "g"]);
    virsh(&["snapshot-create-as", "g", "one"]);
    virsh(&["destroy", "g"]);
    virsh(&["snapshot-revert", "g", "one"]);
    on_its_cpu();
    tuned(&libvirt, "g");
    virsh(&["destroy", "g"]);
    virsh(&["snapshot-delete", "g", "one"]);
    clean(&libvirt);

    // Pins an administrator writes are theirs.
    virsh(&["vcpupin", "g", "0", "0", "--config"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(libvirt.dump("g").contains("<vcpupin vcpu='0' cpuset='0'/>"));
    virsh(&["vcpupin", "g", "0", "1", "--config"]);
    tuned(&libvirt, "g");

    virsh(&["autostart", "g"]);
    virsh(&["domrename", "g", "h"]);
    tuned(&libvirt, "h");
    virsh(&["domrename", "h", "g"]);
    tuned(&libvirt, "g");

    // A restart of libvirt's daemon starts the guest by itself the first time, and leaves it alone
    // the second.
    libvirt.hold("TERM");
    fs::remove_file(libvirt.on_host("run/libvirt/qemu/autostarted")).unwrap_or_default();
    libvirt.release();
    on_its_cpu();
    let threads = libvirt.threads("g").len();
    libvirt.hold("TERM");
    libvirt.release();
    on_its_cpu();
    assert!(libvirt.threads("g").len() + 4 > threads);
    virsh(&["destroy", "g"]);
    clean(&libvirt);

    virsh(&["undefine", "g"]);
    std::thread::sleep(Duration::from_millis(500));
    assert!(libvirt.virsh(&["dominfo", "g"]).is_err(), "it does not come back");
    assert!(!libvirt.on_host("etc/libvirt/qemu/g.xml").exists());
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn nothing_is_left_after_five_hundred_operations() {
    let libvirt = host();
    let daemon = libvirt.virtfitd();
    let memory = |daemon: &crate::daemon::Daemon| -> u64 {
        daemon
            .status("VmRSS")
            .split_whitespace()
            .next()
            .unwrap()
            .parse()
            .unwrap()
    };
    // A small generator (Numerical Recipes): every run has equal operations.
    let mut seed = 20_211_103u32;
    let mut next = |below: u32| {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (seed >> 16) % below
    };
    let names = ["a", "b", "c"];
    let mut at_begin = 0;
    let mut worked = 0;
    for number in 0..500 {
        let name = names[next(3) as usize];
        let words: Vec<&str> = match next(9) {
            0 | 1 => vec!["start", name],
            2 => vec!["destroy", name],
            3 => vec![
                "vcpupin",
                name,
                "0",
                if next(2) == 0 { "0" } else { "0-1" },
                "--config",
            ],
            4 => vec!["emulatorpin", name, "0-1", "--config"],
            5 => vec!["setmem", name, "24M", "--config"],
            6 => vec!["undefine", name],
            7 => vec!["dumpxml", name],
            _ => {
                // Any error is libvirt's own: for example, a guest runs under another definition.
                worked += usize::from(libvirt.define(&sized(name, 1 + next(2), 32)).is_ok());
                continue;
            }
        };
        worked += usize::from(libvirt.virsh(&words).is_ok());
        if number == 100 {
            at_begin = memory(&daemon);
        }
    }
    assert!(worked > 150, "only {worked} of 500 worked:\n{}", libvirt.log());
    for name in names {
        let _ = libvirt.virsh(&["destroy", name]);
        let _ = libvirt.virsh(&["undefine", name]);
    }
    clean(&libvirt);
    let left = fs::read_dir(libvirt.on_host("etc/libvirt/qemu"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains(".xml"))
        .collect::<Vec<_>>();
    assert!(left.is_empty(), "{left:?} came back");
    let at_end = memory(&daemon);
    assert!(
        at_end < at_begin + 4096,
        "{at_begin} KiB after 100, {at_end} KiB after 500"
    );
    let marks = fs::read_dir(libvirt.on_host("run/virtfit/undecided")).map_or(0, Iterator::count);
    assert_eq!(marks, 0, "{}", libvirt.log());
}
