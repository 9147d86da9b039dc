//! Remedies: what takes a guest's threads off CPUs that others hold, and threads that are where
//! they belong.

use super::host::{By, Host, Made, code, of, wrong};

/// Rules by the first letter of a guest's name: `f` has a profile, all others none.
const RULES: &str = "[profile.plain]\ninherits = \"fit\"\nhugepages = \"off\"\nnuma = \"off\"\n\n\
                     [[rule]]\nmatch = { name = \"f*\" }\nprofile = \"plain\"\n";

/// Words of a note after which the policy does it.
const CONFINE: &str = " (unmanaged = \"confine\" in the policy's [host] keeps it off)";

/// Makes a host on which `f1` holds CPU 1.
fn host() -> Host {
    let host = Host::new(RULES);
    host.answer();
    host.guest(&Made::pinned("f1", &["1"]));
    host
}

/// Writes the status of a guest of one vCPU that runs with these pins.
fn runs_with(host: &Host, made: &Made, pins: &str) {
    let pid = made.pid();
    let live = made
        .xml()
        .replace("</vcpu>", &format!("</vcpu><cputune>{pins}</cputune>"));
    let status = format!(
        "<domstatus state='running' reason='booted' pid='{pid}'><vcpus><vcpu id='0' pid='{}'/></vcpus>{live}</domstatus>",
        pid + 2
    );
    host.put(&format!("run/libvirt/qemu/{}.xml", made.name), &status);
}

/// Returns the text and the command of the guest's note on held CPUs.
fn on_held(host: &Host, name: &str) -> Option<(String, Option<String>)> {
    let (status, _) = host.status();
    let notes = &of(&status, name).notes;
    let found = notes.iter().find(|note| code(note) == "on-held-cpu")?;
    Some((found.text.clone(), found.command.clone()))
}

#[test]
fn masks_that_virtfit_set_are_no_pins_by_hand() {
    let host = host();
    let web = Made::free("web");
    host.guest(&web);
    runs_with(
        &host,
        &web,
        "<vcpupin vcpu='0' cpuset='0-31'/><emulatorpin cpuset='0-31'/>",
    );
    let all: Vec<u32> = (0..32).collect();
    let mask = |thread: &str| {
        format!(r#"{{"thread":{thread},"first":{all:?},"cpus":{all:?},"before":[0,2],"floats":true}}"#)
    };
    let record = format!(
        r#"{{"version":1,"uuid":"{uuid}","name":"web","pid":{pid},"confined":true,"threads":[{},{}]}}"#,
        mask(r#"{"vcpu":0}"#),
        mask(r#""emulator""#),
        uuid = web.uuid(),
        pid = web.pid()
    );
    host.put(&format!("run/virtfit/live/{}.json", web.uuid()), &record);
    let said = format!("may run on CPU 1, which f1 holds{CONFINE}");
    assert_eq!(on_held(&host, "web"), Some((said, None)));
    // An administrator's pin of the same thread is none of virtfit's.
    runs_with(
        &host,
        &web,
        "<vcpupin vcpu='0' cpuset='0-9'/><emulatorpin cpuset='0-31'/>",
    );
    let command = "virsh vcpupin web 0 0,2-31 --live";
    let said = format!("may run on CPU 1, which f1 holds: {command}");
    assert_eq!(on_held(&host, "web"), Some((said, Some(command.into()))));
}

#[test]
fn the_thread_that_may_run_on_a_held_cpu_is_named() {
    let host = host();
    // The vCPU was pinned by hand, the emulator never was.
    let mut web = Made::free("web");
    web.pins = vec![Some(("0".into(), By::Hand))];
    web.masks = vec!["0".into()];
    host.guest(&web);
    runs_with(&host, &Made::free("web"), "<vcpupin vcpu='0' cpuset='0'/>");
    host.thread(web.pid(), web.pid(), "qemu-system-x86", "0-31");
    let said = format!("its emulator may run on CPU 1, which f1 holds{CONFINE}");
    assert_eq!(on_held(&host, "web"), Some((said, None)));
    // Pinned by hand to a CPU that is held now, the emulator stays where no policy moves it.
    runs_with(
        &host,
        &Made::free("web"),
        "<vcpupin vcpu='0' cpuset='0'/><emulatorpin cpuset='0-2'/>",
    );
    host.thread(web.pid(), web.pid(), "qemu-system-x86", "0-2");
    let command = "virsh emulatorpin web 0,2-31 --live";
    let said = format!("its emulator may run on CPU 1, which f1 holds: {command}");
    assert_eq!(on_held(&host, "web"), Some((said, Some(command.into()))));
    host.thread(web.pid(), web.pid(), "qemu-system-x86", "0,2-31");
    assert_eq!(on_held(&host, "web"), None);
}

#[test]
fn a_pool_thread_may_run_where_the_thread_that_started_it_may() {
    let host = Host::new(RULES);
    host.answer();
    let made = Made::pinned("f1", &["1"]);
    host.guest(&made);
    let status = std::fs::read_to_string(host.path().join("run/libvirt/qemu/f1.xml")).unwrap();
    let status = status
        .replace("<cputune>", "<iothreads>1</iothreads><cputune>")
        .replace("</cputune>", "<iothreadpin iothread='1' cpuset='1'/></cputune>");
    host.put("run/libvirt/qemu/f1.xml", &status);
    host.thread(made.pid(), made.pid() + 10, "IO iothread1", "1");
    // One was started by the iothread, one by the emulator.
    host.thread(made.pid(), made.pid() + 11, "worker", "1");
    host.thread(made.pid(), made.pid() + 12, "worker", "0,8,16,24");
    let (status, exit) = host.status();
    let guest = of(&status, "f1");
    assert_eq!((exit, wrong(&guest.notes)), (0, vec![]), "{guest:?}");
    let expected = |tid| {
        let thread = guest.threads.iter().find(|thread| thread.tid == tid).unwrap();
        thread.expected.to_string()
    };
    assert_eq!(expected(made.pid() + 11), "1");
    assert_eq!(expected(made.pid() + 12), "0,8,16,24");
    // Neither of both lets it run there.
    host.thread(made.pid(), made.pid() + 11, "worker", "2");
    let (status, exit) = host.status();
    let notes = &of(&status, "f1").notes;
    assert_eq!(
        (exit, wrong(notes)),
        (3, vec!["thread-elsewhere".to_string()]),
        "{notes:?}"
    );
    assert_eq!(notes[0].text, "worker on CPU 2");
}

#[test]
fn a_request_that_is_not_followed_is_said() {
    let host = host();
    let web = Made::free("web");
    let document = web.xml();
    let document = virtfit::xml::Document::parse(&document).unwrap();
    let asked = virtfit::rewrite::request(&document, Some("fit")).unwrap();
    let note = || {
        let (status, _) = host.status();
        let notes = &of(&status, "web").notes;
        let found = notes.iter().find(|note| code(note) == "request-not-followed");
        found.map(|note| (note.text.clone(), note.wrong))
    };
    let said = "its request for profile 'fit' is not followed: it gives CPUs of its own, and no rule gives it a profile \
                (requests = \"safe\")";
    // Both where it does not run and where it does.
    host.put("etc/libvirt/qemu/web.xml", &asked);
    assert_eq!(note(), Some((said.into(), false)));
    host.guest(&web);
    host.put("etc/libvirt/qemu/web.xml", &asked);
    assert_eq!(note(), Some((said.into(), false)));
    host.define(&web);
    assert_eq!(note(), None);
}

#[test]
fn a_guest_that_was_started_before_the_policy_says_so() {
    let host = Host::new(RULES);
    host.answer();
    host.guest(&Made::free("f1"));
    let said = || {
        let (status, _) = host.status();
        let notes = &of(&status, "f1").notes;
        notes
            .iter()
            .find(|note| code(note) == "not-pinned")
            .unwrap()
            .text
            .clone()
    };
    let older = "not pinned: floats on CPUs 0-31, as it was started, and could be on CPU 1";
    assert!(said().starts_with(older), "{}", said());
    // libvirt writes this file at the start alone.
    std::thread::sleep(std::time::Duration::from_millis(20));
    host.put("run/libvirt/qemu/f1.pid", "1");
    assert_eq!(
        said(),
        "not pinned: its vCPUs could have CPU 1, and may run on CPUs 0-31"
    );
}

#[test]
fn no_new_start_is_advised_that_gives_nothing() {
    let rules = "[[rule]]\nmatch = { name = \"f*\" }\nprofile = \"fit\"\n";
    let host = Host::new(rules);
    host.answer();
    host.define(&Made::free("f1"));
    let rewritten = || String::from_utf8(host.virtfit(&["rewrite", "f1"]).stdout).unwrap();
    let with_place = rewritten();
    // The other guest holds all CPUs: f1 was restored without what goes with a place.
    let dedicated = (0..32u32).filter(|cpu| cpu % 8 != 0).map(|cpu| cpu.to_string());
    let dedicated: Vec<String> = dedicated.collect();
    let all: Vec<&str> = dedicated.iter().map(String::as_str).collect();
    host.guest(&Made::pinned("fbig", &all));
    let without = rewritten();
    assert_ne!(with_place, without);
    host.put("etc/libvirt/qemu/f1.xml", &with_place);
    host.put(
        "run/libvirt/qemu/f1.xml",
        &format!("<domstatus state='running' pid='4711'>{without}</domstatus>"),
    );
    let pending = || of(&host.status().0, "f1").pending.clone();
    assert_eq!(pending(), Vec::<String>::new());
    // With the place it would be another guest.
    host.remove("run/libvirt/qemu/fbig.xml");
    host.remove("etc/libvirt/qemu/fbig.xml");
    assert_eq!(pending(), ["shut down, start"]);
}
