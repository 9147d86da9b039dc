use std::fs;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, SystemTime};

use super::*;
use crate::hostfs::HostFs;
use crate::snapshot::Sources;
use crate::snapshot::cache::SnapshotCache;

const POLICY: &str = "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";

#[test]
fn a_decision_is_given_again_while_nothing_it_is_made_from_changed() {
    // A copy of a host and one guest's XML are the inputs of every decision.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let dir = tempfile::tempdir().unwrap();
    let base = dir.path().join("host");
    let mut copy = Command::new("cp");
    copy.arg("-r").arg(fixtures.join("hosts/paper")).arg(&base);
    assert!(copy.status().unwrap().success());
    let write = |path: &str, text: &str| {
        let path = base.join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    };
    write("etc/virtfit/policy.toml", POLICY);
    let memory = SnapshotCache::new(Sources {
        root: HostFs::new(&base),
        ..Sources::default()
    });
    let xml = fs::read_to_string(fixtures.join("domains/def.xml")).unwrap();
    let other = xml.replace("<name>def</name>", "<name>other</name>");
    let memo = DecisionCache::default();
    let domain = |name: &str, number: u32, pin: &str| {
        format!(
            "<domstatus state='running' reason='booted' pid='1'><vcpus><vcpu id='0' pid='9'/></vcpus><domain type='kvm'>\
             <name>{name}</name><uuid>8c1f6f0e-0000-4000-8000-00000000000{number}</uuid><memory>1024</memory><vcpu>1</vcpu>\
             <cputune><vcpupin vcpu='0' cpuset='{pin}'/></cputune></domain></domstatus>"
        )
    };
    // what changes, and whether the decision is made again
    let steps: [(&str, &dyn Fn(), bool); 9] = [
        ("nothing", &|| {}, false),
        (
            "a guest takes a CPU",
            &|| write("run/libvirt/qemu/db.xml", &domain("db", 3, "3")),
            true,
        ),
        (
            "another floats",
            &|| write("run/libvirt/qemu/web.xml", &domain("web", 0, "0-31")),
            false,
        ),
        (
            "a third is pinned to a housekeeping CPU",
            &|| write("run/libvirt/qemu/app.xml", &domain("app", 1, "0")),
            true,
        ),
        (
            "it ends",
            &|| fs::remove_file(base.join("run/libvirt/qemu/db.xml")).unwrap(),
            true,
        ),
        (
            "pages",
            &|| {
                write(
                    "sys/devices/system/node/node0/hugepages/hugepages-2048kB/free_hugepages",
                    "7\n",
                )
            },
            true,
        ),
        (
            "a CPU goes",
            &|| write("sys/devices/system/cpu/online", "0-30\n"),
            true,
        ),
        (
            "autostart",
            &|| write("etc/libvirt/qemu/autostart/def.xml", ""),
            true,
        ),
        (
            "the policy",
            &|| write("etc/virtfit/policy.toml", &POLICY.replace("fit", "local")),
            true,
        ),
    ];
    // Much later than the last write, so that the files count as rested.
    let view = || {
        memory
            .current(SystemTime::now() + Duration::from_secs(3600))
            .unwrap()
    };
    let ask = Question::of(Scope::Boot);
    let mut before = memo.decide(&view(), &xml, ask).unwrap();
    for (what, step, anew) in steps {
        step();
        let view = view();
        let now = memo.decide(&view, &xml, ask).unwrap();
        let fresh = view.decide(&xml, ask).unwrap();
        assert_eq!((now.plan(), now.xml()), (fresh.plan(), fresh.xml()), "{what}");
        assert_eq!(!Arc::ptr_eq(&before, &now), anew, "{what}");
        for ask in [Question { bound: true, ..ask }, Question::of(Scope::Incoming)] {
            let now = memo.decide(&view, &xml, ask).unwrap();
            let fresh = view.decide(&xml, ask).unwrap();
            assert_eq!(
                (now.plan(), now.xml()),
                (fresh.plan(), fresh.xml()),
                "{what}: {ask:?}"
            );
        }
        assert_eq!(memo.decide(&view, &other, ask).unwrap().plan().guest, "other");
        before = now;
    }
    // The answer to a special question is no answer to the usual one.
    let special = Question {
        profile: Some("off"),
        ..ask
    };
    assert_eq!(
        memo.decide(&view(), &xml, special)
            .unwrap()
            .plan()
            .profile
            .as_deref(),
        Some("off")
    );
    assert_eq!(
        memo.decide(&view(), &xml, ask).unwrap().plan().profile.as_deref(),
        Some("local")
    );
    assert!(memo.decide(&view(), "<domain>", ask).is_err());
}

#[test]
fn the_number_of_a_start_is_not_what_a_decision_is_made_from() {
    // Only the number of the `<domain>` itself is replaced, and it comes back.
    for (xml, first, own) in [
        (
            "<domain type='kvm' id='7'><name/>",
            "<domain type='kvm' id='1'><name/>",
            Some("7"),
        ),
        (
            "<domain type='kvm' id='120' x='2'>",
            "<domain type='kvm' id='1' x='2'>",
            Some("120"),
        ),
        ("<domain type='kvm' id='1'>", "<domain type='kvm' id='1'>", None),
        (
            "<domain type='kvm'><a id='7'/>",
            "<domain type='kvm'><a id='7'/>",
            None,
        ),
        ("<domain id='x'>", "<domain id='x'>", None),
        ("<domain id=''>", "<domain id=''>", None),
        ("<domain id='7", "<domain id='7", None),
        ("<!-- <domain id='7'> -->", "<!-- <domain id='7'> -->", None),
        ("", "", None),
    ] {
        let (text, number) = as_first(xml);
        assert_eq!((&*text, number), (first, own), "{xml}");
        if let Some(number) = number {
            assert_eq!(numbered(&text, number), xml);
        }
    }
    // Guests that differ in their number alone share one entry of the cache.
    let fixtures = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures");
    let place = Sources {
        root: HostFs::new(fixtures.join("hosts/paper")),
        policy: Some(fixtures.join("demo.toml")),
        ..Sources::default()
    };
    let view = Snapshot::read(&place, SystemTime::now()).unwrap();
    let xml = fs::read_to_string(fixtures.join("domains/def.xml")).unwrap();
    let memo = DecisionCache::default();
    for scope in [Scope::Boot, Scope::Incoming] {
        for number in [1, 7, 123] {
            let xml = xml.replacen(
                "<domain type='kvm'>",
                &format!("<domain type='kvm' id='{number}'>"),
                1,
            );
            assert!(xml.contains(&format!(" id='{number}'>")));
            let ask = Question::of(scope);
            let (now, fresh) = (
                memo.decide(&view, &xml, ask).unwrap(),
                view.decide(&xml, ask).unwrap(),
            );
            assert_eq!(
                (now.plan(), now.xml()),
                (fresh.plan(), fresh.xml()),
                "{scope:?} {number}"
            );
            assert!(now.xml().is_some());
        }
    }
    assert_eq!(memo.known().len(), 1);
}

#[test]
fn it_does_not_grow() {
    let memo = DecisionCache::default();
    let xml = |number: usize| format!("<domain type='kvm'><name>g{number}</name><memory>1</memory></domain>");
    for number in 0..2 * MOST {
        assert_eq!(
            memo.guest(&xml(number)).unwrap().domain.name,
            format!("g{number}")
        );
    }
    let long = format!(
        "<domain type='kvm'><name>{}</name><memory>1</memory></domain>",
        "g".repeat(LONGEST)
    );
    memo.guest(&long).unwrap();
    assert_eq!(memo.known().len(), MOST);
    assert_eq!(memo.known()[0].text.document.text(), xml(2 * MOST - 1));
}
