//! CPU time of a thread, and the most memory it had allocated at once.
#![allow(unsafe_code, dead_code)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;
use std::fmt;
use std::time::Duration;

thread_local! {
    /// Bytes this thread holds, and the most it held; another thread may free what this one
    /// allocated.
    static HELD: Cell<isize> = const { Cell::new(0) };
    static MOST: Cell<isize> = const { Cell::new(0) };
}

struct Counting;

fn count(bytes: isize) {
    let held = HELD.get() + bytes;
    HELD.set(held);
    MOST.set(MOST.get().max(held));
}

// SAFETY: all is handed to the system's allocator as it comes.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        count(layout.size() as isize);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        count(-(layout.size() as isize));
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        count(size as isize - layout.size() as isize);
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Cost of some work.
#[derive(Debug, Clone, Copy)]
pub struct Cost {
    pub time: Duration,
    pub memory: usize,
}

impl Cost {
    pub fn least(self, other: Self) -> Self {
        Self {
            time: self.time.min(other.time),
            memory: self.memory.min(other.memory),
        }
    }
}

impl fmt::Display for Cost {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:.1?} and {} KiB", self.time, self.memory >> 10)
    }
}

/// Returns the time this thread ran (`sum_exec_runtime`, brought up to date by giving way).
pub fn now() -> Duration {
    std::thread::yield_now();
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").unwrap();
    let nanos = text.split_ascii_whitespace().next().unwrap().parse().unwrap();
    Duration::from_nanos(nanos)
}

/// Measures some work of this thread.
pub fn measured(work: impl FnOnce()) -> Cost {
    let held = HELD.get();
    MOST.set(held);
    let start = now();
    work();
    Cost {
        time: now() - start,
        memory: (MOST.get() - held).max(0) as usize,
    }
}
