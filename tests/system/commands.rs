//! Commands that change definitions, with and without a daemon.

use crate::daemon::{Libvirt, Setup, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"plain\"\n";

/// Runs `virtfit`, which has to work; its stdout.
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
    assert!(virtfit(&libvirt, &["apply", "--all"]).contains("0 of 1 redefined"));

    // Back, and the daemon leaves it alone.
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
    let said = virtfit(&libvirt, &["revert", "--all"]);
    assert!(said.contains("g: reverted"), "{said}");
    assert!(!is_tuned(&libvirt));
}

/// Runs `virtfit` as an ordinary user, whose one group is this.
fn as_nobody(libvirt: &Libvirt, group: &str, words: &[&str]) -> std::process::Output {
    let group = format!("--regid={group}");
    // Wherever the sources are, this user may not be let in there.
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
        // Outside the group there is nobody to ask, and no guess is made.
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
