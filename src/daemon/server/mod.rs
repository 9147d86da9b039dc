//! Server on `/run/virtfit/virtfitd.sock`: answers libvirt's hooks and people's questions, in the
//! language of [`virtfit_hook::wire`].
//!
//! Rules:
//! - Nothing here calls libvirt or waits for a thread that does: libvirt waits for these answers
//!   with locks held.
//! - Each connection has a thread. At most 128 connections are served at once, at most 8 of them
//!   for peers that are not root; further ones are closed at once, so that the hook decides by
//!   itself.
//! - The peer's user is checked before anything is read. For a peer that is not root, nothing is
//!   read of a hook's question; of other questions at most `READERS_WORDS` of words. Questions that
//!   no hook asks have no body. Such peers cost the daemon at most 8 times `READERS_WORDS`.
//! - A peer that has not asked within a second is dropped, also one that sends byte by byte. A peer
//!   whose question makes a thread panic gets no answer; the daemon goes on.
//! - Hooks' questions are taken from root alone; every peer that may connect may ask the others.

mod pool;
mod socket_file;

use std::collections::BTreeMap;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::daemon::in_flight::{Inflight, Phase};
use crate::daemon::socket;
pub(crate) use crate::daemon::socket::ServerError;
use crate::daemon::tasks::WorkerEvent;
use crate::domain::parse::uuid_in;
use crate::hook_events::{Answer, Call};
use crate::host::libvirt_process::Parent;
use crate::hostfs::HostFs;
use crate::logging::deferred;
use crate::panics::guarded;
use crate::xml::Document;
use pool::{Pool, Shared};
use socket_file::{SocketFile, Woken};
use virtfit_hook::operation::HookAction;
use virtfit_hook::wire::{Announced, Kind, Question, Reply, Timed};

/// Longest words of a question by a peer that is not root, in bytes: enough for the names of a
/// question and of a guest.
const READERS_WORDS: usize = 4 << 10;
/// Longest time for a peer to send its question.
const SILENCE: Duration = Duration::from_secs(1);
/// Longest time for a decision on a hook's question. The hook waits 300 ms from its own start.
const DECIDE: Duration = Duration::from_millis(280);
/// Longest time for a peer to read its answer.
const READ: Duration = Duration::from_secs(1);
/// Longest wait for the end of a hook once it has its answer.
const END: Duration = Duration::from_secs(2);
/// Longest time for attempts to make the socket's file again.
const AGAIN: Duration = Duration::from_secs(1);

/// Reason why a hook gets no answer.
#[derive(Debug, thiserror::Error)]
pub enum Unanswered {
    /// Number of starts, this one included, that wait for an earlier one until its deadline.
    #[error("{0} other starts came before it")]
    Queue(usize),
    /// No decision was made by the deadline, for the reason in this text.
    #[error("{0}")]
    Late(String),
}

/// Decision maker for hooks' questions.
pub trait HookAnswerer: Send + Sync {
    /// Decides on the answer to a hook by `deadline`, without calling libvirt.
    ///
    /// # Errors
    /// A reason why there is no answer: the hook then decides by itself.
    fn answer(&self, call: &Call, deadline: Instant) -> Result<Answer, Unanswered>;

    /// Does the work that can wait until the answer is given.
    fn afterwards(&self, _call: &Call) {}
}

/// Process at the other end of a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Peer {
    /// User id of the peer at the time it connected.
    pub uid: u32,
    /// Process id of the peer; another process may have this number by now.
    pub pid: i32,
}

impl Peer {
    /// Returns whether the peer is root, or the user the daemon runs as (which is root on a host).
    fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw()
    }
}

/// Handler of one kind of question that does not come from a hook: gets the words after the
/// question's name; the reply's stdout is the answer. A question changes nothing and reveals no
/// secrets, as every peer that may connect may ask: root and the group `libvirt`. A handler never
/// calls libvirt and does not wait for a thread that does.
pub(crate) type Handler = Box<dyn Fn(&[Vec<u8>]) -> Reply + Send + Sync>;

/// Function that passes an event on to the worker; must not wait.
type Tell = Box<dyn Fn(WorkerEvent) + Send + Sync>;

/// Answers that the server can give.
pub struct Services {
    /// Decision maker for hooks' questions.
    pub hooks: Box<dyn HookAnswerer>,
    /// Guests in flight: marked by the server, checked by the thread that calls libvirt.
    pub inflight: Arc<Inflight>,
    /// Way to the worker for hooks that ended.
    pub tell: Tell,
    questions: BTreeMap<String, Handler>,
}

impl Services {
    /// Creates services without questions.
    pub fn new(hooks: Box<dyn HookAnswerer>, inflight: Arc<Inflight>, tell: Tell) -> Self {
        Self {
            hooks,
            inflight,
            tell,
            questions: BTreeMap::new(),
        }
    }

    /// Registers the answer to the question `name` (`ledger`, `status`, `definition`).
    pub(crate) fn on(&mut self, name: &str, handler: Handler) {
        self.questions.insert(name.to_string(), handler);
    }
}

/// Socket that listens; until [`Server::run`], peers wait for their answers.
#[derive(Debug)]
pub struct Server {
    root: HostFs,
    listener: UnixListener,
    file: SocketFile,
    wake: (UnixStream, UnixStream),
}

/// Handle that ends a running server.
#[derive(Debug)]
pub struct Stopper(UnixStream);

impl Stopper {
    /// Makes [`Server::run`] return; open connections are still answered by their threads.
    pub fn stop(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Server {
    /// Listens at [`SOCKET`](virtfit_hook::wire::SOCKET) below `root`: makes the folder, removes a
    /// dead daemon's socket.
    ///
    /// # Errors
    /// Another daemon answers at the socket, or the kernel refuses.
    pub fn listen(root: &HostFs) -> Result<Self, ServerError> {
        let (listener, path) = socket::listen(root)?;
        let file = SocketFile::of(&path);
        let wake = UnixStream::pair().map_err(|error| ServerError::Io { path, error })?;
        Ok(Self {
            root: root.clone(),
            listener,
            file,
            wake,
        })
    }

    /// Returns a handle for another thread to end [`Server::run`].
    ///
    /// # Errors
    /// The process has no more file descriptors.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.wake.1.try_clone().map(Stopper)
    }

    /// Answers until it is stopped. All its threads sleep while there are no peers. A socket whose
    /// file was removed is made again: no peer could connect to it any more.
    ///
    /// # Errors
    /// The file of the socket was removed and cannot be made again, or another daemon has its place
    /// now.
    pub fn run(self, services: Services) -> Result<(), ServerError> {
        let Self {
            root,
            listener,
            mut file,
            wake,
        } = self;
        let shared = Shared::new(services);
        let mut pool = Pool::open(listener, &shared);
        let mut ended = Ok(());
        while file.wait(&wake.0) == Woken::Gone {
            match listen_again(&root) {
                Ok((listener, path)) => {
                    log::warn!(
                        "{}: was removed while the daemon runs: made again",
                        path.display()
                    );
                    file = SocketFile::of(&path);
                    pool.close();
                    pool = Pool::open(listener, &shared);
                }
                Err(error) => {
                    ended = Err(error);
                    break;
                }
            }
        }
        // No connection can come any more; peers in the backlog see at once that they get no
        // answer.
        pool.close();
        file.remove();
        ended
    }
}

/// Listens again, with several attempts: the program that removed the file may be removing the
/// folder.
fn listen_again(root: &HostFs) -> Result<(UnixListener, PathBuf), ServerError> {
    let until = Instant::now() + AGAIN;
    loop {
        match socket::listen(root) {
            Err(ServerError::Io { .. }) if Instant::now() < until => std::thread::sleep(AGAIN / 10),
            done => return done,
        }
    }
}

/// Serves one connection.
fn serve(stream: &UnixStream, services: &Services, peer: Peer) {
    let began = Instant::now();
    let served = (|| {
        let from = Timed::new(stream, began + SILENCE);
        let question = read(&mut BufReader::with_capacity(16 << 10, from), peer)?;
        match question.kind {
            Kind::Hook => hook(stream, services, peer, question),
            Kind::Ask => write(stream, &ask(services, &question)),
        }
    })();
    if let Err(error) = served {
        // The peer connected only to see whether the daemon is there, or does not wait for the
        // answer.
        log::debug!("a connection ended early: {error}");
    }
}

/// Reads a question, as far as this peer may ask it.
fn read(from: &mut impl BufRead, peer: Peer) -> io::Result<Question> {
    let no = |what| Err(io::Error::new(ErrorKind::PermissionDenied, what));
    let announced = Announced::read(from)?;
    if !peer.is_trusted() {
        if announced.kind == Kind::Hook {
            return no("a hook that is not root's");
        }
        if announced.words > READERS_WORDS {
            return no("words that are too long");
        }
    }
    let words = announced.words(from)?;
    if announced.kind == Kind::Ask && announced.body > 0 {
        return no("a body that a question does not have");
    }
    announced.rest(words, from)
}

fn write(stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    reply.write(&mut Timed::new(stream, Instant::now() + READ))
}

/// Answers a question that does not come from a hook.
fn ask(services: &Services, question: &Question) -> Reply {
    let no = |exit, line: String| Reply {
        exit,
        stdout: Vec::new(),
        stderr: format!("{line}\n").into_bytes(),
    };
    let Some((name, words)) = question.words.split_first() else {
        return no(2, "nothing was asked".into());
    };
    let name = String::from_utf8_lossy(name);
    match services.questions.get(&*name) {
        None => no(
            2,
            format!("virtfitd does not know the question '{}'", name.escape_debug()),
        ),
        Some(handler) => guarded(|| handler(words)).unwrap_or_else(|bug| no(1, bug.to_string())),
    }
}

/// Answers a hook: marks its guest, decides, answers; then waits for the hook's end and passes it
/// on to the worker.
fn hook(stream: &UnixStream, services: &Services, peer: Peer, question: Question) -> io::Result<()> {
    let deadline = Instant::now() + DECIDE;
    if !peer.is_trusted() {
        return Err(io::Error::new(
            ErrorKind::PermissionDenied,
            "a hook that is not root's",
        ));
    }
    let Some(call) = call(question) else {
        return Err(io::Error::new(
            ErrorKind::InvalidData,
            "a hook's question without its words",
        ));
    };
    // The mark comes first: from here on the worker makes no call for the guest. Log lines wait
    // until the hook has its answer.
    let passing = Passing::of(&call, services);
    let held = deferred::hold();
    let began = Instant::now();
    let decided = services.hooks.answer(&call, deadline);
    let took = began.elapsed().as_secs_f64() * 1e3;
    log::debug!(
        "{}: {} {}: decided in {took:.1} ms",
        call.guest,
        call.operation,
        call.suboperation
    );
    // A hook without an answer decides by itself.
    let answered = match decided {
        Ok(answer) => write(stream, &reply(answer)),
        Err(why) => {
            log::warn!("{}: {}: left to the hook: {why}", call.guest, call.operation);
            // Only one direction is closed: the hook sees at once that there is no answer, and its
            // end is still seen here.
            stream.shutdown(std::net::Shutdown::Write)
        }
    };
    // The hook no longer waits: log lines, cleaning up, and then its end.
    drop(held);
    services.hooks.afterwards(&call);
    if let Some(passing) = passing {
        wait_for_end(stream);
        passing.over(&call);
    }
    answered
}

/// State from a hook's question to its end: the mark of a guest in flight, and the event that
/// follows.
struct Passing<'a> {
    services: &'a Services,
    task: fn(String, String) -> WorkerEvent,
    /// The guest is no longer in flight once the hook has ended.
    ends: bool,
}

impl<'a> Passing<'a> {
    /// Marks the guest as in flight; `None` for operations that mean nothing to virtfit.
    fn of(call: &Call, services: &'a Services) -> Option<Self> {
        type Make = fn(String, String) -> WorkerEvent;
        let (phase, task): (Phase, Make) = match call.action() {
            HookAction::Prepare => (Phase::Starting, |_, name| WorkerEvent::Prepared { name }),
            HookAction::Filter => (Phase::Incoming, |_, name| WorkerEvent::Incoming { name }),
            HookAction::Started => (Phase::Ending, |uuid, name| WorkerEvent::Started { uuid, name }),
            HookAction::Release => (Phase::Ending, |uuid, name| WorkerEvent::Released { uuid, name }),
            HookAction::Reconnect => (Phase::Ending, |uuid, name| WorkerEvent::Reconnected {
                uuid,
                name,
            }),
            HookAction::Nothing => return None,
        };
        services.inflight.begin(&call.guest, phase, &call.parent);
        Some(Self {
            services,
            task,
            ends: phase == Phase::Ending,
        })
    }

    fn over(self, call: &Call) {
        if self.ends {
            self.services.inflight.end(&call.guest);
        }
        let document = Document::parse(&call.xml).ok();
        let uuid = document.as_ref().and_then(uuid_in).unwrap_or_default();
        (self.services.tell)((self.task)(uuid, call.guest.clone()));
    }
}

/// Waits until the peer closes the connection, or the time is over.
fn wait_for_end(stream: &UnixStream) {
    let mut timed = Timed::new(stream, Instant::now() + END);
    let mut nothing = [0; 64];
    while let Ok(1..) = timed.read(&mut nothing) {}
}

/// Turns a hook's question into a call. XML that is not UTF-8 is not libvirt's and cannot be
/// decided on.
fn call(question: Question) -> Option<Call> {
    let word = |at: usize| {
        let word = question.words.get(at)?;
        Some(String::from_utf8_lossy(word).into_owned())
    };
    Some(Call {
        guest: word(0)?,
        operation: word(1)?,
        suboperation: word(2)?,
        extra: word(3)?,
        parent: Parent::new(word(4)?.parse().ok()?),
        xml: String::from_utf8(question.body).ok()?,
    })
}

fn reply(answer: Answer) -> Reply {
    let mut stderr = answer.stderr.join("\n");
    if !stderr.is_empty() {
        stderr.push('\n');
    }
    Reply {
        exit: answer.exit,
        stdout: answer.stdout.into_bytes(),
        stderr: stderr.into_bytes(),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests;
