//! Priority of hooks on which other hooks wait.

/// Nice value of such a hook.
const FIRST: i32 = -20;

/// Gives this thread priority over others until it ends. Many hooks start at once: if the one that
/// has the lock, or that reads the host for all of them, shared its CPU with the others, these
/// would wait for it many times longer. A user who may not do that goes on as before.
pub(crate) fn go_first() {
    let _ = rustix::process::setpriority_process(None, FIRST);
}
