//! Enlightenments of Hyper-V: which guests get them, and what rules them out.

use super::asked::{Asked, guest};
use virtfit::host::Emulator;

const WINDOWS: &str = "<metadata><l:libosinfo xmlns:l='http://libosinfo.org/xmlns/libvirt/domain/1.0'>\
                       <l:os id='http://microsoft.com/win/11'/></l:libosinfo></metadata>";
const KEYS: &str = "hyperv = \"recommended\"";

/// Returns the paper's host, with libvirt's account of its QEMU.
fn host(libvirt: u32, qemu: u32, kernel: u32, hyperv: Option<&str>) -> Asked {
    let mut asked = Asked::on("paper");
    asked.host.emulators = vec![Emulator {
        path: "/usr/bin/qemu-system-x86_64".into(),
        qemu,
        libvirt,
        kernel,
        hyperv: hyperv.map(|all| all.split(' ').map(str::to_string).collect()),
    }];
    asked
}

const ALL: &str = "relaxed vapic spinlocks vpindex runtime synic stimer frequencies tlbflush ipi";

fn windows() -> String {
    guest(2, 2048, WINDOWS, "", "")
}

/// Returns how many enlightenments an answer sets, and its lines on Hyper-V.
fn given(asked: &Asked, keys: &str, xml: &str) -> (usize, String) {
    let lines = asked.decide(keys, xml).lines();
    let set = lines
        .iter()
        .filter(|line| line.starts_with("set features/hyperv"));
    let said: Vec<&String> = lines.iter().filter(|line| line.contains("hyperv")).collect();
    (set.count(), format!("{said:?}"))
}

#[test]
fn they_are_given_where_libvirt_and_kvm_have_them() {
    // libvirt, QEMU, kernel, what libvirt says KVM offers; how many are set, what is said
    let rows = [
        (
            9_000_000,
            7_002_022,
            6,
            Some(ALL),
            10,
            "timer[@name='hypervclock'] yes",
        ),
        // The host's KVM offers less: libvirt would not start the guest with more.
        (
            9_000_000,
            7_002_022,
            6,
            Some("spinlocks vendor_id"),
            1,
            "not done hyperv relaxed,vapic,vpindex",
        ),
        (
            9_000_000,
            7_002_022,
            6,
            Some("vpindex ipi stimer"),
            2,
            "hyperv stimer",
        ),
        (
            9_000_000,
            7_002_022,
            6,
            Some("spinlocks"),
            1,
            "not done hypervclock",
        ),
        // libvirt before 9.0 does not say.
        (8_000_000, 5_002_000, 5, None, 10, "hypervclock"),
        (8_000_000, 5_002_000, 4, None, 0, "too old"),
        (5_006_000, 5_002_000, 5, None, 0, "too old"),
        (9_000_000, 4_000_000, 6, Some(ALL), 0, "too old"),
    ];
    for (libvirt, qemu, kernel, hyperv, set, said) in rows {
        let asked = host(libvirt, qemu, kernel, hyperv);
        let (found, lines) = given(&asked, KEYS, &windows());
        assert_eq!(found, set, "{libvirt} {qemu} {kernel} {hyperv:?}: {lines}");
        assert!(
            lines.contains(said),
            "{libvirt} {qemu} {kernel} {hyperv:?}: {lines}"
        );
    }
    let (found, lines) = given(&Asked::on("paper"), KEYS, &windows());
    assert!(found == 0 && lines.contains("has not told"), "{lines}");
}

#[test]
fn only_windows_under_kvm_gets_them_and_hand_written_ones_stay() {
    let asked = host(9_000_000, 7_002_022, 6, Some(ALL));
    let features = |inner: &str| windows().replace("<os>", &format!("<features>{inner}</features>\n  <os>"));
    // XML, keys, how many are set
    let rows = [
        (guest(2, 2048, "", "", ""), KEYS, 0),
        (
            windows().replace("microsoft.com/win/11", "debian.org/debian/12"),
            KEYS,
            0,
        ),
        (windows().replace("type='kvm'", "type='qemu'"), KEYS, 0),
        (windows(), "", 0),
        (windows(), "hyperv = \"recommended\"\nguest_visible = \"keep\"", 0),
        (
            windows().replace("</domain>", "<launchSecurity type='sev'/></domain>"),
            KEYS,
            0,
        ),
        (features("<hyperv mode='passthrough'/>"), KEYS, 0),
        (
            features("<hyperv><relaxed state='on'/><ipi state='off'/></hyperv>"),
            KEYS,
            8,
        ),
        // Without its index of processors, what needs it is not written.
        (features("<hyperv><vpindex state='off'/></hyperv>"), KEYS, 5),
        (
            windows().replace(
                "</os>",
                "</os>\n  <clock><timer name='hypervclock' present='no'/></clock>",
            ),
            KEYS,
            9,
        ),
    ];
    for (xml, keys, set) in &rows {
        let (found, lines) = given(&asked, keys, xml);
        assert_eq!(found, *set, "{keys}: {lines}\n{xml}");
    }
    // The guest keeps what it was given, also where KVM offers less.
    let tuned = asked.decide(KEYS, &windows()).text().to_string();
    let less = host(9_000_000, 7_002_022, 6, Some("spinlocks")).incoming();
    assert_eq!(less.decide(KEYS, &tuned).text(), tuned);
    assert_eq!(given(&asked.incoming(), KEYS, &windows()).0, 0, "on the way in");
}

/// KVM's hint says something to Linux alone.
#[test]
fn windows_gets_no_hint() {
    let isolated = Asked::on("isolcpus");
    let hint = |xml: &str| {
        let lines = isolated.decide("", xml).lines();
        lines.iter().any(|line| line.contains("hint-dedicated"))
    };
    assert!(hint(&guest(2, 2048, "", "", "")));
    assert!(!hint(&windows()));
}
