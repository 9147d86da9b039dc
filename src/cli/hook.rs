//! `virtfit hook GUEST OP SUBOP EXTRA`: the answer to libvirt's hook where no daemon answers, made
//! in this process.
//!
//! Rules that come before all others (`docs/design.md` sections 1 and 7):
//! - libvirt waits for the hook with a lock held and without a limit: after 900 ms this process
//!   gives up by itself.
//! - Nothing that is broken stops a guest: one line on stderr, nothing on stdout, exit 0. The one
//!   exception is a guest about to start whose own provenance says that it must not run without its
//!   placement: exit 1.
//! - A refusal is the first line on stderr: it reaches the user of `virsh start`. Exit 3.
//! - The XML may contain passwords: nothing of it is logged but names, and positions.

use std::cell::{Cell, RefCell};
use std::ffi::OsString;
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crate::cli::args::{Global, HookArgs};
use crate::cli::{Exit, Failure, Outcome, input, session};
use crate::hook_events;
use crate::hook_events::{Call, Context, Source};
use crate::host::cached::{keep, load_kept};
use crate::host::libvirt_process::Parent;
use crate::host::load;
use crate::hostfs::HostFs;
use crate::hostfs::changed_folders::Folders;
use crate::ledger::guest_xml::GuestXml;
use crate::ledger::hook_calls;
use crate::ledger::reader::at_once::AtOnce;
use crate::ledger::reader::promises::Promises;
use crate::ledger::reader::{LedgerError, Reader, Reading};
use crate::ledger::store::Store;
use crate::logging;
use crate::panics::guarded;
use crate::policy::Policy;
use crate::snapshot::{Snapshot, SnapshotError, Sources};
use crate::xml::tree::MAX_BYTES;
use virtfit_hook::operation::HookAction;
use virtfit_hook::wire;

/// Longest time a hook may take, from its start, with the time another process spent on it.
const DEADLINE: Duration = Duration::from_millis(900);
/// Time after which nothing is written: the answer must be on its way before the deadline.
const WRITE_DEADLINE: Duration = Duration::from_millis(800);
/// Time that writing the mark for `virtfit status` may take after the deadline.
const MARK: Duration = Duration::from_millis(50);

/// Longest wait of a process that keeps the host for the hooks that read it and give up.
const PATIENCE: Duration = Duration::from_secs(5);

/// Size of a main thread's stack, in bytes.
const STACK: usize = 8 << 20;

/// News from the thread that decides.
enum News {
    /// The XML was read.
    Read(Box<GuestXml>),
    /// The decision was made, or failed.
    Done(Result<hook_events::Outcome, Failure>),
}

/// Job that the words describe.
#[derive(Clone)]
struct Job {
    global: Global,
    root: HostFs,
    action: HookAction,
    /// Hook event, without the XML.
    call: Call,
    started: Instant,
    /// Set once the host is read.
    has_host: Arc<AtomicBool>,
}

/// Runs the command. `started` is the time at which the program began.
pub(crate) fn run(global: &Global, args: &HookArgs, started: Instant) -> Outcome {
    let text = |word: Option<&OsString>| word.map_or("".into(), |word| word.to_string_lossy().into_owned());
    let root = session::named_root(global).map_or_else(HostFs::default, HostFs::new);
    if root.is_real() && !nix::unistd::geteuid().is_root() {
        // A guest of an ordinary user's own libvirt (qemu:///session) is not virtfit's.
        return Outcome::default();
    }
    // Another hook started this process to keep the host for later ones: no guest is concerned.
    if args.keep_host {
        keep_host(&root);
        return Outcome::default();
    }
    let call = Call {
        guest: text(Some(&args.guest)),
        operation: text(args.operation.as_ref()),
        suboperation: text(args.suboperation.as_ref()),
        extra: text(args.extra.as_ref()),
        parent: Parent::new(args.parent.unwrap_or_else(std::os::unix::process::parent_id)),
        xml: String::new(),
    };
    let job = Job {
        action: if root.exists(wire::DISABLED) {
            HookAction::Nothing
        } else {
            call.action()
        },
        // With a topology alone there is no host to keep a ledger of.
        root: session::root(global),
        global: global.clone(),
        call,
        started: started
            .checked_sub(Duration::from_millis(args.spent.unwrap_or(0)))
            .unwrap_or(started),
        has_host: Arc::default(),
    };
    // The decision is made in a thread, so that the deadline holds whatever that thread does.
    let kept = logging::to_memory(global.verbose);
    let news = spawn(job.clone());
    let outcome = wait(&news, &job);
    let answer = outcome.answer;
    let mut outcome = Outcome {
        stdout: answer.stdout,
        stderr: answer.stderr,
        exit: match answer.exit {
            0 => Exit::Done,
            3 => Exit::No,
            _ => Exit::Broken,
        },
    };
    // stderr of a failure reaches the user of virsh: the reason alone, except for developers.
    if outcome.exit == Exit::Done || global.verbose > 0 {
        outcome.stderr.extend(kept.take());
    }
    outcome
}

/// Waits for the decision until the deadline.
fn wait(news: &Receiver<News>, job: &Job) -> hook_events::Outcome {
    let mut guest = None;
    let why = loop {
        let left = DEADLINE.saturating_sub(job.started.elapsed());
        match news.recv_timeout(left) {
            Ok(News::Read(told)) => guest = Some(*told),
            Ok(News::Done(Ok(outcome))) => return outcome,
            Ok(News::Done(Err(failure))) => break failure.message().to_string(),
            Err(_) if job.action == HookAction::Nothing => return hook_events::Outcome::default(),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                if guest.is_some() && !job.has_host.load(Ordering::SeqCst) {
                    have_host_kept(job);
                }
                break format!("no decision within {} ms", DEADLINE.as_millis());
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                break "the deciding thread ended early (a bug)".to_string();
            }
        }
    };
    give_up(job.clone(), guest, why)
}

/// Starts a process that reads the host completely and keeps it for the next hook. Nothing waits
/// for that process, and none of libvirt's pipes stays open in it.
fn have_host_kept(job: &Job) {
    if job.global.topology.is_some() || job.root.is_none() {
        return;
    }
    let Ok(own) = std::env::current_exe() else {
        return;
    };
    let mut command = Command::new(own);
    if let Some(root) = session::named_root(&job.global) {
        command.arg("--root").arg(root);
    }
    let spawned = command
        .args(["hook", "--keep-host", "-"])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .process_group(0)
        .spawn();
    if let Err(error) = spawned {
        log::debug!("the host is not kept: {error}");
    }
}

/// Reads the host and keeps it, unless another process does.
fn keep_host(root: &HostFs) {
    if let Err(error) = keep(root, Instant::now() + PATIENCE) {
        log::debug!("the host is not kept: {error}");
    }
}

/// Leaves the guest undecided. A thread writes the mark and is waited for no longer than [`MARK`].
fn give_up(job: Job, guest: Option<GuestXml>, why: String) -> hook_events::Outcome {
    let refuses = guest.as_ref().is_some_and(|guest| guest.refuses);
    let (sender, receiver) = mpsc::channel();
    let (call, line) = (job.call.clone(), why.clone());
    let spawned = thread::Builder::new().name("mark".into()).spawn(move || {
        let store = Store::new(&job.root);
        let outcome = hook_events::undecided(&job.call, guest.as_ref(), &why, &store, SystemTime::now());
        // The receiver may be gone already.
        let _ = sender.send(outcome);
    });
    let marked = spawned.ok().and_then(|_| receiver.recv_timeout(MARK).ok());
    marked.unwrap_or_else(|| {
        let guest = GuestXml {
            refuses,
            ..GuestXml::default()
        };
        let nowhere = Store::new(&HostFs::none());
        hook_events::undecided(&call, Some(&guest), &line, &nowhere, SystemTime::now())
    })
}

/// Starts the thread that reads stdin and decides. It ends with the process at the latest.
fn spawn(job: Job) -> Receiver<News> {
    let (sender, receiver) = mpsc::channel();
    let spawned = thread::Builder::new()
        .name("decide".into())
        .stack_size(STACK)
        .spawn(move || {
            let done = guarded(|| decide(&job, &sender));
            let done = done.unwrap_or_else(|bug| Err(Failure::Broken(format!("failed: {bug}"))));
            // After the deadline there is no receiver any more.
            let _ = sender.send(News::Done(done));
        });
    if let Err(error) = spawned {
        log::error!("cannot start a thread: {error}");
    }
    receiver
}

/// Reads stdin and does what the operation asks for.
fn decide(job: &Job, news: &Sender<News>) -> Result<hook_events::Outcome, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes);
    // Operations that need no XML never fail for its sake.
    let xml = match job.action {
        HookAction::Started | HookAction::Nothing => return Ok(hook_events::Outcome::default()),
        // Where the XML cannot be read the name is enough.
        HookAction::Release | HookAction::Reconnect => String::from_utf8(bytes).unwrap_or_default(),
        HookAction::Prepare | HookAction::Filter => {
            read.map_err(|error| Failure::io("stdin", &error))?;
            let in_stdin = |error| Failure::at("stdin", error);
            let text = input::text_of(bytes).map_err(in_stdin)?;
            let guest = GuestXml::parse(&text).map_err(in_stdin)?;
            // After the deadline there is no receiver any more.
            let _ = news.send(News::Read(Box::new(guest)));
            text
        }
    };
    // The answer itself is made as in the daemon, with files read afresh.
    let source = Fresh {
        place: session::place(&job.global),
        base: RefCell::default(),
        deadline: job.started + WRITE_DEADLINE,
        // Of two readings, the second only reads again what changed, by the files' stamps: watching
        // a folder of many files costs more than a second look at them, and each of many hooks that
        // watch would make the writes of all others slower.
        ledger: RefCell::default(),
        left_out: Cell::default(),
        has_host: Arc::clone(&job.has_host),
    };
    let context = Context {
        source: &source,
        store: &Store::new(&job.root),
        deadline: job.started + WRITE_DEADLINE,
        now: SystemTime::now(),
        daemon: false,
    };
    let call = Call {
        xml,
        ..job.call.clone()
    };
    let outcome = hook_events::answer(&call, &context);
    if let Err(error) = hook_calls::mark(&job.root, &call.parent, None) {
        log::debug!("no mark that the hook is called: {error}");
    }
    Ok(outcome)
}

/// Source that reads when it is first asked; later it reads again what changed in the ledger.
struct Fresh {
    place: Sources,
    /// Policy and host, with an empty ledger.
    base: RefCell<Option<Arc<Snapshot>>>,
    /// Time at which a host that is read is of no use any more.
    deadline: Instant,
    /// Contents of the ledger's files.
    ledger: RefCell<Reader>,
    /// `true` if the last reading left definitions out.
    left_out: Cell<bool>,
    /// Set once the host is read.
    has_host: Arc<AtomicBool>,
}

impl Fresh {
    fn reading(&self, now: SystemTime, policy: &Policy) -> Result<Arc<Reading>, LedgerError> {
        if self.place.root.is_none() || self.place.assume_empty {
            return Ok(Arc::default());
        }
        let ledger = &mut self.ledger.borrow_mut();
        // Definitions that an earlier reading left out would take as much time again.
        let claims = match self.left_out.get() {
            false => AtOnce::CLAIMS,
            true => AtOnce::NONE,
        };
        let root = &self.place.root;
        let reading = ledger.current(root, now, policy, claims, &mut Folders::default())?;
        self.left_out.set(!ledger.is_whole());
        Ok(reading)
    }

    /// Returns policy and host with an empty ledger, read when first asked for.
    fn base(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        if let Some(known) = self.base.borrow().clone() {
            return Ok(known);
        }
        let policy = self.place.policy_files().policy()?;
        let host = match self.place.topology.as_deref() {
            None => load_kept(&self.place.root, self.deadline)?,
            topology => load(&self.place.root, topology)?,
        };
        self.has_host.store(true, Ordering::SeqCst);
        let root = self.place.root.clone();
        let base = Arc::new(Snapshot::new(root, policy, host, Reading::default()));
        self.base.replace(Some(Arc::clone(&base)));
        Ok(base)
    }
}

impl Source for Fresh {
    fn get_ready(&self) -> Result<(), SnapshotError> {
        self.base().map(drop)
    }

    fn current(&self) -> Result<Arc<Snapshot>, SnapshotError> {
        let base = self.base()?;
        let reading = self.reading(SystemTime::now(), &base.policy)?;
        for warning in &reading.warnings {
            log::warn!("{warning}");
        }
        Ok(Arc::new(Snapshot {
            reading,
            ..Snapshot::clone(&base)
        }))
    }

    fn under_lock(&self, root: &HostFs, now: SystemTime) -> Result<Promises, LedgerError> {
        let mut ledger = self.ledger.borrow_mut();
        ledger.under_lock(root, now, &mut Folders::default())
    }
}
