//! Panics as values: a panic is a bug in virtfit, and a bug met with one guest is that guest's
//! failure alone.
//!
//! ```text
//! quiet        a panic shows its place in the code, never its message: that may quote XML, passwords included
//! guarded      runs work and returns a panic in it as a Bug
//! let_through  switches guarding off: for fuzzers, which search for panics
//! fault_point  panics for a guest of a certain name, in builds with debug assertions: for tests
//! ```
//! Guards surround the reading of each text (`xml::Document`, `domain::parse`, `ledger::guest_xml`,
//! `ledger::running`, every file of the ledger), each decision (`snapshot`, `hook_events`), each
//! guest of the worker and of `status`, and each program as a whole.

use std::cell::{Cell, RefCell};
use std::panic::{self, AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering};

/// True if [`guarded`] lets panics through.
static LET_THROUGH: AtomicBool = AtomicBool::new(false);

thread_local! {
    /// Number of [`guarded`] calls on this thread's stack.
    static GUARDS: Cell<usize> = const { Cell::new(0) };
    /// Place of this thread's last panic.
    static PLACE: RefCell<Option<String>> = const { RefCell::new(None) };
}

/// Panic that was caught.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a bug in virtfit, please report ({place})")]
pub struct Bug {
    /// Place in the code, as `file:line`.
    pub place: String,
}

/// Keeps the messages of panics from being printed, from now on. A panic outside all guards is
/// logged with its place alone.
pub fn quiet() {
    panic::set_hook(Box::new(|panic| {
        let place = match panic.location() {
            Some(place) => format!("{}:{}", place.file(), place.line()),
            None => "unknown place".into(),
        };
        match GUARDS.get() {
            0 => log::error!("{}", Bug { place }),
            _ => PLACE.set(Some(place)),
        }
    }));
}

/// Runs `work` and returns a panic in it as a [`Bug`]. Data that `work` had half changed by then
/// must not be used.
///
/// # Errors
/// A panic in `work`.
pub fn guarded<T>(work: impl FnOnce() -> T) -> Result<T, Bug> {
    if LET_THROUGH.load(Ordering::Relaxed) {
        return Ok(work());
    }
    GUARDS.set(GUARDS.get().saturating_add(1));
    let done = catch_unwind(AssertUnwindSafe(work));
    GUARDS.set(GUARDS.get().saturating_sub(1));
    done.map_err(|_| Bug {
        place: PLACE.take().unwrap_or_else(|| "unknown place".into()),
    })
}

/// Lets every panic of this process through from now on, so that a fuzzer sees it.
pub fn let_through() {
    LET_THROUGH.store(true, Ordering::Relaxed);
}

/// Panics if the guest is called `panic-at-POINT`, in builds with debug assertions only. Tests use
/// it to see the effect of a bug.
#[track_caller]
pub fn fault_point(point: &str, guest: &str) {
    if cfg!(debug_assertions) && guest.strip_prefix("panic-at-") == Some(point) {
        #[allow(clippy::panic)] // The one panic that is meant.
        {
            panic!("quoted from the XML: passwd='s3cret'");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_panic_is_an_error_and_the_next_work_goes_on() {
        assert_eq!(guarded(|| 1), Ok(1));
        let inner = guarded(|| guarded(|| fault_point("decide", "panic-at-decide")));
        assert!(matches!(inner, Ok(Err(_))), "{inner:?}");
        let text = inner.map(|inner| inner.map_err(|bug| bug.to_string()));
        assert!(!format!("{text:?}").contains("s3cret"));
        assert_eq!(guarded(|| fault_point("decide", "panic-at-parse")), Ok(()));
    }
}
