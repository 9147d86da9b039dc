//! Log lines that wait: a thread that answers a hook or a program writes its log lines after the
//! answer, as writing them may be slow (the journal wakes up).
//!
//! Lines of other threads are not held. No line is lost: held lines are written when the hold ends,
//! also by a panic.

use std::cell::RefCell;
use std::io::{self, Write};
use std::marker::PhantomData;

thread_local! {
    /// Lines held by this thread; `None`: no hold is active.
    static HELD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Hold on the log lines of this thread, until this is dropped.
#[derive(Debug)]
pub(crate) struct Hold {
    /// Makes the hold stay on its thread: the type is not `Send`.
    here: PhantomData<*const ()>,
}

/// Starts to hold this thread's log lines. A hold inside another one ends both when it is dropped.
#[must_use]
pub(crate) fn hold() -> Hold {
    HELD.with_borrow_mut(|held| {
        held.get_or_insert_default();
    });
    Hold { here: PhantomData }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = HELD.with_borrow_mut(Option::take).unwrap_or_default();
        if !held.is_empty() {
            // An error cannot be reported, as stderr itself failed.
            let _ = io::stderr().write_all(&held);
        }
    }
}

/// Standard error, or the buffer of this thread's hold.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Stderr;

impl Write for Stderr {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let held = HELD.with_borrow_mut(|held| held.as_mut().map(|held| held.extend_from_slice(bytes)));
        match held {
            Some(()) => Ok(bytes.len()),
            None => io::stderr().write(bytes),
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn held() -> Option<String> {
        HELD.with_borrow(|held| {
            let text = |held: &Vec<u8>| String::from_utf8(held.clone()).unwrap();
            held.as_ref().map(text)
        })
    }

    #[test]
    fn lines_are_held_until_the_hold_ends() {
        assert_eq!(held(), None);
        let hold = hold();
        writeln!(Stderr, "virtfit: one line").unwrap();
        std::thread::spawn(|| assert_eq!(held(), None, "another thread"))
            .join()
            .unwrap();
        assert_eq!(held().as_deref(), Some("virtfit: one line\n"));
        drop(hold);
        assert_eq!(held(), None);
        let panics = std::panic::catch_unwind(|| {
            let _hold = super::hold();
            writeln!(Stderr, "virtfit: and one before a panic").unwrap();
            panic!("as asked");
        });
        assert!(panics.is_err());
        assert_eq!(held(), None);
    }
}
