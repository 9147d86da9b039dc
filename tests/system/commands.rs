//! Commands that change definitions, with and without a daemon.

use crate::daemon::{Libvirt, Setup, kill, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"plain\"\n";

/// Runs `virtfit`, which must succeed; returns its stdout.
fn virtfit(libvirt: &Libvirt, words: &[&str]) -> String {
    let done = libvirt.virtfit(words);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(done.status.success(), "{words:?}: {stderr}\n{}", libvirt.log());
    String::from_utf8(done.stdout).unwrap()
}

fn is_tuned(libvirt: &Libvirt) -> bool {
    libvirt.dump("g").contains("https://virtfit.dev/ns/domain/1")
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn apply_revert_and_requests_go_through_libvirt() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    libvirt.define(&small("g")).unwrap();
    let before = libvirt.dump("g");
    let said = virtfit(&libvirt, &["apply", "--dry-run", "g"]);
    assert!(said.contains("1 of 1 would be redefined"), "{said}");
    assert_eq!(libvirt.dump("g"), before);
    let said = virtfit(&libvirt, &["apply", "g"]);
    assert!(said.contains("1 of 1 redefined"), "{said}");
    assert!(is_tuned(&libvirt));
    assert!(virtfit(&libvirt, &["apply", "--all", "--yes"]).contains("0 of 1 redefined"));

    // The definition is reverted, and the daemon leaves it alone.
    let said = virtfit(&libvirt, &["revert", "g"]);
    assert!(said.contains("g: reverted"), "{said}");
    assert!(
        !is_tuned(&libvirt) && libvirt.dump("g").contains("profile='off'")
            || libvirt.dump("g").contains("profile=\"off\"")
    );
    // Without a daemon the next step is named; `off` needs none.
    for (words, step) in [
        (
            &["profile", "set", "g", "local"][..],
            "\nvirtfitd does not run; to have it followed: virtfit apply g\n",
        ),
        (&["profile", "set", "g", "off"], "g: asks for profile off\n"),
    ] {
        let said = virtfit(&libvirt, words);
        assert!(said.ends_with(step), "{said}");
    }
    let _daemon = libvirt.virtfitd();
    std::thread::sleep(std::time::Duration::from_millis(700));
    assert!(!is_tuned(&libvirt), "{}", libvirt.log());

    virtfit(&libvirt, &["profile", "unset", "g"]);
    within(10, "the rule counts again", || {
        is_tuned(&libvirt).then_some(()).ok_or(libvirt.log())
    });
    virtfit(&libvirt, &["profile", "set", "g", "local"]);
    within(10, "its request counts", || {
        let dump = libvirt.dump("g");
        dump.contains("profile=\"local\" policy=")
            .then_some(())
            .ok_or(format!("{dump}\n{}", libvirt.log()))
    });
    let wrong = libvirt.virtfit(&["profile", "set", "g", "locall"]);
    assert_eq!(wrong.status.code(), Some(1));
    assert!(String::from_utf8_lossy(&wrong.stderr).contains("local"));
    let said = virtfit(&libvirt, &["revert", "--all", "--yes"]);
    assert!(said.contains("g: reverted"), "{said}");
    assert!(!is_tuned(&libvirt));
}

/// A libvirt other than this host's is refused before anything is read, and one that lacks the
/// guest is not written to.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn only_this_hosts_libvirt_is_written_to() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    libvirt.define(&small("g")).unwrap();
    let before = libvirt.dump("g");
    let program = env!("CARGO_BIN_EXE_virtfit");
    for uri in [
        "test:///default",
        "qemu+ssh://nohost/system",
        "qemu:///session",
        "qemu:///system?name=test:///default",
    ] {
        for words in [
            &["apply", "g"][..],
            &["apply", "--all", "--yes"],
            &["revert", "g"],
            &["profile", "set", "g", "local"],
            &["plan", "g"],
            &["rewrite", "g"],
            &["status"],
        ] {
            let mut all = vec!["--root", "/", "--connect", uri];
            all.extend(words);
            let done = libvirt.run(program, &all, &[]);
            let stderr = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(2), "{uri} {words:?}: {stderr}");
            assert!(stderr.contains("qemu:///system"), "{uri} {words:?}: {stderr}");
            assert_eq!(done.stdout, b"", "{uri} {words:?}");
        }
    }
    let done = libvirt.run(
        env!("CARGO_BIN_EXE_virtfitd"),
        &["--connect", "test:///default"],
        &[],
    );
    assert_eq!(done.status.code(), Some(2), "{done:?}");
    assert_eq!(libvirt.dump("g"), before);

    // The files are another host's, the libvirt is this one's: it has no such guest, or another of
    // an equal UUID.
    let other = libvirt.folder().join("other");
    let file = other.join("etc/libvirt/qemu/g.xml");
    std::fs::create_dir_all(file.parent().unwrap()).unwrap();
    let uri = libvirt.uri();
    let other = other.to_str().unwrap();
    let words = [
        "--root",
        other,
        "--topology",
        "core:2 pu:1",
        "--connect",
        &uri,
        "apply",
        "g",
    ];
    std::fs::create_dir_all(format!("{other}/etc/virtfit")).unwrap();
    std::fs::write(
        format!("{other}/etc/virtfit/policy.toml"),
        "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"local\"\n",
    )
    .unwrap();
    let uuid = before.split("<uuid>").nth(1).unwrap().split('<').next().unwrap();
    for (text, why) in [
        (
            before.replace(uuid, "00000000-1111-4222-8333-444444444444"),
            "has no definition with UUID",
        ),
        (
            before.replace(">1</vcpu>", ">2</vcpu>"),
            "the number of vCPUs differs",
        ),
    ] {
        std::fs::write(&file, text).unwrap();
        let done = libvirt.run(program, &words, &[]);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{why}: {stderr}");
        assert!(stderr.contains(why), "{why}: {stderr}");
        assert_eq!(libvirt.dump("g"), before);
        assert_eq!(libvirt.virsh(&["list", "--all", "--name"]).unwrap().trim(), "g");
    }
}

/// A file that was changed by hand behind libvirt's back is not carried over, by no command and not
/// by the daemon, until libvirt has the same definition.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn what_was_changed_behind_libvirts_back_is_not_carried_over() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let devices = "<interface type='user'><mac address='52:54:00:00:00:01'/></interface>\n    \
                   <graphics type='vnc' port='-1' passwd='s3cret'/>\n    <memballoon";
    let whole = small("g").replace("<memballoon", devices);
    libvirt.define(&whole).unwrap();
    let before = libvirt.dump("g");
    let file = libvirt.on_host("etc/libvirt/qemu/g.xml");
    let good = std::fs::read_to_string(&file).unwrap();
    let mut daemon = None;
    for (from, to, what) in [
        ("<on_crash>destroy<", "<on_crash>restart<", "on_crash"),
        (
            "<interface type='user'>",
            "<interface type='ethernet'>",
            "devices/interface[52:54:00:00:00:01]/@type",
        ),
        ("passwd='s3cret'", "passwd='other!'", "devices/graphics/@passwd"),
        (
            "<memballoon model='virtio'>",
            "<memballoon model='virtio' autodeflate='on'>",
            "devices/memballoon/@autodeflate",
        ),
        ("<boot dev='hd'/>", "<boot dev='network'/>", "os/boot/@dev"),
    ] {
        let edited = good.replacen(from, to, 1);
        assert_ne!(edited, good, "{from}:\n{good}");
        // As an editor does it; the daemon waits for whole files.
        std::fs::write(file.with_extension("tmp"), &edited).unwrap();
        std::fs::rename(file.with_extension("tmp"), &file).unwrap();
        for words in [
            &["apply", "g"][..],
            &["revert", "g"],
            &["profile", "set", "g", "local"],
        ] {
            let done = libvirt.virtfit(words);
            let stderr = String::from_utf8_lossy(&done.stderr);
            assert_eq!(done.status.code(), Some(1), "{words:?}: {stderr}");
            assert!(stderr.contains(what), "{words:?}: {stderr}");
            assert!(stderr.contains("virsh define"), "{words:?}: {stderr}");
            assert!(
                !stderr.contains("s3cret") && !stderr.contains("other!"),
                "{stderr}"
            );
            assert_eq!(libvirt.dump("g"), before, "{words:?}");
        }
        daemon.get_or_insert_with(|| libvirt.virtfitd());
        within(10, "said", || {
            libvirt.log().contains(what).then_some(()).ok_or(libvirt.log())
        });
        assert_eq!(libvirt.dump("g"), before);
        assert_eq!(std::fs::read_to_string(&file).unwrap(), edited);
    }
    drop(daemon);
    // The advice for libvirt's definition, and for the file's.
    libvirt.sh(
        "virsh -c \"$1\" dumpxml --inactive --security-info 'g' | virsh -c \"$1\" define /dev/stdin",
        &[&libvirt.uri()],
    );
    assert_eq!(std::fs::read_to_string(&file).unwrap(), good);
    virtfit(&libvirt, &["apply", "g"]);
    assert!(is_tuned(&libvirt));
    let edited =
        std::fs::read_to_string(&file)
            .unwrap()
            .replacen("<on_crash>destroy<", "<on_crash>restart<", 1);
    std::fs::write(&file, edited).unwrap();
    libvirt.virsh(&["define", "/etc/libvirt/qemu/g.xml"]).unwrap();
    virtfit(&libvirt, &["revert", "g"]);
    assert!(libvirt.dump("g").contains("<on_crash>restart<"));
    // A file that libvirt has loaded since is libvirt's own definition, however it is spelled; so
    // is that of a guest that runs.
    let edited = std::fs::read_to_string(&file)
        .unwrap()
        .replacen("<on_crash>restart</on_crash>", "", 1);
    libvirt.hold("TERM");
    std::fs::write(&file, edited).unwrap();
    libvirt.release();
    libvirt.virsh(&["start", "g"]).unwrap();
    virtfit(&libvirt, &["profile", "unset", "g"]);
    virtfit(&libvirt, &["apply", "g"]);
    assert!(is_tuned(&libvirt));
    virtfit(&libvirt, &["revert", "g"]);
    libvirt.virsh(&["destroy", "g"]).unwrap();
    virtfit(&libvirt, &["profile", "unset", "g"]);
}

/// A definition that changes while a command still connects to libvirt is not replaced.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn what_changes_while_a_command_connects_stays() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    libvirt.define(&small("g")).unwrap();
    let file = libvirt.on_host("etc/libvirt/qemu/g.xml");
    let good = std::fs::read_to_string(&file).unwrap();
    let edited = good.replacen("<on_crash>destroy<", "<on_crash>restart<", 1);
    kill(libvirt.libvirtd(), "STOP");
    std::thread::scope(|scope| {
        let command = scope.spawn(|| libvirt.virtfit(&["apply", "g"]));
        std::thread::sleep(std::time::Duration::from_secs(1));
        std::fs::write(&file, &edited).unwrap();
        kill(libvirt.libvirtd(), "CONT");
        let done = command.join().unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert_eq!(done.status.code(), Some(1), "{stderr}");
        assert!(
            stderr.contains("g: its definition changed meanwhile: try again"),
            "{stderr}"
        );
    });
    assert_eq!(std::fs::read_to_string(&file).unwrap(), edited);
}

/// Runs `virtfit` as an ordinary user, whose one group is this.
fn as_nobody(libvirt: &Libvirt, group: &str, words: &[&str]) -> std::process::Output {
    let group = format!("--regid={group}");
    // This user may not be allowed into the folder of the sources.
    libvirt.sh(
        "cp \"$1\" /run/virtfit/test-virtfit && chmod 0755 /run/virtfit/test-virtfit",
        &[env!("CARGO_BIN_EXE_virtfit")],
    );
    let mut all = vec![
        "--reuid=65534",
        &group,
        "--clear-groups",
        "/run/virtfit/test-virtfit",
    ];
    all.extend(words);
    libvirt.run("setpriv", &all, &[])
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn ordinary_users_ask_the_daemon() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let graphics = "<graphics type='vnc' port='-1' passwd='s3cret'/>\n    <memballoon";
    libvirt
        .define(&small("g").replace("<memballoon", graphics))
        .unwrap();
    let daemon = libvirt.virtfitd();
    within(10, "tuned", || {
        is_tuned(&libvirt).then_some(()).ok_or(libvirt.log())
    });
    libvirt.virsh(&["start", "g"]).unwrap();
    for words in [&["status"][..], &["plan", "g"], &["rewrite", "g"]] {
        let said = as_nobody(&libvirt, "libvirt", words);
        let (stdout, stderr) = (
            String::from_utf8_lossy(&said.stdout).into_owned(),
            String::from_utf8_lossy(&said.stderr).into_owned(),
        );
        assert!(said.status.success(), "{words:?}: {stderr}");
        assert!(
            stdout.contains('g') && !stdout.contains("s3cret"),
            "{words:?}: {stdout}"
        );
        // Outside the group the daemon cannot be asked, and no guess is made.
        let said = as_nobody(&libvirt, "65534", words);
        assert_eq!(said.status.code(), Some(1), "{words:?}");
        assert!(
            String::from_utf8_lossy(&said.stderr).contains("group libvirt"),
            "{words:?}: {said:?}"
        );
    }
    drop(daemon);
    let said = as_nobody(&libvirt, "libvirt", &["status"]);
    assert_eq!(said.status.code(), Some(1));
    libvirt.virsh(&["destroy", "g"]).unwrap();
}

/// Returns the commands a plan advises to bring it about, and the rule it says is needed.
fn advised(said: &str) -> (Vec<String>, Vec<String>) {
    let shows = |line: &str| line.ends_with("--diff") || line.ends_with("--json");
    let is_command = |line: &str| {
        ["  virtfit ", "  cp ", "  virsh "]
            .iter()
            .any(|it| line.starts_with(it))
    };
    let commands = said.lines().filter(|line| is_command(line) && !shows(line));
    let rule = said.lines().filter_map(|line| line.strip_prefix("      "));
    let rule = rule.skip_while(|line| *line != "[[rule]]").take(3);
    (
        commands.map(|line| line.trim().to_string()).collect(),
        rule.map(str::to_string).collect(),
    )
}

/// Follows the advice of plans; the daemon leaves the result as the plan showed it.
#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn what_a_plan_advises_lasts() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    libvirt.define(&small("g")).unwrap();
    let _daemon = libvirt.virtfitd();
    within(10, "tuned", || {
        is_tuned(&libvirt).then_some(()).ok_or(libvirt.log())
    });
    let folder = libvirt.folder().to_str().unwrap().to_string();
    let other = format!("{folder}/other.toml");
    std::fs::write(
        &other,
        POLICY.replace("profile = \"plain\"", "profile = \"local\""),
    )
    .unwrap();
    let file = format!("{folder}/new.xml");
    std::fs::write(&file, small("new")).unwrap();
    let bin = std::path::Path::new(env!("CARGO_BIN_EXE_virtfit"))
        .parent()
        .unwrap();
    let has = |guest: &str, profile: &str| {
        let dump = libvirt
            .virsh(&["dumpxml", "--inactive", guest])
            .unwrap_or_default();
        dump.contains(&format!("profile=\"{profile}\" policy="))
    };
    for (words, guest, profile) in [
        (&["plan", "g", "--profile", "local"][..], "g", "local"),
        (&["plan", "g", "--profile", "plain"], "g", "plain"),
        (&["plan", "g", "--profile", "isolated"], "g", "isolated"),
        (&["plan", &file, "--profile", "shared"], "new", "shared"),
        (&["plan", "g", "--policy", &other], "g", "local"),
    ] {
        let said = virtfit(&libvirt, words);
        let (commands, rule) = advised(&said);
        assert!(!commands.is_empty(), "{words:?}: {said}");
        if !rule.is_empty() {
            let policy = format!("{}\n\n[[rule]]", rule.join("\n"));
            let path = libvirt.on_host("etc/virtfit/policy.toml");
            let text = std::fs::read_to_string(&path).unwrap();
            std::fs::write(&path, text.replacen("[[rule]]", &policy, 1)).unwrap();
        }
        for command in &commands {
            libvirt.sh(&format!("PATH={}:$PATH; {command}", bin.display()), &[]);
        }
        within(10, "as the plan showed it", || {
            has(guest, profile)
                .then_some(())
                .ok_or(format!("{words:?}: {said}\n{}", libvirt.log()))
        });
        // The daemon has seen the change by now, and has nothing to undo.
        std::thread::sleep(std::time::Duration::from_millis(1500));
        assert!(has(guest, profile), "{words:?}: {said}\n{}", libvirt.log());
    }
}
