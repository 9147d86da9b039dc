//! Answers on `/run/virtfit/virtfitd.sock`: libvirt's hooks, and what people ask. `wire` is the
//! language.
//!
//! Rules:
//! - Nothing here calls libvirt or waits for a thread that does: libvirt waits for these answers
//!   with locks held.
//! - A thread a connection, at most 128 of them, and at most 8 of those for who is not root;
//!   further ones are closed at once, so that the hook decides by itself.
//! - Who asks is looked at before anything is read. Nothing is read of a question that this peer
//!   may not ask, nor of a body that is larger than the question has: who may only look costs the
//!   daemon 8 times [`READERS_WORDS`] at most.
//! - A peer that has not asked within a second is dropped, also one that sends byte by byte. One
//!   that panics a thread gets no answer; the daemon goes on.
//! - Hooks are taken from root alone; questions by what each of them says.

use std::collections::BTreeMap;
use std::fs;
use std::io::{self, BufRead, BufReader, ErrorKind, Read};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use log::Level;
use nix::sys::socket::{Shutdown, getsockopt, shutdown, sockopt::PeerCredentials};

use crate::daemon::in_flight::{Inflight, Phase};
use crate::daemon::socket;
pub use crate::daemon::socket::ServerError;
use crate::daemon::tasks::WorkerEvent;
use crate::hook_events::{Answer, Call};
use crate::host::libvirt_process::Parent;
use crate::hostfs::HostFs;
use crate::logging::deferred;
use crate::logging::repeats::Repeats;
use crate::panics::guarded;
use crate::xml::Document;
use virtfit_hook::operation::HookAction;
use virtfit_hook::wire::{Announced, Kind, Question, Reply, Timed};

/// The most connections at once. libvirt runs 20 hooks at once by default (`max_workers`), and as
/// many again for who has priority.
const MOST: usize = 128;
/// The most connections at once of peers that are not root.
const MOST_READERS: usize = 8;
/// The longest words of a question by a peer that is not root, in bytes: a question's name and a
/// guest's.
const READERS_WORDS: usize = 4 << 10;
/// How many threads wait for connections when there are none.
const READY: usize = 2;
/// How long a peer may be silent before it has asked.
const SILENCE: Duration = Duration::from_secs(1);
/// How long a hook's question may take to decide. The hook waits 300 ms from its own start.
const DECIDE: Duration = Duration::from_millis(280);
/// How long a peer may take to read its answer.
const READ: Duration = Duration::from_secs(1);
/// How long the end of a hook is waited for once it has its answer.
const END: Duration = Duration::from_secs(2);
/// Stack of a connection's thread, in bytes: as much as a main thread has. Only what is used takes
/// memory.
const STACK: usize = 8 << 20;

/// What whoever may connect can bring about as often as he likes.
static NO_THREAD: Repeats = Repeats::new();
static NO_CONNECTION: Repeats = Repeats::new();
static BUG: Repeats = Repeats::new();
static TOO_MANY: Repeats = Repeats::new();
static TOO_MANY_READERS: Repeats = Repeats::new();

/// Decides what a hook is answered.
pub trait HookAnswerer: Send + Sync {
    /// Decides by `deadline`. Never calls libvirt.
    ///
    /// # Errors
    /// Why there is no answer: the hook then decides by itself.
    fn answer(&self, call: &Call, deadline: Instant) -> Result<Answer, String>;

    /// What has time until the answer is given.
    fn afterwards(&self, _call: &Call) {}
}

/// Who asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Peer {
    /// Its user, at the time it connected.
    pub uid: u32,
    /// Its process; another one may have this number by now.
    pub pid: i32,
}

impl Peer {
    /// HostFs, or whoever the daemon runs as (which is root on a host).
    pub fn is_trusted(&self) -> bool {
        self.uid == 0 || self.uid == nix::unistd::geteuid().as_raw()
    }
}

/// A question that is no hook's.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Who asks.
    pub peer: Peer,
    /// The words after the question's own.
    pub words: &'a [Vec<u8>],
    /// What the question says of its body.
    pub body: &'a [u8],
}

/// Answers one kind of question; the reply's stdout is the answer. Never calls libvirt and does not
/// wait for those who do.
pub type Handler = Box<dyn Fn(&Asked<'_>) -> Reply + Send + Sync>;

/// Takes a task, for another thread to do.
pub type Tell = Box<dyn Fn(WorkerEvent) + Send + Sync>;

/// Who may ask.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rights {
    /// Everybody who may connect: root and the group `libvirt`. For questions that change nothing
    /// and tell no secrets.
    Readers,
    /// HostFs.
    Root,
}

/// A question that is known.
struct Known {
    rights: Rights,
    /// Longest body, in bytes.
    most: usize,
    handler: Handler,
}

/// What the server knows to answer.
pub struct Services {
    /// Hooks.
    pub hooks: Box<dyn HookAnswerer>,
    /// Guests in flight: marked here, asked for by whoever calls libvirt.
    pub inflight: Arc<Inflight>,
    /// Told what happened; must not wait.
    pub tell: Tell,
    questions: BTreeMap<String, Known>,
}

impl Services {
    /// Without questions yet.
    pub fn new(hooks: Box<dyn HookAnswerer>, inflight: Arc<Inflight>, tell: Tell) -> Self {
        Self {
            hooks,
            inflight,
            tell,
            questions: BTreeMap::new(),
        }
    }

    /// Answers the question `name` (`ledger`, `status`, `definition`), which has no body, from now
    /// on.
    pub fn on(&mut self, name: &str, rights: Rights, handler: Handler) {
        self.on_body(name, rights, 0, handler);
    }

    /// Answers a question that has a body of at most `most` bytes from now on.
    pub fn on_body(&mut self, name: &str, rights: Rights, most: usize, handler: Handler) {
        let known = Known {
            rights,
            most,
            handler,
        };
        self.questions.insert(name.to_string(), known);
    }

    /// `true` if this peer may ask a question with a body of so many bytes.
    fn takes_body(&self, name: &str, bytes: usize, peer: Peer) -> bool {
        self.questions.get(name).is_some_and(|known| {
            bytes <= known.most && (known.rights == Rights::Readers || peer.is_trusted())
        })
    }
}

/// A socket that is listened on, and not answered yet: peers wait.
#[derive(Debug)]
pub struct Server {
    listener: UnixListener,
    path: PathBuf,
    wake: (UnixStream, UnixStream),
}

/// Ends a server that runs.
#[derive(Debug)]
pub struct Stopper(UnixStream);

impl Stopper {
    /// It takes no more connections and returns; those it has are answered by their threads.
    pub fn stop(&self) {
        let _ = self.0.shutdown(std::net::Shutdown::Both);
    }
}

impl Server {
    /// Listens at [`SOCKET`](virtfit_hook::wire::SOCKET) below `root`: makes the folder, takes a
    /// dead daemon's socket away.
    ///
    /// # Errors
    /// A living daemon has it, or the kernel says no.
    pub fn listen(root: &HostFs) -> Result<Self, ServerError> {
        let (listener, path) = socket::listen(root)?;
        let wake = UnixStream::pair().map_err(|error| ServerError::Io {
            path: path.clone(),
            error,
        })?;
        Ok(Self { listener, path, wake })
    }

    /// What ends [`Server::run`], for another thread.
    ///
    /// # Errors
    /// No more file descriptors.
    pub fn stopper(&self) -> io::Result<Stopper> {
        self.wake.1.try_clone().map(Stopper)
    }

    /// Answers until it is stopped. Without peers all its threads sleep.
    pub fn run(self, services: Services) {
        let pool = Arc::new(Pool {
            listener: self.listener,
            services,
            waiting: AtomicUsize::new(0),
            busy: AtomicUsize::new(0),
            readers: AtomicUsize::new(0),
        });
        for _ in 0..READY {
            pool.spawn();
        }
        while let Err(ErrorKind::Interrupted) = (&self.wake.0).read(&mut [0]).map_err(|error| error.kind()) {}
        // All who wait in accept(2) return: there is nothing to take any more.
        let _ = shutdown(pool.listener.as_raw_fd(), Shutdown::Both);
        // Whoever is in the backlog sees at once that nobody answers.
        let _ = fs::remove_file(&self.path);
    }
}

/// The threads that take connections. Each takes one and answers it by itself: a hook waits for no
/// handing over, nor mostly for a thread to be made.
struct Pool {
    listener: UnixListener,
    services: Services,
    /// Threads that wait for a connection.
    waiting: AtomicUsize,
    /// Threads that answer one.
    busy: AtomicUsize,
    /// Of these, those that answer a peer that is not root.
    readers: AtomicUsize,
}

/// One more in a number, as long as this lives.
struct Counted<'n> {
    number: &'n AtomicUsize,
    before: usize,
}

impl<'n> Counted<'n> {
    fn one_more(number: &'n AtomicUsize) -> Self {
        let before = number.fetch_add(1, Ordering::SeqCst);
        Self { number, before }
    }
}

impl Drop for Counted<'_> {
    fn drop(&mut self) {
        self.number.fetch_sub(1, Ordering::SeqCst);
    }
}

impl Pool {
    /// Serves a connection, if it is root's or few others are.
    fn admit(&self, stream: &UnixStream) {
        let credentials = match getsockopt(stream, PeerCredentials) {
            Ok(credentials) => credentials,
            Err(error) => return log::debug!("a connection without a peer: {error}"),
        };
        let peer = Peer {
            uid: credentials.uid(),
            pid: credentials.pid(),
        };
        if peer.is_trusted() {
            return serve(stream, &self.services, peer);
        }
        // Counted down by dropping it, also after a panic.
        let reader = Counted::one_more(&self.readers);
        if reader.before < MOST_READERS {
            serve(stream, &self.services, peer);
        } else {
            let line = format!(
                "more than {MOST_READERS} connections at once that are not root's: one is closed unread"
            );
            TOO_MANY_READERS.say(Level::Warn, &line);
        }
    }

    /// One thread more.
    fn spawn(self: &Arc<Self>) {
        let pool = Arc::clone(self);
        // From now on, so that two who take connections at once do not both make one.
        self.waiting.fetch_add(1, Ordering::SeqCst);
        let builder = std::thread::Builder::new()
            .name("answer".into())
            .stack_size(STACK);
        if let Err(error) = builder.spawn(move || pool.take_and_answer()) {
            self.waiting.fetch_sub(1, Ordering::SeqCst);
            NO_THREAD.say(
                Level::Warn,
                &format!("cannot start a thread to answer hooks: {error}"),
            );
        }
    }

    /// What a thread does: until the server is stopped, or enough others wait. It is counted as
    /// waiting when it begins.
    fn take_and_answer(self: Arc<Self>) {
        loop {
            let taken = self.listener.accept();
            if let Err(error) = &taken {
                match error.kind() {
                    ErrorKind::Interrupted | ErrorKind::ConnectionAborted => continue,
                    // The socket was shut down: see `run`.
                    ErrorKind::InvalidInput => return,
                    _ => {
                        // Out of descriptors or memory: what is connected ends soon and gives some
                        // back.
                        NO_CONNECTION.say(Level::Warn, &format!("cannot take a connection: {error}"));
                        std::thread::sleep(Duration::from_millis(20));
                        continue;
                    }
                }
            }
            let busy = self.busy.fetch_add(1, Ordering::SeqCst);
            if self.waiting.fetch_sub(1, Ordering::SeqCst) == 1 {
                self.spawn();
            }
            match taken {
                Ok((stream, _)) if busy < MOST => {
                    if let Err(bug) = guarded(|| self.admit(&stream)) {
                        BUG.say(Level::Error, &format!("a connection got no answer: {bug}"));
                    }
                }
                _ => {
                    let line =
                        format!("more than {MOST} connections at once: one is closed without an answer");
                    TOO_MANY.say(Level::Warn, &line);
                }
            }
            self.busy.fetch_sub(1, Ordering::SeqCst);
            if self.waiting.fetch_add(1, Ordering::SeqCst) >= READY {
                self.waiting.fetch_sub(1, Ordering::SeqCst);
                return;
            }
        }
    }
}

/// One connection.
fn serve(stream: &UnixStream, services: &Services, peer: Peer) {
    let began = Instant::now();
    let served = (|| {
        let from = Timed::new(stream, began + SILENCE);
        let question = read(&mut BufReader::with_capacity(16 << 10, from), services, peer)?;
        match question.kind {
            Kind::Hook => hook(stream, services, peer, question),
            Kind::Ask => write(stream, &ask(services, peer, &question)),
        }
    })();
    if let Err(error) = served {
        // Somebody connected to see whether the daemon is there, or does not wait for the answer.
        log::debug!("a connection ended early: {error}");
    }
}

/// Reads a question, as far as this peer may ask it.
fn read(from: &mut impl BufRead, services: &Services, peer: Peer) -> io::Result<Question> {
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
    // A question that is not known and has no body gets an answer that says so.
    if announced.kind == Kind::Ask && announced.body > 0 {
        let name = words.first().map(|name| String::from_utf8_lossy(name));
        if name.is_none_or(|name| !services.takes_body(&name, announced.body, peer)) {
            return no("a body that this question does not have");
        }
    }
    announced.rest(words, from)
}

fn write(stream: &UnixStream, reply: &Reply) -> io::Result<()> {
    reply.write(&mut Timed::new(stream, Instant::now() + READ))
}

/// A question that is no hook's.
fn ask(services: &Services, peer: Peer, question: &Question) -> Reply {
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
        Some(known) if known.rights == Rights::Root && !peer.is_trusted() => {
            no(1, format!("only root may ask for '{name}'"))
        }
        Some(known) => {
            let asked = Asked {
                peer,
                words,
                body: &question.body,
            };
            guarded(|| (known.handler)(&asked)).unwrap_or_else(|bug| no(1, bug.to_string()))
        }
    }
}

/// libvirt's hook: mark, decide, answer; then wait for its end and tell.
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
    let answered = match decided {
        Ok(answer) => write(stream, &reply(answer)),
        Err(why) => {
            log::warn!("{}: {}: left to the hook: {why}", call.guest, call.operation);
            // Closed one way: the hook sees at once that there is no answer, and its own end is
            // still seen here.
            stream.shutdown(std::net::Shutdown::Write)
        }
    };
    drop(held);
    services.hooks.afterwards(&call);
    if let Some(passing) = passing {
        wait_for_end(stream);
        passing.over(&call);
    }
    answered
}

/// What passes through with a hook: the mark of a guest in flight, and the task that follows.
struct Passing<'a> {
    services: &'a Services,
    task: fn(String, String) -> WorkerEvent,
    /// The guest is out of flight when the hook has ended.
    ends: bool,
}

impl<'a> Passing<'a> {
    /// Marks the guest; `None` for operations that mean nothing.
    fn of(call: &Call, services: &'a Services) -> Option<Self> {
        type Make = fn(String, String) -> WorkerEvent;
        let (phase, task): (Phase, Make) = match call.action() {
            HookAction::Prepare => (Phase::Starting, |uuid, name| WorkerEvent::Prepared { uuid, name }),
            HookAction::Filter => (Phase::Incoming, |uuid, name| WorkerEvent::Incoming { uuid, name }),
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
        (self.services.tell)((self.task)(uuid(&call.xml), call.guest.clone()));
    }
}

/// Until the peer closes the connection, or the time is over.
fn wait_for_end(stream: &UnixStream) {
    let mut timed = Timed::new(stream, Instant::now() + END);
    let mut nothing = [0; 64];
    while let Ok(1..) = timed.read(&mut nothing) {}
}

/// The UUID in a domain's XML, lower case; empty where it tells none.
fn uuid(xml: &str) -> String {
    let document = Document::parse(xml).ok();
    let found = document
        .as_ref()
        .and_then(|document| document.root().child("uuid"));
    found.map_or_else(String::new, |uuid| uuid.text().trim().to_ascii_lowercase())
}

/// A hook's question as a call. XML that is not UTF-8 is no XML of libvirt's: it cannot be decided.
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
