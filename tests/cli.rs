//! The program as users run it: words and stdin in; stdout, stderr and exit code out.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{ErrorKind, Write};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// Result of one run.
struct Ran {
    stdout: String,
    stderr: String,
    code: i32,
}

impl Ran {
    #[track_caller]
    fn expect(self, code: i32, stdout: &str, stderr: &str) -> Self {
        assert!(
            self.code == code && self.stdout.contains(stdout) && self.stderr.contains(stderr),
            "exit {} for {code}\n--- stdout (want {stdout:?})\n{}\n--- stderr (want {stderr:?})\n{}",
            self.code,
            self.stdout,
            self.stderr
        );
        self
    }

    /// Checks a failure: exit 1, one line on stderr, nothing on stdout.
    #[track_caller]
    fn broken(self, stderr: &str) {
        let ran = self.expect(1, "", stderr);
        assert_eq!(ran.stdout, "");
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        assert!(ran.stderr.starts_with("virtfit: "), "{}", ran.stderr);
    }

    /// Checks a failure of several lines: exit 1, this on stderr, nothing on stdout.
    #[track_caller]
    fn broken_with(self, stderr: &str) {
        let ran = self.expect(1, "", stderr);
        assert_eq!(ran.stdout, "");
    }

    /// Checks for exit 0 and not a byte on stdout.
    #[track_caller]
    fn silent(self) -> Self {
        let ran = self.expect(0, "", "");
        assert_eq!(ran.stdout, "", "{}", ran.stderr);
        ran
    }
}

fn program(words: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_virtfit"));
    command.args(words).env_remove("VIRTFIT_ROOT").env("LC_ALL", "C");
    command
}

fn run_with(mut command: Command, stdin: &[u8]) -> Ran {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = loop {
        match command.spawn() {
            // The copy of the program may still be open for writing in another test's child.
            Err(error) if error.kind() == ErrorKind::ExecutableFileBusy => {
                std::thread::sleep(Duration::from_millis(5));
            }
            child => break child.unwrap(),
        }
    };
    // The program need not read all of it.
    let _ = child.stdin.take().unwrap().write_all(stdin);
    let output = child.wait_with_output().unwrap();
    Ran {
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
        code: output.status.code().unwrap(),
    }
}

fn run(words: &[&str], stdin: &str) -> Ran {
    run_with(program(words), stdin.as_bytes())
}

/// Synthetic host: one node, four cores of two threads.
const HOST: &str = "node:1 core:4 pu:2";

fn domain(name: &str, more: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>{name}</name>\n  <uuid>{}</uuid>\n  <memory unit='MiB'>64</memory>\n  <vcpu>2</vcpu>\n{more}  \
         <os><type arch='x86_64' machine='q35'>hvm</type></os>\n</domain>\n",
        uuid(name)
    )
}

/// Returns a UUID made from the name.
fn uuid(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    format!("8c1f6f0e-0000-4000-8000-{digits:0>12}")
}

/// Root of a host: files written below it, and `--root` for it.
struct Root(TempDir);

impl Root {
    fn new() -> Self {
        Self(tempfile::tempdir().unwrap())
    }

    fn path(&self) -> &Path {
        self.0.path()
    }

    fn write(&self, path: &str, text: &str) -> PathBuf {
        let path = self.path().join(path);
        fs::create_dir_all(path.parent().unwrap()).unwrap();
        fs::write(&path, text).unwrap();
        path
    }

    fn define(&self, name: &str) -> String {
        let text = domain(name, "");
        self.write(&format!("etc/libvirt/qemu/{name}.xml"), &text);
        text
    }

    fn run(&self, words: &[&str], stdin: &str) -> Ran {
        let mut all = vec!["--root", self.path().to_str().unwrap(), "--topology", HOST];
        all.extend(words);
        run(&all, stdin)
    }
}

#[test]
fn words_that_make_no_sense_are_usage_errors() {
    for words in [
        &[][..],
        &["levitate"],
        &["plan", "--levitate"],
        &["plan", "--json", "--diff"],
        &["plan", "--scope", "both"],
        &["plan", "--color"],
        &["rewrite", "a", "b"],
        &["revert", "--all", "a"],
        &["profile"],
        &["profile", "show"],
        &["policy", "levitate"],
        &["hook"],
        &["apply"],
        &["plan", "-", "-"],
        // Without a word nothing is read: the program would wait for an open pipe.
        &["rewrite"],
        &["revert"],
        &["--connect", "qemu+ssh://other/system", "status"],
        &["status", "--connect", "test:///default"],
    ] {
        let ran = run(words, "").expect(2, "", "");
        assert_eq!(ran.stdout, "", "{words:?}");
        assert!(!ran.stderr.is_empty(), "{words:?}");
    }
}

#[test]
fn help_and_version_are_answers() {
    run(&["--version"], "").expect(0, "virtfit 0.", "");
    for words in [
        &["--help"][..],
        &["plan", "--help"],
        &["hook", "--help"],
        &["policy", "--help"],
    ] {
        let ran = run(words, "").expect(0, "Usage: virtfit", "");
        assert_eq!(ran.stderr, "");
        for line in ran.stdout.lines() {
            assert!(line.chars().count() <= 80, "{line}");
        }
    }
}

#[test]
fn broken_xml_is_one_line_with_its_place() {
    for command in ["plan", "rewrite", "revert"] {
        for (xml, expected) in [
            ("", "stdin: line 1, column 1: no element"),
            ("<domain>\n  <x>", "stdin: line 2, column 6: "),
            ("<network/>", "stdin: line 1, column 1: "),
            ("<domain type='kvm'>&x;</domain>", "stdin: line 1, column 20: "),
            (
                "<!DOCTYPE domain><domain/>",
                "stdin: line 1, column 1: a document type declaration",
            ),
        ] {
            run(&["--topology", HOST, command, "-"], xml).broken(expected);
        }
    }
    let huge = format!("<domain type='kvm'>{}", " ".repeat(5 << 20));
    run(&["--topology", HOST, "plan", "-"], &huge).broken("more than 4 MiB");
    let command = program(&["--topology", HOST, "rewrite", "-"]);
    run_with(command, b"<domain>\n\xff</domain>").broken("stdin: line 2, column 1: not valid UTF-8");
}

#[test]
fn files_are_named_in_errors() {
    let root = Root::new();
    let path = root.write("x.xml", "<domain>\n <y>\n");
    let path = path.to_str().unwrap();
    run(&["--topology", HOST, "plan", path], "").broken(&format!("{path}: line "));
    run(&["--topology", HOST, "plan", "./nowhere.xml"], "")
        .broken("./nowhere.xml: No such file or directory");
    run(
        &["--topology", HOST, "plan", path.rsplit_once('/').unwrap().0],
        "",
    )
    .broken("Is a directory");
}

#[test]
fn guests_are_found_by_name_and_uuid() {
    let root = Root::new();
    root.define("db");
    root.define("web");
    for word in [
        "db",
        &uuid("db"),
        &uuid("db").to_uppercase(),
        &uuid("db").replace('-', ""),
    ] {
        root.run(&["plan", word], "").expect(0, "db", "");
    }
    root.run(&["plan", "dd"], "")
        .broken("dd: no such file, and no such guest in ");
    root.run(&["plan", "weeb"], "").broken("did you mean 'web'?");
    root.run(&["plan", &uuid("nobody")], "").broken("no such guest");
    root.write("run/libvirt/qemu/tmp.xml", "<domstatus/>");
    root.run(&["plan", "tmp"], "")
        .broken("tmp: runs but has no definition");
    root.run(&["revert", "nobody"], "").broken("no such guest");
    // Never tuned: there is nothing to ask libvirt for.
    root.run(&["revert", "--all"], "")
        .expect(0, "Nothing to revert", "");
}

#[test]
fn indexes_that_no_host_has_are_refused() {
    let guest = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/domains/def.xml");
    for index in [
        "4294967294",
        "2147483648",
        "16384",
        "0xffffffff",
        "99999999999999999999",
        "-1",
    ] {
        for line in [
            format!("pu:2(indexes=0,{index})"),
            format!("[numa(indexes={index})] core:2 pu:1"),
        ] {
            let words = [
                "--topology",
                &line,
                "plan",
                "--profile",
                "fit",
                guest.to_str().unwrap(),
            ];
            run(&words, "").broken(&format!("index {index} is not one of 0 to 16383"));
        }
    }
}

#[test]
fn a_topology_alone_is_an_empty_host() {
    let file = Root::new().write("db.xml", &domain("db", ""));
    fs::create_dir_all(file.parent().unwrap()).unwrap();
    fs::write(&file, domain("db", "")).unwrap();
    let file = file.to_str().unwrap();
    for command in ["plan", "rewrite"] {
        run(&["--topology", HOST, command, file], "").expect(0, "", "add --profile fit, or --policy FILE");
        let ran = run(&["--topology", HOST, command, file, "--profile", "fit"], "").expect(0, "vcpupin", "");
        assert_eq!(ran.stderr, "");
    }
    run(&["--topology", HOST, "plan", "db"], "").broken("db: no such file; guests are looked up on a host");
    for words in [
        &["apply", "--all"][..],
        &["revert", "--all"],
        &["status"],
        &["profile", "unset", "db"],
    ] {
        let mut all = vec!["--topology", HOST];
        all.extend(words);
        run(&all, "").expect(2, "", "--topology alone is a host without guests");
    }
    // VIRTFIT_ROOT is a root.
    let root = Root::new();
    root.define("db");
    let mut command = program(&["--topology", HOST, "plan", "db"]);
    command.env("VIRTFIT_ROOT", root.path());
    run_with(command, b"").expect(0, "db", "");
}

#[test]
fn one_plan_is_an_object_and_several_are_an_array() {
    let root = Root::new();
    root.define("db");
    root.define("web");
    let one: serde_json::Value =
        serde_json::from_str(&root.run(&["plan", "--json", "db"], "").expect(0, "", "").stdout).unwrap();
    assert_eq!(one["version"], 1);
    assert_eq!(one["guest"], "db");
    assert_eq!(one["uuid"], uuid("db"));
    assert_eq!(one["scope"], "boot");
    let two = root.run(&["plan", "--json", "db", "web", "--scope", "incoming"], "");
    let two: serde_json::Value = serde_json::from_str(&two.expect(0, "", "").stdout).unwrap();
    assert_eq!(two.as_array().unwrap().len(), 2);
    assert_eq!(two[1]["guest"], "web");
    assert_eq!(two[1]["scope"], "incoming");
}

#[test]
fn one_broken_guest_does_not_hide_the_others() {
    let root = Root::new();
    root.define("db");
    root.write("etc/libvirt/qemu/bad.xml", "<domain>");
    let ran = root
        .run(&["plan", "--json", "db", "bad"], "")
        .expect(1, "", "bad.xml: line 1");
    let json: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
    assert_eq!(json.as_array().map(Vec::len), Some(1));
    let ran = root
        .run(&["plan", "--json", "bad"], "")
        .expect(1, "", "bad.xml: line 1");
    assert_eq!(ran.stdout, "");
}

#[test]
fn xml_of_a_running_guest_on_stdin_is_pointed_out() {
    let running = domain("db", "").replace("type='kvm'", "type='kvm' id='3'");
    let ran =
        run(&["--topology", HOST, "plan", "-", "--profile", "fit"], &running).expect(0, "", "--inactive");
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let ran = run(
        &["--topology", HOST, "plan", "-", "--profile", "fit"],
        &domain("db", ""),
    )
    .expect(0, "", "");
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_log_is_on_stderr() {
    let ran = run(
        &["--topology", HOST, "-v", "rewrite", "-", "--profile", "fit"],
        &domain("db", ""),
    )
    .expect(0, "<domain", "virtfit: db: ");
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[test]
fn text_for_a_file_is_as_wide_as_columns_says() {
    let widest = |columns: &str| {
        let out = Command::new(env!("CARGO_BIN_EXE_virtfit"))
            .args(["--root", "fixtures/hosts/paper", "status"])
            .env("COLUMNS", columns)
            .output()
            .unwrap();
        let text = String::from_utf8(out.stdout).unwrap();
        text.lines().map(|line| line.chars().count()).max().unwrap()
    };
    assert!(widest("") <= 80 && widest("wide") <= 80 && widest("0") <= 80);
    assert!(widest("500") > 80);
}

#[test]
fn a_reader_that_went_away_is_no_error() {
    let text = domain("db", &"  <!-- padding -->\n".repeat(20_000));
    let mut child = program(&["--topology", HOST, "rewrite", "-", "--profile", "off"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    child.stdin.take().unwrap().write_all(text.as_bytes()).unwrap();
    let output = child.wait_with_output().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
}

/// Runs the program as an ordinary user. It is copied, because its own folder may be closed to
/// others.
fn as_nobody(folder: &Path, words: &[&str]) -> Command {
    use std::os::unix::fs::PermissionsExt;
    use std::os::unix::process::CommandExt;
    let copy = folder.join("virtfit");
    if !copy.exists() {
        fs::copy(env!("CARGO_BIN_EXE_virtfit"), &copy).unwrap();
        fs::set_permissions(folder, fs::Permissions::from_mode(0o755)).unwrap();
    }
    let mut command = Command::new(copy);
    command.args(words).env_remove("VIRTFIT_ROOT").current_dir("/");
    if nix::unistd::geteuid().is_root() {
        command.uid(65_534).gid(65_534);
    }
    command
}

#[test]
fn an_ordinary_user_is_not_told_of_an_empty_host() {
    use std::os::unix::fs::PermissionsExt;
    let root = Root::new();
    root.define("db");
    root.write("run/libvirt/qemu/db.xml", "<domstatus/>");
    let mode = |path: &str, mode| {
        let path = root.path().join(path);
        fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
    };
    let command = |words: &[&str]| {
        let mut all = vec!["--root", root.path().to_str().unwrap(), "--topology", HOST];
        all.extend(words);
        as_nobody(root.path(), &all)
    };
    let xml = domain("other", "");
    // A folder, or a file in it.
    for (path, open) in [
        ("run/libvirt/qemu", 0o755),
        ("run/libvirt/qemu/db.xml", 0o644),
        ("etc/libvirt/qemu/db.xml", 0o644),
        ("etc/libvirt", 0o755),
    ] {
        mode(path, 0);
        run_with(command(&["plan", "-"]), xml.as_bytes())
            .broken("run it as root (members of group libvirt ask virtfitd), or give --assume-empty");
        run_with(command(&["plan", "-", "--assume-empty"]), xml.as_bytes()).expect(0, "other", "");
        if path.starts_with("etc") {
            run_with(command(&["plan", "db", "--assume-empty"]), b"")
                .broken("ermission denied: run it as root; members of group libvirt may only look");
        }
        mode(path, open);
    }
    run_with(command(&["plan", "-"]), xml.as_bytes()).expect(0, "other", "");
}

#[test]
fn the_hook_is_silent_where_it_has_nothing_to_say() {
    let root = Root::new();
    for words in [
        &["start", "begin", "-"][..],
        &["started", "begin", "-"],
        &["stopped", "end", "shutdown"],
        &["release", "end", "failed"],
        &["reconnect", "begin", "-"],
        &["attach", "begin", "-"],
        &["levitate", "begin", "-"],
        &["prepare", "end", "-"],
        &["--odd", "-odd"],
        &["release", "end", "shutdown", "something", "new"],
        &[],
    ] {
        let mut all = vec!["hook", "db"];
        all.extend(words);
        for stdin in [&domain("db", "")[..], "", "not XML"] {
            let ran = root.run(&all, stdin).silent();
            assert_eq!(ran.stderr, "", "{words:?}");
        }
    }
}

#[test]
fn options_and_odd_guests_of_the_hook_are_told_apart() {
    let root = Root::new();
    let path = root.path().to_str().unwrap();
    for guest in ["--help", "-v", "--version", "--odd"] {
        for (words, stdin) in [
            (
                vec!["hook", guest, "migrate", "begin", "-"],
                &domain("db", "")[..],
            ),
            (vec!["hook", guest, "release", "end", "-"], ""),
        ] {
            let mut command = program(&words);
            command.env("VIRTFIT_ROOT", path);
            run_with(command, stdin.as_bytes()).silent();
        }
    }
    // Options may come last, too.
    root.write("run/virtfit/disabled", "");
    let ran = run(
        &["hook", "db", "prepare", "begin", "-", "--root", path],
        "not XML",
    )
    .silent();
    assert_eq!(ran.stderr, "");
}

#[test]
fn a_broken_hook_never_stops_a_guest() {
    let root = Root::new();
    let policy = root.write("p.toml", "BROKEN = [\n");
    let policy = policy.to_str().unwrap();
    for operation in ["prepare", "migrate", "restore"] {
        for (words, stdin) in [
            (&[][..], "not XML"),
            (&[], ""),
            (&["--policy", policy], &domain("db", "")[..]),
            (&["--policy", "/nowhere.toml"], &domain("db", "")[..]),
        ] {
            let mut all = words.to_vec();
            all.extend(["hook", "db", operation, "begin", "-"]);
            let ran = root.run(&all, stdin).silent();
            assert!(
                ran.stderr.starts_with(&format!("virtfit: db: {operation}: ")),
                "{}",
                ran.stderr
            );
            assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
        }
    }
}

#[test]
fn disabled_is_disabled() {
    let root = Root::new();
    root.write("run/virtfit/disabled", "");
    let ran = root
        .run(&["hook", "db", "prepare", "begin", "-"], "not XML")
        .silent();
    assert_eq!(ran.stderr, "");
}

#[test]
fn the_hook_gives_up_in_time() {
    let root = Root::new();
    let mut command = program(&["--root", root.path().to_str().unwrap(), "--topology", HOST]);
    let mut child = command
        .args(["hook", "db", "prepare", "begin", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // The caller never closes stdin.
    let stdin = child.stdin.take();
    let start = Instant::now();
    let output = child.wait_with_output().unwrap();
    drop(stdin);
    assert_eq!(output.status.code(), Some(0));
    assert!(
        start.elapsed() < Duration::from_millis(1500),
        "{:?}",
        start.elapsed()
    );
    let stderr = String::from_utf8(output.stderr).unwrap();
    assert!(stderr.contains("no decision within 900 ms"), "{stderr}");
}

#[test]
fn the_hook_leaves_an_ordinary_users_guests_alone() {
    let folder = tempfile::tempdir().unwrap();
    let command = as_nobody(folder.path(), &["hook", "db", "prepare", "begin", "-"]);
    let ran = run_with(command, b"not XML").silent();
    assert_eq!(ran.stderr, "");
}

/// Synthetic host of two nodes, each of eight cores of two threads.
const SERVER: &str = "pack:2 numa:1(memory=64GB) l3:1 core:8 pu:2";

const POLICY: &str = r#"
[[rule]]
match = { name = "db*" }
profile = "fit"
[[rule]]
match = { name = "iso*" }
profile = "isolated"
[[rule]]
match = { name = "off*" }
profile = "off"
"#;

/// Server with a policy in its own folder.
fn server() -> Root {
    let root = Root::new();
    root.write("etc/virtfit/policy.toml", POLICY);
    root
}

impl Root {
    fn serve(&self, words: &[&str], stdin: &str) -> Ran {
        let mut all = vec!["--root", self.path().to_str().unwrap(), "--topology", SERVER];
        // The machine's own libvirt is not asked.
        all.extend(["--connect", "qemu+unix:///system?socket=/nowhere"]);
        all.extend(words);
        run(&all, stdin)
    }
}

/// Number of CPUs that no node of the test hosts has.
fn too_large(name: &str) -> String {
    domain(name, "").replace("<vcpu>2</vcpu>", "<vcpu>40</vcpu>")
}

#[test]
fn rewrite_tunes_or_hands_back_its_input() {
    let root = server();
    let tuned = root
        .serve(&["rewrite", "-"], &domain("db", ""))
        .expect(0, "<vcpupin vcpu='0'", "")
        .stdout;
    // A second time changes nothing, byte for byte.
    assert_eq!(
        root.serve(&["rewrite", "-"], &tuned).expect(0, "", "").stdout,
        tuned
    );
    root.serve(&["plan", "-", "--exit-code"], &tuned)
        .expect(0, "unchanged", "");
    root.serve(&["plan", "-", "--exit-code"], &domain("db", ""))
        .expect(3, "tuned", "");
    root.serve(&["rewrite", "-", "--exit-code"], &domain("db", ""))
        .expect(3, "vcpupin", "");
    root.serve(&["plan", "-"], &domain("db", ""))
        .expect(0, "tuned", "");
    assert_eq!(
        run(&["revert", "-"], &tuned).expect(0, "", "").stdout,
        domain("db", "")
    );
    for name in ["nobody", "off1"] {
        let odd = format!("\u{feff}<!-- c -->{}\n\n", domain(name, "  <x a = \"1\"/>\r\n"));
        assert_eq!(root.serve(&["rewrite", "-"], &odd).expect(0, "", "").stdout, odd);
    }
    root.serve(&["rewrite", "-", "--diff"], &domain("db", ""))
        .expect(0, "+    <vcpupin", "");
    assert_eq!(
        root.serve(&["plan", "-", "--diff"], &tuned)
            .expect(0, "", "")
            .stdout,
        ""
    );
    let json = root
        .serve(&["rewrite", "-", "--json"], &domain("db", ""))
        .expect(0, "", "")
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["verdict"], "tuned");
    root.serve(&["rewrite", "-", "--profile", "off"], &domain("db", ""))
        .expect(0, "", "");
    root.serve(&["rewrite", "-", "--profile", "fti"], &domain("db", ""))
        .broken("did you mean 'fit'?");
}

#[test]
fn refused_is_three_with_the_reason() {
    let root = server();
    let ran = root
        .serve(&["rewrite", "-"], &too_large("iso"))
        .expect(3, "", "virtfit: iso needs 40 CPUs");
    assert_eq!(ran.stdout, "");
    root.serve(&["plan", "-"], &too_large("iso"))
        .expect(3, "needs 40 CPUs", "");
    root.serve(&["plan", "-", "--json"], &too_large("iso"))
        .expect(3, r#""verdict":"refused""#, "");
    // A refused guest among others decides the exit code.
    let path = root.write("iso.xml", &too_large("iso"));
    root.serve(&["plan", path.to_str().unwrap(), "-"], &domain("db", ""))
        .expect(3, "db: tuned", "");
}

#[test]
fn the_hook_filters_vetoes_and_lets_pass() {
    let root = server();
    let hook = |operation: &str, xml: &str| root.serve(&["hook", "x", operation, "begin", "-"], xml);
    for operation in ["prepare", "migrate", "restore"] {
        let tuned = hook(operation, &domain("db", ""))
            .expect(0, "<vcpupin vcpu='0'", "")
            .stdout;
        assert_eq!(
            tuned.contains("<topology"),
            operation == "prepare",
            "{operation}: {tuned}"
        );
        // Running it twice is harmless.
        hook(operation, &tuned).silent();
        hook(operation, &domain("nobody", "")).silent();
        hook(operation, &too_large("nobody")).silent();
        let ran = hook(operation, &too_large("iso")).expect(3, "", "");
        assert_eq!(ran.stdout, "");
        assert!(
            ran.stderr.starts_with("virtfit: iso needs 40 CPUs"),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    }
    for operation in ["start", "started", "reconnect"] {
        hook(operation, &too_large("iso")).silent();
    }
    root.write("etc/virtfit/policy.d/9.toml", "[host]\nmode = \"observe\"\n");
    for (operation, tuned, refused) in [
        (
            "prepare",
            "db: would start with CPUs ",
            "would be refused: iso needs 40 CPUs",
        ),
        (
            "migrate",
            "db: would be tuned by fit",
            "iso: would be refused by isolated",
        ),
        (
            "restore",
            "db: would be tuned by fit",
            "iso: would be refused by isolated",
        ),
    ] {
        for (xml, said) in [(domain("db", ""), tuned), (too_large("iso"), refused)] {
            let ran = hook(operation, &xml).silent().expect(0, "", said);
            assert!(ran.stderr.contains("mode = observe"), "{}", ran.stderr);
        }
    }
}

#[test]
fn a_guest_that_says_refuse_is_not_started_undecided() {
    let root = server();
    let tuned = root
        .serve(&["rewrite", "-"], &domain("iso", ""))
        .expect(0, "on-no-fit='refuse'", "")
        .stdout;
    root.write("etc/virtfit/policy.toml", "[[rule]]\n");
    let hook = |operation: &str, xml: &str| root.serve(&["hook", "iso", operation, "begin", "-"], xml);
    let ran = hook("prepare", &tuned).expect(1, "", "");
    assert_eq!(ran.stdout, "");
    assert!(
        ran.stderr
            .starts_with("virtfit: iso may not run without its placement"),
        "{}",
        ran.stderr
    );
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    hook("migrate", &tuned).silent();
    hook("restore", &tuned).silent();
    hook("started", &tuned).silent();
    hook("prepare", &domain("iso", "")).silent();
    root.write("run/virtfit/disabled", "");
    hook("prepare", &tuned).silent();
}

#[test]
fn running_guests_hold_and_definitions_claim() {
    let root = server();
    let pins = |ran: Ran| {
        let plan: serde_json::Value = serde_json::from_str(&ran.stdout).unwrap();
        plan["placement"]["vcpus"].to_string()
    };
    let plan = |name: &str| {
        pins(
            root.serve(&["plan", "-", "--json"], &domain(name, ""))
                .expect(0, "", ""),
        )
    };
    let first = plan("db");
    // Another guest's definition with the same CPUs: a claim that is avoided.
    let tuned = root.serve(&["rewrite", "-"], &domain("dbx", "")).stdout;
    assert_eq!(plan("dbx"), first);
    root.write("etc/libvirt/qemu/dbx.xml", &tuned);
    let second = plan("db");
    assert_ne!(second, first);
    // A guest's own claim does not count.
    assert_eq!(plan("dbx"), first);
    // The guest runs now, elsewhere than its definition says: the status file decides.
    let live = tuned.replace("<domain type='kvm'>", "<domain type='kvm' id='1'>");
    let live = live
        .replace("cpuset='2'", "cpuset='4'")
        .replace("cpuset='3'", "cpuset='5'");
    root.write(
        "run/libvirt/qemu/dbx.xml",
        &format!("<domstatus state='running' reason='booted' pid='1'>{live}</domstatus>"),
    );
    assert_eq!(plan("db"), first);
    // On an empty host no guest holds them.
    let empty = root.serve(&["plan", "-", "--json", "--assume-empty"], &domain("db", ""));
    assert_eq!(pins(empty), first);
}

#[test]
fn every_error_of_a_policy_is_told() {
    let root = Root::new();
    root.write(
        "etc/virtfit/policy.toml",
        "[host]\nhousekeping = \"auto\"\nstrategy = \"pile\"\n",
    );
    root.define("db");
    // What is about the policy has all errors, all else the first and the number of the others.
    for (words, errors) in [
        (&["policy", "check"][..], 2),
        (&["policy", "show"], 2),
        (&["plan", "-"], 1),
        (&["plan"], 1),
        (&["apply", "db"], 1),
        (&["apply", "--all", "--yes"], 1),
        (&["rewrite", "-"], 1),
    ] {
        let ran = root
            .serve(words, &domain("db", ""))
            .expect(1, "", "policy.toml:2:1: ");
        assert_eq!(ran.stdout, "");
        let told = |line: &&str| line.starts_with("virtfit: /etc/virtfit/policy.toml:");
        assert_eq!(
            ran.stderr.lines().filter(told).count(),
            errors,
            "{words:?}: {}",
            ran.stderr
        );
        let more = ran
            .stderr
            .contains("virtfit: 1 more error: virtfit policy check\n");
        assert_eq!(more, errors == 1, "{words:?}: {}", ran.stderr);
        let nothing = ran.stderr.ends_with("virtfit: nothing was written\n");
        assert_eq!(nothing, words[0] == "apply", "{words:?}: {}", ran.stderr);
    }
    root.serve(&["status"], "")
        .expect(3, "  virtfit policy check\n", "virtfit: 1 more error: ");
    root.serve(&["policy", "cat"], "").expect(0, "housekeping", "");
    // Built-in profiles are there all the same, and the errors first.
    for (words, stdout, stderr) in [
        (
            &["profile", "list"][..],
            "isolated",
            "only what is built in is used",
        ),
        (
            &["profile", "show", "local"],
            "[profile.local]",
            "only what is built in is used",
        ),
        (
            &["profile", "show", "nope"],
            "",
            "virtfit: there is no profile 'nope'",
        ),
    ] {
        let ran = root.serve(words, "").expect(1, stdout, stderr);
        assert!(
            ran.stderr.starts_with("virtfit: /etc/virtfit/policy.toml:2:1: "),
            "{}",
            ran.stderr
        );
        assert_eq!(ran.stdout.is_empty(), stdout.is_empty(), "{words:?}");
    }
    // The last policy without errors, where one is known.
    let kept = r#"[{"path":"/etc/virtfit/policy.toml","tier":"main","text":"[profile.mine]\ninherits = \"fit\"\n"}]"#;
    root.write("run/virtfit/policy.json", kept);
    root.serve(&["profile", "list"], "")
        .expect(1, "* mine", "the last good policy is used");
    fs::remove_file(root.path().join("run/virtfit/policy.json")).unwrap();
    let ran = root
        .serve(&["hook", "db", "prepare", "begin", "-"], &domain("db", ""))
        .silent();
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    let good = server();
    good.serve(&["policy", "check"], "")
        .expect(0, "policy.toml: ok", "");
    good.serve(&["policy", "show"], "").expect(0, "[host]", "");
    good.serve(&["profile", "list"], "").expect(0, "isolated", "");
    good.serve(&["profile", "show", "fit"], "")
        .expect(0, "hugepages", "");
    good.serve(&["profile", "show", "nope"], "")
        .broken("there is no profile 'nope'");
}

#[test]
fn a_pattern_is_one_beside_files_too() {
    let host = Root::new();
    for name in ["db-1", "db-2", "web"] {
        host.define(name);
    }
    let file = host.write("new.xml", &domain("new", ""));
    let file = file.to_str().unwrap();
    let names = |words: &[&str], stdin: &str| {
        let ran = host.run(words, stdin).expect(0, "", "");
        let plans: Vec<serde_json::Value> = serde_json::from_str(&ran.stdout).unwrap();
        plans
            .iter()
            .map(|plan| plan["guest"].as_str().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    assert_eq!(
        names(&["plan", "db-*", file, "--json"], ""),
        ["db-1", "db-2", "new"]
    );
    // A guest that is named twice is meant once.
    assert_eq!(
        names(&["plan", file, "db-2", "db-?", "--json"], ""),
        ["new", "db-2", "db-1"]
    );
    let stdin = domain("piped", "");
    assert_eq!(names(&["plan", "-", "w*", "--json"], &stdin), ["piped", "web"]);
    host.run(&["plan", "x*", file], "")
        .broken("x*: no guest's name matches");
    let ran = run(&["--topology", HOST, "plan", "db-*", file], "");
    ran.expect(2, "", "a host without guests");
}

#[test]
fn names_for_the_completion_of_shells() {
    let host = Root::new();
    for name in ["web", "db-1", "two words", "$(id)"] {
        host.define(name);
    }
    host.write("etc/libvirt/qemu/two\nlines.xml", "");
    host.write("etc/virtfit/policy.toml", "[profile.mine]\ninherits = \"fit\"\n");
    let listed = |names| host.run(&["complete", names], "").expect(0, "", "").stdout;
    assert_eq!(listed("guests"), "$(id)\ndb-1\ntwo words\nweb\n");
    let profiles = listed("profiles");
    for name in ["mine", "fit", "off"] {
        assert!(profiles.lines().any(|line| line == name), "{profiles}");
    }
    // Profiles that are built in are there whatever the policy says.
    host.write("etc/virtfit/policy.toml", "[[rule]\n");
    let profiles = listed("profiles");
    assert!(
        profiles.contains("fit\n") && !profiles.contains("mine"),
        "{profiles}"
    );
    // The command is not meant to be typed.
    assert!(!run(&["--help"], "").stdout.contains("complete"));
}

/// Guests, files, profiles and words whose names a terminal obeys or that hide what is beside them.
#[test]
fn names_are_shown_so_that_nothing_is_obeyed_or_hidden() {
    let root = server();
    let odd = "db\u{202e}x\u{9b}2J\u{200b}\u{2066}";
    let xml = domain(odd, "").replace(&uuid(odd), &uuid("odd"));
    root.write(&format!("etc/libvirt/qemu/{odd}.xml"), &xml);
    root.write(&format!("etc/libvirt/qemu/{odd}-broken.xml"), "<domain>");
    root.write("run/libvirt/qemu/off\u{202e}.xml", "<domstatus>");
    let policy = root.write(
        &format!("{odd}.toml"),
        &format!(
            "[profile.\"a\u{202e}\"]\n[[rule]]\nprofile = \"{}\"\n",
            "b\\u202e"
        ),
    );
    let policy = policy.to_str().unwrap();
    let unsafe_in = |text: &str| {
        text.chars()
            .any(|c| c != '\n' && virtfit_hook::text::is_unsafe(c))
    };
    let broken = xml.replace("</vcpu>", "");
    let by_pattern = "db*";
    for (words, stdin) in [
        (&["plan"][..], ""),
        (&["plan", odd], ""),
        (&["plan", by_pattern, "--json"], ""),
        (&["plan", odd, "--diff"], ""),
        (&["plan", "--json", odd], ""),
        (&["plan", "-v", odd], ""),
        (&["plan", "-"], &broken),
        (&["plan", &format!("{odd}y")], ""),
        (&["plan", "x\u{1b}[31m\u{7f}"], ""),
        (&["plan", &format!("./{odd}")], ""),
        (&["plan", "-", "--profile", odd], &domain("db", "")[..]),
        (&["rewrite", odd, "--json"], ""),
        (&["rewrite", &format!("{odd}y")], ""),
        (&["revert", &format!("{odd}y")], ""),
        (&["apply", "--dry-run", "--all"], ""),
        (&["apply", odd], ""),
        (&["status"], ""),
        (&["status", "--json"], ""),
        (&["map"], ""),
        (&["map", odd], ""),
        (&["map", "--json"], ""),
        (&["map", "--svg", "-"], ""),
        (&["profile", "set", odd, odd], ""),
        (&["profile", "show", odd], ""),
        (&["policy", "check", policy], ""),
        (&["--policy", policy, "profile", "list"], ""),
        (&["--policy", policy, "plan", odd], ""),
        (&["complete", "guests"], ""),
        (&[odd], ""),
        (&["plan", "--scope", odd], ""),
        (&["--connect", odd, "status"], ""),
        (&["hook", odd, "prepare", "begin", "-"], "not XML"),
        (&["hook", odd, "release", "end", "-"], ""),
    ] {
        let ran = root.serve(words, stdin);
        for (stream, text) in [("stdout", &ran.stdout), ("stderr", &ran.stderr)] {
            let xml = stream == "stdout" && text.contains("<domain");
            assert!(
                !unsafe_in(text) || (xml && !words.contains(&"--diff")),
                "{words:?}, {stream}: {text:?}"
            );
        }
    }
    // Programs get the values they had.
    let json = root
        .serve(&["plan", "--json", odd], "")
        .expect(0, "db", "")
        .stdout;
    let json: serde_json::Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["guest"], odd);
}

/// Server whose libvirt does not run, so that a command gets as far as the connection.
fn without_libvirt(policy: &str) -> Root {
    let root = Root::new();
    root.write("etc/virtfit/policy.toml", policy);
    root.write(
        "proc/net/unix",
        "Num RefCount Protocol Flags Type St Inode Path\n",
    );
    root
}

/// Returns the XML as virtfit tunes it by this policy.
fn tuned(policy: &str, name: &str) -> String {
    let root = Root::new();
    root.write("etc/virtfit/policy.toml", policy);
    root.serve(&["rewrite", "-"], &domain(name, ""))
        .expect(0, "virtfit:", "")
        .stdout
}

const FIT: &str = "[[rule]]\nmatch = { name = \"db*\" }\nprofile = \"fit\"\n";

#[test]
fn a_guest_that_was_never_tuned_is_told_to_be_left_alone_only_where_it_would_be_tuned() {
    let root = without_libvirt(FIT);
    root.define("web");
    let before = root.define("db");
    let said = "web: has no settings of virtfit's, and nothing would have it tuned: nothing was written\n";
    assert_eq!(
        root.serve(&["revert", "web"], "").expect(0, said, "").stdout,
        said
    );
    // A rule matches: the daemon would tune it, so it has to ask for `off`, which needs libvirt.
    root.serve(&["revert", "db"], "")
        .expect(1, "", "virtfit: db: libvirt does not answer: ");
    // Several are meant: what virtfit never touched stays.
    root.serve(&["revert", "--all"], "")
        .expect(0, "Nothing to revert.\n", "");
    root.serve(&["revert", "d*"], "")
        .expect(0, "Nothing to revert.\n", "");
    root.write("etc/virtfit/policy.toml", "x");
    root.serve(&["revert", "web"], "")
        .expect(1, "", "virtfit: web: libvirt does not answer: ");
    assert_eq!(
        fs::read_to_string(root.path().join("etc/libvirt/qemu/db.xml")).unwrap(),
        before
    );
}

#[test]
fn a_pattern_reverts_what_it_matches() {
    let root = without_libvirt(FIT);
    for name in ["db-1", "db-2", "web"] {
        root.write(
            &format!("etc/libvirt/qemu/{name}.xml"),
            &tuned(FIT, "db").replace("<name>db<", &format!("<name>{name}<")),
        );
    }
    let asked = "Revert 2 guests? There is no terminal to ask on: nothing was written; --yes goes ahead";
    root.serve(&["revert", "db-*"], "").expect(2, "", asked);
    // What all of them would meet is said once.
    let down = "virtfit: db-1 and 1 more guest: libvirt does not answer: ";
    let ran = root.serve(&["revert", "db-*", "--yes"], "").expect(1, "", down);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    for name in ["db-3", "db-4"] {
        root.define(name);
    }
    let down = "virtfit: db-3 and 1 more guest: libvirt does not answer: ";
    let ran = root
        .serve(&["apply", "db-[34]", "--yes"], "")
        .expect(1, "0 of 2 redefined.\n", down);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
    root.serve(&["revert", "x*"], "")
        .broken("virtfit: x*: no guest's name matches");
}

#[test]
fn without_libvirt_the_next_step_is_named() {
    let root = without_libvirt(FIT);
    root.define("db");
    let libvirtd = "; to start it: systemctl start libvirtd\n";
    for words in [
        &["apply", "db"][..],
        &["revert", "db"],
        &["profile", "set", "db", "off"],
    ] {
        root.serve(words, "").expect(1, "", libvirtd);
    }
    let hook = root.write("etc/libvirt/hooks/qemu.d/50-virtfit", "");
    fs::set_permissions(hook, fs::Permissions::from_mode(0o755)).unwrap();
    root.serve(&["status"], "")
        .expect(3, "\n  systemctl start libvirtd\n", "");
    // The daemon for QEMU alone is the one that is installed; then both are, and it is enabled.
    root.write("usr/lib/systemd/system/virtqemud.socket", "");
    let socket = "; to start it: systemctl start virtqemud.socket\n";
    root.serve(&["apply", "db"], "").expect(1, "", socket);
    root.write("usr/lib/systemd/system/libvirtd.service", "");
    root.serve(&["apply", "db"], "").expect(1, "", libvirtd);
    root.write("etc/systemd/system/sockets.target.wants/virtqemud.socket", "");
    root.serve(&["apply", "db"], "").expect(1, "", socket);
}

#[test]
fn commands_are_whole_lines_however_narrow_the_page_is() {
    let root = without_libvirt(FIT);
    let name = "db-with-a-name-that-takes-half-of-a-line-of-text-at-least";
    let long = domain("db", "").replace("<name>db<", &format!("<name>{name}<"));
    root.write(&format!("etc/libvirt/qemu/{name}.xml"), &long);
    let off = tuned(FIT, "db").replace("<name>db<", "<name>web-1<");
    root.write("etc/libvirt/qemu/web-1.xml", &off);
    root.write(
        "etc/libvirt/qemu/db-off.xml",
        &domain(
            "db-off",
            "<metadata><r:request xmlns:r='https://virtfit.dev/ns/request/1' profile='off'/></metadata>",
        ),
    );
    for columns in ["40", "60", "80", "200"] {
        let at = |words: &[&str]| {
            let mut command = program(&["--root", root.path().to_str().unwrap(), "--topology", SERVER]);
            command.args(words).env("COLUMNS", columns);
            run_with(command, b"")
        };
        let has = |ran: &Ran, command: &str| {
            let whole = |line: &str| line.trim_start() == command;
            assert!(
                ran.stdout.lines().any(whole),
                "{columns}: {command}\n{}",
                ran.stdout
            );
        };
        let status = at(&["status"]);
        has(&status, "systemctl start virtfitd");
        has(&status, &format!("virtfit apply {name}"));
        has(&status, "virtfit revert web-1");
        has(&status, "virtfit profile unset db-off");
        for words in [
            &["plan"][..],
            &["apply", "--all", "--dry-run"],
            &["plan", "web-1"],
        ] {
            has(&at(words), "virtfit revert web-1");
        }
    }
    // A name that cannot be typed as it is shown (LC_ALL=C) is no part of a command.
    let umlaut = off.replace("<name>web-1<", "<name>größe<");
    root.write("etc/libvirt/qemu/größe.xml", &umlaut);
    let by_uuid = format!("\n    virtfit revert {}\n", uuid("db"));
    for words in [&["status", "größe"][..], &["plan", "größe"], &["plan"]] {
        root.serve(words, "").expect(0, &by_uuid, "");
    }
    let json = root.serve(&["plan", "--json", "web-1"], "").expect(0, "", "");
    let plan: serde_json::Value = serde_json::from_str(&json.stdout).unwrap();
    let reason = &plan["because"][0];
    assert_eq!(reason["command"], "virtfit revert web-1");
    assert!(
        reason["text"]
            .as_str()
            .unwrap()
            .ends_with(": virtfit revert web-1"),
        "{reason}"
    );
}

#[test]
fn a_name_that_is_a_pattern_too_is_not_taken_for_it_in_silence() {
    let root = without_libvirt(FIT);
    for name in ["db-*", "db-1", "db-2", "[x"] {
        root.define(name);
    }
    let said = "db-* is taken as the guest of that name, not as a pattern";
    for words in [
        &["plan", "db-*"][..],
        &["plan", "--json", "db-*", "db-*"],
        &["status", "db-*"],
        &["apply", "--dry-run", "db-*"],
    ] {
        let ran = root.serve(words, "");
        assert!(ran.stderr.contains(said), "{words:?}: {}", ran.stderr);
        assert!(!ran.stdout.contains("db-1"), "{words:?}: {}", ran.stdout);
    }
    for words in [
        &["apply", "db-*"][..],
        &["apply", "--yes", "db-*"],
        &["revert", "db-*"],
        &["revert", "--yes", "db-*"],
    ] {
        root.serve(words, "").expect(
            2,
            "",
            "virtfit: db-*: the name of a guest, and a pattern that 2 other guests match: nothing was written. Give that guest's UUID, or the names of the others",
        );
    }
    // A name that no other matches is a name, and so is a UUID.
    root.serve(&["apply", "[x"], "").expect(0, "0 of 1 redefined", "");
    root.serve(&["apply", &uuid("db-*")], "")
        .expect(1, "", "db-*: libvirt does not answer");
}

#[test]
fn disabled_is_said_by_what_writes_all_the_same() {
    let root = without_libvirt(FIT);
    root.define("db");
    root.write("run/virtfit/disabled", "");
    let switch = root.path().join("run/virtfit/disabled");
    let switch = switch.display();
    let rm = format!("rm {switch}\n");
    let refused = format!("virtfit: {switch} exists: nothing was changed; to switch virtfit on: {rm}");
    root.serve(&["apply", "db"], "").expect(1, "", &refused);
    let shown = format!("virtfit: {switch} exists: nothing is written until: {rm}");
    root.serve(&["apply", "--dry-run", "db"], "")
        .expect(0, "1 of 1 would be redefined", &shown);
    let written = format!(
        "virtfit: {switch} exists: a guest's request is written, and virtfit tunes nothing until: {rm}"
    );
    root.serve(&["revert", "db"], "").expect(1, "", &written);
}

#[test]
fn what_is_no_guest_is_said_as_the_command_takes_it() {
    let root = without_libvirt(FIT);
    root.define("db-1");
    let folder = root.path().join("etc/libvirt/qemu");
    let guess = "; did you mean 'db-1'?\n";
    let guest = format!("virtfit: db-2: no such guest in {}{guess}", folder.display());
    let file = format!(
        "virtfit: db-2: no such file, and no such guest in {}{guess}",
        folder.display()
    );
    for (words, said) in [
        (&["apply", "db-2"][..], &guest),
        (&["profile", "set", "db-2", "off"], &guest),
        (&["plan", "db-2"], &file),
        (&["rewrite", "db-2"], &file),
        (&["revert", "db-2"], &file),
    ] {
        root.serve(words, "").expect(1, "", said);
    }
    let xml = root.write("db.xml", &domain("db", ""));
    let xml = xml.to_str().unwrap();
    let files = format!(
        "virtfit: {xml}: apply takes guests, not files: virtfit rewrite {xml} | virsh define /dev/stdin\n"
    );
    root.serve(&["apply", "db-1", xml], "").expect(2, "", &files);
}

#[test]
fn floating_is_said_and_so_is_what_never_fits() {
    // A host whose only CPU for floating threads is CPU 1.
    let policy = format!(
        "[host]\nhousekeeping = \"0\"\nshared = \"1\"\n\n{FIT}\n[[rule]]\nmatch = {{ name = \"s*\" }}\nprofile = \"shared\"\n"
    );
    let root = without_libvirt(&policy);
    root.write(
        "etc/libvirt/qemu/s1.xml",
        &domain("s1", "").replace("<vcpu>2<", "<vcpu>1<"),
    );
    let plan = root.serve(&["plan"], "").expect(0, "", "");
    assert!(plan.stdout.contains("floats on CPU 1"), "{}", plan.stdout);
    root.serve(&["plan", "s1"], "")
        .expect(0, "~~ its vCPUs float here", "");
    root.write("etc/libvirt/qemu/db.xml", &too_large("db"));
    let status = root.serve(&["status", "db"], "").expect(0, "", "");
    let words: Vec<&str> = status.stdout.split_whitespace().collect();
    assert!(
        words.join(" ").contains("no place: needs 40 CPUs"),
        "{}",
        status.stdout
    );
    // All reasons of a refusal are in its row, and there alone.
    let refuse = policy.replace("profile = \"fit\"", "profile = \"isolated\"");
    root.write("etc/virtfit/policy.toml", &refuse);
    let ran = root.serve(&["apply", "db"], "").expect(3, "refused", "");
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    assert!(ran.stdout.contains("needs 40 CPUs, but"), "{}", ran.stdout);
    // Why nothing was written.
    let file = root.path().join("etc/libvirt/qemu/web.xml");
    root.define("web");
    root.serve(&["apply", "web"], "").expect(
        0,
        &format!(
            "0 of 1 redefined: nothing is to change in {} (libvirt was not asked if it has the same).\n",
            file.display()
        ),
        "",
    );
    root.define("web2");
    root.serve(&["apply", "web", "web2"], "")
        .expect(0, "0 of 2 redefined: nothing is to change.\n", "");
}

/// libvirt shows a guest of one vCPU the same topology without a `<topology>`: nothing is to be
/// written, whichever profile virtfit tuned it by before.
#[test]
fn a_topology_that_changes_nothing_is_not_written() {
    let one = domain("db", "").replace("<vcpu>2<", "<vcpu>1<");
    let rewritten = |profile: &str, xml: &str| {
        let ran = server().serve(&["rewrite", "-", "--profile", profile], xml);
        ran.expect(0, "virtfit:", "").stdout
    };
    let first = rewritten("fit", &one);
    let second = rewritten("isolated", &first);
    for xml in [&first, &second, &rewritten("shared", &second)] {
        assert!(!xml.contains("<topology"), "{xml}");
    }
}

#[test]
fn errors_of_the_daemon_bear_its_name() {
    let root = Root::new();
    root.write("run/virtfit", "no folder");
    let mut daemon = Command::new(env!("CARGO_BIN_EXE_virtfitd"));
    daemon
        .args(["--root", root.path().to_str().unwrap()])
        .env_remove("VIRTFIT_ROOT");
    let ran = run_with(daemon, b"");
    assert_eq!(ran.code, 1, "{}", ran.stderr);
    let last = ran.stderr.lines().last().unwrap();
    assert!(last.starts_with("virtfitd: "), "{}", ran.stderr);
}

#[test]
fn a_pin_by_hand_is_said_once() {
    let pinned = domain("db", "  <cputune><vcpupin vcpu='0' cpuset='0'/></cputune>\n");
    let housekeeping = format!("[host]\nhousekeeping = \"0\"\n\n{POLICY}");
    let root = Root::new();
    root.write("etc/virtfit/policy.toml", &housekeeping);
    let ran =
        root.serve(&["-v", "plan", "-"], &pinned)
            .expect(0, "", "vCPU 0 has no CPU of its own: your pin");
    assert!(!ran.stderr.contains("yours, kept"), "{}", ran.stderr);
}

/// A request that is not there is not said to be removed.
#[test]
fn what_makes_no_request_is_told() {
    let root = Root::new();
    root.define("db");
    root.run(&["profile", "unset", "db"], "").expect(
        0,
        "db: makes no request; the policy's rules decide already",
        "",
    );
}

#[test]
fn a_policy_is_checked_in_its_place_before_it_is_saved() {
    let root = Root::new();
    root.write(
        "etc/virtfit/policy.toml",
        "[profile.own]\ninherits = \"fit\"\n[[rule]]\nmatch = { name = \"a\" }\nprofile = \"own\"\n",
    );
    root.write(
        "etc/virtfit/policy.d/20-web.toml",
        "[[rule]]\nmatch = { name = \"web\" }\nprofile = \"own\"\n",
    );
    let rule = "[[rule]]\nmatch = { name = \"db\" }\nprofile = \"own\"\n";
    // By itself a text does not know the profiles of the other files; beside them it does.
    let file = root.write("new.toml", rule);
    let file = file.to_str().unwrap();
    root.run(&["policy", "check", file], "").broken_with("own");
    root.run(
        &[
            "policy",
            "check",
            "--as",
            "/etc/virtfit/policy.d/30-db.toml",
            file,
        ],
        "",
    )
    .expect(0, "3 files", "");
    // Stdin stands for policy.toml: the profile that it had is gone then.
    root.run(&["policy", "check", "-"], rule)
        .broken_with("stdin:3:11");
    root.run(
        &["policy", "check", "-"],
        &format!("[profile.own]\ninherits = \"local\"\n{rule}"),
    )
    .expect(0, "stdin: ok", "");
    root.run(
        &[
            "policy",
            "check",
            "-",
            "--as",
            "/etc/virtfit/policy.d/20-web.toml",
        ],
        "",
    )
    .expect(0, "2 files, 1 profile given or changed, 1 rule", "");
    root.run(&["policy", "check", "-", "--as", "/etc/other.toml"], "")
        .expect(2, "", "no place of a policy file");
    root.run(&["policy", "check", "--as", "/etc/virtfit/policy.toml"], "")
        .expect(2, "", "which text?");
}

#[test]
fn a_policy_and_its_errors_are_json() {
    let json = |ran: &Ran| serde_json::from_str::<serde_json::Value>(&ran.stdout).unwrap();
    let root = Root::new();
    let wrong = "[host]\nhousekeping = \"0\"\n[[rule]]\nprofile = \"fit\"\n";
    let ran = root
        .run(&["policy", "check", "--json", "-"], wrong)
        .expect(1, "", "");
    let found = json(&ran);
    assert_eq!(found["version"], 1);
    assert_eq!(found["digest"], serde_json::Value::Null);
    let error = &found["errors"][0];
    assert_eq!(
        (&error["file"], &error["line"], &error["column"]),
        (&"stdin".into(), &2.into(), &1.into())
    );
    assert!(
        error["message"].as_str().unwrap().contains("housekeping"),
        "{error}"
    );

    let right = "[profile.own]\ninherits = \"fit\"\nhugepages = \"off\"\n[[rule]]\nprofile = \"own\"\n";
    let ran = root
        .run(&["policy", "check", "--json", "-"], right)
        .expect(0, "", "");
    let found = json(&ran);
    assert_eq!(found["errors"].as_array().unwrap().len(), 0);
    assert!(
        found["warnings"][0]
            .as_str()
            .unwrap()
            .contains("rule 1 has no match"),
        "{found}"
    );
    assert_eq!(found["files"][0]["state"], "used");

    root.write("etc/virtfit/policy.toml", right);
    let ran = root.run(&["policy", "show", "--json"], "").expect(0, "", "");
    let shown = json(&ran);
    assert_eq!(shown["rules"][0]["profile"], "own");
    assert_eq!(shown["host"]["mode"]["from"], "built-in");
    for words in [&["profile", "list", "--json"][..], &["policy", "show", "--json"]] {
        let ran = root.run(words, "").expect(0, "", "");
        let all = json(&ran)["profiles"].as_array().unwrap().clone();
        let own = all.iter().find(|profile| profile["name"] == "own").unwrap();
        assert_eq!((&own["inherits"], &own["changed"]), (&"fit".into(), &true.into()));
        assert_eq!(own["keys"]["hugepages"]["from"], "/etc/virtfit/policy.toml:3");
        let fit = all.iter().find(|profile| profile["name"] == "fit").unwrap();
        assert_eq!(
            (&fit["changed"], &fit["inherits"]),
            (&false.into(), &serde_json::Value::Null)
        );
    }
    let ran = root
        .run(&["profile", "show", "own", "--json"], "")
        .expect(0, "", "");
    assert_eq!(json(&ran)["keys"]["hugepages"]["value"], "off");
}

#[test]
fn what_virsh_users_type_works() {
    let root = server();
    root.write("etc/libvirt/qemu/def.xml", &domain("def", ""));
    root.write(
        "run/libvirt/qemu/def.xml",
        "<domstatus state='running' pid='1'><domain id='5'><name>def</name></domain></domstatus>",
    );
    let all = root.serve(&["plan", "--all"], "").expect(0, "def", "");
    assert_eq!(all.stdout, root.serve(&["plan"], "").stdout);
    root.serve(&["plan", "--all", "def"], "")
        .expect(2, "", "cannot be used with");
    root.serve(&["plan", "5"], "").expect(0, "def", "");
    root.serve(&["status", "--names"], "").expect(0, "def\n", "");
    // A policy on stdin; stdin is read once.
    let policy = "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"local\"\n";
    root.run(&["plan", "--all", "--policy", "-"], policy)
        .expect(0, "local", "");
    root.run(&["plan", "-", "--policy", "-"], policy)
        .expect(2, "", "stdin can be read once");
    root.run(&["plan", "--all", "--policy", "-"], "x")
        .expect(1, "", "stdin:1");
}

#[test]
fn another_libvirt_by_environment_is_said_before_anything_is_written() {
    let root = without_libvirt("[[rule]]\nprofile = \"fit\"\n");
    root.define("def");
    let with = |uri: &str, words: &[&str]| {
        let mut command = program(&["--root", root.path().to_str().unwrap(), "--topology", SERVER]);
        command.args(words).env("LIBVIRT_DEFAULT_URI", uri);
        run_with(command, b"")
    };
    let words = ["profile", "set", "def", "local"];
    with("qemu+ssh://other/system", &words).expect(2, "", "LIBVIRT_DEFAULT_URI=qemu+ssh://other/system");
    with("qemu+ssh://other/system", &["plan", "def"]).expect(0, "", "");
    with("qemu:///system", &words).expect(1, "", "libvirt");
    // Where nothing is to change, too.
    root.define("web");
    for words in [
        &["apply", "--all", "--yes"][..],
        &["revert", "--all", "--yes"],
        &["profile", "unset", "def"],
    ] {
        with("qemu:///session", words).expect(2, "", "LIBVIRT_DEFAULT_URI=qemu:///session");
    }
    with("qemu:///session", &["apply", "--all", "--dry-run"]).expect(0, "", "");
    with("", &words).expect(1, "", "libvirt");
}

#[test]
fn help_is_a_word_too() {
    for (words, same) in [
        (&["help"][..], &["--help"][..]),
        (&["help", "check"], &["check", "--help"]),
        (&["help", "profile", "set"], &["profile", "set", "--help"]),
    ] {
        let asked = run(words, "");
        let asked = asked.expect(0, "Usage: virtfit", "");
        assert_eq!(asked.stdout, run(same, "").stdout, "{words:?}");
    }
    run(&["help", "nothing"], "").expect(2, "", "nothing");
}

#[test]
fn alerts_and_dashboard_name_metrics_that_there_are() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR"));
    let printed =
        fs::read_to_string(folder.join("fixtures/cases/status-elsewhere/expected/stdout.8")).unwrap();
    let page = fs::read_to_string(folder.join("docs/metrics.md")).unwrap();
    let families: Vec<&str> = printed
        .lines()
        .filter_map(|line| line.strip_prefix("# TYPE ")?.split(' ').next())
        .collect();
    assert!(families.len() > 15, "{families:?}");
    for family in &families {
        assert!(
            page.contains(&format!("`{family}`")),
            "docs/metrics.md lacks {family}"
        );
    }
    for file in ["virtfit.rules.yml", "dashboard.json"] {
        let text = fs::read_to_string(folder.join("packaging/prometheus").join(file)).unwrap();
        let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
        let mut named: Vec<&str> = words.filter(|word| word.starts_with("virtfit_")).collect();
        named.dedup();
        assert!(named.len() > 3, "{file}: {named:?}");
        for name in named {
            assert!(families.contains(&name), "{file} names {name}");
        }
    }
}

#[test]
fn quiet_keeps_errors_alone() {
    let root = server();
    root.write("etc/libvirt/qemu/def.xml", &domain("def", ""));
    root.write(
        "etc/virtfit/policy.toml",
        "[host]\nhousekeeping = \"0,99\"\n[[rule]]\nprofile = \"fit\"\n",
    );
    let loud = root.serve(&["plan", "def"], "").expect(0, "", "warning");
    let quiet = root.serve(&["-q", "plan", "def"], "").expect(0, "", "");
    assert_eq!((quiet.stderr.as_str(), &quiet.stdout), ("", &loud.stdout));
    root.serve(&["-q", "plan", "gone"], "")
        .expect(1, "", "no such guest");
}

#[test]
fn files_are_planned_apart_and_it_is_said() {
    let root = server();
    let files = ["a", "b"].map(|name| root.write(&format!("{name}.xml"), &domain(name, "")));
    let [a, b] = files.each_ref().map(|file| file.to_str().unwrap());
    let said = "virtfit: files are planned apart, each as if the others were not there";
    root.serve(&["plan", a, b], "").expect(0, "a: ", said);
    let ran = root.serve(&["plan", a], "").expect(0, "a: ", "");
    assert!(!ran.stderr.contains("apart"), "{}", ran.stderr);
}

/// A file, and what comes from a pipe, is no definition that `virtfit revert NAME` could change.
#[test]
fn leftovers_of_a_file_are_taken_out_of_the_file() {
    let left = tuned(FIT, "db").replace("<name>db<", "<name>web<");
    let root = without_libvirt(FIT);
    let file = root.write("web.xml", &left);
    let file = file.to_str().unwrap();
    root.serve(&["plan", file], "")
        .expect(0, &format!("    virtfit revert {file}\n"), "");
    root.serve(&["plan", "-"], &left)
        .expect(0, "    virtfit revert -\n", "");
}

#[test]
fn a_dry_run_of_revert_lists_guests_and_asks_nothing() {
    let root = without_libvirt(FIT);
    root.define("web");
    root.define("db-2");
    root.write("etc/libvirt/qemu/db.xml", &tuned(FIT, "db"));
    let all = root.serve(&["revert", "--all", "--dry-run"], "");
    assert_eq!(all.expect(0, "", "").stdout, "db: would be reverted\n");
    // Of several guests it is said in which one a setting stays.
    let changed =
        tuned(FIT, "db-3").replacen("<vcpupin vcpu='0' cpuset='", "<vcpupin vcpu='0' cpuset='31,", 1);
    let other = root.write("etc/libvirt/qemu/db-3.xml", &changed);
    root.serve(&["revert", "--all", "--dry-run"], "").expect(
        0,
        "db-3: would be reverted\n",
        "warning: db-3: /domain/cputune/vcpupin[@vcpu='0']: left as it is: ",
    );
    fs::remove_file(other).unwrap();
    root.serve(&["revert", "--dry-run", "db-2"], "").expect(
        0,
        "db-2: has no settings of virtfit's; it would be told",
        "",
    );
    root.serve(&["revert", "--dry-run", "w*"], "")
        .expect(0, "Nothing to revert.\n", "");
}
