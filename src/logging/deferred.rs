//! Log lines that wait: whoever answers somebody who waits logs once the answer is given, as a log
//! may be slow (the journal wakes).
//!
//! Lines of other threads are not held. Nothing is lost: what is held goes out when the hold ends,
//! also by a panic.

use std::cell::RefCell;
use std::io::{self, Write};
use std::marker::PhantomData;

thread_local! {
    /// What this thread holds; `None`: nothing is held.
    static HELD: RefCell<Option<Vec<u8>>> = const { RefCell::new(None) };
}

/// Holds this thread's lines as long as it lives.
#[derive(Debug)]
pub struct Hold {
    /// It is one thread's.
    here: PhantomData<*const ()>,
}

/// Holds what this thread logs from now on. A hold inside another one ends it.
#[must_use]
pub fn hold() -> Hold {
    HELD.with_borrow_mut(|held| {
        held.get_or_insert_default();
    });
    Hold { here: PhantomData }
}

impl Drop for Hold {
    fn drop(&mut self) {
        let held = HELD.with_borrow_mut(Option::take).unwrap_or_default();
        if !held.is_empty() {
            // Nobody is left to tell that nothing can be told.
            let _ = io::stderr().write_all(&held);
        }
    }
}

/// Standard error, but for what is held.
#[derive(Debug, Clone, Copy)]
pub struct Stderr;

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
