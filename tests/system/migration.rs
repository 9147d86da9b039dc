//! A real live migration between two hosts: two libvirtds on this machine, each with its own name, UUID and socket.

use crate::daemon::{Libvirt, Setup, sized, within};

fn policy(housekeeping: u32, dedicated: u32) -> String {
    format!(
        "[host]\nhousekeeping = \"{housekeeping}\"\ndedicated = \"{dedicated}\"\nreserved_memory = \"0\"\n\n\
         [[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"fit\"\n"
    )
}

fn vcpu_cpus(libvirt: &Libvirt, guest: &str) -> String {
    let threads = libvirt.threads(guest);
    threads
        .iter()
        .find(|thread| thread.name.starts_with("CPU 0"))
        .map_or_else(|| "no vCPU thread".into(), |thread| thread.cpus.clone())
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_guest_that_migrates_is_fitted_to_its_new_host() {
    // What is for guests on the one is for the host on the other: no pin of the first is right on the second.
    let (first, second) = (policy(0, 1), policy(1, 0));
    let host = |hostname, policy| {
        Libvirt::with(&Setup {
            hostname,
            policy: Some(policy),
            ..Setup::default()
        })
    };
    let (from, to) = (host("virtfit-a", &first), host("virtfit-b", &second));
    let (_daemon_a, _daemon_b) = (from.virtfitd(), to.virtfitd());
    let graphics = "<graphics type='vnc' port='-1' autoport='yes' passwd='s3cret'/>";
    let xml = sized("mover", 1, 32).replace("<memballoon", &format!("{graphics}\n    <memballoon"));
    from.define(&xml).unwrap();
    within(10, "tuned", || {
        let dump = from.dump("mover");
        dump.contains("virtfit.dev/ns/domain/1").then_some(()).ok_or(dump)
    });
    from.virsh(&["start", "mover"]).unwrap();
    assert_eq!(vcpu_cpus(&from, "mover"), "1", "{}", from.log());
    from.virsh(&[
        "migrate",
        "--live",
        "--persistent",
        "--undefinesource",
        "--unsafe",
        "mover",
        &to.uri(),
        "tcp://127.0.0.1",
    ])
    .unwrap_or_else(|error| panic!("{error}\n{}\n{}", to.libvirt_log(), to.log()));
    // There it runs where it may from its first instant on, and its definition follows.
    assert_eq!(vcpu_cpus(&to, "mover"), "0", "{}", to.log());
    within(10, "its definition fits its new host", || {
        let dump = to.dump("mover");
        let fits = dump.contains("<vcpupin vcpu='0' cpuset='0'/>") && dump.contains("passwd='s3cret'");
        fits.then_some(()).ok_or(dump)
    });
    within(10, "nothing is left where it was", || {
        let left = std::fs::read_dir(from.on_host("run/virtfit/reservations")).map_or(0, Iterator::count);
        (left == 0).then_some(()).ok_or(format!("{left} reservations"))
    });
    assert!(from.virsh(&["dominfo", "mover"]).is_err());
    let status = to.virtfit(&["status"]);
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stdout)
    );
    to.virsh(&["destroy", "mover"]).unwrap();
}
