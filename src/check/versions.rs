//! Checks of versions: what libvirt has, and what fails between versions of libvirt and QEMU.

use crate::check::facts::Facts;
use crate::check::finding::Finding;
use crate::policy::Profile;
use crate::types::plural::list;

/// Folders in which distributions have libvirt's library.
const LIBRARIES: [&str; 5] = [
    "/usr/lib64",
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib",
    "/lib64",
];

/// Parts of libvirt that virtfit uses, with the version that brought each.
const GATES: [(u32, &str); 3] = [
    (6_005_000, "several hooks (qemu.d)"),
    (10_001_000, "clusters in the topology"),
    (10_005_000, "the reason for which a guest ended"),
];

/// Returns the version of the installed libvirt, as 1,000,000 · major + 1,000 · minor + micro: from
/// the name of its library, else from what it last asked QEMU.
pub(super) fn installed_libvirt(facts: &Facts<'_>) -> Option<u32> {
    let named = LIBRARIES.iter().find_map(|folder| {
        let target = facts.root().read_link(format!("{folder}/libvirt.so.0")).ok()?;
        let name = target.file_name()?.to_str()?.to_string();
        // libvirt.so.0.11003.0 is 11.3.0.
        let mut parts = name.strip_prefix("libvirt.so.0.")?.split('.');
        let (number, micro): (u32, u32) = (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
        number.checked_mul(1000)?.checked_add(micro)
    });
    named.or_else(|| {
        facts
            .view
            .host
            .emulators
            .iter()
            .map(|emulator| emulator.libvirt)
            .max()
    })
}

/// Returns the newest version of QEMU that libvirt knows, in the same form.
fn qemu(facts: &Facts<'_>) -> Option<u32> {
    facts
        .view
        .host
        .emulators
        .iter()
        .map(|emulator| emulator.qemu)
        .max()
}

fn words(version: u32) -> String {
    format!(
        "{}.{}.{}",
        version / 1_000_000,
        version / 1000 % 1000,
        version % 1000
    )
}

/// Says why a version is not known.
const NO_LIBVIRT: &str = "libvirt's version: neither its library nor what it knows of QEMU is there";
const NO_QEMU: &str = "QEMU's version: libvirt has not asked a QEMU yet";

pub(super) fn libvirt(facts: &Facts<'_>, _: &Profile) -> Finding {
    let Some(version) = installed_libvirt(facts) else {
        return Finding::unknown(NO_LIBVIRT);
    };
    let lacks = GATES.iter().filter(|(since, _)| version < *since);
    let lacks: Vec<String> = lacks.map(|(_, what)| (*what).to_string()).collect();
    let read = format!("libvirt {}", words(version));
    match lacks.is_empty() {
        true => Finding::pass(read, "it has all that virtfit uses"),
        false => Finding::info(
            read,
            format!("it does not have {}; virtfit does without", list(&lacks)),
        ),
    }
}

pub(super) fn migration_ht(facts: &Facts<'_>, _: &Profile) -> Finding {
    let (Some(libvirt), qemu) = (installed_libvirt(facts), qemu(facts)) else {
        return Finding::unknown(NO_LIBVIRT);
    };
    let Some(qemu) = qemu else {
        return Finding::unknown(NO_QEMU);
    };
    let read = format!("libvirt {}, QEMU {}", words(libvirt), words(qemu));
    if qemu < 10_000_000 || libvirt >= 11_010_000 {
        return Finding::pass(read, "guests with several threads can come in by migration");
    }
    Finding::warn(
        read,
        "QEMU 10 with libvirt before 11.10: guests with several threads a core do not come in by migration (extra features: ht)",
    )
    .advise("before you migrate guests to this host, update libvirt to 11.10, or to a package of your distribution with that fix")
}

pub(super) fn on_isolated(facts: &Facts<'_>, _: &Profile) -> Finding {
    let Some(libvirt) = installed_libvirt(facts) else {
        return Finding::unknown(NO_LIBVIRT);
    };
    let isolated = &facts.view.host.isolated;
    let read = format!(
        "libvirt {}, isolated CPUs: {}",
        words(libvirt),
        or_none(&isolated.to_string())
    );
    if isolated.is_empty() || libvirt >= 10_004_000 {
        return Finding::pass(read, "threads without a pin keep off isolated CPUs");
    }
    Finding::warn(
        read,
        "libvirt before 10.4 lets threads without a pin run on isolated CPUs, where the kernel does not balance them",
    )
    .advise("give every guest of this host a profile (a rule for all: local), or update libvirt to 10.4")
}

fn or_none(text: &str) -> &str {
    if text.is_empty() { "none" } else { text }
}

pub(super) fn numad_path(facts: &Facts<'_>, _: &Profile) -> Finding {
    const NUMAD: &str = "/usr/bin/numad";
    if !facts.knows_guests {
        return Finding::unknown("definitions are root's to read");
    }
    let asks = facts.guests.iter().filter(|guest| {
        let memory = guest.domain.numatune.as_ref();
        guest.domain.vcpu_placement_auto || memory.is_some_and(|memory| memory.auto)
    });
    let asks: Vec<String> = asks.map(|guest| guest.domain.name.clone()).collect();
    if asks.is_empty() {
        return Finding::pass("no guest has placement='auto'", "libvirt does not ask numad");
    }
    let read = format!("placement='auto': {}", list(&asks));
    match (installed_libvirt(facts), facts.exists(NUMAD)) {
        (_, true) => Finding::pass(format!("{read}; {NUMAD}"), "libvirt finds numad"),
        (None, false) => Finding::unknown(NO_LIBVIRT),
        (Some(version), false) if version >= 11_004_000 => Finding::info(
            format!("{read}; no {NUMAD}; libvirt {}", words(version)),
            "libvirt looks for numad in its PATH",
        ),
        (Some(version), false) => Finding::warn(
            format!("{read}; no {NUMAD}; libvirt {}", words(version)),
            "libvirt before 11.4 runs numad only where it was built to look: these guests may not start",
        )
        .advise("take placement='auto' out of these guests and give them a profile, or install numad"),
    }
}

pub(super) fn numa_preplace(facts: &Facts<'_>, _: &Profile) -> Finding {
    const PROGRAM: &str = "/usr/bin/numa-preplace";
    match facts.exists(PROGRAM) {
        true => Finding::info(
            PROGRAM,
            "it places guests with placement='auto', which virtfit then leaves where they are",
        )
        .advise("take placement='auto' out of guests that virtfit is to place"),
        false if facts.exists("/usr/bin") => Finding::pass(
            format!("no {PROGRAM}"),
            "no other program places guests at their start",
        ),
        false => Finding::unknown("/usr/bin is absent"),
    }
}
