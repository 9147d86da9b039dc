//! A real live migration between two hosts: two libvirtds on this machine, each with its own name,
//! UUID and socket.

use virtfit::types::ids::{KiB, NodeId};

use crate::daemon::{Libvirt, Setup, sized, within};

fn policy(housekeeping: u32, dedicated: u32, hugepages: &str) -> String {
    format!(
        "[host]\nhousekeeping = \"{housekeeping}\"\ndedicated = \"{dedicated}\"\nreserved_memory = \"0\"\n\n\
         [profile.moved]\ninherits = \"fit\"\nhugepages = \"{hugepages}\"\n\n\
         [[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"moved\"\n"
    )
}

/// Two hosts. CPUs for guests on the one are for the host on the other: no pin of the first is
/// valid on the second.
fn hosts(pages: u64, hugepages: &str) -> (Libvirt, Libvirt) {
    let host = |hostname, policy: String| {
        Libvirt::with(&Setup {
            pages,
            hostname,
            policy: Some(&policy),
            ..Setup::default()
        })
    };
    let from = host("virtfit-a", policy(0, 1, hugepages));
    (from, host("virtfit-b", policy(1, 0, hugepages)))
}

fn migrate(from: &Libvirt, to: &Libvirt) {
    let uri = to.uri();
    let words = [
        "migrate",
        "--live",
        "--persistent",
        "--undefinesource",
        "--unsafe",
        "mover",
        &uri,
        "tcp://127.0.0.1",
    ];
    from.virsh(&words)
        .unwrap_or_else(|error| panic!("{error}\n{}\n{}", to.libvirt_log(), to.log()));
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_guest_that_migrates_is_fitted_to_its_new_host() {
    let (from, to) = hosts(0, "any");
    let (_daemon_a, _daemon_b) = (from.virtfitd(), to.virtfitd());
    let graphics = "<graphics type='vnc' port='-1' autoport='yes' passwd='s3cret'/>";
    let xml = sized("mover", 1, 32).replace("<memballoon", &format!("{graphics}\n    <memballoon"));
    from.define(&xml).unwrap();
    from.is_tuned("mover");
    from.virsh(&["start", "mover"]).unwrap();
    assert_eq!(from.first_vcpu("mover"), "1", "{}", from.log());
    migrate(&from, &to);
    // There it runs on allowed CPUs from its first instant on, and its definition follows.
    assert_eq!(to.first_vcpu("mover"), "0", "{}", to.log());
    within(10, "its definition fits its new host", || {
        let dump = to.dump("mover");
        let fits = dump.contains("<vcpupin vcpu='0' cpuset='0'/>") && dump.contains("passwd='s3cret'");
        fits.then_some(()).ok_or(dump)
    });
    from.is_clean();
    assert!(from.virsh(&["dominfo", "mover"]).is_err());
    let status = to.virtfit(&["status"]);
    assert!(
        status.status.success(),
        "{}",
        String::from_utf8_lossy(&status.stdout)
    );
    to.virsh(&["destroy", "mover"]).unwrap();
}

/// The guest's memory is 32 MiB: 16 pages. Both hosts share the machine's pool, as no other machine
/// is there.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn a_guest_with_huge_pages_takes_them_on_its_new_host() {
    const SIZE: KiB = KiB(2048);
    let (from, to) = hosts(32, "2M");
    let (_daemon_a, _daemon_b) = (from.virtfitd(), to.virtfitd());
    let free = |libvirt: &Libvirt| -> u64 {
        let nodes = libvirt.status().nodes;
        nodes.iter().filter_map(|node| node.pages_free.get(&SIZE)).sum()
    };
    from.define(&sized("mover", 1, 32)).unwrap();
    from.is_tuned("mover");
    let before = free(&to);
    from.virsh(&["start", "mover"]).unwrap();
    assert!(from.huge_kib("mover") >= 32 << 10, "{}", from.log());
    migrate(&from, &to);
    assert_eq!(to.first_vcpu("mover"), "0", "{}", to.log());
    assert!(to.huge_kib("mover") >= 32 << 10, "{}", to.log());

    // The ledger has it by its status file, and before that by its reservation.
    let now = to.guest("mover");
    assert_eq!(
        (
            now.page_kib,
            now.nodes.clone(),
            now.held.to_string().as_str(),
            now.wrong()
        ),
        (Some(SIZE), vec![NodeId(0)], "0", 0)
    );
    let [file] = &to.reservations()[..] else {
        panic!("not one reservation: {:?}\n{}", to.reservations(), to.log());
    };
    let text = std::fs::read_to_string(to.on_host(&format!("run/virtfit/reservations/{file}"))).unwrap();
    let promised = virtfit::ledger::reservation::Reservation::from_json(&text).unwrap();
    assert_eq!(promised.tentative_until, None, "{text}");
    assert_eq!(promised.cpus.to_string(), "0", "{text}");
    let pages: Vec<_> = promised
        .memory
        .iter()
        .map(|piece| (piece.node, piece.page_kib, piece.kib))
        .collect();
    assert_eq!(pages, [(Some(NodeId(0)), Some(SIZE), KiB(32 << 10))], "{text}");
    within(10, "its pages are counted once, there and where it was", || {
        let now = (free(&from), free(&to));
        (now.1 == before - 16)
            .then_some(())
            .ok_or_else(|| format!("{before} before, {now:?} now\n{}\n{}", from.log(), to.log()))
    });
    within(10, "its definition fits its new host", || {
        let dump = to.dump("mover");
        let all = [
            "<vcpupin vcpu='0' cpuset='0'/>",
            "<page size='2048' unit='KiB'",
            "<memory mode='strict' nodeset='0'/>",
        ];
        let fits = all.iter().all(|part| dump.contains(part));
        fits.then_some(()).ok_or(dump)
    });
    from.is_clean();
    to.virsh(&["destroy", "mover"]).unwrap();
    to.is_clean();
    assert_eq!(free(&to), before);
    // A cold start on that host works too.
    to.virsh(&["start", "mover"]).unwrap();
    assert_eq!(to.first_vcpu("mover"), "0", "{}", to.log());
    assert!(to.huge_kib("mover") >= 32 << 10, "{}", to.log());
    to.virsh(&["destroy", "mover"]).unwrap();
}
