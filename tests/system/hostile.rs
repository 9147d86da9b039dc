//! Definitions with a forged record of virtfit's: libvirt keeps it, and only their own guests are
//! affected.

use crate::daemon::{Libvirt, Setup, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"g*\" }\nprofile = \"plain\"\n";

/// Guests, each with its forged part; the first makes a position wrap around.
const FORGED: [(&str, &str, &str); 4] = [
    (
        "g-position",
        "",
        "<v:set at='vcpupin/0'><v:was raw='&#10;&lt;vcpupin/&gt;' pos='0+18446744073709551615'/></v:set>",
    ),
    ("g-strides", "more='1' withheld='0-16383:2'", ""),
    ("withheld", "withheld='0-31'", ""),
    (
        "floats",
        "withheld='0-31'",
        "<v:set at='vcpupin/0' wrote='0-1'/><v:set at='emulatorpin' wrote='0-1'/>",
    ),
];

fn forged(name: &str, attributes: &str, records: &str) -> String {
    let record = format!(
        "<metadata><v:fit xmlns:v='https://virtfit.dev/ns/domain/1' version='1' profile='plain' policy='0' \
         on-no-fit='run-shared' threads='1' {attributes}>{records}</v:fit></metadata>"
    );
    small(name).replacen("</name>", &format!("</name>\n  {record}"), 1)
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn forged_records_stay_their_guests_affair() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    for with_daemon in [false, true] {
        let daemon = with_daemon.then(|| libvirt.virtfitd());
        for (name, attributes, records) in FORGED {
            libvirt.define(&forged(name, attributes, records)).unwrap();
            assert!(
                libvirt.dump(name).contains("on-no-fit"),
                "libvirt keeps the record"
            );
        }
        // The forgers run first, and keep running.
        for (name, ..) in FORGED.iter().filter(|(name, ..)| !name.starts_with('g')) {
            libvirt.virsh(&["start", name]).unwrap();
            assert_eq!(libvirt.guest(name).held.to_string(), "", "{}", libvirt.log());
        }
        // Another guest is defined, tuned, started, stopped.
        libvirt.define(&small("good")).unwrap();
        if !with_daemon {
            let done = libvirt.virtfit(&["apply", "--all", "--yes"]);
            assert!(done.status.success(), "{done:?}");
        }
        libvirt.is_tuned("good");
        libvirt.virsh(&["start", "good"]).unwrap();
        libvirt.runs_on("good", "1");
        let done = libvirt.virtfit(&["status"]);
        let said = String::from_utf8_lossy(&done.stdout).into_owned();
        assert!(said.contains("good") && said.contains("g-position"), "{said}");
        assert_eq!(libvirt.status().guests.len(), FORGED.len() + 1);
        let done = libvirt.virtfit(&["apply", "--all", "--yes"]);
        assert!(done.status.success(), "{done:?}");
        libvirt.virsh(&["destroy", "good"]).unwrap();
        within(10, "its CPU is free", || {
            match libvirt.reservations().is_empty() {
                true => Ok(()),
                false => Err(format!("{:?}", libvirt.reservations())),
            }
        });
        // The guests with forged records start, untuned, and none is undecided.
        for (name, ..) in FORGED.iter().filter(|(name, ..)| name.starts_with('g')) {
            libvirt.virsh(&["start", name]).unwrap();
            let guest = libvirt.guest(name);
            assert_eq!(guest.undecided, None, "{name}");
            assert!(
                guest
                    .problem
                    .is_some_and(|problem| problem.contains("cannot be read")),
                "{name}"
            );
        }
        for (name, ..) in FORGED {
            libvirt.virsh(&["destroy", name]).unwrap();
            libvirt.virsh(&["undefine", name]).unwrap();
        }
        libvirt.virsh(&["undefine", "good"]).unwrap();
        assert!(!libvirt.log().contains("panicked"), "{}", libvirt.log());
        drop(daemon);
    }
}
