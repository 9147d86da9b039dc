//! Commands that change definitions, with and without a daemon.

use crate::daemon::{Libvirt, Setup, small, within};

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
