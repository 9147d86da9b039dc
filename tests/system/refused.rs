//! Definitions that libvirt does not accept from virtfit: they stay as they were written, and that
//! is reported once.

use std::fs;
use std::thread;
use std::time::Duration;

use crate::daemon::{Libvirt, Setup, small, within};

fn policy(io: &str) -> String {
    format!(
        "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\non_policy_change = \"apply\"\n\n\
         [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\ndisk = {{ io = \"{io}\" }}\n\n\
         [[rule]]\nmatch = {{ name = \"?\" }}\nprofile = \"plain\"\n"
    )
}

/// Gives libvirt a QEMU with io_uring, or one built without. libvirt remembers what a QEMU can do,
/// but sometimes tests it again at its start: the change is then repeated.
fn io_uring(libvirt: &Libvirt, can: bool) {
    let (without, with) = ("<!-- no io_uring -->", "<flag name='aio.io_uring'/>");
    let (old, new) = if can { (without, with) } else { (with, without) };
    for _ in 0..10 {
        libvirt.hold("TERM");
        for entry in fs::read_dir(libvirt.on_host("var/cache/libvirt/qemu/capabilities")).unwrap() {
            let path = entry.unwrap().path();
            let text = fs::read_to_string(&path).unwrap();
            fs::write(&path, text.replace(old, new)).unwrap();
        }
        libvirt.release();
        let probe = guest(libvirt, "probe").replace("type='raw'", "type='raw' io='io_uring'");
        let takes = libvirt.define(&probe).is_ok();
        if takes {
            libvirt.virsh(&["undefine", "probe"]).unwrap();
        }
        if takes == can {
            return;
        }
    }
    panic!("libvirt does not remember what was written");
}

fn guest(libvirt: &Libvirt, name: &str) -> String {
    let image = format!("{name}.raw");
    libvirt.image(&image, &vec![1; 1 << 20]);
    let disk = format!(
        "<disk type='file' device='disk'>\n      <driver name='qemu' type='raw'/>\n      <source file='{}'/>\n      \
         <target dev='vda' bus='virtio'/>\n    </disk>\n    <memballoon",
        Libvirt::images().join(image).display()
    );
    small(name).replace("<memballoon", &disk)
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_setting_that_this_qemu_cannot_take() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(&policy("io_uring")),
        ..Setup::default()
    });
    libvirt.define(&guest(&libvirt, "a")).unwrap();
    io_uring(&libvirt, false);
    let written = libvirt.dump("a");
    let daemon = libvirt.virtfitd();
    let told = || {
        libvirt
            .log()
            .matches("libvirt does not take the tuned definition")
            .count()
    };
    within(10, "it is told", || {
        (told() > 0).then_some(()).ok_or(libvirt.log())
    });
    let log = libvirt.log();
    let line = log.lines().find(|line| line.contains("does not take")).unwrap();
    assert!(line.contains("a: ") && line.contains("io uring"), "{line}");

    // The guest starts, on a CPU of its own: that needs no definition.
    libvirt.virsh(&["start", "a"]).unwrap();
    libvirt.runs_on("a", "1");
    let now = libvirt.guest("a");
    assert_eq!(now.held.to_string(), "1");
    libvirt.virsh(&["destroy", "a"]).unwrap();
    libvirt.is_clean();
    assert_eq!(libvirt.dump("a"), written);

    // The change is not tried again, whatever else happens: other guests, a signal, another daemon.
    libvirt.define(&small("b")).unwrap();
    libvirt.is_tuned("b");
    for words in [&["start", "b"][..], &["destroy", "b"]] {
        libvirt.virsh(words).unwrap();
    }
    daemon.signal("HUP");
    thread::sleep(Duration::from_millis(500));
    drop(daemon);
    let _daemon = libvirt.virtfitd();
    thread::sleep(Duration::from_millis(500));
    assert_eq!(told(), 1, "{}", libvirt.log());

    // Status names the command to run, and the command says why it does not work.
    assert_eq!(libvirt.guest("a").pending, ["apply: virtfit apply a"]);
    let apply = libvirt.virtfit(&["apply", "a"]);
    let stderr = String::from_utf8_lossy(&apply.stderr).into_owned();
    assert_eq!(apply.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("a: ") && stderr.contains("io uring"), "{stderr}");
    assert_eq!(libvirt.dump("a"), written);

    // A policy without it is followed at once.
    let set = |io| fs::write(libvirt.on_host("etc/virtfit/policy.toml"), policy(io)).unwrap();
    set("keep");
    libvirt.is_tuned("a");
    let tuned = libvirt.dump("a");

    // A restarted libvirt is asked again, as it may know a newer QEMU.
    set("io_uring");
    within(10, "it is told", || {
        (told() == 2).then_some(()).ok_or(libvirt.log())
    });
    assert_eq!(libvirt.dump("a"), tuned);
    io_uring(&libvirt, true);
    within(10, "it has it", || {
        let dump = libvirt.dump("a");
        dump.contains("io='io_uring'").then_some(()).ok_or(libvirt.log())
    });
    libvirt.virsh(&["start", "a"]).unwrap();
    libvirt.runs_on("a", "1");
    libvirt.virsh(&["destroy", "a"]).unwrap();
}
