//! Requests of guests, set with the administrator's own `virsh metadata`.

use crate::daemon::{Libvirt, Setup, small, within};

const POLICY: &str = "[host]\nhousekeeping = \"0\"\ndedicated = \"1\"\nreserved_memory = \"0\"\n\n\
                      [profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\n\n\
                      [[rule]]\nmatch = { name = \"*\" }\nprofile = \"plain\"\n";

fn metadata(libvirt: &Libvirt, rest: &[&str]) {
    let mut words = vec!["metadata", "g", "--uri", "https://virtfit.dev/ns/request/1"];
    words.extend(rest);
    libvirt
        .virsh(&words)
        .unwrap_or_else(|error| panic!("{words:?}: {error}\n{}", libvirt.log()));
}

fn ask(libvirt: &Libvirt, profile: &str, flags: &[&str]) {
    let request = format!("<request profile='{profile}'/>");
    let mut words = vec!["--key", "virtfit", "--set", &request];
    words.extend(flags);
    metadata(libvirt, &words);
}

/// Returns the definition without what virtfit wrote in it.
fn untouched(libvirt: &Libvirt) -> String {
    let root = libvirt.root();
    let got = libvirt.run(
        env!("CARGO_BIN_EXE_virtfit"),
        &["--root", root.to_str().unwrap(), "revert", "-"],
        libvirt.dump("g").as_bytes(),
    );
    let stderr = String::from_utf8_lossy(&got.stderr);
    assert!(got.status.success(), "{stderr}");
    String::from_utf8(got.stdout).unwrap()
}

/// Waits until the definition is tuned by this profile.
fn is_tuned_by(libvirt: &Libvirt, profile: &str) {
    within(10, "tuned by it", || {
        let dump = libvirt.dump("g");
        let so = dump.contains(&format!("profile=\"{profile}\" policy="));
        so.then_some(())
            .ok_or_else(|| format!("{profile}: {dump}\n{}", libvirt.log()))
    });
}

#[test]
#[ignore = "needs root and libvirtd; run by make test"]
fn virsh_metadata_asks_for_a_profile() {
    let libvirt = Libvirt::with(&Setup {
        policy: Some(POLICY),
        ..Setup::default()
    });
    let graphics = "<graphics type='vnc' port='-1' autoport='yes' passwd='s3cret'/>\n    <memballoon";
    let others = "</uuid>\n  <title>kept</title>\n  <metadata>\n    <x:note xmlns:x='urn:x'>kept</x:note>\n  </metadata>";
    let xml = small("g")
        .replace("<memballoon", graphics)
        .replace("</uuid>", others);
    // What it would be without virtfit, in the order in which it is asked for below.
    libvirt.define(&xml).unwrap();
    let never = libvirt.dump("g");
    ask(&libvirt, "local", &["--config"]);
    let asked = libvirt.dump("g");
    metadata(&libvirt, &["--config", "--remove"]);
    assert_eq!(libvirt.dump("g"), never);

    let daemon = libvirt.virtfitd();
    is_tuned_by(&libvirt, "plain");
    assert_eq!(untouched(&libvirt), never);

    // The guest does not run.
    ask(&libvirt, "local", &["--config"]);
    is_tuned_by(&libvirt, "local");
    assert_eq!(untouched(&libvirt), asked);
    metadata(&libvirt, &["--config", "--remove"]);
    is_tuned_by(&libvirt, "plain");
    assert_eq!(untouched(&libvirt), never);

    // The guest runs: it stays where it is, and only its definition is fitted.
    libvirt.virsh(&["start", "g"]).unwrap();
    libvirt.runs_on("g", "1");
    let before = libvirt.dump("g");
    ask(&libvirt, "local", &["--live"]);
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(libvirt.dump("g"), before);
    libvirt.runs_on("g", "1");
    ask(&libvirt, "local", &["--live", "--config"]);
    is_tuned_by(&libvirt, "local");
    assert_eq!(untouched(&libvirt), asked);
    drop(daemon);
    let _daemon = libvirt.virtfitd();
    std::thread::sleep(std::time::Duration::from_millis(500));
    assert_eq!(libvirt.first_vcpu("g"), "1", "{}", libvirt.log());
    let guest = libvirt.guest("g");
    assert_eq!(guest.held.to_string(), "1");
    assert_eq!(guest.pending, ["shut down, start"]);

    // A request that is not permitted, and nonsense: the rule decides, and the log says so.
    for (profile, why) in [("realtime", "requests"), ("locall", "local")] {
        ask(&libvirt, profile, &["--config"]);
        is_tuned_by(&libvirt, "plain");
        let plan = libvirt.virtfit(&["plan", "g"]);
        let said =
            String::from_utf8_lossy(&plan.stdout).into_owned() + &String::from_utf8_lossy(&plan.stderr);
        assert!(said.contains(why), "{profile}: {said}");
        ask(&libvirt, "local", &["--config"]);
        is_tuned_by(&libvirt, "local");
    }
    libvirt.virsh(&["destroy", "g"]).unwrap();
    libvirt.is_clean();
    libvirt.virsh(&["start", "g"]).unwrap();
    libvirt.runs_on("g", "0-1");
    libvirt.virsh(&["destroy", "g"]).unwrap();
}
