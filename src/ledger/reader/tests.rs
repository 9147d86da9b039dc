use std::fs;
use std::os::unix::fs::symlink;
use std::time::{Duration, UNIX_EPOCH};

use super::*;
use crate::ledger::Ledger;
use crate::ledger::reservation::{ReservedMemory, VERSION};
use crate::types::cpulist;
use crate::types::ids::VcpuId;
use crate::types::idset::CpuSet;

const NOW: u64 = 1_000_000;

/// Host root that is removed when it is dropped.
struct Host(tempfile::TempDir);

impl Host {
    fn new() -> Self {
        let root = Self(tempfile::tempdir().unwrap());
        root.write("proc/sys/kernel/random/boot_id", "b0\n");
        root
    }

    fn write(&self, path: &str, text: &str) -> &Self {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
        self
    }

    fn status(&self, name: &str, pins: &[&str]) -> &Self {
        let text = format!(
            "<domstatus state='running' reason='booted' pid='1'>{}</domstatus>",
            domain(name, pins, "")
        );
        self.write(&format!("run/libvirt/qemu/{name}.xml"), &text)
    }

    fn reserve(&self, name: &str, cpus: &str, change: impl FnOnce(&mut Reservation)) -> &Self {
        let mut reservation = Reservation {
            version: VERSION,
            uuid: uuid(name),
            name: name.into(),
            cpus: cpulist::parse(cpus).unwrap(),
            withheld: CpuSet::new(),
            memory: vec![ReservedMemory {
                node: None,
                page_kib: None,
                kib: KiB(7),
            }],
            boot_id: "b0".into(),
            pid: 77,
            start_time: 5,
            tentative_until: None,
            written_at: NOW,
            pins: None,
        };
        change(&mut reservation);
        let text = reservation.to_json().unwrap();
        self.write(&format!("run/virtfit/reservations/{}.json", uuid(name)), &text)
    }

    fn daemon(&self, pid: u32, start: u64) -> &Self {
        let text = format!("{pid} (libvirtd) S 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 {start} 0");
        self.write(&format!("proc/{pid}/stat"), &text)
    }

    fn read(&self) -> Reading {
        let at = HostFs::new(self.0.path());
        read(&at, UNIX_EPOCH + Duration::from_secs(NOW), &Policy::builtin()).unwrap()
    }
}

/// Reader with the folders that it watches.
#[derive(Default)]
struct Kept {
    reader: Reader,
    folders: Folders,
}

impl Kept {
    fn watching() -> Self {
        Self {
            folders: Folders::watching(),
            ..Self::default()
        }
    }

    fn read(&mut self, at: &HostFs, now: SystemTime, policy: &Policy) -> Result<Arc<Reading>, LedgerError> {
        self.reader
            .current(at, now, policy, AtOnce::CLAIMS, &mut self.folders)
    }

    fn under_lock(&mut self, at: &HostFs, now: SystemTime) -> Result<Promises, LedgerError> {
        self.reader.under_lock(at, now, &mut self.folders)
    }

    fn unchanged(&mut self, at: &HostFs, reading: &Arc<Reading>) -> bool {
        self.reader.unchanged(at, &mut self.folders, reading)
    }
}

/// Writes the live record of a guest whose vCPU 0 floats on this CPU.
fn floats(at: &HostFs, name: &str, cpu: &str) {
    let mut record = live_pins::Pinned::new(&uuid(name), name, 1);
    let cpus = cpulist::parse(cpu).unwrap();
    let vcpu = live_pins::Thread::Vcpu(VcpuId(0));
    record.set(vcpu, &cpus, None, cpus.clone(), true);
    live_pins::write(at, &record).unwrap();
}

/// UUID that is unique for the name; names of up to six letters.
fn uuid(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("8c1f6f0e-0000-4000-8000-{digits:0>12}")
}

fn domain(name: &str, pins: &[&str], metadata: &str) -> String {
    let pins: String = pins
        .iter()
        .enumerate()
        .map(|(vcpu, cpus)| format!("<vcpupin vcpu='{vcpu}' cpuset='{cpus}'/>"))
        .collect();
    format!(
        "<domain type='kvm'><name>{name}</name><uuid>{}</uuid><memory>1024</memory><vcpu>4</vcpu>{metadata}<cputune>{pins}</cputune></domain>",
        uuid(name)
    )
}

/// Makes the `<metadata>` in which virtfit records that it pinned these vCPUs.
fn record(attributes: &str, pins: &[&str]) -> String {
    let records: String = pins
        .iter()
        .enumerate()
        .map(|(vcpu, cpu)| format!("<v:set at='vcpupin/{vcpu}' wrote='{cpu}'/>"))
        .collect();
    format!(
        "<metadata><v:fit xmlns:v='https://virtfit.dev/ns/domain/1' version='1' profile='fit' policy='0' \
         on-no-fit='run-shared' threads='1' {attributes}>{records}</v:fit></metadata>"
    )
}

fn pins(holder: &Holder) -> String {
    holder
        .pins
        .iter()
        .map(CpuSet::to_string)
        .collect::<Vec<_>>()
        .join(" ")
}

#[test]
fn no_libvirt_is_an_empty_ledger() {
    assert_eq!(Host::new().read(), Reading::default());
    let nowhere = read(&HostFs::new("/nonexistent-root"), UNIX_EPOCH, &Policy::builtin()).unwrap();
    assert_eq!(nowhere, Reading::default());
}

#[test]
fn running_guests_and_reservations_are_one_entry_a_guest() {
    let root = Host::new();
    root.status("db", &["2", "3"])
        .status("web", &["0-3"; 4])
        .daemon(77, 5);
    root.reserve("db", "2,9", |_| {}).reserve("new", "4-5", |_| {});
    let reading = root.read();
    let shown: Vec<_> = reading
        .ledger
        .holders
        .iter()
        .map(|holder| (holder.name.as_str(), pins(holder), holder.reservation))
        .collect();
    let expected = [
        ("db", "2 3 9".to_string(), false),
        ("web", "0-3".to_string(), false),
        ("new", "4 5".to_string(), true),
    ];
    assert_eq!(shown, expected);
    assert_eq!(reading.ledger.holders[0].memory[0].amount, KiB(1024));
    assert_eq!(reading.warnings, Vec::<String>::new());
}

#[test]
fn what_was_read_before_changes_nothing() {
    let root = Host::new();
    let at = HostFs::new(root.0.path());
    let path = |path: &str| root.0.path().join(path);
    // The huge page size that the kernel was started with stays.
    root.write("proc/meminfo", "Hugepagesize: 1048576 kB\n");
    let mut caches = [Kept::default(), Kept::watching()];
    let rule = "[[rule]]\nmatch = { name = \"web\", autostart = true }\nprofile = \"fit\"\n";
    let policies = [Policy::builtin(), Policy::parse(rule, "p.toml").unwrap()];
    // Where the record says another pin than the guest has, its thread does not float.
    let floats = |cpu: &str| floats(&at, "vm.a", cpu);
    let steps: [(&str, &dyn Fn()); 21] = [
        ("a guest runs", &|| {
            root.status("db", &["2"]).daemon(77, 5);
        }),
        ("one is promised", &|| {
            root.reserve("new", "4-5", |_| {});
        }),
        ("another pin", &|| {
            root.status("db", &["3"]);
        }),
        ("a broken definition", &|| {
            root.write("etc/libvirt/qemu/db.xml", "<domain>");
        }),
        ("a definition", &|| {
            root.write(
                "etc/libvirt/qemu/web.xml",
                &domain("web", &["6"], &record("", &["6"])),
            );
        }),
        ("autostart", &|| {
            fs::create_dir_all(path("etc/libvirt/qemu/autostart")).unwrap();
            symlink("../web.xml", path("etc/libvirt/qemu/autostart/web.xml")).unwrap();
        }),
        ("a broken status file", &|| {
            root.write("run/libvirt/qemu/db.xml", "<domstatus");
        }),
        ("the libvirt daemon ends", &|| {
            root.daemon(77, 6);
        }),
        ("and is there", &|| {
            root.daemon(77, 5);
        }),
        ("another boot", &|| {
            root.reserve("new", "6", |reservation| reservation.boot_id = "b1".into());
        }),
        ("undecided", &|| {
            let mark = format!(
                "{{\"uuid\":\"{}\",\"name\":\"x\",\"why\":\"y\",\"written_at\":1}}",
                uuid("x")
            );
            root.write(&format!("run/virtfit/undecided/{}.json", uuid("x")), &mark);
        }),
        ("a broken live mask", &|| {
            root.write(&format!("run/virtfit/live/{}.json", uuid("db")), "{");
        }),
        ("guests whose names begin with another's", &|| {
            for name in ["a", "a-1", "vm", "vm-1", "vm.a", "vm-2", "vm-3"] {
                root.status(name, &["12"]);
            }
        }),
        ("one of them is written again", &|| {
            root.status("vm-1", &["13"]);
        }),
        ("and goes", &|| {
            fs::remove_file(path("run/libvirt/qemu/vm-1.xml")).unwrap()
        }),
        ("a floating thread", &|| floats("12")),
        ("and no more", &|| floats("14")),
        ("a status file that is a link", &|| {
            root.write("elsewhere.xml", "<domstatus");
            symlink(path("elsewhere.xml"), path("run/libvirt/qemu/l.xml")).unwrap();
            fs::hard_link(path("elsewhere.xml"), path("run/libvirt/qemu/h.xml")).unwrap();
        }),
        ("what it leads to", &|| {
            root.write(
                "elsewhere.xml",
                &format!("<domstatus>{}</domstatus>", domain("l", &["9"], "")),
            );
        }),
        ("a guest ends", &|| {
            fs::remove_file(path("run/libvirt/qemu/db.xml")).unwrap()
        }),
        ("all is gone", &|| fs::remove_dir_all(path("run")).unwrap()),
    ];
    for (what, step) in steps {
        step();
        // Now, when the files are young, and much later, when they have rested.
        for now in [SystemTime::now(), UNIX_EPOCH + Duration::from_secs(NOW)] {
            for cache in &mut caches {
                for policy in [0, 0, 1, 1].map(|number: usize| &policies[number]) {
                    assert_eq!(
                        cache.under_lock(&at, now).unwrap(),
                        promises(&at, now).unwrap(),
                        "{what}"
                    );
                    let cached = cache.read(&at, now, policy).unwrap();
                    assert_eq!(*cached, read(&at, now, policy).unwrap(), "{what}");
                }
            }
        }
    }
}

/// A live record is about one guest: the files of the others are not parsed again for it.
#[test]
fn anothers_live_pins_cost_nothing() {
    let root = Host::new();
    let at = HostFs::new(root.0.path());
    root.status("db", &["2"]).status("web", &["3"]);
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let mut cache = Kept::watching();
    let mut read = || {
        cache
            .read(&at, now, &Policy::builtin())
            .unwrap()
            .ledger
            .holders
            .clone()
    };
    let before = read();
    floats(&at, "web", "3");
    let after = read();
    let same = |at: usize| Arc::ptr_eq(&before[at], &after[at]);
    assert!(same(0) && !same(1) && after[1].set_live);
}

/// Host whose libvirt runs one guest and starts another.
fn with_one_that_runs_and_one_that_starts() -> Host {
    let root = Host::new();
    root.status("db", &["2"])
        .reserve("new", "4", |_| {})
        .daemon(77, 5);
    root
}

#[test]
fn a_ledger_in_which_nothing_happened_is_the_same() {
    let root = with_one_that_runs_and_one_that_starts();
    let at = HostFs::new(root.0.path());
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let mut cache = Kept::watching();
    let mut read = || cache.read(&at, now, &Policy::builtin()).unwrap();
    read();
    let first = read();
    assert!(Arc::ptr_eq(&first, &read()));
    root.reserve("new", "5", |_| {});
    assert!(!Arc::ptr_eq(&first, &read()));
}

#[test]
fn who_was_not_there_when_it_was_read_is_noticed() {
    let root = with_one_that_runs_and_one_that_starts();
    let at = HostFs::new(root.0.path());
    let now = UNIX_EPOCH + Duration::from_secs(NOW);
    let mut cache = Kept::watching();
    // event, and whether a decision made before it still holds
    let steps: [(&str, &dyn Fn(), bool); 5] = [
        ("nothing", &|| {}, true),
        (
            "a policy",
            &|| {
                root.write("etc/virtfit/policy.toml", "");
            },
            true,
        ),
        (
            "a reservation",
            &|| {
                root.reserve("other", "6", |_| {});
            },
            false,
        ),
        (
            "the same one again",
            &|| {
                root.reserve("other", "6", |_| {});
            },
            false,
        ),
        (
            "a guest runs",
            &|| {
                root.status("web", &["7"]);
            },
            false,
        ),
    ];
    for (what, step, holds) in steps {
        cache.read(&at, now, &Policy::builtin()).unwrap();
        let reading = cache.read(&at, now, &Policy::builtin()).unwrap();
        step();
        assert_eq!(cache.unchanged(&at, &reading), holds, "{what}");
        let now = cache.read(&at, now, &Policy::builtin()).unwrap();
        assert_eq!(
            *now,
            read(&at, UNIX_EPOCH + Duration::from_secs(NOW), &Policy::builtin()).unwrap(),
            "{what}"
        );
        assert_eq!(
            cache.unchanged(&at, &reading),
            holds,
            "{what}: another was read since"
        );
    }
    let mut blind = Kept::default();
    let reading = blind.read(&at, now, &Policy::builtin()).unwrap();
    assert!(!blind.unchanged(&at, &reading), "nobody watches");
}

#[test]
fn void_reservations_do_not_count() {
    type Change = fn(&mut Reservation);
    // case, change, daemon's start, status file, counts
    let rows: &[(&str, Change, Option<u64>, bool, bool)] = &[
        ("valid", |_| {}, Some(5), false, true),
        ("other boot", |r| r.boot_id = "b1".into(), Some(5), false, false),
        ("daemon gone", |_| {}, None, false, false),
        ("daemon gone, guest runs", |_| {}, None, true, true),
        ("pid reused", |_| {}, Some(6), false, false),
        (
            "tentative",
            |r| r.tentative_until = Some(NOW + 30),
            Some(5),
            false,
            true,
        ),
        (
            "tentative, over",
            |r| r.tentative_until = Some(NOW),
            Some(5),
            false,
            false,
        ),
    ];
    for (what, change, start, runs, counts) in rows {
        let root = Host::new();
        root.reserve("g", "9", change);
        if let Some(start) = start {
            root.daemon(77, *start);
        }
        if *runs {
            root.status("g", &["2"]);
        }
        let holders = root.read().ledger.holders;
        assert_eq!(
            holders.iter().any(|holder| pins(holder).contains('9')),
            *counts,
            "{what}"
        );
    }
}

#[test]
fn a_truncated_status_file_falls_back_to_the_reservation() {
    let root = Host::new();
    root.status("g", &["2"]).reserve("g", "2", |_| {});
    let path = root.0.path().join("run/libvirt/qemu/g.xml");
    let text = fs::read_to_string(&path).unwrap();
    fs::write(&path, &text[..text.len() / 2]).unwrap();
    let reading = root.read();
    assert_eq!(reading.ledger.holders.len(), 1);
    assert_eq!(pins(&reading.ledger.holders[0]), "2");
    assert!(reading.ledger.holders[0].reservation);
    assert_eq!(reading.warnings.len(), 1, "{:?}", reading.warnings);
    assert!(reading.running.contains("g"));
}

#[test]
fn what_makes_no_sense_is_a_warning() {
    let root = Host::new();
    root.write("run/libvirt/qemu/a.xml", "<domstatus>")
        .write("run/libvirt/qemu/a.pid", "1")
        .write("run/libvirt/qemu/autostarted", "")
        .write("run/virtfit/reservations/x.json", "{")
        .write("run/virtfit/reservations/.x.json.1", "{")
        .write("etc/libvirt/qemu/b.xml", "<domain>")
        .write("etc/libvirt/qemu/b.xml.new", "<domain>")
        .write("etc/libvirt/qemu/networks/default.xml", "<network/>");
    fs::create_dir(root.0.path().join("run/libvirt/qemu/folder.xml")).unwrap();
    let reading = root.read();
    assert_eq!(reading.ledger, Ledger::default());
    assert_eq!(reading.warnings.len(), 3, "{:#?}", reading.warnings);
}

#[test]
fn a_copy_beside_the_records_counts_for_nobody() {
    let root = Host::new();
    root.daemon(77, 5).reserve("new", "6", |_| {});
    let folder = root.0.path().join("run/virtfit/reservations");
    let file = folder.join(format!("{}.json", uuid("new")));
    let copy = folder.join("new-copy.json");
    fs::copy(&file, &copy).unwrap();
    let reading = root.read();
    assert_eq!((reading.reservations.len(), reading.warnings.len()), (1, 1));
    let warning = &reading.warnings[0];
    assert!(
        warning.contains("new-copy.json: the record of another guest"),
        "{warning}"
    );
    // Its guest ends: the copy holds nothing, though nothing removes it.
    fs::remove_file(&file).unwrap();
    assert_eq!(root.read().ledger, Ledger::default());
}

#[test]
fn five_hundred_guests_are_quick() {
    let root = Host::new();
    for n in 0..500 {
        let name = format!("g{n}");
        root.status(&name, &["2", "3"]);
        root.write(
            &format!("etc/libvirt/qemu/{name}.xml"),
            &domain(&name, &["2", "3"], ""),
        );
    }
    let start = std::time::Instant::now();
    assert_eq!(root.read().ledger.holders.len(), 500);
    assert!(start.elapsed() < Duration::from_secs(2), "{:?}", start.elapsed());
}

#[test]
fn a_claim_is_what_the_guests_profile_gives_it() {
    let rules = |host: &str| {
        let rule = |name: &str, profile: &str| {
            format!("[[rule]]\nmatch = {{ name = \"{name}\" }}\nprofile = \"{profile}\"\n")
        };
        let half = "[profile.half]\ninherits = \"fit\"\ncpus = \"mixed\"\ndedicated_vcpus = \"1\"\n\
                    [profile.apart]\ninherits = \"fit\"\nemulator = \"isolate\"\niothreads = { cpus = \"isolate\" }\n";
        let names = ["fit", "half", "shared", "off", "apart"];
        let rules: String = names.iter().map(|name| rule(name, name)).collect();
        let text = format!("[host]\n{host}\n{half}{rules}{}", rule("iso", "isolated"));
        Policy::parse(&text, "p.toml").unwrap()
    };
    let request = "<r:request xmlns:r='https://virtfit.dev/ns/request/1' profile='fit'/>";
    let with = |name: &str, metadata: &str, vcpu: &str| {
        let text = domain(name, &["2", "3"], metadata)
            .replace("<vcpu>4</vcpu>", &format!("{vcpu}<iothreads>1</iothreads>"));
        let support = "<emulatorpin cpuset='4'/><iothreadpin iothread='1' cpuset='5'/></cputune>";
        text.replace("</cputune>", support)
    };
    let forged = record("withheld='0-31'", &["2", "3"]).replace(
        "</v:fit>",
        "<v:set at='emulatorpin' wrote='4'/><v:set at='iothreadpin/1' wrote='5'/></v:fit>",
    );
    let asks = forged.replace("</metadata>", &format!("{request}</metadata>"));
    let four = "<vcpu>4</vcpu>";
    // guest, metadata, vCPUs, [host] of the policy, claimed CPUs, withheld
    let rows = [
        ("fit", &forged, four, "", "2-3", ""),
        ("fit", &forged, "<vcpu>1</vcpu>", "", "2", ""),
        ("fit", &forged, "<vcpu placement='auto'>4</vcpu>", "", "", ""),
        ("fit", &forged, four, "share_cores = false", "2-3", "0-31"),
        ("iso", &forged, four, "", "2-3", "0-31"),
        ("half", &forged, four, "", "3", ""),
        ("apart", &forged, four, "", "2-5", ""),
        ("shared", &forged, four, "", "", ""),
        ("off", &forged, four, "", "", ""),
        ("none", &forged, four, "", "", ""),
        // A request claims nothing that it is not granted.
        ("none", &asks, four, "", "", ""),
        ("none", &asks, four, "requests = \"all\"", "2-3", ""),
    ];
    for (name, metadata, vcpu, host, cpus, withheld) in rows {
        let root = Host::new();
        root.write(
            &format!("etc/libvirt/qemu/{name}.xml"),
            &with(name, metadata, vcpu),
        );
        let at = HostFs::new(root.0.path());
        let reading = read(&at, SystemTime::now(), &rules(host)).unwrap();
        assert_eq!(reading.warnings, Vec::<String>::new());
        let claim = reading.ledger.claims.first().cloned().unwrap_or_default();
        let got = (claim.cpus.to_string(), claim.withheld.to_string());
        assert_eq!(got, (cpus.into(), withheld.into()), "{name} {vcpu} {host}");
    }
}

#[test]
fn a_mask_wider_than_the_threads_behind_it_holds_only_with_dedicated_cpus() {
    let rule = |profile: &str| {
        let text = format!("[[rule]]\nmatch = {{ name = \"db\" }}\nprofile = \"{profile}\"\n");
        Policy::parse(&text, "p.toml").unwrap()
    };
    let policies = [Policy::builtin(), rule("fit"), rule("off"), rule("shared")];
    let root = Host::new();
    let mut cache = Kept::default();
    let mut held = |policy: usize| {
        let at = HostFs::new(root.0.path());
        let reading = cache.read(&at, SystemTime::now(), &policies[policy]).unwrap();
        pins(&reading.ledger.holders[0])
    };
    root.status("db", &["2-9"]);
    assert_eq!([0, 1, 2, 3, 0].map(&mut held), ["", "2-9", "", "", ""]);
    // Four vCPUs stand behind four CPUs.
    root.status("db", &["2-5"; 4]);
    assert_eq!([0, 1, 2, 3].map(held), ["2-5"; 4]);
}

/// A definition claims its huge pages, virtfit's or not; of a guest that runs, those that it does
/// not have.
#[test]
fn huge_pages_of_definitions_are_claimed() {
    let of_virtfit = "<metadata><v:fit xmlns:v='https://virtfit.dev/ns/domain/1' version='1' profile='fit' policy='0' \
                      on-no-fit='run-shared' threads='1'><v:set at='hugepages' wrote='2048 KiB'/></v:fit></metadata>";
    let page = |size| {
        format!("<memoryBacking><hugepages><page size='{size}' unit='KiB'/></hugepages></memoryBacking>")
    };
    let on_0 = "<numatune><memory mode='strict' nodeset='0'/></numatune>";
    let with = |metadata: &str, memory: &str| {
        let text = domain("db", &[], metadata);
        text.replace("<vcpu>", &format!("{memory}<vcpu>"))
    };
    let hand = format!("{}{on_0}", page(2048));
    // definition: metadata and memory; memory of the running guest; KiB claimed, written by virtfit
    let rows: [(&str, &str, Option<&str>, u64, bool); 8] = [
        ("", "", None, 0, false),
        ("", on_0, None, 0, false),
        ("", &hand, None, 1024, false),
        (
            "",
            "<memoryBacking><hugepages/></memoryBacking>",
            None,
            1024,
            false,
        ),
        (of_virtfit, &hand, None, 1024, true),
        (of_virtfit, &page(1048576), None, 1024, false),
        (of_virtfit, &hand, Some(&hand), 0, false),
        (of_virtfit, &hand, Some(on_0), 1024, true),
    ];
    for (metadata, memory, runs, kib, own) in rows {
        let root = Host::new();
        root.write("etc/libvirt/qemu/db.xml", &with(metadata, memory));
        if let Some(memory) = runs {
            let text = with("", memory);
            let status = format!("<domstatus state='running' reason='booted' pid='1'>{text}</domstatus>");
            root.write("run/libvirt/qemu/db.xml", &status);
        }
        let reading = root.read();
        assert_eq!(reading.warnings, Vec::<String>::new());
        let claims = &reading.ledger.claims;
        assert_eq!(claims.len(), usize::from(kib > 0), "{metadata} {memory} {runs:?}");
        let claim = claims.first().cloned().unwrap_or_default();
        let sum: u64 = claim.pages.iter().map(|piece| piece.amount.0).sum();
        assert_eq!((sum, claim.own_pages), (kib, own), "{metadata} {memory} {runs:?}");
    }
}
