//! Scheduling classes of threads: the one system call the safe wrappers at hand (nix, rustix) do
//! not have.

use std::io;

use nix::libc;

use crate::live::plan::Class;

/// Gives a thread a scheduling class (`sched_setscheduler(2)`). Children that the thread forks do
/// not inherit a real-time class.
///
/// # Errors
/// The kernel's error: `ESRCH` where there is no such thread, `EPERM` where its cgroup has no
/// real-time budget or the caller has no right to set the class.
#[allow(unsafe_code)]
pub(crate) fn set(tid: u32, class: Class) -> io::Result<()> {
    let (policy, priority) = match class {
        Class::Other => (libc::SCHED_OTHER, 0),
        Class::Fifo(priority) => (libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK, priority),
        Class::Rr(priority) => (libc::SCHED_RR | libc::SCHED_RESET_ON_FORK, priority),
    };
    let invalid = || io::Error::from(io::ErrorKind::InvalidInput);
    let tid = libc::pid_t::try_from(tid).ok().filter(|tid| *tid > 0);
    let tid = tid.ok_or_else(invalid)?;
    let param = libc::sched_param {
        sched_priority: libc::c_int::try_from(priority).map_err(|_| invalid())?,
    };
    // SAFETY: the pointer is to a live `sched_param` on this stack; the kernel reads it and keeps
    // nothing.
    match unsafe { libc::sched_setscheduler(tid, policy, &param) } {
        -1 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_threads_that_can_be_are_touched() {
        assert!(set(0, Class::Other).is_err(), "0 is the caller");
        assert!(set(u32::MAX, Class::Other).is_err());
        assert!(set(std::process::id(), Class::Fifo(0)).is_err(), "1 to 99");
        assert!(set(std::process::id(), Class::Other).is_ok());
    }
}
