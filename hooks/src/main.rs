//! Hook that libvirt runs for every step of a guest's life: `virtfit-hook GUEST OPERATION
//! SUBOPERATION EXTRA`, with the domain's XML on stdin.
//!
//! The hook asks the daemon. If the daemon does not answer in time, the hook runs `virtfit hook`,
//! which decides by itself. The hook links nothing but a C library, because it runs several times
//! for each start of a guest while libvirt holds a lock. `Makefile` (`build_hook`) builds it for
//! musl if Rust has that target.
//!
//! Rules that hold in every case (`docs/design.md` sections 1 and 7):
//! - libvirt waits without a limit, so the hook ends before [`clock::END`], even if every process
//!   it asks hangs.
//! - A broken input or a bug never stops a guest: one line on stderr, nothing on stdout, exit 0.
//!   The one exception is a guest about to start whose own provenance says that it must not run
//!   without its placement: exit 1.
//! - A failure of `started` or `reconnect` would kill a running guest, so they always end with 0.

// Rust's own start of a program searches /proc/self/maps for the stack's guard page and sets
// handlers that report an overflow: a tenth of this program's time, for nothing it needs.
#![cfg_attr(not(test), no_main)]

mod answer;
mod ask;
mod clock;
mod fallback;
mod input;
mod place;
mod step;

use std::cell::RefCell;
use std::ffi::OsString;
#[cfg(not(test))]
use std::ffi::{CStr, OsStr, c_char, c_int};
#[cfg(not(test))]
use std::os::unix::ffi::OsStrExt;
use std::panic::catch_unwind;

use nix::sys::signal::{SigSet, Signal};

use answer::Answer;
use clock::Clock;
use place::Place;
use step::Step;

/// Entry point that the C library calls.
///
/// # Safety
/// `words` must be `count` texts, each ended by a NUL, that live as long as the process: C11
/// 5.1.2.2.1 guarantees that.
#[cfg(not(test))]
#[allow(unsafe_code)] // A name for the linker, and the words: not every C library hands them to Rust's too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or_default();
    // SAFETY: guaranteed by the caller, as the function's documentation demands.
    let word = |at| unsafe { CStr::from_ptr(*words.add(at)) };
    let words = (1..count)
        .map(word)
        .map(|word| OsStr::from_bytes(word.to_bytes()).to_owned());
    hook(&words.collect::<Vec<_>>()).into()
}

thread_local! {
    /// Place in the code of the last panic.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// Runs the hook and returns its exit code.
#[cfg_attr(test, allow(dead_code))]
fn hook(words: &[OsString]) -> u8 {
    let clock = Clock::start();
    // With SIGPIPE blocked, a pipe that libvirt closes early is an error of a write, not the end of
    // the process.
    let _ = SigSet::from(Signal::SIGPIPE).thread_block();
    // A panic's message could quote the XML, and its exit code would stop a guest: only its place
    // is shown.
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|at| format!("{}:{}", at.file(), at.line()));
        PLACE.set(place.unwrap_or_default());
    }));
    let answer = catch_unwind(|| run(words, &clock));
    let answer = answer.unwrap_or_else(|_| {
        let place = PLACE.take();
        Answer::line(&format!(
            "virtfit: a bug in virtfit-hook, please report ({place}): nothing was changed"
        ))
    });
    catch_unwind(|| answer.give()).unwrap_or_default()
}

fn run(words: &[OsString], clock: &Clock) -> Answer {
    let Some(step) = Step::of(words) else {
        return Answer::default();
    };
    let place = Place::here();
    if place.is_an_ordinary_users() || place.is_disabled() {
        return Answer::default();
    }
    // The hook connects before it reads stdin, so that the daemon's thread wakes up during the
    // read.
    let connection = ask::connect(&place.socket(), clock);
    let question = match input::read(clock) {
        Ok(xml) => ask::question(&step, xml),
        Err(cut) => return step.broken(&cut.why, &cut.xml),
    };
    let answered = connection
        .as_ref()
        .map_err(|why| *why)
        .and_then(|stream| ask::ask(stream, &step, &question, clock));
    // The connection stays open until this process ends: its end shows the daemon that libvirt goes
    // on.
    match answered {
        Ok(reply) => step.answer(reply),
        Err(why) if step.needs_daemon() => step.broken(&why.to_string(), &question.body),
        Err(_) => fallback::run(&step, &question.body, clock),
    }
}
