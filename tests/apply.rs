//! `virtfit apply --offline` and the joint placement, on a copy of the paper's server.
#![allow(clippy::unwrap_used, clippy::print_stderr)]

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use inotify::{Inotify, WatchMask};
use virtfit::rewrite::revert;
use virtfit::xml::Document;

const VIRTFIT: &str = env!("CARGO_BIN_EXE_virtfit");

/// Lists the CPUs of the vCPU pins in a domain's XML.
fn pins_in(text: &str) -> Vec<String> {
    let pins = text.lines().filter(|line| line.contains("<vcpupin "));
    let cpuset = |line: &str| {
        line.split("cpuset='")
            .nth(1)?
            .split('\'')
            .next()
            .map(str::to_string)
    };
    pins.map(|line| cpuset(line).unwrap()).collect()
}

/// Server of 2 nodes x 8 cores x 2 threads, with a rule for all guests; removed when the value is
/// dropped.
struct Host(tempfile::TempDir);

impl Host {
    fn new(policy: &str) -> Self {
        let host = Self(tempfile::tempdir().unwrap());
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper/.");
        assert!(
            Command::new("cp")
                .arg("-a")
                .args([from.as_path(), host.0.path()])
                .status()
                .unwrap()
                .success()
        );
        host.put("etc/virtfit/policy.toml", policy);
        // Definitions are written after the policy, in another tick of the file system's clock.
        std::thread::sleep(std::time::Duration::from_millis(20));
        host
    }

    fn put(&self, path: &str, text: &str) {
        let path = self.0.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(path, text).unwrap();
    }

    fn define(&self, name: &str, vcpus: u32, mib: u64, autostart: bool) {
        let number = name.bytes().fold(0u32, |sum, byte| {
            sum.wrapping_mul(31).wrapping_add(u32::from(byte))
        });
        let text = format!(
            "<!--\nWARNING: THIS IS AN AUTO-GENERATED FILE.\n-->\n\n<domain type='kvm'>\n  <name>{name}</name>\n  \
             <uuid>11111111-2222-4333-8444-{number:012}</uuid>\n  <memory unit='MiB'>{mib}</memory>\n  \
             <vcpu placement='static'>{vcpus}</vcpu>\n  <os>\n    <type arch='x86_64' machine='q35'>hvm</type>\n  </os>\n</domain>\n"
        );
        self.put(&format!("etc/libvirt/qemu/{name}.xml"), &text);
        let file = self.file(name);
        fs::set_permissions(&file, fs::Permissions::from_mode(0o600)).unwrap();
        if autostart {
            let folder = self.0.path().join("etc/libvirt/qemu/autostart");
            fs::create_dir_all(&folder).unwrap();
            symlink(&file, folder.join(format!("{name}.xml"))).unwrap();
        }
    }

    fn file(&self, name: &str) -> std::path::PathBuf {
        self.0.path().join(format!("etc/libvirt/qemu/{name}.xml"))
    }

    fn text(&self, name: &str) -> String {
        fs::read_to_string(self.file(name)).unwrap()
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(VIRTFIT)
            .arg("--root")
            .arg(self.0.path())
            .args(words)
            .output()
            .unwrap()
    }

    fn apply(&self, words: &[&str]) -> String {
        let mut all = vec!["apply", "--offline", "--yes"];
        all.extend(words);
        let done = self.run(&all);
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(done.status.success(), "{words:?}: {:?}: {stderr}", done.status);
        String::from_utf8(done.stdout).unwrap()
    }

    /// Returns the CPUs of a guest's vCPU pins.
    fn pins(&self, name: &str) -> Vec<String> {
        pins_in(&self.text(name))
    }
}

/// Files that killed runs left go; everything else beside the definitions may be an
/// administrator's.
#[test]
fn backups_beside_the_definitions_stay() {
    let host = Host::new(FIT_ALL);
    host.define("db", 2, 1024, true);
    let kept = [
        ".db.xml.20261101.1",
        ".db.xml.virtfit",
        ".virtfit.backup.1",
        ".virtfit.1.0.xml",
        "db.xml.1.0",
        "db.xml.orig",
        ".backup.1.2",
    ];
    for name in kept {
        host.put(&format!("etc/libvirt/qemu/{name}"), &host.text("db"));
    }
    for left in [".virtfit.1.0", ".virtfit.4000000.17"] {
        host.put(&format!("etc/libvirt/qemu/{left}"), "half");
    }
    // A link of such a name is none of virtfit's files.
    let folder = host.0.path().join("etc/libvirt/qemu");
    symlink("db.xml", folder.join(".virtfit.1.1")).unwrap();
    // So do those of a run that was killed while it announced a definition.
    let untried = host.0.path().join("var/lib/virtfit/untried");
    host.put("var/lib/virtfit/untried/.virtfit.4000000.3", "half");
    host.put("var/lib/virtfit/untried/.notes", "");
    let before = host.text("db");
    host.apply(&[]);
    assert!(!untried.join(".virtfit.4000000.3").exists() && untried.join(".notes").exists());
    for name in kept {
        assert_eq!(fs::read_to_string(folder.join(name)).unwrap(), before, "{name}");
    }
    let mut there: Vec<String> = fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    there.sort();
    let mut expected: Vec<&str> = kept
        .into_iter()
        .chain([".virtfit.1.1", "autostart", "db.xml"])
        .collect();
    expected.sort_unstable();
    assert_eq!(there, expected);
}

const FIT_ALL: &str = "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n";

#[test]
fn autostart_guests_get_places_of_their_own() {
    let host = Host::new(FIT_ALL);
    // A node has 7 dedicated cores. One after the other, 1 and 4 would go to one node and 6 to the
    // other, and 3 would find none.
    for (name, vcpus) in [("a", 2), ("b", 8), ("c", 12), ("d", 6)] {
        host.define(name, vcpus, 1024, true);
    }
    let before = host.text("a");
    let said = host.apply(&[]);
    assert!(said.contains("4 of 4 redefined"), "{said}");
    let all: Vec<String> = ["a", "b", "c", "d"]
        .iter()
        .flat_map(|name| host.pins(name))
        .collect();
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (28, 28), "{all:?}");
    // Header and mode stay, and no file is left beside it.
    assert!(
        host.text("a")
            .starts_with(&before[..before.find("<domain").unwrap()])
    );
    assert_eq!(
        fs::metadata(host.file("a")).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let names: Vec<_> = fs::read_dir(host.0.path().join("etc/libvirt/qemu"))
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .collect();
    assert_eq!(names.len(), 5, "{names:?}");
    // Once is enough.
    let said = host.apply(&[]);
    assert!(said.contains("0 of 4 redefined"), "{said}");
}

/// Definitions of hundreds of KiB are decided after all others, and make the run no longer than the
/// unit has, although no order gives every guest a place.
#[test]
fn large_definitions_make_the_others_neither_late_nor_placeless() {
    let host = Host::new(FIT_ALL);
    for name in ["a", "b", "c"] {
        host.define(name, 20, 1024, true);
        let disk =
            |n| format!("<disk type='file' device='disk'><source file='/{n}'/><target dev='vd{n}'/></disk>");
        let disks: String = (0..4_000).map(disk).collect();
        let text = host
            .text(name)
            .replace("</domain>", &format!("<devices>{disks}</devices></domain>"));
        host.put(&format!("etc/libvirt/qemu/{name}.xml"), &text);
    }
    let small = ["d", "e", "f", "g", "h", "i"];
    for name in small {
        host.define(name, 4, 1024, true);
    }
    let began = Instant::now();
    host.run(&["apply", "--offline"]);
    let took = began.elapsed();
    assert!(took < Duration::from_secs(25), "{took:?}");
    let all: Vec<String> = small.iter().flat_map(|name| host.pins(name)).collect();
    let different: BTreeSet<&String> = all.iter().collect();
    assert_eq!((all.len(), different.len()), (24, 24), "{all:?}");
}

/// An unattended run reads no more than it has time and memory for, the smallest definitions first.
#[test]
fn what_is_too_large_to_be_read_at_boot_is_named() {
    let host = Host::new(FIT_ALL);
    for (name, bytes) in [("a", 3 << 20), ("b", 1), ("c", 2 << 20)] {
        host.define(name, 2, 1024, true);
        let comment = format!("<!-- {} --></domain>", "x".repeat(bytes));
        let text = host.text(name).replace("</domain>", &comment);
        host.put(&format!("etc/libvirt/qemu/{name}.xml"), &text);
    }
    let done = host.run(&["apply", "--offline"]);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert!(stderr.contains("c and 1 larger definition: not read"), "{stderr}");
    assert_eq!(host.pins("b").len(), 2);
    // By its name, or with --all, each is read.
    let said = host.apply(&["a"]);
    assert!(said.contains("1 of 1 redefined"), "{said}");
}

#[test]
fn what_runs_is_respected_and_left_alone() {
    let host = Host::new(FIT_ALL);
    for name in ["a", "b"] {
        host.define(name, 4, 1024, true);
    }
    host.apply(&[]);
    let (a, b) = (host.pins("a"), host.text("b"));
    // "a" runs on CPUs of "b": by hand, for example.
    let running = host
        .text("b")
        .replace("<name>b<", "<name>a<")
        .replace("000000000098", "000000000097");
    host.put(
        "run/libvirt/qemu/a.xml",
        &format!(
            "<domstatus state='running' reason='booted' pid='1'>{}</domstatus>",
            &running[running.find("<domain").unwrap()..]
        ),
    );
    let said = host.apply(&[]);
    assert!(said.contains("1 of 1 redefined"), "{said}");
    assert_eq!(host.pins("a"), a, "a running guest's definition stays");
    assert_ne!(host.text("b"), b);
    let taken: BTreeSet<String> = pins_in(&running).into_iter().collect();
    assert!(host.pins("b").iter().all(|pin| !taken.contains(pin)));
}

#[test]
fn only_autostart_guests_and_those_that_lost_their_place() {
    let host = Host::new(FIT_ALL);
    host.define("auto", 4, 1024, true);
    host.define("plain", 4, 1024, false);
    let plain = host.text("plain");
    let said = host.apply(&[]);
    assert_eq!(host.text("plain"), plain);
    // Its row says so, as does the last line.
    let row = said.lines().find(|line| line.starts_with("plain ")).unwrap();
    assert!(
        row.contains(" left ") && row.contains("not on autostart"),
        "{said}"
    );
    host.apply(&["--all"]);
    let tuned = host.pins("plain");
    assert_eq!(tuned.len(), 4);
    // Two of its CPUs went offline: the next run gives it others.
    let online = host.0.path().join("sys/devices/system/cpu/online");
    let gone: BTreeSet<&str> = tuned.iter().take(2).map(String::as_str).collect();
    let left: Vec<String> = (0..32)
        .map(|cpu| cpu.to_string())
        .filter(|cpu| !gone.contains(cpu.as_str()))
        .collect();
    fs::write(&online, left.join(",") + "\n").unwrap();
    for cpu in &gone {
        let file = host
            .0
            .path()
            .join(format!("sys/devices/system/cpu/cpu{cpu}/online"));
        fs::write(file, "0\n").unwrap();
    }
    host.apply(&[]);
    assert!(
        host.pins("plain").iter().all(|pin| !gone.contains(pin.as_str())),
        "{:?}",
        host.pins("plain")
    );
}

#[test]
fn a_policy_that_changed_is_followed_only_where_asked() {
    let host = Host::new(FIT_ALL);
    host.define("a", 4, 1024, true);
    host.apply(&[]);
    let tuned = host.text("a");
    let other = FIT_ALL.replace("\"fit\"", "\"local\"");
    host.put("etc/virtfit/policy.toml", &other);
    host.apply(&[]);
    assert_eq!(host.text("a"), tuned, "on_policy_change = report");
    host.put(
        "etc/virtfit/policy.toml",
        &format!("[host]\non_policy_change = \"apply\"\n{other}"),
    );
    host.apply(&[]);
    assert_ne!(host.text("a"), tuned);
}

#[test]
fn a_definition_older_than_the_policy_waits_at_boot_too() {
    let host = Host::new("");
    host.define("a", 4, 1024, true);
    let before = host.text("a");
    // The policy is written after the definition, as when a host is set up before the service: its
    // first boot with virtfit.
    std::thread::sleep(std::time::Duration::from_millis(20));
    host.put("etc/virtfit/policy.toml", FIT_ALL);
    host.apply(&[]);
    assert_eq!(host.text("a"), before, "on_policy_change = report");
    let apply = format!("[host]\non_policy_change = \"apply\"\n{FIT_ALL}");
    host.put("etc/virtfit/policy.toml", &apply);
    host.apply(&[]);
    assert_ne!(host.text("a"), before);
}

#[test]
fn never_behind_libvirts_back() {
    let host = Host::new(FIT_ALL);
    host.define("a", 4, 1024, true);
    let before = host.text("a");
    host.put("run/libvirt/qemu/driver.pid", "4711\n");
    host.put("proc/4711/comm", "libvirtd\n");
    let done = host.run(&["apply", "--offline"]);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(
        stderr.contains("libvirtd (pid 4711) has loaded the definitions"),
        "{stderr}"
    );
    assert_eq!(host.text("a"), before);
    // A dry run is allowed.
    assert!(
        host.apply(&["--dry-run"])
            .contains("Nothing was written: 1 of 1 would be redefined")
    );
    fs::remove_file(host.0.path().join("proc/4711/comm")).unwrap();
    host.apply(&[]);
    assert_ne!(host.text("a"), before);
}

#[test]
fn observe_and_disabled_change_nothing() {
    let host = Host::new(&format!("[host]\nmode = \"observe\"\n{FIT_ALL}"));
    host.define("a", 4, 1024, true);
    let before = host.text("a");
    assert!(
        host.apply(&[])
            .contains("Nothing was written (mode = \"observe\"): 1 of 1 would be")
    );
    host.put("etc/virtfit/policy.toml", FIT_ALL);
    host.put("run/virtfit/disabled", "");
    assert_eq!(host.apply(&[]), "");
    assert_eq!(host.text("a"), before);
    let done = host.run(&["apply", "--all"]);
    assert_eq!(done.status.code(), Some(1));
}

#[test]
fn one_broken_definition_hides_no_other() {
    let host = Host::new(FIT_ALL);
    host.define("a", 4, 1024, true);
    host.put("etc/libvirt/qemu/broken.xml", "<domain");
    let done = host.run(&["apply", "--offline"]);
    let stderr = String::from_utf8_lossy(&done.stderr);
    assert_eq!(done.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("broken.xml: line 1"), "{stderr}");
    assert_eq!(host.pins("a").len(), 4);
    assert_eq!(fs::read_to_string(host.file("broken")).unwrap(), "<domain");
}

#[test]
fn improve_moves_and_reshape_shows_another_topology() {
    let host = Host::new(FIT_ALL);
    host.define("x", 2, 512, false);
    host.define("y", 2, 512, false);
    host.apply(&["x"]);
    host.apply(&["y"]);
    let y = host.pins("y");
    fs::remove_file(host.file("x")).unwrap();
    host.apply(&["y"]);
    assert_eq!(host.pins("y"), y, "a better place alone moves nobody");
    host.apply(&["y", "--improve"]);
    assert_ne!(host.pins("y"), y);
}

#[test]
fn a_full_disk_loses_nothing() {
    let host = Host::new(FIT_ALL);
    for name in ["a", "b"] {
        host.define(name, 4, 1024, true);
    }
    let before = [host.text("a"), host.text("b")];
    // No file may have a byte: as on a full disk where the signal is ignored, and killed in the
    // middle where not.
    for trap in ["trap '' XFSZ", "true"] {
        let script = format!("{trap}; ulimit -f 0; exec \"$@\"");
        let done = Command::new("bash")
            .args(["-c", &script, "bash", VIRTFIT, "--root"])
            .arg(host.0.path())
            .args(["apply", "--offline"])
            .output()
            .unwrap();
        let stderr = String::from_utf8_lossy(&done.stderr);
        assert!(!done.status.success(), "{stderr}");
        assert_eq!([host.text("a"), host.text("b")], before);
        if done.status.code().is_some() {
            assert_eq!(done.status.code(), Some(1), "{stderr}");
            assert!(
                stderr.contains("etc/libvirt/qemu/a.xml: File too large"),
                "{stderr}"
            );
            assert_eq!(host.beside(), ["autostart"]);
        } else {
            assert_eq!(host.temporary(), 1, "what it was writing when it was killed");
        }
    }
    let said = host.apply(&[]);
    assert!(said.contains("2 of 2 redefined"), "{said}");
    assert_eq!(host.beside(), ["autostart"]);
}

/// Guests in [`runs_at_once_that_are_killed_lose_and_tear_nothing`].
const MANY: usize = 200;
/// Guests for which a single run is started: a good part of its time it writes.
const EACH: usize = 3;
/// Rounds of two and three runs at once.
const ROUNDS: usize = 200;

/// Linear congruential generator: each run of the tests tries other moments.
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self
            .0
            .wrapping_mul(6364136223846793005)
            .wrapping_add(1442695040888963407);
        (self.0 >> 33) % end.max(1)
    }
}

impl Host {
    /// Starts an offline run for some guests.
    fn start(&self, names: &[&str]) -> Child {
        Command::new(VIRTFIT)
            .arg("--root")
            .arg(self.0.path())
            .args(["apply", "--offline", "--reshape", "--yes"])
            .args(names)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap()
    }

    /// Returns the number of virtfit's temporary files on the host.
    fn temporary(&self) -> usize {
        let mut find = Command::new("find");
        find.arg(self.0.path()).args(["-name", ".virtfit.*"]);
        let found = find.output().unwrap().stdout;
        found.iter().filter(|byte| **byte == b'\n').count()
    }

    /// Lists all files in the definitions' folder that are no definition.
    fn beside(&self) -> Vec<String> {
        let entries = fs::read_dir(self.0.path().join("etc/libvirt/qemu")).unwrap();
        let names = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap());
        names.filter(|name| !name.ends_with(".xml")).collect()
    }

    /// Writes the next policy: all definitions have to be written.
    fn next_policy(&self, round: usize) {
        let profile = ["local", "fit", "shared", "isolated"][round % 4];
        let rule = format!("[[rule]]\nmatch = {{ name = \"*\" }}\nprofile = \"{profile}\"\n");
        self.put("etc/virtfit/policy.toml", &rule);
    }
}

impl Host {
    /// Watches for files that are made beside the definitions.
    fn watch(&self) -> Inotify {
        let inotify = Inotify::init().unwrap();
        let folder = self.0.path().join("etc/libvirt/qemu");
        inotify.watches().add(folder, WatchMask::CREATE).unwrap();
        inotify
    }
}

fn wait_for_event(mut inotify: Inotify, most: Duration) {
    let begin = Instant::now();
    while begin.elapsed() < most && inotify.read_events(&mut [0; 4096]).is_err() {
        std::thread::sleep(Duration::from_micros(20));
    }
}

#[test]
fn runs_at_once_that_are_killed_lose_and_tear_nothing() {
    let host = Host::new(FIT_ALL);
    // Some names are as long as they can be.
    let name = |number: usize| match number % 4 {
        0 => format!("{number:03}{}", "n".repeat(240 + number % 9)),
        _ => format!("g{number}"),
    };
    let names: Vec<String> = (0..MANY).map(name).collect();
    for name in &names {
        host.define(name, 2, 64, false);
    }
    let before: Vec<String> = names.iter().map(|name| host.text(name)).collect();
    let check = |round: usize| {
        for (name, before) in names.iter().zip(&before) {
            let text = host.text(name);
            let document = Document::parse(&text).unwrap_or_else(|error| {
                panic!("round {round}: {name}: {error}:\n{text}");
            });
            // Every byte that is not virtfit's is still there.
            assert_eq!(revert(&document).unwrap().xml, *before, "round {round}: {name}");
        }
    };
    let mut random = Random(u64::from(std::process::id()));
    let chosen = |random: &mut Random| -> Vec<&str> {
        let first = random.below(20) as usize;
        (0..EACH)
            .map(|number| names[(first + number * 3) % MANY].as_str())
            .collect()
    };
    let begin = Instant::now();
    let mut words = vec!["apply", "--offline", "--reshape", "--yes"];
    words.extend(chosen(&mut random));
    let first = host.run(&words);
    let stderr = String::from_utf8_lossy(&first.stderr);
    assert!(first.status.success(), "{:?}: {stderr}", first.status);
    let micros = |time: Duration| u64::try_from(time.as_micros()).unwrap();
    let whole = micros(begin.elapsed());
    let begin = Instant::now();
    let (mut killed, mut ended, mut unfinished) = (0, 0, 0);
    for round in 0..ROUNDS {
        host.next_policy(round);
        // All of them write the same definitions.
        let chosen = chosen(&mut random);
        let writes = host.watch();
        // In every other round they are killed while one of them writes, or just after.
        let aimed = round / 2 % 2 == 0;
        let most = if aimed { whole / 4 } else { whole * 2 };
        let mut runs: Vec<(u64, Child)> = (0..2 + round % 2)
            .map(|_| (random.below(most), host.start(&chosen)))
            .collect();
        runs.sort_by_key(|(end, _)| *end);
        if aimed {
            wait_for_event(writes, Duration::from_micros(whole * 4));
        }
        let started = Instant::now();
        for (end, mut run) in runs {
            std::thread::sleep(Duration::from_micros(end).saturating_sub(started.elapsed()));
            let _ = run.kill();
            match run.wait().unwrap().code() {
                None => killed += 1,
                Some(_) => ended += 1,
            }
        }
        unfinished += host.beside().len();
        if round % 10 == 0 {
            check(round);
        }
    }
    eprintln!(
        "{killed} killed and {ended} ended in {ROUNDS} rounds and {:.0} s; {unfinished} unfinished files",
        begin.elapsed().as_secs_f64()
    );
    // The moments are spread over the whole of a run.
    assert!(killed > ROUNDS / 2 && ended > 0);
    host.next_policy(1);
    let chosen = chosen(&mut random);
    let mut last: Vec<Child> = (0..3).map(|_| host.start(&chosen)).collect();
    for run in &mut last {
        assert!(run.wait().unwrap().success());
    }
    check(usize::MAX);
    assert_eq!(host.beside(), Vec::<String>::new());
}

/// The mask of a floating guest is the shared CPUs less those that are held: a guest that started
/// or ended is no reason to write another definition.
#[test]
fn masks_of_floating_threads_do_not_follow_who_runs() {
    let rules = "[host]\nhousekeeping = \"0,8,16,24\"\n\n[[rule]]\nmatch = { name = \"f*\" }\nprofile = \"shared\"\n\n\
                 [[rule]]\nmatch = { name = \"big\" }\nprofile = \"fit\"\n\n[[rule]]\nprofile = \"fit\"\n";
    let host = Host::new(rules);
    host.define("f", 2, 1024, false);
    // Nothing fits: it floats, too.
    host.define("big", 40, 1024, false);
    host.define("db", 4, 1024, false);
    host.apply(&["--all"]);
    let before = ["f", "big", "db"].map(|name| host.text(name));
    let pins = host.pins("f");
    assert!(
        pins[0].contains(['-', ',']) && host.pins("big")[0].contains('-'),
        "{pins:?}"
    );
    let status = format!(
        "<domstatus state='running' reason='booted' pid='1'>{}</domstatus>",
        &before[2][before[2].find("<domain").unwrap()..]
    );
    let running = host.0.path().join("run/libvirt/qemu/db.xml");
    for runs in [true, true, false, true, false] {
        match runs {
            true => host.put("run/libvirt/qemu/db.xml", &status),
            false => fs::remove_file(&running).unwrap(),
        }
        let said = host.apply(&["--all"]);
        assert!(said.contains("\n0 of "), "{runs}: {said}");
        assert_eq!(["f", "big", "db"].map(|name| host.text(name)), before, "{runs}");
        let plan = host.run(&["plan", "--diff", "f", "big"]);
        assert!(
            plan.stdout.is_empty(),
            "{}",
            String::from_utf8_lossy(&plan.stdout)
        );
    }
    // CPUs that the policy no longer gives to floating threads are another matter.
    host.put(
        "etc/virtfit/policy.toml",
        &rules.replace("[host]\n", "[host]\nshared = \"1-2,17-18\"\n"),
    );
    host.apply(&["--all"]);
    assert_eq!(host.pins("f"), ["1-2,17-18", "1-2,17-18"]);
    // So is anything else that changes: the masks are as of now, then.
    host.put("etc/virtfit/policy.toml", rules);
    host.put("run/libvirt/qemu/db.xml", &status);
    host.apply(&["--all"]);
    assert_ne!(host.pins("f"), pins);
}
