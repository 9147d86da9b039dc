//! Each trouble alone, through the program: its code, whether it is wrong, and the guest it names.

use std::fs;
use std::os::unix::fs::symlink;

use virtfit::hostfs::HostFs;

use super::host::{By, Host, Made, code, of, wrong};

/// Rules by the first letter of a guest's name: `f` and `l` have profiles, all others none.
const RULES: &str = "[profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\nnuma = \"off\"\n\n\
                     [[rule]]\nmatch = { name = \"f*\" }\nprofile = \"plain\"\n\n\
                     [[rule]]\nmatch = { name = \"l*\" }\nprofile = \"shared\"\n";

fn host() -> Host {
    let host = Host::new(RULES);
    host.answer();
    host
}

/// Makes a guest that holds all of CPU 1-7, 9-15, 17-23 and 25-31 but these.
fn all_but(free: &[u32]) -> Made {
    let dedicated = (0..32u32).filter(|cpu| cpu % 8 != 0 && !free.contains(cpu));
    let cpus: Vec<String> = dedicated.map(|cpu| cpu.to_string()).collect();
    Made::pinned("fbig", &cpus.iter().map(String::as_str).collect::<Vec<_>>())
}

#[test]
fn a_host_on_which_all_is_well_is_ok() {
    let host = host();
    host.guest(&Made::pinned("f1", &["1", "17"]));
    let (status, exit) = host.status();
    assert_eq!((exit, status.ok), (0, true), "{status:?}");
    let text = String::from_utf8(host.virtfit(&["status"]).stdout).unwrap();
    assert!(text.starts_with("GUEST STATE"), "{text}");
}

#[test]
fn pages_of_no_size_are_those_of_the_host() {
    let host = host();
    host.put(
        "proc/meminfo",
        "MemTotal: 33554432 kB\nHugepagesize: 1048576 kB\n",
    );
    let text = "<domain type='kvm'><name>odd</name><uuid>8c1f6f0e-0000-4000-8000-000000000001</uuid>\
                <memory>1048576</memory><memoryBacking><hugepages/></memoryBacking><vcpu>1</vcpu></domain>";
    host.put("etc/libvirt/qemu/odd.xml", text);
    let (status, _) = host.status();
    let guest = status.guests.iter().find(|guest| guest.name == "odd").unwrap();
    assert_eq!(guest.page_kib.map(|page| page.0), Some(1 << 20));
}

#[test]
fn virtfits_own_troubles_are_said() {
    let host = Host::new(RULES);
    let (status, exit) = host.status();
    assert_eq!((exit, wrong(&status.notes)), (3, vec!["no-daemon".to_string()]));
    host.answer();
    host.hook(0o644);
    let (status, exit) = host.status();
    assert_eq!(
        (exit, wrong(&status.notes)),
        (3, vec!["hook-not-executable".to_string()])
    );
    let way = "chmod +x /etc/libvirt/hooks/qemu.d/50-virtfit && systemctl reload libvirtd";
    assert!(status.notes[0].text.ends_with(way), "{status:?}");
    host.remove("etc/libvirt/hooks/qemu.d/50-virtfit");
    let (status, exit) = host.status();
    assert_eq!(
        (exit, wrong(&status.notes)),
        (3, vec!["hook-missing".to_string()])
    );
    // The repair can be pasted as it is, also where libvirt made no folder for it.
    let way = ": mkdir -p /etc/libvirt/hooks/qemu.d && ln -sf /usr/bin/virtfit-hook \
               /etc/libvirt/hooks/qemu.d/50-virtfit && systemctl reload libvirtd";
    assert!(status.notes[0].text.ends_with(way), "{status:?}");
    // One link leads to nothing, another to the hook.
    let link = host.path().join("etc/libvirt/hooks/qemu.d/50-fit");
    symlink("/usr/bin/virtfit-hook", link).unwrap();
    let (status, _) = host.status();
    assert_eq!(wrong(&status.notes), ["hook-not-executable"]);
    let way = "leads to /usr/bin/virtfit-hook, which is not there";
    assert!(status.notes[0].text.contains(way), "{status:?}");
    host.put("usr/bin/virtfit-hook", "");
    let program = host.path().join("usr/bin/virtfit-hook");
    std::fs::set_permissions(program, std::os::unix::fs::PermissionsExt::from_mode(0o755)).unwrap();
    let (status, exit) = host.status();
    assert_eq!((exit, wrong(&status.notes)), (0, vec![]));
    host.put("run/virtfit/disabled", "");
    let (status, exit) = host.status();
    assert_eq!((exit, wrong(&status.notes)), (3, vec!["disabled".to_string()]));
}

#[test]
fn cpus_that_the_policy_names_and_the_host_lacks_are_said() {
    let host = Host::new(RULES);
    let sets = "[host]\nhousekeeping = \"0,8,16,24,90-99\"\n";
    host.put("etc/virtfit/policy.d/50-sets.toml", sets);
    host.answer();
    host.guest(&Made::pinned("f1", &["1", "17"]));
    let (status, exit) = host.status();
    let notes: Vec<_> = status.notes.iter().map(|note| (code(note), note.wrong)).collect();
    assert_eq!((exit, notes), (0, vec![("cpu-sets".to_string(), false)]));
    let said = "housekeeping: CPUs 90-99, which this host does not have; left out";
    assert_eq!(status.notes[0].text, said);
    let text = String::from_utf8(host.virtfit(&["status"]).stdout).unwrap();
    assert!(text.starts_with(said), "{text}");
    // The plan says it once for any number of guests, and not beside output for programs.
    for (words, lines) in [
        (&["plan"][..], 1),
        (&["plan", "f1"], 1),
        (&["plan", "--json"], 0),
        (&["plan", "f1", "--diff"], 0),
    ] {
        let stderr = String::from_utf8(host.virtfit(words).stderr).unwrap();
        let found = stderr.matches(&format!("virtfit: warning: {said}\n")).count();
        assert_eq!(found, lines, "{words:?}: {stderr}");
    }
}

/// Boots the host this many seconds from now.
fn booted(host: &Host, seconds: i64) {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    let at = now.unwrap().as_secs().saturating_add_signed(seconds);
    host.put("proc/stat", &format!("cpu  0\nbtime {at}\n"));
}

/// Starts libvirtd this many clock ticks after the boot.
fn libvirtd(host: &Host, start: u64) {
    host.put("run/libvirtd.pid", "77\n");
    host.put("proc/77/comm", "libvirtd\n");
    let stat = format!("77 (libvirtd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0\n");
    host.put("proc/77/stat", &stat);
}

#[test]
fn a_hook_that_is_not_called_is_said() {
    let host = host();
    // The host was booted a day ago; the guests' QEMU started 50 seconds after that, the hook was
    // installed just now.
    booted(&host, -86_400);
    libvirtd(&host, 4000);
    host.guest(&Made::pinned("f1", &["1"]));
    let (status, exit) = host.status();
    let codes: Vec<String> = status.notes.iter().map(code).collect();
    assert_eq!(
        (exit, codes),
        (0, vec!["hook-not-called-yet".to_string()]),
        "{status:?}"
    );
    // A reload changes nothing that can be seen, so it is said what does.
    let proof = "the first start of one proves that libvirtd calls it, and ends this note. Unless libvirtd was reloaded since: \
                 systemctl reload libvirtd";
    assert!(status.notes[0].text.ends_with(proof), "{status:?}");
    // The guest started after the hook was there: the boot is in the future, compared with the
    // hook's time.
    booted(&host, 3600);
    let (status, exit) = host.status();
    assert_eq!(
        (exit, wrong(&status.notes)),
        (3, vec!["hook-not-called".to_string()])
    );
    assert!(status.notes[0].text.contains("f1"), "{status:?}");
    host.put("run/virtfit/hook.json", "{\"pid\":77,\"start_time\":4000}\n");
    assert_eq!(host.status().1, 0);
    // Another libvirt runs by now.
    libvirtd(&host, 4001);
    assert_eq!(wrong(&host.status().0.notes), ["hook-not-called"]);
}

/// A mark goes with its folder: where that is newer than each guest, nothing is proved.
#[test]
fn a_mark_that_was_removed_raises_no_alarm() {
    let host = Host::new(RULES);
    // The guest started just now, 50 seconds after the boot, and libvirt before it.
    booted(&host, -50);
    libvirtd(&host, 4000);
    host.guest(&Made::pinned("f1", &["1"]));
    host.put("run/virtfit/other", "");
    assert!(wrong(&host.status().0.notes).contains(&"hook-not-called".to_string()));
    host.remove("run/virtfit");
    std::thread::sleep(std::time::Duration::from_secs(4));
    host.answer();
    let (status, exit) = host.status();
    let codes: Vec<String> = status.notes.iter().map(code).collect();
    assert_eq!(
        (exit, codes),
        (0, vec!["hook-not-called-yet".to_string()]),
        "{status:?}"
    );
}

#[test]
fn a_broken_policy_hides_nobody() {
    let host = host();
    host.guest(&Made::pinned("f1", &["1"]));
    let kept = format!(
        "[{{\"path\":\"/etc/virtfit/policy.toml\",\"tier\":\"main\",\"text\":{}}}]\n",
        serde_json::to_string(&format!("{}{RULES}", super::host::SETS)).unwrap()
    );
    host.policy("[rule]\n");
    // No good policy was ever kept.
    let (status, exit) = host.status();
    assert_eq!(
        (exit, wrong(&status.notes)),
        (3, vec!["policy-broken".to_string()])
    );
    assert_eq!(of(&status, "f1").profile, None);
    let plan = host.virtfit(&["plan", "f1"]);
    assert_eq!((plan.status.code(), plan.stdout.is_empty()), (Some(1), true));
    host.put("run/virtfit/policy.json", &kept);
    let output = host.virtfit(&["status"]);
    let (text, said) = (
        String::from_utf8_lossy(&output.stdout).into_owned(),
        String::from_utf8_lossy(&output.stderr).into_owned(),
    );
    assert_eq!(output.status.code(), Some(3), "{text}{said}");
    assert!(said.contains("/etc/virtfit/policy.toml:"), "{said}");
    assert!(
        text.contains("the last good policy is used") && text.contains("plain"),
        "{text}"
    );
    let plan = host.virtfit(&["plan", "f1"]);
    let text = String::from_utf8_lossy(&plan.stdout).into_owned();
    assert!(text.contains("plain"), "{text}");
    let said = String::from_utf8_lossy(&plan.stderr).into_owned();
    assert!(said.contains("/etc/virtfit/policy.toml:"), "{said}");
    assert_eq!(plan.status.code(), Some(1), "{said}");
    // A policy that is named is the one the user asks about; a missing one changes nothing.
    let file = host.path().join("etc/virtfit/policy.toml");
    for words in [
        &["status", "--policy", file.to_str().unwrap()][..],
        &["rewrite", "f1"],
        &["apply", "--dry-run", "--all"],
    ] {
        let output = host.virtfit(words);
        assert_eq!(
            (output.status.code(), output.stdout.len()),
            (Some(1), 0),
            "{words:?}"
        );
    }
}

#[test]
fn held_cpus_that_are_not_exclusive_are_said() {
    let mut app = Made::pinned("app", &["1"]);
    let mut hand = Made::pinned("hand", &["1"]);
    hand.pins[0] = Some(("1".into(), By::Hand));
    app.runs = true;
    for other in [Made::free("web"), app, hand] {
        let host = host();
        host.guest(&Made::pinned("f1", &["1"]));
        host.guest(&other);
        let (status, exit) = host.status();
        let guest = of(&status, &other.name);
        assert_eq!(exit, 3, "{guest:?}");
        let notes = guest.notes.iter().filter(|note| note.wrong);
        let named = |note: &&virtfit::status::Note| {
            ["on-held-cpu", "cpu-held-twice"].contains(&code(note).as_str()) && note.text.contains("f1")
        };
        assert!(notes.clone().any(|note| named(&note)), "{guest:?}");
        // The remedy helps a guest without pins.
        let remedy = " (unmanaged = \"confine\" in the policy's [host] keeps it off)";
        let told = notes.clone().any(|note| note.text.ends_with(remedy));
        assert_eq!(told, other.name == "web", "{guest:?}");
        let text = String::from_utf8(host.virtfit(&["status"]).stdout).unwrap();
        let line = text.lines().find(|line| line.starts_with(&other.name)).unwrap();
        assert!(!line.contains(" ok"), "{text}");
    }
}

#[test]
fn who_is_on_a_withheld_cpu_and_how_it_gets_off_is_said() {
    let threads = |own: &str| {
        format!(
            "<domain type='kvm'><name>web</name><memory>1048576</memory><vcpu>1</vcpu><iothreads>1</iothreads><cputune>{own}</cputune></domain>"
        )
    };
    // pins by hand, beside f1 on CPU 1 with CPU 17 withheld; command
    for (own, command) in [
        ("<vcpupin vcpu='0' cpuset='17'/>", "virsh vcpupin web 0 "),
        (
            "<vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='17'/>",
            "virsh emulatorpin web ",
        ),
        (
            "<vcpupin vcpu='0' cpuset='0'/><iothreadpin iothread='1' cpuset='17'/>",
            "virsh iothreadpin web 1 ",
        ),
    ] {
        let host = Host::new("[[rule]]\nmatch = { name = \"f*\" }\nprofile = \"isolated\"\n");
        host.answer();
        host.define(&Made::free("f1"));
        let tuned = String::from_utf8(host.virtfit(&["rewrite", "f1"]).stdout).unwrap();
        assert!(tuned.contains("withheld='17'"), "{tuned}");
        host.put("etc/libvirt/qemu/f1.xml", &tuned);
        for (name, pid, xml) in [("f1", 4711, &tuned), ("web", 4712, &threads(own))] {
            let status = format!("<domstatus state='running' reason='booted' pid='{pid}'>{xml}</domstatus>");
            host.put(&format!("run/libvirt/qemu/{name}.xml"), &status);
        }
        let (status, exit) = host.status();
        assert_eq!(exit, 3, "{own}");
        for name in ["f1", "web"] {
            let notes = &of(&status, name).notes;
            let twice = notes.iter().find(|note| code(note) == "cpu-held-twice");
            let twice = twice.unwrap_or_else(|| panic!("{name} {own}: {notes:?}"));
            assert!(twice.text.contains("; web was pinned there by hand"), "{twice:?}");
            let said = twice.command.as_deref().unwrap_or_default();
            assert!(said.starts_with(command), "{said}");
        }
    }
}

#[test]
fn a_cpu_that_went_offline_is_said() {
    let host = host();
    host.guest(&Made::pinned("f1", &["1", "17"]));
    let online = host.path().join("sys/devices/system/cpu/online");
    fs::write(online, "0,2-31\n").unwrap();
    let (status, exit) = host.status();
    let notes = &of(&status, "f1").notes;
    let text = notes
        .iter()
        .find(|note| code(note) == "not-pinned")
        .map(|note| &note.text);
    assert_eq!(exit, 3, "{notes:?}");
    assert!(
        text.is_some_and(|text| text.contains("its CPU 1 is offline")),
        "{notes:?}"
    );
    assert!(text.is_some_and(|text| !text.contains("floats on")), "{notes:?}");
}

#[test]
fn a_guest_without_its_place_is_said() {
    let host = host();
    host.guest(&all_but(&[]));
    let mut floats = Made::pinned("f2", &["0,8,16,24", "0,8,16,24"]);
    host.guest(&floats);
    let (status, exit) = host.status();
    let guest = of(&status, "f2");
    assert_eq!(
        (exit, wrong(&guest.notes)),
        (3, vec!["no-place".to_string()]),
        "{guest:?}"
    );
    let text = &guest.notes[0].text;
    assert!(
        text.starts_with("no place: floats on CPUs 0,8,16,24: needs 2 "),
        "{text}"
    );
    assert!(text.contains("fbig"), "{text}");
    // The guest is shut off: the note says so, and is not wrong.
    host.remove("run/libvirt/qemu/f2.xml");
    let (status, exit) = host.status();
    let guest = of(&status, "f2");
    let codes: Vec<String> = guest.notes.iter().map(code).collect();
    assert_eq!((exit, codes), (0, vec!["no-place-now".to_string()]), "{guest:?}");
    // The guest was never pinned, and has a placement: the daemon has not done its work.
    let host = self::host();
    floats.pins = vec![None, None];
    floats.masks = vec!["0-31".into(), "0-31".into()];
    host.guest(&floats);
    let (status, exit) = host.status();
    let guest = of(&status, "f2");
    assert_eq!(
        (exit, wrong(&guest.notes)),
        (3, vec!["not-pinned".to_string()]),
        "{guest:?}"
    );
}

#[test]
fn observe_mode_says_what_it_did_not_do() {
    let host = Host::new(RULES);
    host.answer();
    let sets = super::host::SETS.replacen("[host]\n", "[host]\nmode = \"observe\"\n", 1);
    host.put("etc/virtfit/policy.toml", &format!("{sets}{RULES}"));
    host.guest(&Made::free("f1"));
    let mut off = Made::free("f2");
    off.runs = false;
    host.guest(&off);
    let (status, exit) = host.status();
    let running = of(&status, "f1");
    assert_eq!(
        (exit, wrong(&running.notes)),
        (3, vec!["observe".to_string()]),
        "{running:?}"
    );
    assert_eq!(
        running.notes[0].text,
        "observe: its vCPUs would be on CPU 1, and may run on CPUs 0-31"
    );
    let off = of(&status, "f2");
    assert_eq!(
        off.notes.iter().map(code).collect::<Vec<_>>(),
        ["observe"],
        "{off:?}"
    );
    assert!(off.notes[0].text.contains("would give it CPU "), "{off:?}");
    // A guest that is to float where it may run already lacks nothing, whatever the mode.
    host.remove("run/libvirt/qemu/f1.xml");
    host.guest(&Made::free("l1"));
    for sets in [&sets, super::host::SETS] {
        host.put("etc/virtfit/policy.toml", &format!("{sets}{RULES}"));
        let (status, exit) = host.status();
        let floats = of(&status, "l1");
        assert_eq!((exit, wrong(&floats.notes)), (0, vec![]), "{floats:?}");
    }
}

#[test]
fn what_was_set_by_hand_is_said() {
    let host = host();
    let mut away = Made::pinned("f1", &["0"]);
    away.pins[0] = Some(("0".into(), By::Hand));
    let mut kept = Made::pinned("f2", &["2"]);
    kept.pins[0] = Some(("2".into(), By::Hand));
    let mut off = kept.clone();
    off.name = "f3".into();
    off.runs = false;
    off.pins[0] = Some(("3".into(), By::Hand));
    // Both vCPUs on one CPU, and three of them on two.
    let mut both = Made::pinned("f4", &["5", "5"]);
    both.pins.fill(Some(("5".into(), By::Hand)));
    let mut three = Made::pinned("f5", &["6-7", "6-7", "6-7"]);
    three.pins.fill(Some(("6-7".into(), By::Hand)));
    for guest in [&away, &kept, &off, &both, &three] {
        host.guest(guest);
    }
    let (status, exit) = host.status();
    assert_eq!(exit, 3);
    let notes = &of(&status, "f1").notes;
    assert_eq!(
        (wrong(notes), notes[0].command.as_deref()),
        (vec!["pinned-away".into()], None)
    );
    for (name, text) in [
        (
            "f4",
            "2 vCPUs (0-1) are pinned to CPU 5: no CPU of its own for each",
        ),
        (
            "f5",
            "3 vCPUs (0-2) are pinned to CPUs 6-7: no CPU of its own for each",
        ),
    ] {
        let notes = &of(&status, name).notes;
        assert_eq!(wrong(notes), ["pinned-away"], "{notes:?}");
        assert_eq!(notes[0].text, text);
    }
    // A pin is said once.
    let by_hand = of(&status, "f1")
        .notes
        .iter()
        .filter(|note| code(note) == "set-by-hand");
    let texts: Vec<&str> = by_hand.map(|note| note.text.as_str()).collect();
    assert_eq!(texts, ["set by hand: emulator on CPUs 0,8,16,24"]);
    for (name, cpu) in [("f2", 2), ("f3", 3)] {
        let notes = &of(&status, name).notes;
        assert_eq!(wrong(notes), Vec::<String>::new(), "{notes:?}");
        let by_hand = notes.iter().find(|note| code(note) == "set-by-hand").unwrap();
        let text = &by_hand.text;
        assert!(
            text.starts_with(&format!("set by hand: vCPU 0 on CPU {cpu}")),
            "{text}"
        );
    }
}

#[test]
fn cpus_that_a_profile_gives_no_more_are_said() {
    let host = host();
    host.guest(&Made::pinned("l1", &["1"]));
    let (status, exit) = host.status();
    let guest = of(&status, "l1");
    assert_eq!(
        (exit, wrong(&guest.notes)),
        (3, vec!["holds-too-much".to_string()]),
        "{guest:?}"
    );
}

#[test]
fn settings_without_a_profile_are_said() {
    let host = host();
    let mut app = Made::pinned("app", &["1"]);
    host.guest(&app);
    app.name = "clone".into();
    app.runs = false;
    host.guest(&app);
    let (status, _) = host.status();
    for name in ["app", "clone"] {
        let guest = of(&status, name);
        let left = guest.notes.iter().find(|note| code(note) == "left-over").unwrap();
        let text = format!("carries virtfit's settings though no rule matches: virtfit revert {name}");
        assert_eq!((left.text.as_str(), left.wrong), (text.as_str(), false));
    }
}

#[test]
fn settings_of_the_definition_alone_or_of_the_running_guest_alone_are_said() {
    let host = host();
    let (tuned, plain) = (Made::pinned("app", &["1"]), Made::free("app"));
    // what runs, what is defined, the advice
    for (runs, defined, said) in [
        (
            &plain,
            &tuned,
            "carries virtfit's settings though no rule matches: virtfit revert app",
        ),
        (
            &tuned,
            &plain,
            "reverted: runs with virtfit's settings until its next start",
        ),
    ] {
        host.guest(runs);
        host.define(defined);
        let (status, _) = host.status();
        let notes = &of(&status, "app").notes;
        let left: Vec<_> = notes.iter().filter(|note| code(note) == "left-over").collect();
        assert_eq!(left.len(), 1, "{notes:?}");
        assert_eq!(left[0].text, said);
    }
}

#[test]
fn a_guest_that_asks_to_be_left_alone_is_said() {
    let host = host();
    let (tuned, plain) = (Made::pinned("l1", &["1"]), Made::free("l1"));
    let asked = |made: &Made| {
        let document = made.xml();
        virtfit::rewrite::request(&virtfit::xml::Document::parse(&document).unwrap(), Some("off")).unwrap()
    };
    let asks = "off by its own request: virtfit profile unset l1";
    // Beside another command, each says what it is for.
    let both = "off by its own request (profile unset lets the rules decide): virtfit profile unset l1";
    // what runs, what is defined, the notes
    for (runs, defined, said) in [
        (None, &plain, vec![asks]),
        (
            None,
            &tuned,
            vec![
                "carries virtfit's settings though profile off leaves it alone (revert takes them out): virtfit revert l1",
                both,
            ],
        ),
        // As `virtfit revert` leaves a running guest.
        (
            Some(&tuned),
            &plain,
            vec![
                "reverted: runs with virtfit's settings until its next start",
                asks,
            ],
        ),
        (Some(&plain), &plain, vec![asks]),
    ] {
        host.remove("run/libvirt/qemu/l1.xml");
        runs.iter().for_each(|runs| host.guest(runs));
        host.put("etc/libvirt/qemu/l1.xml", &asked(defined));
        let (status, _) = host.status();
        let notes = of(&status, "l1").notes.iter();
        let about = ["left-over", "asked-to-be-left-alone"];
        let notes = notes.filter(|note| about.contains(&code(note).as_str()));
        let texts: Vec<&str> = notes.map(|note| note.text.as_str()).collect();
        assert_eq!(texts, said, "{:?}", of(&status, "l1"));
        let asks = of(&status, "l1")
            .notes
            .iter()
            .find(|note| note.text == asks || note.text == both)
            .unwrap();
        assert_eq!(
            (asks.wrong, asks.command.as_deref()),
            (false, Some("virtfit profile unset l1"))
        );
    }
}

/// CPUs of its own were asked for when the guest started, and are not any more.
#[test]
fn a_guest_that_is_reverted_while_it_floats_lacks_no_place() {
    let host = host();
    host.guest(&all_but(&[]));
    let floats = Made::pinned("f2", &["0,8,16,24", "0,8,16,24"]);
    host.guest(&floats);
    assert_eq!(wrong(&of(&host.status().0, "f2").notes), ["no-place"]);
    let plain = Made {
        pins: vec![None, None],
        ..floats
    };
    let document = plain.xml();
    let document = virtfit::xml::Document::parse(&document).unwrap();
    let off = virtfit::rewrite::request(&document, Some("off")).unwrap();
    host.put("etc/libvirt/qemu/f2.xml", &off);
    let (status, exit) = host.status();
    let guest = of(&status, "f2");
    let codes: Vec<String> = guest.notes.iter().map(code).collect();
    assert_eq!((exit, wrong(&guest.notes)), (0, Vec::new()), "{guest:?}");
    assert_eq!(codes, ["left-over", "asked-to-be-left-alone"]);
}

#[test]
fn what_a_transient_guest_carries_cannot_be_reverted() {
    let host = host();
    host.guest(&Made::pinned("app", &["1"]));
    host.remove("etc/libvirt/qemu/app.xml");
    let (status, _) = host.status();
    let notes = &of(&status, "app").notes;
    let left = notes.iter().find(|note| code(note) == "left-over").unwrap();
    assert_eq!(
        left.command.as_deref(),
        Some("virsh dumpxml --inactive app | virtfit revert -")
    );
    assert!(left.text.contains("until it ends"), "{}", left.text);
}

#[test]
fn masks_of_floating_threads_are_never_pending() {
    let host = host();
    let pending = |name: &str| -> Vec<String> { of(&host.status().0, name).pending.clone() };
    // The definition as it is tuned while no other guest runs, and as it was while some did.
    host.define(&Made::free("l1"));
    let wide = String::from_utf8(host.virtfit(&["rewrite", "l1"]).stdout).unwrap();
    assert!(wide.contains("cpuset='0,8,16,24'"), "{wide}");
    let narrow = wide.replace("'0,8,16,24'", "'0,8'");
    // One CPU for floating threads is a mask, too.
    let one = wide.replace("'0,8,16,24'", "'0'");
    let runs = |xml: &str| {
        let status = format!("<domstatus state='running' reason='booted' pid='4711'>{xml}</domstatus>");
        host.put("run/libvirt/qemu/l1.xml", &status);
    };
    for (defined, running) in [
        (&wide, &wide),
        (&narrow, &wide),
        (&wide, &narrow),
        (&narrow, &narrow),
        (&one, &wide),
        (&wide, &one),
    ] {
        host.put("etc/libvirt/qemu/l1.xml", defined);
        runs(running);
        assert_eq!(pending("l1"), Vec::<String>::new(), "{defined}{running}");
    }
    // A CPU of a thread's own is another matter.
    host.guest(&Made::pinned("f1", &["1"]));
    host.define(&Made::pinned("f1", &["2"]));
    assert_eq!(pending("f1"), ["shut down, start"]);
}

/// Rules under which `f1` follows another profile, which gives it the same.
const ALIKE: &str =
    "[profile.alike]\ninherits = \"fit\"\n[[rule]]\nmatch = { name = \"f1\" }\nprofile = \"alike\"\n";

#[test]
fn a_record_alone_needs_no_restart() {
    let host = Host::new("[[rule]]\nmatch = { name = \"f*\" }\nprofile = \"fit\"\n");
    host.define(&Made::free("f1"));
    let tuned = String::from_utf8(host.virtfit(&["rewrite", "f1"]).stdout).unwrap();
    host.put("etc/libvirt/qemu/f1.xml", &tuned);
    let status = format!("<domstatus state='running' reason='booted' pid='4711'>{tuned}</domstatus>");
    host.put("run/libvirt/qemu/f1.xml", &status);
    let pending = || of(&host.status().0, "f1").pending.clone();
    assert_eq!(pending(), Vec::<String>::new());
    host.policy(ALIKE);
    assert_eq!(pending(), ["apply: virtfit apply f1"]);
    for (words, said) in [
        (&["plan", "f1"][..], "Only its record changes."),
        (&["plan"], "only its record changes"),
    ] {
        let plan = String::from_utf8(host.virtfit(words).stdout).unwrap();
        assert!(plan.contains(said) && !plan.contains("next started"), "{plan}");
    }
}

#[test]
fn nothing_is_advised_that_gives_a_guest_nothing() {
    let host = Host::new("[[rule]]\nmatch = { name = \"f*\" }\nprofile = \"fit\"\n");
    host.define(&Made::free("f1"));
    let tuned = String::from_utf8(host.virtfit(&["rewrite", "f1"]).stdout).unwrap();
    assert!(tuned.contains("<vcpupin vcpu='0' cpuset='1'/>"), "{tuned}");
    host.put("etc/libvirt/qemu/f1.xml", &tuned);
    let status = format!("<domstatus state='running' reason='booted' pid='4711'>{tuned}</domstatus>");
    host.put("run/libvirt/qemu/f1.xml", &status);
    // Every CPU for guests is held; one of the guests was pinned by hand to that of f1.
    let cpus: Vec<String> = (1..32)
        .filter(|cpu| cpu % 8 != 0)
        .map(|cpu| cpu.to_string())
        .collect();
    for cpu in &cpus {
        host.guest(&Made {
            pins: vec![Some((cpu.clone(), By::Hand))],
            ..Made::pinned(&format!("web{cpu}"), &[cpu])
        });
    }
    let (status, _) = host.status();
    let guest = of(&status, "f1");
    assert_eq!(guest.pending, Vec::<String>::new(), "{guest:?}");
    for name in ["f1", "web1"] {
        let notes = &of(&status, name).notes;
        let twice = notes.iter().find(|note| code(note) == "cpu-held-twice").unwrap();
        assert_eq!(
            twice.command.as_deref(),
            Some("virsh vcpupin web1 0 0,8,16,24 --live --config"),
            "{twice:?}"
        );
        assert!(twice.text.contains("web1 was pinned there by hand"), "{twice:?}");
    }
    // Its definition keeps the CPU that it holds.
    let plan = String::from_utf8(host.virtfit(&["plan", "f1"]).stdout).unwrap();
    assert!(plan.contains("it is tuned already"), "{plan}");
    // One that runs without a place gains nothing by another mask.
    let floats = Made::pinned("f2", &["0,8"]);
    host.guest(&floats);
    let tuned = String::from_utf8(host.virtfit(&["rewrite", "f2"]).stdout).unwrap();
    host.put("etc/libvirt/qemu/f2.xml", &tuned.replace("'0,8,16,24'", "'0'"));
    host.put(
        "run/libvirt/qemu/f2.xml",
        &format!("<domstatus state='running' pid='4712'>{tuned}</domstatus>"),
    );
    let (status, _) = host.status();
    let guest = of(&status, "f2");
    assert!(
        guest.notes.iter().any(|note| code(note) == "no-place"),
        "{guest:?}"
    );
    assert_eq!(guest.pending, Vec::<String>::new(), "{guest:?}");
}

#[test]
fn a_guest_older_than_the_policy_is_not_without_a_place() {
    let host = host();
    let floats = Made::pinned("f1", &["0,8,16,24"]);
    host.guest(&floats);
    let status = std::fs::read_to_string(host.path().join("run/libvirt/qemu/f1.xml")).unwrap();
    let between = |from: &str, to: &str| {
        status
            .split(from)
            .nth(1)
            .unwrap()
            .split(to)
            .next()
            .unwrap()
            .to_string()
    };
    let (uuid, pid) = (between("<uuid>", "<"), between("pid='", "'"));
    let record =
        format!("{{\"version\":1,\"uuid\":\"{uuid}\",\"name\":\"f1\",\"pid\":{pid},\"threads\":[]}}");
    host.put(&format!("run/virtfit/live/{uuid}.json"), &record);
    let (status, exit) = host.status();
    let guest = of(&status, "f1");
    assert_eq!(
        (exit, wrong(&guest.notes)),
        (3, vec!["not-pinned".to_string()]),
        "{guest:?}"
    );
    assert_eq!(
        guest.notes[0].text,
        "not pinned: floats on CPUs 0,8,16,24, as it was started, and could have CPU 1"
    );
    assert_eq!(guest.pending, ["apply, shut down, start: virtfit apply f1"]);
}

#[test]
fn a_change_that_may_be_lost_is_said_until_the_definition_changes() {
    let host = host();
    let made = Made {
        runs: false,
        ..Made::pinned("f1", &["1", "17"])
    };
    host.define(&made);
    let codes = |host: &Host| -> Vec<String> {
        let (status, exit) = host.status();
        assert_eq!(exit, 0, "{status:?}");
        of(&status, "f1").notes.iter().map(code).collect()
    };
    let before = codes(&host);
    assert!(!before.contains(&"change-lost".to_string()), "{before:?}");
    let digest = virtfit::libvirt::definition_file::DefinitionFile::read(&HostFs::new(host.path()), "f1");
    let digest = digest.unwrap().unwrap().digest;
    let (status, _) = host.status();
    let record = format!("var/lib/virtfit/overwritten/{}.json", of(&status, "f1").uuid);
    host.put(&record, &format!("{{\"text\":\"{digest}\"}}\n"));
    let (status, _) = host.status();
    let note = of(&status, "f1")
        .notes
        .iter()
        .find(|note| code(note) == "change-lost");
    assert_eq!(
        note.unwrap().text,
        "changed in the moment in which virtfit defined it, look whether that change is still there: \
         virsh dumpxml --inactive f1"
    );
    host.put("etc/libvirt/qemu/f1.xml", &format!("{}\n", made.xml()));
    assert_eq!(codes(&host), before);
}

#[test]
fn a_copied_definition_is_said() {
    let host = host();
    let made = Made {
        runs: false,
        ..Made::pinned("f1", &["1", "17"])
    };
    let record = "version='1' uuid='5a7e0000-0000-4000-8000-00000000ffff'";
    let copied = made.xml().replacen("version='1'", record, 1);
    host.put("etc/libvirt/qemu/f1.xml", &copied);
    let (status, exit) = host.status();
    let f1 = of(&status, "f1");
    let codes: Vec<String> = f1.notes.iter().map(code).collect();
    assert_eq!(
        (exit, codes),
        (0, vec!["copied".to_string(), "apply".to_string()])
    );
    assert_eq!(
        f1.notes[0].text,
        "copied from another guest, whose place it names"
    );
    assert!(f1.claims.is_empty());
    // Without a rule it is a leftover.
    let left = copied.replace("<name>f1<", "<name>x1<");
    host.remove("etc/libvirt/qemu/f1.xml");
    host.put("etc/libvirt/qemu/x1.xml", &left);
    let (status, _) = host.status();
    let codes: Vec<String> = of(&status, "x1").notes.iter().map(code).collect();
    assert_eq!(codes, ["left-over"]);
}

#[test]
fn a_cpu_that_was_taken_by_hand_is_given_back_by_a_command() {
    let host = host();
    let mut moved = Made::pinned("f1", &["1", "2"]);
    moved.masks[0] = "0".into();
    host.guest(&moved);
    let path = host.path().join("run/libvirt/qemu/f1.xml");
    let tuned = fs::read_to_string(&path).unwrap();
    let live = tuned.replacen(
        "<vcpupin vcpu='0' cpuset='1'/>",
        "<vcpupin vcpu='0' cpuset='0'/>",
        1,
    );
    assert_ne!(tuned, live);
    fs::write(&path, live).unwrap();
    let notes = || of(&host.status().0, "f1").notes.clone();
    let command = "virsh vcpupin f1 0 1 --live";
    assert_eq!(wrong(&notes()), ["pinned-away"]);
    assert_eq!(notes()[0].command.as_deref(), Some(command), "{:?}", notes());
    let said = "vCPU 0 was pinned to CPU 0 by hand: no CPU of its own; to give it back";
    assert_eq!(notes()[0].text, format!("{said}: {command}"));
    // Another guest may have got the CPU meanwhile.
    host.guest(&Made::pinned("f2", &["1"]));
    assert_eq!(notes()[0].command, None, "{:?}", notes());
}

#[test]
fn a_vcpu_that_is_plugged_in_floats_as_announced() {
    let host = Host::new("");
    host.answer();
    let policy = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\n\n\
                  [[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";
    host.put("etc/virtfit/policy.toml", policy);
    // Its only CPU is another guest's for now: that is the reason, not the host.
    let one = Made::pinned("db", &["1"]);
    host.guest(&one);
    let slots = Made::free("web")
        .xml()
        .replace("<vcpu>1<", "<vcpu current='1'>2<");
    host.put("etc/libvirt/qemu/web.xml", &slots);
    let plan = String::from_utf8(host.virtfit(&["plan", "web"]).stdout).unwrap();
    let plan: Vec<&str> = plan.split_whitespace().collect();
    let plan = plan.join(" ");
    assert!(
        plan.contains("needs 1 free CPU on one node; none is free"),
        "{plan}"
    );
    assert!(
        plan.contains("db holds 1") && !plan.contains("this host has only"),
        "{plan}"
    );
    // It runs with its place, and then its second vCPU is plugged in.
    host.remove("etc/libvirt/qemu/db.xml");
    host.remove("run/libvirt/qemu/db.xml");
    let tuned = String::from_utf8(host.virtfit(&["rewrite", "web"]).stdout).unwrap();
    assert!(tuned.contains("<vcpupin vcpu='0' cpuset='1'/>"), "{tuned}");
    assert!(tuned.contains("<vcpupin vcpu='1' cpuset='0"), "{tuned}");
    host.put("etc/libvirt/qemu/web.xml", &tuned);
    for current in ["1", "2"] {
        let live = tuned.replace("current='1'>2<", &format!("current='{current}'>2<"));
        let status = format!("<domstatus state='running' reason='booted' pid='4711'>{live}</domstatus>");
        host.put("run/libvirt/qemu/web.xml", &status);
        let (status, exit) = host.status();
        assert_eq!(
            (exit, wrong(&of(&status, "web").notes)),
            (0, vec![]),
            "{status:?}"
        );
    }
}

#[test]
fn a_guest_that_floats_on_one_cpu_does_not_hold_it() {
    let host = host();
    host.guest(&Made::pinned("f1", &["0"]));
    host.guest(&Made::pinned("f2", &["1"]));
    let mut off = Made::free("f3");
    off.runs = false;
    host.define(&off);
    let mut claims = Made::pinned("f4", &["5"]);
    claims.runs = false;
    host.define(&claims);
    let map = String::from_utf8(host.virtfit(&["map"]).stdout).unwrap();
    let json = host.virtfit(&["map", "--json"]).stdout;
    let json: serde_json::Value = serde_json::from_slice(&json).unwrap();
    let letter = |at: usize| json["guests"][at]["letter"].as_str().unwrap().to_string();
    let zero = &json["nodes"][0]["caches"][0]["cores"][0][0];
    assert_eq!(
        (&zero["role"], &zero["floating"]),
        (&"housekeeping".into(), &serde_json::json!([0]))
    );
    let threads: Vec<&str> = zero["threads"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| it["role"].as_str().unwrap())
        .collect();
    assert_eq!(threads, ["emulator", "emulator"], "{map}");
    assert!(map.contains("        #~e"), "{map}");
    assert!(
        !map.contains(&format!("{0}{0} held by guest {0}", letter(0))),
        "{map}"
    );
    // The legend names guests that are there.
    let held = format!("{0}{0} held by guest {0}", letter(1));
    let claimed = format!(":{0} free, claimed by guest {0}'s definition", letter(3));
    assert!(map.contains(&held) && map.contains(&claimed), "{map}");
    let others = "1 more guest is shut off and claims no CPU: virtfit status";
    assert!(map.contains(others), "{map}");
}

#[test]
fn overlapping_claims_are_said() {
    let host = host();
    for name in ["f1", "f2", "f3"] {
        let mut guest = Made::pinned(name, &["1"]);
        guest.runs = false;
        host.guest(&guest);
    }
    let (status, exit) = host.status();
    assert_eq!(exit, 0);
    let note = &of(&status, "f1").notes[0];
    assert_eq!(
        (code(note).as_str(), note.text.as_str()),
        ("claims-overlap", "claims CPU 1, as do f2 and f3")
    );
    let text = String::from_utf8(host.virtfit(&["status"]).stdout).unwrap();
    assert!(
        text.contains("(1)") && text.lines().all(|line| line.len() <= 80),
        "{text}"
    );
    host.autostart("f1");
    host.autostart("f3");
    let (status, exit) = host.status();
    assert_eq!(exit, 3);
    for (name, expected) in [
        ("f1", &["boot-claims-overlap"][..]),
        ("f2", &[]),
        ("f3", &["boot-claims-overlap"]),
    ] {
        assert_eq!(wrong(&of(&status, name).notes), expected, "{name}");
    }
    // Where there is room, the advised command places them apart.
    let note = of(&status, "f3").notes[0].clone();
    assert_eq!(
        note.text,
        "claims CPU 1, as does f1 at host boot; there is room for them apart: virtfit apply f1 f3"
    );
    let done = host.virtfit(&["apply", "f1", "f3", "--offline", "--yes"]);
    assert!(done.status.success(), "{done:?}");
    assert_eq!(host.status().1, 0);
    // Where there is none, the note says what follows, and the way out.
    let rule = "[[rule]]\nmatch = { name = \"f*\" }\nprofile = \"fit\"\n";
    let one = format!("[host]\nhousekeeping = \"0,8,16,24\"\ndedicated = \"1\"\n\n{rule}");
    host.put("etc/virtfit/policy.toml", &one);
    for name in ["f1", "f3"] {
        host.define(&Made::pinned(name, &["1"]));
    }
    let (status, exit) = host.status();
    assert_eq!(exit, 3);
    for (name, other) in [("f1", "f3"), ("f3", "f1")] {
        let note = &of(&status, name).notes[0];
        let said = format!(
            "claims CPU 1, as does {other} at host boot: there is no room for all, so the one that starts last \
             floats; one less at host boot"
        );
        let command = "virsh autostart --disable f3";
        assert_eq!(note.text, format!("{said}: {command}"));
        assert_eq!(note.command.as_deref(), Some(command));
    }
    // Of three guests two float, and two have to go.
    host.define(&Made::pinned("f2", &["1"]));
    host.autostart("f2");
    let note = of(&host.status().0, "f1").notes[0].clone();
    let said = "claims CPU 1, as do f2 and f3 at host boot: there is no room for all, so the 2 that start last float; \
                2 less at host boot";
    let command = "virsh autostart --disable f2 && virsh autostart --disable f3";
    assert_eq!(note.text, format!("{said}: {command}"));
    assert_eq!(note.command.as_deref(), Some(command));
}

#[test]
fn a_status_file_that_cannot_be_read_is_not_ok() {
    let host = host();
    host.put("run/libvirt/qemu/x.xml", "<domstatus");
    host.put("etc/libvirt/qemu/y.xml", "<domain");
    let (status, exit) = host.status();
    assert_eq!(
        (exit, wrong(&of(&status, "x").notes)),
        (3, vec!["unreadable".to_string()])
    );
    assert_eq!(wrong(&of(&status, "y").notes), Vec::<String>::new());
    host.remove("run/libvirt/qemu/x.xml");
    assert_eq!(host.status().1, 0);
}

/// Pins of such a guest count for no other guest, which may be given the same CPUs.
#[test]
fn a_guest_of_which_nothing_is_known_is_not_ok() {
    let host = host();
    let guest = Made::pinned("free", &["4"]);
    host.guest(&guest);
    assert_eq!(host.status().1, 0);
    let path = "run/libvirt/qemu/free.xml";
    let text = fs::read_to_string(host.path().join(path)).unwrap();
    let blanks = " ".repeat(2 << 20);
    host.put(
        path,
        &text.replace("</domstatus>", &format!("{blanks}</domstatus>")),
    );
    let (status, exit) = host.status();
    let guest = of(&status, "free");
    assert_eq!((exit, wrong(&guest.notes)), (3, vec!["unreadable".to_string()]));
    assert!(guest.problem.is_some());
}

/// Such a guest may have the CPUs of one that is asked for.
#[test]
fn a_guest_of_which_nothing_is_known_is_told_beside_one_that_holds_cpus() {
    let host = host();
    host.guest(&Made::pinned("f1", &["1"]));
    let mut off = Made::pinned("f2", &["2"]);
    off.runs = false;
    host.guest(&off);
    host.put("run/libvirt/qemu/x.xml", "<domstatus");
    let asked = |words: &[&str]| {
        let done = host.virtfit(words);
        (
            done.status.code(),
            String::from_utf8_lossy(&done.stdout).into_owned(),
        )
    };
    let (exit, text) = asked(&["status", "f1"]);
    assert_eq!(exit, Some(3), "{text}");
    assert!(
        text.starts_with("x runs, and what it holds is not known"),
        "{text}"
    );
    assert!(text.contains("\n  virtfit status x\n"), "{text}");
    let (exit, text) = asked(&["status", "f1", "--json"]);
    let status: virtfit::status::Status = serde_json::from_str(&text).unwrap();
    assert_eq!(
        (exit, wrong(&status.notes)),
        (Some(3), vec!["unreadable".to_string()])
    );
    // A guest that holds nothing loses nothing by it, and its own row says it once.
    assert_eq!(asked(&["status", "f2"]).0, Some(0));
    let (exit, text) = asked(&["status", "f1", "x"]);
    assert_eq!(exit, Some(3));
    assert!(text.starts_with("GUEST"), "{text}");
}

#[test]
fn a_promise_to_another_guest_of_the_same_name_is_its_own() {
    let host = host();
    host.guest(&Made::pinned("f1", &["1", "17"]));
    let before = of(&host.status().0, "f1").clone();
    // libvirt calls the hook for a restore before it refuses the name of a guest that runs.
    let uuid = "8c1f6f0e-0000-4000-8000-0000000000cc";
    let now = std::time::SystemTime::now();
    let now = now.duration_since(std::time::UNIX_EPOCH).unwrap().as_secs();
    let boot =
        std::fs::read_to_string(host.path().join("proc/sys/kernel/random/boot_id")).unwrap_or_default();
    let promise = serde_json::json!({
        "version": 1, "uuid": uuid, "name": "f1", "cpus": [5, 21], "withheld": [], "boot_id": boot.trim(),
        "pid": 1, "start_time": 1, "tentative_until": now + 20, "written_at": now,
        "pins": {"vcpus": {"0": [5], "1": [21]}},
    });
    host.put(
        &format!("run/virtfit/reservations/{uuid}.json"),
        &promise.to_string(),
    );
    let mark = serde_json::json!({"uuid": uuid, "name": "f1", "why": "late", "written_at": now});
    host.put(&format!("run/virtfit/undecided/{uuid}.json"), &mark.to_string());
    let (status, exit) = host.status();
    assert_eq!((exit, status.guests.len()), (0, 2), "{status:?}");
    assert_eq!(*of(&status, "f1"), before);
    let other = status.guests.iter().find(|guest| guest.uuid == uuid).unwrap();
    assert_eq!(
        (other.held.to_string().as_str(), other.state.as_str()),
        ("5,21", "reserved")
    );
}

#[test]
fn the_status_of_one_guest_is_that_guests() {
    let host = host();
    host.guest(&Made::pinned("f1", &["1"]));
    host.guest(&Made::free("web"));
    let mut off = Made::pinned("f2", &["2"]);
    off.runs = false;
    host.guest(&off);
    let uuid = of(&host.status().0, "f1").uuid.clone();
    // words, exit code, guests
    for (words, code, guests) in [
        (&["f1"][..], 0, &["f1"][..]),
        (&["web"], 3, &["web"]),
        (&["f2"], 0, &["f2"]),
        (&[&uuid.to_uppercase()], 0, &["f1"]),
        (&["f*"], 0, &["f1", "f2"]),
        (&["f1", "web", "f1"], 3, &["f1", "web"]),
    ] {
        let mut all = vec!["status"];
        all.extend(words);
        let done = host.virtfit(&all);
        let text = String::from_utf8(done.stdout).unwrap();
        assert_eq!(done.status.code(), Some(code), "{words:?}: {text}");
        assert!(
            text.starts_with("GUEST STATE") && !text.contains("NODE  CPUS"),
            "{text}"
        );
        let shown: Vec<&str> = text
            .lines()
            .skip(1)
            .filter(|line| !line.starts_with(' '))
            .collect();
        let names: Vec<&str> = shown.iter().filter_map(|line| line.split(' ').next()).collect();
        assert_eq!(names, guests, "{text}");
        all.push("--json");
        let done = host.virtfit(&all);
        let status: virtfit::status::Status = serde_json::from_slice(&done.stdout).unwrap();
        assert_eq!((done.status.code(), status.ok), (Some(code), code == 0));
        assert_eq!(status.guests.len(), guests.len());
    }
    // Trouble of virtfit's own is not the guest's.
    let host = Host::new(RULES);
    host.guest(&Made::pinned("f1", &["1"]));
    assert_eq!(host.virtfit(&["status"]).status.code(), Some(3));
    assert_eq!(host.virtfit(&["status", "f1"]).status.code(), Some(0));
    for word in ["f9", "x*", "[", "12345678-1234-4234-8234-123456789012"] {
        let done = host.virtfit(&["status", word]);
        let said = String::from_utf8_lossy(&done.stderr).into_owned();
        assert!(
            done.stdout.is_empty() && said.starts_with(&format!("virtfit: {word}: ")),
            "{said}"
        );
        assert_eq!(said.lines().count(), 1, "{said}");
        assert_eq!(
            done.status.code(),
            Some(if word == "[" { 2 } else { 1 }),
            "{said}"
        );
    }
}
