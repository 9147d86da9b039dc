//! Checks of libvirt and of virtfit itself.

use std::time::SystemTime;

use crate::check::facts::Facts;
use crate::check::finding::{Finding, Mend};
use crate::check::mend::{Package, word};
use crate::check::versions::installed_libvirt;
use crate::host::libvirt_daemon;
use crate::policy::Profile;
use crate::status::note::{Code, Note};
use crate::status::{PolicyRead, hook};
use crate::types::plural::list;
use virtfit_hook::wire::DISABLED;

const FOLDER: &str = "/etc/libvirt/hooks/qemu.d";
/// Ends of the names that editors and package managers give to copies of a file.
const COPIES: [&str; 8] = [
    "~",
    ".bak",
    ".orig",
    ".rpmsave",
    ".rpmnew",
    ".rpmorig",
    ".dpkg-old",
    ".dpkg-dist",
];
/// Words of programs and files by which a hook tunes guests or the host.
const TUNES: [&str; 7] = [
    "AllowedCPUs",
    "cset ",
    "vfio-isolate",
    "nr_hugepages",
    "smp_affinity",
    "vcpupin",
    "scaling_governor",
];

/// Returns what `status` says of the hook.
fn note(facts: &Facts<'_>) -> Option<Note> {
    hook::note(facts.root(), &facts.running, SystemTime::now())
}

/// Adds the command of a note.
fn with_command(finding: Finding, note: &Note) -> Finding {
    match &note.command {
        Some(command) => finding.run("", [command.clone()]),
        None => finding,
    }
}

pub(super) fn hook_installed(facts: &Facts<'_>, _: &Profile) -> Finding {
    if !facts.exists("/etc/libvirt") {
        let package = Package {
            debian: "libvirt-daemon-system",
            fedora: "libvirt-daemon-kvm",
            suse: "libvirt-daemon-qemu",
        };
        let finding = Finding::fail("/etc/libvirt is absent", "libvirt is not installed");
        return match facts.family.install(package) {
            Some(command) => finding.run("install libvirt for QEMU", [command]),
            None => finding.advise("install libvirt for QEMU"),
        };
    }
    let found = hook::installed(facts.root());
    let paths: Vec<String> = found.iter().map(|hook| hook.path.clone()).collect();
    let read = match paths.is_empty() {
        true => format!("no file of virtfit's in {FOLDER}"),
        false => list(&paths),
    };
    if let Some(note) =
        note(facts).filter(|note| matches!(note.code, Code::HookMissing | Code::HookNotExecutable))
    {
        return with_command(Finding::fail(read, note.said()), &note);
    }
    // libvirt before 6.5 knows no folder of hooks.
    let old = installed_libvirt(facts).is_some_and(|version| version < 6_005_000);
    if old && paths.iter().all(|path| path.starts_with(FOLDER)) {
        let link = "ln -s /usr/bin/virtfit-hook /etc/libvirt/hooks/qemu".to_string();
        return Finding::fail(
            read,
            "libvirt before 6.5 looks at /etc/libvirt/hooks/qemu alone: guests start without a decision",
        )
        .run(
            "make virtfit the only hook, or call it from the one that is there",
            [link, reload(facts)],
        );
    }
    Finding::pass(read, "libvirt finds virtfit's hook")
}

/// Returns the command that lets libvirt look for hooks again.
fn reload(facts: &Facts<'_>) -> String {
    format!("systemctl reload {}", hook::daemon_name(facts.root()))
}

pub(super) fn hook_called(facts: &Facts<'_>, _: &Profile) -> Finding {
    if hook::installed(facts.root()).is_empty() {
        return Finding::unknown("no hook of virtfit's is installed");
    }
    match note(facts) {
        Some(note)
            if matches!(
                note.code,
                Code::HookNotCalled | Code::HookNotCalledYet | Code::LibvirtDown
            ) =>
        {
            with_command(
                Finding::warn("marks of the last call in /run/virtfit", note.said()),
                &note,
            )
        }
        Some(_) => Finding::unknown("the hook cannot be executed"),
        None if libvirt_daemon::running(facts.root()).is_empty() => {
            Finding::unknown("no daemon of libvirt runs now")
        }
        None => Finding::pass(
            "marks of the last call in /run/virtfit",
            "libvirt calls virtfit's hook",
        ),
    }
}

pub(super) fn other_hooks(facts: &Facts<'_>, _: &Profile) -> Finding {
    if !facts.exists("/etc/libvirt") {
        return Finding::unknown("/etc/libvirt is absent");
    }
    let root = facts.root();
    let in_folder = facts
        .list(FOLDER)
        .into_iter()
        .map(|name| format!("{FOLDER}/{name}"));
    let all = std::iter::once("/etc/libvirt/hooks/qemu".to_string()).chain(in_folder);
    let others: Vec<String> = all
        .filter(|path| root.exists(path) && hook::is_executable(root, path))
        .collect();
    // libvirt runs every executable file of the folder, whatever its name.
    let copies: Vec<&String> = others
        .iter()
        .filter(|path| path.starts_with(FOLDER) && COPIES.iter().any(|end| path.ends_with(end)))
        .collect();
    if let [first, ..] = copies.as_slice() {
        let commands = copies
            .iter()
            .map(|path| format!("chmod -x {}", word(path)))
            .collect();
        return Finding::fail(
            first.as_str(),
            "a copy that can be executed: libvirt runs it as a hook of its own",
        )
        .mend(Mend {
            text: "delete it, or keep it from being executed".into(),
            commands,
        });
    }
    let others: Vec<String> = others
        .into_iter()
        .filter(|path| !hook::is_ours(root, path))
        .collect();
    if others.is_empty() {
        return Finding::pass(FOLDER, "no other program has a hook for guests");
    }
    let tunes = |path: &&String| {
        let text = root.read(path.as_str()).unwrap_or_default();
        TUNES.iter().any(|word| text.contains(word))
    };
    let tuning: Vec<String> = others.iter().filter(tunes).cloned().collect();
    match tuning.is_empty() {
        true => Finding::info(
            list(&others),
            "other hooks run for the same guests, in the order of their names",
        ),
        false => Finding::info(
            list(&tuning),
            "another hook tunes guests or the host, too: what it sets and what virtfit sets may differ",
        )
        .advise("read it, and take out what virtfit does now: pins, huge pages, affinities"),
    }
}

pub(super) fn daemon(facts: &Facts<'_>, _: &Profile) -> Finding {
    let enable = || "systemctl enable --now virtfitd".to_string();
    let socket = virtfit_hook::wire::SOCKET;
    // The daemon answers root and the group libvirt alone.
    if facts.found.no_daemon && !facts.knows_guests && facts.exists(socket) {
        return Finding::unknown(format!("{socket} is for root and the group libvirt"));
    }
    if facts.found.no_daemon {
        return Finding::warn(
            format!("no answer at {socket}"),
            "virtfitd does not answer: guests start by the hook alone, and nothing is pinned or moved while they run",
        )
        .run("start it, and at each boot", [enable()]);
    }
    if !facts.is_enabled("virtfitd.service") {
        return Finding::warn(
            "no link to virtfitd.service in /etc/systemd/system/*.wants",
            "virtfitd answers now, and is not started at the next boot",
        )
        .run("start it at each boot", [enable()]);
    }
    Finding::pass(
        format!("{socket}, virtfitd.service"),
        "virtfitd answers, and is started at boot",
    )
}

pub(super) fn offline_unit(facts: &Facts<'_>, _: &Profile) -> Finding {
    const UNIT: &str = "virtfit-offline.service";
    let starting: Vec<String> = facts
        .guests
        .iter()
        .filter(|guest| guest.autostart && guest.profile.is_some())
        .map(|guest| guest.domain.name.clone())
        .collect();
    if facts.is_enabled(UNIT) {
        return Finding::pass(
            UNIT,
            "guests that libvirt starts at boot are fitted before it loads them",
        );
    }
    if starting.is_empty() {
        return match facts.knows_guests {
            true => Finding::pass(
                "no guest with a profile is on autostart",
                "nothing has to be fitted at boot",
            ),
            false => Finding::unknown("definitions are root's to read"),
        };
    }
    Finding::warn(
        format!("{UNIT} is not enabled; on autostart: {}", list(&starting)),
        "libvirt starts these guests at boot before virtfit can fit them to this host",
    )
    .run(
        "fit them before libvirt loads them",
        [format!("systemctl enable {UNIT}")],
    )
}

pub(super) fn policy(facts: &Facts<'_>, _: &Profile) -> Finding {
    let check = || "virtfit policy check".to_string();
    let policy = &facts.view.policy;
    match facts.found.policy {
        PolicyRead::Whole => {}
        PolicyRead::LastGood => {
            return Finding::fail(
                "/etc/virtfit",
                "the policy has errors, and the last good policy is used",
            )
            .run("see all errors", [check()]);
        }
        PolicyRead::None => {
            return Finding::fail(
                "/etc/virtfit",
                "the policy has errors, and no good policy is known from before",
            )
            .run("see all errors", [check()]);
        }
    }
    if facts.exists(DISABLED) {
        return Finding::info(DISABLED, "virtfit is disabled: every hook event is a no-op")
            .run("switch it on", [format!("rm {DISABLED}")]);
    }
    if policy.host.observe {
        return Finding::info("mode = observe", "virtfit only reports what it would do");
    }
    if policy.rules.is_empty() {
        return Finding::info(
            "no rule",
            "virtfit leaves every guest alone that does not ask for a profile itself",
        )
        .advise("write a rule to /etc/virtfit/policy.toml: virtfit-policy(5) has a first policy");
    }
    Finding::pass("/etc/virtfit", "the policy is without errors")
}

pub(super) fn apparmor(facts: &Facts<'_>, _: &Profile) -> Finding {
    const ENABLED: &str = "/sys/module/apparmor/parameters/enabled";
    match facts.text(ENABLED).as_deref() {
        None => return Finding::unknown(format!("{ENABLED} is absent: no AppArmor in this kernel")),
        Some("Y") => {}
        Some(_) => return Finding::pass(format!("{ENABLED}: N"), "AppArmor is off"),
    }
    let loaded = facts.text("/sys/kernel/security/apparmor/profiles");
    let Some(loaded) = loaded else {
        return Finding::unknown("/sys/kernel/security/apparmor/profiles cannot be read");
    };
    let profile = |line: &&str| {
        let name = line.split(' ').next().unwrap_or_default();
        let name = name.rsplit('/').next().unwrap_or_default();
        libvirt_daemon::is_daemon(name) && line.ends_with("(enforce)")
    };
    let Some(profile) = loaded.lines().find(profile) else {
        return Finding::pass(
            "/sys/kernel/security/apparmor/profiles",
            "no profile confines libvirt's daemon",
        );
    };
    // The profile of the daemon allows programs of these folders alone.
    let allowed = ["/usr/bin/", "/usr/sbin/"];
    let resolved = |path: &str| facts.root().resolve(path).ok();
    let outside = hook::installed(facts.root()).into_iter().find_map(|hook| {
        let target = resolved(&hook.path)?.to_string_lossy().into_owned();
        let inside = allowed.iter().any(|folder| target.starts_with(folder));
        (!inside).then_some((hook.path, target))
    });
    match outside {
        Some((path, target)) => Finding::fail(
            format!("{path} leads to {target}; profile {profile}"),
            "AppArmor keeps libvirt from executing a hook outside of /usr/bin and /usr/sbin",
        )
        .run(
            "let the hook be a link to the program in /usr/bin",
            [format!("ln -sf /usr/bin/virtfit-hook {}", word(&path))],
        ),
        None => Finding::pass(
            format!("profile {profile}"),
            "AppArmor lets libvirt execute the hook",
        ),
    }
}

pub(super) fn selinux(facts: &Facts<'_>, _: &Profile) -> Finding {
    const ENFORCE: &str = "/sys/fs/selinux/enforce";
    const STORE: &str = "/var/lib/selinux";
    match facts.text(ENFORCE).as_deref() {
        None => return Finding::unknown(format!("{ENFORCE} is absent: SELinux is off")),
        Some("1") => {}
        Some(_) => return Finding::pass(format!("{ENFORCE}: 0"), "SELinux does not enforce its policy"),
    }
    let kinds = facts.list(STORE);
    let modules: Vec<String> = kinds
        .iter()
        .map(|kind| format!("{STORE}/{kind}/active/modules"))
        .collect();
    let has_module = modules.iter().any(|folder| {
        let priorities = facts.list(folder);
        priorities
            .iter()
            .any(|priority| facts.exists(&format!("{folder}/{priority}/virtfit")))
    });
    if has_module {
        return Finding::pass(
            format!("{ENFORCE}: 1; module virtfit"),
            "SELinux lets virtfit do its work",
        );
    }
    let finding = Finding::fail(
        format!("{ENFORCE}: 1; no module virtfit in {STORE}"),
        "SELinux keeps libvirt's hook from reading guests and writing its records",
    );
    match facts.family.install(Package::same("virtfit-selinux")) {
        Some(command) => finding.run("install virtfit's module", [command]),
        None => finding.advise("install virtfit's SELinux module (packaging/selinux)"),
    }
}
