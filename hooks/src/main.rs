//! What libvirt runs for every step of a guest's life: `virtfit-hook GUEST OPERATION SUBOPERATION
//! EXTRA`, the domain's XML on stdin.
//!
//! It asks the daemon, and where that does not answer in time, `virtfit hook`, which decides by
//! itself. It links nothing but a C library: it runs several times for each start of a guest, while
//! libvirt holds a lock. `Makefile` (`build_hook`) builds it for musl where Rust has that target.
//!
//! What holds whatever happens (`docs/design.md` sections 1 and 7):
//! - libvirt waits without a limit: this ends before [`clock::END`], even if everybody it asks
//!   hangs.
//! - What is broken never stops a guest: one line on stderr, nothing on stdout, exit 0. The one
//!   exception is a guest about to start whose own provenance says that it shall not run without
//!   its placement: exit 1.
//! - A failure of `started` or `reconnect` would kill a running guest: they end with 0 always.

// Rust's own start of a program looks for the stack's guard page in /proc/self/maps and sets
// handlers that tell of its overflow: a tenth of the time this program takes, for nothing it needs.
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

/// The C library calls this.
///
/// # Safety
/// `words` are `count` texts, each ended by a NUL, and stay: what a program gets by C11 5.1.2.2.1.
#[cfg(not(test))]
#[allow(unsafe_code)] // A name for the linker, and the words: not every C library hands them to Rust's too.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn main(count: c_int, words: *const *const c_char) -> c_int {
    let count = usize::try_from(count).unwrap_or_default();
    // SAFETY: as the function says.
    let word = |at| unsafe { CStr::from_ptr(*words.add(at)) };
    let words = (1..count)
        .map(word)
        .map(|word| OsStr::from_bytes(word.to_bytes()).to_owned());
    hook(&words.collect::<Vec<_>>()).into()
}

thread_local! {
    /// Where in the code the last panic was.
    static PLACE: RefCell<String> = const { RefCell::new(String::new()) };
}

/// All of it; the exit code.
#[cfg_attr(test, allow(dead_code))]
fn hook(words: &[OsString]) -> u8 {
    let clock = Clock::start();
    // That libvirt closes a pipe early is an error of a write, not the end of the process.
    let _ = SigSet::from(Signal::SIGPIPE).thread_block();
    // A panic's message could quote what it worked on, and its exit code would stop a guest: only
    // its place is told.
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
    // Connected before stdin is read: the daemon's thread wakes up meanwhile.
    let connection = ask::connect(&place.socket(), clock);
    let question = match input::read(clock) {
        Ok(xml) => ask::question(&step, xml),
        Err(cut) => return step.broken(&cut.why, &cut.xml),
    };
    let answered = connection
        .as_ref()
        .map_err(Clone::clone)
        .and_then(|stream| ask::ask(stream, &step, &question, clock));
    // The connection stays open until this process ends: by its end the daemon knows that libvirt
    // goes on.
    match answered {
        Ok(reply) => step.answer(reply),
        Err(why) if step.needs_daemon() => step.broken(&why, &question.body),
        Err(_) => fallback::run(&step, &question.body, clock),
    }
}
