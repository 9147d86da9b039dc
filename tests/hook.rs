//! `virtfit-hook` as libvirt runs it, with daemons that answer, do not answer, or answer nonsense:
//! exit code, streams, and time.
#![allow(clippy::unwrap_used, missing_docs)]

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::PermissionsExt;
use std::os::unix::net::{UnixListener, UnixStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use tempfile::TempDir;
use virtfit::daemon::hook_answers::Hooks;
use virtfit::daemon::in_flight::Inflight;
use virtfit::daemon::server::{Server, Services, Stopper};
use virtfit::hostfs::HostFs;
use virtfit::snapshot::Sources;
use virtfit::snapshot::cache::SnapshotCache;
use virtfit_hook::wire::{Question, Reply};

#[path = "common/installed.rs"]
mod installed;

/// Time the hook gives the daemon, and its longest time in all; more where the machine is busy.
const DAEMON_MS: u64 = 300;
const ALL_MS: u64 = 1000;
const SLACK_MS: u64 = 500;

const UUID: &str = "8c1f6f0e-0000-4000-8000-000000000001";

/// Guest that no rule matches and that no daemon has seen.
fn domain(more: &str) -> String {
    format!(
        "<domain type='kvm'>\n  <name>g</name>\n  <uuid>{UUID}</uuid>\n{more}  <memory unit='MiB'>64</memory>\n  \
         <vcpu>2</vcpu>\n  <os><type arch='x86_64' machine='q35'>hvm</type></os>\n</domain>\n"
    )
}

/// Bytes that look like the provenance of a guest that refuses to run without its placement.
const REFUSES: &str = "  <!-- on-no-fit='refuse' -->\n";

/// Host that is a folder, with programs next to each other: the hook, and the `virtfit` it hands
/// over to.
struct Host {
    root: TempDir,
    programs: TempDir,
}

impl Host {
    fn new() -> Self {
        let host = Self {
            root: tempfile::tempdir().unwrap(),
            programs: tempfile::tempdir().unwrap(),
        };
        fs::create_dir_all(host.root.path().join("run/virtfit")).unwrap();
        let hook = installed::hook();
        fs::hard_link(&hook, host.hook())
            .or_else(|_| fs::copy(&hook, host.hook()).map(drop))
            .unwrap();
        host.virtfit("echo 'stdin:'; cat; echo \"$@\" >&2")
    }

    fn hook(&self) -> PathBuf {
        self.programs.path().join("virtfit-hook")
    }

    fn socket(&self) -> PathBuf {
        self.root.path().join("run/virtfit/virtfitd.sock")
    }

    /// Puts a script in the place of `virtfit`.
    fn virtfit(self, script: &str) -> Self {
        let path = self.programs.path().join("virtfit");
        // The script is renamed into place: a file that another test's child still has open for
        // writing cannot be executed.
        let new = self.programs.path().join("new");
        fs::write(&new, format!("#!/bin/sh\n{script}\n")).unwrap();
        fs::set_permissions(&new, fs::Permissions::from_mode(0o755)).unwrap();
        fs::rename(new, path).unwrap();
        self
    }

    fn without_virtfit(self) -> Self {
        fs::remove_file(self.programs.path().join("virtfit")).unwrap();
        self
    }

    /// Starts a daemon that does this with each connection, after it has read the question if
    /// `reads`.
    fn daemon(self, reads: bool, does: impl Fn(UnixStream) + Send + 'static) -> Self {
        let listener = UnixListener::bind(self.socket()).unwrap();
        thread::spawn(move || {
            for stream in listener.incoming() {
                let stream = stream.unwrap();
                if reads {
                    let question = Question::read(&mut std::io::BufReader::new(&stream));
                    assert!(question.is_ok(), "{question:?}");
                }
                does(stream);
            }
        });
        self
    }

    fn answers(self, exit: u8, stdout: &str, stderr: &str) -> Self {
        let reply = Reply {
            exit,
            stdout: stdout.into(),
            stderr: stderr.into(),
        };
        self.daemon(true, move |mut stream| drop(reply.write(&mut stream)))
    }

    fn command(&self, words: &[&str]) -> Command {
        let mut command = Command::new(self.hook());
        command
            .args(words)
            .env_clear()
            .env("PATH", "/usr/bin:/bin")
            .env("LC_ALL", "C")
            .env("VIRTFIT_ROOT", self.root.path());
        command
    }

    fn run(&self, words: &str, xml: &str) -> Ran {
        let words: Vec<&str> = words.split(' ').collect();
        run(self.command(&words), Some(xml.as_bytes()))
    }
}

/// Result of one hook.
#[derive(Debug)]
struct Ran {
    code: Option<i32>,
    stdout: String,
    stderr: String,
    took: Duration,
}

impl Ran {
    /// Checks exit code, whole stdout, a piece of stderr (empty: nothing may be there), and the
    /// longest time allowed.
    #[track_caller]
    fn expect(&self, code: i32, stdout: &str, stderr: &str, within_ms: u64) -> &Self {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, stdout, "{self:?}");
        assert!(self.stderr.contains(stderr), "{self:?} without {stderr:?}");
        assert_eq!(stderr.is_empty(), self.stderr.is_empty(), "{self:?}");
        assert!(
            self.took < Duration::from_millis(within_ms + SLACK_MS),
            "{self:?}"
        );
        self
    }

    #[track_caller]
    fn at_least_ms(&self, ms: u64) {
        assert!(self.took >= Duration::from_millis(ms), "{self:?}");
    }

    #[track_caller]
    fn one_line(&self) {
        assert_eq!(self.stderr.lines().count(), 1, "{self:?}");
        assert!(self.stderr.starts_with("virtfit: g"), "{self:?}");
    }
}

/// Runs the hook. `None`: stdin stays open and nothing is sent.
fn run(mut command: Command, stdin: Option<&[u8]>) -> Ran {
    let started = Instant::now();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut pipe = child.stdin.take().unwrap();
    let bytes = stdin.map(<[u8]>::to_vec);
    let (end, ended) = std::sync::mpsc::channel::<()>();
    let writer = thread::spawn(move || match bytes {
        // The hook need not read all of it.
        Some(bytes) => drop(pipe.write_all(&bytes)),
        None => drop(ended.recv()),
    });
    let (mut stdout, mut stderr) = (child.stdout.take().unwrap(), child.stderr.take().unwrap());
    let text = |pipe: &mut dyn Read| {
        let mut bytes = Vec::new();
        pipe.read_to_end(&mut bytes).unwrap();
        String::from_utf8(bytes).unwrap()
    };
    // As libvirt does: both streams are read to their ends, so a process left behind with them
    // would be waited for.
    let stdout = thread::scope(|scope| {
        let lines = scope.spawn(|| text(&mut stderr));
        (text(&mut stdout), lines.join().unwrap())
    });
    let code = child.wait().unwrap().code();
    let took = started.elapsed();
    drop(end);
    writer.join().unwrap();
    Ran {
        code,
        stdout: stdout.0,
        stderr: stdout.1,
        took,
    }
}

const MEANINGFUL: [&str; 6] = [
    "g prepare begin -",
    "g started begin -",
    "g release end -",
    "g reconnect begin -",
    "g migrate begin -",
    "g restore begin -",
];

#[test]
fn what_means_nothing_ends_at_once() {
    // The daemon's answer does not matter.
    let host = Host::new().answers(3, "no", "no\n").virtfit("exit 3");
    for words in [
        "g start begin -",
        "g stopped end -",
        "g attach begin -",
        "g levitate begin -",
        "g prepare end -",
        "g",
        "",
        "--help",
        "--version begin",
    ] {
        host.run(words, &domain("")).expect(0, "", "", 0);
    }
    // The hook need not read these 4 MiB.
    host.run("g start begin -", &"x".repeat(1 << 20))
        .expect(0, "", "", 0);
    // It need not wait for them either.
    run(host.command(&["g", "stopped", "end", "-"]), None).expect(0, "", "", 0);
}

#[test]
fn what_the_daemon_says_is_done() {
    for (words, exit, expected, prints) in [
        ("g prepare begin -", 0, 0, true),
        ("g prepare begin -", 3, 3, false),
        ("g prepare begin -", 1, 1, false),
        ("g migrate begin -", 0, 0, true),
        ("g restore begin -", 0, 0, true),
        ("g restore begin -", 3, 3, false),
        ("g started begin -", 0, 0, false),
        ("g release end shutdown", 0, 0, false),
        ("g reconnect begin -", 0, 0, false),
        ("--help prepare begin -", 3, 3, false),
        ("-v prepare begin -", 3, 3, false),
    ] {
        let host = Host::new()
            .answers(exit, "<domain/>\n", "said\n")
            .virtfit("exit 1");
        let stdout = if prints { "<domain/>\n" } else { "" };
        host.run(words, &domain(""))
            .expect(expected, stdout, "said\n", DAEMON_MS);
    }
}

#[test]
fn the_question_holds_what_libvirt_said() {
    let (sender, receiver) = std::sync::mpsc::channel();
    let host = Host::new().daemon(false, move |mut stream| {
        let question = Question::read(&mut std::io::BufReader::new(&stream)).unwrap();
        Reply::default().write(&mut stream).unwrap();
        // Open until the hook has ended.
        let mut rest = Vec::new();
        stream.read_to_end(&mut rest).unwrap();
        sender.send((question, rest)).unwrap();
    });
    let large = domain(&format!("  <!--{}-->\n", "x".repeat(1 << 20)));
    for (words, xml) in [
        ("-v release end from snapshot", domain("")),
        ("g prepare begin -", large),
    ] {
        host.run(words, &xml).expect(0, "", "", DAEMON_MS);
        let (question, rest) = receiver.recv_timeout(Duration::from_secs(10)).unwrap();
        let said: Vec<String> = question
            .words
            .iter()
            .map(|word| String::from_utf8(word.clone()).unwrap())
            .collect();
        let parent = std::process::id().to_string();
        let mut expected: Vec<&str> = words.split(' ').take(4).collect();
        expected.push(&parent);
        assert_eq!(said, expected);
        assert!(question.body == xml.as_bytes() && rest.is_empty());
    }
}

/// Daemon that is of no use: the fault, the way to cause it, and the milliseconds the hook waits
/// for it.
type Useless = (&'static str, fn(Host) -> Host, u64);

fn useless() -> Vec<Useless> {
    vec![
        ("there is none", |host| host, 0),
        (
            "its socket is left behind",
            |host| {
                drop(UnixListener::bind(host.socket()).unwrap());
                host
            },
            0,
        ),
        (
            "a file in its place",
            |host| {
                fs::write(host.socket(), "").unwrap();
                host
            },
            0,
        ),
        ("it closes at once", |host| host.daemon(false, drop), 0),
        ("it closes when asked", |host| host.daemon(true, drop), 0),
        (
            "it answers garbage",
            |host| {
                host.daemon(true, |mut stream| {
                    drop(stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n"))
                })
            },
            0,
        ),
        (
            "it answers without end",
            |host| {
                host.daemon(true, |mut stream| {
                    let _ = stream.write_all(b"virtfit 1 0 16777216 0\n");
                    while stream.write_all(b"<domain/>").is_ok() {
                        thread::sleep(Duration::from_millis(10));
                    }
                })
            },
            DAEMON_MS,
        ),
        (
            "it closes within its answer",
            |host| {
                host.daemon(true, |mut stream| {
                    drop(stream.write_all(b"virtfit 1 0 9 0\n<doma"))
                })
            },
            0,
        ),
        (
            "it answers with a strange exit code",
            |host| host.answers(77, "", ""),
            0,
        ),
        (
            "it answers late",
            |host| {
                host.daemon(true, |mut stream| {
                    thread::sleep(Duration::from_millis(2 * DAEMON_MS));
                    let late = Reply {
                        stdout: b"late".to_vec(),
                        ..Reply::default()
                    };
                    let _ = late.write(&mut stream);
                })
            },
            DAEMON_MS,
        ),
        (
            "it accepts nobody",
            |host| {
                let listener = UnixListener::bind(host.socket()).unwrap();
                thread::spawn(move || {
                    thread::sleep(Duration::from_secs(30));
                    drop(listener);
                });
                host
            },
            DAEMON_MS,
        ),
        (
            "its backlog is full",
            |host| {
                let listener = full_backlog(&host.socket());
                thread::spawn(move || {
                    thread::sleep(Duration::from_secs(30));
                    drop(listener);
                });
                host
            },
            DAEMON_MS,
        ),
    ]
}

/// Listens without room for connections, and fills the room there is.
fn full_backlog(path: &Path) -> (UnixListener, Vec<UnixStream>) {
    use nix::sys::socket::{Backlog, listen};
    let listener = UnixListener::bind(path).unwrap();
    listen(&listener, Backlog::new(0).unwrap()).unwrap();
    (listener, vec![UnixStream::connect(path).unwrap()])
}

#[test]
fn without_an_answer_virtfit_decides() {
    for (what, daemon, waits) in useless() {
        let host = daemon(Host::new());
        for words in ["g prepare begin -", "g migrate begin -"] {
            let ran = host.run(words, &domain(""));
            let parent = std::process::id();
            let (spent, after) = ran.stderr.split_once(" --parent").unwrap_or_default();
            assert_eq!(after, format!(" {parent} -- {words}\n"), "{what}: {ran:?}");
            let spent: u64 = spent.strip_prefix("hook --spent ").unwrap().parse().unwrap();
            assert!(spent >= waits && spent < waits + SLACK_MS, "{what}: {ran:?}");
            ran.expect(0, &format!("stdin:\n{}", domain("")), "hook", waits)
                .at_least_ms(waits);
        }
        // Nothing the daemon says can be taken for XML, or do harm.
        for words in ["g release end -", "g reconnect begin -"] {
            let ran = host.run(words, &domain(""));
            ran.expect(0, "", &format!("-- {words}\n"), waits);
        }
        // Only the daemon could do anything.
        host.run("g started begin -", &domain(REFUSES))
            .expect(0, "", "virtfit: g: started: nothing was changed: virtfitd", waits)
            .one_line();
    }
}

#[test]
fn a_stopped_daemon_costs_its_time_and_no_more() {
    let host = Host::new();
    // The daemon is a process of its own, so that it can be stopped.
    let script = format!(
        "import socket, time\ns = socket.socket(socket.AF_UNIX)\ns.bind({:?})\ns.listen(1)\nprint(flush=True)\ntime.sleep(60)\n",
        host.socket().to_str().unwrap()
    );
    let daemon = Command::new("python3")
        .args(["-c", &script])
        .stdout(Stdio::piped())
        .spawn();
    let Killed(daemon) = &mut Killed(daemon.unwrap());
    daemon.stdout.as_mut().unwrap().read_exact(&mut [0]).unwrap();
    let pid = nix::unistd::Pid::from_raw(i32::try_from(daemon.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGSTOP).unwrap();
    // The first two fit into its backlog, the others do not.
    for _ in 0..4 {
        let ran = host.run("g prepare begin -", &domain(""));
        ran.expect(0, &format!("stdin:\n{}", domain("")), "hook --spent 3", DAEMON_MS);
    }
}

/// Process that does not outlive the test, even if the test fails.
struct Killed(std::process::Child);

impl Drop for Killed {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn what_virtfit_does_is_taken_with_care() {
    // script, words, XML, exit, stdout, a piece of stderr, most ms
    let plain = domain("");
    let refusing = domain(REFUSES);
    let rows = [
        ("exit 3", "g prepare begin -", &plain, 3, "", "", 0),
        (
            "echo no >&2; exit 3",
            "g prepare begin -",
            &plain,
            3,
            "",
            "no\n",
            0,
        ),
        (
            "echo no >&2; exit 1",
            "g prepare begin -",
            &refusing,
            1,
            "",
            "no\n",
            0,
        ),
        ("echo half; exit 3", "g restore begin -", &plain, 3, "", "", 0),
        // The program is broken.
        (
            "echo half; exit 2",
            "g restore begin -",
            &plain,
            0,
            "",
            "virtfit ended with exit 2",
            0,
        ),
        (
            "echo half; echo oops >&2; exit 101",
            "g prepare begin -",
            &plain,
            0,
            "",
            "ended with exit 101: oops",
            0,
        ),
        (
            "kill -SEGV $$",
            "g prepare begin -",
            &plain,
            0,
            "",
            "virtfit died of signal 11",
            0,
        ),
        (
            "kill -SEGV $$",
            "g prepare begin -",
            &refusing,
            1,
            "",
            "virtfit: g may not run without its placement",
            0,
        ),
        (
            "kill -SEGV $$",
            "g migrate begin -",
            &refusing,
            0,
            "",
            "; other guests may run on its CPUs",
            0,
        ),
        (
            "exit 3",
            "g reconnect begin -",
            &refusing,
            0,
            "",
            "virtfit ended with exit 3",
            0,
        ),
        (
            "exit 1",
            "g release end -",
            &refusing,
            0,
            "",
            "virtfit ended with exit 1",
            0,
        ),
        // The program hangs, with its streams open or closed.
        (
            "exec sleep 20",
            "g prepare begin -",
            &plain,
            0,
            "",
            "virtfit hangs",
            ALL_MS,
        ),
        (
            "exec sleep 20",
            "g prepare begin -",
            &refusing,
            1,
            "",
            "virtfit hangs",
            ALL_MS,
        ),
        (
            "exec >&- 2>&-; exec sleep 20",
            "g prepare begin -",
            &plain,
            0,
            "",
            "virtfit hangs",
            ALL_MS,
        ),
        (
            "exec sleep 20",
            "g reconnect begin -",
            &plain,
            0,
            "",
            "virtfit hangs",
            ALL_MS,
        ),
        // A process it started holds its streams.
        (
            "sleep 20 & echo x",
            "g prepare begin -",
            &plain,
            0,
            "x\n",
            "",
            ALL_MS,
        ),
    ];
    for (script, words, xml, exit, stdout, stderr, ms) in rows {
        let host = Host::new().virtfit(script);
        let ran = host.run(words, xml);
        ran.expect(exit, stdout, stderr, ms);
    }
}

#[test]
fn a_missing_virtfit_is_a_line() {
    if Path::new("/usr/bin/virtfit").exists() {
        // An installed virtfit is run, as it should be.
        return;
    }
    let host = Host::new().without_virtfit();
    for words in MEANINGFUL {
        let ran = host.run(words, &domain(""));
        ran.expect(0, "", "nothing was changed: virtfitd", 0).one_line();
        // No CPUs are reserved for a guest that comes to run here.
        let comes = ["prepare", "migrate", "restore"].contains(&words.split(' ').nth(1).unwrap());
        let unreserved = ran.stderr.ends_with("; other guests may run on its CPUs\n");
        assert_eq!(unreserved, comes, "{ran:?}");
        let exit = i32::from(words.contains("prepare"));
        let ran = host.run(words, &domain(REFUSES));
        ran.expect(exit, "", "virtfitd does not", 0).one_line();
    }
}

#[test]
fn stdin_that_does_not_end_does_not_hold_libvirt() {
    let host = Host::new().answers(3, "", "no\n").virtfit("exit 3");
    for words in MEANINGFUL {
        let words: Vec<&str> = words.split(' ').collect();
        let ran = run(host.command(&words), None);
        ran.expect(
            0,
            "",
            "nothing was changed: the XML on stdin did not end within 800 ms",
            ALL_MS,
        )
        .one_line();
    }
}

#[test]
fn too_much_on_stdin_is_not_read() {
    let host = Host::new().answers(3, "", "no\n").virtfit("exit 3");
    let mut xml = domain(REFUSES);
    host.run("g migrate begin -", &(xml.clone() + &" ".repeat(17 << 20)))
        .expect(0, "", "larger than 16 MiB", ALL_MS)
        .one_line();
    xml.push_str(&" ".repeat(17 << 20));
    host.run("g prepare begin -", &xml)
        .expect(1, "", "larger than 16 MiB", ALL_MS);
}

#[test]
fn a_closed_stdin_is_an_empty_one() {
    let host = Host::new();
    let ran = run(host.command(&["g", "prepare", "begin", "-"]), Some(b""));
    ran.expect(0, "stdin:\n", "hook", 0);
}

#[test]
fn switched_off_it_does_nothing() {
    let host = Host::new().answers(3, "no", "no\n").virtfit("exit 3");
    fs::write(host.root.path().join("run/virtfit/disabled"), "").unwrap();
    for words in MEANINGFUL {
        host.run(words, &domain(REFUSES)).expect(0, "", "", 0);
    }
}

#[test]
fn an_ordinary_users_guests_are_not_ours() {
    if !nix::unistd::geteuid().is_root() {
        return;
    }
    let host = Host::new().virtfit("exit 3");
    fs::set_permissions(host.programs.path(), fs::Permissions::from_mode(0o755)).unwrap();
    for words in MEANINGFUL {
        let words: Vec<&str> = words.split(' ').collect();
        for root in [None, Some("/"), Some("//.")] {
            let mut command = host.command(&words);
            command.env_remove("VIRTFIT_ROOT").uid(65534).gid(65534);
            if let Some(root) = root {
                command.env("VIRTFIT_ROOT", root);
            }
            run(command, Some(domain(REFUSES).as_bytes())).expect(0, "", "", 0);
        }
    }
}

/// Complete host with the daemon's own server.
struct Served {
    host: Host,
    stopper: Stopper,
}

impl Served {
    fn new() -> Self {
        let host = Host::new().virtfit("echo fallback >&2");
        let from = Path::new(env!("CARGO_MANIFEST_DIR")).join("fixtures/hosts/paper/.");
        let copied = Command::new("cp")
            .arg("-r")
            .arg(from)
            .arg(host.root.path())
            .status()
            .unwrap();
        assert!(copied.success());
        let policy = host.root.path().join("etc/virtfit/policy.toml");
        fs::create_dir_all(policy.parent().unwrap()).unwrap();
        fs::write(policy, "[[rule]]\nmatch = { name = \"*\" }\nprofile = \"fit\"\n").unwrap();
        let root = HostFs::new(host.root.path());
        let server = Server::listen(&root).unwrap();
        let stopper = server.stopper().unwrap();
        let place = Sources {
            root: root.clone(),
            ..Sources::default()
        };
        let hooks = Hooks::new(Arc::new(SnapshotCache::new(place)));
        let services = Services::new(Box::new(hooks), Arc::new(Inflight::new(root)), Box::new(|_| ()));
        thread::spawn(move || server.run(services));
        Self { host, stopper }
    }

    fn reservation(&self) -> PathBuf {
        let path = format!("run/virtfit/reservations/{UUID}.json");
        self.host.root.path().join(path)
    }
}

#[test]
fn the_daemons_own_server_answers() {
    let served = Served::new();
    // The first hook warms up a build without optimisation.
    served
        .host
        .run("g reconnect begin -", &domain(""))
        .expect(0, "", "", DAEMON_MS);
    let ran = served.host.run("g prepare begin -", &domain(""));
    assert_eq!(ran.code, Some(0), "{ran:?}");
    assert!(
        ran.stdout.contains("<vcpupin") && !ran.stderr.contains("fallback"),
        "{ran:?}"
    );
    assert!(served.reservation().exists());
    served
        .host
        .run("g started begin -", &domain(""))
        .expect(0, "", "", DAEMON_MS);
    served
        .host
        .run("g release end shutdown", &domain(""))
        .expect(0, "", "", DAEMON_MS);
    assert!(!served.reservation().exists());
    served.stopper.stop();
    let until = Instant::now() + Duration::from_secs(10);
    while served.host.socket().exists() {
        assert!(Instant::now() < until);
        thread::sleep(Duration::from_millis(5));
    }
    served
        .host
        .run("g release end shutdown", &domain(""))
        .expect(0, "", "fallback\n", 0);
}
