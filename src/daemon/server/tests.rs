use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::sync::mpsc::{self, Receiver};

use super::pool::MOST;
use super::*;

/// Decision maker that answers by the guest's name.
struct ByName;

impl HookAnswerer for ByName {
    fn answer(&self, call: &Call, _: Instant) -> Result<Answer, Unanswered> {
        match call.guest.as_str() {
            "panics" => panic!("as asked"),
            "fails" => Err(Unanswered::Late("as asked".into())),
            name => Ok(Answer {
                stdout: call.xml.clone(),
                stderr: vec![
                    format!("{name} {} {}", call.operation, call.parent.pid()),
                    "two".into(),
                ],
                exit: 3,
            }),
        }
    }
}

/// Server on a root of its own.
struct Running {
    dir: tempfile::TempDir,
    tasks: Receiver<WorkerEvent>,
    inflight: Arc<Inflight>,
    stopper: Stopper,
    thread: Option<std::thread::JoinHandle<Result<(), ServerError>>>,
}

impl Running {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let root = HostFs::new(dir.path());
        let server = Server::listen(&root).unwrap();
        let inflight = Arc::new(Inflight::new(root));
        let (sender, tasks) = mpsc::channel();
        let mut services = Services::new(
            Box::new(ByName),
            Arc::clone(&inflight),
            Box::new(move |task| sender.send(task).unwrap()),
        );
        let echo = |words: &[Vec<u8>]| Reply {
            stdout: words.concat(),
            ..Reply::default()
        };
        services.on("echo", Box::new(echo));
        let stopper = server.stopper().unwrap();
        let thread = Some(std::thread::spawn(move || server.run(services)));
        Self {
            dir,
            tasks,
            inflight,
            stopper,
            thread,
        }
    }

    fn socket(&self) -> PathBuf {
        self.dir.path().join("run/virtfit/virtfitd.sock")
    }

    fn connect(&self) -> UnixStream {
        let stream = UnixStream::connect(self.socket()).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        stream
    }

    /// Sends a question and reads the answer. The connection stays open until it is dropped.
    fn ask(&self, kind: Kind, words: &[&str], body: &str) -> (UnixStream, io::Result<Reply>) {
        let mut stream = self.connect();
        let question = Question {
            kind,
            words: words.iter().map(|word| word.as_bytes().to_vec()).collect(),
            body: body.as_bytes().to_vec(),
        };
        question.write(&mut stream).unwrap();
        let reply = Reply::read(&mut BufReader::new(&stream));
        (stream, reply)
    }

    fn hook(&self, guest: &str, operation: &str, suboperation: &str) -> (UnixStream, io::Result<Reply>) {
        self.ask(Kind::Hook, &[guest, operation, suboperation, "-", "42"], XML)
    }

    fn task(&self) -> WorkerEvent {
        self.tasks.recv_timeout(Duration::from_secs(10)).unwrap()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.stopper.stop();
        self.thread.take().unwrap().join().unwrap().unwrap();
    }
}

const UUID: &str = "8c1f6f0e-0000-4000-8000-00000000000a";
const XML: &str = "<domain><name>db</name><uuid>8C1F6F0E-0000-4000-8000-00000000000A</uuid></domain>";

#[test]
fn a_hook_is_answered_and_its_end_is_told() {
    let running = Running::new();
    let (stream, reply) = running.hook("db", "prepare", "begin");
    let reply = reply.unwrap();
    assert_eq!((reply.exit, reply.stdout.as_slice()), (3, XML.as_bytes()));
    assert_eq!(reply.stderr, b"db prepare 42\ntwo\n");
    assert!(running.inflight.contains("db"));
    let early = running.tasks.recv_timeout(Duration::from_millis(50));
    assert!(early.is_err(), "the hook has not ended: {early:?}");
    drop(stream);
    assert_eq!(running.task(), WorkerEvent::Prepared { name: "db".into() });
    assert!(running.inflight.contains("db"), "libvirt starts it now");
}

#[test]
fn what_follows_each_operation() {
    let running = Running::new();
    type Make = fn(String, String) -> WorkerEvent;
    // Each operation, the event it causes, and whether the guest is in flight after the hook's end.
    let rows: [(&str, &str, Option<Make>, bool); 8] = [
        (
            "prepare",
            "begin",
            Some(|_, name| WorkerEvent::Prepared { name }),
            true,
        ),
        (
            "started",
            "begin",
            Some(|uuid, name| WorkerEvent::Started { uuid, name }),
            false,
        ),
        (
            "migrate",
            "begin",
            Some(|_, name| WorkerEvent::Incoming { name }),
            true,
        ),
        (
            "restore",
            "begin",
            Some(|_, name| WorkerEvent::Incoming { name }),
            true,
        ),
        (
            "release",
            "end",
            Some(|uuid, name| WorkerEvent::Released { uuid, name }),
            false,
        ),
        ("start", "begin", None, false),
        (
            "reconnect",
            "begin",
            Some(|uuid, name| WorkerEvent::Reconnected { uuid, name }),
            false,
        ),
        ("levitate", "begin", None, false),
    ];
    // The mark and the event are checked while the hook is connected and after it has closed.
    for (operation, suboperation, task, flies) in rows {
        let (stream, reply) = running.hook("db", operation, suboperation);
        reply.unwrap_or_else(|error| panic!("{operation}: {error}"));
        let marked = running.inflight.contains("db");
        assert_eq!(marked, task.is_some(), "{operation}, during it");
        drop(stream);
        if let Some(task) = task {
            assert_eq!(running.task(), task(UUID.into(), "db".into()), "{operation}");
        }
        assert_eq!(running.inflight.contains("db"), flies, "{operation}, after it");
    }
}

#[test]
fn what_gets_no_answer_is_followed_by_its_task_all_the_same() {
    let running = Running::new();
    let started = Instant::now();
    let (stream, reply) = running.hook("fails", "prepare", "begin");
    assert_eq!(reply.unwrap_err().kind(), ErrorKind::UnexpectedEof);
    assert!(started.elapsed() < Duration::from_millis(500), "told at once");
    assert!(
        running.tasks.try_recv().is_err(),
        "the hook decides by itself now"
    );
    drop(stream);
    assert!(matches!(running.task(), WorkerEvent::Prepared { .. }));
}

#[test]
fn a_panic_ends_one_connection() {
    let running = Running::new();
    let (_stream, reply) = running.hook("panics", "prepare", "begin");
    assert!(reply.is_err());
    let (_stream, reply) = running.hook("db", "prepare", "begin");
    assert_eq!(reply.unwrap().exit, 3);
}

#[test]
fn questions_have_their_answers() {
    let running = Running::new();
    let reply = running.ask(Kind::Ask, &["echo", "a", "b"], "").1.unwrap();
    assert_eq!((reply.exit, reply.stdout), (0, b"ab".to_vec()));
    // A question with a body is not read to its end.
    assert!(running.ask(Kind::Ask, &["echo"], "body").1.is_err());
    for words in [&["no\nsuch"][..], &[]] {
        let reply = running.ask(Kind::Ask, words, "").1.unwrap();
        assert_eq!(reply.exit, 2, "{words:?}");
        let lines = reply.stderr.iter().filter(|byte| **byte == b'\n').count();
        assert_eq!(lines, 1, "{words:?}");
    }
}

#[test]
fn garbage_and_silence_are_dropped() {
    let running = Running::new();
    for bytes in [
        &b"GET / HTTP/1.1\r\n\r\n"[..],
        b"virtfit 1 hook 4 0\na\0b\0",
        b"virtfit 1 hook 2 9\n",
        b"",
    ] {
        let shown = String::from_utf8_lossy(bytes);
        let mut stream = running.connect();
        let started = Instant::now();
        stream.write_all(bytes).unwrap();
        let mut answer = Vec::new();
        // Reset rather than closed where the server did not read everything.
        let _ = stream.read_to_end(&mut answer);
        assert!(answer.is_empty(), "{shown:?}");
        assert!(started.elapsed() < Duration::from_secs(5), "{shown:?}");
    }
    assert!(running.tasks.try_recv().is_err());
}

#[test]
fn too_many_at_once_are_closed_at_once() {
    let running = Running::new();
    let silent: Vec<UnixStream> = (0..MOST).map(|_| running.connect()).collect();
    let started = Instant::now();
    assert_eq!(running.connect().read(&mut [0]).unwrap(), 0);
    assert!(started.elapsed() < SILENCE, "not by the silence of the others");
    drop(silent);
    let until = Instant::now() + Duration::from_secs(10);
    while running.hook("db", "prepare", "begin").1.is_err() {
        assert!(Instant::now() < until, "places are not given back");
        std::thread::sleep(Duration::from_millis(10));
    }
}

#[test]
fn a_second_daemon_says_so_and_a_dead_ones_socket_is_taken() {
    let running = Running::new();
    let error = Server::listen(&HostFs::new(running.dir.path())).unwrap_err();
    assert!(matches!(error, ServerError::Taken(_)), "{error}");
    let (_stream, reply) = running.hook("db", "prepare", "begin");
    assert_eq!(reply.unwrap().exit, 3, "the first one is unharmed");

    let dir = tempfile::tempdir().unwrap();
    let root = HostFs::new(dir.path());
    drop(Server::listen(&root).unwrap());
    assert!(
        dir.path().join("run/virtfit/virtfitd.sock").exists(),
        "left behind"
    );
    Server::listen(&root).unwrap();

    let dir = tempfile::tempdir().unwrap();
    fs::create_dir_all(dir.path().join("run/virtfit/virtfitd.sock")).unwrap();
    let error = Server::listen(&HostFs::new(dir.path())).unwrap_err().to_string();
    assert!(
        error.contains("virtfitd.sock: cannot listen: there is something else"),
        "{error}"
    );
}

#[test]
fn the_socket_is_for_root_and_one_group_and_goes_with_the_server() {
    let running = Running::new();
    let mode = |path: &Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&running.dir.path().join("run/virtfit")), 0o755);
    let expected = if socket::group().is_some() { 0o660 } else { 0o600 };
    assert_eq!(mode(&running.socket()), expected);
    running.stopper.stop();
    let until = Instant::now() + Duration::from_secs(10);
    while running.socket().exists() {
        assert!(Instant::now() < until);
        std::thread::sleep(Duration::from_millis(5));
    }
}
