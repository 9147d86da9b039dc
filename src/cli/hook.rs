//! `virtfit hook GUEST OP SUBOP EXTRA`: what libvirt's hook does when no daemon answers, in this process.
//!
//! Rules that come before all others (`design.md` sections 1 and 5):
//! - libvirt waits for the hook with a lock held and without a limit: after 900 ms this gives up by itself.
//! - What is broken never stops a guest: one line on stderr, nothing on stdout, exit 0. The one exception is a
//!   guest about to start whose own provenance says that it shall not run without its placement: exit 1.
//! - A refusal is told first on stderr, in one line: it reaches the user of `virsh start`. Exit 3.
//! - The XML may hold passwords: nothing of it is logged but names, and positions.

use std::ffi::OsString;
use std::io::Read;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::mpsc::{self, Receiver, Sender};
use std::thread;
use std::time::{Duration, Instant};

use crate::cli::args::{Global, HookArgs};
use crate::cli::input::{self, Input};
use crate::cli::operation::{Task, task};
use crate::cli::session::{self, Session};
use crate::cli::{Exit, Failure, Outcome, logger, plan};
use crate::engine::Decision;
use crate::ledger::guest::GuestXml;
use crate::plan::{Plan, Scope};
use crate::root::Root;
use crate::xml::tree::MAX_BYTES;

/// All a hook may take, from the program's start.
const DEADLINE: Duration = Duration::from_millis(900);

/// As much stack as a main thread has, in bytes.
const STACK: usize = 8 << 20;

/// What the thread that decides tells.
enum News {
    /// The XML is read; whether the guest's own provenance says refuse.
    Refuses(bool),
    /// It is decided.
    Done(Result<Outcome, Failure>),
}

/// Runs it. `started` is when the program began.
pub fn run(global: &Global, args: &HookArgs, started: Instant) -> Outcome {
    let text = |word: Option<&OsString>| word.map_or("".into(), |word| word.to_string_lossy().into_owned());
    let guest = text(Some(&args.guest));
    let operation = text(args.operation.as_ref());
    let suboperation = text(args.suboperation.as_ref());
    let root = session::named_root(global).map_or_else(Root::default, Root::new);
    if root.is_real() && !nix::unistd::geteuid().is_root() {
        // A guest of an ordinary user's own libvirt (qemu:///session): not ours.
        return Outcome::default();
    }
    let task = if root.exists("/run/virtfit/disabled") {
        Task::Nothing
    } else {
        task(&operation, &suboperation)
    };
    let kept = logger::to_memory(global.verbose);
    let news = spawn(global.clone(), task);
    let mut outcome = wait(&news, task, started).unwrap_or_else(|broken| broken.outcome(&guest, &operation));
    // A failure's stderr reaches the user of virsh: the reason alone, but for somebody who debugs.
    if outcome.exit == Exit::Done || global.verbose > 0 {
        outcome.stderr.extend(kept.take());
    }
    outcome
}

/// Why nothing was decided.
struct Broken {
    why: String,
    /// The guest's own provenance says that it shall not run without its placement, and it is about to.
    veto: bool,
}

impl Broken {
    fn outcome(&self, guest: &str, operation: &str) -> Outcome {
        let why = one_line(&self.why);
        let (text, exit) = if self.veto {
            let text =
                format!("virtfit: {guest} may not run without its placement (on_no_fit = refuse), and {why}");
            (text, Exit::Broken)
        } else {
            (
                format!("virtfit: {guest}: {operation}: nothing was changed: {why}"),
                Exit::Done,
            )
        };
        Outcome {
            stdout: String::new(),
            stderr: vec![text],
            exit,
        }
    }
}

/// Waits for the decision until the deadline.
fn wait(news: &Receiver<News>, task: Task, started: Instant) -> Result<Outcome, Broken> {
    let mut refuses = false;
    let broken = |why: String, refuses: bool| Broken {
        why,
        veto: refuses && task == Task::Prepare,
    };
    loop {
        let left = DEADLINE.saturating_sub(started.elapsed());
        match news.recv_timeout(left) {
            Ok(News::Refuses(told)) => refuses = told,
            Ok(News::Done(Ok(outcome))) => return Ok(outcome),
            Ok(News::Done(Err(failure))) => return Err(broken(failure.message().to_string(), refuses)),
            Err(mpsc::RecvTimeoutError::Timeout) if task == Task::Nothing => return Ok(Outcome::default()),
            Err(mpsc::RecvTimeoutError::Timeout) => {
                let why = format!("no decision within {} ms", DEADLINE.as_millis());
                return Err(broken(why, refuses));
            }
            Err(mpsc::RecvTimeoutError::Disconnected) => {
                return Err(broken("the deciding thread ended early (a bug)".into(), refuses));
            }
        }
    }
}

/// Starts the thread that reads stdin and decides. It ends with the process at the latest.
fn spawn(global: Global, task: Task) -> Receiver<News> {
    let (sender, receiver) = mpsc::channel();
    // A panic's own message can quote the text it was working on: only its place is told.
    std::panic::set_hook(Box::new(|panic| match panic.location() {
        Some(place) => log::error!("panic at {}:{}", place.file(), place.line()),
        None => log::error!("panic"),
    }));
    let spawned = thread::Builder::new()
        .name("decide".into())
        .stack_size(STACK)
        .spawn(move || {
            let done = catch_unwind(AssertUnwindSafe(|| decide(&global, task, &sender)));
            let done = done.unwrap_or_else(|_| Err(Failure::Broken("a bug in virtfit (panic)".into())));
            // Nobody listens any more after the deadline.
            let _ = sender.send(News::Done(done));
        });
    if let Err(error) = spawned {
        log::error!("cannot start a thread: {error}");
    }
    receiver
}

/// Reads stdin and does what the operation asks for.
fn decide(global: &Global, task: Task, news: &Sender<News>) -> Result<Outcome, Failure> {
    let mut bytes = Vec::new();
    let read = std::io::stdin()
        .lock()
        .take(MAX_BYTES as u64 + 1)
        .read_to_end(&mut bytes);
    if task == Task::Nothing {
        return Ok(Outcome::default());
    }
    read.map_err(|error| Failure::io("stdin", &error))?;
    let in_stdin = |error| Failure::at("stdin", error);
    let input = Input {
        label: "stdin".into(),
        text: input::text_of(bytes).map_err(in_stdin)?,
        stdin: true,
    };
    let guest = GuestXml::parse(&input.text).map_err(in_stdin)?;
    // The deadline may have passed already; then it does not matter any more.
    let _ = news.send(News::Refuses(guest.refuses));
    let session = Session::open(global)?;
    let scope = match task {
        Task::Filter => Scope::Incoming,
        Task::Prepare | Task::Nothing => Scope::Boot,
    };
    let decided = session.decide(&input, scope, None)?;
    Ok(answer(decided.decision, session.view.policy.host.observe))
}

/// What libvirt is told.
fn answer(decision: Decision, observe: bool) -> Outcome {
    match decision {
        _ if observe => {
            log::info!("mode = \"observe\": nothing was changed");
            Outcome::default()
        }
        Decision::Tuned { xml, .. } => Outcome::answer(xml),
        // Nobody is stopped whom no rule matches.
        Decision::Refused(plan) if plan.profile.is_some() => Outcome {
            stdout: String::new(),
            stderr: vec![veto_line(&plan)],
            exit: Exit::No,
        },
        Decision::Unchanged(_) | Decision::Refused(_) => Outcome::default(),
    }
}

/// All reasons in one line.
fn veto_line(plan: &Plan) -> String {
    let reasons: Vec<String> = plan.reasons.iter().map(|reason| one_line(reason)).collect();
    let reasons = if reasons.is_empty() {
        "refused".to_string()
    } else {
        reasons.join("; ")
    };
    format!("virtfit: {}", plan::with_name(&plan.guest, &reasons))
}

/// Several lines as one: the first, and how many more there are.
fn one_line(text: &str) -> String {
    let mut lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
    let first = lines.next().unwrap_or("no reason given").to_string();
    match lines.count() {
        0 => first,
        more => format!("{first} (and {more} more lines: virtfit policy check)"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_line_is_one_line() {
        assert_eq!(one_line("a\n"), "a");
        assert_eq!(
            one_line("\n a\n  b\nc\n"),
            "a (and 2 more lines: virtfit policy check)"
        );
        assert_eq!(one_line(""), "no reason given");
    }
}
